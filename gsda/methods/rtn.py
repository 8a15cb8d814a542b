"""RTN: the source's classifier is the target's plus a small residual.

Long, Zhu, Wang and Jordan, "Unsupervised Domain Adaptation with Residual Transfer Networks", NIPS
2016.
"""

import torch
from torch import Tensor, nn

from gsda import losses
from gsda.methods.common import Baseline, Batch, Term
from gsda.methods.mmd import from_gram, gaussian, mmd

ENTROPY_WEIGHT, MMD_WEIGHT = 0.3, 0.3  # gamma and lambda, which the paper keeps for all tasks


def fused_distances(f: Tensor, logits: Tensor) -> Tensor:
    """(N, N) squared distances of the tensor products of features and logits, none of them made.

    The inner product of two tensor products is the product of the inner products.
    """
    return from_gram((f @ f.t()) * (logits @ logits.t()))


class RTN(Baseline):
    """C is the target's f_T; the source's is f_T + Delta(f_T)."""

    def build(self, d: int, r: int) -> nn.ModuleDict:
        """The residual block Delta, of two layers."""
        return nn.ModuleDict({"Delta": nn.Sequential(nn.Linear(r, r), nn.ReLU(), nn.Linear(r, r))})

    def source_loss(self, batch: Batch) -> Tensor:
        """The source's labels teach the source's classifier."""
        logits_s = batch.logits_s + self.own["Delta"](batch.logits_s)
        return losses.source_classification(logits_s, batch.y_s)

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Entropy of the target and MMD of the fused layers, lambda_max times their weights."""
        logits = torch.cat([batch.logits_s, batch.logits_t])
        distance = mmd(gaussian(fused_distances(batch.f, logits), (1.0,)), len(batch.f_s))
        strength = self.config.lambda_max
        return {
            "entropy": Term(ENTROPY_WEIGHT * strength, losses.target_entropy(batch.logits_t)),
            "mmd": Term(MMD_WEIGHT * strength, distance),
        }
