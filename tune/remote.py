"""Finding searches below a URI: all is done in a working copy, whose journals are brought first.

The URI is the truth. A working copy's journal may be shorter than the one there (the search went on
elsewhere: it is brought up to date) or longer (written here, and the machine died before it was
delivered: `tune.held` delivers it); where each has something that the other lacks, nothing is done.
"""

import os
import shutil
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gsda.errors import BadInput
from gsda.naming import NAME
from tune.lease import FILE
from tune.mirrored import Mirrored
from tune.objectstore import Store, StoreError, connect
from tune.pieces import RemoteJournal, take_in
from tune.shelf import JOURNAL, check_free, find_named, find_search

if TYPE_CHECKING:
    from gsda.tasks import Task
    from tune.group import Group
    from tune.settings import Settings

T = TypeVar("T")


def look(remote: str | None, storage: Path, find: Callable[[], T]) -> T:
    """What `find` makes of the names of searches, which for a URI are first listed.

    A search that the working copy does not have gets an empty journal there, so that it is found;
    `pull` fills it.

    Raises:
        BadInput: as `connect`, and what `find` raises, with the URI in place of the folder.
    """
    if remote is None:
        return find()
    store = connect(remote)
    _list(store, storage)
    try:
        return find()
    except BadInput as error:
        raise BadInput(str(error).replace(str(storage), store.shown)) from error


def find_there(remote: str | None, storage: Path, find: Callable[[], Path]) -> Path:
    """The folder of the search that `find` gives; of a URI the working copy, up to date.

    Raises:
        BadInput: as `look` and `pull`.
    """
    folder = look(remote, storage, find)
    if remote is not None:
        pull(connect(remote), folder)
    return folder


def find_begun(settings: "Settings", task: "Task | Group | None") -> Path:
    """The folder of the search that the settings name; else of the task's newest.

    Raises:
        BadInput: as `find_there`, `find_named` and `find_search`.
    """
    storage, name = settings.storage.resolve(), settings.name

    def find() -> Path:
        if task is None:
            return find_named(storage, str(name))
        return find_search(storage, name, task, settings.method)

    return find_there(settings.remote, storage, find)


def find_other(settings: "Settings", name: str, option: str) -> Path:
    """The folder of an earlier search, which was named by `option`.

    Raises:
        BadInput: as `find_there` and `find_named`.
    """
    storage = settings.storage.resolve()
    return find_there(settings.remote, storage, lambda: find_named(storage, name, option))


def check_unbegun(settings: "Settings") -> None:
    """Refuse a name that is taken.

    Raises:
        BadInput: as `look` and `check_free`.
    """
    storage = settings.storage.resolve()
    look(settings.remote, storage, lambda: check_free(storage, settings.name))


def _list(store: Store, storage: Path) -> None:
    try:
        names = [name for name in store.folders() if NAME.fullmatch(name)]
        found = store.find([f"{name}/{file}" for name in names for file in (JOURNAL, FILE)])
    except StoreError as error:
        raise BadInput(f"--storage {store.shown} cannot be read: {error.strerror}.") from error
    there = {name for name in names if f"{name}/{JOURNAL}" in found}
    for name in there:
        path = storage / name / JOURNAL
        heard = max(item.time for key, item in found.items() if key.startswith(f"{name}/"))
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.utime(path, (heard, heard))
        elif path.stat().st_mtime < heard:  # it goes on elsewhere
            os.utime(path, (heard, heard))
    for path in storage.glob(f"*/{JOURNAL}"):
        if path.parent.name not in there and not path.stat().st_size:
            shutil.rmtree(path.parent, ignore_errors=True)  # it was listed once, and is gone


def pull(store: Store, folder: Path, journal: RemoteJournal | None = None) -> None:
    """Bring the journal of a working copy up to date.

    Raises:
        BadInput: the store cannot be read, has no such search, or the two have gone different ways.
    """
    try:
        data = (journal or RemoteJournal(store, folder.name)).read()
    except FileNotFoundError as error:
        raise BadInput(
            f"{store.shown} has no search {folder.name} any more, and {folder} has a copy of it: "
            "move that away, or use it as a folder of its own."
        ) from error
    except StoreError as error:
        raise BadInput(f"{error.filename} cannot be read: {error.strerror}.") from error
    take_in(folder / JOURNAL, data, store.shown)


def refresh(remote: str | None, path: Path) -> None:
    """`pull` for one who looks again and again.

    Raises:
        BadInput: as `pull`.
    """
    if remote is not None:
        pull(connect(remote), path.parent, _followed(remote, path.parent.name))


@lru_cache(maxsize=1)
def _followed(remote: str, name: str) -> RemoteJournal:
    return RemoteJournal(connect(remote), name)


def put_files(remote: str | None, folder: Path, names: Iterable[str]) -> None:
    """Deliver files of a search that a command has made anew.

    Raises:
        BadInput: they cannot be written there.
    """
    if remote is None:
        return
    store = connect(remote)
    try:
        Mirrored(store, folder.name, folder).push(files_of(folder, names))
    except OSError as error:
        raise BadInput(f"--storage {why(error, store)}; it cannot be written.") from error


def files_of(folder: Path, names: Iterable[str]) -> list[Path]:
    """Those files of a folder, and what lies below those folders of it."""
    found = []
    for path in (folder / name for name in names):
        below = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [each for each in below if each.is_file() and not each.name.startswith(".")]
    return found


def why(error: Exception, store: Store) -> str:
    """What went wrong, in words."""
    if isinstance(error, StoreError):
        return f"{store.shown}: {error.strerror}"
    return str(error)
