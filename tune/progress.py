"""How a search goes on: what is next, what a report or a fault means; all of it in the journal.

`Progress` is the one object that decides, by what stands in the journal, which it alone writes.
What runs its trials (`tune.executor`) only asks it, and tells.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsda.config import Config
from tune import stages
from tune.asha import Asha
from tune.cluster import Share
from tune.failures import (
    ERROR,
    NON_FINITE,
    rule_of,
)
from tune.handover import clear_places, keep_model, take_over
from tune.history import COMPLETE, FAILED, LATER, OPEN, PRUNED, SEARCHED, History, Trial
from tune.journal import Event, Journal
from tune.objectstore import StoreError
from tune.sampler import propose
from tune.shelf import trial_folder
from tune.space import Range
from tune.trainable import Order, Report

HALT_AFTER = 3  # trials with a fault, one after another; more where more run at once
Listener = Callable[[Event, History], None]


@dataclass(frozen=True)
class Plan:
    """What a search is to do, and with what.

    Attributes:
        references: kind -> configuration of the trials that run first, to their end.
        base: the configuration that the searched fields are put into.
        trials: how many settings are searched, beside the references.
        digest: identity of the images, which workers compare with what they find.
        max_failures: how often a trial is tried again after a fault.
        tasks: where a trial trains several tasks, each with the identity of its images.
        deadline: time.time() after which no trial is started.
        remote: the URI that `folder` is a working copy below, "" for a folder that all share.
    """

    task: str
    data: dict[str, Any]
    digest: str
    base: Config
    references: Mapping[str, Config]
    space: Mapping[str, Range]
    trials: int
    metric: str
    seed: int
    folder: Path
    share: Share
    max_failures: int
    deadline: float | None = None
    tasks: tuple[tuple[str, str], ...] = ()
    remote: str = ""


@dataclass
class Progress:
    """The search as it goes: every change of it is an event in the journal first.

    Attributes:
        running: numbers of the trials that workers have now.
        halted: why the search stops before its end, if it does.
    """

    plan: Plan
    journal: Journal
    listener: Listener
    history: History = field(init=False)
    asha: Asha = field(init=False)
    running: set[int] = field(default_factory=set)
    halted: str = ""
    _in_a_row: set[int] = field(default_factory=set)
    _most_at_once: int = 0

    def __post_init__(self) -> None:
        """Rebuild everything from the journal; carry out decisions that were not carried out."""
        base = self.plan.base
        self.asha = Asha(base.evaluate_every, base.steps)
        self.history = History()
        undecided: dict[int, str] = {}
        for event in list(self.journal.events):
            self.history.apply(event)
            if event["event"] == "report":
                verdict = self._judge(event["trial"], event["step"], event["metrics"])
                undecided |= {event["trial"]: verdict} if verdict else {}
        for number, verdict in undecided.items():
            if self.history.trials[number].state == OPEN:
                self._end(number, verdict)
        self._clear([t.number for t in self.history.ended])  # a kill may have come before this
        for trial in self.history.in_state(OPEN):
            if max(trial.reports, default=0) >= trial.steps:
                self._end(trial.number, COMPLETE)

    def _record(self, kind: str, /, **fields: Any) -> None:
        event = self.journal.append(kind, **fields)
        self.history.apply(event)
        self.listener(event, self.history)

    def _judge(self, number: int, step: int, metrics: Mapping[str, float]) -> str | None:
        """PRUNED if ASHA stops the trial here; reference trials are measured but never stopped.

        Those of later stages are not measured: another training, or another seed.
        """
        value = metrics.get(self.plan.metric)
        kind = self.history.trials[number].kind
        if value is None or kind in LATER:
            return None
        stop = self.asha.report(number, step, value)
        return PRUNED if stop and kind == SEARCHED else None

    def next_trial(self) -> Trial | None:
        """The next trial to run: one begun before, else a new one, else one that had a fault.

        None if there is none, or none yet (`is_waiting`).
        """
        if self.halted:
            return None
        waiting = [t for t in self.history.in_state(OPEN) if t.number not in self.running]
        unharmed = [trial for trial in waiting if not trial.faults]
        if unharmed:
            return unharmed[0]
        number = len(self.history.trials)
        if self.has_new and not self.is_late:
            self._ask(number)
            return self.history.trials[number]
        return waiting[0] if waiting else None

    @property
    def has_new(self) -> bool:
        """Whether there is a trial that can be asked for now."""
        history = self.history
        return len(history.searched) < history.planned or bool(stages.due(history))

    @property
    def is_waiting(self) -> bool:
        """Whether a running trial may bring others: a later stage, or itself after a fault."""
        return bool(self.running) and not self.halted

    @property
    def is_late(self) -> bool:
        return self.plan.deadline is not None and time.time() > self.plan.deadline

    def _ask(self, number: int) -> None:
        plan = self.plan
        parent: int | None = None
        kinds = list(plan.references)
        if number < len(kinds):
            kind, config = kinds[number], plan.references[kinds[number]]
        elif later := stages.due(self.history):
            kind, parent = later[0].kind, later[0].parent
            config = Config.from_dict(later[0].config)
        else:
            kind = SEARCHED
            values = propose(self.history, plan.space, plan.metric, plan.seed, number)
            config = Config.from_dict(plan.base.to_dict() | values)
        settings = config.to_dict()
        values = {name: settings[name] for name in plan.space}
        known = {} if parent is None else {"parent": parent}
        self._record("ask", trial=number, kind=kind, values=values, config=settings, **known)

    def start(self, trial: Trial) -> Order:
        """Give a trial to a worker, in a place of its own.

        Raises:
            OSError: the storage cannot be written; nothing has happened.
        """
        place = (self.folder_of(trial.number), trial.starts + 1)
        if self.plan.remote:
            self.journal.copy.take_over(*place)
        else:
            take_over(*place)
        self.running.add(trial.number)
        self._most_at_once = max(self._most_at_once, len(self.running))
        self._record("start", trial=trial.number)
        plan, folder = self.plan, self.folder_of(trial.number)
        if plan.remote:
            folder = folder.relative_to(plan.folder.parent)
        return Order(
            number=trial.number,
            task=plan.task,
            data=plan.data,
            digest=plan.digest,
            config=trial.config,
            folder=str(folder),
            remote=plan.remote,
            device=plan.share.device,
            threads=max(1, int(plan.share.cpus)),
            known=tuple(trial.reports),
            metric=trial.metric,
            select=trial.select,
            tasks=plan.tasks,
            witness="" if plan.remote else str(self.journal.path.resolve()),
            attempt=trial.starts,
        )

    def folder_of(self, number: int) -> Path:
        """Where a trial keeps its checkpoints and its model."""
        return trial_folder(self.plan.folder, number)

    def report(self, number: int, report: Report) -> bool:
        """Take in a report; True if the worker should leave the trial."""
        trial = self.history.trials[number]
        if trial.state != OPEN:
            return True
        if report.fault:
            self.fault(number, report.fault, report.cause or ERROR)
            return True
        self._in_a_row.clear()
        if report.failure:
            self._end(number, FAILED, report.failure, report.cause or NON_FINITE)
            return True
        verdict = None
        if report.step not in trial.reports:
            self._record(
                "report",
                trial=number,
                step=report.step,
                metrics=report.metrics,
                seconds=report.seconds,
                notes=list(report.notes),
            )
            verdict = self._judge(number, report.step, report.metrics)
        if report.finished:
            verdict = COMPLETE
        if verdict is not None:
            self._end(number, verdict)
        return verdict is not None or bool(self.halted)

    def fault(self, number: int, reason: str, cause: str = ERROR) -> None:
        """A trial stopped, and not because of its setting: a lost worker, a full disk.

        What follows stands in `tune.failures.RULES`. By default it is tried again, after the
        others, from its last checkpoint, and FAILS once it has had more faults than it may. When
        one trial after another has a fault, and none reports, the surroundings are to blame: the
        search halts, with all of them unfinished and resumable.
        """
        trial = self.history.trials[number]
        if trial.state != OPEN:
            return
        self.running.discard(number)
        self._record("fault", trial=number, reason=reason, cause=cause)
        rule = rule_of(cause)
        if rule.counts:
            self._in_a_row.add(number)
        if rule.halts or len(self._in_a_row) >= max(HALT_AFTER, self._most_at_once + 1):
            self.halt(reason)
        elif not rule.retried or trial.faults > self.plan.max_failures:
            self._end(number, FAILED, reason, cause)

    def halt(self, reason: str) -> None:
        """Start no trial any more, for a reason that is not a trial's."""
        self.halted = self.halted or reason

    def halt_over(self, error: OSError) -> None:
        """Halt as the storage cannot be written."""
        where = "" if isinstance(error, StoreError) else " on this machine"
        place = "" if error.filename is None else f"{where}: {error.filename}"
        self.halt(f"{error.strerror or error}{place}")

    def _end(self, number: int, state: str, reason: str = "", cause: str = "") -> None:
        trial = self.history.trials[number]
        known: dict[str, Any] = {"cause": cause} if cause else {}
        known |= {"picks": trial.picks} if trial.reports else {}
        if state == COMPLETE and not self._keep_model(trial):
            self.running.discard(number)
            return
        self._record("end", trial=number, state=state, reason=reason, **known)
        self.running.discard(number)
        if self.is_safe():
            self._clear([number])

    def _keep_model(self, trial: Trial) -> bool:
        """Put a trial's model where it stays; else halt, and resumed it ends once more."""
        place = (self.folder_of(trial.number), trial.starts)
        try:
            keep_model(*place)
            self.journal.copy.keep_model(*place)
        except OSError as error:
            self.halt_over(error)
            return False
        return True

    def is_safe(self) -> bool:
        """Whether the journal so far would outlive this machine; else the search halts."""
        trouble = self.journal.settle()
        if trouble:
            self.halt(trouble)
        return not trouble

    def _clear(self, numbers: Sequence[int]) -> None:
        """Leave no checkpoint of trials that have ended."""
        folders = [self.folder_of(number) for number in numbers]
        for folder in folders:
            clear_places(folder)
        self.journal.copy.clear(folders)
