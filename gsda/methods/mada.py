"""MADA: a discriminator for each class, fed the share of the features that belongs to the class.

Pei, Cao, Long and Wang, "Multi-Adversarial Domain Adaptation", AAAI 2018. Predictions weigh the
features and get no gradient from it.
"""

from torch import nn

from gsda.methods.adversary import Discriminators, domain_loss, reverse
from gsda.methods.common import Baseline, Batch, Term


class MADA(Baseline):
    """D_k on p_k f for each class k, all in one batched product."""

    def build(self, d: int, r: int) -> nn.ModuleDict:
        """The r discriminators."""
        return nn.ModuleDict({"D": Discriminators(r, d, self.config.hidden)})

    def terms(self, batch: Batch) -> dict[str, Term]:
        """The sum over the classes, its gradient reversed on the way to E."""
        weighted = batch.p.detach().t()[:, :, None] * reverse(batch.f, batch.lam)[None]
        z = self.own["D"](weighted)
        return {"D_cls": Term(1.0, domain_loss(z, len(batch.f_s), batch.shares))}
