"""Which cause is told from what, and what follows from each."""

import errno

import pytest
import ray.exceptions
import torch

from gsda.errors import BadCheckpoint, BadInput, NonFinite
from tune import failures
from tune.failures import RULES, Rule, classify, classify_worker, rule_of


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), failures.GPU_MEMORY),
        (MemoryError(), failures.HOST_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), failures.HOST_MEMORY),
        (NonFinite("loss/C became nan"), failures.NON_FINITE),
        (BadInput("x.png cannot be read"), failures.BAD_DATA),
        (BadCheckpoint("the checkpoint is of another config"), failures.BAD_CHECKPOINT),
        (OSError(errno.ENOSPC, "No space left on device"), failures.STORAGE),
        (OSError(errno.EROFS, "Read-only file system"), failures.STORAGE),
        (PermissionError(errno.EACCES, "Permission denied"), failures.STORAGE),
        (chained(BadInput("no room"), OSError(errno.ENOSPC, "No space")), failures.STORAGE),
        (FileNotFoundError(errno.ENOENT, "No such file"), failures.ERROR),
        (ZeroDivisionError(), failures.ERROR),
    ],
)
def test_errors_in_a_worker(error: Exception, cause: str) -> None:
    assert classify(error) == cause


def died(text: str, **more: bool) -> ray.exceptions.RayActorError:
    return ray.exceptions.RayActorError(error_msg=text, **more)


# Texts of Ray 2.60, as they were seen.
NODE = "The actor died unexpectedly.\n\tip: 10.0.0.7\nThe actor died because its node has died."
KILLED = (
    "The actor died unexpectedly.\n\tip: 10.0.0.7\nWorker unexpectedly exits with a connection "
    "error code 2. End of file. There are some potential root causes. (1) The process is killed by "
    "SIGKILL by OOM killer due to high memory usage. (2) ray stop --force is called."
)
MEMORY = "Task was killed due to the node running low on memory.\nMemory on the node (IP: 10.0.0.7"
CREATION = "The actor died because of an error raised in its creation task, x\nImportError: no gsda"


@pytest.mark.parametrize(
    ("error", "cause", "sentence"),
    [
        (died(NODE), failures.LOST_NODE, "its machine 10.0.0.7 was lost"),
        (died(KILLED), failures.LOST_WORKER, "its worker on 10.0.0.7 died"),
        (died(MEMORY), failures.HOST_MEMORY, "its worker was killed: the machine ran out of"),
        (ray.exceptions.OutOfMemoryError(MEMORY), failures.HOST_MEMORY, "its worker was killed"),
        (died(CREATION, actor_init_failed=True), failures.NO_WORKER, "started: ImportError: no"),
        (ray.exceptions.RuntimeEnvSetupError("no pip"), failures.NO_WORKER, "no pip"),
        (ray.exceptions.NodeDiedError("gone"), failures.LOST_NODE, "its machine was lost"),
        (None, failures.LOST_WORKER, "its worker died"),
    ],
)
def test_what_ray_says_of_a_worker(error: Exception | None, cause: str, sentence: str) -> None:
    found, told = classify_worker(error)
    assert found == cause
    assert sentence in told
    assert "\n" not in told


def test_every_cause_has_a_rule() -> None:
    causes = {v for n, v in vars(failures).items() if n.isupper() and isinstance(v, str)}
    assert causes == set(RULES)
    assert rule_of("something of a later version") == Rule()


def test_nothing_that_would_fail_again_is_tried_again() -> None:
    assert {c for c, rule in RULES.items() if not rule.retried} == {
        failures.NON_FINITE,
        failures.GPU_MEMORY,
    }
    assert all(not (rule.halts and rule.counts) for rule in RULES.values())
