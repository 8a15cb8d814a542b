"""TCA: directions in which both domains vary, and have the same mean.

Pan, Tsang, Kwok and Yang, "Domain Adaptation via Transfer Component Analysis", IEEE Transactions
on Neural Networks 2011, with the linear kernel.
"""

import torch
from torch import Tensor

from gsda.methods.projection import Projected, Projection

MU = 1.0  # weight of the regulariser, the paper's usual choice
SMALLEST = 1e-6  # singular values below this share of the largest are noise


def transfer_components(x_s: Tensor, x_t: Tensor, m: int, mu: float = MU) -> Tensor:
    """(width, m') map P of features, m' <= m: x P are the transfer components of x.

    Those that maximise tr((W'(KLK + mu I)W)^-1 W'KHKW), scaled to W'(KLK + mu I)W = I. (Scaled to
    equal variance, W'KHKW = I, the last of many components would be noise made large.)

    The paper's matrices are N x N for N samples. With a linear kernel they live in the span of
    the features, so all is computed in coordinates of the singular vectors, of which there are at
    most `width`: with X = U S V', K = U S^2 U' and W = U w, the map is X' W = V S w.

    Args:
        x_s, x_t: (N_s, width), (N_t, width); scaled here to a mean squared norm of 1.
    """
    X = torch.cat([x_s, x_t])
    X = X / X.square().sum(dim=1).mean().sqrt().clamp(min=1e-12)
    U, S, Vh = torch.linalg.svd(X, full_matrices=False)
    kept = SMALLEST * S[0] < S
    U, S, V = U[:, kept], S[kept], Vh[kept].t()
    between = torch.cat(
        [X.new_full((len(x_s),), 1 / len(x_s)), X.new_full((len(x_t),), -1 / len(x_t))]
    )
    e, one = S.square() * (U.t() @ between), S.square() * U.sum(dim=0)
    within = torch.diag(S**4) - torch.outer(one, one) / len(X)  # W'KHKW
    cost = torch.outer(e, e) + mu * torch.eye(len(S), dtype=X.dtype)  # W'(KLK + mu I)W
    L = torch.linalg.cholesky(cost)
    half = torch.linalg.solve_triangular(L, within, upper=False)
    whole = torch.linalg.solve_triangular(L, half.t(), upper=False)
    _, vectors = torch.linalg.eigh((whole + whole.t()) / 2)
    w = torch.linalg.solve_triangular(L.t(), vectors.flip(1)[:, :m], upper=True)
    P: Tensor = V @ (S[:, None] * w)
    return P


class TCA(Projected):
    """`bottleneck` transfer components."""

    def project(self, x_s: Tensor, x_t: Tensor, d: int) -> tuple[Projection, Projection]:
        """One map for both domains."""
        P = transfer_components(x_s, x_t, d)
        part = Projection(P, -torch.cat([x_s, x_t]).mean(dim=0) @ P)
        return part, part
