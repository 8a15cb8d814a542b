"""The whole suite in two processes side by side; what is named on the command line in one, as ever.

A file's tests stay together and in order: fixtures of a module, and tests that build on the one
before. `-n 0` runs all in one process, `-n N` in as many as are asked for.
"""

import gc
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

# What a test starts Ray by: a rig or a place of its own, the command, or the fixture.
_STARTS = re.compile(
    r"\b(Rig|Machines|Place)\(|\bconnected\(None\)|\bray_here\b|str\(ROOT / \"tune/search\.py\"\)"
)


@cache
def starts_ray(file: Path) -> bool:
    """Whether a file's tests do.

    Such files run one after another: each has the two cores that Ray counts on.
    """
    return _STARTS.search(file.read_text(encoding="utf-8")) is not None


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Two processes, where pytest-xdist and two cores are there and all tests are wanted."""
    option = config.option
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput"):
        return
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    selected = any((option.keyword, option.markexpr, getattr(option, "lf", False), option.usepdb))
    if option.numprocesses is None and whole and not selected and (os.cpu_count() or 1) > 1:
        option.numprocesses = 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ray's files come first: together they take the longest."""
    items.sort(key=lambda item: not starts_ray(item.path))


def pytest_collection_finish() -> None:
    """What is there now stays, and need not be looked through by each garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a process one file after another, and all of Ray's to the same."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "those that start Ray" if starts_ray(config.rootpath / file) else file

    config.option.loadscopereorder = False  # which would begin with the most tests, not the longest
    return ByFile(config, log)
