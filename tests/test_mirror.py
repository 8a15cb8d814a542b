"""The thread that delivers a journal to MLflow: outages hold up nothing, and nothing is lost."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mirroring import content, events_of, replay

from tune import record
from tune.journal import Event, Journal, iterate_events, read_events
from tune.record import Mirror, Projection

Store = Callable[[str], str]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return events_of(tmp_path_factory.mktemp("small"), 1)


@pytest.fixture
def own(small: Path, tmp_path: Path) -> Path:
    """A copy of the journal, for a mirror to leave its place beside."""
    path = tmp_path / "search" / "journal.log"
    path.parent.mkdir()
    path.write_bytes(small.read_bytes())
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "BACK_OFF_S", (0.01,))


def run_mirror(journal: Path, uri: str, patience_s: float = 30) -> Mirror:
    mirror = Mirror(journal, uri)
    mirror.start()
    try:
        mirror.settle(patience_s)
    finally:
        mirror.stop()
    return mirror


def test_a_mirror_delivers_all(own: Path, store: str, make_store: Store, small: Path) -> None:
    mirror = run_mirror(own, store)
    assert mirror.owed == 0
    assert mirror.trouble == ""
    other = make_store("other")
    replay(other, small)
    assert content(store) == content(other)


def test_a_mirror_that_comes_later_has_nothing_to_do(
    own: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_mirror(own, store)
    before = content(store)
    delivered: list[Event] = []
    monkeypatch.setattr(Projection, "_on_report", lambda self, event: delivered.append(event))
    assert run_mirror(own, store).owed == 0
    assert delivered == []
    (own.parent / "mlflow.place").unlink()  # the place is lost: all is delivered again
    monkeypatch.undo()
    assert Mirror(own, store).owed == own.stat().st_size
    assert run_mirror(own, store).owed == 0
    assert content(store) == before


@pytest.mark.parametrize("text", ["", "{", "\xff", "{}", "[]", '{"start": 0, "offset": "x"}'])
def test_a_damaged_place_means_from_the_beginning(text: str, own: Path) -> None:
    (own.parent / "mlflow.place").write_text(text)
    assert Mirror(own, "sqlite:////x").owed == own.stat().st_size


def test_another_server_has_seen_nothing_yet(own: Path, store: str, make_store: Store) -> None:
    run_mirror(own, store)
    assert Mirror(own, store).owed == 0
    other = make_store("other")
    assert Mirror(own, other).owed == own.stat().st_size
    run_mirror(own, other)
    assert content(other) == content(store)


def test_the_place_in_another_journal_is_no_place(own: Path, store: str) -> None:
    run_mirror(own, store)
    lines = own.read_bytes().splitlines(keepends=True)
    own.write_bytes(b"".join(lines[::-1]))  # as long as before, and something else
    assert Mirror(own, store).owed == own.stat().st_size


def test_an_address_with_a_password_is_not_written_down(own: Path) -> None:
    uri = "http://me:secret@127.0.0.1:1"
    event, end = next(iterate_events(own))
    Mirror(own, uri)._save_place(event, end)
    assert "secret" not in (own.parent / "mlflow.place").read_text()
    assert Mirror(own, uri).owed == own.stat().st_size - end


def test_following_a_journal_that_grows(tmp_path: Path, small: Path, store: str) -> None:
    journal = Journal(tmp_path / "grows" / "journal.log")
    mirror = Mirror(journal.path, store)
    mirror.start()
    try:
        for event in read_events(small)[0]:
            journal.append(event["event"], **{k: v for k, v in event.items() if k != "event"})
            mirror.nudge()
        assert mirror.settle(30)
        assert len(content(store)) == 4
    finally:
        mirror.stop()
        journal.close()


def test_an_unreachable_server_holds_up_nothing(own: Path, quick: None) -> None:
    mirror = Mirror(own, "http://127.0.0.1:1")
    mirror.start()
    began = time.monotonic()
    mirror.nudge()
    assert time.monotonic() - began < 1  # the search only ever nudges
    assert not mirror.settle(0.5)
    while not mirror.trouble and time.monotonic() - began < 60:
        time.sleep(0.05)
    mirror.stop()
    assert mirror.owed == own.stat().st_size
    assert mirror.trouble
    assert "\n" not in mirror.trouble


class Outage:
    """A server that is away, then there, then away again, and so on."""

    def __init__(self, pattern: Iterator[bool]) -> None:
        self._pattern, self._lock = pattern, threading.Lock()
        self.refused = 0

    def wrap(self, method: Callable[..., None]) -> Callable[..., None]:
        def act(projection: Projection, event: Event) -> None:
            with self._lock:
                away = next(self._pattern)
            if away:
                self.refused += 1
                raise ConnectionError("the server is away\nand this is a trace")
            method(projection, event)

        return act


def test_what_an_outage_held_up_comes_later_and_in_order(
    own: Path, store: str, make_store: Store, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[tuple[int, int]] = []
    original = Projection._on_report

    def remember(projection: Projection, event: Event) -> None:
        original(projection, event)
        order.append((event["trial"], event["step"]))

    outage = Outage(n % 3 != 0 for n in range(10**6))
    monkeypatch.setattr(Projection, "_on_report", outage.wrap(remember))
    mirror = run_mirror(own, store)
    assert (mirror.owed, mirror.trouble) == (0, "")
    assert outage.refused > 5
    reports = [e for e, _ in iterate_events(own) if e["event"] == "report"]
    assert order == [(e["trial"], e["step"]) for e in reports]
    monkeypatch.undo()
    other = make_store("other")
    replay(other, own)
    assert content(store) == content(other)


def test_settling_gives_up_without_headway(own: Path) -> None:
    mirror = Mirror(own, "sqlite:////nowhere")
    began = time.monotonic()
    assert not mirror.settle(0.2)  # not even started
    assert time.monotonic() - began < 10
