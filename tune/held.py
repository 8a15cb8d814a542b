"""The search that this process drives below a URI: what is written here is delivered there."""

import shutil
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from gsda.checkpoint import step_of
from gsda.errors import BadInput
from tune import handover_far
from tune.handover import PLACES
from tune.journal import Copy, Journal
from tune.lease import RENEW_S, Lease, Taken
from tune.mirrored import Mirrored
from tune.objectstore import PAUSES_S, Patient, Store, connect, default_patience, patiently
from tune.pieces import RemoteJournal
from tune.remote import files_of, pull, why
from tune.shelf import ERROR_FILE, JOURNAL

LATER = ("report", ERROR_FILE, "mlflow.place", "optuna.log")  # delivered when a search stops


class Held(Copy):
    """The copy of a search below a URI, kept by the process that drives the search.

    A thread delivers the journal and renews the lease. What must be safe before anything is done
    waits for it (`settle`); a report need not: its trial's checkpoint, which was delivered before,
    has it, too.
    """

    def __init__(self, store: Store, journal: Journal, lease: Lease) -> None:
        self._store, self._path, self._lease = store, journal.path, lease
        self._name, self._folder = journal.path.parent.name, journal.path.parent
        self._remote = RemoteJournal(store, self._name)
        self._files = Mirrored(store, self._name, self._folder)
        self._fetched: set[Path] = set()
        self._patience_s = default_patience()
        self._patient = Patient(store, self._patience_s)
        self._trouble = ""
        self._news, self._over = threading.Event(), threading.Event()
        self._changed, self._work = threading.Condition(), threading.Lock()
        self._thread = threading.Thread(target=self._deliver, name="store", daemon=True)

    def begin(self) -> None:
        """Deliver the journal whole, and from then on what comes.

        Raises:
            StoreError: it cannot be delivered.
        """
        self._remote.put_whole(self._content())
        self._thread.start()

    def _content(self) -> bytes:
        content = self._path.read_bytes()
        return content[: content.rfind(b"\n") + 1]

    def nudge(self) -> None:
        """Wake the thread."""
        self._news.set()

    def settle(self) -> str:
        """Wait until the journal so far is delivered; why it is not, or ""."""
        wanted = len(self._content())
        with self._changed:
            while self._remote.delivered < wanted and not self._trouble:
                self._news.set()
                self._changed.wait(1.0)
        return self._trouble

    def _deliver(self) -> None:
        since, failures = time.monotonic(), 0
        while not self._over.is_set():
            try:
                with self._work:
                    self._lease.renew()
                    self._remote.append(self._content())
                since, failures = time.monotonic(), 0
                self._tell("")
                self._news.wait(RENEW_S)
                self._news.clear()
            except Exception as error:  # of whatever kind: who waits must not wait for ever
                taken = isinstance(error, Taken)
                if taken or time.monotonic() - since > self._patience_s:
                    self._tell(why(error, self._store))
                self._over.wait(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
                failures += 1

    def _tell(self, trouble: str) -> None:
        with self._changed:
            self._trouble = trouble
            self._changed.notify_all()

    def sync(self) -> str:
        """Deliver the journal in one piece, and what else stands in the search's folder."""
        return self._sync_within(0.0 if self._trouble else self._patience_s)

    def _sync_within(self, patience_s: float) -> str:
        try:
            patiently(self._sync, patience_s)
        except OSError as error:
            self._tell(why(error, self._store))
        else:
            self._tell("")
        return self._trouble

    def _sync(self) -> None:
        with self._work:
            self._lease.renew()
            self._remote.put_whole(self._content())
            self._files.push(files_of(self._folder, LATER))
            for folder in self._fetched:
                self._files.push(files_of(folder, ("",)))

    def fetch(self, folder: Path) -> None:
        """Bring the models of a trial, wherever it ran.

        Raises:
            StoreError: the store cannot be read.
        """
        if folder not in self._fetched:
            place = folder.relative_to(self._folder).as_posix()
            patiently(lambda: self._files.pull(place, _stays), self._patience_s)
            self._fetched.add(folder)

    def take_over(self, folder: Path, attempt: int) -> None:
        """As `tune.handover.take_over`.

        Raises:
            Taken: another process drives the search. StoreError: the store has been away for
                longer than one waits.
        """
        with self._work:  # nothing is touched by one that was succeeded
            self._lease.renew()
        handover_far.take_over(self._patient, self._there(folder), attempt)

    def keep_model(self, folder: Path, attempt: int) -> None:
        """As `tune.handover.keep_model`.

        Raises:
            StoreError: the store has been away for longer than one waits.
        """
        handover_far.keep_model(self._patient, self._there(folder), attempt)

    def clear(self, folders: Collection[Path]) -> None:
        """Remove what ended trials do not need; what stays goes when the search is resumed."""
        with suppress(OSError):
            handover_far.clear_places(self._patient, {self._there(folder) for folder in folders})

    def _there(self, folder: Path) -> str:
        return f"{self._name}/{folder.relative_to(self._folder).as_posix()}"

    def close(self) -> None:
        """Deliver what is left, without waiting for a store that is away; let go of the search."""
        if not self._over.is_set():
            self._sync_within(0.0)
            self._over.set()
            self._news.set()
            if self._thread.ident is not None:
                self._thread.join()
            with suppress(OSError):
                self._lease.release()


def _stays(name: str) -> bool:
    """Whether a file of a trial is more than what the trial itself needs to go on."""
    return step_of(name) is None and not name.startswith(f"{PLACES}/")


def open_journal(remote: str | None, folder: Path) -> Journal:
    """Take up the search in `folder`, for a process that drives it.

    Raises:
        BadInput: another process drives it; the journal is damaged; or, of a URI, as `pull`.
    """
    if remote is None:
        return Journal(folder / JOURNAL)
    store = connect(remote)
    lease = _take(store, folder.name)
    try:
        pull(store, folder)
        return _hold(store, Journal(folder / JOURNAL), lease)
    except BaseException:
        _release(lease)
        raise


def keep(remote: str | None, journal: Journal) -> Journal:
    """A search that has just been begun; of a URI, it is there, too.

    Raises:
        BadInput: there is one of that name, or nothing can be written there.
    """
    if remote is None:
        return journal
    store, folder = connect(remote), journal.path.parent
    try:
        lease = _take(store, folder.name)
        try:
            if RemoteJournal(store, folder.name).is_there():
                raise BadInput(
                    f"There is a search named {folder.name} in {store.shown}: "
                    "add --resume to go on with it, or choose another --name."
                )
            return _hold(store, journal, lease)
        except BaseException:
            _release(lease)
            raise
    except BaseException:
        journal.close()
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _take(store: Store, name: str) -> Lease:
    lease = Lease(store, name)
    try:
        lease.take()
    except OSError as error:
        raise BadInput(f"--storage {why(error, store)}; it cannot be used now.") from error
    return lease


def _hold(store: Store, journal: Journal, lease: Lease) -> Journal:
    held = Held(store, journal, lease)
    try:
        held.begin()
    except OSError as error:
        journal.close()
        raise BadInput(f"--storage {why(error, store)}; it cannot be written.") from error
    journal.copy = held
    return journal


def _release(lease: Lease) -> None:
    with suppress(OSError):
        lease.release()
