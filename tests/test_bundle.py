"""A model as a folder."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gsda import checkpoint
from gsda.bundle import (
    CHUNK,
    MANIFEST,
    WEIGHTS,
    Predictor,
    amend_manifest,
    bundle_step,
    load_bundle,
    save_bundle,
)
from gsda.errors import BadInput
from gsda.model import build_network

MANIFEST_OF: dict[str, Any] = {
    "classes": ["mug", "Öl", "pen"],
    "backbone": "cnn",
    "bottleneck": 8,
    "task": "own/left2right",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_bundle(tmp_path / "model", build_network("cnn", 3, 8, 0), MANIFEST_OF)
    return tmp_path / "model"


def images(n: int, height: int = 32, width: int = 32) -> Any:
    return np.random.default_rng(n).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def test_a_model_comes_back_as_it_was(folder: Path) -> None:
    predictor = load_bundle(folder)
    assert predictor.classes == ("mug", "Öl", "pen")
    about = {"format": 1, "sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()}
    assert predictor.manifest == about | MANIFEST_OF
    assert predictor.size == 32
    ours, before = predictor.network.state_dict(), build_network("cnn", 3, 8, 0).state_dict()
    assert all(torch.equal(ours[name], before[name]) for name in before)
    assert not predictor.network.training


def test_predictions_are_classes_and_probabilities(folder: Path) -> None:
    predictor = load_bundle(folder)
    classes, p = predictor.predict(images(5))
    assert p.shape == (5, 3)
    assert p.dtype == np.float32
    assert np.allclose(p.sum(axis=1), 1, atol=1e-6)
    assert classes.tolist() == [predictor.classes[k] for k in p.argmax(axis=1)]


def test_predictions_do_not_depend_on_the_batch(folder: Path) -> None:
    predictor = load_bundle(folder)
    many = images(CHUNK + 3)
    _, together = predictor.predict(many)
    _, alone = predictor.predict(many[-2:])
    assert np.allclose(together[-2:], alone, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 50), (1, 1), (200, 33)])
def test_images_of_any_size_are_resized_as_in_training(
    height: int, width: int, folder: Path
) -> None:
    predictor = load_bundle(folder)
    given = images(2, height, width)
    _, p = predictor.predict(given)
    resized = [Image.fromarray(i).resize((32, 32), Image.Resampling.BILINEAR) for i in given]
    _, expected = predictor.predict_sized([np.stack([np.asarray(i) for i in resized])])
    assert np.array_equal(p, expected)


def test_no_images_give_no_predictions(folder: Path) -> None:
    classes, p = load_bundle(folder).predict(images(0))
    assert classes.shape == (0,)
    assert p.shape == (0, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        images(1)[0],
        images(2)[..., :1],
        images(2).astype(np.float32),
        images(2).transpose(0, 3, 1, 2),
        np.zeros((2, 4), dtype=np.uint8),
    ],
    ids=["one", "grey", "float", "channels-first", "flat"],
)
def test_wrong_images_are_refused(wrong: Any, folder: Path) -> None:
    with pytest.raises(BadInput, match=r"must be uint8 of shape \(N, height, width, 3\), not"):
        load_bundle(folder).predict(wrong)


def test_prediction_moves_no_weight_and_no_input(folder: Path) -> None:
    predictor = load_bundle(folder)
    before = {n: t.clone() for n, t in predictor.network.state_dict().items()}
    given = images(4)
    kept = given.copy()
    predictor.predict(given)
    assert np.array_equal(given, kept)
    after = predictor.network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("missing", [MANIFEST, WEIGHTS])
def test_half_a_model_is_no_model(missing: str, folder: Path) -> None:
    (folder / missing).unlink()
    with pytest.raises(BadInput, match=r"is no model: it needs manifest.json and weights.pt"):
        load_bundle(folder)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"{tmp_path / 'gone'} is no model"):
        load_bundle(tmp_path / "gone")


def test_damage_is_told(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"is damaged .*: fetch it again"):
        load_bundle(folder)
    (folder / WEIGHTS).write_bytes(whole)
    (folder / MANIFEST).write_text("{")
    with pytest.raises(BadInput, match=r"is damaged .*: fetch it again"):
        load_bundle(folder)
    (folder / MANIFEST).write_bytes(b"\xff\xfe{}")
    with pytest.raises(BadInput, match="is damaged"):
        load_bundle(folder)


@pytest.mark.parametrize("text", ["{}", "[]", '{"classes": 3, "backbone": "cnn"}', '"x"'])
def test_a_manifest_of_something_else(text: str, folder: Path) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(BadInput, match="describes no model of ours"):
        load_bundle(folder)


@pytest.mark.parametrize("change", [{"bottleneck": 9}, {"classes": ["a"]}])
def test_weights_that_do_not_fit_the_manifest(change: dict[str, Any], folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8")) | change
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BadInput, match=r"do not fit its manifest\.json"):
        load_bundle(folder)


def swap(folder: Path, content: bytes) -> None:
    """Put other weights in, with the hash that they have."""
    (folder / WEIGHTS).write_bytes(content)
    amend_manifest(folder, sha256=hashlib.sha256(content).hexdigest())


def test_weights_of_another_model(folder: Path, tmp_path: Path) -> None:
    amend_manifest(folder, step=6)
    assert bundle_step(folder) == 6
    save_bundle(tmp_path / "other", build_network("cnn", 3, 8, 1), MANIFEST_OF)
    (tmp_path / "other" / WEIGHTS).replace(folder / WEIGHTS)
    with pytest.raises(BadInput, match=r"is damaged \(weights.pt is not what manifest.json says\)"):
        load_bundle(folder)
    assert bundle_step(folder) is None
    assert bundle_step(tmp_path / "gone") is None


def test_models_without_a_hash_are_older_and_load(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    del manifest["sha256"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert load_bundle(folder).classes == ("mug", "Öl", "pen")


def test_weights_that_are_none(folder: Path) -> None:
    swap(folder, checkpoint.to_bytes([1, 2]))
    with pytest.raises(BadInput, match=r"do not fit its manifest\.json"):
        load_bundle(folder)


def test_nothing_in_the_folder_is_executed(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"

    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (mark,))

    swap(folder, checkpoint.to_bytes({"C.weight": Trap()}))
    with pytest.raises(BadInput, match=r"is damaged .*cannot be read"):
        load_bundle(folder)
    assert not mark.exists()


def test_the_manifest_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, content: bytes) -> None:
        if path.name == MANIFEST:
            raise OSError("killed here")
        checkpoint.write_atomically(path, content)

    monkeypatch.setattr("gsda.bundle.write_atomically", fail)
    with pytest.raises(OSError, match="killed here"):
        save_bundle(tmp_path, build_network("cnn", 3, 8, 0), MANIFEST_OF)
    with pytest.raises(BadInput, match="is no model"):
        load_bundle(tmp_path)


def test_predictors_need_a_known_backbone() -> None:
    with pytest.raises(BadInput, match="Unknown backbone 'vgg'"):
        Predictor(build_network("cnn", 3, 8, 0), MANIFEST_OF | {"backbone": "vgg"})
