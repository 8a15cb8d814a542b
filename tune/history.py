"""What the events of a journal add up to: the trials of a search, and where each stands."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tune.failures import ERROR, rule_of
from tune.journal import Event
from tune.picks import LAST, all_picks, pick

OPEN, COMPLETE, PRUNED, FAILED = "OPEN", "COMPLETE", "PRUNED", "FAILED"
SOURCE_ONLY, PAPER, SEARCHED = "source-only", "paper", "searched"
TRANSFERRED = "transferred"  # the winner of another search: tune.scope
REPEATED, FINETUNED, REFITTED = "repeated", "fine-tuned", "refitted"
LATER = (REPEATED, FINETUNED, REFITTED)  # kinds of what follows the search itself: tune.stages


@dataclass
class Trial:
    """One trial, under the number that it keeps for good.

    Attributes:
        kind: "source-only", "paper" or "transferred" (the reference trials), "searched", or of a
            later stage: "repeated" (with another seed), "fine-tuned" (a setting found on frozen
            features, trained end to end) or "refitted" (the winner, trained on all of the source).
        values: the searched fields; what the setting has for them in a reference trial.
        config: all settings, as `Config.to_dict`.
        reports: metrics by step, in order of arrival.
        state: OPEN until it ends as COMPLETE, PRUNED (stopped early) or FAILED.
        reason: why it FAILED, in a sentence. cause: the same by kind (`tune.failures`).
        asked: time.time() of the proposal. starts: how often a worker was given it.
        faults: how often it stopped through no fault of its setting since the last resume, as
            far as that counts (`tune.failures.RULES`).
        seconds: of work on it, as last reported.
        select, metric: how the step is picked that stands for the trial (`tune.picks`).
        parent: of a later trial, the number of the one whose setting it has.
    """

    number: int
    kind: str
    values: dict[str, float]
    config: dict[str, Any]
    reports: dict[int, dict[str, float]] = field(default_factory=dict)
    state: str = OPEN
    reason: str = ""
    cause: str = ""
    asked: float = 0.0
    starts: int = 0
    faults: int = 0
    seconds: float = 0.0
    parent: int | None = None
    select: str = LAST
    metric: str = ""

    @property
    def is_reference(self) -> bool:
        return self.kind in (SOURCE_ONLY, PAPER, TRANSFERRED)

    @property
    def steps(self) -> int:
        """After which the trial is finished."""
        return int(self.config["steps"])

    @property
    def final(self) -> dict[str, float]:
        """The metrics of the step that is picked."""
        step = self.picked
        return {} if step is None else self.reports[step]

    @property
    def picked(self) -> int | None:
        """The step whose model and value are the trial's."""
        return pick(self.reports, self.metric, self.select)

    @property
    def picks(self) -> dict[str, int]:
        """The step that each way of picking would take, and the one that target labels would."""
        return all_picks(self.reports, self.metric)

    def value(self, metric: str) -> float | None:
        """The metric at the step that is picked."""
        return self.final.get(metric)


@dataclass
class History:
    """All trials of a search.

    Attributes:
        spec: the settings of the search, as it was started (and extended).
        uuid: identity of the search, whatever its name. began: time.time() of its start; heard:
            of the last event.
        trials: by number, in the order in which they were asked for.
    """

    spec: dict[str, Any] = field(default_factory=dict)
    uuid: str = ""
    began: float = 0.0
    trials: dict[int, Trial] = field(default_factory=dict)
    heard: float = 0.0

    @classmethod
    def of(cls, events: Iterable[Event]) -> "History":
        """The history that the events add up to."""
        history = cls()
        for event in events:
            history.apply(event)
        return history

    def apply(self, event: Event) -> None:
        """Take in one more event; unknown kinds are for others to read."""
        self.heard = event.get("time", self.heard)
        match event["event"]:
            case "search":
                self.uuid, self.spec = event["uuid"], dict(event["spec"])
                self.began = event["time"]
            case "extend":
                self.spec["trials"] = event["trials"]
            case "cells":
                self.spec["references"] = self.spec["references"] | event["references"]
                self.spec["command"] = event.get("command", self.spec.get("command", ""))
            case "ask":
                number = event["trial"]
                self.trials[number] = Trial(
                    number,
                    event["kind"],
                    dict(event["values"]),
                    dict(event["config"]),
                    asked=event["time"],
                    parent=event.get("parent"),
                    select=self.spec.get("select", LAST),
                    metric=self.spec.get("metric", ""),
                )
            case "resume":
                self.spec |= {"tracking": event["tracking"]} if "tracking" in event else {}
                for trial in self.trials.values():
                    trial.faults = 0
            case "fault":
                counts = rule_of(event.get("cause", ERROR)).counts
                self.trials[event["trial"]].faults += counts
            case "start":
                self.trials[event["trial"]].starts += 1
            case "report":
                trial = self.trials[event["trial"]]
                trial.reports[event["step"]] = event["metrics"]
                trial.seconds = event["seconds"]
            case "end":
                trial = self.trials[event["trial"]]
                trial.state, trial.reason = event["state"], event.get("reason", "")
                trial.cause = event.get("cause", "")

    def key(self, number: int) -> str:
        """The identity of a trial everywhere: in the journal, in Optuna, in MLflow."""
        return f"{self.uuid}/{number:04d}"

    def in_state(self, state: str) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.state == state]

    def of_kind(self, kind: str) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.kind == kind]

    @property
    def searched(self) -> list[Trial]:
        """The trials of the search itself, reference trials included."""
        return [trial for trial in self.trials.values() if trial.kind not in LATER]

    @property
    def planned(self) -> int:
        """How many trials the search itself has, reference trials included."""
        return len(self.spec["references"]) + int(self.spec["trials"])

    @property
    def is_searching(self) -> bool:
        """Whether the search itself is not over, so that later stages must wait."""
        trials = self.searched
        return len(trials) < self.planned or any(trial.state == OPEN for trial in trials)

    @property
    def total(self) -> int:
        """How many trials there will be, as far as can be told."""
        from tune import stages  # which read histories

        return stages.total(self)

    @property
    def ended(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.state != OPEN]

    def best(self, metric: str) -> Trial | None:
        """The finished trial with the largest final metric; of equals, the oldest.

        Only trials that ran to their end compete: others have been measured at fewer steps. Who
        wins once all is done, over all seeds, says `tune.choice`.
        """
        finished = [
            trial
            for trial in self.in_state(COMPLETE)
            if trial.value(metric) is not None and trial.kind not in (REPEATED, REFITTED)
        ]
        return max(finished, key=lambda t: (t.value(metric) or 0.0, -t.number), default=None)
