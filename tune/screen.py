"""A few lines at the bottom of a terminal that are drawn over in place."""

import os
import shutil
import textwrap
import threading
import unicodedata
from collections.abc import Sequence
from typing import TextIO

_UP, _ERASE = "\x1b[{}F", "\x1b[J"


class Screen:
    """The block of lines, and the lines that stay, which scroll away above it."""

    def __init__(self, stream: TextIO) -> None:
        self._out = stream
        self._lines: list[str] = []
        self._drawn: list[str] = []
        self.lock = threading.RLock()  # held by whoever draws: a refreshing thread does, too

    def say(self, text: str) -> None:
        """A line that stays."""
        with self.lock:
            self._write(f"{text}\n", self._lines)

    def show(self, lines: Sequence[str]) -> None:
        """Draw the block anew; without lines it is gone."""
        with self.lock:
            self._lines = list(lines)
            self._write("", self._lines)

    @property
    def width(self) -> int:
        """Columns that a line may fill: one less than there are, or some terminals would wrap."""
        return _size(self._out)[0] - 1

    def wrap(self, text: str) -> str:
        """A sentence broken between words, where the terminal would break it anywhere."""
        return textwrap.fill(text, max(20, self.width), subsequent_indent="    ")

    def _write(self, text: str, lines: Sequence[str]) -> None:
        """One write for all, so that nothing flickers."""
        width, height = _size(self._out)
        block = [crop(line, width - 1) for line in lines[: height - 1]]
        rows = sum(max(1, -(-cells(line) // width)) for line in self._drawn)
        back = "\r" if rows == 1 else _UP.format(rows - 1) if rows else ""
        print(back + (_ERASE if rows else "") + text + "\n".join(block), end="", file=self._out)
        self._out.flush()
        self._drawn = block


def _size(stream: TextIO) -> tuple[int, int]:
    """Columns and rows of the terminal, as it is now."""
    try:
        found = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        found = shutil.get_terminal_size()
    return (found.columns or 80, found.lines or 24)


def cells(text: str) -> int:
    """How many columns a terminal gives a text; Chinese characters take two, accents none."""
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def crop(text: str, width: int) -> str:
    """As much of a text as fits, with dots where something is left out."""
    if cells(text) <= width:
        return text
    kept, used = "", 0
    for character in text:
        used += _cells(character)
        if used > width - 3:
            break
        kept += character
    return kept + "..."[: max(0, width)]
