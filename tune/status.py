"""How far a search is, wherever it runs, or what came of it.

python -m tune.status glyph31-A2D-001
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gsda.console import clock
from gsda.errors import BadInput
from tune import lines
from tune.choice import choose
from tune.history import History
from tune.journal import Event, read_events
from tune.kind import is_sweep
from tune.remote import find_there, refresh
from tune.screen import Screen
from tune.settings import BAD_USE, DEFAULT_STORAGE, INTERRUPTED, storage_words
from tune.shelf import JOURNAL, find_named, find_newest
from tune.standing import DONE, RUNNING, Standing
from tune.table import table
from tune.uri import locate

LOOK_S = 2.0  # between two looks of `--watch`
SILENT_S = 120.0  # after which a search that should run is said to be silent


class Reader:
    """Follows a journal by reading alone: it takes no lock and writes nothing."""

    def __init__(self, path: Path, remote: str | None = None) -> None:
        """`remote`: the URI that the journal is a working copy below."""
        self._path, self._remote, self._offset = path, remote, 0
        self.history, self.standing = History(), Standing()

    def read(self) -> bool:
        """Take in what is new; True if anything is.

        Raises:
            BadInput: the journal is damaged, or gone.
        """
        try:
            events, self._offset = read_events(self._path, self._offset)
        except OSError as error:
            raise BadInput(f"{self._path} cannot be read: {error.strerror}.") from error
        for event in events:
            self._take(event)
        if not self.history.spec:
            raise BadInput(f"{self._path} does not tell of a search yet: try again.")
        return bool(events)

    def look(self) -> bool:
        """The same, after a look at what the working copy is a copy of."""
        with suppress(BadInput):  # the store is away: what is here is shown
            refresh(self._remote, self._path)
        return self.read()

    def _take(self, event: Event) -> None:
        self.history.apply(event)
        self.standing.see(event, self.history, event["time"])


def report(
    history: History,
    standing: Standing,
    now: float,
    width: int = 79,
    options: Sequence[str] = (),
) -> list[str]:
    """All that a person wants to know, in lines; while it runs, made for so many columns.

    Args:
        options: what a command to resume must repeat.
    """
    spec = history.spec
    what = "Cells of a table," if is_sweep(spec) else "Search"
    head = [f"{what} {spec['name']}: {spec['task']}, {spec['data_title']}", _state(standing, now)]
    if standing.state == RUNNING:
        return [*head, "", *lines.block(history, standing, now, width)]
    metric = spec["metric"]
    body = [f"  {lines.counted(history, standing)}", ""]
    if is_sweep(spec):
        body += lines.cells(history)
    elif history.best(metric) is not None:
        body += [f"Best by {metric}:", *(f"  {line}" for line in table(history, metric))]
    body += [f"  {line}" for line in lines.failures(history)]
    if standing.state == DONE and not is_sweep(spec):
        body += ["", *([told] if (told := lines.chosen(choose(history), spec)) else [])]
    body += ["", f"Model of {standing.champion}."] if standing.champion else []
    if standing.state != DONE:
        body += ["", "Go on with:", f"  {lines.resume_command(spec, options)}"]
    return [*head, *body]


def _state(standing: Standing, now: float) -> str:
    ago = clock(max(0.0, now - standing.heard))
    if standing.state == DONE:
        return f"  done {ago} ago"
    if standing.state != RUNNING:
        why = f": {standing.why}" if standing.why else ""
        return f"  interrupted {ago} ago{why}"
    if now - standing.heard > SILENT_S:
        return f"  running, but silent for {ago}: if its process is gone, --resume goes on with it"
    return f"  running; last heard of {ago} ago"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        return _show(options)
    except BadInput as error:
        print(f"status: {error}", file=sys.stderr)
        return BAD_USE
    except KeyboardInterrupt:
        print()
        return INTERRUPTED


def _show(options: Any) -> int:
    where, remote = locate(options.storage)
    storage, name = where.resolve(), options.name
    folder = find_there(
        remote,
        storage,
        lambda: find_newest(storage) if name is None else find_named(storage, name, "NAME"),
    )
    reader = Reader(folder / JOURNAL, remote)
    reader.read()
    if not options.watch:
        _print(reader, options)
        return 0
    if options.json or not sys.stdout.isatty():
        return _follow(reader, options)
    screen = Screen(sys.stdout)
    while reader.standing.state == RUNNING:
        screen.show(report(reader.history, reader.standing, time.time(), screen.width))
        time.sleep(LOOK_S)
        reader.look()
    screen.show([])
    _print(reader, options)
    return 0


def _follow(reader: Reader, options: Any) -> int:
    """Print again whenever a trial has ended, until the search is over."""
    shown = -1
    while True:
        over = reader.standing.state != RUNNING
        ended = len(reader.history.ended)
        if ended != shown or over:
            _print(reader, options)
            shown = ended
        if over:
            return 0
        time.sleep(LOOK_S)
        reader.look()


def _print(reader: Reader, options: Any) -> None:
    now = time.time()
    if options.json:
        text = json.dumps(reader.standing.to_dict(reader.history, now), ensure_ascii=False)
    else:
        places = storage_words(options.storage)
        text = "\n".join(report(reader.history, reader.standing, now, options=places))
    print(text, flush=True)


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        prog="status", description="How far a search is, or what came of it; by its journal alone."
    )
    parser.add_argument("name", nargs="?", help="of the search; default: the last written to")
    parser.add_argument(
        "--storage", default=DEFAULT_STORAGE, help="folder or URI of all searches (searches)"
    )
    parser.add_argument("--watch", action="store_true", help="go on until the search is over")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
