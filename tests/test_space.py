"""Ranges of what can be searched."""

from dataclasses import fields

import pytest

from gsda.config import Config
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS
from tune.space import DEFAULT_FIELDS, SEARCHABLE, Range, build_space, inside, n_groups_range


def test_every_searchable_field_is_a_numeric_setting_that_takes_both_ends() -> None:
    numeric = {field.name for field in fields(Config) if field.type in (float, int, "float", "int")}
    assert set(SEARCHABLE) <= numeric
    assert len(set(SEARCHABLE)) == len(SEARCHABLE)
    for name, span in build_space(SEARCHABLE, 31).items():
        for value in (span.low, span.high):
            Config(**{name: int(value) if span.integer else value}).check_classes(31)


def test_the_four_of_the_method_are_searched_by_default() -> None:
    assert DEFAULT_FIELDS == ("alpha", "beta", "n_groups", "tau")
    assert tuple(build_space(DEFAULT_FIELDS, 31)) == DEFAULT_FIELDS


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=lambda b: b.name)
def test_the_papers_settings_lie_inside(benchmark) -> None:
    space = build_space(DEFAULT_FIELDS, benchmark.n_classes)
    for alpha, beta in ((benchmark.alpha, benchmark.beta), (0.2, 10.0)):
        values = {"alpha": alpha, "beta": beta, "n_groups": benchmark.n_groups, "tau": 0.9}
        assert inside(values, space)


@pytest.mark.parametrize("n_classes", [1, 2, 3, 5, 31, 345])
def test_groups_are_bounded_by_the_classes(n_classes: int) -> None:
    span = n_groups_range(n_classes)
    assert span.low == 1  # a single group: the domain again
    assert span.high == max(1, n_classes // 2)
    assert span.integer
    Config(n_groups=int(span.high)).check_classes(n_classes)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ((), "distinct fields"),
        (("alpha", "alpha"), "distinct fields"),
        (("alpha", "steps"), "'steps' cannot be searched: choose from alpha, beta"),
    ],
)
def test_wrong_fields_are_refused(names: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        build_space(names, 31)


def test_inside_needs_every_field_within_its_range() -> None:
    space = {"alpha": Range(0.1, 1.0), "beta": Range(1, 2)}
    assert inside({"alpha": 0.1, "beta": 2, "more": 9}, space)
    assert not inside({"alpha": 0.1}, space)
    assert not inside({"alpha": 0.0, "beta": 1}, space)
