"""How long cells are going to take, from a few real steps of each setting: told beforehand."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median

import torch

from gsda.run import SAMPLED, Run
from tune.sweep import Cell, Sweep

ENOUGH_S, MOST_STEPS = 0.5, 20  # of steps that are timed
# An evaluation only goes forward: about a third of what a training step does with an image.
_FORWARD = 1 / 3
# What a trial takes beside its training: a worker's start, checkpoints, the model, the record.
_AROUND_S = 1.0


@dataclass(frozen=True)
class Cost:
    """Seconds of a setting.

    Attributes:
        start: once; of networks and weights, and of what the first step takes beyond the others.
        step: of a step. image: of an image in an evaluation.
    """

    start: float
    step: float
    image: float


def estimate_seconds(
    sweep: Sweep, cells: Sequence[Cell], device: str, measured: dict[str, Cost]
) -> float:
    """Seconds of work in `cells`, on one worker.

    Args:
        measured: costs by setting; looked up, and filled.
    """
    total = 0.0
    for cell in cells:
        key, config = _kind(cell), cell.config
        if key not in measured:
            measured[key] = measure(sweep, cell, device)
        cost, images = measured[key], sweep.spec["images"][1]
        evaluations = len(config.rungs()) * images * cost.image
        total += _AROUND_S + cost.start + config.steps * cost.step + evaluations
    return total


def _kind(cell: Cell) -> str:
    """What decides how long a step takes."""
    return repr(replace(cell.config, seed=0, group_seed=0, alpha=1.0, tau=0.5))


def measure(sweep: Sweep, cell: Cell, device: str) -> Cost:
    """The costs of a cell, on as many threads as a worker has.

    Decoding images and computing frozen features comes before: that is done once, for all cells.
    """
    pair = sweep.pair(cell.config)
    with _threads(sweep.settings.cpus_per_trial or 1.0):
        began = time.perf_counter()
        run = Run(sweep.task, cell.config, pair, device=device)
        first = time_steps(run, 1)[0]
        built = time.perf_counter() - began
        steps = time_steps(run, MOST_STEPS)
        step = median(steps or [first])
        # Beside every image, mixtures of some are looked at (`gsda.run.Run.predict_mixed`).
        passes = 1 + min(1.0, SAMPLED / len(pair.target))
        image = passes * step / (2 * cell.config.batch_size) * _FORWARD
        if cell.config.features == "frozen":  # takes a moment, and there the scores count
            began = time.perf_counter()
            run.evaluate()
            image = (time.perf_counter() - began) / len(pair.target)
        return Cost(max(built - step, 0.0), step, image)


def time_steps(run: Run, most: int) -> list[float]:
    """Seconds of training steps, one after another, until that is enough; [] at the end of a run.

    The first of a run makes room, and its time says little.
    """
    taken: list[float] = []
    while not run.finished and len(taken) < most and sum(taken) < ENOUGH_S:
        began = time.perf_counter()
        run.step(1)  # waits for the device: losses are read
        taken.append(time.perf_counter() - began)
    return taken


@contextmanager
def _threads(cpus: float) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, int(cpus)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe_time(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
