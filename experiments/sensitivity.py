"""How much the result depends on alpha, beta, the number of groups and tau, around the paper's.

    python -m experiments.sensitivity glyph31 --task A2W A2D --seeds 3 --output sensitivity/

A grid of alpha and beta, and one line each for the number of groups and for tau. Every point is a
cell like those of `experiments.tables`: run once, recorded, resumable. Nothing is chosen here:
accuracies on target labels are drawn above what the label-free score says of the same models.
"""

import argparse
import csv
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.cells import Rows
from experiments.grids import KINDS, Grid, Panel, describe, panels, rows_of
from experiments.options import add_sweep_options, build_common, read_settings
from experiments.results import Result
from experiments.tables import check_seeds
from gsda.config import Config
from gsda.errors import BadInput
from gsda.sealed import ACCURACY
from gsda.stopping import stoppable
from gsda.tasks import Task
from gsda.validators import DEFAULT_METRIC
from tune.settings import BAD_USE, DONE, INTERRUPTED, resolve_tasks


@stoppable
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        return run(options)
    except BadInput as error:
        print(f"sensitivity: {error}", file=sys.stderr)
        return BAD_USE


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = build_common("sensitivity", __doc__)
    grid = Grid()
    parser.add_argument("--task", nargs="+", help="bare ids; default: all tasks of the dataset")
    parser.add_argument("--what", nargs="+", default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--alpha", nargs="+", type=float, default=grid.alpha)
    parser.add_argument("--beta", nargs="+", type=float, default=grid.beta)
    parser.add_argument("--n-groups", nargs="+", type=int, default=grid.n_groups)
    parser.add_argument("--tau", nargs="+", type=float, default=grid.tau)
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ... (1)")
    parser.add_argument("--output", type=Path, required=True, help="folder of pictures and table")
    add_sweep_options(parser)
    return parser


def run(options: Any) -> int:
    """Run what is missing, draw and tell; returns the exit code.

    Raises:
        BadInput: whatever is wrong with options, data or machines.
    """
    check_seeds(options.seeds)
    settings = read_settings(options)
    tasks = resolve_tasks(options.task or ["all"], settings)
    grid = Grid(options.alpha, options.beta, options.n_groups, options.tau)
    axes: list[Panel] = []

    def rows(task: Task, base: Config, n_classes: int) -> Rows:
        axes[:] = panels(options.what, base, grid, n_classes)
        return rows_of(axes)

    from experiments.filling import fill

    filled = fill(tasks, settings, options, rows)
    if filled is None:
        return DONE
    write(options.output, options.dataset, axes, filled.results)
    print("\n".join(render(axes, filled.results)))
    return INTERRUPTED if filled.halted else DONE


def values_of(
    results: Sequence[Result], config: Config, metric: str, task: str | None = None
) -> list[float]:
    """One figure for each seed of a setting; of all tasks their mean, if none is named."""
    title = describe(config)
    mine = [r for r in results if r.row == title and metric in r.metrics]
    if task is not None:
        return [r.metrics[metric] for r in mine if r.task.pair == task]
    tasks = {r.task.pair for r in results}
    by_seed: dict[int, list[float]] = {}
    for r in mine:
        by_seed.setdefault(r.seed, []).append(r.metrics[metric])
    return [statistics.fmean(v) for v in by_seed.values() if len(v) == len(tasks)]


def render(axes: Sequence[Panel], results: Sequence[Result]) -> Iterator[str]:
    """Markdown: each setting's accuracy by task, and what the label-free score says of it."""
    tasks = list(dict.fromkeys(r.task.pair for r in results))
    yield f"| | {' | '.join(tasks)} | mean | {DEFAULT_METRIC} |"
    yield "|---" * (len(tasks) + 3) + "|"
    for axis in axes:
        for value, config in axis.settings.items():
            where = f"{axis.title}, " if axis.title else ""
            mark = " (the paper's)" if value == axis.paper else ""
            cells = [_spread(values_of(results, config, ACCURACY, task), 100) for task in tasks]
            cells.append(_spread(values_of(results, config, ACCURACY), 100))
            cells.append(_spread(values_of(results, config, DEFAULT_METRIC), 1))
            yield f"| {where}{axis.field} {value:g}{mark} | {' | '.join(cells)} |"


def _spread(values: Sequence[float], scale: float) -> str:
    """Mean and standard deviation over seeds; empty without values."""
    if not values:
        return ""
    digits = 1 if scale == 100 else 3
    mean = f"{scale * statistics.fmean(values):.{digits}f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {scale * statistics.stdev(values):.{digits}f}"


def write(folder: Path, dataset: str, axes: Sequence[Panel], results: Sequence[Result]) -> None:
    """Table, figures and pictures.

    Raises:
        BadInput: the folder cannot be written.
    """
    from experiments.curves import draw_axes

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = [*render(axes, results), ""]
        (folder / "sensitivity.md").write_text("\n".join(lines), encoding="utf-8")
        with (folder / "cells.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["setting", "task", "seed", "accuracy", DEFAULT_METRIC, "run"])
            for r in results:
                score = r.metrics.get(DEFAULT_METRIC, "")
                row = [r.row, str(r.task), r.seed, r.metrics[ACCURACY], score, r.run]
                writer.writerow(row)
        for kind in dict.fromkeys(axis.kind for axis in axes):
            mine = [axis for axis in axes if axis.kind == kind]
            draw_axes(folder / f"{kind}.png", dataset, mine, results)
    except OSError as error:
        raise BadInput(f"{folder} cannot be written ({error}): choose another --output.") from error


if __name__ == "__main__":
    sys.exit(main())
