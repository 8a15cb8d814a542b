"""The line that tells how far something has come, and tables."""

import io

import pytest

from gsda.console import Bar, align, clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test sets."""
    time = [1000.0]
    monkeypatch.setattr("gsda.console.time.monotonic", lambda: time[0])
    return time


def test_a_bar_tells_how_far_and_how_long(now: list[float]) -> None:
    stream = Terminal()
    bar = Bar("decoding", 48, stream=stream)
    now[0] += 10
    bar.show(12, "well")
    assert stream.getvalue() == f"\r\033[Kdecoding [{'#' * 6}{'.' * 18}] 12/48 30 s left  well"


def test_what_is_left_is_told_from_what_was_done_now(now: list[float]) -> None:
    stream = Terminal()
    bar = Bar("x", 100, stream=stream)
    bar.start_at(50)
    now[0] += 10
    bar.show(60)
    assert stream.getvalue().endswith("60/100 40 s left")


def test_a_line_is_not_rewritten_all_the_time_but_the_last_is_shown(now: list[float]) -> None:
    stream = Terminal()
    bar = Bar("x", 1000, stream=stream)
    for done in range(1, 1001):
        bar.tell(done, 1000)
    assert stream.getvalue().count("\r") == 2
    assert stream.getvalue().endswith("1000/1000")


def test_a_line_never_wraps(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    Bar("x", 10, stream=stream).show(5, "words " * 20)
    assert len(stream.getvalue().removeprefix("\r\033[K")) == 39


def test_nothing_where_nobody_watches() -> None:
    for stream, quiet in ((io.StringIO(), False), (Terminal(), True)):
        bar = Bar("x", 10, quiet=quiet, stream=stream)
        bar.show(5)
        bar.clear()
        assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (7200, "2 h 0 min")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_columns_are_aligned() -> None:
    assert align([["a", "10"], ["long", "9"], ["b", ""]]) == ["a     10", "long   9", "b"]
