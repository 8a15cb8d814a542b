"""Checkpoints are whole, checked, kept by twos, and run no code."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from gsda import checkpoint
from gsda.errors import BadCheckpoint


def state(step: int) -> dict[str, object]:
    return {"step": step, "weights": torch.full((3,), float(step)), "names": ["a", "b"]}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def save(folder: Path, *steps: int) -> list[Path]:
    return [checkpoint.save_step(folder, step, state(step)) for step in steps]


def test_round_trip(tmp_path: Path) -> None:
    (path,) = save(tmp_path / "new" / "folder", 5)
    loaded = checkpoint.read(path)
    assert loaded.keys() == state(5).keys()
    assert torch.equal(loaded["weights"], torch.full((3,), 5.0))
    assert (loaded["step"], loaded["names"]) == (5, ["a", "b"])
    assert files(path.parent) == [path.name]


def test_bytes_round_trip() -> None:
    assert checkpoint.load_bytes(checkpoint.to_bytes({"a": 1}), "it") == {"a": 1}


def test_the_newest_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    paths = save(tmp_path, 9, 10, 100)
    assert files(tmp_path) == sorted(path.name for path in paths[1:])
    newest, complaints = checkpoint.load_newest(tmp_path)
    assert newest is not None
    assert newest["step"] == 100
    assert complaints == []


def test_steps_to_keep_stay_beside_the_last_two(tmp_path: Path) -> None:
    checkpoint.save_step(tmp_path, 1, state(1))
    for step in (2, 3, 4):
        checkpoint.save_step(tmp_path, step, state(step), keep=[1])
    assert [int(name[5:14]) for name in files(tmp_path)] == [1, 3, 4]
    checkpoint.save_step(tmp_path, 5, state(5), keep=[5])
    assert [int(name[5:14]) for name in files(tmp_path)] == [4, 5]
    assert checkpoint.load_step(tmp_path, 4)["step"] == 4
    with pytest.raises(BadCheckpoint, match="there is no checkpoint of step 1"):
        checkpoint.load_step(tmp_path, 1)


def test_a_checkpoint_that_vanishes_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, newer = save(tmp_path, 1, 2)
    read_bytes = Path.read_bytes

    def vanished(path: Path) -> bytes:
        if path == newer:
            raise FileNotFoundError(2, "No such file or directory")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", vanished)
    loaded, complaints = checkpoint.load_newest(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1
    assert complaints == [f"checkpoint {newer.name} cannot be read: No such file or directory"]


def test_no_checkpoint_is_no_complaint(tmp_path: Path) -> None:
    assert checkpoint.load_newest(tmp_path / "nowhere") == (None, [])
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    assert checkpoint.load_newest(tmp_path) == (None, [])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [truncate, flip_a_bit, empty]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_one_is_passed_over_with_a_complaint(tmp_path: Path, damage) -> None:
    older, newer = save(tmp_path, 1, 2)
    damage(newer)
    loaded, complaints = checkpoint.load_newest(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1
    assert complaints == [f"checkpoint {newer.name} is damaged"]
    damage(older)
    loaded, complaints = checkpoint.load_newest(tmp_path)
    assert loaded is None
    assert len(complaints) == 2


@pytest.mark.parametrize("damage", DAMAGES)
def test_reading_checks_the_hash(tmp_path: Path, damage) -> None:
    (path,) = save(tmp_path, 1)
    damage(path)
    with pytest.raises(BadCheckpoint, match="damaged"):
        checkpoint.read(path)


def test_reading_needs_the_hash_in_the_name(tmp_path: Path) -> None:
    (path,) = save(tmp_path, 1)
    renamed = path.rename(tmp_path / "step-000000001.pt")
    with pytest.raises(BadCheckpoint, match="damaged"):
        checkpoint.read(renamed)


class Intruder:
    def __reduce__(self):
        return os.mkdir, (os.environ["INTRUDER_TRACE"],)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_pickled_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    trace = tmp_path / "trace"
    monkeypatch.setenv("INTRUDER_TRACE", str(trace))
    evil = {"x": Intruder()}
    content = checkpoint.to_bytes(evil) if writer == "torch" else pickle.dumps(evil)
    with pytest.raises(BadCheckpoint, match="it cannot be read"):
        checkpoint.load_bytes(content, "it")
    assert not trace.exists()


def test_pickled_code_is_refused_under_a_right_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace"
    monkeypatch.setenv("INTRUDER_TRACE", str(trace))
    save(tmp_path, 1)
    path = checkpoint.save_step(tmp_path, 2, {"x": Intruder()})
    loaded, complaints = checkpoint.load_newest(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1
    assert complaints == [f"checkpoint {path.name} cannot be read"]
    assert not trace.exists()


def test_writing_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    checkpoint.write_atomically(path, b"old and long")
    checkpoint.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_write_that_breaks_off_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "file"
    checkpoint.write_atomically(path, b"old")

    def broken(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os if moment == "fsync" else Path, moment, broken)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert files(tmp_path) == ["file"]


def test_the_content_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, bool]] = []
    path = tmp_path / "file"
    fsync, replace = os.fsync, Path.replace

    def watch_fsync(descriptor: int) -> None:
        events.append(("fsync", path.exists()))
        fsync(descriptor)

    def watch_replace(self: Path, target: Path) -> Path:
        events.append(("replace", self.read_bytes() == b"content"))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(Path, "replace", watch_replace)
    checkpoint.write_atomically(path, b"content")
    assert events[:2] == [("fsync", False), ("replace", True)]


def test_a_write_that_breaks_off_leaves_the_old_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(path.name for path in save(tmp_path, 1, 2))

    def broken(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 3)
    assert files(tmp_path) == before


def test_leavings_of_a_killed_write_are_not_taken_for_a_checkpoint(tmp_path: Path) -> None:
    (path,) = save(tmp_path, 1)
    (tmp_path / f".{path.name.replace('1', '2', 1)}.77.tmp").write_bytes(b"half")
    loaded, complaints = checkpoint.load_newest(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1
    assert complaints == []


def test_the_one_just_written_stays_even_beside_damaged_newer_ones(tmp_path: Path) -> None:
    for path in save(tmp_path, 20, 30):
        truncate(path)
    written = checkpoint.save_step(tmp_path, 10, state(10))
    assert written.exists()
    loaded, _ = checkpoint.load_newest(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 10


def test_clear_removes_checkpoints_and_nothing_else(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    (tmp_path / "notes.txt").write_text("mine")
    checkpoint.clear(tmp_path)
    assert files(tmp_path) == ["notes.txt"]
    checkpoint.clear(tmp_path / "nowhere")


def test_steps_by_the_names_of_checkpoints() -> None:
    name = "step-000000002.0123456789abcdef.pt"
    assert checkpoint.step_of(name) == checkpoint.step_of(f"A2W/{name}") == 2
    assert checkpoint.step_of(name.replace("2.", "0.", 1)) == 0
    others = ["model/weights.pt", f"{name}.tmp", "", "step-2.pt"]
    assert [checkpoint.step_of(other) for other in others] == [None] * 4
