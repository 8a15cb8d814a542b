"""Decoding images, and the mapped file that holds them."""

import errno
import hashlib
import os
import pickle
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from gsda.data import store as store_module
from gsda.data.domain import UInt8
from gsda.data.store import ROWS_PER_BATCH, Row, Store, open_domain, write_store
from gsda.errors import BadInput

SIZE = 8


def random_images(n: int, size: int = SIZE, seed: int = 0) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def rows(images: UInt8) -> list[Row]:
    return [Row(f"a/{i}.png", i % 3, image) for i, image in enumerate(images)]


def made(path: Path, images: UInt8) -> Path:
    write_store(path, "A", ("x", "y", "z"), images.shape[1], rows(images), fingerprint="f")
    return path


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if ".tmp-" in p.name)


# The file


@pytest.mark.parametrize("n", [1, ROWS_PER_BATCH, ROWS_PER_BATCH + 1, 3 * ROWS_PER_BATCH - 1])
def test_round_trip(tmp_path: Path, n: int) -> None:
    images = random_images(n)
    domain = open_domain(made(tmp_path / "s.arrow", images), "A")
    assert (domain.name, domain.classes, len(domain)) == ("A", ("x", "y", "z"), n)
    assert domain.labels.dtype == np.int64
    assert domain.labels.tolist() == [i % 3 for i in range(n)]
    assert list(domain.images.paths) == [f"a/{i}.png" for i in range(n)]
    assert domain.images.size == SIZE
    order = np.random.default_rng(1).integers(0, n, 50)
    assert np.array_equal(domain.images.gather(order), images[order])
    assert np.array_equal(domain.images.gather(np.arange(n)), images)


def test_gather_gives_a_writable_copy(tmp_path: Path) -> None:
    images = random_images(5)
    store = Store.open(made(tmp_path / "s.arrow", images))
    first = store.gather(np.array([3, 3]))
    first[:] = 0
    assert np.array_equal(store.gather(np.array([3]))[0], images[3])
    empty = store.gather(np.array([], dtype=np.int64))
    assert (empty.shape, empty.dtype) == ((0, SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize("index", [-1, 5, ROWS_PER_BATCH])
def test_gather_refuses_other_indices(tmp_path: Path, index: int) -> None:
    store = Store.open(made(tmp_path / "s.arrow", random_images(5)))
    with pytest.raises(IndexError, match=str(index)):
        store.gather(np.array([0, index]))


def mapped(path: Path) -> list[tuple[int, int]]:
    """Address ranges at which this process has mapped the file."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in maps if line.endswith(str(path))]
    return [(int(low, 16), int(high, 16)) for low, high in spans]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
def test_views_lie_in_the_mapped_file(tmp_path: Path) -> None:
    path = made(tmp_path / "s.arrow", random_images(2 * ROWS_PER_BATCH + 7))
    store = Store.open(path)
    spans = mapped(path.resolve())
    assert len(store._views) == 3
    for view in store._views:
        assert not view.flags.writeable
        start, end = view.ctypes.data, view.ctypes.data + view.nbytes
        assert any(low <= start and end <= high for low, high in spans)


def test_view_of_a_column_that_starts_late() -> None:
    images = random_images(5)
    whole = pa.array([image.tobytes() for image in images], pa.binary(SIZE * SIZE * 3))
    assert np.array_equal(store_module._view(whole[2:4], SIZE), images[2:4])


def test_opening_reads_no_image(tmp_path: Path) -> None:
    path = made(tmp_path / "s.arrow", random_images(600, size=64))
    Store.open(path)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    store = Store.open(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(store) == 600
    assert path.stat().st_size > 7_000_000
    assert pa.total_allocated_bytes() - before < 100_000
    assert peak < 500_000


def test_store_has_no_labels_to_give(tmp_path: Path) -> None:
    store = open_domain(made(tmp_path / "s.arrow", random_images(5)), "A").images
    assert not [name for name in dir(store) if "label" in name]
    names = ["digest", "path", "paths", "size", "skipped", "_views"]
    assert sorted(vars(store)) == sorted(names)


def test_pickles_by_path(tmp_path: Path) -> None:
    images = random_images(600)
    store = Store.open(made(tmp_path / "s.arrow", images))
    data = pickle.dumps(store)
    assert len(data) < 2000
    again = pickle.loads(data)
    assert again.digest == store.digest
    assert np.array_equal(again.gather(np.array([599])), images[599:])


def test_unpickling_notices_other_images(tmp_path: Path) -> None:
    path = made(tmp_path / "s.arrow", random_images(5))
    store = Store.open(path)
    data = pickle.dumps(store)
    made(path, random_images(5, seed=1))
    with pytest.raises(BadInput, match=r"s\.arrow was prepared anew .*: start the run again\.$"):
        pickle.loads(data)
    assert np.array_equal(store.gather(np.arange(5)), random_images(5)), "the old map still holds"


def test_digest_is_that_of_paths_and_pixels(tmp_path: Path) -> None:
    images = np.arange(2 * 12, dtype=np.uint8).reshape(2, 2, 2, 3)
    made(tmp_path / "s.arrow", images)
    content = hashlib.sha256(b"gsda-images-2 2\n")
    for i in range(2):
        content.update(b"\0\0\0\7" + f"a/{i}.png".encode() + bytes(range(12 * i, 12 * i + 12)))
    assert Store.open(tmp_path / "s.arrow").digest == content.hexdigest()


def test_digest_changes_with_paths_and_pixels_only(tmp_path: Path) -> None:
    images = random_images(3)

    def digest(paths: str = "abc", label: int = 0, classes: str = "xy", flip: int = 0) -> str:
        given = [Row(path, label, image ^ flip) for path, image in zip(paths, images, strict=True)]
        write_store(tmp_path / "s", "A", tuple(classes), SIZE, given, fingerprint=classes)
        return Store.open(tmp_path / "s").digest

    same = {digest(), digest(label=1), digest(label=-1), digest(classes="pqr")}
    assert len(same) == 1
    assert len({digest(), digest(paths="abd"), digest(flip=1)}) == 3


def test_any_arrow_reader_can_read_it(tmp_path: Path) -> None:
    images = random_images(300)
    with pa.memory_map(str(made(tmp_path / "s.arrow", images))) as source:
        table = pa.ipc.open_file(source).read_all()
        assert table.column_names == ["image", "path", "label", "source"]
        assert table.schema.metadata[b"size"] == b"8"
        assert table.column("image")[299].as_py() == images[299].tobytes()


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.999])
def test_truncated_store_is_refused(tmp_path: Path, keep: float) -> None:
    path = made(tmp_path / "s.arrow", random_images(300))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(BadInput, match=r"not a sound image store .*: remove it"):
        open_domain(path, "A")


def test_other_arrow_files_and_none_are_refused(tmp_path: Path) -> None:
    table = pa.table({"image": [b"x"], "path": ["p"], "label": [0]})
    with pa.ipc.new_file(str(tmp_path / "s.arrow"), table.schema) as writer:
        writer.write_table(table)
    for name in ("s.arrow", "none.arrow"):
        with pytest.raises(BadInput, match=rf"{name} is not a sound image store"):
            Store.open(tmp_path / name)


# Writing, all or nothing


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_failure_leaves_the_old_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    path = made(tmp_path / "s.arrow", random_images(5))
    before = path.read_bytes()

    def failing() -> Iterator[Row]:
        yield from rows(random_images(300, seed=1))
        assert leftovers(tmp_path), "nothing was being written"
        raise error

    with pytest.raises(error):
        write_store(path, "A", ("x",), SIZE, failing())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.arrow"]


def test_too_little_space_is_said_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1234))
    with pytest.raises(BadInput) as caught:
        write_store(tmp_path / "s", "A", ("x",), SIZE, rows(random_images(10)), expected=10)
    assert str(caught.value) == (
        f"{tmp_path / 's'} needs 1920 bytes but its disk has 1234 bytes free: "
        "make room, or set GSDA_CACHE to a folder on another disk."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_disk_full_while_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(_: int) -> None:
        assert leftovers(tmp_path)
        raise OSError(code, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match=r"needs 1920 bytes but its disk has \d+ bytes free: make"):
        write_store(tmp_path / "s", "A", ("x",), SIZE, rows(random_images(10)), expected=10)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "s"
    with pytest.raises(BadInput, match=rf"^{path} cannot be written \(.*\): make .* GSDA_CACHE"):
        write_store(path, "A", ("x",), SIZE, rows(random_images(1)))


def test_each_image_carries_the_hash_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "s.arrow"
    images = random_images(2)
    source = hashlib.sha256(b"file").hexdigest()
    write_store(path, "A", ("x",), SIZE, [Row("a", 0, images[0], source), Row("b", 0, images[1])])
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    assert table.column("source").to_pylist() == [source, ""]
