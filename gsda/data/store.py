"""Decode a domain's images once, into one Arrow file that every process maps into memory.

The file is an Arrow IPC file of record batches of `ROWS_PER_BATCH` rows with the columns `image`
(S*S*3 bytes: RGB, height by width by channel), `path` and `label`. Its schema's metadata has the
format version, S, the classes and the fingerprint of the files that it was made from. What is
known only when the last image is decoded (the digest, the skipped files) is the metadata of the
last batch.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gsda.data.domain import Domain, Int64, UInt8
from gsda.errors import BadInput

FORMAT = "gsda-images-1"
ROWS_PER_BATCH = 256
MAX_PIXELS = 400_000_000

Row = tuple[str, int, UInt8]

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


# --- the file, opened ---------------------------------------------------------------------------


class StoreFile:
    """A store file, mapped into memory and checked for form."""

    def __init__(self, path: Path) -> None:
        """Open `path`.

        Raises:
            BadInput: missing, unreadable, damaged, or of another format version.
        """
        self.path = path.absolute()
        try:
            self._read()
        except (OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowException):
            raise BadInput(
                f"{path} is not a sound image store of format {FORMAT}: "
                "remove it, and it will be prepared again."
            ) from None

    def _read(self) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(self.path)))
        head = _json(reader.schema.metadata)
        last, tail = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
        self.batches = [reader.get_batch(i) for i in range(reader.num_record_batches - 1)] + [last]
        if head["format"] != FORMAT or any(len(b) != ROWS_PER_BATCH for b in self.batches[:-1]):
            raise ValueError("another format")
        self.size = int(head["size"])
        self.classes: tuple[str, ...] = tuple(head["classes"])
        self.fingerprint = str(head["fingerprint"])
        self.digest = str(_json(tail)["digest"])
        self.skipped: tuple[str, ...] = tuple(_json(tail)["skipped"])
        self.views = [_view(batch.column("image"), self.size) for batch in self.batches]
        self.paths: tuple[str, ...] = tuple(self._column("path"))

    def _column(self, name: str) -> list[Any]:
        return [value for batch in self.batches for value in batch.column(name).to_pylist()]

    def domain(self, name: str) -> Domain:
        labels = np.array(self._column("label"), dtype=np.int64)
        return Domain(name, Store(self), labels, self.classes)


def _view(column: Any, size: int) -> UInt8:
    """The images of one batch as a read-only array (n, S, S, 3) on the mapped file itself."""
    width = size * size * 3
    if column.type != pa.binary(width):
        raise ValueError("another image size")
    pixels = column.buffers()[1]
    flat = np.frombuffer(pixels, np.uint8, len(column) * width, column.offset * width)
    return flat.reshape(len(column), size, size, 3)


def _json(metadata: Any) -> dict[str, Any]:
    return {key.decode(): json.loads(value) for key, value in dict(metadata).items()}


class Store:
    """Images of one domain on a mapped file: the `Images` protocol, without labels.

    Pickles as its path and digest, so sending one to another process costs no copy of the data.
    """

    def __init__(self, file: StoreFile) -> None:
        self.path = file.path
        self.digest = file.digest
        self.paths: Sequence[str] = file.paths
        self.size = file.size
        self.skipped = file.skipped
        self._views = file.views

    @classmethod
    def open(cls, path: Path | str, digest: str | None = None) -> "Store":
        """Map the file at `path`; no image is read.

        Raises:
            BadInput: no sound store there, or one whose digest is not `digest`.
        """
        store = cls(StoreFile(Path(path)))
        if digest not in (None, store.digest):
            raise BadInput(
                f"{path} was prepared anew from changed images while it was in use: "
                "start the run again."
            )
        return store

    def __len__(self) -> int:
        return len(self.paths)

    def gather(self, indices: Int64) -> UInt8:
        """Images at `indices` (B,), as a fresh, writable array (B, S, S, 3).

        Raises:
            IndexError: an index outside 0..N-1.
        """
        out = np.empty((len(indices), self.size, self.size, 3), dtype=np.uint8)
        for row, index in enumerate(np.asarray(indices).tolist()):
            if not 0 <= index < len(self):
                raise IndexError(f"index {index} is not one of {len(self)} images")
            out[row] = self._views[index // ROWS_PER_BATCH][index % ROWS_PER_BATCH]
        return out

    def __reduce__(self) -> tuple[Callable[..., "Store"], tuple[str, str]]:
        return Store.open, (str(self.path), self.digest)


def open_domain(path: Path, name: str) -> Domain:
    """The domain called `name` whose store is `path`.

    Raises:
        BadInput: no sound store there.
    """
    return StoreFile(path).domain(name)


# --- the file, written --------------------------------------------------------------------------


def write_store(
    path: Path,
    name: str,
    classes: Sequence[str],
    size: int,
    rows: Iterable[Row],
    *,
    fingerprint: str = "",
    expected: int = 0,
    skipped: Sequence[str] = (),
) -> None:
    """Write `rows` to `path`, all or nothing.

    Args:
        path: the file; one that is there is replaced.
        name: the domain's name, for the reader of the file.
        classes: class names in index order.
        size: S; each row's image is (S, S, 3).
        rows: (path, label, image) each, at least one.
        fingerprint: identity of what the rows were made from.
        expected: number of rows, for the check of free space; 0 where unknown.
        skipped: names of files left out; read after the last row.

    Raises:
        BadInput: the disk is full, or the folder cannot be written.
    """
    needed = expected * size * size * 3
    head = {"format": FORMAT, "domain": name, "size": size, "classes": list(classes)}
    schema = _schema(size, {**head, "fingerprint": fingerprint})
    try:
        if _free(path) < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with _replacing(path) as file, pa.ipc.new_file(file, schema) as writer:
            _write_batches(writer, schema, size, rows, skipped)
    except OSError as error:
        not_written(error, path, needed)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that becomes `path` when all went well, and is removed when anything did not."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _schema(size: int, metadata: dict[str, object]) -> Any:
    columns = [("image", pa.binary(size * size * 3)), ("path", pa.string()), ("label", pa.int32())]
    return pa.schema(columns, {key: json.dumps(value) for key, value in metadata.items()})


def _write_batches(
    writer: Any, schema: Any, size: int, rows: Iterable[Row], skipped: Sequence[str]
) -> None:
    """Write full batches as they come; the last one carries the digest and the skipped files."""
    digest = hashlib.sha256(f"{FORMAT} {size}\n".encode())
    pending: list[Row] = []
    for path, label, image in rows:
        if len(pending) == ROWS_PER_BATCH:
            writer.write_batch(_batch(schema, size, pending))
            pending = []
        pixels = np.ascontiguousarray(image, dtype=np.uint8).reshape(size, size, 3)
        name = path.encode()
        digest.update(len(name).to_bytes(4, "big") + name)
        digest.update(pixels.data)
        pending.append((path, label, pixels))
    if not pending:
        raise ValueError("no rows")
    tail = {"digest": digest.hexdigest(), "skipped": list(skipped)}
    metadata = {key: json.dumps(value) for key, value in tail.items()}
    writer.write_batch(_batch(schema, size, pending), custom_metadata=metadata)


def _batch(schema: Any, size: int, rows: Sequence[Row]) -> Any:
    paths, labels, images = zip(*rows, strict=True)
    pixels = pa.py_buffer(np.stack(images))
    column = pa.Array.from_buffers(pa.binary(size * size * 3), len(rows), [None, pixels])
    return pa.record_batch(
        [column, pa.array(paths, pa.string()), pa.array(labels, pa.int32())], schema=schema
    )


def _free(path: Path) -> int:
    """Bytes free where `path` is to be written; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(path.parent).free


def not_written(error: OSError, path: Path, needed: int) -> NoReturn:
    """Say why `path`, of `needed` bytes, could not be written.

    Raises:
        BadInput: always.
    """
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise BadInput(
            f"{path} cannot be written ({error.strerror or error}): "
            "make its folder writable, or set GSDA_CACHE to another folder."
        ) from error
    raise BadInput(
        f"{path} needs {needed or 'more'} bytes but its disk has {_free(path)} bytes free: "
        "make room, or set GSDA_CACHE to a folder on another disk."
    ) from error


# --- decoding one file --------------------------------------------------------------------------


def decode(path: Path, size: int) -> UInt8:
    """The image in the file `path`, upright, as RGB (S, S, 3); the aspect ratio is not kept.

    Transparency is put on white; more than 8 bits a channel are scaled down to 8.

    Raises:
        BadInput: it cannot be read as an image, or has more than `MAX_PIXELS` pixels.
    """
    try:
        _check_file(path)
        with _own_limits(), Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"{image.width} x {image.height} pixels, "
                    f"over the limit of {MAX_PIXELS // 10**6} megapixels"
                )
            return _square(image, size)
    except MemoryError:
        raise
    except Exception as error:
        raise BadInput(
            f"{path} cannot be read as an image ({_reason(error)}): "
            "remove it, or pass --skip-bad-images."
        ) from error


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
    image.load()
    small = _rgb(image).resize((size, size), Image.Resampling.BILINEAR)
    turn = _UPRIGHT.get(_orientation(image))
    return np.array(small if turn is None else small.transpose(turn), dtype=np.uint8)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where there is none or it cannot be read."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_grey8(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _grey8(values: NDArray[Any]) -> UInt8:
    """Scale to 0..255 from the narrowest usual range (H, W) that holds all values."""
    wide = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    usual = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (65535.0,)
    low = min(float(wide.min()), 0.0)
    high = next((top for top in usual if wide.max() <= top), float(wide.max()))
    return np.rint((wide - low) * (255.0 / (high - low))).astype(np.uint8)


class _Decoding:
    """How many threads are decoding, and how to undo what was set for them."""

    lock = threading.Lock()
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
