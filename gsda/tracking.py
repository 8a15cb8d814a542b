"""Where the record of searches is kept unless one says otherwise."""

import os
import re
from pathlib import Path

from gsda.errors import BadInput

SQLITE = "sqlite:///"
_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")


def default_tracking_uri(folder: Path) -> str:
    """MLflow's address of one SQLite file in `folder`; always absolute.

    A relative one would be another file for every process that starts elsewhere.
    """
    return f"{SQLITE}{folder.resolve() / 'mlflow.db'}"


def choose_tracking_uri(said: str | None) -> str:
    """The address to use: what was said, else $MLFLOW_TRACKING_URI, else `mlflow.db` here.

    Raises:
        BadInput: an address of no kind that MLflow can keep runs and models at.
    """
    uri = said or os.environ.get("MLFLOW_TRACKING_URI") or default_tracking_uri(Path.cwd())
    scheme = re.split(r"[:+]", uri, maxsplit=1)[0]
    if scheme not in _SCHEMES or ("://" not in uri and scheme != "databricks"):
        raise BadInput(
            f"--tracking-uri is {hide_password(uri)}: give a server (http://...) or a database "
            "(sqlite:////path/mlflow.db)."
        )
    if uri.startswith(SQLITE):
        return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).resolve()}"
    return uri


def hide_password(uri: str) -> str:
    """The address without a user's name and password, fit for a screen."""
    return re.sub(r"//[^/@]*@", "//", uri)


def check_database(uri: str) -> None:
    """Refuse an SQLite file that is not there: MLflow would make an empty one.

    Raises:
        BadInput: it is not there.
    """
    path = Path(uri.removeprefix(SQLITE))
    if uri.startswith(SQLITE) and not path.is_file():
        raise BadInput(
            f"There is no {path}: run this where the search ran, or name its --tracking-uri."
        )
