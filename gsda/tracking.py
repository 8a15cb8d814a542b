"""Where the record of searches is kept unless one says otherwise."""

from pathlib import Path


def default_tracking_uri(folder: Path) -> str:
    """MLflow's address of one SQLite file in `folder`; always absolute.

    A relative one would be another file for every process that starts elsewhere.
    """
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}"
