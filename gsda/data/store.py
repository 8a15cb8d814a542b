"""Decode a domain's images once, into one Arrow file that every process maps into memory.

The file is an Arrow IPC file of record batches of `ROWS_PER_BATCH` rows with the columns `image`
(S*S*3 bytes: RGB, height by width by channel), `path`, `label` and `source` (SHA-256 of the file
that the image was decoded from, empty for drawn images). Its schema's metadata has the format
version, S, the classes and the fingerprint of the files that it was made from. What is known only
when the last image is decoded (the digest, the skipped files) is the metadata of the last batch.
"""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from gsda.data.atomic import free, locked, not_written, replacing
from gsda.data.domain import Domain, Int64, UInt8
from gsda.errors import BadInput

FORMAT = "gsda-images-2"
ROWS_PER_BATCH = 256


class Row(NamedTuple):
    """One image (S, S, 3) for a store, and the hash of the file that it comes from."""

    path: str
    label: int
    image: UInt8
    source: str = ""


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
        rows: at least one.
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
        if free(path) < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with replacing(path) as file, pa.ipc.new_file(file, schema) as writer:
            _write_batches(writer, schema, size, rows, skipped)
    except OSError as error:
        not_written(error, path, needed)


def _schema(size: int, metadata: dict[str, object]) -> Any:
    columns = [
        ("image", pa.binary(size * size * 3)),
        ("path", pa.string()),
        ("label", pa.int32()),
        ("source", pa.string()),
    ]
    return pa.schema(columns, {key: json.dumps(value) for key, value in metadata.items()})


def _write_batches(
    writer: Any, schema: Any, size: int, rows: Iterable[Row], skipped: Sequence[str]
) -> None:
    """Write full batches as they come; the last one carries the digest and the skipped files."""
    digest = hashlib.sha256(f"{FORMAT} {size}\n".encode())
    pending: list[Row] = []
    for row in rows:
        if len(pending) == ROWS_PER_BATCH:
            writer.write_batch(_batch(schema, size, pending))
            pending = []
        pixels = np.ascontiguousarray(row.image, dtype=np.uint8).reshape(size, size, 3)
        name = row.path.encode()
        digest.update(len(name).to_bytes(4, "big") + name)
        digest.update(pixels.data)
        pending.append(row._replace(image=pixels))
    if not pending:
        raise ValueError("no rows")
    tail = {"digest": digest.hexdigest(), "skipped": list(skipped)}
    metadata = {key: json.dumps(value) for key, value in tail.items()}
    writer.write_batch(_batch(schema, size, pending), custom_metadata=metadata)


def _batch(schema: Any, size: int, rows: Sequence[Row]) -> Any:
    paths, labels, images, sources = zip(*rows, strict=True)
    pixels = pa.py_buffer(np.stack(images))
    column = pa.Array.from_buffers(pa.binary(size * size * 3), len(rows), [None, pixels])
    texts = pa.array(paths, pa.string()), pa.array(sources, pa.string())
    return pa.record_batch(
        [column, texts[0], pa.array(labels, pa.int32()), texts[1]], schema=schema
    )


def cached(
    path: Path, name: str, mark: str, build: Callable[[], None], skip_bad: bool = False
) -> Domain:
    """The domain in the store `path`; `build` writes it first if it is not sound and current.

    One process builds at a time, under a lock on ``path.lock``; the others wait and take what it
    built. A store that lacks skipped files serves only where skipping is allowed.

    Args:
        mark: the fingerprint that a current store has.

    Raises:
        BadInput: whatever `build` raises, or a cache that cannot be written.
    """
    domain = _current(path, name, mark, skip_bad)
    if domain is None:
        with locked(path):
            domain = _current(path, name, mark, skip_bad)
            if domain is None:
                build()
                domain = open_domain(path, name)
    return domain


def _current(path: Path, name: str, mark: str, skip_bad: bool) -> Domain | None:
    try:
        file = StoreFile(path)
    except BadInput:
        return None
    if file.fingerprint != mark or (file.skipped and not skip_bad):
        return None
    return file.domain(name)
