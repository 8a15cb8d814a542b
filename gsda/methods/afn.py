"""SAFN: features of larger norm transfer better, so norms grow step by step.

Xu, Li, Yang and Lin, "Larger Norm More Transferable: An Adaptive Feature Norm Approach for
Unsupervised Domain Adaptation", ICCV 2019: the stepwise variant (SAFN).
"""

import torch
from torch import Tensor

from gsda.methods.common import Baseline, Batch, Term

STEP, WEIGHT = 1.0, 0.05  # the paper's, for all of its datasets


def norm_loss(f: Tensor, step: float = STEP) -> Tensor:
    """Mean over f (N, d) of (|f| now + step - |f|)^2, in which "now" is a constant."""
    norms = torch.linalg.vector_norm(f, dim=1)
    loss: Tensor = (norms.detach() + step - norms).square().mean()
    return loss


class AFN(Baseline):
    """The norm loss of both domains, `lambda_max` times the paper's 0.05."""

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Its value is 2 at every step; what counts is its gradient."""
        loss = norm_loss(batch.f_s) + norm_loss(batch.f_t)
        return {"norm": Term(WEIGHT * self.config.lambda_max, loss)}
