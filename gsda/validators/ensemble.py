"""Choosing among finished trials by what they agree upon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gsda.outputs import Outputs

if TYPE_CHECKING:
    from torch import Tensor


def ensemble_agreement(targets: Sequence[Outputs]) -> list[float]:
    """Share of each model's predictions that all models' mean prediction shares, in [0, 1].

    EnsV of Hu et al., "Towards Reliable Model Selection for Unsupervised Domain Adaptation: An
    Empirical Study and A Certified Baseline", NeurIPS 2024. A score of a model among others: it
    shifts as trials arrive, so it picks a winner and cannot guide a search.
    """
    votes = mean_prediction(targets).argmax(dim=1)
    return [float((target.predicted == votes).double().mean()) for target in targets]


def mean_prediction(targets: Sequence[Outputs]) -> Tensor:
    """(N, r) mean of the models' probabilities, in float64."""
    total = targets[0].p
    for target in targets[1:]:
        total = total + target.p
    return total / len(targets)
