"""What holds for every validator: bounds, invariances, little memory, and no way to labels."""

import inspect
import math
from typing import Any

import pytest
import torch
from judged import known, labelled, outputs, reorder
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import gsda.outputs
from gsda.errors import BadInput
from gsda.outputs import Labelled, Outputs
from gsda.validators import (
    DEFAULT_METRIC,
    NEEDS,
    VALIDATORS,
    check_metric,
    needs_holdout,
    predictions,
    structure,
    validate,
)

# Those whose value depends on which images come first: they look at some of them.
SAMPLING = {"transfer_score"}
# Those that compare images with one another, so that an image told twice counts for more.
NEIGHBOURLY = {"snd", "class_ami", "guarded_ami", "mixval", "iwcv", "dev"} | SAMPLING


def score(name: str, given: dict[str, Any]) -> float:
    return validate([name], **given)[name]


def bounds(name: str, n: int, r: int) -> tuple[float, float]:
    spread = math.log(r)
    return {
        "bnm": (1 / math.sqrt(r * min(n, r)), 1.0),
        "im": (0.0, spread),
        "entropy": (-spread, 0.0),
        "diversity": (0.0, spread),
        "confidence": (1 / r, 1.0),
        "snd": (0.0, math.log(max(n - 1, 1))),
        "balance": (-math.inf, 0.0),
        "softmax_corr": (0.0, 1.0),
        "class_ami": (-1.0, 1.0),
        "guarded_ami": (-1.0, 1.0),
        "mixval": (0.0, 1.0),
        "transfer_score": (-(math.pi**2), 2.0),
        "source_accuracy": (0.0, 1.0),
        "reverse": (0.0, 1.0),
        "iwcv": (-math.inf, 0.0),
        "dev": (-math.inf, math.inf),
    }[name]


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize(("n", "r"), [(1, 1), (1, 5), (3, 8), (40, 3), (50, 31)])
@pytest.mark.parametrize("scale", [0.0, 0.1, 3.0, 1e4])
def test_finite_and_within_bounds(name: str, n: int, r: int, scale: float) -> None:
    value = score(name, known(n, r, scale))
    low, high = bounds(name, n, r)
    assert type(value) is float
    assert math.isfinite(value)
    assert low - 1e-9 <= value <= high + 1e-6


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e15])
def test_finite_where_features_are_extreme(name: str, scale: float) -> None:
    given = known(20, 4)
    for part in ("target", "mixed", "source", "train"):
        given[part].features.mul_(scale)
    assert math.isfinite(score(name, given))


@pytest.mark.parametrize("name", [name for name in VALIDATORS if name not in SAMPLING])
def test_the_order_of_the_images_does_not_matter(name: str) -> None:
    given = known(30, 4)
    turned = reorder(given, torch.randperm(30, generator=torch.Generator().manual_seed(5)))
    assert score(name, turned) == pytest.approx(score(name, given), abs=1e-9)


@pytest.mark.parametrize("name", [name for name in VALIDATORS if name not in NEIGHBOURLY])
def test_the_number_of_the_images_does_not_matter(name: str) -> None:
    given = known(9, 4)
    target = given["target"]
    thrice = Outputs(target.features.repeat(3, 1), target.logits.repeat(3, 1))
    assert score(name, given | {"target": thrice}) == pytest.approx(score(name, given), abs=1e-7)


@pytest.mark.parametrize("name", VALIDATORS)
def test_the_names_of_the_classes_do_not_matter(name: str) -> None:
    """All that has classes for columns or labels is renamed alike."""
    given = known(40, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    renamed: dict[str, Any] = dict(given)
    for part in ("target", "mixed", "source", "train"):
        values = dict(vars(given[part]))
        values["logits"] = values["logits"][:, order]
        if "labels" in values:
            values["labels"] = torch.argsort(order)[values["labels"]]
        renamed[part] = type(given[part])(**values)
    renamed |= {"classifier": given["classifier"][order], "prior": given["prior"][order]}
    assert score(name, renamed) == pytest.approx(score(name, given), abs=1e-6)


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize("chunk", [1, 4, 9, 10])
def test_chunks_do_not_matter(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = known(9, 4)
    whole = score(name, given)
    monkeypatch.setattr(gsda.outputs, "CHUNK", chunk)
    monkeypatch.setattr(predictions, "SND_ROWS", chunk)
    monkeypatch.setattr(structure, "ROWS", chunk)
    assert score(name, given) == pytest.approx(whole, abs=1e-12)


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
    """55,388 images; all pairs of them would be 24 GB."""
    given = known(55_388, 12, scale=3.0, d=16)
    with Largest() as largest:
        score(name, given)
    # Features in double precision are the largest thing that is the images' own.
    assert largest.bytes <= 55_388 * 16 * 8 * 4


@pytest.mark.parametrize("name", VALIDATORS)
def test_the_same_outputs_have_the_same_score(name: str) -> None:
    """Whatever dice a validator throws, they are its own."""
    first = score(name, known(300, 4))
    torch.manual_seed(123)
    state = torch.get_rng_state()
    assert score(name, known(300, 4)) == first
    assert torch.equal(torch.get_rng_state(), state)


# Labels


def test_no_validator_can_be_given_target_labels() -> None:
    for function in VALIDATORS.values():
        assert set(inspect.signature(function).parameters) <= set(NEEDS)
    assert set(Outputs.__dataclass_fields__) == {"features", "logits"}
    # What has labels is the source's: a run makes it of the source alone (tests/test_run.py).
    assert set(Labelled.__dataclass_fields__) == {"features", "logits", "labels"}


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
    target = outputs([[0.5, 0.5], [0.8, 0.2]])
    source = labelled([[0.5, 0.5]], [0])
    scores = validate(["spy", "confidence"], target=target, source=source)
    assert scores == {"spy": 1.5, "confidence": pytest.approx(0.65)}
    assert given["target"] is target
    with pytest.raises(KeyError, match="labels"):
        validate(["thief"], target=target, source=source, labels=source.labels)


def test_validate_leaves_out_what_needs_more_than_there_is() -> None:
    given = known(20, 4)
    assert set(validate(VALIDATORS, **given)) == set(VALIDATORS)
    unsupervised = {n: given[n] for n in ("target", "mixed", "classifier", "prior")}
    assert set(VALIDATORS) - set(validate(VALIDATORS, **unsupervised)) == {
        "source_accuracy",
        "reverse",
        "iwcv",
        "dev",
    }


@pytest.mark.parametrize("name", VALIDATORS)
def test_what_needs_a_hold_out_says_so(name: str) -> None:
    given = {n: v for n, v in known(20, 4).items() if n not in ("source", "train")}
    assert needs_holdout(f"val/{name}") == (name not in validate([name], **given))


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
