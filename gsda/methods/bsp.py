"""BSP: the largest singular values of the features, which carry transferability, stay in bounds.

Chen, Wang, Long and Wang, "Transferability vs. Discriminability: Batch Spectral Penalization for
Adversarial Domain Adaptation", ICML 2019, on top of CDAN.
"""

import torch
from torch import Tensor

from gsda.errors import NonFinite
from gsda.methods.cdan import CDAN
from gsda.methods.common import Batch, Term

LARGEST, WEIGHT = 1, 1e-4  # k and beta


def spectral_penalty(f: Tensor, largest: int = LARGEST) -> Tensor:
    """Sum of the squares of the largest singular values of f (N, d), a batch of one domain.

    Raises:
        NonFinite: f is not finite.
    """
    try:
        values: Tensor = torch.linalg.svdvals(f)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise NonFinite("features became infinite or no numbers") from error
    return values[:largest].square().sum()


class BSP(CDAN):
    """CDAN and the penalty of both domains."""

    def terms(self, batch: Batch) -> dict[str, Term]:
        """CDAN's, and the penalty with the paper's weight, lambda(p) times."""
        f_s = batch.f_s
        if batch.importance_s is not None:
            f_s = f_s * batch.importance_s[:, None].sqrt()
        penalty = spectral_penalty(f_s) + spectral_penalty(batch.f_t)
        return super().terms(batch) | {"bsp": Term(WEIGHT * batch.lam, penalty)}
