"""A Ray cluster of several machines on this one: a `ray start` for each."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import ray

from .rig import free_port

_STORE = ["--object-store-memory", str(2**27), "--block"]
_START_S = 120.0


class Machines:
    """A head, and machines that join it; each can have an environment and a wrapper of its own.

    Attributes:
        address: of the head.
    """

    def __init__(self, cpus: int = 1, host: str = "", wrapper: Sequence[str] = ()) -> None:
        """Start the head, with Ray's own files in a folder whose path is short, as Ray wants.

        Args:
            host: its address; by default, this machine's.
            wrapper: as of `add`.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="gsda-ray-"))
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        port = free_port()
        self.address = f"{host or _own_address()}:{port}"
        head = ["--head", "--port", str(port), "--include-dashboard", "false", *_at(host)]
        self._start("head", [*head, "--temp-dir", str(self._folder)], cpus, wrapper, {})

    def add(
        self,
        name: str,
        cpus: int = 1,
        gpus: int = 0,
        wrapper: Sequence[str] = (),
        host: str = "",
        **variables: str,
    ) -> None:
        """Another machine, that has `name` among its resources.

        Args:
            gpus: that it says it has.
            wrapper: words before `ray start`, such as a command that leaves a namespace.
            host: its address; by default, this machine's.
            variables: of its environment.
        """
        options = ["--address", self.address, "--num-gpus", str(gpus), *_at(host)]
        self._start(name, options, cpus, wrapper, variables)

    def _start(
        self,
        name: str,
        options: Sequence[str],
        cpus: int,
        wrapper: Sequence[str],
        variables: dict[str, str],
    ) -> None:
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", *options, *_STORE]
        words += ["--num-cpus", str(cpus), "--resources", json.dumps({name: 1})]
        with (self._folder / f"{name}.log").open("wb") as log:
            self._started[name] = subprocess.Popen(
                [*wrapper, *words],
                env=_environment() | variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait(name)

    def _wait(self, name: str) -> None:
        """Until it says that it is there.

        A head that is half there takes nobody in, and of two machines that begin at once, on one,
        both would listen at the same socket.
        """
        log, until = self._folder / f"{name}.log", time.monotonic() + _START_S
        while "Ray runtime started" not in log.read_text():
            if time.monotonic() > until or self._started[name].poll() is not None:
                raise RuntimeError(f"{name} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        """`kill -9` of all that runs on a machine."""
        _kill_tree(self._started.pop(name))

    def freeze(self, name: str, frozen: bool = True) -> None:
        """Stop all that runs on a machine, as a virtual machine is suspended; or let it go on."""
        _signal_tree(self._started[name], signal.SIGSTOP if frozen else signal.SIGCONT)

    def processes(self, name: str) -> list[int]:
        """All that runs on a machine."""
        return _tree(self._started[name])

    def stop(self) -> None:
        for name in list(self._started):
            self.kill(name)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "Machines":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _environment() -> dict[str, str]:
    """Without this checkout: what the machines get of it, they get from the driver."""
    hidden = ("PYTHONPATH", "PYTHONWARNINGS", "RAY_ADDRESS")
    plain = {name: value for name, value in os.environ.items() if name not in hidden}
    return plain | {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": str(int(_START_S)),  # of a busy machine
    }


def _at(host: str) -> list[str]:
    return ["--node-ip-address", host] if host else []


def _own_address() -> str:
    return str(ray.util.get_node_ip_address())


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    """A machine that lost its power: its raylet first, then all of its workers."""
    _signal_tree(process, signal.SIGKILL)
    process.wait()


def _signal_tree(process: subprocess.Popen[bytes], number: int) -> None:
    for pid in _tree(process):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _tree(process: subprocess.Popen[bytes]) -> list[int]:
    found = [process.pid]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(word) for word in task.read_text().split()]
    return found
