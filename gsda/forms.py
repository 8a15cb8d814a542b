"""All discriminators at once: the full rectangle of samples and discriminators, or its pairs.

Both forms give the same numbers (to rounding) from `gsda.kernels`, each discriminator's gradients
written straight into its slice of the batched gradients.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gsda.kernels import Layers, Trace, Wanted, differentiate, evaluate
from gsda.pairs import Pairs

Spare = dict[int, Tensor]


class Dense(torch.autograd.Function):
    """Every sample at every discriminator, in batched products: few launches, and no waiting."""

    @staticmethod
    def forward(
        ctx: Any, wanted: Wanted, spare: Spare, f: Tensor, *layers: Tensor
    ) -> tuple[Tensor, Tensor]:
        """z and g, (N, K) each, of f (N, d)."""
        z, g, ctx.trace = evaluate(_to_each(f, len(layers[0])), Layers(*layers), wanted)
        _keep(ctx, wanted, spare, f, layers)
        return z.t(), g.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor, dg: Tensor) -> tuple[Any, ...]:
        """From (N, K) each to what is wanted of the gradients of f and of the layers."""
        (f,) = ctx.saved_tensors
        df: Tensor | None = None
        out: Sequence[Tensor | None] = [None] * len(Layers._fields)
        if ctx.wanted.at_samples:
            df = torch.einsum("nk,knd->nd", dz, ctx.trace.J)
        if ctx.wanted.of_layers:
            out = layers = _take(ctx.spare, ctx.shapes, f)
            X = _to_each(f, len(layers.b3))
            differentiate(X, ctx.trace, dz.t().contiguous(), dg.t().contiguous(), layers)
        return None, None, df, *out


class Sparse(torch.autograd.Function):
    """The listed pairs only, one discriminator after the other: its weights are read once."""

    @staticmethod
    def forward(
        ctx: Any, pairs: Pairs, wanted: Wanted, spare: Spare, f: Tensor, *layers: Tensor
    ) -> tuple[Tensor, Tensor]:
        """z and g, (N, K) each, of f (N, d); 0 at the pairs that are not listed."""
        X = f[pairs.sample]
        z, g, ctx.traces = _evaluate_each(X, pairs, layers, wanted)
        ctx.pairs = pairs
        _keep(ctx, wanted, spare, X, layers)
        shape = (len(f), len(pairs.counts))
        return _spread(z, pairs, shape), _spread(g, pairs, shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor, dg: Tensor) -> tuple[Any, ...]:
        """From (N, K) each to what is wanted of the gradients of f and of the layers."""
        (X,) = ctx.saved_tensors
        pairs, n_samples = ctx.pairs, len(dz)
        dz, dg = (given[pairs.sample, pairs.discriminator] for given in (dz, dg))
        df: Tensor | None = None
        out: Sequence[Tensor | None] = [None] * len(Layers._fields)
        if ctx.wanted.at_samples:
            J = [X[:0], *(trace.J for trace in ctx.traces if trace.J is not None)]
            df = _sum_by_sample(torch.cat(J), dz, pairs, n_samples)
        if ctx.wanted.of_layers:
            out = layers = _take(ctx.spare, ctx.shapes, X)
            _differentiate_each(X, pairs, ctx.traces, dz, dg, layers)
        return None, None, None, df, *out


def _keep(
    ctx: Any, wanted: Wanted, spare: Spare, samples: Tensor, layers: tuple[Tensor, ...]
) -> None:
    ctx.wanted, ctx.spare = wanted, spare
    ctx.shapes = [layer.shape for layer in layers]
    ctx.save_for_backward(samples)


def _to_each(f: Tensor, K: int) -> Tensor:
    """(N, d) -> (K, N, d), without a copy."""
    return f.expand(K, *f.shape)


def _take(spare: Spare, shapes: Sequence[torch.Size], like: Tensor) -> Layers:
    """Room for the gradients, over those of an earlier step where they fit."""
    return Layers(*(_room(spare.pop(i, None), shape, like) for i, shape in enumerate(shapes)))


def _room(used: Tensor | None, shape: torch.Size, like: Tensor) -> Tensor:
    fits = used is not None and used.shape == shape
    if used is not None and fits and used.dtype == like.dtype and used.device == like.device:
        return used
    return like.new_empty(shape)


def _evaluate_each(
    X: Tensor, pairs: Pairs, layers: Sequence[Tensor], wanted: Wanted
) -> tuple[Tensor, Tensor, list[Trace]]:
    """z (P,), g (P,) and a trace for each discriminator, of the pairs' samples X (P, d)."""
    z, g, traces = [X.new_empty(0)], [X.new_empty(0)], []
    parts = torch.split_with_sizes(X, pairs.counts)
    for part, *one in zip(parts, *(layer.unbind() for layer in layers), strict=True):
        trace = Trace()
        if len(part):
            z_k, g_k, trace = evaluate(part, Layers(*one), wanted)
            z.append(z_k)
            g.append(g_k)
        traces.append(trace)
    return torch.cat(z), torch.cat(g), traces


def _differentiate_each(
    X: Tensor, pairs: Pairs, traces: Sequence[Trace], dz: Tensor, dg: Tensor, out: Layers
) -> None:
    """Fill `out`, each discriminator's part from its own pairs; zeros where it has none."""
    parts = (torch.split_with_sizes(given, pairs.counts) for given in (X, dz, dg))
    into = zip(*(layer.unbind() for layer in out), strict=True)
    for trace, part, dz_k, dg_k, one in zip(traces, *parts, into, strict=True):
        if len(part):
            differentiate(part, trace, dz_k, dg_k, Layers(*one))
        else:
            for gradient in one:
                gradient.zero_()


def _spread(values: Tensor, pairs: Pairs, shape: tuple[int, int]) -> Tensor:
    """(P,) -> (N, K), 0 where there is no pair."""
    full = values.new_zeros(shape)
    full[pairs.sample, pairs.discriminator] = values
    return full


def _sum_by_sample(J: Tensor, dz: Tensor, pairs: Pairs, n_samples: int) -> Tensor:
    """(N, d) sums of dz J over each sample's pairs; a product, so that their order is fixed."""
    by_pair = dz.new_zeros(n_samples, len(dz))
    by_pair[pairs.sample, torch.arange(len(dz), device=dz.device)] = dz
    return by_pair @ J
