"""Checkpoints: whole or not there, checked when read, and unable to run code."""

import hashlib
import re
from collections.abc import Collection, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from gsda.errors import BadCheckpoint
from gsda.files import write_atomically

KEEP = 2
_NAME = re.compile(r"step-(\d{9})\.([0-9a-f]{16})\.pt")


def to_bytes(state: dict[str, Any]) -> bytes:
    """A state dict as torch writes it."""
    buffer = BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def save_step(folder: Path, step: int, state: dict[str, Any], keep: Collection[int] = ()) -> Path:
    """Write the checkpoint of a step, its hash in its name; drop all but the last two.

    Args:
        keep: further steps whose checkpoints stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = to_bytes(state)
    path = folder / f"step-{step:09d}.{_digest(content)}.pt"
    write_atomically(path, content)
    _prune(folder, path, keep)
    return path


def _prune(folder: Path, latest: Path, keep: Collection[int]) -> None:
    """Keep `latest` and the one before it; of later steps there are only damaged ones."""
    earlier = [path for path in _newest_first(folder) if _step(path) < _step(latest)]
    for path in _newest_first(folder):
        kept = path in earlier[: KEEP - 1] or (path in earlier and _step(path) in keep)
        if path != latest and not kept:
            path.unlink(missing_ok=True)


def step_of(name: str) -> int | None:
    """The step of a checkpoint by its file's name, in whatever folder; None if it is none."""
    match = _NAME.fullmatch(name.rpartition("/")[2])
    return None if match is None else int(match.group(1))


def _step(path: Path) -> int:
    step = step_of(path.name)
    assert step is not None
    return step


def steps_in(folder: Path) -> dict[Path, int]:
    """The checkpoints of a folder and the step of each, the newest first."""
    return {path: _step(path) for path in _newest_first(folder)}


def load_newest(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest sound checkpoint, or None; and a sentence for each damaged one passed over."""
    complaints: list[str] = []
    for path in _newest_first(folder):
        try:
            return read(path), complaints
        except BadCheckpoint as error:
            complaints.append(str(error))
    return None, complaints


def load_step(folder: Path, step: int) -> dict[str, Any]:
    """The checkpoint of one step.

    Raises:
        BadCheckpoint: there is none that is sound.
    """
    for path in _newest_first(folder):
        if _step(path) == step:
            return read(path)
    raise BadCheckpoint(f"there is no checkpoint of step {step}")


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint that `save_step` wrote.

    Raises:
        BadCheckpoint: its hash is not the one in its name, or it cannot be read.
    """
    match = _NAME.fullmatch(path.name)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadCheckpoint(f"checkpoint {path.name} cannot be read: {error.strerror}") from error
    if match is None or _digest(content) != match.group(2):
        raise BadCheckpoint(f"checkpoint {path.name} is damaged")
    return load_bytes(content, path.name)


def load_bytes(content: bytes, name: str) -> dict[str, Any]:
    """Undo `to_bytes`, executing nothing.

    Raises:
        BadCheckpoint: it cannot be read.
    """
    try:
        state: dict[str, Any] = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise BadCheckpoint(f"checkpoint {name} cannot be read") from error
    return state


def clear(folder: Path) -> None:
    """Remove all checkpoints of steps."""
    for path in _newest_first(folder):
        path.unlink(missing_ok=True)


def _newest_first(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return iter(())
    named = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return iter(sorted(named, key=lambda path: path.name, reverse=True))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
