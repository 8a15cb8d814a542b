"""What a finished cell of a table came to."""

from collections.abc import Mapping
from dataclasses import dataclass

from gsda.tasks import Task


@dataclass(frozen=True)
class Result:
    """One finished cell.

    Attributes:
        metrics: of its last evaluation. link: to its MLflow run, "" where there is none.
    """

    row: str
    task: Task
    seed: int
    metrics: Mapping[str, float]
    run: str = ""
    link: str = ""
