"""Machines with a network between them: a network namespace for each, joined by a switch.

Needs root and `ip`. Names have the number of this process in them, and what a process that was
killed left behind is cleared away by the next.
"""

import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"gsda-(\d+)-\w+")
_ENTER = 'hostname "$0" && exec "$@"'  # with the machine's own name, in a namespace of names
# What slows a link, the first that the kernel has: delay and loss at random, or a narrow pipe.
_SLOW = {
    "netem": ["delay", "150ms", "50ms", "loss", "5%"],
    "tbf": ["rate", "64kbit", "burst", "3kb", "latency", "300ms"],
}


class Network:
    """A switch with machines; each link can be cut, mended and slowed.

    Attributes:
        hosts: name -> address of each machine. stem: what their namespaces' names begin with.
    """

    def __init__(self, *names: str) -> None:
        """Make the namespaces; they are gone with `close`.

        Raises:
            OSError, CalledProcessError: that cannot be done here.
        """
        _clear_leftovers()
        self.stem = f"gsda-{os.getpid()}"
        self.hosts = {name: f"10.77.0.{n + 1}" for n, name in enumerate(names)}
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        hub = self._space("hub")
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "add", "switch", "type", "bridge")
        _ip("-n", hub, "link", "set", "switch", "up")
        for name, host in self.hosts.items():
            own = self._space(name)
            _ip("netns", "add", own)
            pair = ["type", "veth", "peer", "name", "net0", "netns", own]
            _ip("-n", hub, "link", "add", name, *pair)
            _ip("-n", hub, "link", "set", name, "master", "switch", "up")
            _ip("-n", own, "link", "set", "lo", "up")
            _ip("-n", own, "addr", "add", f"{host}/24", "dev", "net0")
            _ip("-n", own, "link", "set", "net0", "up")
            _ip("-n", own, "route", "add", "default", "dev", "net0")  # Ray looks who it is by it

    def _space(self, name: str) -> str:
        return f"{self.stem}-{name}"

    def inside(self, name: str) -> list[str]:
        """Words that run a command on a machine."""
        enter = ["unshare", "--uts", "sh", "-c", _ENTER, f"machine-{name}"]
        return ["ip", "netns", "exec", self._space(name), *enter]

    def processes(self, name: str) -> list[int]:
        """All that runs on a machine."""
        return _processes(self._space(name))

    def cut(self, name: str) -> None:
        """Take the cable of a machine out of the switch."""
        _ip("-n", self._space("hub"), "link", "set", name, "down")

    def mend(self, name: str) -> None:
        """Put it in again."""
        _ip("-n", self._space("hub"), "link", "set", name, "up")

    def part(self, one: str, other: str) -> None:
        """Let two machines see each other no more; others still see both."""
        for name, far in ((one, other), (other, one)):
            _ip("-n", self._space(name), "route", "add", "blackhole", self.hosts[far])

    def slow(self, name: str) -> str:
        """Slow the link of a machine in both directions; says how."""
        for kind, options in _SLOW.items():
            try:
                for end in self._ends(name):
                    _tc(*end[:2], "qdisc", "add", "dev", end[2], "root", kind, *options)
            except subprocess.CalledProcessError:
                continue
            return f"{kind} {' '.join(options)}"
        raise RuntimeError("the kernel can slow no link")

    def resent(self, name: str) -> int:
        """How many segments of TCP a machine has sent again so far, as they were not answered."""
        table = _run("ip", "netns", "exec", self._space(name), "cat", "/proc/net/snmp")
        names, values = (line.split() for line in table.splitlines() if line.startswith("Tcp:"))
        return int(values[names.index("RetransSegs")])

    def quicken(self, name: str) -> None:
        """Undo `slow`."""
        for end in self._ends(name):
            _tc(*end[:2], "qdisc", "del", "dev", end[2], "root")

    def _ends(self, name: str) -> list[tuple[str, str, str]]:
        return [("-n", self._space("hub"), name), ("-n", self._space(name), "net0")]

    def close(self) -> None:
        """End all that runs in the namespaces, and remove them."""
        for name in ("hub", *self.hosts):
            _remove(self._space(name))

    def __enter__(self) -> "Network":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _ip(*words: str) -> str:
    return _run("ip", *words)


def _tc(*words: str) -> str:
    return _run("tc", *words)


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _clear_leftovers() -> None:
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        match = _NAME.fullmatch(name)
        if match and not Path(f"/proc/{match.group(1)}").exists():
            _remove(name)


def _remove(space: str) -> None:
    with suppress(subprocess.CalledProcessError):
        for pid in _processes(space):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _ip("netns", "del", space)


def _processes(space: str) -> list[int]:
    return [int(word) for word in _ip("netns", "pids", space).split()]
