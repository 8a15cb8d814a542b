"""What each setting switches off, and that every setting tells."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_gsda_method import BATCHES, CONFIG, batch, differing, make, snapshot, train
from torch import Tensor

from gsda.config import LEVELS

STRANGE = [(x_s, y_s, torch.full_like(x_t, torch.nan)) for x_s, y_s, x_t in BATCHES]


@pytest.mark.parametrize("passes", ["separate", "shared"])
def test_source_only_does_not_look_at_the_target(passes: str) -> None:
    config = replace(CONFIG, levels=(), alpha=0.0, passes=passes)
    usual, strange = train(config, BATCHES), train(config, STRANGE)
    assert differing(snapshot(usual.network), snapshot(strange.network)) == set()
    assert all(bool(torch.isfinite(v).all()) for v in strange.network.state_dict().values())
    assert usual.update(*batch(), 0.5).keys() == {"loss/C"}
    assert usual.optimiser_D.state_dict()["state"] == {}


def test_alpha_alone_looks_at_the_target() -> None:
    config = replace(CONFIG, levels=())
    usual = train(config, BATCHES)
    other = train(config, [(x_s, y_s, -x_t) for x_s, y_s, x_t in BATCHES])
    assert "C.weight" in differing(snapshot(usual.network), snapshot(other.network))


def test_source_only_is_plain_supervised_training() -> None:
    config = replace(CONFIG, levels=(), alpha=0.0)
    method, network = train(config, BATCHES), make(config).network
    new = [*network.E.get_submodule("bottleneck").parameters(), *network.C.parameters()]
    trunk = list(network.E.get_submodule("backbone").parameters())
    network.train()
    optimiser = torch.optim.SGD(
        [{"params": new, "weight": 1.0}, {"params": trunk, "weight": 0.1}],
        lr=0.02,
        momentum=0.9,
        weight_decay=1e-3,
        nesterov=True,
    )
    for i, (x_s, y_s, _) in enumerate(BATCHES):
        for group in optimiser.param_groups:
            group["lr"] = group["weight"] * 0.02 * (1 + 10 * (i + 1) / 4) ** -0.75
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(x_s)[1], y_s).backward()
        optimiser.step()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(method.network.state_dict()[name], value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("level", LEVELS)
def test_beta_means_nothing_to_a_single_level(level: str) -> None:
    config = replace(CONFIG, levels=(level,))
    with_beta = train(replace(config, beta=1.0), BATCHES)
    without = train(replace(config, beta=0.0), BATCHES)
    assert differing(snapshot(with_beta.network), snapshot(without.network)) == set()
    assert differing(snapshot(with_beta.D), snapshot(without.D)) == set()


@pytest.fixture(scope="module")
def usual() -> dict[str, Tensor]:
    """The weights that training without any change leaves."""
    return snapshot(train(CONFIG, BATCHES).network)


@pytest.mark.parametrize(
    "change",
    [
        {"beta": 0.0},
        {"alpha": 0.0},
        {"tau": 0.0},
        {"lambda_max": 0.5},
        {"levels": ("dom", "cls")},
        {"passes": "shared"},
        {"group_seed": 4},
        {"n_groups": 4},
        {"sync": "sample"},
        {"epsilon": 0.5},
        {"seed": 2},
    ],
    ids=str,
)
def test_every_setting_tells(change: dict[str, Any], usual: dict[str, Tensor]) -> None:
    changed = snapshot(train(replace(CONFIG, **change), BATCHES).network)
    gap = max(float((usual[name] - changed[name]).abs().max()) for name in usual)
    assert gap > 1e-6


def test_without_adversarial_strength_E_does_not_feel_D() -> None:
    silent = train(replace(CONFIG, lambda_max=0.0), BATCHES)
    alone = train(replace(CONFIG, levels=()), BATCHES)
    for name, value in alone.network.state_dict().items():
        torch.testing.assert_close(silent.network.state_dict()[name], value, rtol=0, atol=1e-14)
    untrained = make(replace(CONFIG, lambda_max=0.0))
    assert len(differing(snapshot(untrained.D), snapshot(silent.D))) == 6


def test_the_warm_up_starts_at_nothing() -> None:
    at_start, alone = make(), make(replace(CONFIG, levels=()))
    at_start.update(*batch(), 0.0)
    alone.update(*batch(), 0.0)
    for name, value in alone.network.state_dict().items():
        torch.testing.assert_close(at_start.network.state_dict()[name], value, rtol=0, atol=1e-14)
