"""Journals of whole searches, and what can be seen of them in MLflow."""

from pathlib import Path
from typing import Any

import scene
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from tune import record
from tune.journal import Journal, read_events
from tune.record import Projection


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
