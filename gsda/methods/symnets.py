"""SymNets: a classifier for each domain, which together play the discriminator, too.

Zhang, Tang, Jia and Tan, "Domain-Symmetric Networks for Adversarial Domain Adaptation", CVPR 2019.
Its symbols name the terms.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsda.methods.common import Baseline, Batch, Term


def _linear(f: Tensor, head: nn.Module, frozen: bool) -> Tensor:
    """The head's logits; if it is frozen, without a gradient for its weights."""
    weight, bias = head.get_parameter("weight"), head.get_parameter("bias")
    return F.linear(f, weight.detach(), bias.detach()) if frozen else F.linear(f, weight, bias)


def side(log_p: Tensor, target: bool) -> Tensor:
    """(N,) log of the probability that log_p (N, 2 r) gives to one domain's half."""
    r = log_p.shape[1] // 2
    return torch.logsumexp(log_p[:, r:] if target else log_p[:, :r], dim=1)


def of_label(log_p: Tensor, y: Tensor, target: bool) -> Tensor:
    """(N,) log of the probability of labels y (N,) in one domain's half."""
    index = y + (log_p.shape[1] // 2 if target else 0)
    return log_p.gather(1, index[:, None]).squeeze(1)


class SymNets(Baseline):
    """C is the target's classifier, C_s the source's; C_st is the softmax over both together."""

    def build(self, d: int, r: int) -> nn.ModuleDict:
        """C_s."""
        return nn.ModuleDict({"C_s": nn.Linear(d, r)})

    def _log_p(self, f: Tensor, frozen: bool) -> Tensor:
        """(N, 2 r): the source's half, then the target's."""
        heads = self.own["C_s"], self.network.C
        return torch.cat([_linear(f, head, frozen) for head in heads], dim=1).log_softmax(dim=1)

    def source_loss(self, batch: Batch) -> Tensor:
        """E^s_task + E^t_task: both classifiers on the source's labels; E is not moved."""
        f_s = batch.f_s.detach()
        heads = self.own["C_s"], self.network.C
        return sum(
            (F.cross_entropy(_linear(f_s, head, False), batch.y_s) for head in heads),
            start=f_s.new_zeros(()),
        )

    def terms(self, batch: Batch) -> dict[str, Term]:
        """E^st_domain for the classifiers; for E F^st_category + lambda(p) (F^st_domain + M^st)."""
        s, t = (self._log_p(f.detach(), frozen=False) for f in (batch.f_s, batch.f_t))
        domain = -side(t, target=True).mean() - side(s, target=False).mean()
        s, t = self._log_p(batch.f_s, frozen=True), self._log_p(batch.f_t, frozen=True)
        category = of_label(s, batch.y_s, target=False) + of_label(s, batch.y_s, target=True)
        confusion = side(t, target=False) + side(t, target=True)
        return {
            "D_dom": Term(1.0, domain),
            "category": Term(1.0, -0.5 * category.mean()),
            "confusion": Term(batch.lam, -0.5 * confusion.mean()),
            "entropy": Term(batch.lam, self._entropy(t)),
        }

    def _entropy(self, log_p: Tensor) -> Tensor:
        """M^st: mean entropy of the classes, whichever half says them."""
        r = self.n_classes
        log_q = torch.logaddexp(log_p[:, :r], log_p[:, r:])
        return -(log_q.exp() * log_q).sum(dim=1).mean()
