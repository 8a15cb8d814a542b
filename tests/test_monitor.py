"""What the predictions look like: coverage and collapse, by hand."""

import math

import pytest
import torch

from gsda.collapse import describe_collapse
from gsda.monitor import metric_names, summarise_predictions

P = torch.tensor(
    [
        [0.9, 0.1, 0.0],
        [0.6, 0.3, 0.1],
        [0.8, 0.1, 0.1],
        [0.2, 0.5, 0.3],
    ],
    dtype=torch.float64,
)


def test_summary_by_hand() -> None:
    metrics = summarise_predictions(P, 0.8, ["mug", "desk lamp", "pen"])
    effective = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert metrics == pytest.approx(
        {
            "coverage/all": 0.5,
            "coverage/0_mug": 2 / 3,
            "coverage/1_desk_lamp": 0.0,
            "predicted/0_mug": 0.75,
            "predicted/1_desk_lamp": 0.25,
            "predicted/2_pen": 0.0,
            "predicted/effective_classes": effective,
        }
    )
    assert all(type(value) is float for value in metrics.values())


@pytest.mark.parametrize("r", [1, 2, 5, 31])
def test_effective_classes_run_from_one_to_all(r: int) -> None:
    names = [str(k) for k in range(r)]
    spread = summarise_predictions(torch.eye(r).repeat(3, 1), 0.9, names)
    alone = summarise_predictions(torch.eye(r)[:1].repeat(7, 1), 0.9, names)
    assert spread["predicted/effective_classes"] == pytest.approx(r)
    assert alone["predicted/effective_classes"] == pytest.approx(1.0)
    assert spread["coverage/all"] == 1.0


@pytest.mark.parametrize(("tau", "share"), [(0.0, 1.0), (0.6, 0.75), (0.61, 0.5), (0.95, 0.0)])
def test_coverage_is_the_share_that_reaches_tau(tau: float, share: float) -> None:
    assert summarise_predictions(P, tau, ["a", "b", "c"])["coverage/all"] == share


def test_names_are_numbered_unique_and_fit_for_metrics() -> None:
    assert metric_names(["a", "a", "é/x y", "desk_lamp-2.0"]) == [
        "0_a",
        "1_a",
        "2___x_y",
        "3_desk_lamp-2.0",
    ]
    many = metric_names(["&"] * 31)
    assert many[0] == "00__"
    assert many[30] == "30__"
    assert len(set(many)) == 31
    assert sorted(many) == many


def test_a_collapse_is_described_and_a_spread_is_not() -> None:
    sentence = describe_collapse({"predicted/effective_classes": 2.345}, 31)
    assert sentence is not None
    assert "about 2.3 of 31 classes" in sentence
    assert describe_collapse({"predicted/effective_classes": 15.4}, 31) is not None
    assert describe_collapse({"predicted/effective_classes": 16.0}, 31) is None
    assert describe_collapse({"predicted/effective_classes": 30.0}, 31) is None


def test_nothing_is_said_where_nothing_is_known_or_can_collapse() -> None:
    assert describe_collapse({}, 31) is None
    assert describe_collapse({"predicted/effective_classes": 1.0}, 1) is None


@pytest.mark.parametrize("r", [2, 3, 31])
def test_predictions_of_one_class_alone_are_a_collapse(r: int) -> None:
    names = [str(k) for k in range(r)]
    metrics = summarise_predictions(torch.eye(r)[:1].repeat(7, 1), 0.9, names)
    assert describe_collapse(metrics, r) is not None
