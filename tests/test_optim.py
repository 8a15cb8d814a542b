"""Schedules by hand, and SGD against the reference's."""

import math

import pytest
import reference
import torch
from torch import nn

from gsda.config import Config
from gsda.optim import descend, lr_factor, set_progress, sgd, warm_up


@pytest.mark.parametrize(
    ("p", "expected"), [(0.0, 1.0), (0.5, 6**-0.75), (1.0, 11**-0.75), (1.5, 1 / 8)]
)
def test_the_learning_rate_falls(p: float, expected: float) -> None:
    assert lr_factor(p) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("p", "lambda_max", "expected"),
    [
        (0.0, 1.0, 0.0),
        (math.log(3) / 10, 1.0, 0.5),
        (math.log(3) / 10, 0.2, 0.1),
        (1.0, 1.0, math.tanh(5)),
        (0.7, 0.0, 0.0),
    ],
)
def test_the_adversary_warms_up(p: float, lambda_max: float, expected: float) -> None:
    assert warm_up(p, lambda_max) == pytest.approx(expected)


def test_schedules_are_monotone() -> None:
    progress = [i / 50 for i in range(51)]
    rates = [lr_factor(p) for p in progress]
    strengths = [warm_up(p, 1.0) for p in progress]
    assert rates == sorted(rates, reverse=True)
    assert strengths == sorted(strengths)
    assert len(set(rates)) == len(set(strengths)) == 51


def test_every_group_keeps_its_share_of_the_learning_rate() -> None:
    one, two = nn.Linear(2, 2), nn.Linear(2, 2)
    optimiser = sgd([(list(one.parameters()), 0.1), (list(two.parameters()), 0.01)], Config())
    for p in (0.0, 1.0, 0.5):  # not cumulative
        set_progress(optimiser, p)
        rates = [group["lr"] for group in optimiser.param_groups]
        assert rates == pytest.approx([0.1 * lr_factor(p), 0.01 * lr_factor(p)])


def test_empty_groups_are_left_out() -> None:
    layer = nn.Linear(2, 2)
    optimiser = sgd([([], 0.1), (list(layer.parameters()), 0.01)], Config())
    assert [group["lr"] for group in optimiser.param_groups] == [0.01]


@pytest.mark.parametrize(("momentum", "decay"), [(0.9, 1e-3), (0.5, 0.1), (0.0, 0.0)])
def test_descent_is_sgd_with_nesterov_momentum(momentum: float, decay: float) -> None:
    parameter = nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
    optimiser = sgd([([parameter], 0.05)], Config(momentum=momentum, weight_decay=decay))
    value, velocity = parameter.detach().clone(), torch.zeros(3, dtype=torch.float64)
    for p in (0.0, 0.3, 0.9):
        set_progress(optimiser, p)
        descend(optimiser, parameter.pow(4).sum())
        value, velocity = reference.sgd_nesterov(
            value, 4 * value**3, velocity, 0.05 * lr_factor(p), momentum, decay
        )
        torch.testing.assert_close(parameter.detach(), value, rtol=1e-12, atol=1e-12)


def test_gradients_of_earlier_losses_are_forgotten() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    optimiser = sgd([([parameter], 0.1)], Config(momentum=0.0, weight_decay=0.0))
    (1000 * parameter).sum().backward()
    descend(optimiser, parameter.sum())
    assert parameter.item() == pytest.approx(0.9)
