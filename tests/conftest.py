"""What all tests share: a quiet environment, one cache of drawn images, and where real data is."""

import atexit
import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import (  # noqa: F401
    pytest_cmdline_main,
    pytest_collection_finish,
    pytest_collection_modifyitems,
    pytest_xdist_make_scheduler,
)
from sqlalchemy import event
from sqlalchemy.engine import Engine

from gsda.data.atomic import locked
from tune import environment

# Before anything reads it: glyph31 is drawn once in a test session, and not in the user's home.
if "PYTEST_XDIST_WORKER" not in os.environ:  # one of several processes has that of the first
    os.environ["GSDA_CACHE"] = tempfile.mkdtemp(prefix="gsda-test-cache-")
    atexit.register(shutil.rmtree, os.environ["GSDA_CACHE"], ignore_errors=True)
_CACHE = os.environ["GSDA_CACHE"]
# Ray's ports open to this alone, in every process of the session; read when ray is imported.
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
environment.prepare()
torch.set_num_threads(1)
# No test pulls the plug. Waiting until all is on the disk would take longer than most of them; what
# the tests start as programs does wait.
os.fsync = lambda descriptor: None


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection: Any, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture
def cache() -> Path:
    """Decoded images of this test session."""
    return Path(_CACHE)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and weights, which is not ours to ship."""
    folder = os.environ.get("GSDA_TEST_DATA")
    if not folder:
        pytest.skip("GSDA_TEST_DATA IS NOT SET: NOT TESTED ON REAL IMAGES AND WEIGHTS")
    return Path(folder)


@pytest.fixture(scope="session")
def empty_store() -> Path:
    """An MLflow database without runs. Making one takes 8 s: it is made once, and copied."""
    from mlflow import MlflowClient

    path = Path(_CACHE, "mlflow", "empty.db")
    with locked(path):
        if not path.is_file():
            begun = path.with_name("begun.db")
            MlflowClient(f"sqlite:///{begun}").search_experiments()
            begun.rename(path)
    return path


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One Ray for all searches that the tests of a file run in this process."""
    from tune.cluster import connected

    with connected(None):
        yield


@pytest.fixture
def make_store(empty_store: Path, tmp_path: Path) -> Callable[[str], str]:
    """A function from a name to the address of a fresh MLflow store in `tmp_path`."""

    def make(name: str = "store") -> str:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        shutil.copy(empty_store, folder / "mlflow.db")
        return f"sqlite:///{folder / 'mlflow.db'}"

    return make


@pytest.fixture
def store(make_store: Callable[[str], str]) -> str:
    """The address of a fresh MLflow store."""
    return make_store("store")


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an S3 server on loopback, with the bucket ``bucket``."""
    pytest.importorskip("moto", reason="MOTO IS NOT INSTALLED: NOT TESTED ON S3")
    from uris import serving

    with serving() as address:
        yield address


@pytest.fixture(scope="session")
def gs() -> Iterator[str]:
    """The address of a stand-in for Google's storage on loopback, with the bucket ``bucket``."""
    pytest.importorskip(
        "gcp_storage_emulator", reason="GCP-STORAGE-EMULATOR IS NOT INSTALLED: NOT TESTED ON GS"
    )
    from uris import serving_gs

    with serving_gs() as address:
        yield address


@pytest.fixture(params=["file", "s3", "gs"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place below a URI where nothing is yet."""
    if request.param == "file":
        return f"file://{tmp_path}/far"
    address = request.getfixturevalue(request.param)
    more = "&anonymous=true" if request.param == "gs" else ""
    place = f"{request.param}://bucket/{secrets.token_hex(4)}"
    return f"{place}?endpoint_override={address}&scheme=http{more}"
