"""DANN: features that a discriminator of domains cannot tell apart.

Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016, section 4.2.
With `class_weighting="pada"` it is PADA (Cao et al., ECCV 2018).
"""

from torch import nn

from gsda.methods.adversary import discriminator, domain_loss, reverse
from gsda.methods.common import Baseline, Batch, Term


class DANN(Baseline):
    """One discriminator D on the features."""

    def build(self, d: int, r: int) -> nn.ModuleDict:
        """D."""
        return nn.ModuleDict({"D": discriminator(d, self.config.hidden)})

    def terms(self, batch: Batch) -> dict[str, Term]:
        """The domain loss, its gradient reversed on the way to E."""
        z = self.own["D"](reverse(batch.f, batch.lam))
        return {"D_dom": Term(1.0, domain_loss(z, len(batch.f_s), batch.shares))}
