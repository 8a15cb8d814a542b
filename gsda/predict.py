"""Predictions for files: find the model, decode, predict, write a table; some at a time."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
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
from gsda.tracking import check_database, choose_tracking_uri, hide_password

SCHEMA = pa.schema([("file", pa.string()), ("class", pa.string()), ("confidence", pa.float32())])


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
    check_database(uri)
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
