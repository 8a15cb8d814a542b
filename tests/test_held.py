"""The same search in a folder, below file:// and on S3: killed, gone on with elsewhere, watched."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scene
from uris import Flaky

from gsda.errors import BadInput
from gsda.tasks import Task
from tune import held, lease, search, status
from tune.executor import JournalSearcher
from tune.handover_far import MARK, place_of
from tune.held import Held, keep, open_journal
from tune.history import COMPLETE, OPEN, History
from tune.journal import Copy, Journal, read_events
from tune.lease import FILE, Lease
from tune.objectstore import Store, StoreError
from tune.progress import Progress
from tune.remote import find_begun
from tune.settings import Settings
from tune.shelf import MODEL_FOLDER, claim
from tune.trainable import Order

STEP = "step-000000002.0123456789abcdef.pt"


@pytest.fixture(params=["path", "file", "s3", "gs"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A storage, as it is said."""
    if request.param in ("s3", "gs"):
        address = request.getfixturevalue(request.param)
        more = "&anonymous=true" if request.param == "gs" else ""
        at = f"endpoint_override={address}&scheme=http{more}"
        return f"{request.param}://bucket/{tmp_path.name}?{at}"
    return f"{'file://' if request.param == 'file' else ''}{tmp_path}/far"


@pytest.fixture
def opened() -> Iterator[list[Journal]]:
    """Journals that are to be closed."""
    journals: list[Journal] = []
    yield journals
    for journal in journals:
        journal.close()


def settings(where: str, cache: Path) -> Settings:
    return Settings(storage=where, cache=cache, name="s", resume=True)  # type: ignore[arg-type]


def begin(where: str, cache: Path) -> Journal:
    own = settings(where, cache)
    spec = scene.make_spec(scene.small_config(), 4, name="s")
    storage = own.storage.resolve()
    return keep(own.remote, claim(storage, "s", Task.parse(scene.TASK), spec))


def go_on(where: str, cache: Path) -> Journal:
    own = settings(where, cache)
    journal = open_journal(own.remote, find_begun(own, None))
    journal.append("resume")
    return journal


def progress_of(journal: Journal) -> Progress:
    return scene.resume(journal)


def work_until(progress: Progress, n: int) -> None:
    """Run trials until so many reports are in, and stop in the middle of one."""
    while (trial := progress.next_trial()) is not None:
        for report in scene.reports(progress.start(trial)):
            over = progress.report(trial.number, report)
            n -= 1
            if n == 0:
                return
            if over:
                break


def die(journal: Journal) -> None:
    """What a `kill -9` leaves: no goodbye, and a lease of a process that is gone."""
    copy = journal.copy
    if isinstance(copy, Held):
        copy._over.set()
        copy._news.set()
        copy._thread.join()
        name = f"s/{FILE}"
        who = json.loads(copy._store.read(name)) | {"began": "before"}
        copy._store.write(name, json.dumps(who).encode())
    journal._file.close()
    journal.copy = Copy()


def test_a_search_wherever_it_is_kept(
    where: str, tmp_path: Path, store: str, opened: list[Journal], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Killed in the middle of a trial; its working copy is lost; it goes on to the same end."""
    if not lease.machine() and "://" in where:
        pytest.skip("NO /proc HERE: NOT TESTED WITH A DRIVER THAT DIED ON THIS MACHINE")
    reference = scene.begin(tmp_path / "reference", 4)
    scene.work(scene.resume(reference))
    reference.close()
    undisturbed = scene.summary(History.of(reference.events))

    first = begin(where, tmp_path / "one")
    with pytest.raises(BadInput, match=r"There is a search named s|driven by"):
        begin(where, tmp_path / "two")
    progress = progress_of(first)
    work_until(progress, 5)  # in the middle of the second
    assert progress.history.in_state(OPEN)
    first.settle()
    die(first)
    shutil.rmtree(tmp_path / "one", ignore_errors=True)

    monkeypatch.setenv("GSDA_CACHE", str(tmp_path / "three"))
    assert status.main(["s", "--storage", where]) == 0
    said = _spoken(capsys)
    assert "Search s: glyph31/W2D" in said
    assert f"{len(progress.history.ended)}/6 trials" in said
    second = go_on(where, tmp_path / "two")
    with pytest.raises(BadInput, match="search s is being driven by"):
        go_on(where, tmp_path / "three")
    scene.work(progress_of(second))
    second.append("pause", trials=[], reason="")
    second.close()
    assert scene.summary(History.of(second.events)) == undisturbed

    flags = ["--flush", "--name", "s", "--storage", where, "--tracking-uri", store]
    assert search.main(flags) == 0
    assert "MLflow has the whole record of s." in _spoken(capsys)
    third = go_on(where, tmp_path / "four")
    opened.append(third)
    assert scene.summary(History.of(third.events)) == undisturbed


def _spoken(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_what_stands_there_at_the_end_is_what_stands_in_a_folder(
    uri: str, tmp_path: Path, opened: list[Journal]
) -> None:
    journal = begin(uri, tmp_path / "one")
    opened.append(journal)
    folder, store = journal.path.parent, Store(uri)
    progress = far_progress_of(journal, uri)
    while (trial := progress.next_trial()) is not None:
        order = progress.start(trial)
        for report in scene.reports(order):
            for name in (STEP, f"{MODEL_FOLDER}/weights.pt"):  # as a worker leaves them
                store.write(f"{place_of(order.folder, order.attempt)}/{name}", b"1")
            if progress.report(trial.number, report):
                break
    for name in ("optuna.log", "mlflow.place", "report/report.html"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    assert FILE in store.files("s")
    assert journal.copy.sync() == ""
    assert store.read("s/journal.log") == journal.path.read_bytes()
    (folder / "mlflow.place").write_text("further")
    journal.close()
    journal.close()
    there = {name: store.read(f"s/{name}") for name in store.files("s")}
    done = [trial.number for trial in progress.history.in_state(COMPLETE)]
    models = {f"trials/{n:04d}/{MODEL_FOLDER}/weights.pt": b"1" for n in done}
    assert models.items() <= there.items()
    there = {name: content for name, content in there.items() if name not in models}
    here = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert there == here
    assert there["mlflow.place"] == b"further"


def test_checkpoints_of_ended_trials_go_and_models_come(
    uri: str, tmp_path: Path, opened: list[Journal]
) -> None:
    store = Store(uri)
    journal = begin(uri, tmp_path / "one")
    opened.append(journal)
    folder = journal.path.parent
    left = {f"s/trials/{n}/{name}" for n in ("0000", "0001", "0005")
            for name in (STEP, f"A2W/{STEP}", "model/weights.pt")}  # fmt: skip
    for name in left:
        store.write(name, name.encode())
    scene.work(progress_of(journal))
    gone = {name for name in left if STEP in name}
    assert set(store.files("s/trials")) == {n.removeprefix("s/trials/") for n in left - gone}
    trial = folder / "trials" / "0001"
    journal.copy.fetch(trial)
    assert (trial / "model" / "weights.pt").read_bytes() == b"s/trials/0001/model/weights.pt"
    (trial / "model" / "weights.pt").write_bytes(b"amended!")
    assert journal.copy.sync() == ""
    assert store.read("s/trials/0001/model/weights.pt") == b"amended!"


def test_each_start_has_a_place_and_the_last_one_s_model_is_the_trial_s(
    uri: str, tmp_path: Path, opened: list[Journal]
) -> None:
    store, journal = Store(uri), begin(uri, tmp_path / "one")
    opened.append(journal)
    progress = far_progress_of(journal, uri)
    trial = progress.next_trial()
    for attempt in (1, 2):
        order = progress.start(trial)
        assert (order.attempt, order.folder) == (attempt, "s/trials/0000")
        place = place_of(order.folder, attempt)
        assert list(store.files(place)) == ([MARK, STEP] if attempt > 1 else [MARK])
        for name in (STEP, "model/weights.pt", "model/manifest.json"):
            store.write(f"{place}/{name}", b"%d" % attempt)
        if attempt == 1:
            progress.fault(0, "its worker died")
    for report in scene.reports(order):
        progress.report(0, report)
    assert progress.history.trials[0].state == COMPLETE
    left = {name: store.read(f"{order.folder}/{name}") for name in store.files(order.folder)}
    assert left == {"model/manifest.json": b"2", "model/weights.pt": b"2"}


def far_progress_of(journal: Journal, uri: str) -> Progress:
    """As of a search that knows that its folder is a working copy."""
    spec = History.of(journal.events).spec
    plan = replace(scene.make_plan(spec, journal.path.parent), remote=uri)
    return Progress(plan, journal, scene.ignore)


# A store that fails


@pytest.mark.parametrize("moment", ["start", "end"])
def test_a_store_that_is_away_when_a_trial_begins_or_ends(
    moment: str, flaky: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    opened: list[Journal],
) -> None:  # fmt: skip
    """The search halts, and the trial is open: resumed, it ends once more."""
    monkeypatch.setenv("GSDA_STORAGE_PATIENCE_S", "0.05")
    journal = begin_on(flaky, tmp_path)
    opened.append(journal)
    progress = far_progress_of(journal, flaky.place.text)
    monkeypatch.setattr("tune.executor.places", lambda share: 1)
    searcher = JournalSearcher(progress)
    act = "take_over" if moment == "start" else "keep_model"

    def fail(*_: object) -> None:
        raise StoreError(5, "it does not answer", "file:///far/s")

    monkeypatch.setattr(f"tune.handover_far.{act}", fail)
    order = searcher.suggest("x")
    if moment == "start":
        assert order == "FINISHED"
    else:
        given = Order.of_config(order)
        assert [progress.report(0, report) for report in scene.reports(given)][-1]
    assert progress.halted == "it does not answer: file:///far/s"
    assert not progress.running
    assert progress.history.trials[0].state == OPEN
    assert progress.history.trials[0].starts == int(moment == "end")
    monkeypatch.undo()
    again = far_progress_of(journal, flaky.place.text)
    for report in scene.reports(again.start(again.next_trial())):
        again.report(0, report)
    assert again.history.trials[0].state == COMPLETE


@pytest.fixture
def flaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flaky:
    """The store of the search that is begun next; no time is lost in waiting."""
    store = Flaky(f"file://{tmp_path}/far")
    monkeypatch.setattr(held, "connect", lambda uri: store)
    monkeypatch.setattr(held, "PAUSES_S", (0.01,))
    monkeypatch.setattr("tune.objectstore.PAUSES_S", (0.01,))
    monkeypatch.setattr(held, "_take", lambda store, name: _taken(store, name))
    return store


def _taken(store: Store, name: str) -> Lease:
    lease = Lease(store, name, settle_s=0.0)
    lease.take()
    return lease


def begin_on(flaky: Flaky, tmp_path: Path) -> Journal:
    return begin(flaky.place.text, tmp_path / "one")


@pytest.mark.parametrize("torn", [False, True])
def test_an_upload_that_fails_twice_costs_nothing(
    torn: bool, flaky: Flaky, tmp_path: Path, opened: list[Journal]
) -> None:
    journal = begin_on(flaky, tmp_path)
    opened.append(journal)
    flaky.failures, flaky.torn = 2, torn
    progress = progress_of(journal)
    scene.work(progress)
    assert progress.halted == ""
    assert flaky.failures == 0
    journal.close()
    assert flaky.read("s/journal.log") == journal.path.read_bytes()


def test_a_store_that_stays_away_halts_the_search_and_nothing_is_lost(
    flaky: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[Journal]
) -> None:
    monkeypatch.setenv("GSDA_STORAGE_PATIENCE_S", "0.05")
    journal = begin_on(flaky, tmp_path)
    progress = progress_of(journal)
    work_until(progress, 4)
    assert journal.settle() == ""
    flaky.failures = 10**9
    running = set(progress.running)
    monkeypatch.setattr("tune.executor.places", lambda share: 2)
    assert JournalSearcher(progress).suggest("x") == "FINISHED"
    scene.work(progress)
    assert progress.halted == f"{flaky.shown}: it does not answer"
    assert progress.running <= running
    ended = len(progress.history.ended)
    assert "does not answer" in journal.copy.sync()
    journal.close()
    there = read_events(tmp_path / "far" / "s" / "journal.log")[0]
    assert len(there) < len(journal.events)
    # It is back: the journal here is the longer one, and begins with what is there.
    flaky.failures = 0
    again = go_on(flaky.place.text, tmp_path / "one")
    opened.append(again)
    assert again.events[: len(journal.events)] == journal.events
    onward = progress_of(again)
    assert len(onward.history.ended) >= ended
    scene.work(onward)
    assert not onward.halted
    assert len(onward.history.ended) == 6


def test_an_order_is_given_only_when_it_is_known_there(
    flaky: Flaky, tmp_path: Path, opened: list[Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a search that goes on elsewhere would ask for another setting under the same number."""
    journal = begin_on(flaky, tmp_path)
    opened.append(journal)
    monkeypatch.setattr("tune.executor.places", lambda share: 1)
    order = JournalSearcher(progress_of(journal)).suggest("x")
    assert order["trial"] == 0
    known = History.of(_events_there(flaky, tmp_path))
    assert known.trials[0].starts == 1


def _events_there(store: Store, tmp_path: Path) -> list[dict[str, Any]]:
    from tune.pieces import RemoteJournal

    path = tmp_path / "there.log"
    path.write_bytes(RemoteJournal(store, "s").read())
    return read_events(path)[0]


def test_a_driver_that_was_succeeded_stops_and_writes_nothing(
    flaky: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = begin_on(flaky, tmp_path)
    progress = progress_of(journal)
    work_until(progress, 2)
    assert journal.settle() == ""
    assert isinstance(journal.copy, Held)
    with journal.copy._work:  # not between its look at the lease and its delivery
        monkeypatch.setattr(lease, "RENEW_S", 0.0)
        flaky.write(f"s/{FILE}", json.dumps({"id": "other", "host": "far"}).encode())
        before = {name: flaky.read(f"s/{name}") for name in flaky.files("s")}
    scene.work(progress)
    assert progress.halted == "a process on far drives s now"
    journal.close()
    assert {name: flaky.read(f"s/{name}") for name in flaky.files("s")} == before


def test_a_search_that_cannot_be_put_there_was_never_begun(flaky: Flaky, tmp_path: Path) -> None:
    flaky.before_write = lambda name: setattr(flaky, "failures", int("journal" in name))
    with pytest.raises(BadInput, match=f"{flaky.shown}: it does not answer; it cannot be written"):
        begin_on(flaky, tmp_path)
    assert list(flaky.files("s")) == []
    working = settings(flaky.place.text, tmp_path / "one").storage
    assert list(working.iterdir()) == []


def test_different_ways(flaky: Flaky, tmp_path: Path, opened: list[Journal]) -> None:
    """A search that halted here went on elsewhere, and then here again."""
    journal = begin_on(flaky, tmp_path)
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b"written here\n")
    there = Path(flaky.place.root) / "s" / "journal.log"
    with there.open("ab") as file:
        file.write(b"written there\n")
    with pytest.raises(BadInput, match="have gone different ways: move the working copy away"):
        go_on(flaky.place.text, tmp_path / "one")
    assert FILE not in flaky.files("s")
