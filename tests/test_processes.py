"""How the tests are shared out among processes."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import RAY, pytest_cmdline_main, pytest_collection_modifyitems

HERE = Path(__file__).parent
# What a test starts Ray by: a rig or a place of its own, a command, or the fixture.
STARTS = re.compile(
    r"\b(Rig|Machines|Place)\(|\bconnected\(None\)|\"ray_here\"|str\(ROOT / \"tune/search\.py\"\)"
)


def test_all_files_that_start_ray_are_named() -> None:
    found = {p.stem for p in HERE.glob("test_*.py") if STARTS.search(p.read_text("utf-8"))}
    assert found - {Path(__file__).stem} == set(RAY)


def test_they_come_first_and_all_else_stays_in_order() -> None:
    paths = [HERE / f"{name}.py" for name in ("test_a", RAY[1], "test_b", RAY[0], "test_a")]
    items = [SimpleNamespace(path=path, number=n) for n, path in enumerate(paths)]
    pytest_collection_modifyitems(items)  # type: ignore[arg-type]
    assert [item.number for item in items] == [1, 3, 0, 2, 4]


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
