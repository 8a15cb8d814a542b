"""All tasks of a dataset in one trial: for the worker it looks like one run.

Between two evaluations of the trial each task is trained in turn as far as its own evaluation, then
put away in a checkpoint of its own: so the memory is that of one task, and a trial that is stopped
goes on with the task that it was at. The score of the trial is the mean over its tasks at the same
step, so early stopping compares trials as it does with a single task.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from gsda.bundle import bundle_step, manifest_of, save_bundle
from gsda.checkpoint import clear, load_newest, load_step, save_step
from gsda.config import Config
from gsda.errors import BadCheckpoint, NonFinite
from gsda.run import Run
from gsda.sealed import ACCURACY, CLASS_MEAN
from gsda.tasks import Task
from tune.shelf import MODEL_FOLDER

# Metrics of a task that are worth a curve each; those of single classes would be thousands.
KEPT = ("val/", "loss/", ACCURACY, CLASS_MEAN, "coverage/all", "predicted/effective_classes")
Build = Callable[[Task, bool], Run]


class Suite:
    """Tasks that are trained side by side with the same settings, as far as each other.

    Attributes:
        step_count: iterations that all tasks have done.
        kept: gives the steps whose checkpoints stay, beside the last two.
        notes: sentences on checkpoints that were damaged.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        config: Config,
        build: Build,
        folder: Path,
        device: str,
        kept: Callable[[], Collection[int]],
    ) -> None:
        """`build` makes the run of a task at step 0; its second argument: with weights."""
        self.tasks, self.config, self.kept = tuple(tasks), config, kept
        self.device = torch.device(device)
        self.step_count = 0
        self.notes: list[str] = []
        self._build, self._folder = build, folder
        self._metrics: dict[str, dict[str, float]] = {}

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step_count >= self.config.steps

    def folder_of(self, task: Task) -> Path:
        """Where a task keeps its checkpoints and its model."""
        return self._folder / task.pair

    def step(self, n: int) -> dict[str, float]:
        """Train every task `n` iterations, to an evaluation; the losses come with `evaluate`."""
        self.notes = []
        target = min(self.step_count + n, self.config.steps)
        for task in self.tasks:
            self._metrics[task.pair] = self._reach(task, target)
        self.step_count = target
        return {}

    def evaluate(self) -> dict[str, float]:
        """Each metric of each task as ``A2W/val/bnm``, and its mean as ``val/bnm``."""
        return merged(self._metrics)

    def _reach(self, task: Task, target: int) -> dict[str, float]:
        """Metrics of a task at step `target`, trained from its newest checkpoint."""
        state, complaints = load_newest(self.folder_of(task))
        self.notes += [f"{task}: {text}; trained again from the one before" for text in complaints]
        if state is not None and state["run"]["step"] == target:
            return dict(state["metrics"])
        run = self._build(task, state is None)
        if state is not None:
            run.load_state_dict(state["run"])
        metrics: dict[str, float] = {}
        while run.step_count < target:  # more than one evaluation, if a checkpoint was damaged
            metrics = self._advance(task, run)
        return metrics

    def _advance(self, task: Task, run: Run) -> dict[str, float]:
        try:
            losses = run.step(self.config.next_rung(run.step_count) - run.step_count)
            metrics = losses | run.evaluate()
        except NonFinite as error:
            raise NonFinite(f"{task}: {error}") from error
        state = {"run": run.state_dict(), "metrics": metrics}
        save_step(self.folder_of(task), run.step_count, state, keep=self.kept())
        return metrics

    def keep_models(self, step: int, selection: dict[str, Any]) -> None:
        """Leave the model of each task at `step`.

        Raises:
            BadCheckpoint: one is damaged; all are dropped, to begin again.
        """
        for task in self.tasks:
            place = self.folder_of(task) / MODEL_FOLDER
            if bundle_step(place) != step:
                self._keep_model(task, step, selection, place)

    def _keep_model(self, task: Task, step: int, selection: dict[str, Any], place: Path) -> None:
        try:
            state = load_step(self.folder_of(task), step)
        except BadCheckpoint as error:
            clear_all(self._folder)
            raise BadCheckpoint(f"{task}: {error}, and it was the best; beginning again") from error
        run = self._build(task, False)
        run.load_state_dict(state["run"])
        save_bundle(place, run.network, manifest_of(run, state["metrics"], selection))

    def state_dict(self) -> dict[str, Any]:
        """How far all tasks are; what each of them is stands in its own checkpoint."""
        return {"step": self.step_count, "tasks": [str(task) for task in self.tasks]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`.

        Raises:
            BadCheckpoint: it is of other tasks.
        """
        if state.get("tasks") != [str(task) for task in self.tasks]:
            raise BadCheckpoint("the checkpoint is of other tasks than this trial")
        self.step_count = int(state["step"])


def clear_all(folder: Path) -> None:
    """Remove the checkpoints of a trial, and of each of its tasks if there are several."""
    clear(folder)
    for below in folder.iterdir() if folder.is_dir() else ():
        if below.is_dir():
            clear(below)


def merged(of_task: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Metrics of all tasks under the task's id, and the mean of those that all tasks have."""
    kept = {
        pair: {name: value for name, value in metrics.items() if name.startswith(KEPT)}
        for pair, metrics in of_task.items()
    }
    first, *others = kept.values()
    shared = [name for name in first if all(name in other for other in others)]
    means = {name: mean(metrics[name] for metrics in kept.values()) for name in shared}
    return means | {
        f"{p}/{n}": value for p, metrics in kept.items() for n, value in metrics.items()
    }
