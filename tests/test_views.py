"""The view of a task's trials that MLflow's pages offer."""

import json
from pathlib import Path

import scene
from mlflow import MlflowClient
from test_record import events_of, replay

from gsda.tracking import hide_password
from tune import views
from tune.views import NOTE, TAG, View

SPEC = scene.make_spec(scene.small_config(), 3)
VIEW = View(("alpha", "n_groups"), "val/bnm")


def test_the_tag_is_a_saved_view_of_mlflow() -> None:
    ((key, value),) = VIEW.tag(12.5).items()
    assert key == "mlflow.sharedViewState.gsda-val-bnm-alpha-n_groups"
    envelope = json.loads(value)
    assert envelope["name"] == "Trials by val/bnm: alpha, n_groups"
    assert envelope["createdAt"] == envelope["updatedAt"] == 12500
    state = json.loads(envelope["state"])
    assert state["selectedColumns"] == [
        "metrics.`val/bnm`",
        "metrics.`oracle/target_accuracy`",
        "params.`alpha`",
        "params.`n_groups`",
        "tags.`state`",
        "tags.`search`",
        "attributes.`Duration`",
    ]
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`val/bnm`", False)
    (chart,) = state["compareRunCharts"]
    assert (chart["type"], chart["selectedParams"]) == ("PARALLEL", ["alpha", "n_groups"])
    assert chart["metricSectionId"] == state["compareRunSections"][0]["uuid"]
    assert len(value) < 5000  # MLflow's limit


def test_equal_searches_share_a_view_and_others_have_their_own() -> None:
    assert VIEW.key == View(["alpha", "n_groups"], "val/bnm").key
    others = {View(("alpha",), "val/bnm").key, View(("alpha", "n_groups"), "val/im").key}
    assert len(others | {VIEW.key}) == 3


def test_addresses() -> None:
    query = "workflowType=machine_learning&viewStateShareKey=gsda-val-bnm-alpha-beta-n_groups-tau"
    local = f"{views.LOCAL_PAGES}/#/experiments/7/runs?{query}"
    assert views.address(SPEC, "sqlite:////x/mlflow.db", "7") == local
    uri = "https://me:secret@mlflow.example/base/"
    assert (
        views.address(SPEC, uri, "7") == f"{hide_password(uri)[:-1]}/#/experiments/7/runs?{query}"
    )
    assert views.view_of(SPEC).address("", "7", chart=True).endswith("&compareRunsMode=CHART")


def test_the_experiment_keeps_view_and_note(tmp_path: Path, store: str) -> None:
    """Set again with each resume; a note that a user wrote stays."""
    journal = events_of(tmp_path, 1)
    experiment = replay(store, journal).experiment
    client = MlflowClient(store)
    tags = client.get_experiment(experiment).tags
    assert TAG + views.view_of(SPEC).key in tags
    assert tags[NOTE].startswith("Searches of glyph31/W2D (built-in drawn letters; not Office-31)")
    assert f"(/#/experiments/{experiment}/runs?" in tags[NOTE]
    client.set_experiment_tag(experiment, NOTE, "Searches of glyph31/W2D, but older words")
    replay(store, journal)
    assert client.get_experiment(experiment).tags == tags
    client.set_experiment_tag(experiment, NOTE, "mine")
    replay(store, journal)
    assert client.get_experiment(experiment).tags == tags | {NOTE: "mine"}
