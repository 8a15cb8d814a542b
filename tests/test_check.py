"""Copies of benchmarks against what is published of them."""

import os
from pathlib import Path

import pytest

from gsda.data.check import check
from gsda.tasks import BENCHMARKS, OFFICE31_CLASSES, Benchmark

REAL = os.environ.get("GSDA_TEST_DATA")
SMALL = Benchmark(
    name="small",
    title="two domains",
    domains={"L": ("left",), "R": ("right",)},
    n_classes=3,
    classes=("a", "b", "c"),
    counts={"L": 6, "R": 3},
    class_counts={"L": (1, 2, 3), "R": (1, 1, 1)},
    n_groups=1,
)


def put(folder: Path, **counts: int) -> None:
    for name, n in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            (folder / name / f"{i}.png").write_bytes(b"x")


def test_an_intact_copy(tmp_path: Path) -> None:
    put(tmp_path / "left", a=1, b=2, c=3)
    put(tmp_path / "right" / "images", a=1, b=1, c=1)
    left, right = check(SMALL, tmp_path)
    assert (left.problems, right.problems) == ((), ())
    assert left.counts == {"a": 1, "b": 2, "c": 3}
    assert (left.place, right.place) == ("left", "right/images")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    put(tmp_path / "left", a=1, b=1)
    left, right = check(SMALL, tmp_path)
    assert left.problems == (
        "4 missing of 6 images",
        "1 missing of 3 classes",
        "other counts in b, c",
    )
    assert right.place == ""
    assert "has no folder for domain 'R'" in right.problems[0]


def test_too_many_are_said(tmp_path: Path) -> None:
    put(tmp_path / "left", a=2, b=2, c=3)
    put(tmp_path / "right", a=1, b=1, c=1)
    assert check(SMALL, tmp_path)[0].problems == ("1 too many of 6 images", "other counts in a")


def test_a_partial_protocol_is_counted_twice(tmp_path: Path) -> None:
    for folder in ("amazon", "webcam", "dslr"):
        put(tmp_path / folder, **dict.fromkeys(OFFICE31_CLASSES, 1))
    findings = check(BENCHMARKS["office31-partial"], tmp_path)
    assert [f.domain for f in findings] == [
        "A", "A as target", "W", "W as target", "D", "D as target",
    ]  # fmt: skip
    assert len(findings[0].counts) == 31
    assert len(findings[1].counts) == 10
    missing, others = findings[1].problems
    assert missing == "948 missing of 958 images"
    assert others.startswith("other counts in back_pack, bike, calculator")


@pytest.mark.skipif(not REAL, reason="GSDA_TEST_DATA IS NOT SET: NOT TESTED ON REAL IMAGES")
@pytest.mark.parametrize("name", ["office-caltech10", "office-caltech10-partial"])
def test_real_office_caltech10_has_the_published_counts(name: str) -> None:
    findings = check(BENCHMARKS[name], Path(REAL or "") / "office-caltech10")
    there = [f for f in findings if f.place]
    assert {f.domain[0] for f in there} == {"A", "W", "D"}
    assert [f.problems for f in there] == [()] * len(there)
