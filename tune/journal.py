"""The journal of a search: an append-only file of events, and the only truth about it.

Every line is a checksum and a JSON object, and is on the disk before `append` returns. Optuna's
study, ASHA's rungs and the MLflow runs are projections of it; each can be lost and made again.
"""

import fcntl
import json
import os
import time
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gsda.errors import BadInput
from gsda.files import sync_folder

Event = dict[str, Any]


class Copy:
    """What keeps a second copy of a search's folder elsewhere; this one keeps none."""

    def nudge(self) -> None:
        """Say that there is something new in the journal."""

    def settle(self) -> str:
        """Wait until the journal so far is safe; why it is not, or ""."""
        return ""

    def sync(self) -> str:
        """Bring the copy up to date, the journal and all else; why that failed, or ""."""
        return ""

    def fetch(self, folder: Path) -> None:
        """Bring what another machine left in a folder of the search."""

    def take_over(self, folder: Path, attempt: int) -> None:
        """Make the place of a trial's start there."""

    def keep_model(self, folder: Path, attempt: int) -> None:
        """Put the model of a trial's start where the trial's is looked for there."""

    def clear(self, folders: Collection[Path]) -> None:
        """Remove the checkpoints and places in folders of trials."""

    def close(self) -> None:
        """Let go."""


class Journal:
    """The journal, held open by the one process that drives the search.

    Attributes:
        copy: of the search's folder, where the storage is a URI (`tune.held`).
    """

    def __init__(self, path: Path) -> None:
        """Open or create, lock, and cut off a last line that a crash left unfinished.

        Raises:
            BadInput: the file cannot be written, or is damaged within, or another process drives
                this search.
        """
        self.path = path
        self.copy = Copy()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise BadInput(
                f"The journal {path} cannot be written ({error.strerror}): make it writable."
            ) from error
        sync_folder(path.parent)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise BadInput(
                f"The search {path.parent.name} is being driven by another process: "
                "wait for it, or choose another --name."
            ) from error
        try:
            self.events, sound = read_events(path)
        except BadInput:
            self._file.close()
            raise
        if sound < path.stat().st_size:
            self._file.truncate(sound)

    def append(self, kind: str, /, **fields: Any) -> Event:
        """Write an event, with its time, and return it once it is on the disk."""
        event: Event = {"event": kind, "time": time.time()} | fields
        self._file.write(encode(event))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.events.append(event)
        self.copy.nudge()
        return event

    def settle(self) -> str:
        """Wait until all that was written would outlive this machine; why it would not, or ""."""
        return self.copy.settle()

    def close(self) -> None:
        """Let go of the file and its lock; on a full disk what was refused before is so again."""
        self.copy.close()
        with suppress(OSError):
            self._file.close()


def encode(event: Mapping[str, Any]) -> bytes:
    """A line: eight hex digits of CRC-32, a space, JSON, a newline."""
    text = json.dumps(event, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Events from byte `offset` on, and the offset behind the last whole one.

    Raises:
        BadInput: as `iterate_events`.
    """
    found = list(iterate_events(path, offset))
    return [event for event, _ in found], found[-1][1] if found else offset


def iterate_events(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Each event from byte `offset` on, with the offset behind it.

    A last line without an end is not an event yet: a writer may be at it, or have died over it.

    Raises:
        BadInput: a whole line is damaged.
    """
    with path.open("rb") as file:
        file.seek(offset)
        lines = file.read().split(b"\n")
    for position, line in enumerate(lines[:-1]):
        event = _decode(line)
        if event is None and position == len(lines) - 2 and not lines[-1]:
            return  # the last line, torn by a crash in the middle of a disk block
        if event is None:
            raise BadInput(
                f"The journal {path} is damaged {offset} bytes in: restore the file from a copy, "
                "or start a search of another --name."
            )
        offset += len(line) + 1
        yield event, offset


def _decode(line: bytes) -> Event | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    event: Event = json.loads(text)
    return event
