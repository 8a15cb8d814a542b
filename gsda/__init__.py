"""GSDA: unsupervised domain adaptation with hierarchical gradient synchronization.

Imports neither ray, mlflow nor optuna; and torch only once `Run` is asked for, so that a command
line can answer a mistake at once.
"""

from typing import TYPE_CHECKING, Any

from gsda.config import Config, ladder, source_only
from gsda.errors import BadCheckpoint, BadInput, NonFinite
from gsda.recipes import recommend
from gsda.tasks import BENCHMARKS, Task
from gsda.version import __version__

if TYPE_CHECKING:
    from gsda.run import Run

__all__ = [
    "BENCHMARKS",
    "BadCheckpoint",
    "BadInput",
    "Config",
    "NonFinite",
    "Run",
    "Task",
    "__version__",
    "ladder",
    "recommend",
    "source_only",
]


def __getattr__(name: str) -> Any:
    if name == "Run":
        from gsda.run import Run

        return Run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
