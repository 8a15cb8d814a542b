"""A folder and its copy."""

import os
from pathlib import Path

import pytest
from uris import Flaky

from tune.mirrored import Mirrored
from tune.objectstore import Store, StoreError

PLACE = "s/trials/0003"
STEP = "step-000000002.0123456789abcdef.pt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "near").mkdir()
    return tmp_path / "near"


def write(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def test_the_copy_becomes_what_the_folder_is(uri: str, folder: Path, tmp_path: Path) -> None:
    store = Store(uri)
    ours = Mirrored(store, "s/trials/0003", folder)
    write(folder, STEP, b"1")
    write(folder, "model/manifest.json", b"{}")
    write(folder, ".torn.tmp", b"x")
    ours.push_all()
    assert list(store.files(PLACE)) == ["model/manifest.json", STEP]
    (folder / STEP).unlink()
    write(folder, "model/manifest.json", b"{1}")
    ours.push_all()
    assert {n: store.read(f"{PLACE}/{n}") for n in store.files(PLACE)} == {
        "model/manifest.json": b"{1}"
    }
    other = Mirrored(store, PLACE, tmp_path / "other")
    other.pull()
    assert (tmp_path / "other" / "model" / "manifest.json").read_bytes() == b"{1}"


def test_what_did_not_change_is_not_sent_again(folder: Path, tmp_path: Path) -> None:
    store = Flaky(f"file://{tmp_path}/far")
    ours = Mirrored(store, "s", folder)
    write(folder, "a", b"1")
    ours.push_all()
    write(folder, "b", b"2")
    ours.push_all()
    ours.push_all()
    assert store.calls == ["s/a", "s/b"]


def test_what_was_written_last_is_sent_last(folder: Path, tmp_path: Path) -> None:
    """And what was not sent is sent the next time; what is to go stays until then."""
    store = Flaky(f"file://{tmp_path}/far")
    ours = Mirrored(store, "s", folder)
    old = write(folder, "old", b"0")
    ours.push_all()
    old.unlink()
    for n, name in enumerate(("weights.pt", "manifest.json")):
        path = write(folder, name, b"1")
        path.touch()
        os.utime(path, (n, n))
    store.calls.clear()
    store.before_write = lambda name: setattr(store, "failures", int("manifest" in name))
    with pytest.raises(StoreError):
        ours.push_all()
    assert store.calls == ["s/weights.pt", "s/manifest.json"]
    assert list(store.files("s")) == ["old", "weights.pt"]
    store.before_write = lambda name: None
    store.failures = 0
    ours.push_all()
    assert store.calls == ["s/weights.pt", "s/manifest.json", "s/manifest.json"]
    assert list(store.files("s")) == ["manifest.json", "weights.pt"]


@pytest.mark.parametrize("name", [".hidden", "a/..b", "a/.b/c", "a\nb", "a\\b"])
def test_names_of_strangers_do_not_reach_the_disk(name: str, folder: Path, tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/far")
    store.write(f"s/{name}", b"evil")
    store.write("s/good.pt", b"1")
    Mirrored(store, "s", folder).pull()
    assert [path.name for path in folder.rglob("*")] == ["good.pt"]


def test_a_name_that_leads_elsewhere(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which an object store may list, and a folder may not."""
    store = Store(f"file://{tmp_path}/far")
    names = ["../../evil", "/evil", "a/../../evil", "a\\..\\evil", "a//evil"]
    monkeypatch.setattr(store, "files", lambda below: dict.fromkeys(names))
    monkeypatch.setattr(store, "read", lambda name: b"evil")
    Mirrored(store, "s", folder).pull()
    assert list(tmp_path.rglob("*evil*")) == []
