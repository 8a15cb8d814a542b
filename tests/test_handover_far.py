"""The same handover in a store, as on a folder: what went over there goes over here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from uris import Flaky

from gsda.checkpoint import step_of
from tune import handover, handover_far
from tune.handover import PLACES, MovedOn
from tune.handover_far import MARK, check_place, clear_places, keep_model, place_of, take_over
from tune.objectstore import Store, StoreError

TRIAL = "s/trials/0003"


def named(step: int, text: str = "") -> str:
    return f"step-{step:09d}.{step + 256 * len(text):016x}.pt"


def write(store: Store, place: str, *steps: int, text: str = "") -> None:
    for step in steps:
        store.write(f"{place}/{named(step, text)}", f"{step}{text}".encode())


def steps_of(store: Store, place: str) -> list[int]:
    found = [step_of(name) for name in store.files(place, deep=False)]
    return sorted(step for step in found if step is not None)


def places(store: Store) -> list[str]:
    return sorted({name.partition("/")[0] for name in store.files(f"{TRIAL}/{PLACES}")})


def test_what_comes_too_late_stays_behind(uri: str) -> None:
    store = Store(uri)
    take_over(store, TRIAL, 1)
    write(store, place_of(TRIAL, 1), 2, 4)
    take_over(store, TRIAL, 2)
    assert steps_of(store, place_of(TRIAL, 2)) == [2, 4]
    assert store.read(f"{place_of(TRIAL, 2)}/{named(4)}") == b"4"
    assert places(store) == ["2"]
    write(store, place_of(TRIAL, 1), 6, 8, text="late")
    write(store, place_of(TRIAL, 2), 6)
    take_over(store, TRIAL, 3)
    assert steps_of(store, place_of(TRIAL, 3)) == [2, 4, 6]
    assert store.read(f"{place_of(TRIAL, 3)}/{named(6)}") == b"6"
    assert places(store) == ["3"]


def test_what_comes_before_the_handover_is_not_lost(uri: str) -> None:
    store = Store(uri)
    take_over(store, TRIAL, 1)
    write(store, f"{place_of(TRIAL, 1)}/A2W", 2, 4, 6)
    take_over(store, TRIAL, 2)  # which was killed before it wrote anything
    take_over(store, TRIAL, 3)
    assert steps_of(store, f"{place_of(TRIAL, 3)}/A2W") == [2, 4, 6]


def test_a_search_of_an_older_version_goes_on(uri: str) -> None:
    """Which kept checkpoints in the trial's folder, and in that of each of its tasks."""
    store = Store(uri)
    write(store, TRIAL, 2)
    write(store, f"{TRIAL}/A2W", 2, 4)
    store.write(f"{TRIAL}/A2W/model/manifest.json", b"{}")
    store.write(f"{TRIAL}/error.txt", b"!")
    take_over(store, TRIAL, 4)
    own = place_of(TRIAL, 4)
    left = [name for name in store.files(TRIAL) if not name.startswith(PLACES)]
    assert left == ["A2W/model/manifest.json", "error.txt"]
    assert (steps_of(store, own), steps_of(store, f"{own}/A2W")) == ([2], [2, 4])


def test_a_driver_killed_in_the_middle_of_it(tmp_path: Path) -> None:
    """At each of its acts in turn; and what comes late in between stays behind."""
    for acts in range(30):
        store = Halting(f"file://{tmp_path}/{acts}")
        take_over(store, TRIAL, 1)
        write(store, place_of(TRIAL, 1), 2, 4, 6)
        store.left = acts
        try:
            take_over(store, TRIAL, 2)
        except StoreError:
            store.left = 1000
            moved = steps_of(store, place_of(TRIAL, 2))
            assert moved == [2, 4, 6][3 - len(moved) :]  # the newest goes first
            if moved:
                write(store, place_of(TRIAL, 1), 8, text="late")
            take_over(store, TRIAL, 2)
            assert steps_of(store, place_of(TRIAL, 2)) == [2, 4, 6]
            assert places(store) == ["2"]
        else:
            assert acts == 5  # a mark, three copies, a removal
            return
    raise AssertionError


def test_what_its_writer_removes_meanwhile_is_not_missed(tmp_path: Path) -> None:
    """A worker that was thought lost, and lives, prunes what is about to be copied."""
    store = Store(f"file://{tmp_path}/far")
    take_over(store, TRIAL, 1)
    write(store, place_of(TRIAL, 1), 2, 4, 6)
    plain = store.copy

    def copy(old: str, new: str) -> None:
        if old.endswith(named(4)):
            store.delete([old])
        plain(old, new)

    store.copy = copy  # type: ignore[method-assign]
    take_over(store, TRIAL, 2)
    assert steps_of(store, place_of(TRIAL, 2)) == [2, 6]


class Halting(Store):
    """A store whose driver dies after so many writes, copies and removals."""

    left = 1000

    def _act(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise StoreError(5, "killed", "here")

    def write(self, name: str, content: bytes) -> None:
        self._act()
        super().write(name, content)

    def copy(self, old: str, new: str) -> None:
        self._act()
        super().copy(old, new)

    def delete(self, names: Any) -> None:
        for name in names:
            self._act()
            super().delete([name])

    def delete_folder(self, name: str) -> None:
        self._act()
        super().delete_folder(name)


@pytest.mark.parametrize("below", ["", "A2W/"])
def test_the_model_of_the_last_start_is_the_trial_s(uri: str, below: str) -> None:
    store = Store(uri)
    for attempt in (1, 2):
        take_over(store, TRIAL, attempt)
    late, ours = (f"{place_of(TRIAL, n)}/{below}model" for n in (1, 2))
    for place, text in ((late, b"late"), (ours, b"ours"), (f"{TRIAL}/{below}model", b"old")):
        store.write(f"{place}/manifest.json", text)
        store.write(f"{place}/weights.pt", text)
    write(store, place_of(TRIAL, 2), 2)
    keep_model(store, TRIAL, 2)
    keep_model(store, TRIAL, 2)  # and again, after a crash
    clear_places(store, [TRIAL])
    assert {name: store.read(f"{TRIAL}/{name}") for name in store.files(TRIAL)} == {
        f"{below}model/manifest.json": b"ours",
        f"{below}model/weights.pt": b"ours",
    }
    keep_model(store, TRIAL, 2)  # whose place is gone
    assert store.read(f"{TRIAL}/{below}model/manifest.json") == b"ours"


def test_what_says_that_a_model_is_whole_comes_last(tmp_path: Path) -> None:
    store = Flaky(f"file://{tmp_path}/far")
    take_over(store, TRIAL, 1)
    copied: list[str] = []
    for name in ("manifest.json", "weights.pt"):
        store.write(f"{place_of(TRIAL, 1)}/model/{name}", b"1")
    plain = store.copy
    store.copy = lambda old, new: (copied.append(new), plain(old, new))[1]  # type: ignore[method-assign]
    keep_model(store, TRIAL, 1)
    assert copied == [f"{TRIAL}/model/weights.pt", f"{TRIAL}/model/manifest.json"]


def test_only_what_ended_trials_leave_is_cleared(uri: str) -> None:
    store = Store(uri)
    stays = {"s/trials/0001/model/manifest.json", f"s/trials/0002/{named(2)}", "s/journal.log"}
    goes = {f"s/trials/0001/{PLACES}/2/{MARK}", f"s/trials/0001/A2W/{named(0)}",
            f"s/trials/0005/{PLACES}/1/A2W/model/weights.pt",
            f"s/trials/0001/{named(2)}"}  # fmt: skip
    for name in stays | goes:
        store.write(name, b"1")
    clear_places(store, [])
    clear_places(store, ["s/trials/0001", "s/trials/0005"])
    assert {f"s/{name}" for name in store.files("s")} == stays
    clear_places(store, ["s/trials/0002"])
    assert {f"s/{name}" for name in store.files("s")} == {n for n in stays if "0002" not in n}


def test_a_place_that_is_gone(uri: str) -> None:
    store = Store(uri)
    take_over(store, TRIAL, 1)
    check_place(store, place_of(TRIAL, 1))
    take_over(store, TRIAL, 2)
    with pytest.raises(MovedOn, match="the trial has gone on elsewhere"):
        check_place(store, place_of(TRIAL, 1))
    clear_places(store, [TRIAL])
    with pytest.raises(MovedOn):
        check_place(store, place_of(TRIAL, 2))


STORIES: list[Callable[[Any], None]] = [
    lambda act: [act.write(1, 2, 4), act.write(2, 4, 6), act.take(3)][0],
    lambda act: [act.write(1, 2, 8), act.write(3, 4, 6), act.take(4)][0],
    lambda act: [act.write(0, 2, 4), act.take(1), act.write(1, 6), act.take(2)][0],
    lambda act: [act.write(2, 2), act.take(3), act.write(2, 4), act.take(4), act.take(4)][0],
    lambda act: [act.write(1, 2), act.take(2), act.write(1, 4, text="late"),
                 act.write(2, 4, 6, text="z"), act.take(3)][0],
    lambda act: [act.write(1, 2), act.take(2), act.write(1, 2, text="late"), act.take(3)][0],
]  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_a_store_ends_as_a_folder_does(story: Callable[[Any], None], tmp_path: Path) -> None:
    near, far = Near(tmp_path / "near"), Far(Store(f"file://{tmp_path}/far"))
    for side in (near, far):
        side.take(1)
        story(side)
    assert far.left() == near.left()
    assert near.left()
    steps = [step_of(name) for name in near.left()]
    assert len(set(steps)) == len(steps)  # none of two courses
    assert not any(content.endswith(b"late") for content in near.left().values())


class Near:
    """Acts upon a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, attempt: int) -> None:
        handover.take_over(self.folder, attempt)

    def write(self, attempt: int, *steps: int, text: str = "") -> None:
        place = handover.place_of(self.folder, attempt)
        place.mkdir(parents=True, exist_ok=True)
        for step in steps:
            (place / named(step, text)).write_bytes(f"{step}{text}".encode())

    def left(self) -> dict[str, bytes]:
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}


class Far:
    """Acts upon a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def take(self, attempt: int) -> None:
        take_over(self.store, TRIAL, attempt)

    def write(self, attempt: int, *steps: int, text: str = "") -> None:
        write(self.store, handover_far.place_of(TRIAL, attempt), *steps, text=text)

    def left(self) -> dict[str, bytes]:
        names = [name for name in self.store.files(TRIAL) if not name.endswith(MARK)]
        return {name: self.store.read(f"{TRIAL}/{name}") for name in names}
