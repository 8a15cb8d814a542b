"""CDAN: a discriminator that sees features together with predictions.

Long, Cao, Wang and Jordan, "Conditional Adversarial Domain Adaptation", NeurIPS 2018: the
multilinear map, randomised where it would be wider than 4096, and the entropy weights of CDAN+E.
"""

import math

import torch
from torch import Tensor, nn

from gsda.methods.adversary import discriminator, domain_loss, reverse
from gsda.methods.common import Baseline, Batch, Term

WIDEST, RANDOMISED = 4096, 1024


class Conditioning(nn.Module):
    """T(f, p): all products of a feature and a probability, or random ones of sums of them.

    Attributes:
        width: of T.
    """

    R_f: Tensor
    R_p: Tensor

    def __init__(self, d: int, r: int) -> None:
        super().__init__()
        self.randomised = d * r > WIDEST
        self.width = RANDOMISED if self.randomised else d * r
        if self.randomised:
            self.register_buffer("R_f", torch.randn(d, RANDOMISED))
            self.register_buffer("R_p", torch.randn(r, RANDOMISED))

    def forward(self, f: Tensor, p: Tensor) -> Tensor:
        """Features (N, d) and predictions (N, r) -> (N, width)."""
        if self.randomised:
            product: Tensor = (f @ self.R_f) * (p @ self.R_p)
            return product / math.sqrt(RANDOMISED)
        products: Tensor = p[:, :, None] * f[:, None, :]
        return products.flatten(1)


def certainty(p: Tensor, shares: Tensor, n_source: int) -> Tensor:
    """Shares (N, 1) times 1 + exp(-entropy of p), keeping the sum of each domain."""
    weights = shares * (1 + torch.exp(-torch.special.entr(p).sum(dim=1, keepdim=True)))
    domains = slice(None, n_source), slice(n_source, None)
    return torch.cat([weights[d] * (shares[d].sum() / weights[d].sum()) for d in domains])


class CDAN(Baseline):
    """One discriminator D on T(f, p); p is given to it as it is, and gets no gradient."""

    def build(self, d: int, r: int) -> nn.ModuleDict:
        """T and D."""
        T = Conditioning(d, r)
        return nn.ModuleDict({"T": T, "D": discriminator(T.width, self.config.hidden)})

    def shares(self, batch: Batch, p: Tensor) -> Tensor:
        """(N, 1) how much each sample counts."""
        return batch.shares

    def terms(self, batch: Batch) -> dict[str, Term]:
        """The conditional domain loss, its gradient reversed on the way to E."""
        p, n_s = batch.p.detach(), len(batch.f_s)
        z = self.own["D"](reverse(self.own["T"](batch.f, p), batch.lam))
        return {"D_dom": Term(1.0, domain_loss(z, n_s, self.shares(batch, p)))}


class CDANE(CDAN):
    """CDAN+E: samples that are predicted with certainty count more."""

    def shares(self, batch: Batch, p: Tensor) -> Tensor:
        """By the entropy of the prediction."""
        return certainty(p, batch.shares, len(batch.f_s))
