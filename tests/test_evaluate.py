"""`python -m gsda evaluate`: accuracy by class and a picture of the confusion."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gsda.bundle import save_bundle
from gsda.cli import main
from gsda.data.decoding import decode
from gsda.data.domain import Domain
from gsda.errors import BadInput
from gsda.evaluate import Evaluation, default_domain, draw, find_domain
from gsda.model import build_network
from gsda.oracle import Oracle
from gsda.predict import find_model

CLASSES = ["mug", "pen", "Öl $1"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    manifest = {"classes": CLASSES, "backbone": "cnn", "bottleneck": 8, "task": "own/a2b"}
    save_bundle(tmp_path / "model", build_network("cnn", 3, 8, 5), manifest)
    return tmp_path / "model"


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Folders of two of the model's three classes, 9 and 5 images."""
    rng = np.random.default_rng(0)
    for name, n in (("mug", 9), ("Öl $1", 5)):
        folder = tmp_path / "labelled" / name
        folder.mkdir(parents=True)
        for k in range(n):
            pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8) // (1 + k % 3)
            Image.fromarray(pixels).save(folder / f"{k}.png")
    return tmp_path / "labelled"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., int]:
    def evaluate(*arguments: object) -> int:
        cache = ["--cache", str(tmp_path / "cache")]
        return main(["evaluate", *map(str, arguments), *cache])

    return evaluate


def by_hand(model: Path, labelled: Path) -> list[list[int]]:
    """The confusion, counted one image at a time."""
    predictor = find_model(str(model))
    counts = [[0, 0, 0] for _ in CLASSES]
    for file in labelled.rglob("*.png"):
        names, _ = predictor.predict_sized([decode(file, 32)[None]])
        counts[CLASSES.index(file.parent.name)][CLASSES.index(names[0])] += 1
    return counts


def test_json(model: Path, labelled: Path, run: Callable[..., int], capsys: Capture) -> None:
    assert run(model, "--data", labelled, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    told = json.loads(out)
    wanted = by_hand(model, labelled)
    assert told["confusion"] == wanted
    assert len({tuple(row) for row in wanted}) > 1  # not all the same, so that it says something
    right = [wanted[k][k] for k in range(3)]
    assert told["accuracy"] == pytest.approx(sum(right) / 14)
    assert told["class_mean"] == pytest.approx((right[0] / 9 + right[2] / 5) / 2)
    assert told["classes"]["pen"] == {
        "images": 0,
        "accuracy": None,
        "mistaken_for": None,
        "times": 0,
    }
    assert told["images"] == 14


def test_table_and_picture(
    model: Path, labelled: Path, run: Callable[..., int], tmp_path: Path, capsys: Capture
) -> None:
    picture = tmp_path / "confusion.png"
    assert run(model, "--data", labelled, "--picture", picture, "--batch-size", "4") == 0
    lines = capsys.readouterr().out.splitlines()
    counts = by_hand(model, labelled)
    assert lines[0].split() == "class images accuracy mostly mistaken for".split()
    assert lines[1].split()[:3] == ["mug", "9", f"{100 * counts[0][0] / 9:.1f}%"]
    assert lines[2].split() == ["pen", "0", "-"]
    assert "of 14 images are classified right; mean over classes" in lines[5]
    assert lines[6].startswith("Labels were read for this: choose nothing by it")
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert min(image.size) > 400
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 100


def test_a_list_beside_the_folder_is_not_its_list(
    model: Path, labelled: Path, run: Callable[..., int], capsys: Capture
) -> None:
    (labelled.parent / "labelled.txt").write_text("elsewhere/mug/1.png 0\n", encoding="utf-8")
    assert run(model, "--data", labelled) == 0
    assert "of 14 images are classified right" in capsys.readouterr().out


def test_dollars_in_the_title_of_the_picture(tmp_path: Path) -> None:
    evaluation = Evaluation(("a$_{$", "b"), np.eye(2, dtype=np.int64))
    draw(evaluation, tmp_path / "a.png", "photos of $_{$")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"


def test_counts_of_a_known_confusion(tmp_path: Path) -> None:
    class Blank:
        digest, paths, size = "", ("",) * 6, 1

        def __len__(self) -> int:
            return 6

    domain: Any = Domain("t", Blank(), np.array([0, 0, 0, 2, 2, -1]), ("a", "b", "c"))
    confusion = Oracle(domain).confusion(np.array([0, 1, 1, 2, 2, 2]), 3)
    assert confusion.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 2]]
    found = Evaluation(("a", "b", "c"), confusion)
    assert (found.images, found.accuracy) == (5, 3 / 5)
    assert found.class_mean == pytest.approx((1 / 3 + 1) / 2)
    assert found.per_class()["a"]["mistaken_for"] == "b"
    assert found.per_class()["a"]["times"] == 2
    assert found.per_class()["c"]["mistaken_for"] is None


def test_a_built_in_domain(run: Callable[..., int], tmp_path: Path, capsys: Capture) -> None:
    from gsda.tasks import GLYPH31_CLASSES

    manifest = {"classes": list(GLYPH31_CLASSES), "backbone": "cnn", "bottleneck": 4}
    network = build_network("cnn", 31, 4, 0)
    save_bundle(tmp_path / "m", network, manifest | {"task": "glyph31/W2D"})
    assert main(["evaluate", str(tmp_path / "m"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 498
    assert told["accuracy"] < 0.2  # it was never trained
    assert main(["evaluate", str(tmp_path / "m"), "--domain", "glyph31-partial/D", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 162


def test_unreadable_images(
    model: Path, labelled: Path, run: Callable[..., int], capsys: Capture
) -> None:
    (labelled / "mug" / "3.png").write_bytes(b"no image")
    assert run(model, "--data", labelled) == 2
    assert "3.png cannot be read as an image" in capsys.readouterr().err
    assert run(model, "--data", labelled, "--skip-bad-images", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["images"] == 13
    assert err == "gsda: skipped, as it cannot be read: mug/3.png\n"


def test_images_without_the_models_classes_are_refused(
    model: Path, labelled: Path, run: Callable[..., int], tmp_path: Path, capsys: Capture
) -> None:
    (labelled / "mug").rename(labelled / "mugs")
    assert run(model, "--data", labelled) == 2
    assert "mugs is not one of the 3 classes" in capsys.readouterr().err
    assert run(model, "--data", labelled / "mugs") == 2
    assert "holds images but no class folders" in capsys.readouterr().err
    assert run(model) == 2
    assert "Which images? Name a folder of labelled ones" in capsys.readouterr().err
    assert run(model, "--domain", "glyph31/D") == 2
    assert "have other classes than the model" in capsys.readouterr().err
    assert run(model, "--data", labelled, "--picture", tmp_path / "gone" / "x.png") == 2
    assert "There is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["glyph31/X", "office31/A", "D", ""])
def test_domains_that_are_not_built_in(name: str) -> None:
    with pytest.raises(BadInput, match="is no domain of built-in data: choose one of glyph31/A,"):
        find_domain(name)


def test_the_default_is_the_target_of_a_built_in_task() -> None:
    assert default_domain({"task": "glyph31/A2W"}) == "glyph31/W"
    for manifest in ({}, {"task": "own/a2b"}, {"task": "office31/A2D"}):
        with pytest.raises(BadInput, match="Which images"):
            default_domain(manifest)
