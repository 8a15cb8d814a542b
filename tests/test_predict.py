"""`python -m gsda predict`."""

import csv
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from gsda.bundle import CHUNK, load_bundle, save_bundle
from gsda.cli import main
from gsda.data.decoding import decode
from gsda.model import build_network

CLASSES = ["mug", "Öl", 'a "quoted", one']
ROOT = Path(__file__).parents[1]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    manifest = {"classes": CLASSES, "backbone": "cnn", "bottleneck": 8}
    save_bundle(tmp_path / "model", build_network("cnn", 3, 8, 0), manifest)
    return tmp_path / "model"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Seven images in a folder and one below it."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in [*(f"{n}.png" for n in range(6)), "below/grün, 7.jpg"]:
        Image.fromarray(rng.integers(0, 256, (40, 24, 3), dtype=np.uint8)).save(folder / name)
    return folder


def expected(model: Path, files: list[Path]) -> list[tuple[str, str, float]]:
    predictor = load_bundle(model)
    classes, p = predictor.predict_sized([np.stack([decode(f, predictor.size) for f in files])])
    rows = zip(files, classes.tolist(), p.max(axis=1).tolist(), strict=True)
    return [(str(file), name, confidence) for file, name, confidence in rows]


def read_csv(text: str) -> list[tuple[str, str, float]]:
    head, *rows = csv.reader(io.StringIO(text))
    assert head == ["file", "class", "confidence"]
    return [(file, name, float(confidence)) for file, name, confidence in rows]


def assert_same(found: list[tuple[str, str, float]], wanted: list[tuple[str, str, float]]) -> None:
    assert [row[:2] for row in found] == [row[:2] for row in wanted]
    assert [row[2] for row in found] == pytest.approx([row[2] for row in wanted], abs=1e-6)


def refusal(capsys: Capture) -> str:
    """The one sentence that a command ended with."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gsda: ")
    assert err.endswith(".\n")
    assert err.count("\n") == 1
    return err


def test_csv_on_standard_output(model: Path, pictures: Path, capsys: Capture) -> None:
    assert main(["predict", str(model), str(pictures)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert_same(read_csv(out), expected(model, sorted(p for p in pictures.rglob("*.*g"))))


def test_csv_in_a_file(model: Path, pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "out.csv"
    files = [pictures / "3.png", pictures / "1.png"]
    arguments = ["predict", str(model), *map(str, files), "--output", str(output)]
    assert main(arguments) == 0
    assert capsys.readouterr() == ("", "")
    assert_same(read_csv(output.read_text(encoding="utf-8")), expected(model, sorted(files)))


def test_parquet(model: Path, pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    assert main(["predict", str(model), str(pictures), "--output", str(output)]) == 0
    table = parquet.read_table(output)
    assert table.column_names == ["file", "class", "confidence"]
    rows = [tuple(row.values()) for row in table.to_pylist()]
    assert_same(rows, expected(model, sorted(p for p in pictures.rglob("*.*g"))))


def test_more_images_than_one_batch(model: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for n in range(CHUNK + 2):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n:03d}.png")
    assert main(["predict", str(model), str(folder)]) == 0
    assert_same(read_csv(capsys.readouterr().out), expected(model, sorted(folder.iterdir())))


def test_a_corrupt_file_is_named(model: Path, pictures: Path, capsys: Capture) -> None:
    (pictures / "3.png").write_bytes(b"no image")
    assert main(["predict", str(model), str(pictures)]) == 2
    assert str(pictures / "3.png") in refusal(capsys)


def test_a_corrupt_file_is_skipped_if_told(model: Path, pictures: Path, capsys: Capture) -> None:
    (pictures / "3.png").write_bytes(b"no image")
    assert main(["predict", str(model), str(pictures), "--skip-bad-images"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("gsda: skipped: ")
    assert str(pictures / "3.png") in err
    files = sorted(p for p in pictures.rglob("*.*g") if p.name != "3.png")
    assert_same(read_csv(out), expected(model, files))


def test_only_corrupt_files_leave_an_empty_table(
    model: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert main(["predict", str(model), str(tmp_path / "bad.png"), "--skip-bad-images"]) == 0
    assert read_csv(capsys.readouterr().out) == []


def test_paths_that_are_not_there(model: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["predict", str(model), str(tmp_path / "gone")]) == 2
    assert "gone does not exist: name an image file or a folder" in refusal(capsys)
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(model), str(tmp_path / "empty")]) == 2
    assert "empty holds no images" in refusal(capsys)


def test_a_model_that_is_not_there(tmp_path: Path, pictures: Path, capsys: Capture) -> None:
    assert main(["predict", str(tmp_path / "gone"), str(pictures)]) == 2
    assert "gone is no model: it needs manifest.json" in refusal(capsys)


@pytest.mark.parametrize("name", ["out.txt", "out", "out.csv.gz"])
def test_outputs_of_another_kind(name: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["predict", "model", "x.png", "--output", str(tmp_path / name)]) == 2
    assert "name a .csv or a .parquet file" in refusal(capsys)


def test_an_output_that_cannot_be_written(model: Path, pictures: Path, capsys: Capture) -> None:
    output = pictures / "no folder" / "out.csv"
    assert main(["predict", str(model), str(pictures), "--output", str(output)]) == 2
    assert "cannot be written" in refusal(capsys)
    output = output.with_suffix(".parquet")
    assert main(["predict", str(model), str(pictures), "--output", str(output)]) == 2
    assert "cannot be written" in refusal(capsys)


def test_no_store_is_made_where_there_is_none(
    tmp_path: Path, pictures: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["predict", "models:/gsda-glyph31-A2D@champion", str(pictures)]) == 2
    assert "There is no" in refusal(capsys)
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("address", ["models:/no-such-model@champion", "models:/no-such-model/3"])
def test_a_model_that_is_not_registered(
    address: str, store: str, pictures: Path, capsys: Capture, restored_uri: Callable[[], None]
) -> None:
    assert main(["predict", address, str(pictures), "--tracking-uri", store]) == 2
    assert f"There is no model {address} at {store}" in refusal(capsys)


@pytest.fixture
def restored_uri() -> object:
    """MLflow's address of before, when the test is over."""
    import mlflow

    yield
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


def test_mlflow_is_imported_for_its_addresses_alone(model: Path, pictures: Path) -> None:
    code = (
        "import sys; from gsda.cli import main; "
        f"assert main(['predict', {str(model)!r}, {str(pictures)!r}]) == 0; "
        "assert 'mlflow' not in sys.modules; assert 'ray' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(read_csv(done.stdout)) == 7


def test_the_module_is_a_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gsda", "predict", str(tmp_path / "gone"), "x.png"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("gsda: ")
    assert "Traceback" not in done.stderr
