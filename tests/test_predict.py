"""`python -m gsda predict`."""

import csv
import io
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from gsda.bundle import CHUNK, Predictor, load_bundle, save_bundle
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


def test_corrupt_files_are_named_at_the_end_and_stop_nothing(
    model: Path, pictures: Path, capsys: Capture
) -> None:
    for name in ("1.png", "3.png"):
        (pictures / name).write_bytes(b"no image")
    assert main(["predict", str(model), str(pictures)]) == 1
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert first.startswith(f"gsda: skipped: {pictures / '1.png'} cannot be read as an image")
    assert second.startswith(f"gsda: skipped: {pictures / '3.png'} cannot be read as an image")
    files = sorted(p for p in pictures.rglob("*.*g") if p.name not in ("1.png", "3.png"))
    assert_same(read_csv(out), expected(model, files))
    assert main(["predict", str(model), str(pictures), "--skip-bad-images"]) == 0
    assert capsys.readouterr() == (out, err)


def test_only_corrupt_files_leave_an_empty_table(
    model: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert main(["predict", str(model), str(tmp_path / "bad.png")]) == 1
    assert read_csv(capsys.readouterr().out) == []


def test_a_table_for_the_eye(model: Path, pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["predict", str(model), str(pictures), "--format", "table"]) == 0
    lines = capsys.readouterr().out.splitlines()
    width = max(map(len, CLASSES))
    wanted = expected(model, sorted(p for p in pictures.rglob("*.*g")))
    assert lines == [f"{name:<{width}}  {100 * p:5.1f}%  {file}" for file, name, p in wanted]
    output = tmp_path / "out.txt"
    assert main(["predict", str(model), str(pictures), "--output", str(output)]) == 0
    assert output.read_text(encoding="utf-8").splitlines() == lines


@pytest.mark.parametrize("size", ["1", "3", "100"])
def test_rows_come_in_batches_and_in_order(
    size: str, model: Path, pictures: Path, capsys: Capture
) -> None:
    batches: list[int] = []

    def counted(self: Predictor, parts: list[Any]) -> Any:
        batches.extend(len(part) for part in parts)
        return predict_sized(self, parts)

    predict_sized = Predictor.predict_sized
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "predict_sized", counted)
        assert main(["predict", str(model), str(pictures), "--batch-size", size]) == 0
    assert max(batches) <= int(size)
    assert sum(batches) == 7
    rows = read_csv(capsys.readouterr().out)
    assert_same(rows, expected(model, sorted(p for p in pictures.rglob("*.*g"))))


def test_an_output_is_whole_or_not_there(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("gsda.predict._rows", interrupted)
    (tmp_path / "out.csv").write_text("as before")
    arguments = ["predict", str(model), str(pictures), "--output", str(tmp_path / "out.csv")]
    assert main(arguments) == 130
    assert capsys.readouterr().err == "\ngsda: Stopped.\n"
    assert (tmp_path / "out.csv").read_text() == "as before"
    assert not list(tmp_path.glob("out.csv.*"))


def test_mistakes_are_answered_before_torch_is_loaded(model: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from gsda.cli import main\n"
        "for words in sys.argv[1:]:\n"
        "    try: status = main(words.split())\n"
        "    except SystemExit as error: status = error.code\n"
        "    assert status == 2, words\n"
        "assert 'torch' not in sys.modules\n"
        "assert 'mlflow' not in sys.modules"
    )
    mistakes = [
        "predict gone x.png",
        f"predict {model} gone",
        f"predict {model} . --output x.doc",
        f"predict {model} . --batch-size 0",
        "predict models:/x@champion x.png",
        f"evaluate {model} --data gone",
        f"evaluate {model} --data . --domain glyph31/D",
        f"export {model} {model} --format onnx",
        f"export {model} out --format pickle",
        "no-such-command",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *mistakes],
        cwd=tmp_path,
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == len(mistakes)
    assert all(line.startswith("gsda: ") for line in done.stderr.splitlines())


def test_paths_that_are_not_there(model: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["predict", str(model), str(tmp_path / "gone")]) == 2
    assert "gone does not exist: name an image file or a folder" in refusal(capsys)
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(model), str(tmp_path / "empty")]) == 2
    assert "empty holds no images" in refusal(capsys)


def test_a_model_that_is_not_there(tmp_path: Path, pictures: Path, capsys: Capture) -> None:
    assert main(["predict", str(tmp_path / "gone"), str(pictures)]) == 2
    assert "gone is no model: it needs manifest.json" in refusal(capsys)


def test_a_name_that_no_disk_can_have(model: Path, pictures: Path, capsys: Capture) -> None:
    assert main(["predict", "x" * 5000, str(pictures)]) == 2
    assert "is no model: it needs manifest.json" in refusal(capsys)
    assert main(["predict", str(model), "x" * 5000]) == 2
    assert "does not exist" in refusal(capsys)


def test_a_server_that_is_away_is_not_called_a_missing_model(
    pictures: Path, capsys: Capture, restored_uri: Callable[[], None]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        command = ["predict", "models:/a@champion", str(pictures), "--tracking-uri", address]
        assert main(command) == 2
    told = refusal(capsys)
    assert f"{address} does not give the model models:/a@champion (" in told
    assert "see that it runs" in told


@pytest.mark.parametrize("name", ["out.doc", "out", "out.csv.gz"])
def test_outputs_of_another_kind(name: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["predict", "model", "x.png", "--output", str(tmp_path / name)]) == 2
    assert "name a .csv, a .parquet or a .txt file" in refusal(capsys)


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
