"""Image files as cameras and programs write them: what becomes of each kind, and of broken ones."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_store import SIZE, random_images

from gsda.data import decoding
from gsda.data.decoding import decode
from gsda.errors import BadInput

CURE = "remove it, or pass --skip-bad-images."


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
