"""Which settings to start from: the paper's for its benchmarks, ours where it is silent."""

from dataclasses import replace
from typing import Any

from gsda.backbones import find_backbone
from gsda.config import Config
from gsda.tasks import BENCHMARKS, Task

DEFAULT_BACKBONE = "resnet50"
SMALL_BACKBONE = "cnn"

# The small network is trained from scratch, on images and features a tenth of the usual size.
_SMALL: dict[str, Any] = {
    "bottleneck": 64,
    "hidden": 64,
    "lr": 0.03,
    "backbone_lr": 1.0,
    "steps": 400,
    "evaluate_every": 100,
}
# Measured on Office-Caltech10 with frozen MobileNetV2 features: there is no backbone to spare.
_FROZEN: dict[str, Any] = {
    "bottleneck": 128,
    "hidden": 64,
    "lr": 0.03,
    "steps": 400,
    "evaluate_every": 100,
}
_KINDS = {SMALL_BACKBONE: _SMALL, "frozen features": _FROZEN}


def describe_default(field: str) -> str:
    """What `recommend` makes of a field of `Config` that no benchmark sets, in words."""
    usual = getattr(Config, field)
    special = {name: kind[field] for name, kind in _KINDS.items() if field in kind}
    if len(special) == len(_KINDS) and len(set(special.values())) == 1:
        return f"{usual}; {next(iter(special.values()))} with {' or '.join(special)}"
    return "; ".join([str(usual), *(f"{value} with {name}" for name, value in special.items())])


def default_backbone(task: Task) -> str:
    """The benchmark's own (the small CNN for letters and digits), else ResNet-50."""
    known = BENCHMARKS.get(task.dataset)
    return DEFAULT_BACKBONE if known is None else known.backbone


def recommend(task: Task, n_classes: int, backbone: str | None = None, **changes: Any) -> Config:
    """The paper's setting of a task: alpha, beta and b as in its section 3.1.

    For data that the paper does not have: the defaults of `Config`, and a fifth of the classes as
    the number of groups.

    Args:
        n_classes: r, which bounds the number of groups.
        changes: fields of `Config` that the caller has decided on.

    Raises:
        BadInput: an unknown backbone, or a value out of range.
    """
    backbone = backbone or default_backbone(task)
    find_backbone(backbone)
    frozen = changes.get("features") == "frozen"
    small = _FROZEN if frozen else _SMALL if backbone == SMALL_BACKBONE else {}
    known = BENCHMARKS.get(task.dataset)
    if known is None:
        paper: dict[str, Any] = {"n_groups": max(1, n_classes // 5)}
    else:
        groups = min(known.n_groups, n_classes)
        paper = {"alpha": known.alpha, "beta": known.beta, "n_groups": groups}
        paper["crop"] = known.crop
    config = Config(backbone=backbone, **(small | paper | changes))
    if config.evaluate_every > config.steps:
        config = replace(config, evaluate_every=config.steps)
    return config.check_classes(n_classes)
