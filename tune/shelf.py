"""Where searches stand: one folder each, under a name, with a journal in it."""

import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gsda.config import Config
from gsda.errors import BadInput
from gsda.methods import find_entry
from gsda.naming import NAME
from gsda.tasks import Task
from tune.group import Group
from tune.journal import Journal

JOURNAL = "journal.log"
ERROR_FILE = "error.txt"  # a traceback, of a search or of a trial
MODEL_FOLDER = "model"  # of a trial that is done, in its folder


def find_search(
    storage: Path, name: str | None, task: Task | Group, method: str = Config.method
) -> Path:
    """The folder of the search of that name, or of the task's and method's newest numbered one.

    Raises:
        BadInput: there is none.
    """
    if name is None:
        taken = _numbered(storage, _stem(task, method))
        if not taken:
            by = "" if method == Config.method else f" by {method}"
            raise BadInput(
                f"There is no search of {task}{by} in {storage} to resume: check --storage."
            )
        return storage / taken[max(taken)]
    return find_named(storage, name)


def find_named(storage: Path, name: str, option: str = "--name") -> Path:
    """The folder of the search of that name, which was said as `option`.

    Raises:
        BadInput: there is none, or it is no name.
    """
    check_name(name, option)
    folder = storage / name
    if not (folder / JOURNAL).is_file():
        names = sorted(path.parent.name for path in storage.glob(f"*/{JOURNAL}"))
        known = f"; there are {', '.join(names)}" if names else ""
        raise BadInput(f"There is no search named {name} in {storage}{known}: check {option}.")
    return folder


def find_newest(storage: Path) -> Path:
    """The folder of the search that was last written to.

    Raises:
        BadInput: there is none.
    """
    journals = sorted(storage.glob(f"*/{JOURNAL}"), key=lambda path: path.stat().st_mtime)
    if not journals:
        raise BadInput(f"There is no search in {storage}: check --storage.")
    return journals[-1].parent


def check_name(name: str, option: str = "--name") -> None:
    """Refuse what could lead out of the storage folder.

    Raises:
        BadInput: the name has other signs than a search's may.
    """
    if not NAME.fullmatch(name):
        raise BadInput(
            f"{option} is {name!r}: use letters, digits, '-', '_' and '.', "
            "beginning with a letter or digit."
        )


def trial_folder(folder: Path, number: int) -> Path:
    """Where a trial of the search in `folder` keeps its checkpoints and its model."""
    return folder / "trials" / f"{number:04d}"


def check_free(storage: Path, name: str | None) -> None:
    """Refuse a name that is taken.

    Raises:
        BadInput: there is a search, or something else, of that name.
    """
    if name is not None and (storage / name).exists():
        raise BadInput(
            f"There is a search named {name} in {storage}: "
            "add --resume to go on with it, or choose another --name."
        )


def claim(storage: Path, name: str | None, task: Task | Group, spec: dict[str, Any]) -> Journal:
    """Put a new search on the shelf, its first event written; whole, or not there.

    Without a name it is called after the task, the method if that is not GSDA, and the next free
    number.

    Raises:
        BadInput: the name is taken, or the folder cannot be made.
    """
    stem = _stem(task, method_of(spec))
    fresh = storage / f".new-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        fresh.mkdir(parents=True)
        while True:
            final = name or f"{stem}-{max(_numbered(storage, stem), default=0) + 1:03d}"
            journal = Journal(fresh / JOURNAL)
            journal.append("search", uuid=uuid.uuid4().hex, spec=spec | {"name": final})
            journal.close()
            check_free(storage, name)
            if _place(fresh, storage / final):
                return Journal(storage / final / JOURNAL)
            (fresh / JOURNAL).unlink()
    except OSError as error:
        raise BadInput(
            f"A search cannot be kept in {storage} ({error.strerror}): choose another --storage."
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _place(fresh: Path, final: Path) -> bool:
    """Rename a folder; False if another process has just taken the name."""
    try:
        fresh.rename(final)
    except OSError:
        if final.exists():
            return False
        raise
    return True


def method_of(spec: Mapping[str, Any]) -> str:
    """The method that a search is about; the oldest journals know of one alone."""
    return str(spec.get("base", {}).get("method", Config.method))


def of_method(spec: Mapping[str, Any]) -> str:
    """`` of DANN``, where it must be said."""
    method = method_of(spec)
    return "" if method == Config.method else f" of {find_entry(method).title}"


def _stem(task: Task | Group, method: str) -> str:
    """What the names of searches begin with: ``glyph31-A2D``, ``glyph31-A2D-dann``."""
    return task.slug if method == Config.method else f"{task.slug}-{method}"


def _numbered(storage: Path, stem: str) -> dict[int, str]:
    """Numbers of the searches that were named so, with their names."""
    pattern = re.compile(re.escape(stem) + r"-(\d{3,})")
    names = [path.parent.name for path in storage.glob(f"{stem}-*/{JOURNAL}")]
    return {int(match.group(1)): name for name in names if (match := pattern.fullmatch(name))}
