"""Class weights for partial tasks, whose target has images of some of the source's classes only.

Cao, Ma, Long and Wang, "Partial Adversarial Domain Adaptation", ECCV 2018 (PADA): a class that the
model hardly ever sees in the target counts little in the source.
"""

import torch
from torch import Tensor


def class_weights(p_t: Tensor) -> Tensor:
    """(r,) in [0, 1]: mean prediction over all of the target, divided by its maximum.

    Args:
        p_t: (N, r) probabilities of the target's images.
    """
    mean = p_t.detach().mean(dim=0)
    return (mean / mean.max()).float()


def importance(weights: Tensor | None, y_s: Tensor) -> Tensor | None:
    """(B_s,) weight of each source sample, by its label; None where classes count alike."""
    return None if weights is None else weights.to(y_s.device)[y_s]


def weigh_source(shares: Tensor, importance_s: Tensor | None) -> Tensor:
    """Shares (N, 1) of a batch, source first, with those of the source times `importance_s`."""
    if importance_s is None:
        return shares
    everyone = torch.ones_like(shares)
    everyone[: len(importance_s), 0] = importance_s
    return shares * everyone
