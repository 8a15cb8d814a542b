"""Label-free scores of a model: higher is better, and no target label goes in.

A validator is a pure function whose parameters say what it needs (`target`: what the model makes
of the target). Adding one is writing the function and naming it in `VALIDATORS`.

torch is imported where it is used: a command line must be able to refuse an unknown metric at once.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gsda.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor


CHUNK = 8192


@dataclass(frozen=True)
class Outputs:
    """What a model makes of a domain's images.

    Attributes:
        features: (N, d). logits: (N, r).
    """

    features: Tensor
    logits: Tensor

    @property
    def p(self) -> Tensor:
        """(N, r) probabilities, in float64."""
        return self.logits.double().softmax(dim=1)

    def chunks(self) -> Iterator[Tensor]:
        """The rows of p, some at a time: what is made of them stays small for any N."""
        for start in range(0, len(self.logits), CHUNK):
            yield self.logits[start : start + CHUNK].double().softmax(dim=1)

    def mean(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Mean over the N samples of function(p), (C, r) -> (C, ..)."""
        sums = [function(p).sum(dim=0) for p in self.chunks()]
        total = sums[0]
        for more in sums[1:]:
            total = total + more
        return total / len(self.logits)


def _entropy(p: Tensor) -> Tensor:
    import torch

    entropies: Tensor = torch.special.entr(p).sum(dim=-1)
    return entropies


def bnm(target: Outputs) -> float:
    """Batch nuclear norm of the predictions, divided by its bound, so in (0, 1].

    Large where predictions are sure and spread over many classes (Cui et al., "Towards
    Discriminability and Diversity", CVPR 2020). Singular values come from the r x r Gram matrix,
    so that the number of images does not matter.
    """
    import torch

    n, r = target.logits.shape
    gram = target.logits.new_zeros(r, r, dtype=torch.float64)
    for p in target.chunks():
        gram += p.t() @ p
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    return float(singular.sum() / math.sqrt(n * min(n, r)))


def im(target: Outputs) -> float:
    """Information maximisation: entropy of the mean prediction less mean entropy, in nats.

    Musgrave, Belongie and Lim, "Three New Validators and a Large-Scale Benchmark Ranking for
    Unsupervised Domain Adaptation", 2022; after Shi and Sha, ICML 2012.
    """
    return diversity(target) + entropy(target)


def entropy(target: Outputs) -> float:
    """Negative mean entropy of the predictions, in nats (Morerio et al., ICLR 2018)."""
    return -float(target.mean(_entropy))


def diversity(target: Outputs) -> float:
    """Entropy of the mean prediction, in nats."""
    return float(_entropy(target.mean(lambda p: p)))


def confidence(target: Outputs) -> float:
    """Mean of the largest probability."""
    return float(target.mean(lambda p: p.amax(dim=1)))


Validator = Callable[..., float]

VALIDATORS: dict[str, Validator] = {
    "bnm": bnm,
    "im": im,
    "entropy": entropy,
    "diversity": diversity,
    "confidence": confidence,
}

# Evidence in the README's results page: of the five it ranks settings best where the task is hard.
DEFAULT_METRIC = "val/bnm"


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


def _names() -> str:
    return ", ".join(f"val/{name}" for name in VALIDATORS)


def validate(names: Iterable[str], **known: Outputs) -> dict[str, float]:
    """Scores by name; `known` holds what validators may ask for by parameter name."""
    scores = {}
    for name in names:
        function = VALIDATORS[name]
        needs = inspect.signature(function).parameters
        scores[name] = function(**{need: known[need] for need in needs})
    return scores
