"""One trial in a Ray worker: a `Run`, its checkpoints, and what it tells the driver.

Checkpoints are ours, in the trial's own folder, and hold every report so far. So the driver's
journal can have missed a report (it was killed at that moment) and still gets it on resume.
"""

import gc
import json
import os
import time
import traceback
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray.tune
import torch

from gsda.bundle import bundle_step, manifest_of, save_bundle
from gsda.checkpoint import clear, load_newest, load_step, save_step
from gsda.config import Config
from gsda.data.domain import Domain, Pair
from gsda.data.load import DataSpec, identity, load_domains
from gsda.errors import BadCheckpoint, BadInput, NonFinite
from gsda.features import freeze
from gsda.memory import describe, measure, watch
from gsda.oracle import Oracle
from gsda.run import Run
from gsda.tasks import Task
from tune.failures import GPU_MEMORY, STORAGE, chain, classify, rule_of
from tune.handover import MovedOn, check_place, place_of
from tune.picks import LAST, pick
from tune.probe import here
from tune.shelf import ERROR_FILE, MODEL_FOLDER
from tune.suite import Suite
from tune.working import WorkingFolder

PAYLOAD = "payload"


@dataclass(frozen=True)
class Order:
    """What a worker is told of a trial, in plain values.

    Attributes:
        digest: identity of the images that the search is about.
        folder: the trial's own, which all machines share.
        known: steps whose reports the driver already has.
        metric, select: how the step is picked whose model is kept (`tune.picks`).
        tasks: where a trial trains several tasks, each with the identity of its images.
        witness: a file of the search that a machine must see, if it shares the storage.
        attempt: which start of the trial it is, each with a place of its own (`tune.handover`).
        remote: a URI, where the storage is one; the folder is then below it.
    """

    number: int
    task: str
    data: dict[str, Any]
    digest: str
    config: dict[str, Any]
    folder: str
    device: str
    threads: int
    known: tuple[int, ...] = ()
    metric: str = ""
    select: str = LAST
    witness: str = ""
    attempt: int = 0
    remote: str = ""
    tasks: tuple[tuple[str, str], ...] = ()

    @property
    def place(self) -> Path:
        """Where checkpoints and model go."""
        return place_of(Path(self.folder), self.attempt)

    def to_config(self) -> dict[str, Any]:
        """The `config` of a Tune trial. One string: Tune copies and flattens what it can see."""
        return {"trial": self.number, "order": json.dumps(asdict(self))}

    @classmethod
    def of_config(cls, config: dict[str, Any]) -> "Order":
        values = json.loads(config["order"])
        tasks = tuple((task, digest) for task, digest in values["tasks"])
        return cls(**(values | {"known": tuple(values["known"]), "tasks": tasks}))


@dataclass(frozen=True)
class Report:
    """What a worker tells: a stretch of training done, or why there will be no more.

    Attributes:
        seconds: of work on this trial so far, over all its starts.
        failure: a sentence, if the setting cannot be trained.
        fault: a sentence, if the trial stopped for another reason and may be tried again.
        cause: of either, one of `tune.failures`.
        notes: sentences for the user.
    """

    step: int
    metrics: dict[str, float]
    seconds: float
    finished: bool
    failure: str = ""
    fault: str = ""
    cause: str = ""
    notes: tuple[str, ...] = ()

    def to_result(self) -> dict[str, Any]:
        """What Tune carries to the driver."""
        return {PAYLOAD: json.dumps(asdict(self))}

    @classmethod
    def of_result(cls, result: dict[str, Any]) -> "Report":
        values = json.loads(result[PAYLOAD])
        return cls(**(values | {"notes": tuple(values["notes"])}))


@lru_cache(maxsize=2)
def _domains(task: Task, spec: DataSpec) -> tuple[Domain, Domain]:
    """Memory-mapped, so that all trials of a node share one copy in the page cache."""
    return load_domains(task, spec)


class RunTrainable(ray.tune.Trainable):  # type: ignore[misc]
    """The adapter; an actor is used for one trial after another."""

    _working: WorkingFolder | None = None  # of a trial whose storage is a URI
    _folder: Path | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Tune's first trial of this actor."""
        self._begin(Order.of_config(config))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Tune's next trial of this actor."""
        self._begin(Order.of_config(new_config))
        return True

    def _begin(self, order: Order) -> None:
        self._order = order
        self._run: Run | Suite | None = None
        self._reports: list[Report] = []
        self._unsent: list[Report] = []
        self._notes: tuple[str, ...] = ()
        self._fixed = 0  # bytes on the GPU while training, beside what grows with the batch
        self._broken: Report | None = None
        self._free()
        self.cleanup()
        self._folder = None if order.remote else order.place
        try:
            torch.set_num_threads(order.threads)
            self._restore(self._open(order))
        except Exception as error:
            self._broken = self._failed(error, 0)

    def _free(self) -> None:
        """Give back what the trial before held of the GPU, whose references are gone."""
        if self._order.device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()

    def _open(self, order: Order) -> Path:
        """The trial's folder; of a URI, a copy of it that is this worker's own."""
        if order.remote:
            cache = here(order.data).cache
            self._working = WorkingFolder(order.remote, order.folder, order.attempt, cache)
        folder = order.place if self._working is None else self._working.folder
        self._folder = folder
        return folder

    def cleanup(self) -> None:
        """Tune is done with this actor, or with its trial."""
        if self._working is not None:
            self._working.close()
            self._working = None

    def _restore(self, folder: Path) -> None:
        order = self._order
        if order.witness and not Path(order.witness).is_file():
            raise BadInput(
                f"{os.uname().nodename} does not see {order.witness}: its storage is not shared"
            )
        state, complaints = load_newest(folder)
        run = self._suite(folder) if order.tasks else self._build(Task.parse(order.task), not state)
        onward = "beginning again" if state is None else "going on from the one before"
        self._notes = tuple(f"{text}; {onward}" for text in complaints)
        if state is not None:
            run.load_state_dict(state["run"])
            self._reports = [Report.of_result({PAYLOAD: text}) for text in state["reports"]]
        self._unsent = [report for report in self._reports if report.step not in order.known]
        self._run = run

    def _build(self, task: Task, pretrained: bool) -> Run:
        """The run of a task, at step 0."""
        order, spec = self._order, here(self._order.data)
        digest = dict(order.tasks).get(str(task), order.digest)
        source, target = _domains(task, spec)
        if identity(source, target) != digest:
            raise BadInput(f"the images of {task} on {os.uname().nodename} are not the search's")
        config = Config.from_dict(order.config)
        return Run(
            task,
            config,
            freeze(Pair(source, target.images), config, spec.cache, device=order.device),
            Oracle(target),
            device=order.device,
            pretrained=pretrained,
        )

    def _suite(self, folder: Path) -> Suite:
        order = self._order
        tasks = [Task.parse(task) for task, _ in order.tasks]
        config = Config.from_dict(order.config)
        return Suite(tasks, config, self._build, folder, order.device, self._kept)

    def _kept(self) -> list[int]:
        """Steps whose checkpoints stay, when another is written.

        Raises:
            MovedOn: it must not be written.
        """
        if self._order.attempt and self._working is None:  # else before it is put there
            check_place(self._order.place)
        return [self._picked] if self._reports else []

    def step(self) -> dict[str, Any]:
        """Train up to the next evaluation and report it; first, reports that went missing."""
        if self._broken is not None:
            return self._broken.to_result()
        assert self._run is not None
        try:
            return self._tell(self._run).to_result()
        except Exception as error:
            return self._failed(error, self._run.step_count).to_result()

    def _tell(self, run: Run | Suite) -> Report:
        if self._unsent:
            report = self._unsent.pop(0)
        elif self._reports and self._reports[-1].finished:
            report = self._reports[-1]
        else:
            report = self._advance(run)
        try:
            if report.finished:  # one that was killed over this has the report, and not the model
                self._keep_model(run)
        finally:
            if self._working is not None:  # before the driver hears of it
                self._working.push()
        return report

    def _failed(self, error: Exception, step: int) -> Report:
        """What there is to tell of an exception; the run that raised it is let go."""
        cause = classify(error)
        reason = self._explain(error, cause)
        rule = rule_of(cause)
        mends = rule.retried or rule.halts
        failure, fault = ("", reason) if mends else (reason, "")
        report = Report(step, {}, self._seconds, False, failure, fault, cause)
        error.__traceback__ = None  # its frames hold tensors
        self._run, self._broken = None, report
        return report

    @property
    def _picked(self) -> int:
        """The step that stands for the trial so far."""
        reports = {report.step: report.metrics for report in self._reports}
        step = pick(reports, self._order.metric, self._order.select)
        return self._reports[-1].step if step is None else step

    @property
    def _seconds(self) -> float:
        return self._reports[-1].seconds if self._reports else 0.0

    def _advance(self, run: Run | Suite) -> Report:
        began = time.perf_counter()
        self._fixed = watch(run.device, first=run.step_count == 0)
        losses = run.step(run.config.next_rung(run.step_count) - run.step_count)
        self._fixed = 0
        metrics = losses | run.evaluate()
        self._notes += tuple(run.notes if isinstance(run, Suite) else ())
        notes: tuple[str, ...] = ()
        if run.step_count not in self._order.known:  # the driver takes in no report twice
            notes, self._notes = self._notes, ()
        seconds = self._seconds + time.perf_counter() - began
        report = Report(run.step_count, metrics, seconds, run.finished, notes=notes)
        self._reports.append(report)
        texts = [entry.to_result()[PAYLOAD] for entry in self._reports]
        state = {"run": run.state_dict(), "reports": texts}
        assert self._folder is not None
        save_step(self._folder, run.step_count, state, keep=self._kept())
        return report

    def _keep_model(self, run: Run | Suite) -> None:
        """Leave E and C of the picked step: all that a registry or a prediction needs.

        Raises:
            BadCheckpoint: the picked step's is damaged; all are dropped, to begin again.
        """
        assert self._folder is not None
        folder, step = self._folder, self._picked
        selection = {"trial": self._order.number}  # the rest, when it has been chosen
        if isinstance(run, Suite):
            run.keep_models(step, selection)
            return
        if bundle_step(folder / MODEL_FOLDER) == step:
            return
        if run.step_count != step:
            try:
                run.load_state_dict(load_step(folder, step)["run"])
            except BadCheckpoint as error:
                clear(folder)
                raise BadCheckpoint(f"{error}, and it was the best; beginning again") from error
        metrics = next(report.metrics for report in self._reports if report.step == step)
        manifest = manifest_of(run, metrics, selection)
        save_bundle(folder / MODEL_FOLDER, run.network, manifest)

    def _explain(self, error: Exception, cause: str) -> str:
        """A sentence; for what is no known failure, the traceback goes to the trial's folder."""
        machine = os.uname().nodename
        if cause == GPU_MEMORY:
            return f"out of memory on a GPU of {machine}: {self._what_fits(error)}"
        if cause == STORAGE:
            system = next(e for e in chain(error) if isinstance(e, OSError))
            return f"{system.strerror or system} on {machine}: {system.filename or error}"
        if isinstance(error, NonFinite | BadInput | BadCheckpoint | MovedOn):
            return str(error)
        first = (str(error).splitlines() or [""])[0]
        return f"{type(error).__name__}: {first} ({self._keep_traceback()} on {machine})"

    def _what_fits(self, error: Exception) -> str:
        run = self._run
        if run is None or not self._fixed:
            return "there is no room to evaluate or load the model; give a trial more of a GPU"
        demand = measure(run.device, self._fixed, str(error))
        return describe(demand, run.config.batch_size)

    def _keep_traceback(self) -> str:
        """Write down the traceback at hand; says where it is."""
        text, folder = traceback.format_exc(), Path(self._order.folder)
        try:
            if self._working is not None:
                self._working.put(ERROR_FILE, text.encode())
                return f"see {ERROR_FILE} in {self._working.shown}"
            if self._order.remote:
                return "its traceback could not be kept: the storage was not reached"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ERROR_FILE).write_text(text, encoding="utf-8")
        except OSError as error:
            return f"its traceback could not be kept: {error.strerror}"
        return f"see {ERROR_FILE} in {folder}"
