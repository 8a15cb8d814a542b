"""Ctrl-C ends a command with a line and an exit code, and not with a traceback."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

INTERRUPTED = 75  # the exit code; what was begun can be gone on with
Arguments = ParamSpec("Arguments")


def stoppable(main: Callable[Arguments, int]) -> Callable[Arguments, int]:
    """`main` of a command line, which gives its exit code, answering Ctrl-C wherever it comes."""

    @functools.wraps(main)
    def answered(*args: Arguments.args, **options: Arguments.kwargs) -> int:
        try:
            return main(*args, **options)
        except KeyboardInterrupt:
            print("\nStopped; the same command begins again where it can.", file=sys.stderr)
            return INTERRUPTED

    return answered
