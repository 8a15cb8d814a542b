"""Why a trial stopped before its end, and what follows from it: one table.

A cause is a short text. It stands in the journal beside the reason, which is a whole sentence.
"""

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass

from gsda.errors import BadCheckpoint, BadInput, NonFinite

GPU_MEMORY, HOST_MEMORY = "out of GPU memory", "out of memory"
NON_FINITE, BAD_DATA, BAD_CHECKPOINT = "non-finite", "bad data", "bad checkpoint"
STORAGE, LOST_WORKER, LOST_NODE = "storage", "lost worker", "lost node"
NO_WORKER, ERROR = "no worker", "error"


@dataclass(frozen=True)
class Rule:
    """What follows from a cause.

    Attributes:
        retried: the trial goes back in the queue, and on from its last checkpoint.
        counts: each time counts against --max-failures, and towards halting the search.
        halts: the search stops at once, with everything unfinished resumable.
    """

    retried: bool = True
    counts: bool = True
    halts: bool = False


_FAILS, _HALTS = Rule(retried=False), Rule(counts=False, halts=True)
RULES = {
    # The same numbers would come again.
    NON_FINITE: _FAILS,
    GPU_MEMORY: _FAILS,
    # All trials read the same images and write to the same place: none would fare better.
    BAD_DATA: _HALTS,
    STORAGE: _HALTS,
    # A machine went away, as rented ones do: that says nothing of the trial.
    LOST_NODE: Rule(counts=False),
    HOST_MEMORY: Rule(),
    BAD_CHECKPOINT: Rule(),
    LOST_WORKER: Rule(),
    NO_WORKER: Rule(),
    ERROR: Rule(),
}
_OF_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def rule_of(cause: str) -> Rule:
    """The rule of a cause; one that this version does not know is an error like any other."""
    return RULES.get(cause, RULES[ERROR])


def classify(error: BaseException) -> str:
    """The cause of a trial's end, by what was raised in its worker."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return GPU_MEMORY
    if isinstance(error, NonFinite):
        return NON_FINITE
    if any(isinstance(e, OSError) and e.errno in _OF_STORAGE for e in chain(error)):
        return STORAGE
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return HOST_MEMORY
    if isinstance(error, BadInput):
        return BAD_DATA
    return BAD_CHECKPOINT if isinstance(error, BadCheckpoint) else ERROR


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised from."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def classify_worker(error: BaseException | None) -> tuple[str, str]:
    """The cause and a sentence, by what Ray says of a worker that is gone."""
    text = str(error or "")
    name = type(error).__name__
    found = re.search(r"^\s*ip: (\S+)", text, re.MULTILINE)
    where = f" on {found.group(1)}" if found else ""
    if re.search(r"node (has |was )?(died|lost|dead)|its node", text, re.I) or "NodeDied" in name:
        return LOST_NODE, f"its machine{where.removeprefix(' on')} was lost"
    # Not "OOM": of every process that was killed, Ray supposes that it may have been the reason.
    if "low on memory" in text or name == "OutOfMemoryError":
        return HOST_MEMORY, f"its worker{where} was killed: the machine ran out of memory"
    if getattr(error, "actor_init_failed", False) or name == "RuntimeEnvSetupError":
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return NO_WORKER, f"its worker{where} could not be started: {(lines or [name])[-1][:300]}"
    return LOST_WORKER, f"its worker{where} died"
