"""Predictions for files: find the model, decode, predict, write a table."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from gsda.bundle import CHUNK, MANIFEST, Predictor, load_bundle
from gsda.data.decoding import decode
from gsda.data.domain import UInt8
from gsda.data.load import iterate_files
from gsda.errors import BadInput
from gsda.tracking import SQLITE, choose_tracking_uri, hide_password


def find_model(address: str, tracking_uri: str | None = None) -> Predictor:
    """The model in a folder, or in MLflow's registry; MLflow is imported for the latter alone.

    Only weights and a manifest are read: nothing that lies with the model is executed.

    Raises:
        BadInput: there is none, or it is damaged.
    """
    if not address.startswith("models:/"):
        return load_bundle(Path(address))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
    uri = choose_tracking_uri(tracking_uri)
    _check_database(uri)
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        folder = Path(mlflow.artifacts.download_artifacts(address))
    except Exception as error:
        raise BadInput(
            f"There is no model {address} at {hide_password(uri)}: check its name, "
            "or name the place with --tracking-uri."
        ) from error
    manifests = sorted(folder.glob(f"artifacts/*/{MANIFEST}"))
    if not manifests:
        raise BadInput(f"{address} was not made by a GSDA search: it holds no {MANIFEST}.")
    return load_bundle(manifests[0].parent)


def _check_database(uri: str) -> None:
    """MLflow would make an empty database where there is none."""
    path = Path(uri.removeprefix(SQLITE))
    if uri.startswith(SQLITE) and not path.is_file():
        raise BadInput(
            f"There is no {path}: run this where the search ran, or name its --tracking-uri."
        )


def predict_files(
    predictor: Predictor, paths: Sequence[Path], skip_bad: bool = False
) -> tuple[pa.Table, list[str]]:
    """Predictions for image files and for folders of them.

    Returns:
        A table of file, class, confidence; and a sentence for each file that was left out.

    Raises:
        BadInput: a path that is not there, or a file that cannot be read (unless `skip_bad`).
    """
    read: list[str] = []
    bad: list[str] = []

    def batches() -> Iterator[UInt8]:
        batch: list[UInt8] = []
        for path in iterate_files(paths):
            try:
                batch.append(decode(path, predictor.size))
            except BadInput as error:
                if not skip_bad:
                    raise
                bad.append(str(error))
                continue
            read.append(str(path))
            if len(batch) == CHUNK:
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)

    classes, probabilities = predictor.predict_sized(batches())
    confidence = probabilities.max(axis=1) if len(probabilities) else np.zeros(0, np.float32)
    columns = {"file": read, "class": classes.tolist(), "confidence": confidence}
    return pa.table(columns), bad


def write_table(table: pa.Table, output: Path | None) -> None:
    """CSV or Parquet by the file's extension; CSV on standard output without a file.

    Raises:
        BadInput: the file cannot be written.
    """
    if output is None:
        csv.write_csv(table, sys.stdout.buffer)
        sys.stdout.flush()
        return
    try:
        if output.suffix == ".parquet":
            parquet.write_table(table, output)
        else:
            csv.write_csv(table, output)
    except OSError as error:
        raise BadInput(f"{output} cannot be written ({error}): choose another --output.") from error
