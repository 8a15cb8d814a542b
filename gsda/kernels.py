"""What a discriminator computes, forward and backward, written out by hand.

For the samples X (n, d) that one discriminator meets, with m1 and m2 the 0/1 masks of its ReLUs,
constant almost everywhere (design: closed form of the magnitudes in Eq. 10 and 11):

    h1 = relu(X W1' + b1)    h2 = relu(h1 W2' + b2)    z = h2 w3 + b3
    u2 = m2 w3               u1 = m1 (u2 W2)           J = u1 W1             g = ||J||

and from dz = dL/dz and dg = dL/dg, with e = J / g, v1 = m1 (e W1') and v2 = m2 (v1 W2'):

    dL/dW1 = u1' (dz X + dg e)     dL/db1 = u1' dz                dL/dX = dz J
    dL/dW2 = u2' (dz h1 + dg v1)   dL/db2 = u2' dz
    dL/dw3 = h2' dz + v2' dg       dL/db3 = sum dz

Autograd takes six products with each of W1 and W2, or of their sizes; these are four of each,
because z and J share u1 and u2. Six of the eight need no dz or dg, so they run in the forward pass
while the matrix is in the cache, and the backward pass reads no weight at all.

Every function takes one discriminator, (n, d) samples and (h, d) weights, or a batch of them with
a leading dimension K everywhere.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Layers(NamedTuple):
    """Parameters, or their gradients: W1 (.., h, d), b1 (.., h), W2 (.., h, h), b2, w3 (.., h),
    b3 (..).
    """

    W1: Tensor
    b1: Tensor
    W2: Tensor
    b2: Tensor
    w3: Tensor
    b3: Tensor


class Wanted(NamedTuple):
    """What is asked for: the magnitudes g, gradients at the samples, gradients of the layers."""

    magnitude: bool
    at_samples: bool
    of_layers: bool


class OfZ(NamedTuple):
    """What the derivative of z by the layers is made of."""

    h1: Tensor
    h2: Tensor
    u1: Tensor
    u2: Tensor


class OfG(NamedTuple):
    """What the derivative of g by the layers is made of, beside u1 and u2."""

    e: Tensor
    v1: Tensor
    v2: Tensor


class Trace(NamedTuple):
    """What the backward pass needs; None where nobody wants it."""

    J: Tensor | None = None
    of_z: OfZ | None = None
    of_g: OfG | None = None


def evaluate(X: Tensor, layers: Layers, wanted: Wanted) -> tuple[Tensor, Tensor, Trace]:
    """z (.., n), g (.., n) and a trace; g is zeros where it is not wanted."""
    h1 = _layer(X, layers.W1, layers.b1)
    h2 = _layer(h1, layers.W2, layers.b2)
    z = (h2 @ layers.w3[..., None]).squeeze(-1) + layers.b3[..., None]
    if not any(wanted):
        return z, torch.zeros_like(z), Trace()
    u2 = _masked(layers.w3[..., None, :].expand_as(h2), h2)
    u1 = _masked(_times(u2, layers.W2), h1)
    of_z = OfZ(h1, h2, u1, u2) if wanted.of_layers else None
    if not (wanted.magnitude or wanted.at_samples):
        return z, torch.zeros_like(z), Trace(of_z=of_z)
    J = _times(u1, layers.W1)
    # vector_norm, and not sqrt(sum of squares): the root of 0 would need care.
    g = torch.linalg.vector_norm(J, dim=-1) if wanted.magnitude else torch.zeros_like(z)
    of_g = _trace_norm(J, g, h1, h2, layers) if of_z and wanted.magnitude else None
    return z, g, Trace(J if wanted.at_samples else None, of_z, of_g)


def _trace_norm(J: Tensor, g: Tensor, h1: Tensor, h2: Tensor, layers: Layers) -> OfG:
    # The subgradient of the norm at 0 is taken to be 0, as vector_norm's is.
    e = J / torch.where(g > 0, g, 1.0)[..., None]
    v1 = _masked(_times(e, layers.W1.mT), h1)
    return OfG(e, v1, _masked(_times(v1, layers.W2.mT), h2))


def differentiate(X: Tensor, trace: Trace, dz: Tensor, dg: Tensor, out: Layers) -> None:
    """Write the gradients of the layers, summed over the samples, into `out`.

    Args:
        trace: of an evaluation that wanted them.
        dz, dg: (.., n) derivatives of the objective; dg is not looked at without magnitudes.
    """
    assert trace.of_z is not None
    h1, h2, u1, u2 = trace.of_z
    row, column = dz[..., None, :], dz[..., None]
    at_X, at_h1, dw3 = column * X, column * h1, row @ h2
    if trace.of_g is not None:
        e, v1, v2 = trace.of_g
        at_X.addcmul_(dg[..., None], e)
        at_h1.addcmul_(dg[..., None], v1)
        dw3 += dg[..., None, :] @ v2
    torch.matmul(u1.mT, at_X, out=out.W1)
    torch.matmul(u2.mT, at_h1, out=out.W2)
    out.b1.copy_((row @ u1).squeeze(-2))
    out.b2.copy_((row @ u2).squeeze(-2))
    out.w3.copy_(dw3.squeeze(-2))
    torch.sum(dz, dim=-1, out=out.b3)


def _layer(X: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """relu(X W' + b)."""
    if _narrow(X):
        hidden: Tensor = torch.ops.mkldnn._linear_pointwise(X, W, b, "relu", [], "")
        return hidden
    return (X @ W.mT).add_(b[..., None, :]).relu_()


def _times(X: Tensor, W: Tensor) -> Tensor:
    """X W."""
    if _narrow(X):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(X, W.mT, None, "none", [], "")
        return product
    return X @ W


_HAS_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _narrow(X: Tensor) -> bool:
    """Whether oneDNN takes the product with a weight matrix.

    A discriminator meets some tens of samples: on so few rows oneDNN, which torch keeps for its
    compiler, does a product in about 0.6 of the time of the BLAS behind `@` (docs/speed.md).
    """
    return _HAS_ONEDNN and X.device.type == "cpu" and X.dtype == torch.float32 and X.dim() == 2


def _masked(values: Tensor, hidden: Tensor) -> Tensor:
    """`values` where the ReLU that gave `hidden` is on, else 0: one kernel, and no mask kept."""
    kept: Tensor = torch.ops.aten.threshold_backward(values, hidden, 0)
    return kept
