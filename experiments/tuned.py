"""Each method tuned by the same label-free search on one task, for `experiments.tables --tuned`.

    python -m experiments.tuned glyph31 --on A2W --trials 10 --output tuned.json
    python -m experiments.tables glyph31 --rows methods --seeds 3 --tuned tuned.json

A search that is there already is gone on with; one that is over is read. What wins is what the
search's metric says: target labels are read for the last column alone, and change nothing. Where
source-only training wins the search of another method, that method's own best setting is taken: the
row is about the method.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.options import build_common, read_settings
from gsda.errors import BadInput
from gsda.methods import METHODS, find_entry, key_of
from gsda.sealed import ACCURACY
from gsda.stopping import stoppable
from gsda.tasks import Task
from tune.choice import candidates
from tune.history import SOURCE_ONLY, History, Trial
from tune.settings import BAD_USE, DONE, INTERRUPTED, Settings, resolve_tasks
from tune.shelf import JOURNAL, method_of


@stoppable
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        return run(options)
    except BadInput as error:
        print(f"tuned: {error}", file=sys.stderr)
        return BAD_USE


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = build_common("tuned", __doc__)
    parser.add_argument("--on", required=True, metavar="TASK", help="bare id of the task")
    parser.add_argument("--trials", type=int, default=10, help="settings of each method (10)")
    parser.add_argument("--methods", nargs="+", help=f"of {', '.join(METHODS)}; default: all")
    parser.add_argument("--metric", help="as of a search")
    parser.add_argument("--output", type=Path, required=True, help="JSON file, for tables --tuned")
    return parser


def run(options: Any) -> int:
    """Search what is missing, and write down what was found; returns the exit code.

    Raises:
        BadInput: whatever is wrong with options, data or machines.
    """
    settings = read_settings(options, trials=options.trials, metric=options.metric)
    tasks = resolve_tasks([options.on], settings)
    if len(tasks) != 1:
        raise BadInput(f"--on {options.on} is {len(tasks)} tasks: name one, such as {tasks[0]}.")
    (task,) = tasks
    frozen = settings.overrides.get("features") == "frozen"
    names = [key_of(name) for name in options.methods or ()] or [
        n for n, e in METHODS.items() if frozen or not e.frozen_only
    ]
    for name in names:
        find_entry(name)
    orders = {name: order(task, settings, name) for name in names}
    from tune.cluster import connected
    from tune.console import Console
    from tune.driver import search_one

    histories = {}
    with connected(settings.address):
        for name, one in orders.items():
            found = search_one(task, one, Console(stream=sys.stderr))
            if found.status == INTERRUPTED:
                print(f"Stopped at {name}; the same command goes on.", file=sys.stderr)
                return INTERRUPTED
            histories[name] = found.history
    winners = {name: winner(history) for name, history in histories.items()}
    write(options.output, {find_entry(n).title: dict(w.values) for n, w in winners.items() if w})
    print("\n".join(render(winners, histories)))
    return DONE


def order(task: Task, settings: Settings, name: str) -> Settings:
    """The search of one method: begun, or gone on with.

    Raises:
        BadInput: the method does not fit the other options.
    """
    called = f"tuned-{task.slug}-{name}"
    resume = (settings.storage / called / JOURNAL).is_file()
    overrides = settings.overrides | {"method": name}
    return replace(settings, name=called, resume=resume, overrides=overrides)


def winner(history: History) -> Trial | None:
    """The trial with the method's own best setting, by the rule of the search; None without any."""
    own = [
        entry.setting
        for entry in candidates(history)
        if entry.setting.kind != SOURCE_ONLY or method_of(history.spec) == "source_only"
    ]
    return own[0] if own else None


def write(path: Path, tuned: Mapping[str, Mapping[str, float]]) -> None:
    """What `experiments.tables` reads.

    Raises:
        BadInput: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tuned, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error}): choose another --output.") from error


def render(winners: Mapping[str, Trial | None], histories: Mapping[str, History]) -> Iterator[str]:
    """Markdown: what was found, beside the setting that the search began with."""
    yield "| | setting found | score | accuracy there | score untuned | accuracy untuned | trials |"
    yield "|---" * 7 + "|"
    for name, best in winners.items():
        history = histories[name]
        metric = history.spec["metric"]
        untuned = list(history.trials.values())[len(history.spec["references"]) - 1]
        cells = [find_entry(name).title]
        if best is None:
            cells += ["no trial finished", "", ""]
        else:
            cells.append(", ".join(f"{k} {v:.4g}" for k, v in best.values.items()))
            cells += _figures(best, metric)
        yield f"| {' | '.join([*cells, *_figures(untuned, metric), str(len(history.ended))])} |"


def _figures(trial: Trial, metric: str) -> list[str]:
    """The score that chose, and the accuracy that did not; "" for what is not known."""
    score, accuracy = trial.value(metric), trial.value(ACCURACY)
    shown = "" if accuracy is None else f"{100 * accuracy:.1f}"
    return ["" if score is None else f"{score:.4f}", shown]


if __name__ == "__main__":
    sys.exit(main())
