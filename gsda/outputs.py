"""What a model makes of images: all that those who judge a model without target labels may see.

torch is imported where it is used, so that names can be looked up before it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 8192
# Share of the first image in a mixture (Hu et al. 2023), so that it decides the mixture's class.
MIX = 0.55


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

    @property
    def predicted(self) -> Tensor:
        """(N,) classes."""
        return self.logits.argmax(dim=1)

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


@dataclass(frozen=True)
class Labelled(Outputs):
    """What a model makes of images of the source, whose labels are known.

    Attributes:
        labels: (N,) classes.
    """

    labels: Tensor


@dataclass(frozen=True)
class Mixed(Outputs):
    """What a model makes of mixtures of target images: `MIX` of each, the rest of its partner.

    Attributes:
        first, partner: (N,) indices of the two images that each one is made of.
    """

    first: Tensor
    partner: Tensor
