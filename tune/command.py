"""Under which name the search was started, and starts again."""

import sys
from pathlib import Path

from gsda.tracking import hide_password

INSTALLED, SCRIPT = "gsda-search", "search.py"


def program() -> str:
    """The name before a sentence: the installed command's, or the script's."""
    return INSTALLED if _started_as(INSTALLED) or not _in_checkout() else SCRIPT


def search_words() -> list[str]:
    """The first words of a command line of the search: as it was started, if that is known."""
    if program() == INSTALLED:
        return [INSTALLED]
    return ["python", sys.argv[0] if _started_as(SCRIPT) else f"tune/{SCRIPT}"]


def own_words() -> list[str]:
    """The words of the command line that this process was started with, without passwords."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    start = [sys.argv[0]] if spec is None else ["-m", spec.name.removesuffix(".__main__")]
    return ["python", *start, *map(hide_password, sys.argv[1:])]


def _started_as(name: str) -> bool:
    return Path(sys.argv[0]).name == name


def _in_checkout() -> bool:
    return (Path(__file__).parents[1] / "pyproject.toml").is_file()
