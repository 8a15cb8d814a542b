"""MLflow as a projection of the journal: exactly once, through kills and outages."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import scene
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from tune import mlstore, record
from tune.history import COMPLETE, FAILED, PRUNED, History
from tune.journal import Event, Journal, iterate_events, read_events
from tune.record import Mirror, Projection

Store = Callable[[str], str]


def events_of(folder: Path, trials: int, steps: int = 6) -> Path:
    """The journal of a search that ran to its end, a pause and a resume within."""
    progress = scene.resume(scene.begin(folder, trials, scene.small_config(steps=steps)))
    journal = progress.journal
    first = progress.next_trial()
    assert first is not None
    order = progress.start(first)
    progress.report(0, next(iter(scene.reports(order))))
    journal.append("pause", trials=[0])
    journal.append("resume")
    journal.close()
    progress = scene.resume(Journal(journal.path))
    scene.work(progress)
    progress.journal.append("champion", trial=1, outcome="version 1 is the champion", version="1")
    progress.journal.append("done")
    progress.journal.close()
    return journal.path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of two references and a single searched trial."""
    return events_of(tmp_path_factory.mktemp("small"), 1)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of a search with pruned and failed trials."""
    return events_of(tmp_path_factory.mktemp("large"), 8, steps=18)


def replay(uri: str, journal: Path, skip: int = 0) -> Projection:
    projection = Projection(uri)
    for position, event in enumerate(read_events(journal)[0]):
        projection.apply(event, deliver=position >= skip)
    return projection


def content(uri: str) -> dict[str, Any]:
    """All that a user can see in MLflow, without the ids that MLflow makes up."""
    client = MlflowClient(uri, registry_uri=uri)
    experiments = [e for e in client.search_experiments() if e.name != "Default"]
    assert [e.name for e in experiments] == [scene.TASK]
    runs = client.search_runs([experiments[0].experiment_id], run_view_type=ViewType.ALL)
    keys = [run.data.tags.get(record.TRIAL_TAG, "parent") for run in runs]
    assert len(set(keys)) == len(keys)  # each once
    return {key: visible(client, run) for key, run in zip(keys, runs, strict=True)}


def visible(client: MlflowClient, run: Run) -> Any:
    points = {
        name: [
            (m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, name)
        ]
        for name in sorted(run.data.metrics)
    }
    # MLflow's own tags: who and where
    own = ("mlflow.parentRunId", "mlflow.user", "mlflow.source.name", "mlflow.source.type")
    tags = {name: text for name, text in run.data.tags.items() if name not in own}
    return (run.info.run_name, run.info.status, run.data.params, tags, points)


@pytest.fixture
def told(large: Path, store: str) -> tuple[History, str]:
    """A search, and the store in which it was written down."""
    replay(store, large)
    return History.of(read_events(large)[0]), store


def test_each_trial_is_a_child_run_and_the_search_its_parent(told: tuple[History, str]) -> None:
    history, uri = told
    client = MlflowClient(uri, registry_uri=uri)
    experiment = client.get_experiment_by_name(scene.TASK)
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == len(history.trials) + 1
    parents = [run for run in runs if record.SEARCH_TAG in run.data.tags]
    assert [run.info.run_name for run in parents] == ["scene"]
    children = [run for run in runs if record.TRIAL_TAG in run.data.tags]
    of = {run.data.tags["mlflow.parentRunId"] for run in children}
    assert of == {parents[0].info.run_id}


def test_status_and_tags_tell_how_a_trial_ended(told: tuple[History, str]) -> None:
    history, uri = told
    seen = content(uri)
    states = {trial.state for trial in history.trials.values()}
    assert states == {COMPLETE, PRUNED, FAILED}
    for trial in history.trials.values():
        _, status, _, tags, _ = seen[history.key(trial.number)]
        assert tags["state"] == trial.state
        assert status == ("FAILED" if trial.state == FAILED else "FINISHED")
        assert tags.get("reason", "") == trial.reason
        assert (tags["task"], tags["dataset"]) == (scene.TASK, "glyph31")
        assert "not Office-31" in tags["data_title"]
        assert tags["kind"] == trial.kind
        assert tags["method"] == ("source-only" if trial.kind == "source-only" else "gsda")
        assert tags["seed"] == "0"
    assert seen["parent"][1] == "FINISHED"
    assert seen["parent"][3]["best_trial"] == "1"
    assert seen["parent"][3]["champion"] == "version 1 is the champion"


def test_all_settings_are_params(told: tuple[History, str]) -> None:
    history, uri = told
    seen = content(uri)
    for trial in history.trials.values():
        params = seen[history.key(trial.number)][2]
        assert set(params) == set(trial.config)
        for name in scene.FIELDS:
            assert float(params[name]) == trial.values[name]
    assert seen[history.key(0)][2]["levels"] == "none"
    assert seen[history.key(1)][2]["levels"] == "dom,grp,cls"
    assert seen["parent"][2]["search"] == "alpha,beta,n_groups,tau"


def test_metrics_carry_the_journals_steps_and_times(told: tuple[History, str], large: Path) -> None:
    history, uri = told
    seen = content(uri)
    wanted: dict[str, list[Any]] = {}
    for event in read_events(large)[0]:
        if event["event"] == "report":
            when = int(event["time"] * 1000)
            for name, value in (event["metrics"] | {"seconds": event["seconds"]}).items():
                key = (history.key(event["trial"]), name)
                wanted.setdefault(key, []).append((event["step"], value, when))  # type: ignore
    found = {
        (key, name): points
        for key, (_, _, _, _, metrics) in seen.items()
        if key != "parent"
        for name, points in metrics.items()
    }
    assert found == wanted
    best = history.best(scene.METRIC)
    assert best is not None
    assert seen["parent"][4][f"best/{scene.METRIC}"][0][1] == best.value(scene.METRIC)


def test_replaying_changes_nothing(told: tuple[History, str], large: Path) -> None:
    _, uri = told
    before = content(uri)
    replay(uri, large)
    replay(uri, large)
    assert content(uri) == before


def test_events_that_were_delivered_before_are_only_read(
    told: tuple[History, str], large: Path
) -> None:
    _, uri = told
    before = content(uri)
    projection = replay(uri, large, skip=10**6)
    assert len(projection.history.trials) == 10
    assert projection.experiment == ""  # MLflow was not asked
    assert content(uri) == before


class Killed(RuntimeError):
    """Stands for the end of the process."""


class Fragile:
    """A client that dies after its n-th act, the act done but nobody told."""

    ACTS = ("create_experiment", "create_run", "log_batch", "update_run", "set_terminated")

    def __init__(self, client: MlflowClient, left: int) -> None:
        self._client, self.left = client, left

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in self.ACTS:
            return method

        def act(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            self.left -= 1
            if self.left == 0:
                raise Killed(name)
            return result

        return act


def test_killed_after_any_act_nothing_is_lost_or_doubled(small: Path, make_store: Store) -> None:
    whole = make_store("whole")
    counter = Projection(whole)
    counter.client = Fragile(counter.client, 10**6)
    events = read_events(small)[0]
    for event in events:
        counter.apply(event, deliver=True)
    acts = 10**6 - counter.client.left
    expected = content(whole)
    assert acts > 20
    uri = make_store("killed")
    # One process after another, each killed at its first act that no other had survived.
    delivered = deaths = survived = 0
    while delivered < len(events):
        projection = Projection(uri)
        projection.client = Fragile(projection.client, survived + 1)
        try:
            for position, event in enumerate(events):
                projection.apply(event, deliver=position >= delivered)
                if position >= delivered:
                    delivered, survived = position + 1, 0
                    projection.client.left = 1
        except Killed as death:
            deaths += 1
            survived += not str(death).startswith("create")  # what is made is not made again
    assert deaths == acts
    assert content(uri) == expected


def test_a_lost_experiment_is_taken_back(small: Path, store: str) -> None:
    replay(store, small)
    client = MlflowClient(store, registry_uri=store)
    experiment = client.get_experiment_by_name(scene.TASK)
    client.delete_experiment(experiment.experiment_id)
    assert mlstore.ensure_experiment(client, store, scene.TASK) == experiment.experiment_id
    assert client.get_experiment_by_name(scene.TASK).lifecycle_stage == "active"


def test_artifacts_lie_beside_the_database(small: Path, store: str, tmp_path: Path) -> None:
    replay(store, small)
    client = MlflowClient(store, registry_uri=store)
    place = client.get_experiment_by_name(scene.TASK).artifact_location
    assert place == (tmp_path / "store" / "mlartifacts").as_uri()
    assert mlstore.artifact_location("http://mlflow:5000") is None


# The thread


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
