"""Who drives a search below a URI."""

import json
import os
from pathlib import Path

import pytest

from gsda.errors import BadInput
from tune import lease as module
from tune.lease import FILE, Lease, Taken
from tune.objectstore import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}/far")


def make(store: Store, **changes: float) -> Lease:
    return Lease(store, "s", settle_s=0.0, **changes)


def age(store: Store, seconds: float) -> None:
    """Let the lease have been written so long ago."""
    path = Path(store.place.root) / "s" / FILE
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def elsewhere(store: Store, **changes: object) -> None:
    """Let the lease be another machine's."""
    who = {"id": "other", "host": "far", "pid": 1, "machine": "m", "began": "1"} | changes
    store.write(f"s/{FILE}", json.dumps(who).encode())


def test_one_at_a_time_on_any_store(uri: str) -> None:
    store = Store(uri)
    first = make(store)
    first.take()
    with pytest.raises(BadInput, match=r"The search s is being driven by a process on"):
        make(store).take()
    first.renew()
    first.release()
    assert store.files("s") == {}
    make(store).take()


def test_a_dead_driver_of_another_machine_is_succeeded_when_it_is_stale(store: Store) -> None:
    elsewhere(store)
    age(store, module.STALE_S - 40)
    with pytest.raises(BadInput, match=r"process on far: .* if it has died, try again in \d\d s"):
        make(store).take()
    age(store, 41)
    make(store).take()


def test_a_dead_driver_of_this_machine_is_succeeded_at_once(store: Store) -> None:
    own = module.machine()
    if not own:
        pytest.skip("NO /proc HERE: NOT TESTED WITH A DRIVER THAT DIED ON THIS MACHINE")
    elsewhere(store, machine=own, pid=os.getpid(), began="a process before this one")
    make(store).take()
    elsewhere(store, machine=own, pid=os.getpid(), began=module.began(os.getpid()))
    with pytest.raises(BadInput, match="being driven"):
        make(store).take()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"pid": "x"}'])
def test_a_lease_that_cannot_be_read_is_still_one(content: bytes, store: Store) -> None:
    store.write(f"s/{FILE}", content)
    with pytest.raises(BadInput, match="process on another machine"):
        make(store).take()


def test_of_two_that_write_at_once_the_last_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make(store), make(store)
    monkeypatch.setattr(module.time, "sleep", lambda _: second._write())
    with pytest.raises(BadInput, match="being driven"):
        first.take()
    second.renew()
    assert not second.lost


def test_a_driver_sees_that_it_was_succeeded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(store)
    first.take()
    elsewhere(store)
    first.renew()  # it has just looked
    monkeypatch.setattr(module, "RENEW_S", 0.0)
    with pytest.raises(Taken, match="a process on far drives s now"):
        first.renew()
    assert first.lost
    first.release()
    assert json.loads(store.read(f"s/{FILE}"))["id"] == "other"
    with pytest.raises(Taken):
        first.renew()


def test_a_lease_that_was_removed_is_written_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_S", 0.0)
    first = make(store)
    first.take()
    store.delete([f"s/{FILE}"])
    first.renew()
    assert list(store.files("s")) == [FILE]
