"""Where the record of searches is kept unless one says otherwise."""

import os
import re
from pathlib import Path

from gsda.errors import BadInput

SQLITE = "sqlite:///"
_USER = re.compile(r"://(?:[^:/?#@]*:.*@|[^/?#]*@)")
_SECRET = re.compile(
    r"([?&;][^=&;#]*(?:passw|pwd|token|secret|key|credential)[^=&;#]*=)[^&#]*", re.I
)
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
    return f"{SQLITE}{_file_of(uri)}" if uri.startswith(SQLITE) else uri


def _file_of(uri: str) -> Path:
    """The whole path of an SQLite file; what follows a "?" would be cut off, and lie elsewhere."""
    path = Path(uri.removeprefix(SQLITE)).resolve()
    if "?" in str(path):
        raise BadInput(
            f"An SQLite file cannot lie at {path}, for its path has a '?': name another place by "
            "--tracking-uri, such as sqlite:////path/mlflow.db."
        )
    return path


def hide_password(uri: str) -> str:
    """The address without a user's name and password, fit for a screen.

    Rather too much is hidden than too little: a password may have any sign, "/" and "@" too.
    """
    if not uri.startswith("sqlite"):  # which has paths, and no users
        uri = _USER.sub("://", uri, count=1)
    return _SECRET.sub(r"\1***", uri)


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
