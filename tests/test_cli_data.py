"""`python -m gsda data`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsda.cli import main
from gsda.tasks import BENCHMARKS

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSDA_CACHE", str(tmp_path / "cache"))


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_list_names_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    out = capsys.readouterr().out
    for benchmark in BENCHMARKS.values():
        assert f"{benchmark.name}: {benchmark.title}\n" in out
        assert benchmark.origin in out
    assert "  targets  A 958, W 295, D 157; 10 classes\n" in out
    assert "  setting  alpha 0.2, beta 10, 4 groups\n" in out


def test_check_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "0123456789":
        picture(tmp_path / "digits" / "usps" / name / "1.png")
    assert main(["data", "check", str(tmp_path / "digits"), "--dataset", "digits"]) == 1
    out = capsys.readouterr().out
    assert "U: 10 of 7291 images, 10 classes, in usps\n" in out
    assert "0 1 of 1194, 1 1 of 1005" in out
    assert "M: missing\n" in out
    assert out.endswith("0 of 3 as published\n")


def test_check_of_an_intact_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = BENCHMARKS["office-caltech10"]
    names = "abcdefghij"
    for domain, folders in benchmark.domains.items():
        for name, n in zip(names, benchmark.class_counts[domain], strict=True):
            (tmp_path / folders[0] / name).mkdir(parents=True)
            for i in range(n):
                (tmp_path / folders[0] / name / f"{i}.jpg").write_bytes(b"x")
    assert main(["data", "check", str(tmp_path), "--dataset", "office-caltech10"]) == 0
    assert capsys.readouterr().out.endswith("as published\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", ".", "--dataset", "imagenet"], "Unknown dataset 'imagenet': choose one of"),
        (["check", ".", "--dataset", "glyph31"], "glyph31 is built in: there is nothing to check."),
        (["prepare"], "No data is named: give --dataset, or"),
        (["prepare", ".", "--source", "a"], "Own data needs DIR, --source and --target"),
        (["prepare", "--dataset", "office31"], "office31 is not built in: name the folder"),
        (["prepare", ".", "--dataset", "pacs", "--task", "P2P"], "has the same source and target"),
    ],
)
def test_mistakes_are_one_sentence(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_prepare_own_data_with_any_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "Mein Lager"
    for i, name in enumerate("ab"):
        picture(folder / "Katalog Möbel" / name / "1.png", i)
    picture(folder / "手机" / "one.png", 7)
    words = [str(folder), "--source", "Katalog Möbel", "--target", "手机", "--backbone", "cnn"]
    assert main(["data", "prepare", *words]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Mein-Lager/Katalog-Mobel2x")
    assert "2 source and 1 target images of 32 x 32 pixels are ready" in out
    assert len(list((tmp_path / "cache").glob("*.arrow"))) == 2


def test_prepare_the_built_in_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prepare", "--dataset", "glyph31-partial", "--task", "W2D"]
    assert main(["data", *words]) == 0
    assert "795 source and 162 target images" in capsys.readouterr().out


def test_help_and_list_import_nothing_heavy() -> None:
    heavy = ["torch", "torchvision", "numpy", "pyarrow", "ray", "mlflow", "optuna"]
    code = (
        "import sys; from gsda.cli import main; main(['data', 'list']); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.endswith("\n[]\n")
