"""Settings: what is refused, and that they survive JSON."""

import json
import math
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from gsda.config import (
    LEVELS,
    PAIRS,
    PRECISIONS,
    SYNC_READINGS,
    Config,
    completed,
    ladder,
    source_only,
)
from gsda.errors import BadInput

BAD = [
    *[
        (name, value)
        for name in ("alpha", "beta", "lambda_max", "weight_decay", "backbone_lr", "momentum")
        for value in (-1e-9, math.nan, math.inf)
    ],
    ("momentum", 1.0),
    *[
        (name, value)
        for name in ("tau", "epsilon", "holdout")
        for value in (-0.1, 1.0, 1.5, math.nan)
    ],
    *[("lr", value) for value in (0.0, -0.1, math.nan, math.inf)],
    *[
        (name, value)
        for name in ("n_groups", "bottleneck", "hidden", "steps", "evaluate_every")
        for value in (0, -1)
    ],
    ("batch_size", 1),
    ("batch_size", 0),
    *[(name, value) for name in ("seed", "group_seed") for value in (-1, 2**63)],
    ("sync", "Batch"),
    ("sync", ""),
    ("passes", "both"),
    ("pairs", "all"),
    ("precision", "float16"),
    ("target_sampling", "balanced"),
    ("crop", "center"),
    ("features", "none"),
    ("class_weighting", "PADA"),
    *[
        ("levels", value)
        for value in (("dom", "dom"), ("domain",), ("dom", "grp", "cls", "x"), "dom")
    ],
]
WRONG_TYPE = [
    ("alpha", "0.1"),
    ("lr", None),
    ("n_groups", 2.5),
    ("steps", 10.5),
    ("seed", 0.5),
    ("levels", None),
]
GOOD = [
    *[
        (name, 0.0)
        for name in ("alpha", "beta", "lambda_max", "weight_decay", "tau", "holdout", "momentum")
    ],
    ("backbone_lr", 0.0),
    ("tau", 0.999),
    ("momentum", 0.999),
    *[(name, 1) for name in ("n_groups", "bottleneck", "hidden", "steps", "evaluate_every")],
    ("batch_size", 2),
    ("seed", 2**63 - 1),
    *[("sync", reading) for reading in SYNC_READINGS],
    ("levels", ()),
    ("target_sampling", "pseudo"),
    ("passes", "shared"),
    ("crop", "centre"),
    ("features", "frozen"),
    ("class_weighting", "pada"),
    ("epsilon", 0.0),
    *[("pairs", choice) for choice in PAIRS],
    *[("precision", choice) for choice in PRECISIONS],
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_values_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(BadInput) as caught:
        Config(**{name: value})
    assert str(caught.value).startswith(f"{name} is {value!r}, but must be ")
    with pytest.raises(BadInput):
        replace(Config(), **{name: value})


@pytest.mark.parametrize(("name", "value"), WRONG_TYPE)
def test_values_of_a_wrong_type_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(BadInput, match=name):
        Config.from_dict({name: value})


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_values_at_the_edge_are_accepted(name: str, value: Any) -> None:
    assert getattr(Config(**{name: value}), name) == value


def test_configurations_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().alpha = 1.0  # type: ignore[misc]


def test_levels_have_one_order() -> None:
    assert Config(levels=("cls", "dom")) == Config(levels=("dom", "cls"))
    assert Config(levels=("cls", "grp", "dom")).levels == LEVELS
    assert hash(Config(levels=("cls", "dom"))) == hash(Config(levels=("dom", "cls")))


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(levels=(), alpha=0.1 + 0.2, seed=2**63 - 1),
        Config(levels=("dom", "cls"), sync="relative", lr=1e-17, backbone="cnn"),
    ],
    ids=["default", "no levels", "other"],
)
def test_round_trip_through_json(config: Config) -> None:
    text = json.dumps(config.to_dict(), allow_nan=False)
    again = Config.from_dict(json.loads(text))
    assert again == config
    assert type(again.levels) is tuple
    assert set(json.loads(text)) == {field.name for field in fields(Config)}


def test_what_a_dict_leaves_out_has_its_default() -> None:
    assert Config.from_dict({}) == Config()
    assert Config.from_dict({"alpha": 0.5}) == Config(alpha=0.5)


def test_unknown_settings_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"'gamma' is no setting.*alpha"):
        Config.from_dict({"gamma": 1.0})


def test_bad_values_in_a_dict_are_refused() -> None:
    with pytest.raises(BadInput, match=r"tau is 1\.0"):
        Config.from_dict({"tau": 1.0})


def test_more_groups_than_classes_are_refused() -> None:
    config = Config(n_groups=6)
    assert config.check_classes(6) is config
    with pytest.raises(BadInput, match="n_groups is 6, but there are 5 classes"):
        config.check_classes(5)


@pytest.mark.parametrize(
    ("steps", "every", "rungs"),
    [
        (10, 4, [4, 8, 10]),
        (8, 4, [4, 8]),
        (4, 4, [4]),
        (3, 4, [3]),
        (1, 1, [1]),
        (3, 1, [1, 2, 3]),
    ],
)
def test_rungs(steps: int, every: int, rungs: list[int]) -> None:
    config = Config(steps=steps, evaluate_every=every)
    assert config.rungs() == rungs
    for step in range(steps):
        assert config.next_rung(step) == next(rung for rung in rungs if rung > step)


def test_source_only_keeps_what_is_not_adaptation() -> None:
    config = Config(alpha=0.3, beta=2.0, lr=0.5, seed=7)
    bare = replace(config, method="source_only", alpha=0.0, beta=0.0, levels=())
    assert source_only(config) == bare


def test_the_ladder_adds_one_thing_a_row() -> None:
    config = Config(alpha=0.3, beta=2.0)
    rows = ladder(config)
    assert list(rows) == ["source-only", "Glb", "+ Cls", "+ Grp", "+ Grad Sync"]
    assert rows["source-only"] == source_only(config)
    assert [rows[name].levels for name in list(rows)[1:]] == [
        ("dom",),
        ("dom", "cls"),
        LEVELS,
        LEVELS,
    ]
    assert [row.beta for row in rows.values()] == [0, 0, 0, 0, 2.0]
    assert [row.alpha for row in rows.values()] == [0, 0.3, 0.3, 0.3, 0.3]
    assert rows["+ Grad Sync"] == config


def test_a_config_of_an_earlier_version_is_completed() -> None:
    earlier = Config(alpha=0.3).to_dict()
    del earlier["holdout"]
    assert completed(earlier) == Config(alpha=0.3).to_dict()
    assert Config.from_dict(earlier) == Config(alpha=0.3)
    assert completed({"unknown": 1})["unknown"] == 1
