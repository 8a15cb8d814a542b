"""What a search prints: lines of a log, one calm screen, or objects for a script."""

import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO

from gsda.tracking import SQLITE, choose_tracking_uri, hide_password
from tune import lines, seal
from tune.choice import Choice, choose
from tune.history import History, Trial
from tune.journal import Event
from tune.screen import Screen
from tune.standing import DONE, INTERRUPTED, Standing, describe
from tune.table import table
from tune.views import LOCAL_PAGES

QUIET_S = 60.0  # between lines of progress in a log
REFRESH_S = 1.0  # between drawings of the screen


class Console:
    """Lines on a stream; on a terminal the state of the search is a block that is drawn over."""

    def __init__(
        self, stream: TextIO | None = None, options: Sequence[str] = (), quiet: bool = False
    ) -> None:
        """`options`: what a command to resume must repeat; `quiet`: no block on a terminal."""
        self._out = stream or sys.stdout
        self._options = tuple(options)
        live = self._out.isatty() and not quiet and os.environ.get("TERM") != "dumb"
        self._screen = Screen(self._out) if live else None
        self._standing = Standing()
        self._history: History | None = None
        self._spoke = time.monotonic()
        self._over = threading.Event()

    def say(self, text: str = "") -> None:
        """A line that stays."""
        self._spoke = time.monotonic()
        if self._screen is not None:
            self._screen.say(text)
        else:
            print(text, file=self._out, flush=True)

    def wait(self, text: str) -> None:
        """What takes a while, said on a terminal alone until there is something to tell."""
        if self._screen is not None:
            self._screen.show([text])

    def preparing(self, done: int, total: int) -> None:
        """Progress of decoding images, which is done once."""
        if self._screen is not None:
            self._screen.show([f"Preparing images: {done}/{total}"] if done < total else [])
        elif done == total:
            self.say(f"Prepared {total} images.")

    def begin(self, history: History, device: str, at_once: int) -> None:
        """What is about to be run, on what."""
        self.close()
        for line in lines.opening(history, device, at_once):
            self.say(line if self._screen is None else self._screen.wrap(line))
        self._standing = Standing()
        self._standing.enter(history, time.time())
        if at_once and self._screen is not None:
            self._watch(history)

    def _watch(self, history: History) -> None:
        """Keep the block up to date, the time left with it, whether anything happens or not."""
        self._history, self._over = history, threading.Event()
        threading.Thread(target=self._refresh, args=(self._over,), daemon=True).start()
        self._draw()

    def _refresh(self, over: threading.Event) -> None:
        while not over.wait(REFRESH_S):
            with suppress(RuntimeError):  # changed while it was read: its event draws it anyway
                self._draw(over)

    def _draw(self, over: threading.Event | None = None) -> None:
        if self._screen is not None and self._history is not None:
            with self._screen.lock:
                if over is None or not over.is_set():
                    width = self._screen.width
                    block = lines.block(self._history, self._standing, time.time(), width)
                    self._screen.show(["", *block])

    def close(self) -> None:
        """Take away what does not stay."""
        if self._screen is not None:
            with self._screen.lock:
                self._over.set()
                self._history = None
                self._screen.show([])

    def event(self, event: Event, history: History) -> None:
        """Something happened."""
        now = time.time()
        if self._screen is None:
            self._standing.see(event, history, now)
            self._log(event, history, now)
            return
        with self._screen.lock:
            self._standing.see(event, history, now)
            self._history = history
            for note in event.get("notes", ()):
                self.say(f"  trial {event['trial']:>3} note: {note}")
            self._draw()

    def _log(self, event: Event, history: History, now: float) -> None:
        left = lines.left(history, self._standing, now)
        if event["event"] == "end":
            trial = history.trials[event["trial"]]
            ended = f"  [{len(history.ended)}/{history.total}{left}]"
            self.say(f"{lines.end_of(trial, history)}{ended}")
            warning = lines.collapse_of(trial, history)
            if warning:
                self.say(f"            {warning}")
        if event["event"] == "fault":
            self.say(f"  trial {event['trial']:>3} put back: {event['reason']}")
        for note in event.get("notes", ()):
            self.say(f"  trial {event['trial']:>3} note: {note}")
        if time.monotonic() - self._spoke > QUIET_S:
            self.say(lines.progress(history, self._standing, now))

    def interrupted(self, history: History, why: str, owed: str = "") -> None:
        """The search stopped before its end, and can go on.

        Args:
            owed: what MLflow has not got yet, "" if it has all.
        """
        self.close()
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
        for each in () if outcome is None else outcome.all:
            self.say(f"Model {each.name}: {each.sentence}.")
        if not is_over:
            self.say(f"{len(history.ended)} of {history.total} trials are done. Go on with:")
            self.say(f"  {self._resume(history.spec)}")

    def _owe(self, spec: dict[str, Any], owed: str) -> None:
        self.say(f"MLflow is owed {owed}")
        self.say(f"  Deliver:  {lines.flush_command(spec, self._options)}")

    def broken(self, history: History, error: Exception, where: str) -> None:
        """The search stopped over something that nobody foresaw."""
        first = (str(error).splitlines() or [""])[0]
        self.interrupted(history, f"Stopped by {type(error).__name__}: {first} ({where})")

    def finish(
        self,
        history: History,
        best: Trial | None,
        outcome: Any,
        owed: str,
        uri: str,
        report: Sequence[str] = (),
        page: str = "",
    ) -> None:
        """The table of the best, and what to do next.

        Args:
            outcome: of the registry, None if it was not reached.
            owed: what the tracking server or the registry has not got, and why; "" if it has all.
            report: its lines (`tune.report`).
            page: where a browser finds the trials, "" if that is not known.
        """
        self.close()
        spec, metric = history.spec, history.spec["metric"]
        self.say()
        self.say(f"Best by {metric} ({seal.told(spec)}):")
        for line in (*table(history, metric), *lines.failures(history)):
            self.say(f"  {line}")
        self.say()
        told = "" if best is None else lines.chosen(choose(history), spec)
        self.say(told or "No trial finished, so there is no model.")
        for each in () if outcome is None else outcome.all:
            self.say(f"Model {each.name}: {each.sentence}.")
        if owed:
            self._owe(spec, owed)
        self._advise(spec, outcome, uri, page)
        for line in report:
            self.say(line)

    def _resume(self, spec: dict[str, Any]) -> str:
        return lines.resume_command(spec, self._options)

    def _advise(self, spec: dict[str, Any], outcome: Any, uri: str, page: str) -> None:
        shown = hide_password(uri)
        if uri.startswith(SQLITE):
            self.say(f"  Compare:  mlflow ui --backend-store-uri {shlex.quote(shown)}")
            self.say(f"  Open:     {page or LOCAL_PAGES}")
        else:
            self.say(f"  Compare:  {page or shown}")
        if spec["trials"]:
            self.say(f"  Extend:   {self._resume(spec)} --trials {2 * spec['trials']}")
        if outcome is not None:
            self.say(f"  Use:      {shlex.join(use_command(outcome, uri))} IMAGES")


def use_command(outcome: Any, uri: str) -> list[str]:
    """The words that predict with the model of an outcome."""
    which = "@champion" if outcome.is_champion else f"/{outcome.version}"
    words = ["python", "-m", "gsda", "predict", f"models:/{outcome.name}{which}"]
    if uri != choose_tracking_uri(None):
        words += ["--tracking-uri", hide_password(uri)]
    return words


class Script(Console):
    """One JSON object a line, for `--json`; nothing else is written to the stream."""

    def _put(self, kind: str, /, **fields: Any) -> None:
        text = json.dumps({"event": kind} | fields, ensure_ascii=False)
        print(text, file=self._out, flush=True)

    def say(self, text: str = "") -> None:
        """A remark that is meant for people."""
        if text:
            self._put("note", text=text.strip())

    def preparing(self, done: int, total: int) -> None:
        """Said once, when it is done."""
        if done == total:
            self._put("prepared", images=total)

    def begin(self, history: History, device: str, at_once: int) -> None:
        """What is about to be run."""
        self._standing = Standing()
        self._standing.enter(history, time.time())
        self._put("begin", device=device, at_once=at_once, **self._summary(history))

    def event(self, event: Event, history: History) -> None:
        """A report, a fault or an end of a trial."""
        self._standing.see(event, history, time.time())
        kind = event["event"]
        if kind in ("report", "fault", "end"):
            trial = describe(history.trials[event["trial"]], history.spec["metric"])
            more = {key: event[key] for key in ("reason", "cause", "notes") if event.get(key)}
            self._put(kind, **trial, **more)

    def interrupted(self, history: History, why: str, owed: str = "") -> None:
        """The last object: what stands, and how to go on."""
        self._standing.state, self._standing.why = INTERRUPTED, why
        resume = self._resume(history.spec)
        self._put("result", **self._summary(history), resume=resume, owed=owed)

    def flushed(self, history: History, outcome: Any, owed: str, is_over: bool) -> None:
        """What was delivered of a record, and what was not."""
        model = None if outcome is None else _model(outcome)
        name = history.spec["name"]
        self._put("flushed", search=name, is_over=is_over, model=model, owed=owed)

    def finish(
        self,
        history: History,
        best: Trial | None,
        outcome: Any,
        owed: str,
        uri: str,
        report: Sequence[str] = (),
        page: str = "",
    ) -> None:
        """The last object: what came of it."""
        self._standing.state = DONE
        model = None if outcome is None else _model(outcome)
        more = {"model": model, "owed": owed, "tracking_uri": hide_password(uri), "page": page}
        told = [line.strip() for line in report]
        more["chosen"] = _chosen(choose(history))
        self._put("result", **self._summary(history), **more, report=told)

    def _summary(self, history: History) -> dict[str, Any]:
        return self._standing.to_dict(history, time.time())


def _chosen(choice: Choice | None) -> dict[str, Any] | None:
    """Numbers of the trial that won, of its setting's first, and of the one whose model is kept."""
    if choice is None:
        return None
    numbers = {"trial": choice.picked.number, "setting": choice.winner.setting.number}
    return numbers | {"model": choice.model.number, "score": choice.winner.score}


def _model(outcome: Any) -> dict[str, Any]:
    which = "@champion" if outcome.is_champion else f"/{outcome.version}"
    return {
        "uri": f"models:/{outcome.name}{which}",
        "version": outcome.version,
        "champion": outcome.is_champion,
        "sentence": outcome.sentence,
    }
