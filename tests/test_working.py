"""A trial whose folder is below a URI, bit for bit as on a folder."""

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_trainable import all_reports, order, same, tell, weights

from gsda.checkpoint import step_of
from gsda.errors import BadInput
from gsda.run import Run
from tune import working
from tune.failures import BAD_DATA, STORAGE
from tune.handover_far import keep_model, place_of, take_over
from tune.objectstore import Store, StoreError
from tune.shelf import MODEL_FOLDER
from tune.trainable import RunTrainable
from tune.working import WorkingFolder

PLACE = "s/trials/0003"
STEP = "step-000000002.0123456789abcdef.pt"


@pytest.fixture
def make(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> Iterator[Any]:
    """A function that gives a worker an order: of a folder of that name, or below the URI."""
    monkeypatch.setattr(RunTrainable, "_setup_logdir", lambda self: None)
    Store(uri).write("s/journal.log", b"\n")
    made: list[RunTrainable] = []

    def build(name: str, known: tuple[int, ...] = (), **changes: Any) -> RunTrainable:
        attempt = changes.pop("attempt", 0)
        told = order(cache, tmp_path / name, known, **changes)
        if name == PLACE:
            told = replace(told, folder=PLACE, remote=uri, attempt=attempt)
            if attempt:
                take_over(Store(uri), PLACE, attempt)
        made.append(RunTrainable(told.to_config()))
        return made[-1]

    yield build
    for each in made:
        each.cleanup()


def test_a_trial_below_a_uri_is_that_of_a_folder(make: Any, uri: str, tmp_path: Path) -> None:
    """Killed after each report, and gone on with by a worker that has nothing of it."""
    undisturbed = all_reports(make("near"))
    reports = [tell(make(PLACE))]
    store = Store(uri)
    assert [step_of(name) for name in store.files(PLACE)] == [2]
    while not reports[-1].finished:
        worker = make(PLACE, tuple(report.step for report in reports))
        assert worker._folder not in (None, tmp_path / "near")
        reports.append(tell(worker))
    assert same(reports, undisturbed)

    def plain(names: Any) -> list[str]:
        return sorted(name.partition(".")[0] for name in names)

    near = tmp_path / "near"
    here = [path.relative_to(near).as_posix() for path in near.rglob("*") if path.is_file()]
    assert plain(store.files(PLACE)) == plain(here)
    ours = store.read(f"{PLACE}/{MODEL_FOLDER}/weights.pt")
    assert ours == (near / MODEL_FOLDER / "weights.pt").read_bytes()
    assert weights(near).keys()


def test_a_worker_that_was_thought_lost_writes_no_more(make: Any, uri: str, tmp_path: Path) -> None:
    undisturbed = all_reports(make("near"))
    store = Store(uri)
    lost = make(PLACE, attempt=1)
    reports = [tell(lost)]
    other = make(PLACE, known=(2,), attempt=2)
    reports.append(tell(other))
    late = tell(lost)  # it wakes, and has trained on meanwhile
    assert (late.finished, late.metrics) == (False, {})
    assert late.fault == "the trial has gone on elsewhere"
    assert list(store.files(place_of(PLACE, 1))) == []
    reports.append(tell(other))
    assert reports[-1].finished
    assert same(reports, undisturbed)
    keep_model(store, PLACE, 2)
    for name in ("weights.pt", "manifest.json"):
        ours = store.read(f"{PLACE}/{MODEL_FOLDER}/{name}")
        assert ours == store.read(f"{place_of(PLACE, 2)}/{MODEL_FOLDER}/{name}")
    assert ours == (tmp_path / "near" / MODEL_FOLDER / "manifest.json").read_bytes()


def test_a_damaged_best_checkpoint_begins_again(
    make: Any, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, too: what is damaged is not handed from start to start."""
    plain = Run.evaluate
    monkeypatch.setattr(Run, "evaluate", lambda self: plain(self) | {"val/x": -self.step_count})
    changes: dict[str, Any] = {"steps": 10, "metric": "val/x", "select": "best"}
    worker, store = make(PLACE, attempt=1, **changes), Store(uri)
    told = [tell(worker) for _ in range(4)]
    worker.cleanup()
    best = min(name for name in store.files(place_of(PLACE, 1)) if step_of(name))
    store.write(f"{place_of(PLACE, 1)}/{best}", b"gone")
    known = tuple(report.step for report in told)
    fault = all_reports(make(PLACE, known, attempt=2, **changes))[-1].fault
    assert fault.endswith("is damaged, and it was the best; beginning again")
    again = all_reports(make(PLACE, known, attempt=3, **changes))
    assert [report.step for report in again] == [2, 4, 6, 8, 10]


def test_a_pull_that_fails_leaves_nothing(nearby: str, tmp_path: Path) -> None:
    store = Store(nearby)
    store.write(f"{PLACE}/{STEP}", b"1")

    def fail(self: Store, name: str) -> bytes:
        raise StoreError(errno.EIO, "it does not answer", name)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Store, "read", fail)
        patched.setenv("GSDA_STORAGE_PATIENCE_S", "0")
        with pytest.raises(StoreError):
            WorkingFolder(nearby, PLACE, 0, tmp_path / "cache")
    left = [path for path in (tmp_path / "cache").rglob("*") if not path.is_dir()]
    work = WorkingFolder(nearby, PLACE, 0, tmp_path / "cache").folder.parent
    assert (left, len(list(work.iterdir()))) == ([], 1)


def test_a_traceback_stays_with_the_trial(
    make: Any, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make(PLACE, attempt=1)

    def explode(run: Run, n: int) -> None:
        raise ZeroDivisionError("first line")

    monkeypatch.setattr(Run, "step", explode)
    fault = tell(worker).fault
    assert fault.startswith(f"ZeroDivisionError: first line (see error.txt in {Store(uri).shown}/s")
    assert b"in explode" in Store(uri).read(f"{PLACE}/error.txt")


def test_a_torn_checkpoint_costs_one_evaluation(make: Any, uri: str) -> None:
    first = make(PLACE)
    reports = [tell(first), tell(first)]
    store = Store(uri)
    newest = max(name for name in store.files(PLACE) if step_of(name))
    store.write(f"{PLACE}/{newest}", store.read(f"{PLACE}/{newest}")[:1000])
    again = tell(make(PLACE, known=(2,)))
    assert again.step == 4
    assert again.metrics == reports[1].metrics
    assert "is damaged; going on from the one before" in again.notes[0]


def test_nothing_is_left_on_the_machine(make: Any, cache: Path, uri: str) -> None:
    worker = make(PLACE)
    tell(worker)
    folder = worker._folder
    assert folder.is_dir()
    worker.cleanup()
    assert not folder.exists()


@pytest.fixture
def nearby(tmp_path: Path) -> str:
    uri = f"file://{tmp_path}/far"
    Store(uri).write("s/journal.log", b"\n")
    return uri


def test_what_killed_workers_left_is_swept(nearby: str, tmp_path: Path) -> None:
    first = WorkingFolder(nearby, PLACE, 0, tmp_path / "cache")
    dead = first.folder.with_name(f"{working._machine()}-4194305-x")  # beyond any process id
    dead.mkdir()
    second = WorkingFolder(nearby, PLACE, 0, tmp_path / "cache")
    assert sorted(first.folder.parent.iterdir()) == sorted([first.folder, second.folder])


def test_a_machine_that_sees_another_store(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"does not see file:///.*/s/journal.log: its storage"):
        WorkingFolder(f"file://{tmp_path}/other", PLACE, 0, tmp_path / "cache")


def test_a_store_that_goes_away(cache: Path, nearby: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search halts, as over a full disk; a machine that sees another store halts it, too."""
    monkeypatch.setattr(RunTrainable, "_setup_logdir", lambda self: None)
    monkeypatch.setenv("GSDA_STORAGE_PATIENCE_S", "0")
    told = replace(order(cache, Path()), folder=PLACE, remote=nearby)
    worker = RunTrainable(told.to_config())

    def fail(self: Store, name: str, content: bytes) -> None:
        raise StoreError(errno.EIO, "it does not answer", f"file:///far/{name}")

    monkeypatch.setattr(Store, "write", fail)
    report = tell(worker)
    assert report.cause == STORAGE
    assert "it does not answer on " in report.fault
    assert f"file:///far/{PLACE}/step-" in report.fault
    lost = RunTrainable(replace(told, remote=f"{nearby}er").to_config())
    assert tell(lost).cause == BAD_DATA
