"""Discriminators of domains, and the reversal of their gradients."""

from typing import Any

import torch
from torch import Tensor, nn

from gsda import losses


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, lam: float) -> Tensor:
        ctx.lam = lam
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return -ctx.lam * gradient, None


def reverse(x: Tensor, lam: float) -> Tensor:
    """x forwards, -lam times the gradient backwards (Ganin et al., JMLR 2016, section 4.2).

    With it one descent of a domain loss is D's descent of it and E's ascent, lam times as steep.
    """
    reversed_: Tensor = _Reverse.apply(x, lam)
    return reversed_


def discriminator(width: int, hidden: int) -> nn.Sequential:
    """width - hidden - hidden - 1 with ReLU, as a discriminator of GSDA: (N, width) -> (N, 1)."""
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 1),
    )


def domain_loss(z: Tensor, n_source: int, shares: Tensor) -> Tensor:
    """Cross entropy of domain logits against 1 for source and 0 for target.

    Args:
        z: (N, K) logits, source first. shares: (N, 1) or (N, K) weight of each sample.

    Returns:
        () sum over samples and discriminators.
    """
    d = losses.domain_labels(n_source, len(z) - n_source, z)
    return losses.alignment(z, d, torch.ones_like(z), shares).sum()


class Discriminators(nn.Module):
    """K networks width - hidden - hidden - 1 with ReLU, each with an input of its own.

    Those of `gsda.discriminators` have one input in common.
    """

    def __init__(self, n_discriminators: int, width: int, hidden: int) -> None:
        super().__init__()
        K, h = n_discriminators, hidden
        for layer, (fan_in, fan_out) in enumerate([(width, h), (h, h), (h, 1)], start=1):
            bound = fan_in**-0.5
            weight = torch.empty(K, fan_in, fan_out).uniform_(-bound, bound)
            self.register_parameter(f"W{layer}", nn.Parameter(weight))
            bias = torch.empty(K, 1, fan_out).uniform_(-bound, bound)
            self.register_parameter(f"b{layer}", nn.Parameter(bias))

    def forward(self, x: Tensor) -> Tensor:
        """(K, N, width) -> (N, K) logits."""
        h = torch.relu(torch.baddbmm(self.get_parameter("b1"), x, self.get_parameter("W1")))
        h = torch.relu(torch.baddbmm(self.get_parameter("b2"), h, self.get_parameter("W2")))
        z = torch.baddbmm(self.get_parameter("b3"), h, self.get_parameter("W3"))
        return z.squeeze(-1).t()
