"""Who drives a search below a URI: a small file there, renewed while a driver lives.

A file system has locks, an object store has none. So this is an agreement among drivers, and not a
lock: two that begin in the same moment see each other's name a moment later, and one gives way; a
driver that nobody has heard of for `STALE_S` may be succeeded, and stops when it sees that. What it
cannot promise stands in docs/cluster.md. Times are the store's own: clocks of machines may differ.
"""

import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsda.errors import BadInput
from tune.objectstore import Store

FILE = "driver.json"
RENEW_S, STALE_S = 15.0, 90.0
SETTLE_S = 1.0  # after which two that wrote at once have seen whose name stayed


class Taken(OSError):
    """Another process drives the search now."""


@dataclass
class Lease:
    """The hold on one search.

    Attributes:
        lost: that another process has taken the search over, in words; "" if none has.
    """

    store: Store
    name: str
    stale_s: float = STALE_S
    settle_s: float = SETTLE_S
    lost: str = ""

    def __post_init__(self) -> None:
        self._file = f"{self.name}/{FILE}"
        self._id = secrets.token_hex(16)
        self._renewed = 0.0

    def take(self) -> None:
        """Become the driver.

        Raises:
            BadInput: another process is. OSError: the store cannot be reached.
        """
        other = self._read()
        if other is not None and not _is_dead(other) and (left := self._left()) > 0:
            raise BadInput(self._refusal(other, left))
        self._write()
        time.sleep(self.settle_s)
        other = self._read()
        if other is None or other.get("id") != self._id:
            raise BadInput(self._refusal(other or {}, self.stale_s))

    def renew(self) -> None:
        """Say that this process still drives the search, if it has not for a while.

        Raises:
            Taken: it does not any more. StoreError: the store cannot be reached.
        """
        if self.lost:
            raise Taken(self.lost)
        if time.monotonic() - self._renewed < RENEW_S:
            return
        other = self._read()
        if other is not None and other.get("id") != self._id:
            self.lost = f"a process on {other.get('host', 'elsewhere')} drives {self.name} now"
            raise Taken(self.lost)
        self._write()

    def release(self) -> None:
        """Let go of the search, if it is still held."""
        other = self._read()
        if other is not None and other.get("id") == self._id:
            self.store.delete([self._file])

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.store.read(self._file))
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self) -> None:
        who = {"id": self._id, "host": os.uname().nodename, "pid": os.getpid()}
        who |= {"machine": machine(), "began": began(os.getpid())}
        self.store.write(self._file, json.dumps(who).encode())
        self._renewed = time.monotonic()

    def _left(self) -> float:
        """Seconds until what is there is stale, by the store's clock."""
        probe = f"{self.name}/.{self._id[:8]}"
        self.store.write(probe, b"?")
        items = self.store.find([probe, self._file])
        self.store.delete([probe])
        if self._file not in items:
            return 0.0
        return self.stale_s - (items[probe].time - items[self._file].time)

    def _refusal(self, other: dict[str, Any], left: float) -> str:
        host = other.get("host", "another machine")
        return (
            f"The search {self.name} is being driven by a process on {host}: wait for it, or "
            f"choose another --name; if it has died, try again in {max(1, round(left))} s."
        )


def machine() -> str:
    """What tells the processes of one running system from all others; "" if that is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def began(pid: int) -> str:
    """When a process began, in the kernel's own count; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _is_dead(other: dict[str, Any]) -> bool:
    """Whether the process of a lease is known to be gone: one of this very system."""
    own, pid = machine(), other.get("pid")
    if not own or other.get("machine") != own or not isinstance(pid, int):
        return False
    return bool(other.get("began") != began(pid))
