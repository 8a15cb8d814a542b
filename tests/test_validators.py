"""Validators by hand, within their bounds, and out of reach of labels."""

import inspect
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gsda import validators
from gsda.errors import BadInput
from gsda.validators import DEFAULT_METRIC, VALIDATORS, Outputs, check_metric, validate


def outputs(p: list[list[float]] | Tensor) -> Outputs:
    """A model that predicts p."""
    logits = torch.as_tensor(p, dtype=torch.float64).log()
    return Outputs(torch.zeros(len(logits), 2), logits)


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
]


@pytest.mark.parametrize(("name", "p", "expected"), BY_HAND)
def test_by_hand(name: str, p: list[list[float]], expected: float) -> None:
    assert VALIDATORS[name](outputs(p)) == pytest.approx(expected, abs=1e-7)


def test_every_validator_is_worked_out_by_hand() -> None:
    assert {name for name, _, _ in BY_HAND} == set(VALIDATORS)


def bounds(name: str, n: int, r: int) -> tuple[float, float]:
    return {
        "bnm": (1 / math.sqrt(r * min(n, r)), 1.0),
        "im": (0.0, math.log(r)),
        "entropy": (-math.log(r), 0.0),
        "diversity": (0.0, math.log(r)),
        "confidence": (1 / r, 1.0),
    }[name]


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize(("n", "r"), [(1, 1), (1, 5), (3, 8), (40, 3), (50, 31)])
@pytest.mark.parametrize("scale", [0.0, 0.1, 3.0, 1e4])
def test_within_bounds(name: str, n: int, r: int, scale: float) -> None:
    dice = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(n, r, generator=dice)
    score = VALIDATORS[name](Outputs(torch.zeros(n, 1), logits))
    low, high = bounds(name, n, r)
    assert type(score) is float
    assert low - 1e-9 <= score <= high + 1e-6


@pytest.mark.parametrize("name", VALIDATORS)
def test_the_order_and_number_of_images_do_not_matter(name: str) -> None:
    p = torch.softmax(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    score = VALIDATORS[name](outputs(p))
    assert VALIDATORS[name](outputs(p.flip(0))) == pytest.approx(score, abs=1e-9)
    assert VALIDATORS[name](outputs(p.repeat(3, 1))) == pytest.approx(score, abs=1e-7)


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize("chunk", [1, 4, 9, 10])
def test_chunks_do_not_matter(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    p = torch.softmax(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    score = VALIDATORS[name](outputs(p))
    monkeypatch.setattr(validators, "CHUNK", chunk)
    assert VALIDATORS[name](outputs(p)) == pytest.approx(score, abs=1e-12)


class Largest(TorchDispatchMode):
    """The most bytes that an operator gave."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.bytes = max(self.bytes, out.numel() * out.element_size())
        return out


@pytest.mark.parametrize("name", VALIDATORS)
def test_visda_needs_little_memory(name: str) -> None:
    logits = torch.randn(55_388, 12, generator=torch.Generator().manual_seed(0))
    target = Outputs(torch.zeros(len(logits), 1), logits)
    with Largest() as largest:
        VALIDATORS[name](target)
    # The logits themselves, which a slice of them counts as, are the largest thing there is.
    assert largest.bytes <= logits.numel() * logits.element_size()


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


def test_probabilities_are_in_double_precision() -> None:
    p = Outputs(torch.zeros(1, 1), torch.tensor([[0.0, 30.0]])).p
    assert p.dtype == torch.float64
    assert p[0, 0].item() == pytest.approx(math.exp(-30), rel=1e-9)


# Labels


def test_no_validator_can_be_given_labels() -> None:
    for function in VALIDATORS.values():
        parameters = inspect.signature(function).parameters
        assert set(parameters) <= {"source", "target"}
        assert all(p.annotation in (Outputs, "Outputs") for p in parameters.values())
    assert set(Outputs.__dataclass_fields__) == {"features", "logits"}


def test_validate_hands_over_what_is_asked_for_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {}

    def spy(target: Outputs) -> float:
        given["target"] = target
        return 1.5

    def thief(labels: Tensor) -> float:
        raise AssertionError("it got labels")

    monkeypatch.setitem(VALIDATORS, "spy", spy)
    monkeypatch.setitem(VALIDATORS, "thief", thief)
    target, source = outputs(TWO), outputs(SURE)
    scores = validate(["spy", "confidence"], target=target, source=source)
    assert scores == {"spy": 1.5, "confidence": pytest.approx(0.65)}
    assert given["target"] is target
    with pytest.raises(KeyError, match="labels"):
        validate(["thief"], target=target, source=source)


def test_validate_scores_all() -> None:
    scores = validate(VALIDATORS, target=outputs(TWO))
    assert set(scores) == set(VALIDATORS)
    assert scores["im"] == pytest.approx(scores["diversity"] + scores["entropy"])


@pytest.mark.parametrize("name", VALIDATORS)
def test_check_metric_accepts_validators(name: str) -> None:
    assert check_metric(f"val/{name}") == f"val/{name}"


def test_the_default_metric_can_be_chosen_by() -> None:
    assert check_metric(DEFAULT_METRIC) == DEFAULT_METRIC


@pytest.mark.parametrize(
    "metric", ["oracle/target_accuracy", "oracle/target_class_mean", "oracle/bnm", "oracle"]
)
def test_check_metric_refuses_the_oracle(metric: str) -> None:
    with pytest.raises(BadInput, match=r"reads target labels.*val/bnm"):
        check_metric(metric)


@pytest.mark.parametrize(
    "metric",
    ["bnm", "val/", "val", "", "val/nothing", "val/bnm/x", "VAL/bnm", "loss/C", "coverage/all"],
)
def test_check_metric_refuses_the_unknown(metric: str) -> None:
    with pytest.raises(BadInput, match=r"Unknown metric.*val/bnm"):
        check_metric(metric)
