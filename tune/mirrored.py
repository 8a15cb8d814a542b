"""A folder and its copy in a store: what changed is put there, what is missing is brought."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from gsda.errors import BadInput
from gsda.files import write_atomically
from tune.handover_far import check_place, place_of
from tune.lease import began, machine
from tune.objectstore import Store, default_patience, patiently
from tune.shelf import JOURNAL

# Names that may reach this machine's disk: whoever can write to a bucket can name things there.
_PART = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*")
_WORK = ".work"  # below the working copy, of the workers of this machine


class Mirrored:
    """Files of a folder, each by its name relative to it."""

    def __init__(self, store: Store, place: str, folder: Path) -> None:
        """`place`: name of the folder's copy in the store."""
        self._store, self._place, self._folder = store, place, folder
        self._known: dict[str, tuple[int, int]] = {}  # name -> size and time, as they were copied

    def pull(self, below: str = "", wanted: Callable[[str], bool] = lambda name: True) -> None:
        """Bring the files below a folder."""
        place = "/".join(part for part in (self._place, below) if part)
        for name in self._store.files(place):
            if all(_PART.fullmatch(part) for part in name.split("/")) and wanted(name):
                path = self._folder / below / name
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, self._store.read(f"{place}/{name}"))
                self._note(path)

    def push(self, paths: Iterable[Path]) -> None:
        """Put files there that are not as they were when they were last copied.

        In the order in which they were written, since one that was written last is often what says
        that the others are whole.
        """
        changed = [path for path in paths if self._known.get(self._name(path)) != _state(path)]
        for path in sorted(changed, key=lambda path: (path.stat().st_mtime_ns, path.name)):
            self._store.write(f"{self._place}/{self._name(path)}", path.read_bytes())
            self._note(path)

    def push_all(self) -> None:
        """Make the copy the same as the folder, if nobody else writes to it."""
        paths = [p for p in self._folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
        self.push(paths)
        for name in self._known.keys() - {self._name(path) for path in paths}:
            self._store.delete([f"{self._place}/{name}"])
            del self._known[name]

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _note(self, path: Path) -> None:
        self._known[self._name(path)] = _state(path)


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


class WorkingFolder:
    """Where a worker keeps a start of a trial whose folder is below a URI.

    It begins as what is in the start's place there, and all that the worker leaves in it is put
    there before the driver hears of it: so the trial can go on wherever there is a worker.

    Attributes:
        folder: on this machine; gone when the worker is done with it.
    """

    def __init__(self, uri: str, name: str, attempt: int, cache: Path | None) -> None:
        """Bring what is there.

        Args:
            name: of the trial's folder. attempt: the start's number (`tune.handover`).

        Raises:
            BadInput: the search is not there. StoreError: the store cannot be reached.
        """
        patience = default_patience()
        self.store = patiently(lambda: Store(uri), patience)
        self.shown, self._name = f"{self.store.shown}/{name}", name
        self._place = place_of(name, attempt)
        work = self.store.place.working_copy(cache) / _WORK
        work.mkdir(parents=True, exist_ok=True)
        _sweep(work)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_machine()}-{os.getpid()}-", dir=work))
        self._files = Mirrored(self.store, self._place, self.folder)
        patiently(lambda: self._bring(name), patience)

    def _bring(self, name: str) -> None:
        journal = f"{name.partition('/')[0]}/{JOURNAL}"
        if not self.store.find([journal]):
            raise BadInput(
                f"{os.uname().nodename} does not see {self.store.shown}/{journal}: "
                "its storage is not shared"
            )
        self._files.pull()

    def push(self) -> None:
        """Put there what is new, and take away what is not here any more.

        Raises:
            MovedOn: this start is over. StoreError: the store has been away for longer than one
                waits.
        """
        patiently(self._push, default_patience())

    def _push(self) -> None:
        check_place(self.store, self._place)
        self._files.push_all()

    def put(self, name: str, content: bytes) -> None:
        """Put a file into the trial's own folder, where it stays.

        Raises:
            StoreError: the store has been away for longer than one waits.
        """
        name = f"{self._name}/{name}"
        patiently(lambda: self.store.write(name, content), default_patience())

    def close(self) -> None:
        """Leave nothing on this machine."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _machine() -> str:
    return hashlib.sha256((machine() or os.uname().nodename).encode()).hexdigest()[:12]


def _sweep(work: Path) -> None:
    """Remove what killed workers of this machine left."""
    for path in work.glob(f"{_machine()}-*-*") if machine() else ():
        if not began(int(path.name.split("-")[1])):
            shutil.rmtree(path, ignore_errors=True)
