"""Where MLflow keeps things: its database, the experiment of a task, the run of a key.

Each is looked for before it is made, so that several searches may do it at once, and again.
"""

import fcntl
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from gsda.tracking import SQLITE

# Opens the experiment as a list of training runs, not of conversations.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


def artifact_location(uri: str) -> str | None:
    """Where artifacts of a SQLite store go: beside the file. A server knows its own place."""
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).resolve().parent / "mlartifacts").as_uri()


def ensure_database(uri: str) -> None:
    """Make a SQLite store that is not there, whole or not at all.

    MLflow's own making of tables takes seconds, fails where two start it at once, and leaves a
    file behind that can never be opened again if it is killed in the middle.
    """
    if not uri.startswith(SQLITE):
        return
    path = Path(uri.removeprefix(SQLITE))
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        MlflowClient(f"{SQLITE}{fresh}").search_experiments(max_results=1)
        fresh.replace(path)


def ensure_experiment(client: MlflowClient, uri: str, name: str) -> str:
    """The id of the experiment of that name, made if need be."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    try:
        made = client.create_experiment(name, artifact_location(uri), tags=_EXPERIMENT_TAGS)
        return str(made)
    except MlflowException:
        found = client.get_experiment_by_name(name)  # another search was faster
        if found is None:
            raise
        return str(found.experiment_id)


def find_run(client: MlflowClient, experiment: str, tag: str, key: str) -> str | None:
    """The id of the run that carries `key`, if there is one.

    One that a user deleted counts, too: what he threw away is not made again.
    """
    query = f"tags.`{tag}` = '{key}'"
    runs = client.search_runs([experiment], query, ViewType.ALL, max_results=1)
    return str(runs[0].info.run_id) if runs else None
