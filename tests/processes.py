"""The whole suite in two processes side by side; what is named on the command line in one, as ever.

A file's tests stay together and in order: fixtures of a module, and tests that build on the one
before. `-n 0` runs all in one process, `-n N` in as many as are asked for.
"""

import gc
import os
from pathlib import Path
from typing import Any

import pytest

# Files that start Ray. They run one after another: each has the two cores that Ray counts on.
RAY = (
    "test_search test_seal test_faults test_tables test_search_methods test_preflight test_tuned "
    "test_pages test_sensitivity test_finetuning test_raywatch"
).split()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Two processes, where pytest-xdist and two cores are there and all tests are wanted."""
    option = config.option
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput"):
        return
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    selected = any((option.keyword, option.markexpr, option.lf, option.usepdb))
    if option.numprocesses is None and whole and not selected and (os.cpu_count() or 1) > 1:
        option.numprocesses = 2


def rank(path: Path) -> bool:
    """Ray's files come first: together they take the longest."""
    return path.stem not in RAY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.path))


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
            return file if rank(Path(file)) else "those that start Ray"

    config.option.loadscopereorder = False  # which would begin with the most tests, not the longest
    return ByFile(config, log)
