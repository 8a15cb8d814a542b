"""What a search prints: what is run on what, how far it is, what came of it."""

import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from gsda.monitor import describe_collapse
from gsda.tasks import Task
from gsda.tracking import SQLITE, choose_tracking_uri, hide_password
from tune import stages
from tune.command import search_words
from tune.history import (
    COMPLETE,
    FAILED,
    FINETUNED,
    OPEN,
    PRUNED,
    REFITTED,
    REPEATED,
    SEARCHED,
    SOURCE_ONLY,
    History,
    Trial,
)
from tune.journal import Event
from tune.shelf import of_method
from tune.space import OF_ADAPTATION

_STATES = {OPEN: "unfinished", COMPLETE: "finished", PRUNED: "stopped early", FAILED: "failed"}
ORACLE = "oracle/target_accuracy"
TOP = 5
QUIET_S = 60.0  # between lines of progress where there is no terminal


class Console:
    """Lines on a stream; the last of them is rewritten in place where the stream is a terminal."""

    def __init__(self, stream: TextIO | None = None, options: Sequence[str] = ()) -> None:
        """`options`: what a command to resume must repeat, beside the search's own."""
        self._out = stream or sys.stdout
        self._options = tuple(options)
        self._live = self._out.isatty()
        self._began = self._spoke = time.monotonic()
        self._before = 0
        self._stage = ""
        self._line = ""

    def say(self, text: str = "") -> None:
        """A line that stays."""
        self._wipe()
        self._spoke = time.monotonic()
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

    def begin(self, history: History, device: str, at_once: int) -> None:
        """What is about to be run, on what."""
        spec = history.spec
        self._enter(history)
        n_s, n_t = spec["images"]
        task = Task.parse(spec["task"])
        base = spec["base"]
        self.say(f"Search {spec['name']}: {task}, {spec['data_title']}")
        self.say(
            f"  {n_s} labelled images of {task.source}, {n_t} unlabelled images of {task.target}, "
            f"{spec['classes']} classes; backbone {base['backbone']}, {base['steps']} steps of "
            f"{base['batch_size']} + {base['batch_size']} images"
        )
        if not at_once:
            self.say("  all trials are finished already")
            return
        ended = len(history.ended)
        begun = f", {ended} of them done before" if ended else ""
        self.say(
            f"  {history.total} trials ({len(spec['references'])} reference, {spec['trials']} "
            f"searched{_later(history)}{begun}), {at_once} at a time on {device}; "
            f"searching {', '.join(spec['search'])}{of_method(spec)} by {spec['metric']}"
        )

        for known in spec.get("warm", {}).get("searches", ()):
            self.say(
                f"  begun with {len(known['trials'])} trials of {known['name']}, {known['task']}"
            )

    def _enter(self, history: History) -> None:
        """A stage begins, whose speed is its own."""
        self._began = self._spoke = time.monotonic()
        self._stage, self._before, _ = stages.progress(history)

    def event(self, event: Event, history: History) -> None:
        """Something happened."""
        if stages.progress(history)[0] != self._stage:
            self._enter(history)
        if event["event"] == "end":
            self.say(self._describe_end(history.trials[event["trial"]], history))
        if event["event"] == "fault":
            self.say(f"  trial {event['trial']:>3} put back: {event['reason']}")
        for note in event.get("notes", ()):
            self.say(f"  trial {event['trial']:>3} note: {note}")
        if self._live:
            self._show(self._progress(history))
        elif time.monotonic() - self._spoke > QUIET_S:
            self.say(self._progress(history))

    def _describe_end(self, trial: Trial, history: History) -> str:
        metric = history.spec["metric"]
        value = trial.value(metric)
        score = "" if value is None else f"  {metric} {value:.4f}"
        what = f"reference: {trial.kind}" if trial.is_reference else _setting(trial)
        if trial.parent is not None:
            what = f"{_later_kind(trial)}: {what}"
        reason = f": {trial.reason}" if trial.reason else ""
        collapse = describe_collapse(trial.final, history.spec["classes"])
        warning = f"\n            {collapse}" if collapse else ""
        ended = f"  [{len(history.ended)}/{history.total}{self._left(history)}]"
        left = "" if self._live else ended
        state = _STATES[trial.state]
        return f"  trial {trial.number:>3} {state:<13}{score}  {what}{reason}{left}{warning}"

    def _progress(self, history: History) -> str:
        metric = history.spec["metric"]
        counts = {state: len(history.in_state(state)) for state in (OPEN, PRUNED, FAILED)}
        best = history.best(metric)
        parts = [f"{len(history.ended)}/{history.total} trials", f"{counts[OPEN]} running"]
        parts += [f"{counts[s]} {_STATES[s]}" for s in (PRUNED, FAILED) if counts[s]]
        if best is not None:
            parts.append(f"best {best.value(metric):.4f} (trial {best.number})")
        return "  " + " | ".join(parts) + self._left(history)

    def _left(self, history: History) -> str:
        """Time left of the stage, by the steps that this process has seen done."""
        _, done, asked = stages.progress(history)
        todo = asked - done
        if done <= self._before or todo <= 0:
            return ""
        seconds = (time.monotonic() - self._began) * todo / (done - self._before)
        return f", about {_clock(seconds)} left"

    def interrupted(self, history: History, why: str, owed: str = "") -> None:
        """The search stopped before its end, and can go on.

        Args:
            owed: what MLflow has not got yet, "" if it has all.
        """
        self._show("")
        self.say(f"{why}, with {len(history.ended)} of {history.total} trials done.")
        self.say("Nothing is lost. Go on with:")
        self.say(f"  {self._resume(history.spec)}")
        if owed:
            self.say(f"Until then MLflow is owed {owed}")

    def flushed(self, history: History, outcome: Any, owed: str, is_over: bool) -> None:
        """A search's record was delivered, or not."""
        name = history.spec["name"]
        if owed:
            self._owe(history.spec, owed)
        else:
            self.say(f"MLflow has the whole record of {name}.")
        if outcome is not None:
            self.say(f"Model {outcome.name}: {outcome.sentence}.")
        if not is_over:
            self.say(f"{len(history.ended)} of {history.total} trials are done. Go on with:")
            self.say(f"  {self._resume(history.spec)}")

    def _owe(self, spec: dict[str, Any], owed: str) -> None:
        self.say(f"MLflow is owed {owed}")
        self.say(f"  Deliver:  {flush_command(spec, self._options)}")

    def broken(self, history: History, error: Exception, where: str) -> None:
        """The search stopped over something that nobody foresaw."""
        first = (str(error).splitlines() or [""])[0]
        self.interrupted(history, f"Stopped by {type(error).__name__}: {first} ({where})")

    def finish(
        self, history: History, best: Trial | None, outcome: Any, owed: str, uri: str
    ) -> None:
        """The table of the best, and what to do next.

        Args:
            outcome: of the registry, None if it was not reached.
            owed: what the tracking server or the registry has not got, and why; "" if it has all.
        """
        self._show("")
        spec, metric = history.spec, history.spec["metric"]
        self.say()
        self.say(f"Best by {metric} (no target label was read in choosing):")
        for line in table(history, metric):
            self.say("  " + line)
        for trial in history.in_state(FAILED):
            kind = f", {trial.cause}" if trial.cause else ""
            self.say(f"  trial {trial.number} failed{kind}: {trial.reason}")
        self.say()
        if best is None:
            self.say("No trial finished, so there is no model.")
        if outcome is not None:
            self.say(f"Model {outcome.name}: {outcome.sentence}.")
        if owed:
            self._owe(spec, owed)
        self._advise(spec, outcome, uri)

    def _resume(self, spec: dict[str, Any]) -> str:
        return resume_command(spec, self._options)

    def _advise(self, spec: dict[str, Any], outcome: Any, uri: str) -> None:
        shown = hide_password(uri)
        sqlite = uri.startswith(SQLITE)
        compare = f"mlflow ui --backend-store-uri {shlex.quote(shown)}" if sqlite else shown
        self.say(f"  Compare:  {compare}")
        self.say(f"  Extend:   {self._resume(spec)} --trials {2 * spec['trials']}")
        if outcome is not None:
            which = "@champion" if outcome.is_champion else f"/{outcome.version}"
            words = ["python", "-m", "gsda", "predict", f"models:/{outcome.name}{which}"]
            if uri != choose_tracking_uri(None):
                words += ["--tracking-uri", shown]
            self.say(f"  Use:      {shlex.join(words)} IMAGES")


def flush_command(spec: dict[str, Any], options: Sequence[str] = ()) -> str:
    """The command line that delivers what MLflow is owed of a search."""
    return shlex.join([*search_words(), "--name", spec["name"], *options, "--flush"])


def resume_command(spec: dict[str, Any], options: Sequence[str] = ()) -> str:
    """The command line that goes on with a search."""
    words = [*search_words(), "--task", spec["task"], "--name", spec["name"]]
    if spec["data"]["root"] is not None:
        words += ["--data", spec["data"]["root"]]
    return shlex.join([*words, *options, "--resume"])


def table(history: History, metric: str) -> list[str]:
    """The best trials, and the references wherever they stand."""
    ranked = [t for t in history.in_state(COMPLETE) if t.value(metric) is not None]
    ranked.sort(key=lambda t: (-(t.value(metric) or 0.0), t.number))
    shown = ranked[:TOP] + [t for t in ranked[TOP:] if t.kind != SEARCHED]
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
            _describe_kind(trial, history),
        ]
        for trial in shown
    ]
    return _align([head, *rows])


def _describe_kind(trial: Trial, history: History) -> str:
    if trial.kind == SEARCHED:
        return ""
    if trial.kind == SOURCE_ONLY:
        return "source-only, no adaptation"
    if trial.parent is not None:
        return f"{_later_kind(trial)}, was {_parent(trial.parent, history)}"
    as_in_paper = history.spec["as_in_paper"]
    return "the paper's setting" if as_in_paper else "the setting that was given"


def _later_kind(trial: Trial) -> str:
    """What a later stage did with the setting of an earlier trial."""
    how = {FINETUNED: "end to end", REPEATED: "again, seed", REFITTED: "on all of the source"}
    seed = f" {trial.config['seed']}" if trial.kind == REPEATED else ""
    return f"trial {trial.parent} {how[trial.kind]}{seed}"


def _parent(number: int, history: History) -> str:
    """What the setting came to before."""
    trial = history.trials[number]
    accuracy = _percent(trial.final.get(ORACLE))
    score = f"{trial.value(history.spec['metric']):.4f}"
    return f"{score} ({accuracy})" if accuracy else score


def _later(history: History) -> str:
    return "".join(f", then {s.title(history.spec)}" for s in stages.asked_for(history.spec))


def _value(trial: Trial, name: str) -> str:
    unused = trial.kind == SOURCE_ONLY and name in OF_ADAPTATION
    return "-" if unused else f"{trial.values[name]:.4g}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}%"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines


def _setting(trial: Trial) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in trial.values.items())


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
