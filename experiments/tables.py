"""The paper's tables with our figures beside the paper's: runs what is missing, reuses the rest.

    python -m experiments.tables glyph31 --seeds 3
    python -m experiments.tables office31 --data DIR --rows ablation methods

A cell is a setting, a task and a seed; each is a trial in a journal and a run in MLflow, and is run
once, whoever asks for it. Settings are fixed before: target labels are read here to report. A cell
that was not run stays empty; figures of the paper stand in rows of their own.
"""

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.cells import Rows, choose_rows, default_rows
from experiments.options import add_sweep_options, build_common, read_settings
from experiments.paper import REPRODUCTIONS, TABLES, Row, Table
from experiments.results import Result
from gsda.config import Config
from gsda.errors import BadInput
from gsda.sealed import ACCURACY, CLASS_MEAN, OF_CLASS
from gsda.stopping import stoppable
from gsda.tasks import BENCHMARKS, Task
from tune.settings import BAD_USE, DONE, INTERRUPTED, resolve_tasks


@stoppable
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        check_seeds(options.seeds)
        settings, tuned = read_settings(options), read_tuned(options.tuned)
        tasks = resolve_tasks(options.task or ["all"], settings)
        from experiments.filling import fill

        def rows_of(task: Task, base: Config, _: int) -> Rows:
            names = options.rows or default_rows(task.dataset)
            return choose_rows(names, base, options.only, tuned)

        filled = fill(tasks, settings, options, rows_of)
    except BadInput as error:
        print(f"tables: {error}", file=sys.stderr)
        return BAD_USE
    if filled is None:
        return DONE
    pairs = [task.pair for task in tasks]
    print("\n".join(render(options.dataset, pairs, filled.results, filled.rows)), flush=True)
    if options.output is not None:
        lines = list(render(options.dataset, pairs, filled.results, filled.rows, links=True))
        write(options.output, lines, filled.results)
    return INTERRUPTED if filled.halted else DONE


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = build_common("tables", __doc__)
    parser.add_argument("--task", nargs="+", help="bare ids; default: all tasks of the dataset")
    parser.add_argument("--rows", nargs="+", help="ablation, methods or partial")
    parser.add_argument("--only", nargs="+", default=[], metavar="TITLE", help="some of the rows")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ... (1)")
    parser.add_argument("--tuned", type=Path, help="JSON file {row: {setting: value}}: these rows")
    parser.add_argument("--output", type=Path, help="folder for table.md and cells.csv")
    add_sweep_options(parser)
    return parser


def check_seeds(seeds: int) -> None:
    """Refuse none.

    Raises:
        BadInput: fewer than one.
    """
    if seeds < 1:
        raise BadInput(f"--seeds is {seeds}, but must be at least 1.")


def read_tuned(path: Path | None) -> dict[str, dict[str, Any]] | None:
    """Fields of settings by row, as a user writes them after a search.

    Raises:
        BadInput: no such file, or no such content.
    """
    if path is None:
        return None
    try:
        tuned = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"--tuned {path} cannot be read ({error}).") from error
    if (
        not isinstance(tuned, dict)
        or not tuned
        or not all(isinstance(v, dict) for v in tuned.values())
    ):
        raise BadInput(f"--tuned {path} must hold {{row: {{setting: value}}}}.")
    return tuned


def render(
    dataset: str,
    pairs: Sequence[str],
    results: Sequence[Result],
    rows: Sequence[str],
    links: bool = False,
) -> Iterator[str]:
    """Markdown: our rows, then the paper's.

    Args:
        rows: titles of our rows, those without any finished cell among them.
        links: each seed of a cell leads to its run.
    """
    by_class = len(BENCHMARKS[dataset].tasks()) == 1
    columns = list(BENCHMARKS[dataset].classes or ()) if by_class else list(pairs)
    yield f"| | {' | '.join(columns)} | mean | mean over classes | from |"
    yield "|---" * (len(columns) + 4) + "|"
    for title in rows:
        mine = [result for result in results if result.row == title]
        cells = [_cell(mine, column, by_class, links) for column in columns]
        means = [_mean(mine, pairs, metric) for metric in (ACCURACY, CLASS_MEAN)]
        seeds = len({result.seed for result in mine})
        yield f"| {title} | {' | '.join([*cells, *means])} | {_ours(seeds)} |"
    for table in TABLES.values():
        if table.dataset == dataset:
            yield from (_quoted(table, row, columns) for row in table.rows)
    if dataset in REPRODUCTIONS:
        yield from (
            _quoted(REPRODUCTIONS[dataset], row, columns) for row in REPRODUCTIONS[dataset].rows
        )


def _ours(seeds: int) -> str:
    if not seeds:
        return "not run"
    return f"this package, {seeds} seed{'s' * (seeds > 1)}"


def _cell(mine: Sequence[Result], column: str, by_class: bool, linked: bool) -> str:
    if by_class:
        found = [(r, v) for r in mine if (v := _of_class(r, column)) is not None]
    else:
        found = [(r, r.metrics[ACCURACY]) for r in mine if r.task.pair == column]
    links = [f"[{r.seed}]({r.link})" for r, _ in found if linked and r.link]
    return " ".join([_spread([v for _, v in found]), *links]).strip()


def _of_class(result: Result, name: str) -> float | None:
    """The accuracy of a class; metrics have its number before its name."""
    for metric, value in result.metrics.items():
        if metric.startswith(OF_CLASS) and metric.removeprefix(OF_CLASS).partition("_")[2] == name:
            return value
    return None


def _mean(mine: Sequence[Result], pairs: Sequence[str], metric: str) -> str:
    """Mean over the tasks of each seed, if it has all of them; empty else."""
    means = []
    for seed in sorted({result.seed for result in mine}):
        of_seed = {r.task.pair: r.metrics[metric] for r in mine if r.seed == seed}
        if set(of_seed) == set(pairs):
            means.append(statistics.fmean(of_seed.values()))
    return _spread(means)


def _spread(values: Sequence[float]) -> str:
    """Mean and standard deviation in per cent; empty without values."""
    if not values:
        return ""
    mean = f"{100 * statistics.fmean(values):.1f}"
    return mean if len(values) < 2 else f"{mean} ± {100 * statistics.stdev(values):.1f}"


def _quoted(table: Table, row: Row, columns: Sequence[str]) -> str:
    cells = [f"{row.values[c]:.1f}" if c in row.values else "" for c in columns]
    note = f"; {row.note}" if row.note else ""
    quoted = "" if row.method else "; quoted: we have no such method"
    of_cells = f"{statistics.fmean(row.values.values()):.1f}" if row.values else ""
    by_class = table.dataset == "visda2017"
    printed = f"{row.average:.1f}" + (" (printed)" if by_class else "")
    means = [printed, of_cells if by_class else ""]
    source = f"{table.name}: {row.source}{note}{quoted}"
    return f"| *{row.title}* | {' | '.join([*cells, *means])} | {source} |"


def write(folder: Path, lines: Sequence[str], results: Sequence[Result]) -> None:
    """The table, and every cell with its run.

    Raises:
        BadInput: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
        with (folder / "cells.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["row", "task", "seed", "accuracy", "class_mean", "run", "link"])
            for r in results:
                figures = [r.metrics[ACCURACY], r.metrics[CLASS_MEAN]]
                writer.writerow([r.row, str(r.task), r.seed, *figures, r.run, r.link])
    except OSError as error:
        raise BadInput(f"{folder} cannot be written ({error}): choose another --output.") from error


if __name__ == "__main__":
    sys.exit(main())
