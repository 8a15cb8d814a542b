"""JAN: the same joint distribution of features and predictions in both domains.

Long, Zhu, Wang and Jordan, "Deep Transfer Learning with Joint Adaptation Networks", ICML 2017:
JMMD, the MMD of a product of kernels over the layers (its section 4.1).
"""

import torch

from gsda.methods.common import Baseline, Batch, Term
from gsda.methods.mmd import gaussian, mmd, squared_distances

# Width of the one kernel on the predictions, as in the authors' experiments: 2 sigma^2.
PREDICTION_WIDTH = 1.68


class JAN(Baseline):
    """Joint MMD of the bottleneck and of the predictions."""

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Lambda(p) times the squared distance of the joint embeddings."""
        of_f = gaussian(squared_distances(batch.f))
        of_p = torch.exp(-squared_distances(batch.p) / PREDICTION_WIDTH)
        return {"jmmd": Term(batch.lam, mmd(of_f * of_p, len(batch.f_s)))}
