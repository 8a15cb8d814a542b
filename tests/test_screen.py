"""The block of lines at the bottom of a terminal."""

import pytest
from terminal import Terminal

from tune.screen import Screen, cells, crop


@pytest.fixture(autouse=True)
def size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "6")


def test_the_block_stays_below_what_is_said() -> None:
    stream = Terminal(40)
    screen = Screen(stream)
    screen.show(["one", "two"])
    screen.say("said")
    screen.show(["three"])
    screen.say("again")
    assert stream.shown() == ["said", "again", "three"]
    screen.show([])
    assert stream.shown() == ["said", "again"]


def test_what_does_not_fit_is_cropped() -> None:
    stream = Terminal(40)
    Screen(stream).show(["x" * 50, *map(str, range(9))])
    assert stream.shown() == ["x" * 36 + "...", "0", "1", "2", "3"]


def test_a_terminal_that_becomes_narrower(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was drawn wraps then, and all of its rows are taken back."""
    stream = Terminal(40)
    screen = Screen(stream)
    screen.say("stays")
    screen.show(["a" * 30, "b" * 30])
    stream.columns = 20  # the emulator lays everything out anew, as terminals do
    monkeypatch.setenv("COLUMNS", "20")
    screen.show(["c" * 30])
    assert stream.shown() == ["stays", "c" * 16 + "..."]


@pytest.mark.parametrize(
    ("text", "columns"), [("abc", 3), ("桌子", 4), ("e\u0301", 1), ("", 0), ("ｆ", 2)]
)
def test_columns_of_a_text(text: str, columns: int) -> None:
    assert cells(text) == columns


def test_cropping_counts_columns() -> None:
    assert crop("桌子桌子", 8) == "桌子桌子"
    assert crop("桌子桌子桌", 8) == "桌子..."
    assert cells(crop("桌子桌子桌", 8)) <= 8


def test_a_sentence_is_broken_between_words() -> None:
    wrapped = Screen(Terminal(40)).wrap("  " + "word " * 12)
    assert all(len(line) < 40 for line in wrapped.splitlines())
    assert wrapped.split() == ["word"] * 12
