"""What a search is asked to do, checked as far as that needs neither data nor torch."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsda import stopping
from gsda.backbones import find_backbone
from gsda.config import Config
from gsda.data.load import default_cache
from gsda.errors import BadInput
from gsda.methods import check_fields, check_method, find_entry
from gsda.naming import chosen_dataset, find_benchmark, resolve_own, resolve_task
from gsda.tasks import Task
from gsda.tracking import hide_password
from tune.group import Group, grouped
from tune.holdout import check_refit, chosen_share
from tune.picks import SELECTIONS
from tune.rule import check_guide, check_rule, default_metric, metrics_of
from tune.scope import DATASET, check_scope
from tune.seal import check_sealed, check_unsealed
from tune.shelf import check_name
from tune.space import SEARCHABLE
from tune.uri import locate

DEFAULT_STORAGE = Path("searches")
DEFAULT_TRIALS, DEFAULT_MAX_FAILURES = 20, 2
DEFAULT_METHOD = Config.method
# Exit codes.
DONE, NO_MODEL, BAD_USE, OWED, INTERRUPTED = 0, 1, 2, 3, stopping.INTERRUPTED


@dataclass(frozen=True)
class Settings:
    """The options of `tune/search.py`, under the same names; None is "not said".

    Attributes:
        trials: settings to search, beside the reference trials.
        source, target: folders of `data` that hold the domains of a task of one's own.
        select: which step of a trial is its model (`tune.picks`).
        finetune_top: how many of the best settings on frozen features are trained end to end, for
            `finetune_steps` iterations.
        seeds: with how many seeds in all the best `top` settings are trained; the winner is the one
            with the best mean.
        pick: what the winner is picked by among finished trials; by default the metric.
        scope: what a search is about, and origin: whose winner it takes over (`tune.scope`).
        unseal: whether target labels may have a part in choosing (`tune.seal`).
        refit: whether the winner is trained again on all of the source, if some was held out.
        storage: folder of all searches; may be given as a URI, and is then this machine's working
            copy of what lies there, and `remote` the URI.
        warm_start: names of searches whose knowledge this one begins with.
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
    dashboard: bool = False
    name: str | None = None
    resume: bool = False
    storage: Path = DEFAULT_STORAGE
    remote: str | None = None
    tracking_uri: str | None = None
    search: tuple[str, ...] | None = None
    promote: bool = False
    skip_bad_images: bool = False
    max_failures: int | None = None
    select: str | None = None
    cache: Path | None = None
    source: str | None = None
    target: str | None = None
    finetune_top: int | None = None
    finetune_steps: int | None = None
    seeds: int | None = None
    top: int | None = None
    pick: str | None = None
    warm_start: tuple[str, ...] | None = None
    refit: bool | None = None
    unseal: bool = False
    scope: str | None = None
    origin: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take texts for paths, and refuse what no search could do.

        Raises:
            BadInput: names the option, its value and what it must be.
        """
        for name in ("data", "cache"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, Path(getattr(self, name)))
        if isinstance(self.storage, str):
            storage, remote = locate(self.storage, self.cache)
            object.__setattr__(self, "storage", storage)
            object.__setattr__(self, "remote", remote)
        if self.warm_start is not None:
            names = (self.warm_start,) if isinstance(self.warm_start, str) else self.warm_start
            object.__setattr__(self, "warm_start", tuple(names))
        _check("--trials", self.trials, self.trials is None or self.trials >= 1, "at least 1")
        hours = self.max_hours
        _check("--max-hours", hours, hours is None or hours > 0, "over 0")
        _check("--seed", self.seed, 0 <= (self.seed or 0) < 2**63, "in [0, 2^63)")
        config = Config.from_dict(self.overrides)
        if "method" in self.overrides:  # by its key, however it was said
            object.__setattr__(self, "overrides", self.overrides | {"method": config.method})
        self._check_finetuning()
        self._check_choice()
        check_scope(self.scope, self.origin, self.trials, self.resume)
        _check("--max-failures", self.max_failures, (self.max_failures or 0) >= 0, "at least 0")
        cpus, gpus = self.cpus_per_trial, self.gpus_per_trial
        _check("--cpus-per-trial", cpus, cpus is None or cpus > 0, "over 0")
        _check("--gpus-per-trial", gpus, gpus is None or gpus >= 0, "at least 0")
        whole = gpus is None or gpus <= 1 or gpus == int(gpus)
        _check("--gpus-per-trial", gpus, whole, "a part of one, or a whole number")
        if self.dashboard and self.address is not None:
            raise BadInput("--dashboard is for a Ray of one's own: leave it out with --address.")
        if re.match(r"[a-z][a-z0-9+]+:/", str(self.storage)):
            raise BadInput(
                f"--storage is {self.storage}, but must be a folder here: mount the store."
            )
        if self.name is not None:
            check_name(self.name)
        if self.select is not None and self.select not in SELECTIONS:
            raise BadInput(f"--select is {self.select!r}: choose one of {', '.join(SELECTIONS)}.")
        if self.backbone is not None:
            find_backbone(self.backbone)
        if not self.resume:  # else what is not said stands in the journal
            check_method(config)
        for name in self.search or ():
            if name not in SEARCHABLE:
                raise BadInput(
                    f"--search {name!r} cannot be searched: choose from {', '.join(SEARCHABLE)}."
                )
        self._check_fields()

    def _check_fields(self) -> None:
        """A resumed search has its method from its journal."""
        if self.resume and "method" not in self.overrides:
            return
        named = {name: f"--search {name}" for name in self.search or ()}
        fixed = [name for name in SEARCHABLE if name in self.overrides]
        named |= {name: f"--{name.replace('_', '-')}" for name in fixed}
        check_fields(self.method, named)

    def _check_finetuning(self) -> None:
        top, steps = self.finetune_top, self.finetune_steps
        _check("--finetune-top", top, top is None or top >= 1, "at least 1")
        _check("--finetune-steps", steps, steps is None or steps >= 1, "at least 1")
        if top is not None and find_entry(self.method).frozen_only:
            raise BadInput(
                f"--finetune-top trains end to end, and {self.method} only fits frozen features: "
                "leave it out."
            )
        if steps is not None and top is None and not self.resume:
            raise BadInput("--finetune-steps needs --finetune-top: say how many of the best.")
        if top is not None and not self.resume and self.overrides.get("features") != "frozen":
            raise BadInput(
                "--finetune-top trains the best settings found on frozen features: "
                "add --features frozen."
            )

    def _check_choice(self) -> None:
        check = check_unsealed if self.unseal else check_sealed
        if self.metric is not None:
            check(check_guide(self.metric))
        if self.pick is not None:
            check_rule(self.pick, check)
        share = chosen_share(self.overrides, self.metrics)
        if self.refit and not self.resume and self.origin is None:  # else the origin has a say
            check_refit(share)
        _check("--seeds", self.seeds, self.seeds is None or self.seeds >= 2, "at least 2")
        _check("--top", self.top, self.top is None or self.top >= 1, "at least 1")
        if self.top is not None and self.seeds is None and not self.resume:
            raise BadInput("--top needs --seeds: say with how many seeds the best are trained.")

    @property
    def chosen_dataset(self) -> str:
        """The dataset of a bare task id, by the flags alone."""
        return chosen_dataset(self.dataset, self.data)

    @property
    def chosen_cache(self) -> Path:
        return self.cache or default_cache()

    @property
    def chosen_max_failures(self) -> int:
        return DEFAULT_MAX_FAILURES if self.max_failures is None else self.max_failures

    def metric_of(self, task: Task | Group) -> str:
        """The score that guides the search of a task."""
        return self.metric or default_metric(task.dataset, self.overrides)

    @property
    def method(self) -> str:
        """Key of `gsda.methods.METHODS`."""
        return str(self.overrides.get("method", DEFAULT_METHOD))

    @property
    def metrics(self) -> list[str]:
        """What was said that a choice shall rest on."""
        picked = metrics_of(self.pick) if self.pick else []
        return [self.metric, *picked] if self.metric else picked

    @property
    def chosen_fields(self) -> tuple[str, ...]:
        return self.search or find_entry(self.method).searched

    def places(self) -> list[str]:
        """The options that say where things are kept, as far as they were said."""
        words = storage_words(self.remote or self.storage)
        if self.tracking_uri is not None:
            words += ["--tracking-uri", hide_password(self.tracking_uri)]
        return words


def storage_words(storage: Path | str) -> list[str]:
    """The option that names a folder of searches, where a command must have it."""
    return [] if str(storage) == str(DEFAULT_STORAGE) else ["--storage", str(storage)]


def _check(option: str, value: object, holds: bool, what: str) -> None:
    if not holds:
        raise BadInput(f"{option} is {value}, but must be {what}.")


def resolve_tasks(texts: list[str], settings: Settings) -> list[Task]:
    """Tasks named on a command line: bare ids of the chosen dataset, qualified ones, or `all`.

    Raises:
        BadInput: an unknown task or dataset, or a qualified id that contradicts the flags.
    """
    data, source, target = settings.data, settings.source, settings.target
    if source is not None or target is not None:
        return [resolve_own(bool(texts), settings.dataset, data, source, target)]
    if not texts:
        raise BadInput("No task is named: give --task A2D, or --data with --source and --target.")
    tasks: list[Task] = []
    for text in texts:
        found = _all_tasks(settings) if text == "all" else [_resolve(text, settings)]
        tasks += [task for task in found if task not in tasks]
    return tasks


def resolve_scope(texts: list[str], settings: Settings) -> list[Task | Group]:
    """What each search is about: one task, or with `--scope dataset` all of them at once.

    Raises:
        BadInput: as `resolve_tasks`, and tasks that cannot be searched as one.
    """
    tasks = resolve_tasks(texts, settings)
    return [grouped(tasks)] if settings.scope == DATASET else list(tasks)


def _resolve(text: str, settings: Settings) -> Task:
    return resolve_task(text, settings.dataset, settings.data)


def _all_tasks(settings: Settings) -> list[Task]:
    tasks = find_benchmark(settings.chosen_dataset).tasks()
    return [_resolve(str(task), settings) for task in tasks]
