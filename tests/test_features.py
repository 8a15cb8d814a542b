"""Cached features of a frozen backbone, and runs on them."""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gsda import features as features_module
from gsda.bundle import load_bundle, save_bundle
from gsda.checkpoint import load_bytes, to_bytes
from gsda.config import Config, source_only
from gsda.data.domain import Domain, Nameless, Pair, restrict
from gsda.data.store import Row, open_domain, write_store
from gsda.errors import BadInput
from gsda.features import Features, features_key, freeze
from gsda.model import build_network, load_pretrained
from gsda.run import Run
from gsda.tasks import Task

OWN = Task("own", "left", "right")
N = 10


def domain(path: Path, name: str, seed: int) -> Domain:
    images = np.random.default_rng(seed).integers(0, 256, (N, 256, 256, 3), dtype=np.uint8)
    rows = [Row(f"{i}.png", i % 2, image) for i, image in enumerate(images)]
    write_store(path / f"{name}.arrow", name, ("a", "b"), 256, rows)
    return open_domain(path / f"{name}.arrow", name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights, which no test changes."""
    folder = tmp_path_factory.mktemp("features")
    network = build_network("mobilenet_v2", 1, 1, seed=3)
    torch.save(network.E.get_submodule("backbone").state_dict(), folder / "weights.pth")
    return folder


@pytest.fixture(scope="module")
def pair(place: Path) -> Pair:
    return Pair(domain(place, "left", 0), domain(place, "right", 1).images)


@pytest.fixture(scope="module")
def config(place: Path) -> Config:
    return Config(
        backbone="mobilenet_v2",
        weights=str(place / "weights.pth"),
        features="frozen",
        bottleneck=8,
        hidden=8,
        n_groups=1,
        batch_size=4,
        steps=6,
        evaluate_every=3,
        tau=0.5,
    )


@pytest.fixture(scope="module")
def frozen(pair: Pair, config: Config, place: Path) -> Pair:
    return freeze(pair, config, place / "cache")


def everything(images) -> np.ndarray:
    return images.gather(np.arange(len(images)))


def test_features_are_those_of_the_backbone(pair: Pair, frozen: Pair, config: Config) -> None:
    rows = everything(frozen.target)
    assert (rows.shape, rows.dtype) == ((N, 1280), np.float32)
    assert rows.std() > 0
    network = build_network("mobilenet_v2", 1, 1, seed=0)
    load_pretrained(network, "mobilenet_v2", config.weights)
    network.eval()
    x = features_module.normalise(
        features_module.centre_crop(torch.from_numpy(everything(pair.target)), 224), "imagenet"
    )
    with torch.inference_mode():
        direct = network.E.get_submodule("backbone")(x)
    assert np.allclose(rows, direct.numpy(), rtol=1e-4, atol=1e-5)
    assert list(frozen.target.paths) == list(pair.target.paths)
    assert np.array_equal(frozen.source.labels, pair.source.labels)


@pytest.mark.parametrize("adapts", [True, False])
def test_a_run_predicts_like_the_network_that_it_leaves(
    pair: Pair, frozen: Pair, config: Config, tmp_path: Path, adapts: bool
) -> None:
    config = config if adapts else source_only(config)
    run = Run(OWN, config, frozen)
    before = run.predict(frozen.target).logits
    run.step(6)
    outputs = run.predict(frozen.target)
    assert not torch.allclose(outputs.logits, before)
    manifest = {"classes": ["a", "b"], "backbone": "mobilenet_v2", "bottleneck": 8}
    save_bundle(tmp_path, run.network, manifest)
    _, p = load_bundle(tmp_path).predict(everything(pair.target))
    assert np.allclose(p, outputs.p.float().numpy(), atol=1e-4)


def test_they_are_computed_once(
    pair: Pair, frozen: Pair, config: Config, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(features_module, "_write", never)
    again = freeze(pair, config, place / "cache")
    assert np.array_equal(everything(again.source.images), everything(frozen.source.images))
    assert freeze(again, config, place / "cache").target is again.target


def test_progress_is_told(pair: Pair, config: Config, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    freeze(pair, config, tmp_path, progress=lambda *call: calls.append(call))
    assert calls == [(N, N), (N, N)]


def test_the_key_changes_with_weights_transform_and_data(
    pair: Pair, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pair.target

    def key() -> str:
        return features_key(images, "mobilenet_v2", str(tmp_path / "weights.pth"))

    shutil.copy(config.weights, tmp_path / "weights.pth")
    keys = [key()]
    state = torch.load(tmp_path / "weights.pth", weights_only=True)
    state["features.0.0.weight"][0, 0, 0, 0] += 1
    torch.save(state, tmp_path / "weights.pth")
    keys.append(key())
    monkeypatch.setattr(features_module, "TRANSFORM", "another")
    keys.append(key())
    images = pair.source.images
    keys.append(key())
    assert len(set(keys)) == 4
    assert key() == keys[-1]


@pytest.mark.parametrize("keep", [0, 4, 0.5, 0.999])
def test_a_damaged_file_is_computed_again(
    frozen: Pair, pair: Pair, config: Config, place: Path, tmp_path: Path, keep: float
) -> None:
    shutil.copytree(place / "cache", tmp_path / "cache")
    kept = frozen.target.base if isinstance(frozen.target, Nameless) else frozen.target
    assert isinstance(kept, Features)
    path = tmp_path / "cache" / kept.path.name
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(BadInput, match="is no sound file of features: remove it, and"):
        Features(path, frozen.target.digest, pair.target)
    again = freeze(pair, config, tmp_path / "cache")
    assert np.allclose(everything(again.target), everything(frozen.target), atol=1e-5)


def test_an_interruption_leaves_no_file(pair: Pair, config: Config, tmp_path: Path) -> None:
    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        freeze(pair, config, tmp_path, progress=interrupt)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_they_pickle_by_path(frozen: Pair) -> None:
    data = pickle.dumps(frozen.target)
    assert len(data) < 2000
    assert np.array_equal(everything(pickle.loads(data)), everything(frozen.target))


@pytest.mark.parametrize("index", [-1, N])
def test_nothing_from_outside(frozen: Pair, index: int) -> None:
    with pytest.raises(IndexError, match=str(index)):
        frozen.target.gather(np.array([index]))


def test_a_part_shares_the_file_of_the_whole(
    pair: Pair, frozen: Pair, config: Config, place: Path
) -> None:
    files = sorted((place / "cache").iterdir())
    part = Pair(pair.source, restrict(domain(place, "right", 1), (1,)).images)
    target = freeze(part, config, place / "cache").target
    assert sorted((place / "cache").iterdir()) == files
    assert np.array_equal(everything(target), everything(frozen.target)[1::2])


def test_a_run_resumes_to_the_bit(frozen: Pair, config: Config) -> None:
    whole, first, second = (Run(OWN, config, frozen) for _ in range(3))
    whole.step(6)
    first.step(2)
    second.load_state_dict(load_bytes(to_bytes(first.state_dict()), "state"))
    second.step(4)
    assert torch.equal(whole.predict(frozen.target).logits, second.predict(frozen.target).logits)


def test_images_and_features_are_not_mixed_up(pair: Pair, frozen: Pair, config: Config) -> None:
    with pytest.raises(BadInput, match=r"^features is 'frozen', but the data is images: pass it"):
        Run(OWN, config, pair)
    with pytest.raises(BadInput, match=r"^features is 'trained', but the data is features: pass"):
        Run(OWN, replace(config, features="trained"), frozen)


def test_trained_features_are_left_alone(pair: Pair, config: Config, tmp_path: Path) -> None:
    assert freeze(pair, replace(config, features="trained"), tmp_path) is pair
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "cnn", "weights": "default"}, "backbone 'cnn' is given no pretrained"),
        ({"weights": "none"}, "backbone 'mobilenet_v2' is given no pretrained weights: choose"),
        ({"weights": "gone.pth"}, "There is no weights file gone.pth: check --weights."),
        ({"backbone": "resnet18"}, "does not fit resnet18: it lacks the tensor conv1.weight"),
    ],
)
def test_without_weights_there_is_nothing_to_freeze(
    pair: Pair, config: Config, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        freeze(pair, replace(config, **change), tmp_path)
