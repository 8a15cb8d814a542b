"""Validators of the predictions by hand."""

import math

import pytest
import torch
from judged import known, outputs

from gsda.outputs import Outputs
from gsda.validators import VALIDATORS
from gsda.validators.predictions import PRIOR_FLOOR, SND_SAMPLES, balance, snd, softmax_corr

SURE = torch.eye(4).repeat(3, 1)
COLLAPSED = torch.eye(4)[:1].repeat(12, 1)
UNIFORM = torch.full((12, 4), 0.25)
TWO = [[0.5, 0.5], [0.8, 0.2]]
H2 = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
H_MEAN = -(0.65 * math.log(0.65) + 0.35 * math.log(0.35))
# The singular values of TWO: s1^2 + s2^2 = 1.18 and s1 s2 = |det| = 0.3.
NUCLEAR_TWO = math.sqrt(1.18 + 2 * 0.3)

BY_HAND = [
    ("bnm", SURE, 1.0),
    ("bnm", COLLAPSED, 0.5),
    ("bnm", UNIFORM, 0.25),
    ("bnm", TWO, NUCLEAR_TWO / 2),
    ("bnm", [[1.0, 0.0, 0.0]], 1.0),
    ("im", SURE, math.log(4)),
    ("im", COLLAPSED, 0.0),
    ("im", UNIFORM, 0.0),
    ("im", TWO, H_MEAN - (math.log(2) + H2) / 2),
    ("entropy", SURE, 0.0),
    ("entropy", UNIFORM, -math.log(4)),
    ("entropy", TWO, -(math.log(2) + H2) / 2),
    ("diversity", SURE, math.log(4)),
    ("diversity", COLLAPSED, 0.0),
    ("diversity", TWO, H_MEAN),
    ("confidence", SURE, 1.0),
    ("confidence", UNIFORM, 0.25),
    ("confidence", TWO, 0.65),
    # Each is as near to all eleven others; and each to two alone, the rest being e^-20 as near.
    ("snd", UNIFORM, math.log(11)),
    ("snd", SURE, math.log(2)),
    ("snd", [[1.0, 0.0]], 0.0),
]


@pytest.mark.parametrize(("name", "p", "expected"), BY_HAND)
def test_by_hand(name: str, p: list[list[float]], expected: float) -> None:
    assert VALIDATORS[name](outputs(p)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("p", "prior", "expected"),
    [
        (SURE, [0.25] * 4, 0.0),
        (COLLAPSED, [0.25] * 4, -math.log(4)),
        (COLLAPSED, [0.7, 0.1, 0.1, 0.1], math.log(0.7)),
        (TWO, [0.5, 0.5], 0.0 - math.log(2)),  # of a tie, the first class
        ([[0.9, 0.1], [0.2, 0.8]], [0.75, 0.25], math.log(2) + (math.log(0.75 * 0.25)) / 2),
    ],
)
def test_balance_by_hand(p: list[list[float]], prior: list[float], expected: float) -> None:
    given = torch.tensor(prior, dtype=torch.float64)
    assert balance(outputs(p), given) == pytest.approx(expected, abs=1e-9)


def test_a_class_that_the_source_lacks_does_not_break_the_balance() -> None:
    lacking = balance(outputs(SURE), torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert lacking == pytest.approx(math.log(4) + 0.75 * math.log(PRIOR_FLOOR))


@pytest.mark.parametrize(
    ("p", "prior", "expected"),
    [
        (SURE, [0.25] * 4, 1.0),
        (COLLAPSED, [0.25] * 4, 0.5),
        (UNIFORM, [0.25] * 4, 0.5),
        (COLLAPSED, [0.8, 0.6, 0.0, 0.0], 0.8),
        # p^T p / 2 is [[0.445, 0.205], [0.205, 0.145]].
        (
            TWO,
            [0.6, 0.8],
            (0.6 * 0.445 + 0.8 * 0.145) / math.sqrt(0.445**2 + 0.145**2 + 2 * 0.205**2),
        ),
    ],
)
def test_softmax_corr_by_hand(p: list[list[float]], prior: list[float], expected: float) -> None:
    given = torch.tensor(prior, dtype=torch.float64)
    assert softmax_corr(outputs(p), given) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["bnm", "im", "diversity"])
def test_a_collapse_scores_below_a_spread(name: str) -> None:
    assert VALIDATORS[name](outputs(COLLAPSED)) < VALIDATORS[name](outputs(SURE)) - 0.1


@pytest.mark.parametrize("name", ["bnm", "im", "entropy", "confidence"])
def test_doubt_scores_below_sureness(name: str) -> None:
    doubt = 0.5 * SURE + 0.5 * UNIFORM
    assert VALIDATORS[name](outputs(doubt)) < VALIDATORS[name](outputs(SURE)) - 0.1


def test_bnm_is_the_nuclear_norm() -> None:
    p = torch.softmax(torch.randn(20, 6, generator=torch.Generator().manual_seed(0)).double(), 1)
    nuclear = torch.linalg.matrix_norm(p, "nuc").item()
    assert VALIDATORS["bnm"](outputs(p)) == pytest.approx(nuclear / math.sqrt(20 * 6), abs=1e-9)


def test_snd_is_what_its_definition_says() -> None:
    """Eq. 1 to 3 of Saito et al., all at once."""
    target = known(60, 5, scale=2.0)["target"]
    unit = torch.nn.functional.normalize(target.p, dim=1)
    similar = unit @ unit.t() / 0.05
    similar.fill_diagonal_(-math.inf)
    expected = torch.special.entr(similar.softmax(dim=1)).sum(dim=1).mean().item()
    assert snd(target) == pytest.approx(expected, abs=1e-9)


def test_snd_of_many_images_is_that_of_evenly_spread_ones() -> None:
    n = 3 * (SND_SAMPLES - 1) + 1
    whole = known(n, 5, scale=2.0)["target"]
    some = Outputs(whole.features[::3], whole.logits[::3])
    assert len(some.logits) == SND_SAMPLES
    assert snd(whole) == snd(some)


def test_probabilities_are_in_double_precision() -> None:
    p = Outputs(torch.zeros(1, 1), torch.tensor([[0.0, 30.0]])).p
    assert p.dtype == torch.float64
    assert p[0, 0].item() == pytest.approx(math.exp(-30), rel=1e-9)
