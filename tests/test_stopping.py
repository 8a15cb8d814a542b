"""Ctrl-C, wherever it comes, is a line and an exit code."""

import importlib
from typing import Any

import pytest

from gsda.stopping import INTERRUPTED, stoppable

MAINS = [
    *(f"experiments.{name}" for name in "report guided selection tables tuned sensitivity".split()),
    *(f"experiments.bench_{name}" for name in ("search", "step", "data")),
    *("tune.report", "tune.study"),
]


def test_what_is_not_stopped_passes() -> None:
    @stoppable
    def main(words: list[str], more: int = 0) -> int:
        """Of a program."""
        return len(words) + more

    assert main(["a"], more=2) == 3
    assert main.__doc__ == "Of a program."


@pytest.mark.parametrize("module", MAINS)
def test_every_program_can_be_stopped(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    program = importlib.import_module(module)
    monkeypatch.setattr("argparse.ArgumentParser.parse_args", stop)
    assert program.main([]) == INTERRUPTED
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 2)
    assert err.startswith("\nStopped; ")
