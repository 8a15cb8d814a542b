"""What adapting did to the features of a task: one page for people, pictures for MLflow.

    python -m experiments.report glyph31 --task A2W --output reports/

A few models of the task are trained (as cells of `experiments.tables`: once, recorded), and looked
at: where their features lie, how far the domains are apart as wholes and class by class, whether
the gradients of the three levels keep step, and how sure and how right the pseudo labels are.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.cells import SOURCE_ONLY, Rows, choose_rows
from experiments.options import add_sweep_options, build_common, read_settings
from gsda.config import Config
from gsda.errors import BadInput
from gsda.stopping import stoppable
from gsda.tasks import Task
from tune.settings import BAD_USE, DONE, INTERRUPTED, resolve_tasks

APART = "levels not synchronised"
ROWS = (SOURCE_ONLY, "Glb", APART, "GSDA")
EVALUATIONS = 20  # points of a curve
_LITTLE = 1e-9  # of beta: nothing is synchronised, and the magnitudes are computed all the same


@stoppable
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = build_parser().parse_args(arguments)
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    try:
        return run(options, shlex.join(["python", "-m", "experiments.report", *map(str, words)]))
    except BadInput as error:
        print(f"report: {error}", file=sys.stderr)
        return BAD_USE


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = build_common("report", __doc__)
    parser.add_argument("--task", nargs="+", required=True, help="bare ids, or all")
    parser.add_argument(
        "--rows",
        nargs="+",
        default=list(ROWS),
        metavar="TITLE",
        help=f"rows of tables, what came before first and what is shown last; {', '.join(ROWS)}",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the pages")
    add_sweep_options(parser)
    parser.set_defaults(seeds=1)
    return parser


def run(options: Any, command: str) -> int:
    """Train what is missing, and write the pages; returns the exit code.

    Raises:
        BadInput: whatever is wrong with options, data or machines.
    """
    settings = read_settings(options)
    tasks = resolve_tasks(options.task, settings)

    def rows(task: Task, base: Config, _: int) -> Rows:
        return pick_rows(options.rows, base, options.evaluate_every)

    from experiments.filling import fill

    filled = fill(tasks, settings, options, rows, keep=True)
    if filled is None:
        return DONE
    if filled.halted:
        return INTERRUPTED
    from experiments.showing import show_task

    for sweep, swept in zip(filled.sweeps, filled.swept, strict=True):
        path = show_task(sweep, swept, options.rows, settings, options.output, command)
        print(path)
    return DONE


def pick_rows(titles: Sequence[str], base: Config, every: int | None = None) -> Rows:
    """The rows in the order in which they were named, evaluated often enough for a curve.

    Args:
        every: steps between evaluations, where the user says so.

    Raises:
        BadInput: an unknown title.
    """
    known = choose_rows(["ablation", "methods"], base)
    known[APART] = replace(base, beta=_LITTLE)
    for title in titles:
        if title not in known:
            raise BadInput(f"There is no row {title!r}: choose from {', '.join(known)}.")
    every = every or max(1, base.steps // EVALUATIONS)
    return {title: replace(known[title], evaluate_every=every) for title in titles}


if __name__ == "__main__":
    sys.exit(main())
