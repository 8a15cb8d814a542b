"""How long cells are going to take, from a few real steps of each setting: told beforehand."""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from gsda.run import Run
from tune.sweep import Cell, Sweep

STEPS = 2
# An evaluation only goes forward: about a third of what a training step does with an image.
_FORWARD = 1 / 3


def estimate_seconds(
    sweep: Sweep, cells: Sequence[Cell], device: str, measured: dict[str, float]
) -> float:
    """Seconds of work in `cells`, on one worker.

    Args:
        measured: seconds of a training step by setting; looked up, and filled.
    """
    total = 0.0
    for cell in cells:
        key = _kind(cell)
        if key not in measured:
            measured[key] = time_step(sweep, cell, device)
        config = cell.config
        images = len(sweep.pair(config).target)
        evaluation = images / (2 * config.batch_size) * _FORWARD
        total += measured[key] * (config.steps + len(config.rungs()) * evaluation)
    return total


def _kind(cell: Cell) -> str:
    """What decides how long a step takes."""
    return repr(replace(cell.config, seed=0, group_seed=0, alpha=1.0, tau=0.5))


def time_step(sweep: Sweep, cell: Cell, device: str) -> float:
    """Seconds of a training step of a cell, without the first, which makes room."""
    run = Run(sweep.task, cell.config, sweep.pair(cell.config), device=device)
    run.step(1)
    began = time.perf_counter()
    run.step(STEPS)
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / STEPS


def describe_time(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
