"""What would have fitted into a GPU's memory, by what was seen when it ran out."""

import re
from dataclasses import dataclass

import torch

_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class Demand:
    """Memory in bytes when a training step did not fit.

    Attributes:
        fixed: held between steps: weights, gradients, the optimisers' state.
        reached: held at most, with what was asked for in vain.
        limit: what this process could have had.
        others: held by other processes on the same GPU.
        total: of the GPU.
    """

    fixed: int
    reached: int
    limit: int
    others: int
    total: int


def watch(device: torch.device, first: bool) -> int:
    """Begin to measure; returns the bytes that are held between two steps, 0 without a GPU.

    Before the first step gradients and momentum are not there yet, each as large as the weights.
    """
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return int(torch.cuda.memory_allocated(device)) * (3 if first else 1)


def measure(device: torch.device, fixed: int, message: str) -> Demand:
    """What was needed, by the allocator's figures and the message of `torch.OutOfMemoryError`."""
    free, total = torch.cuda.mem_get_info(device)
    reserved = int(torch.cuda.memory_reserved(device))
    peak = int(torch.cuda.max_memory_allocated(device)) + asked_for(message)
    return Demand(fixed, peak, free + reserved, max(0, total - free - reserved), total)


def asked_for(message: str) -> int:
    """Bytes of the request that failed; 0 if the message does not say."""
    found = re.search(r"Tried to allocate ([\d.]+) (KiB|MiB|GiB)", message)
    return int(float(found.group(1)) * _UNITS[found.group(2)]) if found else 0


def largest_batch(demand: Demand, batch: int) -> int:
    """About the largest batch that can fit, 0 if not even the fixed part does.

    A step's memory beyond the fixed part grows with the batch. The step broke off before its peak,
    so that more is needed than was reached: take this for an upper bound.
    """
    grows = max(demand.reached - demand.fixed, 1)
    room = max(demand.limit - demand.fixed, 0)
    return min(batch - 1, batch * room // grows)


def describe(demand: Demand, batch: int) -> str:
    """A sentence that names what would fit."""
    fits = largest_batch(demand, batch)
    need = f"a batch of {batch} + {batch} images needs over {_gib(demand.reached)}"
    have = f"there were {_gib(demand.limit)} of the GPU's {_gib(demand.total)}"
    if demand.others > demand.total // 10:
        have += f", {_gib(demand.others)} being held by others (--gpus-per-trial 1 keeps it alone)"
    if fits < 2:
        cure = "the networks alone leave no room: choose a smaller --backbone, or a larger GPU"
    else:
        cure = f"try --batch-size {fits} or less in a search of another name"
    return f"{need}, and {have}; {cure}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
