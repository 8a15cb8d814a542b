"""The report: distances that are known, pictures of them, a page that needs nothing beside it."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from experiments.distances import a_distance, neighbours_map, principal_components
from experiments.looks import Course, Look
from experiments.page import (
    COVERAGE,
    PRECISION,
    build_page,
    describe_classes,
    describe_magnitudes,
    describe_pseudo,
    headline,
)
from experiments.report import APART, ROWS, main, pick_rows
from experiments.showing import draw_all
from gsda.config import Config
from gsda.errors import BadInput

BASE = Config(backbone="cnn", weights="none", steps=100, evaluate_every=50)
DICE = np.random.default_rng(0)
Capture = pytest.CaptureFixture[str]


def test_domains_that_cannot_be_told_apart_have_no_distance() -> None:
    cloud = DICE.normal(size=(400, 5))
    assert a_distance(cloud[:200], cloud[200:]) < 0.35  # type: ignore[operator]
    assert a_distance(cloud[:200], cloud[200:] + 8) == 2.0
    near, far = (a_distance(cloud[:200], cloud[200:] + gap) for gap in (0.4, 1.0))
    assert 0 < near < far < 2.0  # type: ignore[operator]


def test_the_larger_domain_does_not_decide() -> None:
    """To guess "source" always would be right for 90 of 100; the distance is about 0 still."""
    cloud = DICE.normal(size=(1000, 2))
    assert a_distance(cloud[:900], cloud[900:]) < 0.35  # type: ignore[operator]
    assert a_distance(cloud[:900], cloud[:4]) is None


def test_principal_components_find_the_long_side() -> None:
    f = DICE.normal(size=(300, 3)) * [1.0, 10.0, 0.1]
    points, shares = principal_components(f)
    assert points.shape == (300, 2)
    assert abs(np.corrcoef(points[:, 0], f[:, 1])[0, 1]) > 0.99
    assert shares[0] > 0.95
    assert shares[0] + shares[1] < 1.0


def test_neighbours_stay_neighbours() -> None:
    heaps = np.concatenate([DICE.normal(size=(40, 6)), DICE.normal(size=(40, 6)) + 12])
    made = neighbours_map(heaps)
    assert np.array_equal(made, neighbours_map(heaps))
    middle = [made[:40].mean(axis=0), made[40:].mean(axis=0)]
    nearest = [np.linalg.norm(made - m, axis=1) for m in middle]
    assert np.array_equal(nearest[0] < nearest[1], np.arange(80) < 40)


def make_look(title: str, gain: float = 0.0, magnitudes: bool = False) -> Look:
    f = DICE.normal(size=(40, 4))
    reports: dict[int, dict[str, float]] = {}
    for step in (10, 20):
        accuracy = 0.4 + gain * step / 20
        reports[step] = {"oracle/target_accuracy": accuracy, "oracle/target_class_mean": accuracy}
        reports[step] |= {COVERAGE: step / 40, PRECISION: 0.9, "val/bnm": 0.5}
        if magnitudes:
            levels = {"dom": 0.2, "grp": 0.1, "cls": 0.1}
            reports[step] |= {f"magnitude/D_{level}": v for level, v in levels.items()}
    of_class = {"a": 1.0 - gain, "b<": 0.5 - gain}
    accuracy_of = {"a": 0.4 + gain, "b<": 0.6 - gain / 2}
    right = np.arange(40) % 2 == 0
    return Look(
        title, Course(reports), f, f + 1, right, 0.7, of_class, accuracy_of, "r", "http://r"
    )


def test_what_is_said_is_what_was_measured() -> None:
    before, after = make_look("source-only"), make_look("GSDA", 0.2, magnitudes=True)
    assert headline(before, after) == ("GSDA lifts the accuracy on the target from 40.0% to 60.0%.")
    assert "lowers the accuracy on the target from 60.0% to 40.0%" in headline(after, before)
    assert headline(before, before).endswith("leaves the accuracy on the target at 40.0%.")
    told = describe_classes(before, after)
    assert told == (
        "The domains' classes came closer in 2 of 2 cases. a gained most (+20 points), "
        "b< lost most (-10)."
    )
    assert "GSDA: at the end the largest level is 2.00 times the smallest." in (
        describe_magnitudes([before, after])
    )
    assert "50% are sure enough at the end, 25% at first; 90% of these" in describe_pseudo(after)


class Reader(HTMLParser):
    """Whether tags are closed, and what a page asks for from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []
        self.images = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "img":
            self.images += 1
            assert given["alt"]
        if tag in ("img", "script", "link"):
            self.asked.append(str(given.get("src") or given.get("href")))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone() -> None:
    looks = [make_look("source-only"), make_look("GSDA", 0.2, magnitudes=True)]
    pictures = draw_all(looks)
    assert set(pictures) == {"features-0", "features-1", "classes", "magnitudes", "courses"}
    page = build_page("glyph31/A2W", ["Facts & more."], looks, pictures, "python -m x")
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert reader.images == 5
    assert all(address.startswith("data:image/png;base64,") for address in reader.asked)
    assert "b&lt;" in page
    assert "b<" not in page
    assert '<td class="best">60.0</td>' in page
    assert 'href="http://r"' in page


def test_without_labels_there_is_less_to_tell() -> None:
    unlabelled = [
        replace(
            make_look(title),
            course=Course({10: {"val/bnm": 0.5, COVERAGE: 0.1}}),
            right=None,
            of_class={},
            accuracy={},
        )
        for title in ("source-only", "GSDA")
    ]
    pictures = draw_all(unlabelled)
    assert set(pictures) == {"features-0", "features-1", "courses"}
    page = build_page("own", [], unlabelled, pictures, "x")
    assert "the target has no labels to count by" in page
    assert "Class by class" not in page


def test_rows_are_evaluated_often_and_named_right() -> None:
    rows = pick_rows(ROWS, BASE)
    assert list(rows) == list(ROWS)
    assert {config.evaluate_every for config in rows.values()} == {5}
    assert replace(rows[APART], beta=1.0) == rows["GSDA"]
    with pytest.raises(BadInput, match="There is no row 'XYZ': choose from source-only, Glb"):
        pick_rows(["XYZ"], BASE)


def test_from_training_to_a_page_and_to_mlflow(tmp_path: Path, capsys: Capture) -> None:
    uri = f"sqlite:///{tmp_path}/m.db"
    command = ["glyph31", "--task", "W2D", "--rows", "source-only", "GSDA"]
    command += ["--steps", "4", "--batch-size", "4", "--evaluate-every", "4"]
    command += ["--storage", str(tmp_path / "s"), "--tracking-uri", uri]
    command += ["--output", str(tmp_path / "o")]
    assert main(command) == 0
    first = capsys.readouterr()
    assert "2 cells, 0 of them recorded, 2 to run" in first.err
    path = tmp_path / "o" / "glyph31-W2D.html"
    assert first.out.strip() == str(path)
    page = path.read_text()
    assert "795 labelled images of W, 498 unlabelled ones of D, 31 classes." in page
    assert page.count("data:image/png;base64,") == 5
    client = MlflowClient(uri, registry_uri=uri)
    runs = re.findall(r"/runs/(\w+)", page)
    assert len(set(runs)) == 2
    for run in runs:
        names = {entry.path for entry in client.list_artifacts(run, "report")}
        wanted = {"features.png", "classes.png", "magnitudes.png", "courses.png", path.name}
        assert names == {f"report/{name}" for name in wanted}
    assert main(command) == 0
    assert "2 cells, 2 of them recorded, 0 to run" in capsys.readouterr().err
    assert len(list((tmp_path / "s").glob("*/trials/*/model"))) == 2
