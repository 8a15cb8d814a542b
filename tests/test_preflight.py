"""Machines of a cluster that could not work for a search.

Each machine is a real `ray start` here; what one lacks is hidden from it by its environment or by a
mount namespace.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from faults.machines import Machines
from PIL import Image

from gsda.data.load import DataSpec, identity, load_domains
from gsda.errors import BadInput
from gsda.tasks import Task
from tune import preflight as module
from tune.cluster import Share, connected
from tune.preflight import preflight

TASK = "own/left2right"
WANTED = Share("cpu", 1.0, 0.0)
BAD = Share("cuda", 0.0, 1.0)  # what the machine has that lacks something
WHERE = rf"^{os.uname().nodename} \([\d.]+\)"


def _can_unshare() -> bool:
    return subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0


@pytest.fixture
def alone(only: Callable[[str], None]) -> None:
    """The machine that sees another folder is asked, and no other."""
    if not _can_unshare():
        pytest.skip("NO MOUNT NAMESPACES HERE: NOT TESTED WITH STORAGE THAT IS NOT SHARED")
    only("alone")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Storage, images and caches of the cluster."""
    folder = tmp_path_factory.mktemp("cluster")
    rng = np.random.default_rng(0)
    for path in (f"{d}/{c}" for d in ("left", "right") for c in "ab"):
        (folder / "own" / path).mkdir(parents=True)
        for n in range(3):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "own" / path / f"{n}.png")
    (folder / "storage").mkdir()
    (folder / "hidden").mkdir()
    return folder


@pytest.fixture(scope="module")
def machines(place: Path) -> Iterator[Machines]:
    """A head and another, that can work; and one that lacks something."""
    with Machines() as machines:
        machines.add("other")
        hide = f'mount -t tmpfs none {place / "hidden"} && exec "$@"'
        hidden = ["unshare", "-m", "sh", "-c", hide, "sh"] if _can_unshare() else []
        machines.add("alone", 0, 1, hidden, GSDA_NODE_DATA=str(place / "gone"))
        with connected(machines.address):
            yield machines


def _check(place: Path, wanted: Share = WANTED, storage: str = "storage", **changes: str) -> int:
    spec = DataSpec(place / "own", place / "cache", 32)
    found = {"digest": identity(*load_domains(Task.parse(TASK), spec)), "weights": "none"}
    return preflight(place / storage, TASK, spec.to_dict(), wanted=wanted, **(found | changes))


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that leaves one machine of the cluster to be seen, by name."""
    everywhere = module.ray.nodes

    def leave(name: str) -> None:
        one = [node for node in everywhere() if name in node["Resources"]]
        monkeypatch.setattr(module.ray, "nodes", lambda: one)

    return leave


def test_machines_that_can_work(machines: Machines, place: Path) -> None:
    assert _check(place) == 2
    assert list((place / "storage").iterdir()) == []


def test_another_version(machines: Machines, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = module.versions()["torch"]
    monkeypatch.setattr(module, "versions", lambda: {"torch": "9.9"})
    sentence = f"{WHERE} has torch {there}, and this machine has 9.9: install the same on all"
    with pytest.raises(BadInput, match=sentence):
        _check(place)


def test_storage_that_is_not_shared(machines: Machines, place: Path, alone: None) -> None:
    sentence = rf"{WHERE} does not see what this machine writes to --storage \S+hidden: name a"
    with pytest.raises(BadInput, match=sentence):
        _check(place, BAD, "hidden")
    assert list((place / "hidden").iterdir()) == []


def test_a_uri_that_all_reach(machines: Machines, place: Path) -> None:
    assert _check(place, remote=f"file://{place}/far") == 2
    assert list((place / "far").iterdir()) == []


def test_a_uri_that_is_another_place_there(machines: Machines, place: Path, alone: None) -> None:
    with pytest.raises(
        BadInput, match=rf"{WHERE} has another --storage file:///\S+hidden/far than"
    ):
        _check(place, BAD, remote=f"file://{place}/hidden/far")
    assert list((place / "hidden" / "far").iterdir()) == []


def test_images_that_are_not_there(
    machines: Machines, place: Path, only: Callable[[str], None]
) -> None:
    """Where GSDA_NODE_DATA says that they are."""
    only("alone")
    with pytest.raises(BadInput, match=rf"{WHERE} lacks data: \S+gone does not exist"):
        _check(place, BAD)


def test_images_and_weights_are_compared(machines: Machines, place: Path) -> None:
    with pytest.raises(BadInput, match=r"The images of own/left2right on .* are not those of this"):
        _check(place, digest="0" * 16)
    with pytest.raises(BadInput, match=r"lacks data: the weights /gone/weights\.pth are not there"):
        _check(place, weights="/gone/weights.pth")


def test_a_package_that_cannot_be_loaded() -> None:
    node = {"NodeManagerHostname": "far", "NodeManagerAddress": "10.0.0.9"}
    with pytest.raises(BadInput, match=r"^far \(10\.0\.0\.9\) cannot load the package \(No module"):
        module._check_code(node, {"trouble": "No module named 'optuna'", "versions": {}})


def test_a_storage_that_cannot_be_written(place: Path) -> None:
    (place / "file").write_text("")
    with pytest.raises(BadInput, match=r"Nothing can be written to --storage .* choose another"):
        preflight(place / "file" / "below", TASK, {}, "", "none", WANTED)
