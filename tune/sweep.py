"""Many fixed settings of one task, run as the trials of a search are: in parallel, resumable, once.

A sweep is a search without a sampler, without early stopping and without a winner: its trials are a
list. It has a journal of its own for each task and set of images, which grows: a cell whose setting
is recorded there is never run again, whoever asks for it.
"""

import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gsda.config import Config
from gsda.data.domain import Pair
from gsda.data.load import DataSpec, load_domains
from gsda.errors import BadInput
from gsda.features import freeze
from gsda.tasks import Task
from gsda.tracking import choose_tracking_uri
from tune import views
from tune.cluster import Share, connected, places, share
from tune.command import own_words
from tune.console import Console
from tune.delivery import PATIENCE_S
from tune.executor import execute
from tune.failures import rule_of
from tune.history import COMPLETE, FAILED, OPEN, History, Trial
from tune.journal import Event, Journal, read_events
from tune.kind import SWEEP, sweep_name
from tune.progress import Progress
from tune.raywatch import patience_with, watching
from tune.record import Mirror, Projection
from tune.settings import Settings
from tune.shelf import JOURNAL, MODEL_FOLDER, claim, trial_folder
from tune.spec import plan_of, specify

Listener = Callable[[Event, History], None]


@dataclass(frozen=True)
class Cell:
    """One setting of one task, under the name that a table has for it."""

    label: str
    config: Config


@dataclass(frozen=True)
class Swept:
    """What is recorded of a task's cells.

    Attributes:
        trials: by the cell's setting; unfinished ones among them.
        runs: MLflow's run id of each trial's number, as far as MLflow was reached.
        pages: where a browser finds MLflow's runs of this task, followed by a run's id.
        halted: why some are unfinished, "" if none is.
    """

    task: Task
    trials: Mapping[str, Trial]
    runs: Mapping[int, str]
    pages: str = ""
    halted: str = ""

    def trial(self, cell: Cell) -> Trial | None:
        """The finished trial of a cell, None if it has none."""
        found = self.trials.get(identity_of(cell.config.to_dict()))
        return found if found is not None and found.state == COMPLETE else None

    def link(self, run: str) -> str:
        """The address of a run in MLflow's pages, "" without a run."""
        return self.pages + run if run else ""


def identity_of(config: Mapping[str, Any]) -> str:
    """Equal settings, equal identity; what an older journal does not know of has its default."""
    return repr(sorted(Config.from_dict(config).to_dict().items()))


@dataclass(frozen=True)
class Sweep:
    """A task whose cells can be looked up and run.

    Attributes:
        folder: of its journal, made by the first cell that is run.
        spec: as of a search.
        retry: whether every cell that failed is run again; else those that may fare better.
        keep: whether the models of cells are kept; then a cell whose model is gone is run again.
    """

    task: Task
    settings: Settings
    spec: dict[str, Any]
    folder: Path
    retry: bool = False
    keep: bool = False

    @classmethod
    def open(
        cls,
        task: Task,
        settings: Settings,
        console: Console,
        retry: bool = False,
        keep: bool = False,
    ) -> "Sweep":
        """Check all that can be checked; nothing is written but decoded images.

        Raises:
            BadInput: whatever is wrong with data, weights, settings or device.
        """
        if settings.remote is not None:
            raise BadInput("--storage is a URI, but must be a folder here: mount the store.")
        spec = specify(task, settings, console) | {"references": {}, "trials": 0, "kind": SWEEP}
        folder = settings.storage.resolve() / sweep_name(task.slug, spec["digest"])
        return cls(task, settings, spec, folder, retry, keep)

    def known(self) -> dict[str, Trial]:
        """Trials that are recorded, by setting."""
        if not (self.folder / JOURNAL).is_file():
            return {}
        return by_setting(History.of(read_events(self.folder / JOURNAL)[0]))

    def missing(self, cells: Sequence[Cell]) -> list[Cell]:
        """Cells that are to be run, each setting once."""
        known = self.known()
        wanted: dict[str, Cell] = {}
        for cell in cells:
            key = identity_of(cell.config.to_dict())
            if key not in known or self._is_due(known[key]):
                wanted.setdefault(key, cell)
        return list(wanted.values())

    def _is_due(self, trial: Trial) -> bool:
        """Whether a recorded cell is run, or run again."""
        if trial.state == FAILED:
            return self.retry or rule_of(trial.cause).retried
        return trial.state == OPEN or (self.keep and not self.model_of(trial).is_dir())

    def failed(self, cells: Sequence[Cell]) -> list[Trial]:
        """The recorded trials of cells that failed, and are not run again."""
        known = self.known()
        keys = dict.fromkeys(identity_of(cell.config.to_dict()) for cell in cells)
        found = [known[key] for key in keys if key in known]
        return [trial for trial in found if trial.state == FAILED and not self._is_due(trial)]

    def model_of(self, trial: Trial) -> Path:
        """Where the model of a cell is, if it was kept."""
        return trial_folder(self.folder, trial.number) / MODEL_FOLDER

    def pair(self, config: Config) -> Pair:
        """The images that a cell is trained on, or their frozen features."""
        data = DataSpec.from_dict(self.spec["data"])
        source, target = load_domains(self.task, data)
        return freeze(Pair(source, target.images), config, data.cache)

    def run(self, cells: Sequence[Cell], listen: Listener) -> Swept:
        """Run what is missing, and give all.

        Raises:
            BadInput: no cluster or not enough of it, or another process is at this sweep.
        """
        missing = self.missing(cells)
        settings = self.settings
        if not missing:
            journal = self.folder / JOURNAL
            return self._link(History.of(read_events(journal)[0]), journal)
        for features in {cell.config.features for cell in missing}:
            self.pair(next(c.config for c in missing if c.config.features == features))
        with connected(settings.address):
            wanted = share(settings.device, settings.cpus_per_trial, settings.gpus_per_trial)
            opened = self._open(missing)
            mirror = Mirror(opened.path, choose_tracking_uri(settings.tracking_uri))
            try:
                mirror.start()
                return self._drive(opened, wanted, mirror, listen)
            finally:
                mirror.stop()
                opened.close()

    def _open(self, missing: Sequence[Cell]) -> Journal:
        """The journal, with the missing cells in its list."""
        if (self.folder / JOURNAL).is_file():
            journal = Journal(self.folder / JOURNAL)
            journal.append("resume")
        else:
            storage = self.settings.storage.resolve()
            journal = claim(storage, self.folder.name, self.task, self.spec)
        history = History.of(journal.events)
        listed = history.spec["references"]
        pending = [trial.config for trial in history.in_state(OPEN)]
        pending += list(listed.values())[len(history.trials) :]
        there = {identity_of(config) for config in pending}
        fresh = [c for c in missing if identity_of(c.config.to_dict()) not in there]
        if fresh:
            cells: dict[str, Any] = {}
            for cell in fresh:
                cells[_free_label(cell.label, {**listed, **cells})] = cell.config.to_dict()
            told = shlex.join(own_words())
            journal.append("cells", references=cells, keep=self.keep, command=told)
        return journal

    def _drive(self, journal: Journal, wanted: Share, mirror: Mirror, listen: Listener) -> Swept:
        def told(event: Event, now: History) -> None:
            mirror.nudge()
            listen(event, now)

        spec = History.of(journal.events).spec
        progress = Progress(plan_of(spec, self.settings, self.folder, wanted), journal, told)
        if progress.has_new or progress.history.in_state(OPEN):
            patience = patience_with(self.settings.address)
            with watching(patience, progress.halt, lambda _: _pause(journal, progress)):
                execute(progress)
        _drop_models(self.folder, progress)
        left = progress.history.in_state(OPEN) or progress.has_new
        halted = progress.halted or ("interrupted" if left else "")
        if halted:
            _pause(journal, progress, halted)
        else:
            journal.append("done")
        mirror.settle(PATIENCE_S)
        return replace(self._link(progress.history, journal.path), halted=halted)

    def _link(self, history: History, journal: Path) -> Swept:
        """The trials with their runs, if MLflow answers."""
        uri = choose_tracking_uri(self.settings.tracking_uri)
        try:
            projection = Projection(uri)
            for event in read_events(journal)[0]:
                projection.apply(event, deliver=False)
            runs = {number: projection.run_of(number) for number in history.trials}
        except Exception:  # whatever MLflow raises, the table has its figures without links
            return Swept(self.task, by_setting(history), {})
        return Swept(self.task, by_setting(history), runs, pages(uri, projection.experiment))


def _pause(journal: Journal, progress: Progress, why: str = "") -> None:
    """Write down that a sweep stopped before its end."""
    unfinished = [trial.number for trial in progress.history.in_state(OPEN)]
    journal.append("pause", trials=unfinished, reason=why or progress.halted)


def pages(uri: str, experiment: str) -> str:
    """The address of an experiment's runs: of the server, or of `mlflow ui` as it starts here."""
    return f"{views.pages(uri)}/#/experiments/{experiment}/runs/"


def by_setting(history: History) -> dict[str, Trial]:
    """The newest trials by `identity_of` their settings; a finished one before all others."""
    found: dict[str, Trial] = {}
    for trial in history.trials.values():
        key = identity_of(trial.config)
        before = found.get(key)
        if before is None or trial.state == COMPLETE or before.state != COMPLETE:
            found[key] = trial
    return found


def _free_label(label: str, taken: Mapping[str, Any]) -> str:
    """`label`, or with a number behind it where another setting has it."""
    if label not in taken:
        return label
    number = 2
    while f"{label} ({number})" in taken:
        number += 1
    return f"{label} ({number})"


def _drop_models(folder: Path, progress: Progress) -> None:
    """Nobody uses the models of a table, and hundreds of them fill a disk."""
    kept: set[str] = set()
    for event in progress.journal.events:
        if event["event"] == "cells" and event.get("keep"):
            kept |= set(event["references"])
    for trial in progress.history.ended:
        if trial.kind not in kept:
            shutil.rmtree(trial_folder(folder, trial.number) / MODEL_FOLDER, ignore_errors=True)


def at_once(settings: Settings) -> int:
    """How many cells run at a time, on the Ray that is connected."""
    wanted = share(settings.device, settings.cpus_per_trial, settings.gpus_per_trial)
    return places(wanted)


class Teller:
    """Lines of progress over several sweeps."""

    def __init__(self, total: int, say: Callable[[str], None]) -> None:
        self._total, self._done, self._say = total, 0, say
        self._began = time.monotonic()

    def __call__(self, event: Event, history: History) -> None:
        """One more event."""
        if event["event"] == "fault":
            self._say(f"  put back: {event['reason']}")
        if event["event"] != "end":
            return
        self._done += 1
        trial = history.trials[event["trial"]]
        left = (time.monotonic() - self._began) * (self._total - self._done) / self._done
        why = f": {trial.reason}" if trial.reason else ""
        self._say(
            f"  [{self._done}/{self._total}, about {left / 60:.0f} min left] "
            f"{history.spec['task']} {trial.kind}{why}"
        )
