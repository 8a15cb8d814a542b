"""Predictions for files: find the model, decode, predict, write a table; some at a time."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from gsda.bundle import MANIFEST, Predictor, load_bundle
from gsda.data.atomic import replacing
from gsda.data.decoding import decode, read_ahead
from gsda.data.domain import UInt8
from gsda.data.load import Progress
from gsda.errors import BadInput
from gsda.tracking import SQLITE, check_database, choose_tracking_uri, hide_password

# What MLflow reads when it is imported: quiet, private, and no minutes for a server that is away.
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_NO_SUCH = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")

SCHEMA = pa.schema([("file", pa.string()), ("class", pa.string()), ("confidence", pa.float32())])


def find_model(address: str, tracking_uri: str | None = None) -> Predictor:
    """The model in a folder, or in MLflow's registry; MLflow is imported for the latter alone.

    Only weights and a manifest are read: nothing that lies with the model is executed.

    Raises:
        BadInput: there is none, or it is damaged.
    """
    if not address.startswith("models:/"):
        return load_bundle(Path(address))
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    uri = choose_tracking_uri(tracking_uri)
    check_database(uri)
    if uri.startswith(SQLITE):  # its files are on this machine
        return _load_registered(address, uri, None)
    with TemporaryDirectory(prefix="gsda-model-") as folder:
        return _load_registered(address, uri, folder)


def _load_registered(address: str, uri: str, folder: str | None) -> Predictor:
    """A model of the registry at `uri`, copied to `folder` if that is given."""
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    where = hide_password(uri)
    try:
        found = Path(mlflow.artifacts.download_artifacts(address, dst_path=folder))
    except Exception as error:
        if isinstance(error, MlflowException) and error.error_code in _NO_SUCH:
            raise BadInput(
                f"There is no model {address} at {where}: check its name, "
                "or name the place with --tracking-uri."
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"{where} does not give the model {address} ({hide_password(reason)[:200]}): "
            "see that it runs, or name another place with --tracking-uri."
        ) from error
    manifests = sorted(found.glob(f"artifacts/*/{MANIFEST}"))
    if not manifests:
        raise BadInput(f"{address} was not made by a GSDA search: it holds no {MANIFEST}.")
    return load_bundle(manifests[0].parent)


def predict_files(
    predictor: Predictor,
    files: Sequence[Path],
    bad: list[str],
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Iterator[pa.RecordBatch]:
    """Predictions for image files, some at a time and in their order: rows of `SCHEMA`.

    Args:
        bad: a sentence is appended for each file that cannot be read.
        progress: called with (files done, files in all).
    """
    limit = batch_size or predictor.batch_size
    names: list[str] = []
    batch: list[UInt8] = []
    with closing(read_ahead(partial(decode, size=predictor.size), files)) as decoded:
        for done, (file, image) in enumerate(zip(files, decoded, strict=True), start=1):
            if isinstance(image, BadInput):
                bad.append(str(image))
            else:
                names.append(str(file))
                batch.append(image)
            if len(batch) == limit:
                yield _rows(predictor, names, batch)
                names, batch = [], []
            if progress is not None:
                progress(done, len(files))
    if batch:
        yield _rows(predictor, names, batch)


def _rows(predictor: Predictor, names: list[str], batch: list[UInt8]) -> pa.RecordBatch:
    classes, p = predictor.predict_sized([np.stack(batch)])
    columns = [names, classes.tolist(), p.max(axis=1)]
    return pa.record_batch([pa.array(column) for column in columns], schema=SCHEMA)


Write = Callable[[pa.RecordBatch], None]


@contextmanager
def table_writer(output: Path | None, form: str, width: int = 0) -> Iterator[Write]:
    """What writes rows as they come; a file is there when all went well, and not before.

    Args:
        output: None for standard output.
        form: "csv", "parquet", or "table" for the eye.
        width: of the longest class name, for the table.

    Raises:
        BadInput: the file cannot be written.
    """
    if output is None:
        with _opened(sys.stdout.buffer, form, width) as write:
            yield write
        sys.stdout.flush()
        return
    try:
        with replacing(output) as file, _opened(file, form, width) as write:
            yield write
    except OSError as error:
        raise BadInput(f"{output} cannot be written ({error}): choose another --output.") from error


@contextmanager
def _opened(file: Any, form: str, width: int) -> Iterator[Write]:
    if form == "table":
        yield lambda rows: _write_lines(file, rows, width)
        return
    kind = csv.CSVWriter if form == "csv" else parquet.ParquetWriter
    with kind(file, SCHEMA) as writer:
        yield writer.write_batch


def _write_lines(file: Any, rows: pa.RecordBatch, width: int) -> None:
    for row in rows.to_pylist():
        line = f"{row['class']:<{width}}  {100 * row['confidence']:5.1f}%  {row['file']}\n"
        file.write(line.encode())
    file.flush()
