"""Label-free scores of a model: higher is better, and no target label goes in.

A validator is a pure function whose parameters say what it needs; `NEEDS` says what each stands
for. Adding one is writing the function and naming it in `VALIDATORS`.

torch is imported where it is used: a command line must be able to refuse an unknown metric at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from gsda.errors import BadInput
from gsda.outputs import Labelled, Mixed, Outputs
from gsda.validators.ensemble import ensemble_agreement
from gsda.validators.predictions import (
    balance,
    bnm,
    confidence,
    diversity,
    entropy,
    im,
    snd,
    softmax_corr,
)
from gsda.validators.source import dev, iwcv, reverse, source_accuracy
from gsda.validators.structure import class_ami, guarded_ami, mixval, transfer_score

__all__ = [
    "DEFAULT_METRIC",
    "HOLDOUT",
    "NEEDS",
    "PARTIAL_METRIC",
    "VALIDATORS",
    "Labelled",
    "Mixed",
    "Outputs",
    "check_metric",
    "ensemble_agreement",
    "needs_holdout",
    "validate",
]

Validator = Callable[..., float]

VALIDATORS: dict[str, Validator] = {
    "bnm": bnm,
    "im": im,
    "entropy": entropy,
    "diversity": diversity,
    "confidence": confidence,
    "snd": snd,
    "balance": balance,
    "softmax_corr": softmax_corr,
    "class_ami": class_ami,
    "guarded_ami": guarded_ami,
    "mixval": mixval,
    "transfer_score": transfer_score,
    "source_accuracy": source_accuracy,
    "reverse": reverse,
    "iwcv": iwcv,
    "dev": dev,
}

# What a validator may ask for, by the names of its parameters. No target labels among it.
NEEDS: dict[str, str] = {
    "target": "outputs of the target's images",
    "mixed": "outputs of mixtures of the target's images",
    "classifier": "the weights of C",
    "prior": "shares of the classes in the source",
    "source": "outputs and labels of the source's held-out images",
    "train": "outputs and labels of source images that were trained on",
}
HOLDOUT = ("source", "train")

# Chosen by the study in docs/selection.md.
DEFAULT_METRIC = "val/guarded_ami"
# The default where the target is known to have fewer classes than the source: the guard of the
# other takes the source's proportions of the classes for the target's.
PARTIAL_METRIC = "val/bnm"


def check_metric(metric: str) -> str:
    """`metric`, if a choice may rest on it.

    Raises:
        BadInput: unknown, or one that reads target labels.
    """
    prefix, _, name = metric.partition("/")
    if prefix == "oracle":
        raise BadInput(
            f"{metric} reads target labels, which a user does not have: choose one of {_names()}."
        )
    if prefix != "val" or name not in VALIDATORS:
        raise BadInput(f"Unknown metric {metric!r}: choose one of {_names()}.")
    return metric


def needs_holdout(metric: str) -> bool:
    """Whether `metric`, like ``val/dev``, is there only where a part of the source is held out."""
    function = VALIDATORS.get(metric.removeprefix("val/"))
    return function is not None and not needs_of(function).isdisjoint(HOLDOUT)


def needs_of(function: Validator) -> set[str]:
    """Names of what a validator asks for."""
    return set(inspect.signature(function).parameters)


def _names() -> str:
    return ", ".join(f"val/{name}" for name in VALIDATORS)


def validate(names: Iterable[str], **known: Any) -> dict[str, float]:
    """Scores by name, of those of `names` whose needs are known.

    Args:
        known: what validators may ask for, by the names in `NEEDS`.

    Raises:
        KeyError: one asks for what no validator may have.
    """
    scores = {}
    for name in names:
        needs = needs_of(VALIDATORS[name])
        if needs - NEEDS.keys():
            raise KeyError(f"{name} asks for {', '.join(sorted(needs - NEEDS.keys()))}")
        if needs <= known.keys():
            scores[name] = VALIDATORS[name](**{need: known[need] for need in needs})
    return scores
