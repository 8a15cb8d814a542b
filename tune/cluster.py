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

import gsda
import tune
from gsda.errors import BadInput
from tune.environment import token_path

_ANSWER_S = 3.0
_OBJECT_STORE_BYTES = 2**28  # images come through memory maps, not through Ray
_LOOPBACK = "127.0.0.1"
Have = dict[str, float]  # kind of resource -> how much of it


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
def connected(address: str | None, dashboard: bool = False) -> Iterator[str]:
    """Ray for the time of a search; one that was there before is left as it was.

    A cluster's machines get this very package: its files travel with the job.

    Args:
        address: of a cluster, "auto" for the one that this machine belongs to; None for a Ray of
            our own.
        dashboard: whether Ray's dashboard runs; on loopback alone.

    Yields:
        The dashboard's address, "" if it does not run or is the cluster's own affair.

    Raises:
        BadInput: no cluster answers at `address`, or the dashboard is not installed.
    """
    if ray.is_initialized():
        yield ""
        return
    options = _ours(dashboard) if address is None else _theirs(address)
    try:
        context = ray.init(address=address or "local", logging_level="error", **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or ["no answer"])[0]
        raise BadInput(f"No Ray cluster at --address {address}: {reason}") from error
    _protect_token()
    try:
        yield f"http://{context.dashboard_url}" if dashboard and context.dashboard_url else ""
    finally:
        ray.shutdown()


def _ours(dashboard: bool) -> dict[str, Any]:
    if dashboard:
        try:
            import ray.dashboard.optional_deps  # noqa: F401
        except ImportError as error:
            raise BadInput(
                f"--dashboard needs more than Ray's core ({error}): pip install 'ray[default]'."
            ) from error
    return {
        "log_to_driver": False,
        "include_dashboard": dashboard,
        "dashboard_host": _LOOPBACK,
        "object_store_memory": _OBJECT_STORE_BYTES,
    }


def _theirs(address: str) -> dict[str, Any]:
    if address.startswith("ray://"):
        raise BadInput(
            f"--address is {address}, but a search runs on a machine of the cluster, such as its "
            "head: start it there with --address auto."
        )
    _knock(address)
    package = [str(Path(str(module.__file__)).parent) for module in (gsda, tune)]
    return {"log_to_driver": False, "runtime_env": {"py_modules": package}}


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
    token = token_path()
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
    have = machines()
    if device in (None, "auto"):
        device = "cuda" if any(one.get("GPU", 0) > 0 for one in have) else "cpu"
    wanted = Share(
        device=str(device),
        cpus=1.0 if cpus is None else cpus,
        gpus=float(device == "cuda") if gpus is None else gpus,
    )
    for kind, option, need in (("CPU", "cpus", wanted.cpus), ("GPU", "gpus", wanted.gpus)):
        most = max((one.get(kind, 0) for one in have), default=0)
        if need > most:
            what = "Ray has" if len(have) == 1 else "no machine of the cluster has more than"
            raise BadInput(
                f"A trial needs {need:g} {kind}, and {what} {most:g}: lower --{option}-per-trial."
            )
    if not places(wanted):
        raise BadInput(
            f"A trial needs {wanted.cpus:g} CPU and {wanted.gpus:g} GPU, and no machine of the "
            "cluster has both: lower --cpus-per-trial or --gpus-per-trial."
        )
    return wanted


def machines() -> list[Have]:
    """What each machine that is there now has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def silent() -> list[str]:
    """Addresses of machines that Ray counts on, and whose raylet does not answer.

    Ray itself takes a machine for lost only after 10 to 20 s.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]
    raylets = [(node["NodeManagerAddress"], node["NodeManagerPort"]) for node in alive]
    return [host for host, port in raylets if not answers((host, port))]


def answers(address: tuple[str, int]) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(address, _ANSWER_S).close()
    except OSError:
        return False
    return True


def holds(have: Have, wanted: Share) -> int:
    """How many trials a machine can hold at once; a trial is never spread over two."""
    need = {"CPU": wanted.cpus, "GPU": wanted.gpus}
    fits = [have.get(kind, 0) / n for kind, n in need.items() if n > 0]
    return int(min(fits) + 1e-9)  # 0.3 of three tenths is one


def places(wanted: Share) -> int:
    """How many trials the machines that are there now can hold at once."""
    return sum(holds(have, wanted) for have in machines())
