"""Maximum mean discrepancy with sums of Gaussian kernels.

Gretton et al., "Optimal kernel choice for large-scale two-sample tests", NIPS 2012; as DAN, RTN
and JAN use it: bandwidths around the mean squared distance within the batch.
"""

import torch
from torch import Tensor

# Factors of the mean squared distance: five kernels, DAN and JAN's usual choice.
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)


def squared_distances(x: Tensor) -> Tensor:
    """(N, N) of || x_i - x_j ||^2 for x (N, d)."""
    return from_gram(x @ x.t())


def from_gram(gram: Tensor) -> Tensor:
    """Squared distances (N, N) from inner products (N, N)."""
    norms = gram.diagonal()
    return (norms[:, None] + norms[None, :] - 2 * gram).clamp(min=0.0)


def gaussian(distances: Tensor, scales: tuple[float, ...] = SCALES) -> Tensor:
    """Sum over the scales of exp(-distance / (scale x mean distance)), (N, N).

    The mean, over pairs of distinct samples, is a constant to the gradient.
    """
    n = len(distances)
    mean = distances.detach().sum() / max(n * (n - 1), 1)
    unit = distances / mean.clamp(min=torch.finfo(mean.dtype).tiny)
    return sum((torch.exp(-unit / s) for s in scales), start=torch.zeros_like(unit))


def mmd(kernel: Tensor, n_source: int) -> Tensor:
    """Squared MMD by the unbiased estimate: () of a kernel (N, N), below 0 at times.

    || mean over source of phi - mean over target of phi ||^2 in the kernel's space, without the
    pairs of a sample with itself: with them the descent would contract small batches to a point.
    """
    k_ss, k_tt = kernel[:n_source, :n_source], kernel[n_source:, n_source:]
    return _of_distinct(k_ss) + _of_distinct(k_tt) - 2 * kernel[:n_source, n_source:].mean()


def _of_distinct(kernel: Tensor) -> Tensor:
    n = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))
