"""README and pages: their commands exist, their code runs, and the site builds without network."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docs.blocks import ROOT, Block, all_blocks, blocks

import gsda.cli
import tune.search

BLOCKS = all_blocks()
# What belongs to others: that it is called so is all that we can know here.
FOREIGN = "pip mlflow optuna-dashboard curl export ruff mypy pytest mkdocs".split()
HEAVY = ("train(", "Run(", "load_model(")  # run by `python -m tests.docs`, not here


def test_there_are_blocks_of_both_kinds() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "python"}
    assert {"README.md", "docs/models.md"} <= {block.page for block in BLOCKS}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.page)
def test_marks_are_sound(block: Block) -> None:
    assert not (block.reason and block.changes)
    assert block.tested


COMMANDS = [(b, line) for b in BLOCKS if b.language == "sh" for line in b.commands]


@pytest.mark.parametrize(("block", "line"), COMMANDS, ids=[line[:60] for _, line in COMMANDS])
def test_commands_and_their_options_exist(block: Block, line: str) -> None:
    """Read by the program's own parser, so a renamed option fails here."""
    words = shlex.split(line)
    while "=" in words[0]:
        words.pop(0)
    parse = _parser_of(words)
    if parse is not None:
        parse()


def _parser_of(words: list[str]) -> Callable[[], Any] | None:
    """What reads the rest of a command line, None if that is another's program."""
    if words[0] == "gsda-search" or words[:2] == ["python", "tune/search.py"]:
        rest = words[1 if words[0] == "gsda-search" else 2 :]
        return lambda: tune.search.build_parser().parse_args(rest)
    if words[0] == "gsda" or words[:3] == ["python", "-m", "gsda"]:
        rest = words[1 if words[0] == "gsda" else 3 :]
        return lambda: gsda.cli.build_parser().parse_args(rest)
    if words[:2] == ["python", "-m"]:
        return lambda: _parse_by_module(words[2], words[3:])
    assert words[0] in FOREIGN or words[0] in (".", "cd"), f"unknown command: {words[0]}"
    return None


def _parse_by_module(name: str, rest: list[str]) -> None:
    if name == "venv":
        return
    module = importlib.import_module(name)
    parser = getattr(module, "build_parser", getattr(module, "_parser", None))
    if parser is None:  # the parser is made in main: then its help must know the options
        known = Path(str(module.__file__)).read_text(encoding="utf-8")
        assert all(f'"{word}"' in known for word in rest if word.startswith("--"))
    else:
        parser().parse_args(rest)


LIGHT = [
    block
    for block in BLOCKS
    if block.language == "python" and not any(word in block.text for word in HEAVY)
]


@pytest.mark.parametrize("block", LIGHT, ids=lambda block: block.page)
def test_examples_of_code_run(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block.tested, block.page, "exec"), {"__name__": "example"})
    assert capsys.readouterr().err == ""


def test_a_block_is_read_with_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docs.blocks.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: no GPU -->\n```sh\na --b \\\n  c  # why\nd && e\n```\n"
        "<!-- in tests: one => two -->\n```python\none()\n```\n```python\nthree()\n```\n"
    )
    first, second, third = blocks(page)
    assert (first.reason, first.commands) == ("no GPU", ["a --b c", "d", "e"])
    assert (second.tested, third.tested) == ("two()\n", "three()\n")
    assert not third.changes
    with pytest.raises(ValueError, match="'zz' is not in the block"):
        _ = Block("p", "sh", "text", "", (("zz", "y"),)).tested


def test_links_between_pages_lead_somewhere() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (ROOT / target).exists(), f"{page} links to {target}"


def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    if shutil.which("mkdocs") is None:
        pytest.skip("MKDOCS IS NOT INSTALLED ('.[docs]'): THE SITE IS NOT BUILT")
    offline = {"NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")],
        cwd=ROOT,
        env=os.environ | offline,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = list((tmp_path / "site").glob("*.html"))
    assert {"index.html", "api.html", "architecture.html"} <= {path.name for path in found}
    for path in found:
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=\"?(https?:[^\"> ]+)", text)
        assert loaded == [], path.name
    assert "Adapt to one task with one setting" in (tmp_path / "site" / "api.html").read_text()
