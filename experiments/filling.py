"""Running the cells of a table that are missing, through sweeps; Ray and MLflow are loaded here."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from experiments.cells import Rows, with_seeds
from experiments.estimate import Cost, describe_time, estimate_seconds
from experiments.results import Result
from gsda.config import Config
from gsda.sealed import ACCURACY
from gsda.tasks import Task
from tune.cluster import connected
from tune.console import Console
from tune.settings import Settings
from tune.sweep import Cell, Sweep, Swept, Teller, at_once, identity_of

Wanted = list[tuple[str, int, Cell]]


RowsOf = Callable[[Task, Config, int], Rows]


@dataclass(frozen=True)
class Filled:
    """What is recorded of a table.

    Attributes:
        results: the finished cells. rows: titles of all rows.
        swept: of each task, in order, as far as it was come to. sweeps: of all tasks.
        halted: why some results are missing, "" if none is.
    """

    results: list[Result]
    rows: list[str]
    swept: list[Swept]
    sweeps: list[Sweep]
    halted: str = ""


def fill(
    tasks: Sequence[Task], settings: Settings, options: Any, rows_of: RowsOf, keep: bool = False
) -> Filled | None:
    """The finished cells of a table; None after a dry run.

    Args:
        options: `seeds`, `retry` and `dry_run`.
        rows_of: the rows of a task, by the setting that they start from and the number of classes.
        keep: whether models are kept, and made where they are gone.

    Raises:
        BadInput: whatever is wrong with data, weights, rows or machines.
    """
    console = Console(stream=sys.stderr)
    sweeps = [Sweep.open(task, settings, console, options.retry, keep) for task in tasks]
    rows = [
        rows_of(sweep.task, Config.from_dict(sweep.spec["base"]), sweep.spec["classes"])
        for sweep in sweeps
    ]
    wanted = [with_seeds(one, range(options.seeds)) for one in rows]
    return run_all(sweeps, wanted, settings, options.dry_run)


def run_all(
    sweeps: Sequence[Sweep], wanted: Sequence[Wanted], settings: Settings, dry_run: bool = False
) -> Filled | None:
    """Run what is missing, one task after another on the same Ray; None after a dry run."""
    lists = [[cell for _, _, cell in cells] for cells in wanted]
    missing = [sweep.missing(cells) for sweep, cells in zip(sweeps, lists, strict=True)]
    n_missing = sum(map(len, missing))
    n_wanted = sum(len({identity_of(cell.config.to_dict()) for cell in cells}) for cells in lists)
    _say(f"{n_wanted} cells, {n_wanted - n_missing} of them recorded, {n_missing} to run")
    for sweep, cells in zip(sweeps, lists, strict=True):
        for trial in sweep.failed(cells):
            _say(
                f"  {sweep.task} {trial.kind} failed before ({trial.reason}): --retry runs it again"
            )
    if dry_run and n_missing:
        seconds = _estimate(sweeps, missing, settings)
        _say(f"one worker needs about {describe_time(seconds)} for these")
    if dry_run:
        return None
    if not n_missing:
        return _collect(
            sweeps, wanted, [s.run(c, _ignore) for s, c in zip(sweeps, lists, strict=True)]
        )
    seconds = _estimate(sweeps, missing, settings)
    with connected(settings.address):
        places = min(at_once(settings), n_missing)
        _say(f"about {describe_time(seconds / places)}, {places} at a time")
        teller = Teller(n_missing, _say)
        swept: list[Swept] = []
        for sweep, cells in zip(sweeps, lists, strict=True):
            swept.append(sweep.run(cells, teller))
            if swept[-1].halted:
                _say(f"Stopped ({swept[-1].halted}); the same command goes on.")
                break
    return _collect(sweeps, wanted, swept)


def device_here(settings: Settings) -> str:
    """What this process computes on."""
    if settings.device not in (None, "auto"):
        return str(settings.device)
    return "cuda" if torch.cuda.is_available() else "cpu"


def _estimate(
    sweeps: Sequence[Sweep], missing: Sequence[Sequence[Cell]], settings: Settings
) -> float:
    """Seconds on one worker; steps are timed once for each kind of setting, not for each task."""
    measured: dict[str, Cost] = {}
    device = device_here(settings)
    pairs = zip(sweeps, missing, strict=True)
    return sum(estimate_seconds(sweep, cells, device, measured) for sweep, cells in pairs)


def _collect(sweeps: Sequence[Sweep], wanted: Sequence[Wanted], swept: Sequence[Swept]) -> Filled:
    results = []
    for sweep, cells, found in zip(sweeps, wanted, swept, strict=False):  # halted: fewer are swept
        for title, seed, cell in cells:
            trial = found.trial(cell)
            if trial is None or ACCURACY not in trial.final:
                continue
            run = found.runs.get(trial.number, "")
            link = found.link(run)
            results.append(Result(title, sweep.task, seed, trial.final, run, link))
    rows = list(dict.fromkeys(title for cells in wanted for title, _, _ in cells))
    halted = next((found.halted for found in swept if found.halted), "")
    return Filled(results, rows, list(swept), list(sweeps), halted)


def _ignore(*_: object) -> None:
    """Nobody listens where nothing is run."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
