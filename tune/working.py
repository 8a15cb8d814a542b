"""Where a worker keeps a trial whose storage is a URI, while it is at it."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from gsda.errors import BadInput
from tune.handover_far import check_place, place_of
from tune.lease import began, machine
from tune.mirrored import Mirrored
from tune.objectstore import Patient, Store, default_patience, patiently
from tune.shelf import JOURNAL

_WORK = ".work"  # below the working copy, of the workers of this machine


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
        self.store = Patient(patiently(lambda: Store(uri), patience), patience)
        self.shown, self._name = f"{self.store.shown}/{name}", name
        self._place, self._marked = place_of(name, attempt), bool(attempt)
        work = self.store.place.working_copy(cache) / _WORK
        work.mkdir(parents=True, exist_ok=True)
        _sweep(work)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_machine()}-{os.getpid()}-", dir=work))
        self._files = Mirrored(self.store, self._place, self.folder)
        try:
            self._bring(name)
        except BaseException:
            self.close()
            raise

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
        if self._marked:
            check_place(self.store, self._place)
        self._files.push_all()

    def put(self, name: str, content: bytes) -> None:
        """Put a file into the trial's own folder, where it stays.

        Raises:
            StoreError: the store has been away for longer than one waits.
        """
        self.store.write(f"{self._name}/{name}", content)

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
