"""What a journal is of: a search, or a sweep, whose cells are trained to be compared in a table."""

from collections.abc import Mapping
from typing import Any

from gsda.errors import BadInput

SEARCH, SWEEP = "search", "sweep"
_PREFIX = f"{SWEEP}-"  # of the names of sweeps


def sweep_name(slug: str, digest: str) -> str:
    """The name of the sweep of a task's images."""
    return f"{_PREFIX}{slug}-{digest[:8]}"


def kind_of(spec: Mapping[str, Any]) -> str:
    """SEARCH or SWEEP; a journal that is older than the difference is told by its name."""
    named = SWEEP if str(spec.get("name", "")).startswith(_PREFIX) else SEARCH
    return str(spec.get("kind", named))


def is_sweep(spec: Mapping[str, Any]) -> bool:
    """Whether nothing was searched, so that there is no winner."""
    return kind_of(spec) == SWEEP


def onward(spec: Mapping[str, Any]) -> str:
    """The command that goes on with a sweep, as far as that is known."""
    return str(spec.get("command") or "the command of experiments/ that began it")


def check_search(spec: Mapping[str, Any], option: str) -> None:
    """Refuse a sweep where a search is needed.

    Args:
        option: what was to be done with it, as a command line says it.

    Raises:
        BadInput: it is a sweep.
    """
    if is_sweep(spec):
        raise BadInput(
            f"{option} is for searches, and {spec['name']} holds the cells of a table, which has "
            f"no winner: its own command is {onward(spec)}."
        )
