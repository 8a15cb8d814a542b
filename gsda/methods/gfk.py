"""GFK: all subspaces on the geodesic from the source's to the target's, at once.

Gong, Shi, Sha and Grauman, "Geodesic Flow Kernel for Unsupervised Domain Adaptation", CVPR 2012.
"""

import torch
from torch import Tensor

from gsda.methods.projection import Projected, Projection


def principal_subspace(x: Tensor, q: int) -> Tensor:
    """(width, q') orthonormal directions of largest variance of x (N, width), q' <= q."""
    _, S, Vh = torch.linalg.svd(x - x.mean(dim=0), full_matrices=False)
    rank = int((1e-6 * S[0] < S).sum())
    basis: Tensor = Vh[: min(q, rank)].t()
    return basis


def geodesic_map(P_s: Tensor, P_t: Tensor) -> Tensor:
    """(width, 2 q) map M with M M' = G, the geodesic flow kernel.

    Each principal angle theta spans a plane, of a direction u in the source's subspace and v
    orthogonal to it; the flow in it is u cos(t theta) + v sin(t theta), and G its mean square over
    t in [0, 1]: a 2 x 2 matrix, of which this takes the Cholesky factor.

    Args:
        P_s, P_t: (width, q) orthonormal bases.
    """
    U, cosines, Vh = torch.linalg.svd(P_s.t() @ P_t)
    theta = torch.arccos(cosines.clamp(-1.0, 1.0))
    u = P_s @ U
    v = P_t @ Vh.t() - u * cosines
    v = v / torch.linalg.vector_norm(v, dim=0).clamp(min=1e-12)
    half = torch.sinc(2 * theta / torch.pi)  # sin(2 theta) / (2 theta)
    a, b = (1 + half) / 2, (1 - half) / 2
    c = torch.sin(theta) * torch.sinc(theta / torch.pi) / 2  # (1 - cos(2 theta)) / (4 theta)
    first = a.sqrt()
    second = (b - (c / first).square()).clamp(min=0.0).sqrt()
    return torch.cat([u * first + v * (c / first), v * second], dim=1)


class GFK(Projected):
    """Subspaces of half of `bottleneck` dimensions; features standardised in each domain."""

    def project(self, x_s: Tensor, x_t: Tensor, d: int) -> tuple[Projection, Projection]:
        """The same map behind each domain's own standardisation, as in the authors' protocol."""
        moments = [(x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)) for x in (x_s, x_t)]
        standard = [(x - mean) / std for x, (mean, std) in zip((x_s, x_t), moments, strict=True)]
        q = min(max(d // 2, 1), x_s.shape[1] // 2)
        bases = [principal_subspace(z, q) for z in standard]
        q = min(basis.shape[1] for basis in bases)
        M = geodesic_map(*(basis[:, :q] for basis in bases))[:, :d]
        source, target = (Projection(M / std[:, None], -(mean / std) @ M) for mean, std in moments)
        return source, target
