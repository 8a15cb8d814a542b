"""Before a search on a cluster: every machine that could run a trial is asked whether it can."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gsda.errors import BadInput
from tune.cluster import Share, holds
from tune.objectstore import StoreError, connect
from tune.probe import probe_code, probe_data, versions

ANSWER_S = 120.0  # for the import of torch and ray on a busy machine
Node = Mapping[str, Any]


def preflight(
    storage: Path,
    task: str,
    data: Mapping[str, Any],
    digest: str,
    weights: str,
    wanted: Share,
    remote: str | None = None,
) -> int:
    """Refuse a cluster with a machine that could not work; returns how many there are.

    Machines that are too small for a trial are not asked.

    Args:
        storage: the folder of all searches, which all machines must share; or
        remote: the URI, below which all must read and write.
        data: of `DataSpec`. digest: identity of the images, as the driver has them.
        weights: of `Config`.

    Raises:
        BadInput: names the machine and what it lacks.
    """
    nodes = [n for n in ray.nodes() if n["Alive"] and holds(n["Resources"], wanted)]
    if remote is None:
        _check_folder(nodes, storage)
    else:
        _check_uri(nodes, remote)
    for node, found in _ask(nodes, probe_data, task, dict(data), weights, patience=None):
        _check_data(node, found, task, digest)
    return len(nodes)


def _check_folder(nodes: list[Node], storage: Path) -> None:
    with _marker(storage) as (marker, nonce):
        for node, found in _ask(nodes, probe_code, str(marker)):
            _check_code(node, found)
            answer = marker.with_name(found["answer"])
            if found["read"] != nonce or not answer.is_file() or answer.read_text() != nonce:
                raise BadInput(
                    f"{_name(node)} does not see what this machine writes to --storage {storage}: "
                    "name a folder that all machines share."
                )


def _check_uri(nodes: list[Node], remote: str) -> None:
    store, nonce = connect(remote), secrets.token_hex(16)
    marker = f".preflight-{nonce[:8]}"
    answers: list[str] = []
    try:
        store.write(marker, nonce.encode())
        for node, found in _ask(nodes, probe_code, marker, remote):
            _check_code(node, found)
            answers.append(found["answer"])
            if found["unusable"]:
                raise BadInput(
                    f"{_name(node)} cannot use --storage {store.shown}: {found['unusable']}."
                )
            written = store.read(found["answer"]) if store.find([found["answer"]]) else b""
            if found["read"] != nonce or written.decode(errors="replace") != nonce:
                raise BadInput(
                    f"{_name(node)} has another --storage {store.shown} than this machine: "
                    "name one that all machines reach under the same address."
                )
    except StoreError as error:
        raise BadInput(
            f"Nothing can be written to --storage {store.shown}: {error.strerror}."
        ) from error
    finally:
        with suppress(StoreError):
            store.delete([marker, *answers])


@contextmanager
def _marker(storage: Path) -> Iterator[tuple[Path, str]]:
    """A file with a text that nobody can guess; gone afterwards, with the answers to it."""
    nonce, fresh = secrets.token_hex(16), not storage.exists()
    marker = storage / f".preflight-{nonce[:8]}"
    try:
        storage.mkdir(parents=True, exist_ok=True)
        marker.write_text(nonce, encoding="utf-8")
        yield marker, nonce
    except OSError as error:
        raise BadInput(
            f"Nothing can be written to --storage {storage} ({error.strerror}): choose another."
        ) from error
    finally:
        for path in storage.glob(f"{marker.name}*"):
            path.unlink(missing_ok=True)
        if fresh:
            with suppress(OSError):
                storage.rmdir()


def _ask(
    nodes: list[Node],
    question: Callable[..., dict[str, Any]],
    *arguments: Any,
    patience: float | None = ANSWER_S,
) -> Iterator[tuple[Node, dict[str, Any]]]:
    """The answer of each machine to a question, all asked at once."""
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(question).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        asked[task.remote(*arguments)] = node
    for answer, node in asked.items():
        try:
            yield node, ray.get(answer, timeout=patience)
        except (ray.exceptions.RayError, OSError, ImportError) as error:
            raise BadInput(
                f"{_name(node)} cannot work for the search ({_reason(error)}): install there what "
                "is installed here, or take it out of the cluster."
            ) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, ray.exceptions.GetTimeoutError):
        return f"no answer within {ANSWER_S:g} s"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]


def _check_code(node: Node, found: Mapping[str, Any]) -> None:
    if found["trouble"]:
        raise BadInput(
            f"{_name(node)} cannot load the package ({found['trouble']}): "
            "install there what is installed here."
        )
    for name, version in versions().items():
        if found["versions"][name] != version:
            raise BadInput(
                f"{_name(node)} has {name} {found['versions'][name]}, and this machine has "
                f"{version}: install the same on all."
            )


def _check_data(node: Node, found: Mapping[str, str], task: str, digest: str) -> None:
    if found["trouble"]:
        raise BadInput(f"{_name(node)} lacks data: {found['trouble']}")
    if found["digest"] != digest:
        raise BadInput(
            f"The images of {task} on {_name(node)} are not those of this machine: "
            "copy the same files to both, or share one folder."
        )


def _name(node: Node) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
