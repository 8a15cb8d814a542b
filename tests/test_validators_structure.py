"""Validators of features, classifier and mixtures by hand."""

import math

import pytest
import torch
from torch import Tensor

from gsda.outputs import Mixed, Outputs
from gsda.validators.structure import (
    adjusted_mutual_information,
    class_ami,
    guarded_ami,
    hopkins,
    mixval,
    nonuniformity,
    transfer_score,
)

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
CORNERS = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])


def judged(features: Tensor, predicted: Tensor, r: int) -> Outputs:
    """A model that is sure of `predicted`."""
    return Outputs(features, 20.0 * torch.nn.functional.one_hot(predicted, r).float())


def clusters(labels: Tensor, width: float = 0.1) -> Tensor:
    dice = torch.Generator().manual_seed(0)
    return CORNERS[labels] + width * torch.randn(len(labels), 2, generator=dice)


def test_classes_that_are_clusters_agree() -> None:
    assert class_ami(judged(clusters(LABELS), LABELS, 3)) == pytest.approx(1.0)


def test_a_few_wrong_predictions_cost_some_agreement() -> None:
    said = torch.tensor([1, 0, 0, 1, 1, 1, 2, 2, 2])
    score = class_ami(judged(clusters(LABELS), said, 3))
    assert score == pytest.approx(adjusted_mutual_information(said, LABELS))
    assert 0.3 < score < 0.9


def test_predictions_that_ignore_the_features_agree_with_nothing() -> None:
    labels = torch.arange(3).repeat(100)
    said = labels[torch.randperm(300, generator=torch.Generator().manual_seed(1))]
    assert abs(class_ami(judged(clusters(labels), said, 3))) < 0.05


def test_a_collapse_agrees_with_nothing() -> None:
    assert class_ami(judged(clusters(LABELS), torch.zeros_like(LABELS), 3)) == 0.0


def test_the_guard_takes_what_a_lopsided_prediction_gains() -> None:
    """Two of three classes told as one: half of the prior's information is gone."""
    prior = torch.full((3,), 1 / 3)
    assert guarded_ami(judged(clusters(LABELS), LABELS, 3), prior) == pytest.approx(1.0)
    said = LABELS.clamp(max=1)
    target = judged(clusters(LABELS), said, 3)
    shares = math.log(3) - (math.log(3) / 3 + math.log(3 / 2) * 2 / 3)  # the divergence
    assert guarded_ami(target, prior) == pytest.approx(class_ami(target) * math.exp(-shares))
    assert guarded_ami(target, torch.tensor([1 / 3, 2 / 3, 0.0])) == pytest.approx(
        class_ami(target)
    )


def test_adjusted_mutual_information_by_hand() -> None:
    """Two pairs crossed: no mutual information, and a third of ln 2 expected by chance.

    Of the three ways to lay a pair over a pair one is the same and two are crossed, so that the
    expectation is ln 2 / 3, and (0 - ln 2 / 3) / (ln 2 - ln 2 / 3) = -1/2.
    """
    a, b = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    assert adjusted_mutual_information(a, b) == pytest.approx(-0.5)
    assert adjusted_mutual_information(a, a) == pytest.approx(1.0)
    assert adjusted_mutual_information(a, 7 - 3 * a) == pytest.approx(1.0)


@pytest.mark.parametrize("n", [5, 40, 300])
def test_adjusted_mutual_information_is_symmetric(n: int) -> None:
    dice = torch.Generator().manual_seed(n)
    a, b = torch.randint(4, (n,), generator=dice), torch.randint(6, (n,), generator=dice)
    forth, back = adjusted_mutual_information(a, b), adjusted_mutual_information(b, a)
    assert forth == pytest.approx(back, abs=1e-9)


def test_mixtures_by_hand() -> None:
    """Of pairs of one class 1 of 2 is told right, of pairs of two classes 1 of 4."""
    first = torch.tensor([0, 0, 0, 1, 1, 1])
    partner = torch.tensor([1, 3, 4, 2, 0, 5])
    told = torch.tensor([1, 0, 1, 0, 0, 1])
    target = judged(torch.zeros(6, 1), first, 2)
    plain = judged(torch.zeros(6, 1), told, 2)
    mixed = Mixed(plain.features, plain.logits, torch.arange(6), partner)
    assert mixval(target, mixed) == pytest.approx((1 / 2 + 1 / 4) / 2)


def test_mixtures_of_one_kind_count_alone() -> None:
    first = torch.tensor([0, 0])
    target = judged(torch.zeros(2, 1), first, 2)
    mixed = Mixed(target.features, target.logits, torch.arange(2), torch.tensor([1, 0]))
    assert mixval(target, mixed) == 1.0


def test_a_simplex_is_uniform() -> None:
    """Rows that point to the corners of a regular simplex, of any length."""
    corners = torch.eye(4) - 0.25
    assert nonuniformity(3.0 * corners) == pytest.approx(0.0, abs=1e-9)


def test_nonuniformity_by_hand() -> None:
    """Two rows at a right angle, where pi is best."""
    assert nonuniformity(torch.tensor([[2.0, 0.0], [0.0, 1.0]])) == pytest.approx(
        (math.pi / 2) ** 2
    )
    assert nonuniformity(torch.ones(1, 3)) == 0.0


def test_hopkins_tells_clusters_from_noise() -> None:
    noise = torch.rand(1000, 2, generator=torch.Generator().manual_seed(1))
    assert hopkins(noise) == pytest.approx(0.5, abs=0.05)
    assert hopkins(clusters(torch.arange(3).repeat(300))) > 0.95
    assert hopkins(torch.zeros(50, 2)) == 0.5
    assert hopkins(torch.zeros(1, 2)) == 0.5


def test_hopkins_by_hand() -> None:
    """Two points: each is 3 from the other, and a place between them less than 3 from one."""
    x = torch.tensor([[0.0], [3.0]])
    place = 3 * float(_second(torch.Generator().manual_seed(0)))
    nearest = min(place, 3 - place)
    assert hopkins(x) == pytest.approx(nearest / (nearest + 3))


def _second(dice: torch.Generator) -> Tensor:
    """What hopkins throws after the order of two points."""
    torch.randperm(2, generator=dice)
    return torch.rand(1, 1, generator=dice, dtype=torch.float64)


def test_transfer_score_is_the_sum_of_its_parts() -> None:
    target = judged(clusters(LABELS), LABELS, 3)
    corners = torch.eye(3) - 1 / 3
    expected = hopkins(target.features) + 1.0 - 0.0
    assert transfer_score(target, corners) == pytest.approx(expected, abs=1e-5)
    collapsed = judged(clusters(LABELS), torch.zeros_like(LABELS), 3)
    assert transfer_score(collapsed, corners) == pytest.approx(expected - 1.0, abs=1e-5)
