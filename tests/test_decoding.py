"""Huge images: bounded memory, and the same picture."""

import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsda.data import decoding
from gsda.data.decoding import decode

SIDE = 20_000
ROOT = Path(__file__).parents[1]


def save_grey_png(path: Path, side: int) -> None:
    """A grey PNG, black above and white below, written row by row."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        )

    packer = zlib.compressobj(1)
    parts = [
        packer.compress(b"\0" + bytes([255 * (row >= side // 2)]) * side) for row in range(side)
    ]
    head = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    body = chunk(b"IHDR", head) + chunk(b"IDAT", b"".join(parts) + packer.flush())
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))


PEAK = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from gsda.data.decoding import decode
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(2) as pool:
    images = list(pool.map(lambda name: decode(Path(name), 256), sys.argv[1:]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
print([int(image[row].mean()) for image in images for row in (10, 245)])
"""


def test_a_huge_image_takes_little_more_than_its_pixels(tmp_path: Path) -> None:
    """Two at a time: 400 MB of pixels each, 1200 MB as RGB, one after the other as it must be."""
    save_grey_png(tmp_path / "huge.png", SIDE)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PEAK, *[str(tmp_path / "huge.png")] * 2],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    peak, rows = done.stdout.splitlines()
    assert int(peak) < SIDE * SIDE / 2**20 + 200
    assert rows == "[0, 255, 0, 255]"


def pictures() -> dict[str, Image.Image]:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 5, 4), dtype=np.uint8), "RGBA")
    rgba = smooth.resize((331, 467), Image.Resampling.BICUBIC)
    wide = np.asarray(rgba.convert("L")).astype(np.int32) * 257
    palette = rgba.convert("RGB").quantize(32)
    palette.info["transparency"] = 3
    return {
        "rgb": rgba.convert("RGB"),
        "rgba": rgba,
        "cmyk": rgba.convert("RGB").convert("CMYK"),
        "palette": palette,
        "wide": Image.fromarray(wide),
        "float": Image.fromarray((wide / 65535).astype(np.float32)),
    }


@pytest.mark.parametrize("name", pictures())
def test_strips_give_the_same_picture(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "png" if name in ("palette", "rgba", "rgb") else "tif"
    pictures()[name].save(tmp_path / f"x.{kind}")
    whole = decode(tmp_path / f"x.{kind}", 32)
    monkeypatch.setattr(decoding, "HUGE", 30_000)
    strips = decode(tmp_path / f"x.{kind}", 32)
    assert whole.std() > 10
    assert np.abs(whole.astype(int) - strips).max() <= 8


def test_huge_images_are_taken_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures()["rgb"].save(tmp_path / "x.png")
    inside, most = [0], [0]
    original = decoding._small_rgb

    def counted(image: Image.Image, size: int) -> Image.Image:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        started.wait(0.05)
        inside[0] -= 1
        return original(image, size)

    started = threading.Event()
    monkeypatch.setattr(decoding, "_small_rgb", counted)

    def both() -> int:
        most[0] = 0
        threads = [threading.Thread(target=decode, args=(tmp_path / "x.png", 8)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return most[0]

    monkeypatch.setattr(decoding, "HUGE", 1)
    assert both() == 1
