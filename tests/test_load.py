"""From folders to decoded domains."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from gsda.data import store as store_module
from gsda.data.decoding import decode
from gsda.data.domain import Domain, Nameless
from gsda.data.folders import scan
from gsda.data.load import (
    DataSpec,
    fingerprint,
    load_domains,
    load_pair,
    prepare,
)
from gsda.data.store import Store
from gsda.errors import BadInput
from gsda.tasks import Task

OWN = Task.parse("own/left2right")
GLYPH = Task.parse("glyph31/A2D")
SIZE = 8
ROOT = Path(__file__).parents[1]


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


_BEFORE: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _threads_of_others() -> None:
    """Other tests' libraries keep threads of their own; only ours must end."""
    _BEFORE.clear()
    _BEFORE.update(threading.enumerate())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """left: a and b with 20 images each; right: a and b with 10 each."""
    for name, n in (("left", 20), ("right", 10)):
        for label, kind in enumerate("ab"):
            for i in range(n):
                picture(tmp_path / "data" / name / kind / f"{i:02d}.png", 100 * label + i + n)
    return tmp_path / "data"


@pytest.fixture
def spec(data: Path, tmp_path: Path) -> DataSpec:
    return DataSpec(data, tmp_path / "cache", SIZE)


def skipping(spec: DataSpec) -> DataSpec:
    return DataSpec(spec.root, spec.cache, spec.size, skip_bad=True)


class Calls(list[tuple[int, int]]):
    """A progress callback that remembers; empty when everything came from the cache."""

    def __call__(self, done: int, total: int) -> None:
        self.append((done, total))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def stores(spec: DataSpec) -> list[str]:
    return [name for name in names(spec.cache) if name.endswith(".arrow")]


def test_images_equal_direct_decoding(data: Path, spec: DataSpec) -> None:
    source, target = load_domains(OWN, spec)
    assert (source.name, target.name) == ("left", "right")
    assert source.classes == target.classes == ("a", "b")
    assert (len(source), len(target)) == (40, 20)
    assert target.labels.tolist() == [0] * 10 + [1] * 10
    for domain in (source, target):
        paths = domain.images.paths
        assert list(paths) == sorted(paths)
        direct = np.stack([decode(data / domain.name / path, SIZE) for path in paths])
        assert np.array_equal(domain.images.gather(np.arange(len(paths))), direct)


def test_the_store_has_the_hash_of_every_file(data: Path, spec: DataSpec) -> None:
    source, _ = load_domains(OWN, spec)
    table = pa.ipc.open_file(pa.memory_map(str(source.images.path))).read_all()
    for name, digest in zip(
        *(table.column(c).to_pylist() for c in ("path", "source")), strict=True
    ):
        assert digest == hashlib.sha256((data / "left" / name).read_bytes()).hexdigest()


def test_pair_has_the_target_without_labels(spec: DataSpec) -> None:
    pair = load_pair(OWN, spec)
    assert isinstance(pair.source, Domain)
    assert isinstance(pair.target, Nameless)
    assert isinstance(pair.target.base, Store)
    assert len(pair.target) == 20
    assert not hasattr(pair.target, "labels")


def test_flat_target_is_unlabelled(data: Path, spec: DataSpec) -> None:
    shutil.rmtree(data / "right")
    for i in range(3):
        picture(data / "right" / f"{i}.png", i)
    _, target = load_domains(OWN, spec)
    assert target.labels.tolist() == [-1, -1, -1]
    assert target.classes == ()


def test_decodes_once_and_reports_progress(spec: DataSpec) -> None:
    first, second = Calls(), Calls()
    digest = load_pair(OWN, spec, first).source.images.digest
    assert first == [(i + 1, 40) for i in range(40)] + [(i + 1, 20) for i in range(20)]
    assert load_pair(OWN, spec, second).source.images.digest == digest
    assert second == []


def test_digest_does_not_depend_on_cache_or_folder(spec: DataSpec, tmp_path: Path) -> None:
    one = load_pair(OWN, spec)
    moved = shutil.copytree(spec.root or "", tmp_path / "elsewhere")
    two = load_pair(OWN, DataSpec(moved, tmp_path / "cache2", SIZE))
    assert one.source.images.digest == two.source.images.digest
    assert one.target.digest == two.target.digest != one.source.images.digest


def test_each_size_and_folder_has_its_own_store(spec: DataSpec) -> None:
    load_pair(OWN, spec)
    load_pair(OWN, DataSpec(spec.root, spec.cache, 16))
    assert len(stores(spec)) == 4
    assert load_pair(OWN, spec).target.size == SIZE


def changed(data: Path, how: str) -> None:
    file = data / "left" / "a" / "00.png"
    if how == "added":
        picture(data / "left" / "a" / "new.png", 1)
    elif how == "removed":
        file.unlink()
    elif how == "renamed":
        file.rename(file.with_name("zz.png"))
    else:
        time_before = file.stat().st_mtime_ns
        picture(file, 999)
        os.utime(file, ns=(time_before + 1, time_before + 1))


@pytest.mark.parametrize("how", ["added", "removed", "renamed", "touched"])
def test_changed_folder_is_noticed(data: Path, spec: DataSpec, how: str) -> None:
    before = load_pair(OWN, spec)
    held = before.source.images.gather(np.arange(40))
    changed(data, how)
    calls = Calls()
    after = load_pair(OWN, spec, calls)
    assert len(calls) == len(after.source) == {"added": 41, "removed": 39}.get(how, 40)
    assert after.source.images.digest != before.source.images.digest
    assert after.target.digest == before.target.digest
    assert len(stores(spec)) == 2, "the changed one took the old one's place"
    assert np.array_equal(before.source.images.gather(np.arange(40)), held)


def test_fingerprint_of_a_listing(data: Path) -> None:
    listing = scan(data, "left", ("left",), None)
    assert fingerprint(listing, 8) == fingerprint(listing, 8)
    swapped = scan(data, "left", ("left",), ("b", "a"))
    marks = {fingerprint(listing, 8), fingerprint(listing, 9), fingerprint(swapped, 8)}
    assert len(marks) == 3


@pytest.mark.parametrize("keep", [0, 100, -100])
def test_damaged_store_is_rebuilt(spec: DataSpec, keep: int) -> None:
    digest = load_pair(OWN, spec).target.digest
    for name in stores(spec):
        path = spec.cache / name
        path.write_bytes(path.read_bytes()[:keep])
    calls = Calls()
    assert load_pair(OWN, spec, calls).target.digest == digest
    assert len(calls) == 60


# Bad files


def test_bad_file_is_named(data: Path, spec: DataSpec) -> None:
    bad = data / "left" / "b" / "03.png"
    bad.write_bytes(b"")
    with pytest.raises(BadInput) as caught:
        load_pair(OWN, spec)
    assert str(caught.value) == (
        f"{bad} cannot be read as an image (the file is empty): "
        "remove it, or pass --skip-bad-images."
    )
    assert stores(spec) == []
    assert not set(threading.enumerate()) - _BEFORE, "the decoding threads are gone"


def test_bad_files_are_skipped_on_demand_only(data: Path, spec: DataSpec) -> None:
    (data / "left" / "b" / "03.png").write_bytes(b"no image")
    (data / "left" / "a" / "link.png").symlink_to(data / "nowhere")
    calls = Calls()
    source, _ = load_domains(OWN, skipping(spec), calls)
    assert len(source) == 39
    assert source.labels.tolist() == [0] * 20 + [1] * 19
    assert isinstance(source.images, Store)
    assert source.images.skipped == ("a/link.png", "b/03.png")
    assert not {"a/link.png", "b/03.png"} & set(source.images.paths)
    assert calls[40] == (41, 41)
    calls.clear()
    assert load_pair(OWN, skipping(spec), calls).source.images.skipped == source.images.skipped
    assert calls == []
    with pytest.raises(BadInput, match=r"link\.png cannot be read"):
        load_pair(OWN, spec)
    load_pair(OWN, skipping(spec), calls)
    assert calls == [], "the refusal did not harm the store"


def spoil(folder: Path) -> None:
    for file in folder.glob("**/*.png"):
        file.write_bytes(b"spoilt")


def test_source_class_without_readable_images(data: Path, spec: DataSpec) -> None:
    spoil(data / "left" / "b")
    for _ in ("decoded", "from the cache"):
        with pytest.raises(BadInput) as caught:
            load_pair(OWN, skipping(spec))
        assert str(caught.value) == (
            f"None of the images of class 'b' in {data / 'left' / 'b'} can be read: "
            "replace them with intact ones."
        )


def test_own_target_may_lose_a_class(data: Path, spec: DataSpec) -> None:
    spoil(data / "right" / "b")
    _, target = load_domains(OWN, skipping(spec))
    assert set(target.labels.tolist()) == {0}


def test_benchmark_target_may_not_lose_a_class(tmp_path: Path) -> None:
    for domain in ("amazon", "dslr"):
        for label in range(10):
            picture(tmp_path / domain / "images" / str(label) / "1.png", label)
    spec = DataSpec(tmp_path, tmp_path / "cache", SIZE, skip_bad=True)
    task = Task.parse("office-caltech10/A2D")
    assert len(load_pair(task, spec).target) == 10
    spoil(tmp_path / "dslr" / "images" / "7")
    with pytest.raises(BadInput, match=r"class '7' in .*dslr/images/7 can be read"):
        load_pair(task, spec)


def test_no_readable_image_at_all(data: Path, spec: DataSpec) -> None:
    spoil(data / "right")
    with pytest.raises(BadInput) as caught:
        load_pair(OWN, skipping(spec))
    assert str(caught.value) == (
        f"None of the 20 images in {data / 'right'} can be read: point --data at an intact copy."
    )
    assert len(stores(spec)) == 1


# Interruption, space, and other processes


def test_interruption_leaves_no_file(spec: DataSpec) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_pair(OWN, spec, interrupt)
    assert [name for name in names(spec.cache) if not name.endswith(".lock")] == []
    assert not set(threading.enumerate()) - _BEFORE
    assert len(load_pair(OWN, spec).source) == 40, "the lock was let go"


def test_what_a_killed_process_left_is_swept(spec: DataSpec) -> None:
    load_pair(OWN, spec)
    for name in stores(spec):
        (spec.cache / name).rename(spec.cache / f"{name}.tmp-1-abc")
    load_pair(OWN, spec)
    assert not [name for name in names(spec.cache) if "tmp" in name]


def test_full_disk(spec: DataSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(BadInput, match=r"needs 7680 bytes but its disk has 10 bytes free: make"):
        load_pair(OWN, spec)
    monkeypatch.undo()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match=r"needs 7680 bytes but its disk has \d+ bytes free"):
        load_pair(OWN, spec)
    assert [name for name in names(spec.cache) if not name.endswith(".lock")] == []
    assert not set(threading.enumerate()) - _BEFORE


def test_disk_full_halfway_ends_the_decoding(
    spec: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module, "ROWS_PER_BATCH", 4)
    monkeypatch.setattr(store_module, "_batch", full)
    with pytest.raises(BadInput, match=r"needs 7680 bytes") as caught:
        load_pair(OWN, spec)
    assert not set(threading.enumerate()) - _BEFORE
    assert caught.value.__traceback__, "which holds the frames of whoever did not end"


def test_spec_survives_json(spec: DataSpec) -> None:
    for given in (spec, skipping(spec), DataSpec(None, spec.cache, 32)):
        assert DataSpec.from_dict(json.loads(json.dumps(given.to_dict()))) == given


def test_cache_that_cannot_be_made(spec: DataSpec, data: Path) -> None:
    file = data / "left" / "a" / "00.png"
    with pytest.raises(BadInput, match=r"cannot be written \(.*\): .* set GSDA_CACHE"):
        load_pair(OWN, DataSpec(spec.root, file / "cache", SIZE))


PREPARE = """
import sys
from pathlib import Path
from gsda.data.folders import scan
from gsda.data.load import prepare
listing = scan(Path(sys.argv[1]), "left", ("left",), None)
calls = []
print("ready", flush=True)
domain = prepare(listing, 8, Path(sys.argv[2]), progress=lambda *call: calls.append(call))
print(len(calls), domain.images.digest)
"""


def test_two_processes_prepare_one_store(data: Path, spec: DataSpec) -> None:
    listing = scan(data, "left", ("left",), None)
    digest = prepare(listing, SIZE, spec.cache).images.digest
    (name,) = stores(spec)
    (spec.cache / name).unlink()
    command = [sys.executable, "-W", "error", "-c", PREPARE, str(data), str(spec.cache)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (spec.cache / f"{name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # both get as far as this
        both = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            for _ in range(2)
        ]
        for process in both:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        assert stores(spec) == [], "neither waited for the lock"
    said = [process.communicate(timeout=60)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(said) == [["0", digest], ["40", digest]]
    assert names(spec.cache) == [name, f"{name}.lock"]
