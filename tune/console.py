"""What a search prints: what is run on what, how far it is, what came of it."""

import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from tune.history import COMPLETE, FAILED, OPEN, PRUNED, SEARCHED, History, Trial
from tune.journal import Event

_STATES = {OPEN: "unfinished", COMPLETE: "finished", PRUNED: "stopped early", FAILED: "failed"}
ORACLE = "oracle/target_accuracy"
TOP = 5


class Console:
    """Lines on a stream; the last of them is rewritten in place where the stream is a terminal."""

    def __init__(self, stream: TextIO | None = None, options: Sequence[str] = ()) -> None:
        """`options`: what a command to resume must repeat, beside the search's own."""
        self._out = stream or sys.stdout
        self._options = tuple(options)
        self._live = self._out.isatty()
        self._began = time.monotonic()
        self._done_before = 0
        self._places = 1
        self._line = ""

    def say(self, text: str = "") -> None:
        """A line that stays."""
        self._wipe()
        print(text, file=self._out, flush=True)
        self._draw()

    def _wipe(self) -> None:
        if self._live and self._line:
            print("\r\x1b[K", end="", file=self._out)

    def _draw(self) -> None:
        if self._live and self._line:
            print(self._line, end="", file=self._out, flush=True)

    def _show(self, line: str) -> None:
        self._wipe()
        self._line = line
        self._draw()

    def preparing(self, done: int, total: int) -> None:
        """Progress of decoding images, which is done once."""
        if self._live:
            self._show(f"Preparing images: {done}/{total}")
            if done >= total:
                self._show("")
        elif done == total:
            self.say(f"Prepared {total} images.")

    def begin(self, history: History, device: str, at_once: int, uri: str) -> None:
        """What is about to be run, on what."""
        spec = history.spec
        self._places = max(1, at_once)
        self._done_before = len(_ended(history))
        self._began = time.monotonic()
        n_s, n_t = spec["images"]
        source, target = spec["task"].partition("/")[2].split("2", 1)
        base = spec["base"]
        self.say(f"Search {spec['name']}: {spec['task']}, {spec['data_title']}")
        self.say(
            f"  {n_s} labelled images of {source}, {n_t} unlabelled images of {target}, "
            f"{spec['classes']} classes; backbone {base['backbone']}, {base['steps']} steps of "
            f"{base['batch_size']} + {base['batch_size']} images"
        )
        references = len(spec["references"])
        if not at_once:
            self.say("  all trials are finished already")
            return
        begun = f", {self._done_before} of them done before" if self._done_before else ""
        self.say(
            f"  {spec['trials'] + references} trials ({references} reference, {spec['trials']} "
            f"searched{begun}), {at_once} at a time on {device}; "
            f"searching {', '.join(spec['search'])} by {spec['metric']}"
        )

    def event(self, event: Event, history: History) -> None:
        """Something happened."""
        if event["event"] == "end":
            self.say(self._describe_end(history.trials[event["trial"]], history))
        if event["event"] == "report":
            for note in event.get("notes", ()):
                self.say(f"  note on trial {event['trial']}: {note}")
        self._show(self._progress(history))

    def _describe_end(self, trial: Trial, history: History) -> str:
        metric = history.spec["metric"]
        total = history.spec["trials"] + len(history.spec["references"])
        value = trial.value(metric)
        score = "" if value is None else f"  {metric} {value:.4f}"
        what = _setting(trial) if trial.kind == SEARCHED else f"reference: {trial.kind}"
        reason = f": {trial.reason}" if trial.reason else ""
        left = "" if self._live else f"  [{len(_ended(history))}/{total}{self._left(history)}]"
        return f"  trial {trial.number:>3} {_STATES[trial.state]:<13}{score}  {what}{reason}{left}"

    def _progress(self, history: History) -> str:
        metric = history.spec["metric"]
        total = history.spec["trials"] + len(history.spec["references"])
        counts = {state: len(history.in_state(state)) for state in (OPEN, PRUNED, FAILED)}
        best = history.best(metric)
        parts = [f"{len(_ended(history))}/{total} trials", f"{counts[OPEN]} running"]
        parts += [f"{counts[s]} {_STATES[s]}" for s in (PRUNED, FAILED) if counts[s]]
        if best is not None:
            parts.append(f"best {best.value(metric):.4f} (trial {best.number})")
        return "  " + " | ".join(parts) + self._left(history)

    def _left(self, history: History) -> str:
        """Time left, from the time that trials have taken in this process."""
        ended = len(_ended(history))
        fresh = ended - self._done_before
        total = history.spec["trials"] + len(history.spec["references"])
        if fresh < 1 or ended >= total:
            return ""
        spent = time.monotonic() - self._began
        return f", about {_clock(spent / fresh * (total - ended))} left"

    def interrupted(self, history: History) -> None:
        """The search stopped before its end, and can go on."""
        self._show("")
        spec = history.spec
        ended = len(_ended(history))
        self.say(f"Interrupted with {ended} trials done. Nothing is lost. Go on with:")
        self.say(f"  {self._resume(spec)}")

    def finish(
        self, history: History, best: Trial | None, outcome: Any, trouble: str, uri: str
    ) -> None:
        """The table of the best, and what to do next."""
        self._show("")
        spec, metric = history.spec, history.spec["metric"]
        self.say()
        self.say(f"Best by {metric} (no target label was read in choosing):")
        for line in table(history, metric):
            self.say("  " + line)
        for trial in history.in_state(FAILED):
            self.say(f"  trial {trial.number} failed: {trial.reason}")
        self.say()
        if best is None:
            self.say("No trial finished, so there is no model.")
        elif outcome is not None:
            self.say(f"Model {outcome.name}: {outcome.sentence}.")
        if trouble or (best is not None and outcome is None):
            self.say(
                f"The tracking server is owed a part of the record ({trouble or 'no answer'})."
            )
            self.say(f"  Deliver it:  {self._resume(spec)}")
        self._advise(spec, outcome, uri)

    def _resume(self, spec: dict[str, Any]) -> str:
        return resume_command(spec, self._options)

    def _advise(self, spec: dict[str, Any], outcome: Any, uri: str) -> None:
        if uri.startswith("sqlite:"):
            self.say(f"  Compare:  mlflow ui --backend-store-uri {shlex.quote(uri)}")
        else:
            self.say(f"  Compare:  {uri}")
        more = 2 * spec["trials"]
        self.say(f"  Extend:   {self._resume(spec)} --trials {more}")
        if outcome is not None:
            which = "@champion" if outcome.is_champion else f"/{outcome.version}"
            self.say(f"  Use:      python -m gsda predict models:/{outcome.name}{which} IMAGES")


def resume_command(spec: dict[str, Any], options: Sequence[str] = ()) -> str:
    """The command line that goes on with a search."""
    script = sys.argv[0] if sys.argv[0].endswith("search.py") else "tune/search.py"
    words = ["python", script, "--task", spec["task"], "--name", spec["name"]]
    if spec["data"]["root"] is not None:
        words += ["--data", spec["data"]["root"]]
    return shlex.join([*words, *options, "--resume"])


def table(history: History, metric: str) -> list[str]:
    """The best trials, and the references wherever they stand."""
    ranked = [t for t in history.in_state(COMPLETE) if t.value(metric) is not None]
    ranked.sort(key=lambda t: (-(t.value(metric) or 0.0), t.number))
    shown = ranked[:TOP] + [t for t in ranked[TOP:] if t.is_reference]
    fields = history.spec["search"]
    oracle = any(ORACLE in trial.final for trial in shown)
    head = ["rank", "trial", *fields, metric, *(["target accuracy"] if oracle else []), ""]
    rows = [
        [
            str(ranked.index(trial) + 1),
            str(trial.number),
            *(_value(trial, name) for name in fields),
            f"{trial.value(metric):.4f}",
            *([_percent(trial.final.get(ORACLE))] if oracle else []),
            "" if trial.kind == SEARCHED else _KINDS.get(trial.kind, trial.kind),
        ]
        for trial in shown
    ]
    return _align([head, *rows])


_KINDS = {"paper": "the paper's setting", "source-only": "source-only, no adaptation"}


def _value(trial: Trial, name: str) -> str:
    if trial.kind == "source-only" and name in ("alpha", "beta", "n_groups", "tau", "lambda_max"):
        return "-"
    return f"{trial.values[name]:.4g}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}%"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines


def _ended(history: History) -> list[Trial]:
    return [trial for trial in history.trials.values() if trial.state != OPEN]


def _setting(trial: Trial) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in trial.values.items())


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
