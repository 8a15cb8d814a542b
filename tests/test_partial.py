"""Class weights of partial tasks."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gsda import losses
from gsda.checkpoint import load_bytes, to_bytes
from gsda.config import Config, source_only
from gsda.data.domain import Pair
from gsda.data.load import DataSpec, load_domains
from gsda.methods.gsda import GSDA
from gsda.model import build_network
from gsda.partial import class_weights, importance, weigh_source
from gsda.recipes import recommend
from gsda.run import Run
from gsda.tasks import Task


def test_class_weights_by_hand() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2], [0.7, 0.1, 0.2]], dtype=torch.float64)
    assert torch.allclose(class_weights(p), torch.tensor([1.0, 1 / 3, 1 / 3]))


def test_importance_follows_the_label() -> None:
    weights = torch.tensor([1.0, 0.5, 0.0])
    found = importance(weights, torch.tensor([2, 0, 1, 1]))
    assert found is not None
    assert found.tolist() == [0.0, 1.0, 0.5, 0.5]
    assert importance(None, torch.tensor([0])) is None


def test_shares_of_the_target_stay() -> None:
    shares = losses.sample_shares(2, 3, torch.zeros(1))
    weighed = weigh_source(shares, torch.tensor([0.5, 0.0]))
    assert torch.allclose(weighed[:, 0], torch.tensor([0.125, 0.0, 1 / 6, 1 / 6, 1 / 6]))
    assert weigh_source(shares, None) is shares


def test_classification_is_the_weighted_mean() -> None:
    logits, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    each = torch.nn.functional.cross_entropy(logits, y, reduction="none")
    weights = torch.tensor([1.0, 0.5, 0.0, 1.0])
    weighted = losses.source_classification(logits, y, weights)
    assert torch.allclose(weighted, (weights * each).sum() / 4)
    ones = losses.source_classification(logits, y, torch.ones(4))
    assert torch.allclose(ones, losses.source_classification(logits, y))


CONFIG = Config(backbone="cnn", weights="none", bottleneck=8, hidden=8, n_groups=2, tau=0.0)


def trained(config: Config, weights: torch.Tensor | None, y_s: torch.Tensor) -> dict:
    """The network after one update on fixed images."""
    method = GSDA(build_network("cnn", 4, 8, seed=0), config, 4)
    method.class_weights = weights
    generator = torch.Generator().manual_seed(0)
    x_s, x_t = (torch.randn(8, 3, 32, 32, generator=generator) for _ in range(2))
    method.update(x_s, y_s, x_t, 0.5)
    return {k: v for k, v in method.state_dict()["network"].items() if v.is_floating_point()}


@pytest.mark.parametrize("config", [CONFIG, source_only(CONFIG)], ids=["gsda", "source-only"])
def test_ones_change_nothing_and_others_do(config: Config) -> None:
    y_s = torch.arange(8) % 4
    plain, ones, other = (
        trained(config, weights, y_s)
        for weights in (None, torch.ones(4), torch.tensor([1.0, 0.1, 0.1, 0.1]))
    )
    for name, value in plain.items():
        assert torch.allclose(ones[name], value, atol=1e-6), name
    assert any(not torch.allclose(other[name], value, atol=1e-6) for name, value in plain.items())


def test_an_outlier_class_of_weight_zero_is_not_aligned() -> None:
    """With all source samples of weight 0, D_dom learns of the target alone."""
    y_s = torch.ones(8, dtype=torch.long)
    method = GSDA(build_network("cnn", 4, 8, seed=0), replace(CONFIG, levels=("dom",)), 4)
    method.class_weights = torch.tensor([1.0, 0.0, 0.0, 0.0])
    stage = method._set_stage(y_s, torch.randn(16, 4))
    assert stage is not None
    assert stage.shares[:8].abs().sum() == 0
    assert stage.shares[8:].sum() == pytest.approx(0.5)


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory):
    task = Task.parse("glyph31-partial/W2D")
    return task, load_domains(task, DataSpec(None, tmp_path_factory.mktemp("cache"), 32))


def test_glyph31_partial_keeps_ten_letters(partial) -> None:
    _, (source, target) = partial
    assert len(source.classes) == len(target.classes) == 31
    assert set(source.labels.tolist()) == set(range(31))
    assert set(target.labels.tolist()) == set(range(10))
    assert (len(source), len(target)) == (795, 162)


def test_weights_are_refreshed_at_evaluations_and_resumed(partial) -> None:
    task, (source, target) = partial
    config = recommend(task, 31, class_weighting="pada", steps=8, evaluate_every=4)
    pair = Pair(source, target.images)
    whole, first, second = (Run(task, config, pair) for _ in range(3))
    assert whole.method.class_weights is None
    for run in (whole, first):
        run.step(4)
        run.evaluate()
    weights = whole.method.class_weights
    assert weights is not None
    assert weights.max() == 1
    assert torch.allclose(weights, class_weights(whole.predict(target.images).p))
    second.load_state_dict(load_bytes(to_bytes(first.state_dict()), "state"))
    for run in (whole, second):
        run.step(4)
    a, b = (run.predict(target.images).logits for run in (whole, second))
    assert torch.equal(a, b)


def test_without_the_option_classes_count_alike(partial) -> None:
    task, (source, target) = partial
    run = Run(task, recommend(task, 31, steps=2, evaluate_every=1), Pair(source, target.images))
    run.step(1)
    run.evaluate()
    assert run.method.class_weights is None


def test_folders_are_not_needed_for_the_partial_glyphs(tmp_path: Path) -> None:
    from gsda.errors import BadInput

    spec = DataSpec(tmp_path, tmp_path, 32)
    with pytest.raises(BadInput, match=r"^glyph31-partial is built in: leave out --data"):
        load_domains(Task.parse("glyph31-partial/W2D"), spec)
