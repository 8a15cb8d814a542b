"""The settings of one adaptation: every default stands here, and nowhere else."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from gsda.errors import BadInput
from gsda.methods import key_of

LEVELS = ("dom", "grp", "cls")
SYNC_READINGS = ("batch", "squared", "relative", "sample", "penalty")
TARGET_SAMPLINGS = ("uniform", "pseudo")
PASSES = ("separate", "shared")
CROPS = ("random", "centre")
FEATURES = ("trained", "frozen")
CLASS_WEIGHTINGS = ("none", "pada")
PAIRS = ("auto", "sparse", "dense")
GROUPED = "gsda"  # the method that divides the classes into groups
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Config:
    """Settings of one run; an ablation is `replace(config, beta=0.0)`.

    Attributes:
        alpha: weight of the target entropy L^t (Eq. 5).
        beta: weight of the gradient synchronisation L^syn (Eq. 13, 16).
        n_groups: b, the number of random groups of classes.
        tau: a target sample enters the local levels if its largest probability reaches tau.
        levels: the levels of discriminators that are there, a subset of `LEVELS`.
        lambda_max: strength of the adversarial terms in the step of (E, C) after warm-up; in other
            methods of what adapts, as a multiple of the weight that its authors give.
        sync: reading of Eq. 10 and 11, or "penalty" in their place; see
            `gsda.losses.synchronisation`.
        method: a key of `gsda.methods.METHODS`; its title in the literature is taken for it.
        backbone: a key of `gsda.backbones.BACKBONES`.
        weights: pretrained weights of the backbone: "default" (torchvision's, where there are any),
            "none", or a file.
        bottleneck: d, the width of the features that everything else is fed.
        hidden: width of the two hidden layers of each discriminator.
        passes: "separate" sends source and target through E one after the other, so that batch
            normalisation sees one domain at a time; "shared" sends them as one batch.
        lr: learning rate of new layers (bottleneck, C, D) at the start.
        backbone_lr: learning rate of the backbone as a multiple of `lr`.
        momentum, weight_decay: of SGD with Nesterov momentum.
        batch_size: images of each domain in a step.
        steps: iterations of the alternation.
        evaluate_every: steps between evaluations, and the rungs at which a search may stop a run.
        crop: "random" crops in training, or "centre" in training too (VisDA-2017).
        features: "trained" trains the backbone with the rest; "frozen" trains bottleneck, C and D
            on what the pretrained backbone gives for centre crops, computed once and cached.
        class_weighting: "none", or "pada": see `gsda.partial`, for targets with fewer classes.
        holdout: share of each class of the source that is kept off the training, for validators
            that judge by labelled images which the model has not seen; 0 trains on all.
        target_sampling: "uniform", or "pseudo" (class-balanced over confident pseudo labels).
        pairs: "sparse" computes a discriminator for the samples that have weight there, "dense" for
            all; the numbers are the same to rounding. "auto" takes what is faster on the device.
        epsilon: weights below it at the local levels count as 0: an approximation, off at 0.
        precision: of E and C; "auto" is bfloat16 on GPUs that compute in it, else float32. D
            and all losses are in float32 always.
        seed: of initialisation, sampling and augmentation.
        group_seed: of the division of the classes into groups.
    """

    alpha: float = 0.02
    beta: float = 1.0
    n_groups: int = 6
    tau: float = 0.9
    levels: tuple[str, ...] = LEVELS
    lambda_max: float = 1.0
    sync: str = "batch"
    method: str = "gsda"
    backbone: str = "resnet50"
    weights: str = "default"
    bottleneck: int = 256
    hidden: int = 1024
    passes: str = "separate"
    lr: float = 0.01
    backbone_lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-3
    batch_size: int = 32
    steps: int = 10_000
    evaluate_every: int = 1_000
    crop: str = "random"
    features: str = "trained"
    class_weighting: str = "none"
    holdout: float = 0.0
    target_sampling: str = "uniform"
    pairs: str = "auto"
    epsilon: float = 0.0
    precision: str = "auto"
    seed: int = 0
    group_seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that no run could use.

        Raises:
            BadInput: names the field, its value, and what it must be.
        """
        _require_types(self)
        for name in ("alpha", "beta", "lambda_max", "weight_decay", "backbone_lr", "momentum"):
            _require(self, name, 0.0 <= getattr(self, name) < math.inf, "zero or more, and finite")
        _require(self, "momentum", self.momentum < 1.0, "in [0, 1)")
        _require(self, "tau", 0.0 <= self.tau < 1.0, "in [0, 1)")
        _require(self, "epsilon", 0.0 <= self.epsilon < 1.0, "in [0, 1)")
        _require(self, "holdout", 0.0 <= self.holdout < 1.0, "in [0, 1)")
        _require(self, "lr", 0.0 < self.lr < math.inf, "over zero, and finite")
        for name in ("n_groups", "bottleneck", "hidden", "steps", "evaluate_every"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        _require(self, "batch_size", self.batch_size >= 2, "at least 2 (batch normalisation)")
        for name in ("seed", "group_seed"):
            _require(self, name, 0 <= getattr(self, name) < 2**63, "in [0, 2^63)")
        _require_choice(self, "sync", SYNC_READINGS)
        _require_choice(self, "passes", PASSES)
        _require_choice(self, "crop", CROPS)
        _require_choice(self, "features", FEATURES)
        _require_choice(self, "class_weighting", CLASS_WEIGHTINGS)
        _require_choice(self, "pairs", PAIRS)
        _require_choice(self, "precision", PRECISIONS)
        _require_choice(self, "target_sampling", TARGET_SAMPLINGS)
        ordered = tuple(level for level in LEVELS if level in self.levels)
        known = len(set(self.levels)) == len(ordered) == len(self.levels)
        _require(self, "levels", known, f"a selection of {', '.join(LEVELS)}, each once")
        object.__setattr__(self, "levels", ordered)
        object.__setattr__(self, "method", key_of(self.method))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to JSON and checkpoints."""
        return asdict(self) | {"levels": list(self.levels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """Undo `to_dict`.

        Raises:
            BadInput: a name that is no field, or a value out of range.
        """
        known = {field.name for field in fields(cls)}
        for name in values:
            if name not in known:
                raise BadInput(f"{name!r} is no setting: choose from {', '.join(sorted(known))}.")
        levels = values.get("levels", LEVELS)
        return cls(**(dict(values) | {"levels": tuple(levels) if levels is not None else None}))

    def check_classes(self, n_classes: int) -> "Config":
        """This configuration, if it fits `n_classes`.

        Raises:
            BadInput: more groups than classes.
        """
        if self.method == GROUPED and "grp" in self.levels and self.n_groups > n_classes:
            raise BadInput(
                f"n_groups is {self.n_groups}, but there are {n_classes} classes: "
                f"choose at most {n_classes} groups."
            )
        return self

    def rungs(self) -> list[int]:
        """Steps after which the run is evaluated: every `evaluate_every`, and the last."""
        return [*range(self.evaluate_every, self.steps, self.evaluate_every), self.steps]

    def next_rung(self, step: int) -> int:
        """The first evaluation after `step`."""
        return min((step // self.evaluate_every + 1) * self.evaluate_every, self.steps)


def completed(values: Mapping[str, Any]) -> dict[str, Any]:
    """`to_dict` of an earlier version, with the defaults of fields that it did not have yet."""
    return Config().to_dict() | dict(values)


def source_only(config: Config) -> Config:
    """The same run without any adaptation: no discriminators, no use of the target."""
    return replace(config, method="source_only", alpha=0.0, beta=0.0, levels=())


def ladder(config: Config) -> dict[str, Config]:
    """The rows of the paper's Table 1, below them source-only: names to configurations."""
    return {
        "source-only": source_only(config),
        "Glb": replace(config, levels=("dom",), beta=0.0),
        "+ Cls": replace(config, levels=("dom", "cls"), beta=0.0),
        "+ Grp": replace(config, levels=LEVELS, beta=0.0),
        "+ Grad Sync": replace(config, levels=LEVELS),
    }


_KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    float: ((float, int), "a number"),
    int: ((int,), "a whole number"),
    str: ((str,), "a text"),
    tuple[str, ...]: ((tuple,), "a sequence of texts"),
}


def _require_types(config: Config) -> None:
    """Values may come from a user's JSON; a wrong type would fail later, and far from here."""
    for field in fields(config):
        types, what = _KINDS[field.type]
        value = getattr(config, field.name)
        _require(config, field.name, isinstance(value, types) and value is not True, what)


def _require(config: Config, name: str, holds: bool, what: str) -> None:
    if not holds:
        raise BadInput(f"{name} is {getattr(config, name)!r}, but must be {what}.")


def _require_choice(config: Config, name: str, choices: tuple[str, ...]) -> None:
    _require(config, name, getattr(config, name) in choices, f"one of {', '.join(choices)}")
