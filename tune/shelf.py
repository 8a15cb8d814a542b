"""Where searches stand: one folder each, under a name, with a journal in it."""

import os
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

from gsda.errors import BadInput
from gsda.naming import NAME
from gsda.tasks import Task
from tune.journal import Journal

JOURNAL = "journal.log"
MODEL_FOLDER = "model"  # of a trial that is done, in its folder


def find_search(storage: Path, name: str | None, task: Task) -> Path:
    """The folder of the search of that name, or of the newest numbered one of the task.

    Raises:
        BadInput: there is none.
    """
    if name is None:
        taken = _numbered(storage, task)
        if not taken:
            raise BadInput(f"There is no search of {task} in {storage} to resume: check --storage.")
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


def claim(storage: Path, name: str | None, task: Task, spec: dict[str, Any]) -> Journal:
    """Put a new search on the shelf, its first event written; whole, or not there.

    Without a name it is called after the task and the next free number.

    Raises:
        BadInput: the name is taken, or the folder cannot be made.
    """
    fresh = storage / f".new-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        fresh.mkdir(parents=True)
        while True:
            final = name or f"{task.slug}-{max(_numbered(storage, task), default=0) + 1:03d}"
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


def _numbered(storage: Path, task: Task) -> dict[int, str]:
    """Numbers of the searches that were named after the task, with their names."""
    pattern = re.compile(re.escape(task.slug) + r"-(\d{3,})")
    names = [path.parent.name for path in storage.glob(f"{task.slug}-*/{JOURNAL}")]
    return {int(match.group(1)): name for name in names if (match := pattern.fullmatch(name))}
