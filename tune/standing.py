"""Where a search stands, by its events alone: who runs, how long it takes yet, what came of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gsda.sealed import ACCURACY
from tune import stages
from tune.history import (
    COMPLETE,
    FAILED,
    OPEN,
    PAPER,
    PRUNED,
    SOURCE_ONLY,
    History,
    Trial,
)
from tune.journal import Event
from tune.kind import is_sweep, kind_of

RUNNING, INTERRUPTED, DONE = "running", "interrupted", "done"
STATES = {OPEN: "unfinished", COMPLETE: "finished", PRUNED: "stopped early", FAILED: "failed"}


@dataclass
class Standing:
    """What can be told of a search at a moment.

    Attributes:
        running: numbers of the trials that workers have.
        faults: of trials that were put back, the last reason; gone once they report again.
        state: "running", "interrupted" or "done", as the journal has it: a driver that was killed
            could not write that it ended.
        heard: time.time() of the last event.
        why: what an interruption was about, if more than a Ctrl-C.
        champion: what the registry said.
    """

    running: set[int] = field(default_factory=set)
    faults: dict[int, str] = field(default_factory=dict)
    state: str = RUNNING
    heard: float = 0.0
    why: str = ""
    champion: str = ""
    _stage: str = ""
    _began: float = 0.0
    _seen: float = 0.0
    _before: int = 0

    @classmethod
    def of(cls, events: Iterable[Event]) -> "tuple[History, Standing]":
        """What the events of a journal add up to."""
        history, standing = History(), cls()
        for event in events:
            history.apply(event)
            standing.see(event, history, event["time"])
        return history, standing

    def enter(self, history: History, now: float) -> None:
        """Trials are given out from now on; a stage of its own speed begins."""
        self._stage, self._before, _ = stages.progress(history)
        self._began = self._seen = now

    def see(self, event: Event, history: History, now: float) -> None:
        """Take in an event that `history` has just applied."""
        self.heard, self._seen = event.get("time", now), now
        if stages.progress(history)[0] != self._stage:
            self.enter(history, now)
        number = event.get("trial")
        match event["event"]:
            case "search" | "resume" | "extend":
                self.running.clear()
                self.state, self.why, self.champion = RUNNING, "", ""
                self.enter(history, now)
            case "start":
                self.running.add(event["trial"])
            case "report":
                self.faults.pop(event["trial"], None)
            case "fault":
                self.faults[event["trial"]] = event["reason"]
                self.running.discard(event["trial"])
            case "end":
                self.faults.pop(event["trial"], None)
                self.running.discard(event["trial"])
            case "pause":
                self.state, self.why = INTERRUPTED, event.get("reason", "")
                self.running.clear()
            case "champion":
                self.champion = f"trial {number}: {event['outcome']}"
            case "done":
                self.state = DONE

    def seconds_left(self, history: History, now: float) -> float | None:
        """Time left of the stage, by the steps that were done in it since it was entered.

        Counted down from the last event, since steps are told of in reports, not one by one; but by
        no more than what was running can have done untold, or the last trial had 0 s left for half
        of its steps. None until as many are done as a trial has: before that, it is the start of
        workers that is measured.
        """
        _, done, asked = stages.progress(history)
        fresh, todo = done - self._before, asked - done
        if self.state != RUNNING or fresh < _steps(history) or todo <= 0:
            return None
        pace = (self._seen - self._began) / fresh
        untold = len(self.running) * _untold(history)
        return max(0.0, pace * todo - min(now - self._seen, pace * untold))

    def to_dict(self, history: History, now: float) -> dict[str, Any]:
        """All of it in plain values, for `--json`."""
        spec, metric = history.spec, history.spec["metric"]
        failed = history.in_state(FAILED)
        return {
            "search": spec["name"],
            "kind": kind_of(spec),
            "task": spec["task"],
            "metric": metric,
            "state": self.state,
            "why": self.why,
            "heard": self.heard,
            "seconds_left": self.seconds_left(history, now),
            "trials": count(history, self.running),
            "best": None if is_sweep(spec) else _plain(history.best(metric), metric),
            "source_only": _plain(reference(history, SOURCE_ONLY), metric),
            "paper": _plain(reference(history, PAPER), metric),
            "failed": [{"trial": t.number, "cause": t.cause, "reason": t.reason} for t in failed],
            "put_back": [{"trial": n, "reason": why} for n, why in sorted(self.faults.items())],
            "champion": self.champion,
        }


def count(history: History, running: set[int]) -> dict[str, int]:
    """How many trials there are in which state; those that are not asked for yet wait, too."""
    counts = {
        "total": history.total,
        "finished": len(history.in_state(COMPLETE)),
        "running": len(running),
        "stopped_early": len(history.in_state(PRUNED)),
        "failed": len(history.in_state(FAILED)),
    }
    return counts | {"waiting": max(0, history.total - len(history.ended) - len(running))}


def reference(history: History, kind: str) -> Trial | None:
    """The reference trial of that kind, if it has finished."""
    return next((t for t in history.in_state(COMPLETE) if t.kind == kind), None)


def describe(trial: Trial, metric: str) -> dict[str, Any]:
    """A trial in plain values."""
    return {
        "trial": trial.number,
        "kind": trial.kind,
        "state": STATES[trial.state],
        "values": trial.values,
        "step": max(trial.reports, default=0),
        "value": trial.value(metric),
        "target_accuracy": trial.final.get(ACCURACY),
        "seconds": trial.seconds,
    }


def _plain(trial: Trial | None, metric: str) -> dict[str, Any] | None:
    return None if trial is None else describe(trial, metric)


def _steps(history: History) -> int:
    """Of a trial of the stage at hand: those of the one that was asked for last."""
    last = max(history.trials, default=None)
    return int(history.spec["base"]["steps"]) if last is None else history.trials[last].steps


def _untold(history: History) -> int:
    """Steps that such a trial does between two reports."""
    last = max(history.trials, default=None)
    config = history.spec["base"] if last is None else history.trials[last].config
    return int(config["evaluate_every"])
