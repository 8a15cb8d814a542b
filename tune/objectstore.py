"""Files below a URI, whole or not there, by pyarrow's file systems; loaded when first needed."""

import errno
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from typing import Any, TypeVar

from gsda.errors import BadInput
from tune.uri import Place, parse

T = TypeVar("T")
PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0)  # between attempts; the last for ever
FIRST_ANSWER_S = 30.0  # for the first look, whatever the file system itself takes for patience
_CONNECT_S, _ATTEMPTS, _GCS_RETRY_S = 3.0, 2, 5
# Without a byte in either direction: while a store puts away what it was sent; while it copies.
_SILENT_S, _COPYING_S = 10.0, 120.0
# What an error of a file system amounts to, in words; the first that fits.
_REASONS = (
    (r"NO_SUCH_BUCKET|Bucket '.*' not found|bucket does not exist", "there is no such bucket"),
    (r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE|INVALID_CLIENT_TOKEN|UNRECOGNIZED_CLIENT"
     r"|PERMISSION_DENIED|HTTP response code: 403|MISSING_AUTHENTICATION",
     "access is denied: check the credentials, which come from the environment or a profile"),
    (r"OAuth2 access token|UNAUTHENTICATED",
     "there are no credentials: set GOOGLE_APPLICATION_CREDENTIALS"),
    (r"EXPIRED_TOKEN", "the credentials have expired"),
    (r"[Cc]ould not resolve host", "its address cannot be resolved"),
    (r"NETWORK_CONNECTION|CURL error|[Cc]ould not connect|REQUEST_TIMEOUT", "it does not answer"),
)  # fmt: skip


class StoreError(OSError):
    """The store did not do what it was asked to; `strerror` is why, `filename` of what."""


@dataclass(frozen=True)
class Item:
    """A file in a store.

    Attributes:
        time: when it was last written by the store's own clock, in seconds since 1970.
    """

    size: int
    time: float


def _s3(place: Place, silent_s: float = _SILENT_S) -> Any:
    from pyarrow import fs

    options = dict(place.options)
    known = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    region = options.pop("region", known)
    if region is None and "endpoint_override" not in options:
        region = fs.resolve_s3_region(place.root.partition("/")[0])
    return fs.S3FileSystem(
        region=region or "us-east-1",
        connect_timeout=_CONNECT_S,
        request_timeout=silent_s,
        allow_delayed_open=True,  # a small file is one request
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        **options,
    )


def _gs(place: Place) -> Any:
    from pyarrow import fs

    options: dict[str, Any] = dict(place.options)
    options["anonymous"] = options.get("anonymous") == "true"
    return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=_GCS_RETRY_S), **options)


def _file(place: Place) -> Any:
    from pyarrow import fs

    return fs.LocalFileSystem()


_OPEN: Mapping[str, Callable[[Place], Any]] = {"s3": _s3, "gs": _gs, "file": _file}


class Store:
    """What lies below a URI; names are relative to it, with slashes.

    A method that cannot do its work raises `StoreError`, or FileNotFoundError where there is no
    such file.
    """

    def __init__(self, uri: str) -> None:
        self.place = parse(uri)
        with self._told(""):
            self._fs = _OPEN[self.place.scheme](self.place)

    @property
    def shown(self) -> str:
        """The URI, for a sentence."""
        return self.place.shown

    def _path(self, name: str) -> str:
        return f"{self.place.root}/{name}" if name else self.place.root

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Turn what a file system raises into a `StoreError`."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # pyarrow's own are of many kinds
            where = f"{self.shown}/{name}" if name else self.shown
            raise StoreError(errno.EIO, reason_of(error), where) from error

    def read(self, name: str) -> bytes:
        """The content of a file."""
        with self._told(name), self._fs.open_input_stream(self._path(name)) as stream:
            return bytes(stream.read())

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, in place of one that was there."""
        with self._told(name):
            if self.place.scheme == "file":
                self._write_locally(name, content)
            else:  # it appears when it is whole
                self._put(self._path(name), content)

    def _put(self, path: str, content: bytes) -> None:
        with self._fs.open_output_stream(path) as stream:
            stream.write(content)

    def _write_locally(self, name: str, content: bytes) -> None:
        path = self._path(name)
        folder, _, last = path.rpartition("/")
        self._fs.create_dir(folder, recursive=True)
        temporary = f"{folder}/.{last}.{os.getpid()}-{threading.get_ident()}.tmp"
        self._put(temporary, content)
        self._fs.move(temporary, path)

    def copy(self, old: str, new: str) -> None:
        """Copy a file, in place of one that was there; the content does not come here."""
        with self._told(old):
            if self.place.scheme == "file":
                self._write_locally(new, self.read(old))
                return
            files = _s3(self.place, _COPYING_S) if self.place.scheme == "s3" else self._fs
            files.copy_file(self._path(old), self._path(new))

    def delete(self, names: Collection[str]) -> None:
        """Remove files; those that are not there are no matter."""
        for name in names:
            try:
                with self._told(name):
                    self._fs.delete_file(self._path(name))
            except OSError:  # of which kind, if it is not there, is another matter for each store
                if self.find([name]):
                    raise

    def delete_folder(self, name: str) -> None:
        """Remove all that lies below a name; nothing is no matter."""
        try:
            with self._told(name):
                self._fs.delete_dir(self._path(name))
        except OSError:
            if self.files(name):
                raise

    def find(self, names: Collection[str]) -> dict[str, Item]:
        """Those of the named files that are there."""
        with self._told(""):
            found = self._fs.get_file_info([self._path(name) for name in names])
        items = zip(names, map(_item, found), strict=True)
        return {name: item for name, item in items if item is not None}

    def files(self, below: str, deep: bool = True) -> dict[str, Item]:
        """All files below a folder, by their names relative to it; else those directly in it."""
        infos = self._select(below, recursive=deep)
        start = len(self._path(below)) + 1
        items = {info.path[start:]: _item(info) for info in infos}
        return {name: item for name, item in sorted(items.items()) if item is not None}

    def look(self) -> None:
        """See whether it answers: FileNotFoundError where there is a bucket, and nothing in it."""
        try:
            self._select("", recursive=False, allow_not_found=False)
        except FileNotFoundError as error:
            if self.place.scheme != "gs":
                raise
            raise StoreError(errno.EIO, "there is no such bucket", self.shown) from error
        except StoreError as error:  # as Google's says of a folder in which there is nothing
            if "No such file or directory" not in str(error.__cause__):
                raise
            raise FileNotFoundError(errno.ENOENT, "nothing is there", self.shown) from error

    def folders(self) -> list[str]:
        """Names of what lies directly below the URI and has something below itself."""
        from pyarrow import fs

        if self.place.scheme == "gs":  # which knows a folder only by a mark that somebody made
            return sorted({name.partition("/")[0] for name in self.files("") if "/" in name})
        infos = self._select("", recursive=False)
        return sorted(info.base_name for info in infos if info.type == fs.FileType.Directory)

    def _select(self, below: str, recursive: bool, allow_not_found: bool = True) -> list[Any]:
        from pyarrow import fs

        path = self._path(below)
        with self._told(below):
            return list(
                self._fs.get_file_info(
                    fs.FileSelector(path, allow_not_found=allow_not_found, recursive=recursive)
                )
            )


class Patient(Store):
    """A store each of whose acts is tried again until `patience_s` have passed."""

    def __init__(self, store: Store, patience_s: float) -> None:
        self.place, self._store, self._patience_s = store.place, store, patience_s

    def _try(self, action: Callable[[], T]) -> T:
        return patiently(action, self._patience_s)

    def read(self, name: str) -> bytes:
        """As `Store.read`."""
        return self._try(lambda: self._store.read(name))

    def write(self, name: str, content: bytes) -> None:
        """As `Store.write`."""
        self._try(lambda: self._store.write(name, content))

    def copy(self, old: str, new: str) -> None:
        """As `Store.copy`."""
        self._try(lambda: self._store.copy(old, new))

    def delete(self, names: Collection[str]) -> None:
        """As `Store.delete`."""
        for name in names:
            self._try(partial(self._store.delete, [name]))

    def delete_folder(self, name: str) -> None:
        """As `Store.delete_folder`."""
        self._try(lambda: self._store.delete_folder(name))

    def find(self, names: Collection[str]) -> dict[str, Item]:
        """As `Store.find`."""
        return self._try(lambda: self._store.find(names))

    def files(self, below: str, deep: bool = True) -> dict[str, Item]:
        """As `Store.files`."""
        return self._try(lambda: self._store.files(below, deep))


def _item(info: Any) -> Item | None:
    from pyarrow import fs

    if info.type != fs.FileType.File:
        return None
    return Item(info.size, info.mtime.timestamp())


def reason_of(error: BaseException) -> str:
    """Why, in words; without what an address may hold."""
    text = str(error)
    for pattern, words in _REASONS:
        if re.search(pattern, text):
            return words
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    plain = re.sub(r"//[^/@\s]*@|\?\S+", "//", (lines or [type(error).__name__])[0])
    return plain[:200].rstrip(".")


@lru_cache(maxsize=4)
def connect(uri: str) -> Store:
    """The store of a URI, which has answered.

    Raises:
        BadInput: it did not, within seconds, and why.
    """
    try:
        return within(FIRST_ANSWER_S, lambda: _reached(uri))
    except OSError as error:
        why = error.strerror or str(error)
        raise BadInput(f"--storage {parse(uri).shown} cannot be used: {why}.") from error


def _reached(uri: str) -> Store:
    store = Store(uri)
    with suppress(FileNotFoundError):  # nothing has been put there yet
        store.look()
    return store


def within(limit_s: float, action: Callable[[], T]) -> T:
    """What `action` gives; a `StoreError` if that takes longer than `limit_s`."""
    done: list[T] = []
    failed: list[BaseException] = []

    def act() -> None:
        try:
            done.append(action())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(limit_s)
    if failed:
        raise failed[0]
    if not done:
        raise StoreError(errno.EIO, f"it did not answer within {limit_s:g} s")
    return done[0]


def default_patience() -> float:
    """Seconds for which a store may be away in the middle of a search."""
    return float(os.environ.get("GSDA_STORAGE_PATIENCE_S") or 120.0)


def patiently(action: Callable[[], T], patience_s: float) -> T:
    """What `action` gives, tried again until `patience_s` have passed.

    Raises:
        StoreError: the last one.
    """
    since, attempt = time.monotonic(), 0
    while True:
        try:
            return action()
        except StoreError:
            pause = PAUSES_S[min(attempt, len(PAUSES_S) - 1)]
            if time.monotonic() - since + pause > patience_s:
                raise
        time.sleep(pause)
        attempt += 1
