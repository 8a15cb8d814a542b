"""Optimisers and schedules: what the recipes of the field agree on where the paper is silent."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from gsda.config import Config

LR_GAIN, LR_POWER = 10.0, 0.75
WARM_UP_GAIN = 10.0


def lr_factor(p: float) -> float:
    """(1 + 10 p)^-0.75 at progress p in [0, 1] (Ganin et al., JMLR 2016)."""
    return float((1 + LR_GAIN * p) ** -LR_POWER)


def warm_up(p: float, lambda_max: float) -> float:
    """lambda(p) = lambda_max (2 / (1 + exp(-10 p)) - 1): from 0 to nearly lambda_max."""
    return lambda_max * (2 / (1 + math.exp(-WARM_UP_GAIN * p)) - 1)


def sgd(groups: Iterable[tuple[list[nn.Parameter], float]], config: Config) -> torch.optim.SGD:
    """SGD with Nesterov momentum over (parameters, learning rate at progress 0)."""
    return torch.optim.SGD(
        [{"params": params, "lr": lr, "lr_start": lr} for params, lr in groups if params],
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.momentum > 0,
        fused=True,
    )


def set_progress(optimiser: torch.optim.Optimizer, p: float) -> None:
    """Bring every learning rate to progress p."""
    for group in optimiser.param_groups:
        group["lr"] = group["lr_start"] * lr_factor(p)


def descend(optimiser: torch.optim.Optimizer, objective: torch.Tensor) -> None:
    """One step on the gradient of a scalar."""
    optimiser.zero_grad(set_to_none=True)
    objective.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
