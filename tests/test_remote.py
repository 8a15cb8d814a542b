"""Searches below a URI are found, and their journals brought; a folder costs nothing."""

import errno
from pathlib import Path
from typing import Any

import pytest

from gsda.errors import BadInput
from gsda.tasks import Task
from tune import remote, study
from tune.objectstore import Store, StoreError
from tune.remote import check_unbegun, find_begun, find_other, put_files, refresh
from tune.settings import Settings
from tune.shelf import find_newest

A2D = Task.parse("glyph31/A2D")


@pytest.fixture
def far(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}/far")


def settings(far: Store, tmp_path: Path, **options: Any) -> Settings:
    return Settings(storage=far.place.text, cache=tmp_path / "cache", **options)  # type: ignore[arg-type]


def test_a_search_is_found_and_brought(uri: str, tmp_path: Path) -> None:
    store = Store(uri)
    for name in ("glyph31-A2D-001", "glyph31-A2D-007", "glyph31-A2W-009"):
        store.write(f"{name}/journal.log", name.encode() + b"\n")
    store.write("glyph31-A2D-007/journal.000000000016", b"more\n")
    store.write("no search/journal.log", b"x\n")
    store.write("neither/other.txt", b"x\n")
    asked = Settings(storage=uri, cache=tmp_path, resume=True)  # type: ignore[arg-type]
    folder = find_begun(asked, A2D)
    assert folder.name == "glyph31-A2D-007"
    assert (folder / "journal.log").read_bytes() == b"glyph31-A2D-007\nmore\n"
    others = {path.parent.name: path.stat().st_size for path in asked.storage.glob("*/journal.log")}
    assert others == {"glyph31-A2D-001": 0, "glyph31-A2D-007": 21, "glyph31-A2W-009": 0}


def test_sentences_name_the_uri(far: Store, tmp_path: Path) -> None:
    far.write("a/journal.log", b"x\n")
    with pytest.raises(BadInput, match=rf"^There is no search named b in {far.shown}; there are a"):
        find_other(settings(far, tmp_path), "b", "--warm-start")
    with pytest.raises(BadInput, match=rf"^There is a search named a in {far.shown}: add --resume"):
        check_unbegun(settings(far, tmp_path, name="a"))
    check_unbegun(settings(far, tmp_path, name="b"))
    with pytest.raises(BadInput, match=rf"There is no search of glyph31/A2D in {far.shown} to res"):
        find_begun(settings(far, tmp_path, resume=True), A2D)


def test_a_search_that_is_gone(far: Store, tmp_path: Path) -> None:
    """One that was only listed is forgotten; a copy of one is the user's to decide about."""
    far.write("a/journal.log", b"x\n")
    far.write("b/journal.log", b"y\n")
    asked = settings(far, tmp_path)
    assert find_other(asked, "a", "--name").name == "a"
    far.delete(["a/journal.log", "b/journal.log"])
    with pytest.raises(BadInput, match=r"has no search a any more, and .* has a copy of it"):
        find_other(asked, "a", "--name")
    with pytest.raises(BadInput, match="There is no search named b"):
        find_other(asked, "b", "--name")


def test_the_newest_is_that_of_the_store(far: Store, tmp_path: Path) -> None:
    far.write("a/journal.log", b"x\n")
    far.write("b/journal.log", b"y\n")
    import os

    os.utime(f"{far.place.root}/b/journal.log", (1, 1))
    storage = settings(far, tmp_path).storage
    newest = remote.find_there(far.place.text, storage, lambda: find_newest(storage))
    assert newest.name == "a"


def test_a_store_that_fails_is_one_sentence(
    far: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise StoreError(errno.EIO, "it does not answer", far.shown)

    far.write("a/journal.log", b"x\n")
    monkeypatch.setattr(Store, "find", fail)
    with pytest.raises(BadInput, match=rf"^--storage {far.shown} cannot be read: it does not answ"):
        check_unbegun(settings(far, tmp_path))
    monkeypatch.setattr(Store, "write", fail)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "x").touch()
    with pytest.raises(BadInput, match=rf"{far.shown}: it does not answer; it cannot be written"):
        put_files(far.place.text, tmp_path / "s", ["x"])


def test_who_watches_sees_what_comes(far: Store, tmp_path: Path) -> None:
    far.write("a/journal.log", b"x\n")
    asked = settings(far, tmp_path)
    path = find_other(asked, "a", "--name") / "journal.log"
    far.write("a/journal.000000000002", b"y\n")
    refresh(asked.remote, path)
    assert path.read_bytes() == b"x\ny\n"
    refresh(None, path)


def test_files_of_a_search_are_put_there(far: Store, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    (folder / "report").mkdir(parents=True)
    for name in ("report/a.png", "report/.b.tmp", "optuna.log", "other"):
        (folder / name).touch()
    put_files(far.place.text, folder, ["report", study.STUDY, "none"])
    assert list(far.files("s")) == ["optuna.log", "report/a.png"]
    put_files(None, folder, ["other"])


def test_a_folder_is_looked_at_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(uri: str) -> Any:
        raise AssertionError("no store is asked")

    monkeypatch.setattr(remote, "connect", refuse)
    check_unbegun(Settings(storage=tmp_path / "none", name="x"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadInput, match=f"no search named x in {tmp_path}"):
        find_other(Settings(storage=tmp_path), "x", "--from")
