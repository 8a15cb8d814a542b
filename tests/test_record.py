"""MLflow as a projection of the journal: exactly once, through kills and outages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scene
from mirroring import content, events_of, replay
from mlflow import MlflowClient

from tune import mlstore, record
from tune.history import COMPLETE, FAILED, PRUNED, History
from tune.journal import read_events
from tune.record import Projection

Store = Callable[[str], str]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of two references and a single searched trial."""
    return events_of(tmp_path_factory.mktemp("small"), 1)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of a search with pruned and failed trials."""
    return events_of(tmp_path_factory.mktemp("large"), 8, steps=18)


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
