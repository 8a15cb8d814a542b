"""The wheel: whole, typed, licensed, and it works where the checkout is not."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gsda

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("SETUPTOOLS IS NOT INSTALLED: THE WHEEL IS NOT TESTED")
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("gsda", "tune", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    code = "from setuptools import build_meta; print(build_meta.build_wheel('out'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return folder / "out" / done.stdout.split()[-1]


def test_it_is_whole(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        info = f"gsda-{gsda.__version__}.dist-info"
        commands = file.read(f"{info}/entry_points.txt").decode()
        metadata = file.read(f"{info}/METADATA").decode()
    for package in ("gsda", "tune", "experiments"):
        modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / package).rglob("*.py")}
        assert modules <= names
    assert {"gsda/py.typed", "tune/py.typed", f"{info}/licenses/LICENSE"} <= names
    assert not [name for name in names if name.startswith("tests")]
    assert "gsda = gsda.cli:main" in commands
    assert "gsda-search = tune.search:main" in commands
    assert f"Version: {gsda.__version__}\n" in metadata
    assert "License-Expression: MIT\n" in metadata


@pytest.mark.parametrize(
    ("command", "arguments", "told"),
    [
        ("gsda", ["--version"], f"gsda {gsda.__version__}"),
        ("gsda", ["data", "list"], "glyph31: built-in drawn letters"),
        ("gsda-search", ["--help"], "usage: gsda-search"),
    ],
)
def test_its_commands_run_outside_the_checkout(
    command: str, arguments: list[str], told: str, wheel: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    module = {"gsda": "gsda.cli", "gsda-search": "tune.search"}[command]
    script = tmp_path / command
    script.write_text(
        f"import sys, {module} as m\n"
        f"assert m.__file__.startswith({str(tmp_path)!r}), m.__file__\n"
        "sys.exit(m.main())"
    )
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=tmp_path,
        env=dict(os.environ) | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert told in done.stdout
