"""What happens when Ray's own processes are gone, with ports that stand for them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tune import raywatch
from tune.cluster import connected
from tune.raywatch import lifelines, watching

LOST = "the head died"


@pytest.fixture
def port() -> Iterator[socket.socket]:
    """Somebody who answers until he is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Ctrl-C is heard: a shell has what it starts in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raywatch, "EVERY_S", 0.01)


def _wait_for(event: list[str]) -> None:
    until = time.monotonic() + 60
    while not event and time.monotonic() < until:
        time.sleep(0.01)


def _never(why: str) -> None:
    raise AssertionError(f"ended by force: {why}")


def test_a_death_interrupts_what_runs(port: socket.socket) -> None:
    told: list[str] = []
    reached = []
    with watching(0.05, told.append, _never, {LOST: port.getsockname()}):
        time.sleep(0.2)
        reached.append(list(told))
        port.close()
        time.sleep(60)  # until the signal comes
    assert reached == [[]]
    assert told == [LOST]


def test_what_goes_wrong_after_a_death_is_of_no_interest(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    struck: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _, number: struck.append(number))
    with watching(0.05, lambda _: None, _never, {LOST: port.getsockname()}):
        port.close()
        _wait_for(struck)
        raise RuntimeError("Ray cannot be reached")
    assert struck == [signal.SIGINT]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_without_a_death_all_is_as_it_was(port: socket.socket, error: type[BaseException]) -> None:
    with pytest.raises(error), watching(60, _never, _never, {LOST: port.getsockname()}):
        raise error


STUCK = """
import signal, socket, sys, time
from tune import raywatch
raywatch.EVERY_S = raywatch.GRACE_S = 0.1
signal.signal(signal.SIGINT, signal.default_int_handler)
port = socket.create_server(("127.0.0.1", 0))
with raywatch.watching(0.1, print, lambda why: print("last words:", why, flush=True),
                       {"the head died": port.getsockname()}):
    port.close()
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass
"""


def test_what_cannot_be_interrupted_is_ended() -> None:
    """As Ray's own code where it waits for a head that is dead."""
    ended = subprocess.run(
        [sys.executable, "-c", STUCK],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
    )
    assert ended.returncode == 75, ended.stderr
    assert ended.stdout.splitlines()[-1] == "last words: the head died"


def test_ray_s_own_ports_answer_while_it_is_there() -> None:
    with connected(None):
        found = lifelines()
        assert len(found) == 2
        assert all(raywatch.answers(address) for address in found.values())
    assert not ray.is_initialized()
    assert not any(raywatch.answers(address) for address in found.values())
