"""The registry: the best model of a search, and whether it becomes the champion of its task."""

import importlib.metadata
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types.schema import Schema, TensorSpec

import gsda
from gsda.bundle import Predictor, amend_manifest, load_bundle
from gsda.config import Config
from gsda.sealed import ACCURACY
from gsda.tasks import Task
from tune.card import describe_model, describe_version
from tune.record import TRIAL_TAG
from tune.seal import TAG

CHAMPION = "champion"
_LOGGED = "models:/"  # before the id of a logged model
_EXAMPLE_SIDE = 32
_REQUIREMENTS = ("mlflow", "torch", "torchvision", "numpy", "pillow", "pyarrow")


@dataclass(frozen=True)
class Entry:
    """A model that wants to be registered.

    Attributes:
        run_id: of the trial's MLflow run. key: the trial's identity.
        value: of `metric`, label-free. data: identity of source and target images.
        oracle: accuracy on target labels where they exist; written down, never compared.
        origin: where its setting was found, if not in a search of its task.
        how: how its setting was chosen, if not by this task's score alone.
        unsealed: whether target labels may have had a part in choosing it.
        method: that was searched; the model may be of source-only training all the same.
    """

    task: Task
    folder: Path
    run_id: str
    key: str
    metric: str
    value: float
    data: str
    oracle: float | None = None
    method: str = Config.method
    unsealed: bool = False
    origin: str = ""
    how: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        version: the model's number in the registry.
        is_champion: whether the alias points to it now.
        sentence: what happened, for the user.
        others: of the other tasks, where a trial trains several.
    """

    name: str
    version: str
    is_champion: bool
    sentence: str
    others: tuple["Outcome", ...] = ()

    @property
    def all(self) -> tuple["Outcome", ...]:
        """Of each task."""
        return (self, *self.others)


def model_name(task: Task, method: str = Config.method) -> str:
    """``gsda-glyph31-A2D``, ``dann-glyph31-A2D``: methods do not compete for one alias."""
    return f"{method}-{task.slug}"


def register(entry: Entry, uri: str, promote: bool = False) -> Outcome:
    """Put a model into the registry, and give it the alias if it beats the champion.

    Doing it again finds the version that was made, and makes no other.

    Args:
        promote: take the alias even from a champion that cannot be compared with this one.
    """
    client = MlflowClient(uri, registry_uri=uri)
    name = model_name(entry.task, entry.method)
    predictor = load_bundle(entry.folder)
    amend_manifest(entry.folder, selection=_selection(entry))
    _ensure_model(client, name, entry)
    version = _find_version(client, name, entry.key)
    version = version or _add_version(client, uri, name, entry, predictor)
    _describe(client, version, entry, predictor)
    return _crown(client, name, version, entry, promote)


def _selection(entry: Entry) -> dict[str, Any]:
    """By what a model was chosen, for whoever meets its files alone."""
    by = "with target labels (--unseal)" if entry.unsealed else "without labels"
    rule = f"the largest {entry.metric} of its search, on images of the target {by}"
    rule = entry.how or rule
    return {"trial": entry.key, "rule": rule, "metric": entry.metric, "value": entry.value}


def _ensure_model(client: MlflowClient, name: str, entry: Entry) -> None:
    try:
        client.get_registered_model(name)
    except MlflowException:
        try:
            client.create_registered_model(
                name,
                tags={"task": str(entry.task), "method": entry.method},
                description=describe_model(name, entry.task, entry.method),
            )
        except MlflowException:
            client.get_registered_model(name)  # another search was faster


def _find_version(client: MlflowClient, name: str, key: str) -> Any | None:
    versions = client.search_model_versions(f"name = '{name}'")
    return next((v for v in versions if v.tags.get(TRIAL_TAG) == key), None)


def _add_version(
    client: MlflowClient, uri: str, name: str, entry: Entry, predictor: Predictor
) -> Any:
    tags = {
        TRIAL_TAG: entry.key,
        "task": str(entry.task),
        "method": entry.method,
        "metric": entry.metric,
        "value": repr(entry.value),
        "data": entry.data,
    }
    if entry.oracle is not None:
        tags[ACCURACY] = repr(entry.oracle)
    if entry.unsealed:
        tags[TAG] = "true"
    if entry.origin:
        tags["transferred_from"] = entry.origin
    with _quiet(), _global_address(uri):
        source = _log_model(client, entry, predictor)
        return client.create_model_version(
            name,
            source=source,
            run_id=entry.run_id,
            tags=tags,
            model_id=source.removeprefix(_LOGGED),  # a server asks for it, a database does not
        )


def _describe(client: MlflowClient, version: Any, entry: Entry, predictor: Predictor) -> None:
    """What the page of a version says, unless somebody has said something there."""
    if version.description:
        return
    address = f"{version.name}/{version.version}"
    about = (predictor.manifest, entry.metric, entry.value, entry.oracle)
    text = describe_version(address, entry.task, *about, entry.unsealed, entry.how)
    client.update_model_version(version.name, str(version.version), text)


def _log_model(client: MlflowClient, entry: Entry, predictor: Predictor) -> str:
    """Log the bundle as a pyfunc model of the trial's run; returns its address."""
    side = _EXAMPLE_SIDE  # the model takes any size; a small example keeps the artifact small
    example = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    r = len(predictor.classes)
    signature = ModelSignature(
        # What MLflow lets pass: arrays of images as well as texts in base64. The model checks.
        inputs=Schema([TensorSpec(np.dtype(object), (-1,))]),
        outputs=Schema(
            [
                TensorSpec(np.dtype(object), (-1,), "class"),
                TensorSpec(np.dtype(np.float32), (-1, r), "probabilities"),
            ]
        ),
    )
    logged = _logged_before(client, entry)
    if logged is not None:
        return f"{_LOGGED}{logged}"
    model = _begin_model(client, entry)
    # Without an active run: it would be RUNNING again, for good if we were killed here.
    mlflow.pyfunc.log_model(
        model_id=model,
        python_model=str(Path(__file__).with_name("served.py")),
        artifacts={"bundle": str(entry.folder)},
        code_paths=[str(Path(gsda.__file__).parent)],
        signature=signature,
        input_example=example,
        pip_requirements=[f"{p}=={importlib.metadata.version(p)}" for p in _REQUIREMENTS],
    )
    return f"{_LOGGED}{model}"


def _logged_before(client: MlflowClient, entry: Entry) -> str | None:
    """The model as a process logged it that was killed before it went on; torn ones are deleted."""
    experiment = client.get_run(entry.run_id).info.experiment_id
    found = client.search_logged_models([experiment], f"tags.`{TRIAL_TAG}` = '{entry.key}'")
    whole = [model for model in found if model.status == LoggedModelStatus.READY]
    for model in found:
        if model not in whole:
            client.delete_logged_model(model.model_id)
    return str(whole[0].model_id) if whole else None


def _begin_model(client: MlflowClient, entry: Entry) -> str:
    """The id of a model without content, as an output of the trial's run."""
    run = client.get_run(entry.run_id)
    model = client.create_logged_model(
        run.info.experiment_id,
        name="model",
        source_run_id=entry.run_id,
        tags={TRIAL_TAG: entry.key},
        params=dict(run.data.params),
    )
    client.log_outputs(entry.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_id)


def _crown(client: MlflowClient, name: str, version: Any, entry: Entry, promote: bool) -> Outcome:
    """Give the alias to the best of all versions that can be compared with its present holder.

    Not merely to the better of two: so it does not matter in which order, or how often, several
    searches do this at once.
    """
    mine = str(version.version)
    holder = _holder(client, name)
    if entry.unsealed:
        return _crown_unsealed(client, name, mine, holder, promote)
    reason = None if holder is None else _incomparable(entry, holder)
    if reason is not None and not promote:
        return Outcome(name, mine, False, f"version {mine} registered; {reason}")
    rivals = _comparable(client, name, entry.metric, entry.data)
    best = max(rivals, key=lambda v: (float(v.tags["value"]), -int(v.version)))
    if holder is None or str(holder.version) != str(best.version):
        client.set_registered_model_alias(name, CHAMPION, str(best.version))
    return _tell(name, version, best, holder, entry.metric)


def _crown_unsealed(
    client: MlflowClient, name: str, mine: str, holder: Any | None, promote: bool
) -> Outcome:
    """A model that target labels chose is a champion only if a user says so, or has said so."""
    said = f"version {mine}, chosen with target labels, "
    held = holder is not None and str(holder.version) == mine
    if promote and not held:
        client.set_registered_model_alias(name, CHAMPION, mine)
    if promote or held:
        return Outcome(name, mine, True, f"{said}is the champion")
    return Outcome(name, mine, False, f"{said}is registered and no champion (--promote makes it)")


def _tell(name: str, mine: Any, best: Any, holder: Any | None, metric: str) -> Outcome:
    if str(best.version) != str(mine.version):
        kept = f"champion is version {best.version} with {metric} {float(best.tags['value']):.4f}"
        return Outcome(name, str(mine.version), False, f"version {mine.version} registered; {kept}")
    if holder is None or str(holder.version) == str(mine.version):
        return Outcome(name, str(mine.version), True, f"version {mine.version} is the champion")
    sentence = f"version {mine.version} is the new champion, in place of version {holder.version}"
    return Outcome(name, str(mine.version), True, sentence)


def _holder(client: MlflowClient, name: str) -> Any | None:
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        return None


def _comparable(client: MlflowClient, name: str, metric: str, data: str) -> list[Any]:
    versions = client.search_model_versions(f"name = '{name}'")
    sealed = [v for v in versions if TAG not in v.tags]
    return [v for v in sealed if v.tags.get("metric") == metric and v.tags.get("data") == data]


def _incomparable(entry: Entry, holder: Any) -> str | None:
    """Why the present champion stays whatever its score, or None."""
    stays = f"champion stays version {holder.version}"
    if TAG in holder.tags:
        return f"{stays}, which target labels chose (--promote puts this one in its place)"
    if holder.tags.get("metric") != entry.metric:
        chosen = holder.tags.get("metric")
        return f"{stays}, which was chosen by {chosen} (--promote puts this one in its place)"
    if holder.tags.get("data") != entry.data:
        return f"{stays}, which saw other images (--promote puts this one in its place)"
    return None


@contextmanager
def _global_address(uri: str) -> Iterator[None]:
    """MLflow logs a model, and looks it up, only where the whole process's address points."""
    before = os.environ.get("MLFLOW_TRACKING_URI")  # where MLflow keeps it
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without MLflow's notices: they tell the user nothing that he could act on."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
