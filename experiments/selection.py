"""How good is a choice without labels? Random settings, judged by every label-free score.

    python -m experiments.selection --data DIR --settings 40

Runs what is missing (some 840 short runs: 20 to 60 minutes on two processor cores), scores it, and
writes tables, a CSV file and pictures. A task whose data is not there is left out and named. Target
labels are read here to report, and by nothing that picks.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gsda.data.folders import check_root
from gsda.errors import BadInput
from gsda.stopping import stoppable
from tune.settings import BAD_USE, DONE

DATASETS = ("glyph31", "glyph31-hard", "digits", "office-caltech10")


@stoppable
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        _check(options)
        from experiments.selection_cells import SUITES, run_all

        suites = [name for name in options.datasets if options.data or not SUITES[name].folder]
        for name in options.datasets:
            if name not in suites:
                print(f"Left out, as it needs --data: {name}", file=sys.stderr)
        if not suites:
            raise BadInput("Nothing is left to study: name the folder of the images with --data.")
        work, data = options.work, options.data
        if not options.only_analyse:
            run_all(work, data, options.settings, options.processes, suites, _tell)
        return _analyse(options, suites)
    except BadInput as error:
        print(f"selection: {error}", file=sys.stderr)
        return BAD_USE


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(prog="selection", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("selection"), help="folder of all runs")
    parser.add_argument("--data", type=Path, help="folder with digits, office-caltech10, weights")
    parser.add_argument("--settings", type=int, default=40, help="random settings of a task (40)")
    parser.add_argument("--skip", type=int, default=0, help="of these, leave out the first so many")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time (2)")
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=DATASETS)
    parser.add_argument("--only-analyse", action="store_true", help="run nothing")
    parser.add_argument("--output", type=Path, help="folder of tables and pictures; default: work")
    return parser


def _check(options: argparse.Namespace) -> None:
    if options.settings < 2 or not 0 <= options.skip <= options.settings - 2:
        raise BadInput("--settings less --skip must leave two settings to choose from, or more.")
    if options.processes < 1:
        raise BadInput(f"--processes is {options.processes}, but must be at least 1.")
    if options.data is not None:
        check_root(options.data)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _analyse(options: argparse.Namespace, suites: Sequence[str]) -> int:
    from experiments.selection_cells import SUITES
    from experiments.selection_report import draw_regrets, draw_scores, render, write_csv
    from experiments.selection_study import study_task

    tasks = [task for name in suites for task in SUITES[name].tasks()]
    studied = []
    for task in tasks:
        study = study_task(options.work, task, options.settings, options.skip)
        if len(study.random) < 2 or len(study.settings) - len(study.random) < 2:
            raise BadInput(f"{task} has no finished runs in {options.work}: run it first.")
        studied.append(study)
    output = options.output or options.work
    output.mkdir(parents=True, exist_ok=True)
    lines = list(render(studied))
    print("\n".join(lines))
    (output / "selection-tables.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_csv(studied, output / "selection.csv")
    draw_regrets(studied, output / "selection.png")
    draw_scores(studied, output / "selection-scores.png")
    _tell(f"Written to {output}: selection-tables.md, selection.csv and two pictures.")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
