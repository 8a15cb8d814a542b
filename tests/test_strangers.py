"""Files from strangers: whatever is loaded, and from wherever, nothing in it is executed.

One test for each way in; each trap is shown to work where it is not defused. Names that reach paths
or queries stand here, too.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch

from gsda import checkpoint
from gsda.bundle import MANIFEST, WEIGHTS, load_bundle, save_bundle
from gsda.config import Config
from gsda.data.domain import Pair
from gsda.data.store import Row, cached, open_domain, write_store
from gsda.errors import BadCheckpoint, BadInput
from gsda.features import features_key, freeze
from gsda.model import build_network, load_pretrained, read_weights
from gsda.predict import find_model
from tune.search import main
from tune.settings import Settings
from tune.shelf import find_named

ABOUT = {"classes": ["a", "b"], "backbone": "cnn", "bottleneck": 8}


class Trap:
    """An object whose unpickling leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "executed"


@pytest.fixture
def trap(mark: Path) -> bytes:
    """A file of torch's that runs code where `weights_only` is off."""
    content = checkpoint.to_bytes({"C.weight": torch.zeros(1), "trap": Trap(mark)})
    torch.load(checkpoint.BytesIO(content), weights_only=False)
    assert mark.exists()
    mark.unlink()
    return content


def test_a_checkpoint(tmp_path: Path, trap: bytes, mark: Path) -> None:
    """Its name has the right hash."""
    path = tmp_path / f"step-000000002.{checkpoint._digest(trap)}.pt"
    path.write_bytes(trap)
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        checkpoint.load_step(tmp_path, 2)
    state, complaints = checkpoint.load_newest(tmp_path)
    assert state is None
    assert len(complaints) == 1
    assert not mark.exists()


def _bundle(folder: Path, weights: bytes) -> Path:
    """A model whose manifest says that these weights are its own."""
    save_bundle(folder, build_network("cnn", 2, 8, 0), ABOUT)
    text = (folder / MANIFEST).read_text()
    old = checkpoint.hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    assert old in text
    (folder / WEIGHTS).write_bytes(weights)
    new = checkpoint.hashlib.sha256(weights).hexdigest()
    (folder / MANIFEST).write_text(text.replace(old, new))
    return folder


def test_a_model(tmp_path: Path, trap: bytes, mark: Path) -> None:
    with pytest.raises(BadInput, match=r"is damaged .*cannot be read"):
        load_bundle(_bundle(tmp_path / "model", trap))
    assert not mark.exists()


def test_a_registered_model(
    tmp_path: Path,
    trap: bytes,
    mark: Path,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With code and a pickled model of its own, as MLflow's format allows."""
    folder = tmp_path / "downloaded"
    _bundle(folder / "artifacts" / "bundle", trap)
    (folder / "code" / "gsda").mkdir(parents=True)
    code = f"from pathlib import Path; Path({str(mark)!r}).touch()"
    (folder / "code" / "gsda" / "__init__.py").write_text(code)
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Trap(mark)))
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda *_, **__: str(folder))
    with pytest.raises(BadInput, match=r"is damaged .*cannot be read"):
        find_model("models:/strange@champion", store)
    assert not mark.exists()


def test_a_file_of_weights(tmp_path: Path, trap: bytes, mark: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(trap)
    with pytest.raises(BadInput, match="cannot be read as a file of weights"):
        read_weights(tmp_path / "weights.pth")
    assert not mark.exists()


def test_weights_that_were_downloaded_before(
    tmp_path: Path, trap: bytes, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch looks at the hash of what it downloads, and not of what lies there."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "resnet18-f37072fd.pth").write_bytes(trap)
    with pytest.raises(BadInput, match=r"give --weights resnet18-f37072fd\.pth"):
        load_pretrained(build_network("resnet18", 2, 8, 0), "resnet18", "default")
    assert not mark.exists()


def test_decoded_images_and_cached_features(tmp_path: Path, trap: bytes, mark: Path) -> None:
    """What is no file of ours is made anew."""
    images = np.zeros((4, 256, 256, 3), dtype=np.uint8)
    path = tmp_path / "left.arrow"

    def build() -> None:
        rows = [Row(f"{i}.png", i % 2, image) for i, image in enumerate(images)]
        write_store(path, "left", ("a", "b"), 256, rows, fingerprint="mark")

    for content in (trap, pickle.dumps(Trap(mark))):
        path.write_bytes(content)
        assert len(cached(path, "left", "mark", build)) == 4
    source = open_domain(path, "left")
    network = build_network("mobilenet_v2", 1, 1, seed=3)
    weights = tmp_path / "weights.pth"
    torch.save(network.E.get_submodule("backbone").state_dict(), weights)
    config = Config(backbone="mobilenet_v2", weights=str(weights), features="frozen")
    key = features_key(source.images, config.backbone, config.weights)
    for content in (trap, pickle.dumps(Trap(mark))):
        (tmp_path / f"features-{key[:16]}.arrow").write_bytes(content)
        assert len(freeze(Pair(source, source.images), config, tmp_path).target) == 4
    assert not mark.exists()


NAMES = [
    "../up",
    "a/b",
    "/tmp/x",
    "..",
    "it's",
    'a"b',
    "a\nb",
    "a b",
    "",
    "-x",
    "a\0b",
    "'; DROP",
    "é",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "use",
    [
        lambda name, _: Settings(name=name),
        lambda name, folder: find_named(folder, name),
        lambda name, folder: find_named(folder, name, "--warm-start"),
    ],
)
def test_names_that_could_lead_elsewhere(
    name: str, use: Callable[[str, Path], object], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"use letters, digits"):
        use(name, tmp_path)


@pytest.mark.parametrize("name", ["../up", "it's", "a\nb"])
def test_names_on_the_command_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for option in ("--name", "--warm-start"):
        assert main(["--task", "A2D", option, name]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
