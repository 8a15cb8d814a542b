"""Files that one process makes and many use: made under a lock, whole or not there."""

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

from gsda.errors import BadInput


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, and sweep what a killed holder left. The lock file stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("ab")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        not_written(error, path, 0)
    with lock:
        for left in path.parent.glob(f"{path.name}.tmp-*"):
            left.unlink(missing_ok=True)
        yield


def free(path: Path) -> int:
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
        f"{path} needs {needed or 'more'} bytes but its disk has {free(path)} bytes free: "
        "make room, or set GSDA_CACHE to a folder on another disk."
    ) from error
