"""The journal of a search in a store, and how it meets the one in a working copy.

Object stores do not append. While a search runs its journal there is `journal.log` and what came
after it: pieces named by their offset, `journal.000000012345`, of which only the last is written
anew. So what an event costs is bounded, however long the search. At the end all is `journal.log`.
"""

import errno
import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from gsda.errors import BadInput
from gsda.files import sync_folder
from tune.objectstore import PAUSES_S, Item, Store, StoreError
from tune.shelf import JOURNAL

PIECE = "journal."
_NAMED = re.compile(r"journal\.\d{12}").fullmatch
PIECE_BYTES = 2**18  # after which a new piece is begun
_LOOKS = 5  # at a journal that is written while it is read


class RemoteJournal:
    """The journal of one search in a store.

    Attributes:
        delivered: bytes that are there.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._whole = f"{name}/{JOURNAL}"
        self._piece = self.delivered = 0  # offset of the piece that is being written
        self._in_pieces = True
        self._known: dict[str, tuple[Item | None, bytes]] = {}

    def read(self) -> bytes:
        """All of it.

        Raises:
            FileNotFoundError: there is none. StoreError: it cannot be read, or has a gap.
        """
        for _ in range(_LOOKS):
            data = self._read_once()
            if data is not None:
                return data
            time.sleep(PAUSES_S[0])
        name = f"{self._store.shown}/{self._name}/{PIECE}*"
        raise StoreError(errno.EIO, "the pieces of the journal do not fit together", name)

    def _read_once(self) -> bytes | None:
        """None if a piece is missing: its driver has just put all together."""
        pieces = {}
        for name, item in self._pieces().items():
            with suppress(FileNotFoundError):
                pieces[int(name.rpartition(".")[2])] = self._content(name, item)
        whole = self._store.find([self._whole])
        data = self._content(self._whole, whole.get(self._whole))
        for offset, piece in sorted(pieces.items()):
            known = data[offset : offset + len(piece)]
            if offset > len(data) or not piece.startswith(known):
                return None
            data += piece[len(known) :]
        return data

    def _content(self, name: str, item: Item | None) -> bytes:
        """Of a file that is read again when it has changed."""
        known = self._known.get(name)
        if known is None or known[0] != item:
            known = self._known[name] = (item, self._store.read(name))
        return known[1]

    def _pieces(self) -> dict[str, Item]:
        found = self._store.files(self._name, deep=False)
        named = {f"{self._name}/{name}": item for name, item in found.items() if _NAMED(name)}
        return dict(sorted(named.items()))

    def is_there(self) -> bool:
        """Whether there is a journal of that name."""
        return bool(self._store.find([self._whole]))

    def append(self, data: bytes) -> None:
        """Deliver what is new of a journal that is `data` by now."""
        if len(data) == self.delivered:
            return
        if self.delivered - self._piece >= PIECE_BYTES:
            self._piece = self.delivered
        self._store.write(f"{self._name}/{PIECE}{self._piece:012d}", data[self._piece :])
        self.delivered, self._in_pieces = len(data), True

    def put_whole(self, data: bytes) -> None:
        """One file again."""
        if not self._in_pieces and len(data) == self.delivered:
            return
        self._store.write(self._whole, data)
        self._store.delete(self._pieces())
        self._piece = self.delivered = len(data)
        self._in_pieces = False


def take_in(path: Path, data: bytes, shown: str) -> None:
    """Let a journal become one that goes on from it.

    A file that another process holds is left alone: whoever drives here is ahead of the store.

    Raises:
        BadInput: neither goes on from the other.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        file.seek(0)
        content = file.read()
        own = content[: content.rfind(b"\n") + 1]  # without a last line that a crash left
        if own.startswith(data):
            return
        if not data.startswith(own):
            raise BadInput(
                f"The journal of {path.parent.name} in {shown} and its working copy {path} have "
                "gone different ways: move the working copy away to go on from what is there."
            )
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        file.truncate(len(own))
        file.write(data[len(own) :])
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
