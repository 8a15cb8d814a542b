"""Decoding images, and the mapped file that holds them."""

import errno
import hashlib
import io
import os
import pickle
import shutil
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from gsda.data import decoding
from gsda.data import store as store_module
from gsda.data.decoding import decode
from gsda.data.domain import UInt8
from gsda.data.store import ROWS_PER_BATCH, Row, Store, open_domain, write_store
from gsda.errors import BadInput

SIZE = 8
CURE = "remove it, or pass --skip-bad-images."


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


# Decoding


def flat(mode: str, value: object, **save: object) -> bytes:
    """An 8x8 image of one value as the bytes of a file."""
    image = Image.new(mode, (8, 8), value)  # type: ignore[arg-type]
    file = io.BytesIO()
    image.save(file, **save)  # type: ignore[arg-type]
    return file.getvalue()


def of_array(values: np.ndarray, **save: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, **save)  # type: ignore[arg-type]
    return file.getvalue()


def paletted(transparent: bool) -> bytes:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    file = io.BytesIO()
    image.save(file, format="PNG", **({"transparency": 1} if transparent else {}))
    return file.getvalue()


def full(dtype: str, value: float) -> np.ndarray:
    return np.full((8, 8), value, dtype=dtype)


ODD = {
    "rgb": (flat("RGB", (1, 2, 3), format="PNG"), (1, 2, 3)),
    "grey": (flat("L", 77, format="PNG"), (77, 77, 77)),
    "bit": (flat("1", 1, format="PNG"), (255, 255, 255)),
    "palette": (paletted(False), (10, 20, 30)),
    "palette, transparent": (paletted(True), (255, 255, 255)),
    "gif": (flat("L", 40, format="GIF"), (40, 40, 40)),
    "rgba, clear": (flat("RGBA", (9, 9, 9, 0), format="PNG"), (255, 255, 255)),
    "rgba, half": (flat("RGBA", (255, 0, 0, 128), format="PNG"), (255, 127, 127)),
    "rgba, webp": (flat("RGBA", (255, 0, 0, 128), format="WEBP", lossless=True), (255, 127, 127)),
    "grey, half": (flat("LA", (0, 128), format="PNG"), (127, 127, 127)),
    "rgb, key": (flat("RGB", (1, 2, 3), format="PNG", transparency=(1, 2, 3)), (255, 255, 255)),
    "grey, key": (flat("L", 7, format="PNG", transparency=7), (255, 255, 255)),
    "cmyk": (flat("CMYK", (0, 255, 255, 0), format="TIFF"), (255, 0, 0)),
    "cmyk, black": (flat("CMYK", (0, 0, 0, 155), format="TIFF"), (100, 100, 100)),
    "cmyk, jpeg": (flat("CMYK", (0, 255, 255, 0), format="JPEG", quality=100), (254, 0, 0)),
    "16 bit": (of_array(full("u2", 128 * 257), format="PNG"), (128, 128, 128)),
    "16 bit, white": (of_array(full("u2", 65535), format="TIFF"), (255, 255, 255)),
    "16 bit, dark": (of_array(full("u2", 300), format="TIFF"), (1, 1, 1)),
    "32 bit": (of_array(full("i4", 10 * 257), format="TIFF"), (10, 10, 10)),
    "float, unit": (of_array(full("f4", 0.4), format="TIFF"), (102, 102, 102)),
    "float, byte": (of_array(full("f4", 200.0), format="TIFF"), (200, 200, 200)),
    "pgm": (b"P5 8 8 255\n" + b"\x21" * 64, (0x21,) * 3),
    "pgm, 16 bit": (b"P5 8 8 65535\n" + b"\x80\x80" * 64, (128, 128, 128)),
    "pgm, 10 bit": (b"P5 8 8 1023\n" + b"\x03\xff" * 64, (255, 255, 255)),
    "bmp": (flat("RGB", (5, 6, 7), format="BMP"), (5, 6, 7)),
}


@pytest.mark.parametrize("name", ODD)
def test_every_mode_becomes_rgb(tmp_path: Path, name: str) -> None:
    data, colour = ODD[name]
    (tmp_path / "x.png").write_bytes(data)
    image = decode(tmp_path / "x.png", SIZE)
    assert (image.shape, image.dtype) == ((SIZE, SIZE, 3), np.uint8)
    assert image.flags.writeable
    off = np.abs(image.astype(int) - colour).max()
    assert off <= (2 if "jpeg" in name else 0)


def test_wide_values_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = np.repeat(np.array([[-70000], [0], [70000], [140000]]), 4, axis=1)
    (tmp_path / "x.tif").write_bytes(of_array(values.astype("i4"), format="TIFF"))
    assert decode(tmp_path / "x.tif", 4)[:, 0, 0].tolist() == [0, 85, 170, 255]
    floats = np.array([[np.nan, 0.0], [0.5, 1.0]], dtype="f4")
    (tmp_path / "x.tif").write_bytes(of_array(floats, format="TIFF"))
    assert decode(tmp_path / "x.tif", 2)[..., 0].tolist() == [[0, 0], [128, 255]]


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), value) for value in (200, 10)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert (decode(tmp_path / "x.gif", SIZE) == 200).all()


UPRIGHT = np.zeros((8, 8, 3), dtype=np.uint8)
UPRIGHT[:4, :4], UPRIGHT[:4, 4:], UPRIGHT[4:, :4] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
STORED = {  # how a camera that writes this orientation stores the upright image
    1: UPRIGHT,
    2: np.fliplr(UPRIGHT),
    3: np.rot90(UPRIGHT, 2),
    4: np.flipud(UPRIGHT),
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT),
    7: np.rot90(UPRIGHT.transpose(1, 0, 2), 2),
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    image.save(tmp_path / "x", format=kind, exif=exif, lossless=True)
    assert np.array_equal(decode(tmp_path / "x", 8), UPRIGHT)


def test_exif_orientation_of_a_big_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    big = Image.fromarray(np.ascontiguousarray(STORED[6])).resize((640, 480), 0)
    big.save(tmp_path / "x.jpg", exif=exif, quality=95)
    off = np.abs(decode(tmp_path / "x.jpg", 8).astype(int) - UPRIGHT)
    assert off[[1, 1, 6, 6], [1, 6, 1, 6]].max() < 12


def test_broken_exif_does_not_matter(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 9).save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\xff\xff broken")
    assert (decode(tmp_path / "x.jpg", SIZE) == 9).all()


def test_resizing_averages_and_fills_the_square(tmp_path: Path) -> None:
    stripes = np.zeros((64, 256), dtype=np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "x.png")
    image = decode(tmp_path / "x.png", SIZE)
    assert np.abs(image[1:-1, 1:-1].astype(int) - 127).max() <= 6


def test_big_jpeg_is_close_to_full_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smooth = Image.fromarray(random_images(1)[0]).resize((1200, 900), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "x.jpg", quality=95)
    sizes = []
    monkeypatch.setattr(decoding, "_rgb", lambda image, _: sizes.append(image.size) or image)
    reduced = decode(tmp_path / "x.jpg", 32).astype(int)
    assert sizes == [(150, 113)], "decoded at an eighth, which is still twice what is wanted"
    with Image.open(tmp_path / "x.jpg") as image:
        plain = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(reduced - plain).mean() < 3


def whole(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(random_images(1, size=64)[0]).save(file, format=kind)
    return file.getvalue()


BAD = {
    "empty": (b"", "the file is empty"),
    "text": (b"this is a note, not an image", "of no known image format"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "of no known image"),
    "cut jpeg": (whole("JPEG")[:-900], "truncated"),
    "cut png": (whole("PNG")[:-900], "truncated"),
    "cut bmp": (whole("BMP")[:-900], "truncated"),
    "cut header": (whole("PNG")[:20], ""),
    "cut webp": (whole("WEBP")[:60], ""),
    "cut tiff": (whole("TIFF")[:60], ""),
    "too large": (b"P5 20001 20000 255\n", "20001 x 20000 pixels, over the limit of 400 megapix"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named(tmp_path: Path, name: str) -> None:
    data, reason = BAD[name]
    path = tmp_path / "photo 1.jpg"
    path.write_bytes(data)
    with pytest.raises(BadInput) as caught:
        decode(path, SIZE)
    text = str(caught.value)
    assert text.startswith(f"{path} cannot be read as an image (")
    assert reason in text
    assert text.endswith(f"): {CURE}")
    assert text.count("\n") == 0
    assert ". " not in text


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "knot.jpg").symlink_to(tmp_path / "knot.jpg")
    for name, reason in [
        ("folder.jpg", "not a regular file"),
        ("pipe.jpg", "not a regular file"),
        ("none.jpg", "No such file"),
        ("knot.jpg", "symbolic links"),
    ]:
        with pytest.raises(BadInput, match=rf"{name} cannot be read as an image \(.*{reason}"):
            decode(tmp_path / name, SIZE)


def test_running_out_of_memory_is_not_the_files_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise MemoryError

    (tmp_path / "x.png").write_bytes(flat("L", 1, format="PNG"))
    monkeypatch.setattr(Image, "open", out_of_memory)
    with pytest.raises(MemoryError):
        decode(tmp_path / "x.png", SIZE)


@pytest.mark.parametrize("limit", [100, 40])
def test_pillows_own_limit_is_put_aside_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Pillow warns above its limit and fails above twice that; 10x10 pixels are both here."""
    Image.new("L", (11, 10), 5).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    filters = list(warnings.filters)
    assert (decode(tmp_path / "x.png", SIZE) == 5).all()
    assert limit == Image.MAX_IMAGE_PIXELS
    assert warnings.filters == filters
    with pytest.raises((Image.DecompressionBombWarning, Image.DecompressionBombError)):
        Image.open(tmp_path / "x.png")


def test_each_image_carries_the_hash_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "s.arrow"
    images = random_images(2)
    source = hashlib.sha256(b"file").hexdigest()
    write_store(path, "A", ("x",), SIZE, [Row("a", 0, images[0], source), Row("b", 0, images[1])])
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    assert table.column("source").to_pylist() == [source, ""]
