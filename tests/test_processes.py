"""How the tests are shared out among processes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import pytest_cmdline_main, pytest_collection_modifyitems, starts_ray

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("whole_search seal faults tables search_methods preflight tuned pages sensitivity", True),
        ("finetuning raywatch", True),
        ("losses docs cluster registry processes", False),
    ],
)
def test_files_that_start_ray_are_known(names: str, expected: bool) -> None:
    for name in names.split():
        assert starts_ray(HERE / f"test_{name}.py") == expected, name


def test_they_come_first_and_all_else_stays_in_order() -> None:
    names = ("losses", "seal", "docs", "whole_search", "losses")
    items = [SimpleNamespace(path=HERE / f"test_{name}.py", at=n) for n, name in enumerate(names)]
    pytest_collection_modifyitems(items)  # type: ignore[arg-type]
    assert [item.at for item in items] == [1, 3, 0, 2, 4]


@pytest.mark.parametrize(
    ("source", "changes", "expected"),
    [
        ("TESTPATHS", {}, 2),
        ("TESTPATHS", {"numprocesses": 0}, 0),
        ("TESTPATHS", {"keyword": "losses"}, None),
        ("TESTPATHS", {"usepdb": True}, None),
        ("ARGS", {}, None),
    ],
)
def test_all_tests_alone_run_in_two_processes(
    source: str, changes: dict[str, object], expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    plain = {"numprocesses": None, "keyword": "", "markexpr": "", "lf": False, "usepdb": False}
    config = SimpleNamespace(
        option=SimpleNamespace(**(plain | changes)),
        pluginmanager=SimpleNamespace(hasplugin=lambda name: name == "xdist"),
        args_source=pytest.Config.ArgsSource[source],
    )
    pytest_cmdline_main(config)  # type: ignore[arg-type]
    assert config.option.numprocesses == expected
