"""`python -m gsda export`: safetensors and ONNX, read again and compared."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsda.bundle import load_bundle, save_bundle
from gsda.cli import main
from gsda.errors import BadInput
from gsda.export import _KINDS, ONNX, Differs, export
from gsda.model import build_network, load_pretrained

CLASSES = ["mug", "Öl", "pen"]
Capture = pytest.CaptureFixture[str]
needs_export = pytest.mark.skipif(
    any(importlib.util.find_spec(n) is None for n in ("safetensors", "onnx", "onnxruntime")),
    reason="gsda[export] IS NOT INSTALLED: EXPORTS NOT TESTED",
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    manifest = {"classes": CLASSES, "backbone": "cnn", "bottleneck": 8, "task": "glyph31/A2D"}
    save_bundle(tmp_path / "model", build_network("cnn", 3, 8, 0), manifest)
    return tmp_path / "model"


def images(n: int, side: int = 32) -> Any:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@needs_export
def test_safetensors_is_a_model_again(model: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert main(["export", str(model), str(out), "--format", "safetensors"]) == 0
    told = capsys.readouterr().out
    assert "compared on 64 drawn letters" in told
    assert "differ from the model's by 0.0e+00 at most" in told
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "model.safetensors"]
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["classes"] == CLASSES
    assert manifest["transform"]["resize"] == [32, 32]
    one, other = load_bundle(model), load_bundle(out)
    assert np.array_equal(one.predict(images(5, 50))[1], other.predict(images(5, 50))[1])
    assert main(["evaluate", str(out)]) == 2  # three classes are not glyph31's: but it was read
    assert "have other classes than the model" in capsys.readouterr().err


@needs_export
def test_a_damaged_safetensors_file_is_told(model: Path, tmp_path: Path) -> None:
    export(load_bundle(model), tmp_path / "out", "safetensors", images(2))
    file = tmp_path / "out" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(BadInput, match="is damaged"):
        load_bundle(tmp_path / "out")


@needs_export
def test_onnx_runs_without_torch_for_any_batch(model: Path, tmp_path: Path) -> None:
    import onnxruntime

    done = export(load_bundle(model), tmp_path / "out", "onnx", images(10))
    assert done.difference < 1e-4
    session = onnxruntime.InferenceSession(done.file, providers=["CPUExecutionProvider"])
    for n in (1, 3, 40):
        (found,) = session.run(None, {"images": images(n)})
        _, wanted = load_bundle(model).predict(images(n))
        assert found.shape == (n, 3)
        assert np.abs(found - wanted).max() < 1e-4
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == CLASSES


@needs_export
def test_onnx_of_a_pretrained_backbone_on_photographs(
    real_data: Path, tmp_path: Path, capsys: Capture
) -> None:
    network = build_network("mobilenet_v2", 3, 16, 0)
    load_pretrained(network, "mobilenet_v2", str(real_data / "weights" / "mobilenet_v2.pth"))
    manifest = {"classes": CLASSES, "backbone": "mobilenet_v2", "bottleneck": 16}
    save_bundle(tmp_path / "model", network, manifest)
    mugs = real_data / "office-caltech10" / "dslr" / "images" / "mug"
    arguments = ["export", str(tmp_path / "model"), str(tmp_path / "out"), "--format", "onnx"]
    assert main([*arguments, "--images", str(mugs)]) == 0
    out = capsys.readouterr().out
    assert "compared on 8 images" in out
    assert float(out.split("by ")[1].split()[0]) < 1e-4
    assert (tmp_path / "out" / ONNX).stat().st_size > 8e6


@needs_export
@pytest.mark.parametrize("form", ["safetensors", "onnx"])
def test_what_differs_is_not_left_there(
    form: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, predict = _KINDS[form]
    wrong = (write, lambda *given: predict(*given) + 0.01)
    monkeypatch.setitem(_KINDS, form, wrong)
    with pytest.raises(Differs, match=r"up to 0\.01 away from the model's, over the tolerance"):
        export(load_bundle(model), tmp_path / "out", form, images(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_what_is_there_is_not_overwritten(model: Path, capsys: Capture) -> None:
    assert main(["export", str(model), str(model), "--format", "safetensors"]) == 2
    assert "is there already: name another place, or remove it" in capsys.readouterr().err


def test_a_missing_library_is_told(
    model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "safetensors" else find(name)
    )
    arguments = ["export", str(model), str(tmp_path / "out"), "--format", "safetensors"]
    assert main(arguments) == 2
    said = "The format safetensors needs safetensors: pip install 'gsda[export]'."
    assert said in capsys.readouterr().err
