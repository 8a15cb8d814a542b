"""What a search is asked to do, checked as far as that needs neither data nor torch."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsda.backbones import find_backbone
from gsda.config import Config
from gsda.data.load import default_cache
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, Task, own_task
from gsda.tracking import hide_password
from gsda.validators import DEFAULT_METRIC, check_metric
from tune.space import DEFAULT_FIELDS, SEARCHABLE

BUILT_IN_DATASET, FOLDER_DATASET = "glyph31", "office31"
DEFAULT_STORAGE = Path("searches")
DEFAULT_TRIALS, DEFAULT_MAX_FAILURES = 20, 2
# Exit codes.
DONE, NO_MODEL, BAD_USE, OWED, INTERRUPTED = 0, 1, 2, 3, 75
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Settings:
    """The options of `tune/search.py`, under the same names; None is "not said".

    Attributes:
        trials: settings to search, beside the reference trials.
        source, target: folders of `data` that hold the domains of a task of one's own.
        finetune_top: how many of the best settings on frozen features are trained end to end, for
            `finetune_steps` iterations.
        overrides: fields of `Config` that the user fixed.
    """

    dataset: str | None = None
    data: Path | None = None
    backbone: str | None = None
    weights: str | None = None
    trials: int | None = None
    max_hours: float | None = None
    seed: int | None = None
    metric: str | None = None
    device: str | None = None
    cpus_per_trial: float | None = None
    gpus_per_trial: float | None = None
    address: str | None = None
    name: str | None = None
    resume: bool = False
    storage: Path = DEFAULT_STORAGE
    tracking_uri: str | None = None
    search: tuple[str, ...] | None = None
    promote: bool = False
    skip_bad_images: bool = False
    max_failures: int | None = None
    cache: Path | None = None
    source: str | None = None
    target: str | None = None
    finetune_top: int | None = None
    finetune_steps: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take texts for paths, and refuse what no search could do.

        Raises:
            BadInput: names the option, its value and what it must be.
        """
        for name in ("data", "storage", "cache"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, Path(getattr(self, name)))
        _check("--trials", self.trials, self.trials is None or self.trials >= 1, "at least 1")
        hours = self.max_hours
        _check("--max-hours", hours, hours is None or hours > 0, "over 0")
        _check("--seed", self.seed, 0 <= (self.seed or 0) < 2**63, "in [0, 2^63)")
        self._check_finetuning()
        _check("--max-failures", self.max_failures, (self.max_failures or 0) >= 0, "at least 0")
        cpus, gpus = self.cpus_per_trial, self.gpus_per_trial
        _check("--cpus-per-trial", cpus, cpus is None or cpus > 0, "over 0")
        _check("--gpus-per-trial", gpus, gpus is None or gpus >= 0, "at least 0")
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise BadInput(
                f"--name is {self.name!r}: use letters, digits, '-', '_' and '.', "
                "beginning with a letter or digit."
            )
        if self.metric is not None:
            check_metric(self.metric)
        if self.backbone is not None:
            find_backbone(self.backbone)
        Config.from_dict(self.overrides)
        for name in self.search or ():
            if name not in SEARCHABLE:
                raise BadInput(
                    f"--search {name!r} cannot be searched: choose from {', '.join(SEARCHABLE)}."
                )

    def _check_finetuning(self) -> None:
        top, steps = self.finetune_top, self.finetune_steps
        _check("--finetune-top", top, top is None or top >= 1, "at least 1")
        _check("--finetune-steps", steps, steps is None or steps >= 1, "at least 1")
        if steps is not None and top is None and not self.resume:
            raise BadInput("--finetune-steps needs --finetune-top: say how many of the best.")
        if top is not None and not self.resume and self.overrides.get("features") != "frozen":
            raise BadInput(
                "--finetune-top trains the best settings found on frozen features: "
                "add --features frozen."
            )

    @property
    def chosen_dataset(self) -> str:
        """The dataset of a bare task id, by the flags alone."""
        return self.dataset or (BUILT_IN_DATASET if self.data is None else FOLDER_DATASET)

    @property
    def chosen_cache(self) -> Path:
        return self.cache or default_cache()

    @property
    def chosen_max_failures(self) -> int:
        return DEFAULT_MAX_FAILURES if self.max_failures is None else self.max_failures

    @property
    def chosen_metric(self) -> str:
        return self.metric or DEFAULT_METRIC

    @property
    def chosen_fields(self) -> tuple[str, ...]:
        return self.search or DEFAULT_FIELDS

    def places(self) -> list[str]:
        """The options that say where things are kept, as far as they were said."""
        words: list[str] = []
        if self.storage != DEFAULT_STORAGE:
            words += ["--storage", str(self.storage)]
        if self.tracking_uri is not None:
            words += ["--tracking-uri", hide_password(self.tracking_uri)]
        return words


def _check(option: str, value: object, holds: bool, what: str) -> None:
    if not holds:
        raise BadInput(f"{option} is {value}, but must be {what}.")


def resolve_tasks(texts: list[str], settings: Settings) -> list[Task]:
    """Tasks named on a command line: bare ids of the chosen dataset, qualified ones, or `all`.

    Raises:
        BadInput: an unknown task or dataset, or a qualified id that contradicts the flags.
    """
    if settings.source is not None or settings.target is not None:
        return [_own(texts, settings)]
    if not texts:
        raise BadInput("No task is named: give --task A2D, or --data with --source and --target.")
    tasks: list[Task] = []
    for text in texts:
        found = _all_tasks(settings) if text == "all" else [_resolve(text, settings)]
        tasks += [task for task in found if task not in tasks]
    return tasks


def _own(texts: list[str], settings: Settings) -> Task:
    if settings.data is None or settings.source is None or settings.target is None:
        raise BadInput("--source and --target name two folders of --data: give all three.")
    if texts:
        raise BadInput("--source and --target make the task: leave --task out.")
    return own_task(settings.data, settings.source, settings.target, settings.dataset)


def _resolve(text: str, settings: Settings) -> Task:
    if "/" in text:
        task = Task.parse(text)
        if settings.dataset is not None and task.dataset != settings.dataset:
            raise BadInput(f"Task {text} is not of --dataset {settings.dataset}: leave one out.")
    else:
        task = Task.parse(f"{_known_dataset(settings)}/{text}")
    known = BENCHMARKS.get(task.dataset)
    if known is not None and known.built_in and settings.data is not None:
        raise BadInput(f"{task.dataset} is built in: leave --data out, or name another --dataset.")
    if (known is None or not known.built_in) and settings.data is None:
        raise BadInput(f"{task.dataset} is not built in: give the folder of its domains as --data.")
    return task


def _known_dataset(settings: Settings) -> str:
    name = settings.chosen_dataset
    if name not in BENCHMARKS and (settings.data is None or not _NAME.fullmatch(name)):
        raise BadInput(f"Unknown dataset {name!r}: choose one of {', '.join(BENCHMARKS)}.")
    return name


def _all_tasks(settings: Settings) -> list[Task]:
    name = settings.chosen_dataset
    if name not in BENCHMARKS:
        raise BadInput(f"Unknown dataset {name!r}: choose one of {', '.join(BENCHMARKS)}.")
    tasks = BENCHMARKS[name].tasks()
    return [_resolve(str(task), settings) for task in tasks]
