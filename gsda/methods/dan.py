"""DAN: the same mean embedding of both domains in every layer that is specific to the task.

Long, Cao, Wang and Jordan, "Learning Transferable Features with Deep Adaptation Networks", ICML
2015: the MK-MMD regulariser of its section 3.2, with uniform weights of the kernels in place of
those of a quadratic program.
"""

import torch

from gsda.methods.common import Baseline, Batch, Term
from gsda.methods.mmd import gaussian, mmd, squared_distances


class DAN(Baseline):
    """MK-MMD at the bottleneck and at the logits."""

    def terms(self, batch: Batch) -> dict[str, Term]:
        """The sum over both layers, lambda(p) times."""
        logits = torch.cat([batch.logits_s, batch.logits_t])
        n_s = len(batch.f_s)
        total = sum(
            (mmd(gaussian(squared_distances(layer)), n_s) for layer in (batch.f, logits)),
            start=batch.f.new_zeros(()),
        )
        return {"mmd": Term(batch.lam, total)}
