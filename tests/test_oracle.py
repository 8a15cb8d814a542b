"""What target labels say of pseudo labels, and that nobody learns from it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scene import small_config
from test_run import TASK, flat

from gsda import losses
from gsda.data.domain import Domain, Pair
from gsda.data.load import DataSpec, load_domains
from gsda.oracle import Oracle
from gsda.run import Run


@pytest.fixture
def domains(cache: Path) -> tuple[Domain, Domain]:
    return load_domains(TASK, DataSpec(None, cache, 32))


def judged(labels: list[int], pseudo: list[int]) -> dict[str, float]:
    target = Domain("right", None, np.array(labels), ("a", "b", "c"))  # type: ignore[arg-type]
    return Oracle(target).judge(torch.tensor(pseudo))


def test_precision_is_the_share_of_given_labels_that_are_right() -> None:
    assert judged([0, 1, 2, 2], [0, 1, -1, 1]) == {"oracle/pseudo_precision": 2 / 3}
    assert judged([0, -1, 2], [0, 1, -1]) == {"oracle/pseudo_precision": 1.0}


def test_without_any_there_is_nothing_to_tell() -> None:
    assert judged([0, 1], [-1, -1]) == {}
    assert judged([-1, -1], [0, 1]) == {}


def test_what_is_watched_changes_no_number_of_the_training(
    domains: tuple[Domain, Domain],
) -> None:
    """Coverage, precision and magnitudes are read off; without them the run is the same."""
    source, target = domains
    config = small_config(tau=0.05, steps=4, target_sampling="pseudo")
    pair = Pair(source, target.images)
    watched = Run(TASK, config, pair, Oracle(target))
    blind = Run(TASK, config, pair)
    for _ in range(2):
        losses, same = watched.step(2), blind.step(2)
        assert losses == same
        assert {f"magnitude/D_{level}" for level in ("dom", "grp", "cls")} < set(losses)
        metrics, fewer = watched.evaluate(), blind.evaluate()
        assert 0 < metrics["coverage/all"] <= 1
        assert 0 <= metrics["oracle/pseudo_precision"] <= 1
        assert {n: v for n, v in metrics.items() if not n.startswith("oracle/")} == fewer
    assert flat(watched.state_dict()) == flat(blind.state_dict())


def test_magnitudes_are_logged_and_change_nothing(
    domains: tuple[Domain, Domain], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update that logs nothing leaves the same networks behind."""
    source, target = domains
    pair, config = Pair(source, target.images), small_config(tau=0.05, steps=3)
    logging = Run(TASK, config, pair)
    silent = Run(TASK, config, pair)
    logging.step(3)
    monkeypatch.setattr("gsda.methods.gsda.losses.by_level", _without_detached)
    silent.step(3)
    assert flat(logging.state_dict()) == flat(silent.state_dict())


_by_level = losses.by_level


def _without_detached(values: torch.Tensor, layout: object) -> dict[str, torch.Tensor]:
    """The sums that are trained on, and none of those that are only logged."""
    return _by_level(values, layout) if values.requires_grad else {}
