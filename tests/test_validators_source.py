"""Validators that judge by held-out images of the source, by hand."""

import math

import pytest
import torch
from judged import known, labelled, outputs

from gsda.outputs import Labelled, Outputs
from gsda.validators import source as module
from gsda.validators.source import (
    RIDGE,
    controlled_risk,
    density_ratio,
    dev,
    iwcv,
    reverse,
    source_accuracy,
)

HELD = labelled([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]], [0, 1, 1, 0])
LOSSES = torch.tensor([-math.log(0.9), -math.log(0.8), -math.log(0.4), -math.log(0.5)])


def test_source_accuracy_by_hand() -> None:
    assert source_accuracy(HELD) == 0.75


def test_reverse_by_hand() -> None:
    """The target says that class 0 lies to the right and 1 above; one of three does not fit."""
    directions = torch.tensor([[2.0, 0.1], [0.1, 0.5]])
    target = outputs([[0.9, 0.1], [0.1, 0.9]], directions)
    there = torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.2, 0.1]])
    held = Labelled(there, torch.zeros(3, 2), torch.tensor([0, 1, 1]))
    assert reverse(held, target) == pytest.approx(2 / 3)


def test_a_class_that_is_never_predicted_is_lost_on_the_way_back() -> None:
    at = torch.eye(3).repeat(4, 1)
    labels = torch.arange(3).repeat(4)
    held = Labelled(at, torch.zeros(12, 3), labels)
    whole = outputs(torch.eye(3).repeat(4, 1) * 0.97 + 0.01, at)
    assert reverse(held, whole) == 1.0
    merged = outputs(torch.eye(3)[labels.clamp(max=1)] * 0.97 + 0.01, at)
    assert reverse(held, merged) == pytest.approx(2 / 3)


def test_iwcv_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.tensor([2.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    monkeypatch.setattr(module, "density_ratio", lambda *_: weights)
    expected = -(2 * LOSSES[0] + LOSSES[2] + LOSSES[3]).item() / 4
    given = {n: v for n, v in known(5, 2).items() if n in ("train", "target")}
    assert iwcv(HELD, **given) == pytest.approx(expected)
    assert dev(HELD, **given) == pytest.approx(-controlled_risk(weights, LOSSES.double()).item())


def test_controlled_risk_by_hand() -> None:
    """w = 0, 2 and l = 1, 1: Cov(w l, w) = Var(w) = 2, so eta = -1 and the risk 1 - 1 + 1."""
    w, ones = torch.tensor([0.0, 2.0]), torch.ones(2)
    assert controlled_risk(w, ones).item() == pytest.approx(1.0)
    # l = 1, 3: w l = 0, 6; Cov = 6, eta = -3: 3 - 3 + 3.
    assert controlled_risk(w, torch.tensor([1.0, 3.0])).item() == pytest.approx(3.0)


def test_equal_weights_leave_the_mean_loss() -> None:
    losses = torch.tensor([1.0, 2.0, 6.0])
    assert controlled_risk(torch.ones(3), losses).item() == pytest.approx(3.0)
    assert controlled_risk(torch.ones(1), losses[:1]).item() == pytest.approx(1.0)


def test_the_control_takes_variance_away() -> None:
    """Of a loss that does not depend on the weights, over many draws; the mean stays."""
    dice = torch.Generator().manual_seed(0)
    plain, controlled = [], []
    for _ in range(300):
        w = torch.rand(50, generator=dice).pow(3) * 4  # of mean 1
        losses = 1 + 0.1 * torch.rand(50, generator=dice)
        plain.append((w * losses).mean())
        controlled.append(controlled_risk(w, losses))
    before, after = torch.stack(plain), torch.stack(controlled)
    assert after.std() < before.std() / 5
    assert after.mean().item() == pytest.approx(1.05, abs=0.01)


def test_the_density_ratio_of_shifted_normals(monkeypatch: pytest.MonkeyPatch) -> None:
    """N(1, 1) over N(0, 1) is exp(x - 1/2)."""
    monkeypatch.setattr(module, "RIDGE", 1e-6)
    dice = torch.Generator().manual_seed(0)
    x = torch.randn(40_000, 1, generator=dice)
    none = torch.zeros(40_000, 1)
    at = torch.tensor([[-1.0], [0.0], [1.0], [2.0]])
    held = Labelled(at, torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64))
    train = Labelled(x[:30_000], none[:30_000], none[:30_000, 0].long())
    ratio = density_ratio(held, train, Outputs(x[30_000:] + 1, none[30_000:]))
    expected = torch.exp(at[:, 0] - 0.5).double()
    assert torch.allclose(ratio, expected, rtol=0.15)


def test_the_density_ratio_of_one_distribution_is_one() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    train = Labelled(x, torch.zeros(500, 1), torch.zeros(500, dtype=torch.int64))
    ratio = density_ratio(train, train, Outputs(x, torch.zeros(500, 1)))
    assert torch.allclose(ratio, torch.ones(500, dtype=torch.float64), atol=1e-6)


def test_newton_finds_the_minimum() -> None:
    """The gradient vanishes there, also where the classes can be told apart altogether."""
    dice = torch.Generator().manual_seed(0)
    x = torch.randn(80, 5, generator=dice, dtype=torch.float64)
    for y in ((x[:, 0] > 0).double(), (torch.rand(80, generator=dice) > 0.3).double()):
        w = module._fit_logistic(x, y)
        ridge = torch.tensor([RIDGE] * 4 + [0.0])
        gradient = x.t() @ ((x @ w).sigmoid() - y) / 80 + ridge * w
        assert float(gradient.abs().max()) < 1e-5
