"""Each start of a trial has a place of its own; what starts before left goes over to it.

A machine that was cut off may train on for a minute, and write, while its trial goes on elsewhere.
So two starts never write to the same folder, and the driver, of which there is one, moves the
checkpoints from the old place to the new one. What was written too late stays behind, and a worker
that finds its place gone stops. Only the driver puts a model where a trial's model is looked for.
"""

import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from gsda.checkpoint import steps_in
from tune.shelf import MODEL_FOLDER
from tune.suite import clear_all

T = TypeVar("T")
PLACES = "attempts"  # no task is called so: between its domains there is a 2


class MovedOn(RuntimeError):
    """The trial has gone on elsewhere, or has ended: this start of it is over."""

    def __init__(self) -> None:
        super().__init__("the trial has gone on elsewhere")


def place_of(folder: Path, attempt: int) -> Path:
    """Where the trial's start of this number, from 1, keeps what it makes.

    Args:
        folder: the trial's own; its place, too, for attempt 0, of which there is only one.
    """
    return folder / PLACES / str(attempt) if attempt else folder


def take_over(folder: Path, attempt: int) -> None:
    """Make the place of a start, with the checkpoints that the starts before it left.

    Repeated after a crash in the middle, it comes to the same.

    Raises:
        OSError: the storage cannot be written.
    """
    own = place_of(folder, attempt)
    own.mkdir(parents=True, exist_ok=True)
    for earlier in _before(folder, attempt):
        for place in (earlier, *_tasks_in(earlier)):
            _move(place, own / place.relative_to(earlier))
        if earlier != folder:
            shutil.rmtree(earlier, ignore_errors=True)


def _before(folder: Path, attempt: int) -> Iterator[Path]:
    """The places of earlier starts, the latest first; last the folder itself, as once was."""
    there = [int(p.name) for p in (folder / PLACES).iterdir() if p.name.isdecimal()]
    yield from (place_of(folder, n) for n in sorted(there, reverse=True) if n < attempt)
    yield folder


def _tasks_in(place: Path) -> list[Path]:
    """Folders of the tasks of a trial that has several."""
    named = [path for path in place.iterdir() if path.is_dir()]
    return [path for path in named if path.name not in (PLACES, MODEL_FOLDER)]


def wanted(old: Mapping[T, int], new: Collection[int]) -> list[T]:
    """Which checkpoints go over to a place, the newest first; none as late as what lies there.

    Such a one was written when the trial had gone on elsewhere: it is of another course. So is
    one of a step that is there already.

    Args:
        old: checkpoints and their steps. new: steps of those that lie there.
    """
    limit = max(new, default=max(old.values(), default=0) + 1)
    newest_first = sorted(old, key=lambda each: old[each], reverse=True)
    return [each for each in newest_first if old[each] < limit and old[each] not in new]


def _move(old: Path, new: Path) -> None:
    """Move checkpoints. One that is gone in the meantime was old, and its writer still lives."""
    found = steps_in(old)
    if found:
        new.mkdir(exist_ok=True)
    for path in wanted(found, steps_in(new).values()):
        with suppress(FileNotFoundError):
            path.replace(new / path.name)


def check_place(place: Path) -> None:
    """Refuse to write for a start that is over.

    Raises:
        MovedOn: the place is gone.
    """
    if not place.is_dir():
        raise MovedOn


def keep_model(folder: Path, attempt: int) -> None:
    """Put the model of a start, or that of each of its tasks, where the trial's is looked for."""
    place = place_of(folder, attempt)
    if place == folder or not place.is_dir():
        return
    for old in (place, *_tasks_in(place)):
        new = folder / old.relative_to(place) / MODEL_FOLDER
        if (old / MODEL_FOLDER).is_dir():
            shutil.rmtree(new, ignore_errors=True)
            new.parent.mkdir(exist_ok=True)
            (old / MODEL_FOLDER).rename(new)


def clear_places(folder: Path) -> None:
    """Remove all that a trial which has ended does not need: its model stays."""
    shutil.rmtree(folder / PLACES, ignore_errors=True)
    clear_all(folder)
