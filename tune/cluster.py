"""Ray: a local one of our own, or a cluster that is there; and what a trial gets of it."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from gsda.errors import BadInput

_ANSWER_S = 3.0
_OBJECT_STORE_BYTES = 2**28  # images come through memory maps, not through Ray


@dataclass(frozen=True)
class Share:
    """What one trial gets.

    Attributes:
        device: "cpu" or "cuda". cpus, gpus: how many, or which part of one.
    """

    device: str
    cpus: float
    gpus: float


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Ray for the time of a search; one that was there before is left as it was.

    Raises:
        BadInput: no cluster answers at `address`.
    """
    if ray.is_initialized():
        yield
        return
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        common |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    else:
        _knock(address)
    try:
        ray.init(address=address or "local", **common)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or ["no answer"])[0]
        raise BadInput(f"No Ray cluster at --address {address}: {reason}") from error
    _protect_token()
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself would wait for minutes at an address where nobody is."""
    match = re.fullmatch(r"(?:ray://)?\[?([^\]/]+?)\]?:(\d+)", address)
    if match is None:
        return
    try:
        socket.create_connection((match.group(1), int(match.group(2))), _ANSWER_S).close()
    except OSError as error:
        raise BadInput(
            f"Nothing answers at --address {address} ({error.strerror or error}): "
            "check that the cluster's head runs there."
        ) from error


def _protect_token() -> None:
    """Ray's ports listen on all interfaces, and the token that opens them is readable by all."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if token.is_file() and token.stat().st_uid == os.getuid():
        token.chmod(0o600)


def check_device(device: str | None, address: str | None) -> None:
    """Refuse a GPU that is not there, as far as this machine alone can tell.

    Raises:
        BadInput: --device cuda without a GPU here, and no cluster that might have one.
    """
    if device == "cuda" and address is None and not torch.cuda.is_available():
        raise BadInput("--device is cuda, but torch sees no GPU here: use --device cpu.")


def share(device: str | None, cpus: float | None, gpus: float | None) -> Share:
    """What each trial gets, of the Ray that is connected.

    Raises:
        BadInput: no machine has that much.
    """
    have = ray.cluster_resources()
    if device in (None, "auto"):
        device = "cuda" if have.get("GPU", 0) > 0 else "cpu"
    wanted = Share(
        device=str(device),
        cpus=1.0 if cpus is None else cpus,
        gpus=float(device == "cuda") if gpus is None else gpus,
    )
    for kind, option, need in (("CPU", "cpus", wanted.cpus), ("GPU", "gpus", wanted.gpus)):
        if need > have.get(kind, 0):
            raise BadInput(
                f"A trial needs {need:g} {kind}, and Ray has {have.get(kind, 0):g}: "
                f"lower --{option}-per-trial."
            )
    return wanted


def places(wanted: Share) -> int:
    """How many trials the machines that are there now can hold at once."""
    have = ray.cluster_resources()
    need = {"CPU": wanted.cpus, "GPU": wanted.gpus}
    return max(1, int(min(have.get(kind, 0) / n for kind, n in need.items() if n > 0)))
