"""Under which name commands to resume are printed."""

import sys
from pathlib import Path

import pytest

import tune.command
from tune.command import program, search_words
from tune.lines import resume_command

SPEC = {"task": "glyph31/A2D", "digest": "", "name": "n", "data": {"root": None}}


@pytest.mark.parametrize(
    ("started", "words", "name"),
    [
        ("/usr/bin/gsda-search", ["gsda-search"], "gsda-search"),
        ("tune/search.py", ["python", "tune/search.py"], "search.py"),
        ("../x/tune/search.py", ["python", "../x/tune/search.py"], "search.py"),
        ("/usr/bin/pytest", ["python", "tune/search.py"], "search.py"),
        ("", ["python", "tune/search.py"], "search.py"),
    ],
)
def test_as_it_was_started(
    started: str, words: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    assert search_words() == words
    assert program() == name
    wanted = " ".join([*words, "--task glyph31/A2D --name n --resume"])
    assert resume_command(SPEC) == wanted


def test_installed_without_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune.command, "__file__", str(tmp_path / "tune" / "command.py"))
    monkeypatch.setattr(sys, "argv", ["notebook.py"])
    assert search_words() == ["gsda-search"]
