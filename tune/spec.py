"""What a search is: settings, data and defaults, in plain values for its journal."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gsda
from gsda.backbones import find_backbone
from gsda.config import GROUPED, Config, completed, source_only
from gsda.data.domain import Domain, Pair
from gsda.data.load import DataSpec, identity, load_domains
from gsda.errors import BadInput
from gsda.features import freeze
from gsda.methods import check_method
from gsda.model import build_network, load_pretrained
from gsda.oracle import Oracle
from gsda.recipes import default_backbone, recommend
from gsda.tasks import BENCHMARKS, Task
from tune import seal, warmstart
from tune.cluster import Share, check_device
from tune.console import Console
from tune.group import Group, tasks_of
from tune.history import PAPER, SOURCE_ONLY, History
from tune.holdout import chosen_share, describe
from tune.kind import check_search
from tune.picks import LAST
from tune.progress import Plan
from tune.scope import TASK, Origin, digest_of, is_group, members, read_origin
from tune.settings import DEFAULT_TRIALS, Settings
from tune.space import DEFAULT_FIELDS, build_space
from tune.tracked import note

# What a resumed search may be told anew; anything else stands in its journal.
_MAY_CHANGE = (
    "trials max_hours device cpus_per_trial gpus_per_trial max_failures address dashboard name "
    "resume storage remote tracking_uri promote cache data"
).split()
# What goes on as it was begun unless a resume says otherwise.
_MACHINES = ("device", "cpus_per_trial", "gpus_per_trial", "max_failures", "address")


def specify(task: Task | Group, settings: Settings, console: Console) -> dict[str, Any]:
    """Everything that a search is; nothing is written but decoded images.

    Raises:
        BadInput: whatever is wrong with data, weights, settings or device.
    """
    check_device(settings.device, settings.address)
    origin = None if settings.origin is None else read_origin(task, settings)
    known_backbone = default_backbone(tasks_of(task)[0]) if origin is None else origin.backbone
    backbone = settings.backbone or known_backbone
    data = DataSpec(
        root=None if settings.data is None else settings.data.resolve(),
        cache=settings.chosen_cache.resolve(),
        size=find_backbone(backbone).size,
        skip_bad=settings.skip_bad_images,
        source_folder=settings.source or "",
        target_folder=settings.target or "",
    )
    loaded = [_load(one, data, settings, console) for one in tasks_of(task)]
    n_classes = loaded[0].n_classes
    base = _base(tasks_of(task)[0], settings, n_classes, backbone, origin)
    _check_weights(base, n_classes)
    for one in loaded:
        freeze(one.pair, base, data.cache, progress=console.preparing)
    fields = settings.chosen_fields if origin is None else tuple(origin.history.spec["search"])
    space = build_space(fields, n_classes)
    known = BENCHMARKS.get(task.dataset)
    spec = {
        "task": str(task),
        "dataset": task.dataset,
        "data_title": known.title if known else f"images in {data.root}",
        "data": data.to_dict(),
        **_describe_data(loaded, grouped=isinstance(task, Group)),
        "classes": n_classes,
        "backbone": backbone,
        "base": base.to_dict(),
        "finetune_top": settings.finetune_top or 0,
        "finetune_base": _finetune_base(tasks_of(task)[0], settings, n_classes, backbone),
        "references": _references(base) | (origin.references(base) if origin else {}),
        "origin": origin.describe() if origin else None,
        "scope": settings.scope or TASK,
        "as_in_paper": base.method == GROUPED and not set(DEFAULT_FIELDS) & set(settings.overrides),
        "search": list(fields),
        "trials": 0 if origin else settings.trials or DEFAULT_TRIALS,
        "metric": settings.metric or (origin.metric if origin else settings.metric_of(task)),
        seal.TAG: settings.unseal,
        "pick": settings.pick,
        "seeds": settings.seeds,
        "top": settings.top,
        "refit": bool(settings.refit),
        "select": settings.select or LAST,
        "seed": settings.seed or 0,
        "machines": {name: getattr(settings, name) for name in _MACHINES},
        "said": _said(settings),
        "tracking": note(settings.tracking_uri),
        "version": gsda.__version__,
    }
    if said := _held_out(settings, origin):
        console.say(said)
    if settings.warm_start:
        spec["warm"] = warmstart.describe(warmstart.read_earlier(task, settings), spec, space)
    return spec


def _held_out(settings: Settings, origin: Origin | None) -> str:
    """A sentence on a hold-out that nobody asked for; "" if there is none."""
    if origin is None:
        return describe(settings.overrides, settings.metrics, bool(settings.refit))
    return describe(origin.held(settings), origin.metrics(settings), bool(settings.refit))


@dataclass(frozen=True)
class _Loaded:
    """The images of a task."""

    task: Task
    source: Domain
    target: Domain

    @property
    def pair(self) -> Pair:
        return Pair(self.source, self.target.images)

    @property
    def n_classes(self) -> int:
        return len(self.source.classes)

    def describe(self) -> dict[str, Any]:
        """What a journal says of them."""
        images = [len(self.source), len(self.target)]
        return {"digest": identity(self.source, self.target), "images": images}


def _load(task: Task, data: DataSpec, settings: Settings, console: Console) -> _Loaded:
    source, target = load_domains(task, data, console.preparing)
    _tell_skipped(source, target, console)
    if settings.unseal and not Oracle(target).is_known:
        raise BadInput(f"--unseal lets target labels choose, and {task} has none: leave it out.")
    return _Loaded(task, source, target)


def _describe_data(loaded: Sequence[_Loaded], grouped: bool) -> dict[str, Any]:
    """Identity and counts of the images; of several tasks those of each, and all in all."""
    each = [{"task": str(one.task)} | one.describe() for one in loaded]
    if not grouped:
        return loaded[0].describe()
    if len({one.n_classes for one in loaded}) > 1:
        raise BadInput("--scope dataset needs the same classes in all tasks, and here they differ.")
    counts = [sum(column) for column in zip(*(e["images"] for e in each), strict=True)]
    digest = digest_of([entry["digest"] for entry in each])
    return {"digest": digest, "images": counts, "tasks": each}


def _tell_skipped(source: Domain, target: Domain, console: Console) -> None:
    for domain in (source, target):
        names = getattr(domain.images, "skipped", ())
        if names:
            console.say(f"Left out {len(names)} unreadable images of {domain.name}:")
            for name in names:
                console.say(f"  {name}")


def _base(
    task: Task,
    settings: Settings,
    n_classes: int,
    backbone: str,
    origin: Origin | None = None,
) -> Config:
    changes = dict(settings.overrides) | {"seed": settings.seed or 0}
    if settings.weights is not None:
        changes["weights"] = _absolute(settings.weights)
    if origin is not None:
        changes["holdout"] = origin.holdout(settings)
        return Config.from_dict(origin.history.spec["base"] | changes).check_classes(n_classes)
    changes["holdout"] = chosen_share(settings.overrides, settings.metrics)
    base = recommend(task, n_classes, backbone, **changes)
    check_method(base)
    return source_only(base) if base.method == "source_only" else base


def _references(base: Config) -> dict[str, dict[str, Any]]:
    """What the search is compared with: no adaptation, and the method as its authors weigh it."""
    plain = source_only(base).to_dict()
    return {SOURCE_ONLY: plain} | ({PAPER: base.to_dict()} if base.to_dict() != plain else {})


def _finetune_base(
    task: Task, settings: Settings, n_classes: int, backbone: str
) -> dict[str, Any] | None:
    """What the best settings are put into: as without frozen features, but for what was said."""
    if settings.finetune_top is None:
        return None
    of_frozen = ("features", "steps", "evaluate_every", "lr", "backbone_lr", "weight_decay")
    kept = {n: v for n, v in settings.overrides.items() if n not in of_frozen}
    if settings.finetune_steps is not None:
        kept["steps"] = settings.finetune_steps
    said = replace(settings, overrides=kept, finetune_top=None, finetune_steps=None)
    return _base(task, said, n_classes, backbone).to_dict()


def _absolute(weights: str) -> str:
    """A file's whole path: workers start elsewhere."""
    return weights if weights in ("none", "default") else str(Path(weights).resolve())


def _check_weights(base: Config, n_classes: int) -> None:
    network = build_network(base.backbone, n_classes, base.bottleneck, base.seed)
    load_pretrained(network, base.backbone, base.weights)


def _said(settings: Settings) -> dict[str, Any]:
    """The options that were given and that a resume must not contradict, as JSON has them."""
    options = asdict(settings)
    options |= options.pop("overrides")
    given = {
        name: value
        for name, value in options.items()
        if name not in _MAY_CHANGE and value is not None and value is not False
    }
    if "weights" in given:
        given["weights"] = _absolute(given["weights"])
    plain: dict[str, Any] = json.loads(json.dumps(given))
    return plain


def check_resume(
    task: Task | Group, settings: Settings, history: History, console: Console
) -> None:
    """Whether a search can go on as asked.

    Raises:
        BadInput: another task, an option that contradicts the beginning, fewer trials than were
            asked for before, other images, or pretrained weights that are not there any more.
    """
    spec = history.spec
    check_search(spec, "--resume")
    name = spec["name"]
    if {str(one) for one in tasks_of(task)} != {str(member) for member, _ in members(spec)}:
        raise BadInput(f"The search {name} is of {spec['task']}, not of {task}.")
    _check_said(settings, spec)
    if settings.trials is not None and spec.get("origin"):
        raise BadInput(f"{name} searches nothing: leave --trials out.")
    if settings.trials is not None and settings.trials < spec["trials"]:
        raise BadInput(
            f"--trials is {settings.trials}, but {name} was asked for {spec['trials']} already: "
            "a search can only be extended."
        )
    check_device(*(_machines(spec, settings)[key] for key in ("device", "address")))
    data = DataSpec.from_dict(data_of(spec, settings))
    for member, digest in members(spec):
        if identity(*load_domains(member, data, console.preparing)) != digest:
            raise BadInput(
                f"The images of {member} are not those that {name} began with: "
                "put them back, or start a search of another --name."
            )
    if len(history.ended) < history.total or settings.trials:
        _check_weights(Config.from_dict(spec["base"]), spec["classes"])


def _check_said(settings: Settings, spec: dict[str, Any]) -> None:
    derived = (
        {"unseal": seal.is_unsealed(spec)}
        | spec
        | completed(spec["base"])
        | {"skip_bad_images": spec["data"]["skip_bad"]}
    )
    for name, value in _said(settings).items():
        if value not in (spec["said"].get(name), derived.get(name)):
            option = "--" + name.replace("_", "-")
            raise BadInput(
                f"{option} is {value}, but {spec['name']} was begun with {derived.get(name)}: "
                f"leave {option} out to resume it."
            )


def data_of(spec: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Where the images are; they may have moved since the search began."""
    data = dict(spec["data"])
    if settings.data is not None:
        data["root"] = str(settings.data.resolve())
    if settings.cache is not None:
        data["cache"] = str(settings.cache.resolve())
    return data


def _machines(spec: dict[str, Any], settings: Settings) -> dict[str, Any]:
    now = {name: getattr(settings, name) for name in _MACHINES}
    return {name: spec["machines"].get(name) if v is None else v for name, v in now.items()}


def with_machines(settings: Settings, spec: dict[str, Any]) -> Settings:
    """Settings in which what was not said about machines is as the search was begun."""
    return replace(settings, **_machines(spec, settings))


def plan_of(spec: dict[str, Any], settings: Settings, folder: Path, share: Share) -> Plan:
    """The plan that a spec amounts to on the machines that are there."""
    hours = settings.max_hours
    return Plan(
        task=spec["task"],
        data=data_of(spec, settings),
        digest=spec["digest"],
        base=Config.from_dict(spec["base"]),
        references={k: Config.from_dict(v) for k, v in spec["references"].items()},
        space=build_space(spec["search"], spec["classes"]),
        trials=spec["trials"],
        metric=spec["metric"],
        seed=spec["seed"],
        folder=folder,
        share=share,
        max_failures=settings.chosen_max_failures,
        tasks=tuple((str(t), digest) for t, digest in members(spec)) if is_group(spec) else (),
        deadline=None if hours is None else time.time() + hours * 3600,
        remote=settings.remote or "",
    )
