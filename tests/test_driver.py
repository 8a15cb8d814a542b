"""Signals that end a search."""

import os
import signal
import time

import pytest

from tune.driver import _sigterm_as_interrupt


def _send(number: signal.Signals) -> None:
    with _sigterm_as_interrupt():
        os.kill(os.getpid(), number)
        time.sleep(5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.default_int_handler])
def test_a_search_in_the_background_of_a_script_can_be_stopped(
    number: signal.Signals, before: signal.Handlers
) -> None:
    """The shell has such a process begin with SIGINT ignored."""
    known = signal.signal(signal.SIGINT, before)
    try:
        with pytest.raises(KeyboardInterrupt):
            _send(number)
    finally:
        signal.signal(signal.SIGINT, known)
