"""Decode one image file: any format, mode and orientation to an upright RGB square."""

import os
import stat
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gsda.data.domain import UInt8
from gsda.errors import BadInput

T = TypeVar("T")
MAX_PIXELS = 400_000_000
HUGE = 32_000_000
"""Pixels (after a JPEG was decoded at reduced size) over which memory is bounded by strips."""

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(path: Path, size: int) -> UInt8:
    """The image in the file `path`, upright, as RGB (S, S, 3); the aspect ratio is not kept.

    Transparency is put on white; more than 8 bits a channel are scaled down to 8.

    Raises:
        BadInput: it cannot be read as an image, or has more than `MAX_PIXELS` pixels.
    """
    try:
        _check_file(path)
        return _decode(path, size)
    except MemoryError:
        raise
    except Exception as error:
        raise BadInput(
            f"{path} cannot be read as an image ({_reason(error)}): "
            "remove it, or pass --skip-bad-images."
        ) from error


def decode_bytes(content: bytes, name: str, size: int) -> UInt8:
    """The same for the bytes of an image file, which `name` stands for in messages.

    Raises:
        BadInput: as `decode`.
    """
    try:
        return _decode(BytesIO(content), size)
    except MemoryError:
        raise
    except Exception as error:
        raise BadInput(
            f"{name} cannot be read as an image ({_reason(error)}): send the bytes of a file."
        ) from error


def read_ahead(
    read: Callable[[Path], T], paths: Iterable[Path]
) -> Generator[T | BadInput, None, None]:
    """`read(path)` for each path, in order, done some ahead by a thread for each core.

    A file that cannot be read gives the `BadInput` that says so, and is no end.
    """
    threads = os.cpu_count() or 1
    waiting = iter(paths)
    ahead: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            while len(ahead) < 4 * threads and (path := next(waiting, None)) is not None:
                ahead.append(pool.submit(read, path))
            if not ahead:
                return
            try:
                content: T | BadInput = ahead.popleft().result()
            except BadInput as error:
                content = error
            yield content
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(file: Path | BinaryIO, size: int) -> UInt8:
    with _own_limits(), Image.open(file, formats=_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(
                f"{image.width} x {image.height} pixels, "
                f"over the limit of {MAX_PIXELS // 10**6} megapixels"
            )
        return _square(image, size)


def _check_file(path: Path) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    if status.st_size == 0:
        raise ValueError("the file is empty")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "of no known image format"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split()).rstrip(".")


def _square(image: Image.Image, size: int) -> UInt8:
    image.draft(None, (2 * size, 2 * size))
    # Threads decode side by side, but the memory of a huge image is taken only once at a time.
    with _Decoding.huge if image.width * image.height > HUGE else nullcontext():
        image.load()
        small = _small_rgb(image, size)
    turn = _UPRIGHT.get(_orientation(image))
    return np.array(small if turn is None else small.transpose(turn), dtype=np.uint8)


def _small_rgb(image: Image.Image, size: int) -> Image.Image:
    """As an RGB square; a huge one is averaged strip by strip to about twice `size` first, so that
    the memory needed beside the decoded pixels is that of a strip."""
    square, how = (size, size), Image.Resampling.BILINEAR
    if image.width * image.height <= HUGE:
        return _rgb(image, _grey_range([image])).resize(square, how)
    by = max(1, image.width // (2 * size)), max(1, image.height // (2 * size))
    rows = max(1, HUGE // (8 * image.width * by[1])) * by[1]
    boxes = [
        (0, top, image.width, min(top + rows, image.height)) for top in range(0, image.height, rows)
    ]
    span = _grey_range(image.crop(box) for box in boxes)
    small = Image.new("RGB", (-(-image.width // by[0]), -(-image.height // by[1])))
    for box in boxes:
        small.paste(_rgb(image.crop(box), span).reduce(by), (0, box[1] // by[1]))
    # The last row and column may stand for fewer pixels than the others.
    return small.resize(square, how, (0, 0, image.width / by[0], image.height / by[1]))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where there is none or it cannot be read."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:
        return 1


def _rgb(image: Image.Image, span: tuple[float, float]) -> Image.Image:
    """As RGB; `span` is the range of a wide grey image, of which this may be a part."""
    if _is_wide(image):
        return Image.fromarray(_grey8(np.asarray(image), *span)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _is_wide(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


def _grey_range(parts: Iterable[Image.Image]) -> tuple[float, float]:
    """The narrowest usual range that holds all values of a wide image, given in parts."""
    low, high = 0.0, 0.0
    usual: tuple[float, ...] = (255.0,)
    for part in parts:
        if not _is_wide(part):
            break
        values = _finite(np.asarray(part))
        usual = (1.0, 255.0, 65535.0) if part.mode.startswith("F") else (65535.0,)
        low, high = min(float(values.min()), low), max(float(values.max()), high)
    return low, next((top for top in usual if high <= top), high)


def _grey8(values: NDArray[Any], low: float, high: float) -> UInt8:
    """(H, W) values scaled from low..high to 0..255."""
    return np.rint((_finite(values) - low) * (255.0 / (high - low))).astype(np.uint8)


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)


class _Decoding:
    """How many threads are decoding, and how to undo what was set for them."""

    lock = threading.Lock()
    huge = threading.Lock()
    threads = 0
    undo = ExitStack()


@contextmanager
def _own_limits() -> Iterator[None]:
    """While any thread decodes: our pixel limit in place of Pillow's, and Pillow never warns."""
    with _Decoding.lock:
        if _Decoding.threads == 0:
            _Decoding.undo.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"PIL\.")
            _Decoding.undo.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
            Image.MAX_IMAGE_PIXELS = None
        _Decoding.threads += 1
    try:
        yield
    finally:
        with _Decoding.lock:
            _Decoding.threads -= 1
            if _Decoding.threads == 0:
                _Decoding.undo.close()
