"""What commands print while they work: one line, rewritten where somebody watches, and tables."""

import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

WIDTH = 24
# Seconds between two rewritings of a line.
PAUSE = 0.1


class Bar:
    """A line that tells how far something has come; silent where the output is no terminal."""

    def __init__(self, what: str, total: int, quiet: bool = False, stream: TextIO | None = None):
        """`what`: the line's first words, such as "decoding"."""
        self.stream = stream or sys.stderr
        self.shown = not quiet and self.stream.isatty()
        self._what, self._total = what, total
        self._began, self._first, self._last = time.monotonic(), 0, 0.0

    def start_at(self, done: int) -> None:
        """So much was done before: the time that is left is told from what is done now."""
        self._began, self._first = time.monotonic(), done

    def show(self, done: int, words: str = "") -> None:
        """Tell it, unless that was done a moment ago."""
        now = time.monotonic()
        if not self.shown or (now - self._last < PAUSE and done < self._total):
            return
        self._last = now
        filled = WIDTH * done // max(self._total, 1)
        left = self._left(done, now)
        line = f"{self._what} [{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{self._total}{left}"
        # A line that wraps could not be rewritten.
        line = f"{line}  {words}".rstrip()[: shutil.get_terminal_size().columns - 1]
        print(f"\r\033[K{line}", end="", file=self.stream, flush=True)

    def tell(self, done: int, _total: int) -> None:
        """`show`, for what tells both numbers."""
        self.show(done)

    def _left(self, done: int, now: float) -> str:
        fresh = done - self._first
        if fresh <= 0 or done >= self._total:
            return ""
        return f" {clock((now - self._began) * (self._total - done) / fresh)} left"

    def clear(self) -> None:
        """Make room for another line."""
        if self.shown:
            print("\r\033[K", end="", file=self.stream, flush=True)


def clock(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of one table as lines: first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
