"""Notices that Ray itself is dead: its calls would wait for it for ever, or end the process.

Ray's processes are asked by a connection to their ports, which the kernel refuses as soon as nobody
is there. A process that is stopped, not dead, is not noticed.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import ray

from tune.cluster import answers
from tune.settings import INTERRUPTED

Address = tuple[str, int]
OWN_S, CLUSTER_S = 3.0, 45.0  # a head may be started anew; after 60 s Ray ends the process
EVERY_S = 1.0
GRACE_S = 10.0  # for the search to come out of Ray's calls by itself


def patience_with(address: str | None) -> float:
    """Seconds for which nobody may answer, of a Ray of one's own or of a cluster's."""
    return OWN_S if address is None else CLUSTER_S


def lifelines() -> dict[str, Address]:
    """What a search cannot go on without, in words, and where it listens."""
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    return {
        "Ray's head (gcs_server) died": (host.strip("[]"), int(port)),
        "Ray's process on this machine (raylet) died": (
            here["NodeManagerAddress"],
            here["NodeManagerPort"],
        ),
    }


@contextmanager
def watching(
    patience: float,
    on_death: Callable[[str], None],
    last_words: Callable[[str], None],
    lines: Mapping[str, Address] | None = None,
) -> Iterator[None]:
    """Watch Ray for the time of a block; once it is dead, what the block raises is of no interest.

    Args:
        patience: seconds for which nobody may answer.
        on_death: told why; the block is then interrupted as by Ctrl-C.
        last_words: told why, if the block does not end by that, which is so where Ray's own code
            waits for a dead head; then the process ends, as it does by Ray's hand a minute later.
        lines: as of `lifelines`.
    """
    over, dead = threading.Event(), threading.Event()
    main = threading.current_thread() is threading.main_thread()

    def watch() -> None:
        why = _wait_for_death(watched, patience, over)
        if not why:
            return
        on_death(why)
        dead.set()
        if main:
            os.kill(os.getpid(), signal.SIGINT)
        if not over.wait(GRACE_S):
            last_words(why)
            os._exit(INTERRUPTED)

    watched = lifelines() if lines is None else lines
    thread = threading.Thread(target=watch, daemon=True, name="watchdog")
    thread.start()
    try:
        yield
    except (Exception, KeyboardInterrupt):
        if not dead.is_set():
            raise
    finally:
        over.set()


def _wait_for_death(lines: Mapping[str, Address], patience: float, over: threading.Event) -> str:
    """Which of them is dead, in words; "" once it is over."""
    heard = dict.fromkeys(lines, time.monotonic())
    while not over.wait(EVERY_S):
        for name, address in lines.items():
            if answers(address):
                heard[name] = time.monotonic()
            elif time.monotonic() - heard[name] > patience:
                return name
    return ""
