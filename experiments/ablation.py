"""The ladder of the paper's Table 1, below it source-only: accuracy on the target, untuned.

    python -m experiments.ablation --dataset glyph31 --seeds 1

Target labels are read here to report, by settings that were fixed before.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gsda.backbones import find_backbone
from gsda.config import Config, ladder
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, Task

ACCURACY = "oracle/target_accuracy"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        tasks = _tasks(options.dataset, options.task)
        rows = measure(tasks, options)
    except BadInput as error:
        print(f"ablation: {error}", file=sys.stderr)
        return 2
    for line in markdown(rows, [task.pair for task in tasks]):
        print(line)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(prog="ablation", description=__doc__)
    parser.add_argument("--dataset", default="glyph31")
    parser.add_argument("--task", nargs="+", help="bare ids; default: all tasks of the dataset")
    parser.add_argument("--data", type=Path, help="folder of the domains")
    parser.add_argument("--backbone")
    parser.add_argument("--weights")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ...")
    parser.add_argument("--device", default="cpu")
    return parser


def _tasks(dataset: str, pairs: Sequence[str] | None) -> list[Task]:
    if pairs:
        return [Task.parse(f"{dataset}/{pair}") for pair in pairs]
    if dataset not in BENCHMARKS:
        raise BadInput(f"Unknown dataset {dataset!r}: choose one of {', '.join(BENCHMARKS)}.")
    return BENCHMARKS[dataset].tasks()


def measure(tasks: Sequence[Task], options: Any) -> dict[str, dict[str, list[float]]]:
    """Accuracy of each row on each task, a value for each seed; told to stderr as it goes."""
    rows: dict[str, dict[str, list[float]]] = {}
    for task, seed, name, accuracy, seconds in _cells(tasks, options):
        rows.setdefault(name, {}).setdefault(task.pair, []).append(accuracy)
        line = {"task": str(task), "seed": seed, "row": name, "accuracy": accuracy}
        print(json.dumps(line | {"seconds": round(seconds, 1)}), file=sys.stderr, flush=True)
    return rows


def _cells(tasks: Sequence[Task], options: Any) -> Iterator[tuple[Task, int, str, float, float]]:
    from gsda.data.domain import Pair
    from gsda.data.load import DataSpec, default_cache, load_domains
    from gsda.oracle import Oracle
    from gsda.recipes import default_backbone, recommend
    from gsda.run import Run

    named = {"weights": options.weights, "steps": options.steps, "batch_size": options.batch_size}
    changes = {name: value for name, value in named.items() if value is not None}
    for task in tasks:
        backbone = options.backbone or default_backbone(task)
        spec = DataSpec(options.data, default_cache(), find_backbone(backbone).size)
        source, target = load_domains(task, spec)
        base = recommend(task, len(source.classes), backbone, **changes)
        for seed in range(options.seeds):
            for name, config in ladder(replace(base, seed=seed)).items():
                began = time.perf_counter()
                pair, oracle = Pair(source, target.images), Oracle(target)
                accuracy = _train(Run(task, config, pair, oracle, options.device), config)
                yield task, seed, name, accuracy, time.perf_counter() - began


def _train(run: Any, config: Config) -> float:
    run.step(config.steps)
    return float(run.evaluate()[ACCURACY])


def markdown(rows: dict[str, dict[str, list[float]]], pairs: Sequence[str]) -> Iterator[str]:
    """A table in per cent: means over seeds, with the standard deviation where there are more."""
    yield f"| | {' | '.join(pairs)} | mean |"
    yield "|---" * (len(pairs) + 2) + "|"
    for name, cells in rows.items():
        means = [100 * sum(cells[pair]) / len(cells[pair]) for pair in pairs]
        texts = [_cell(cells[pair]) for pair in pairs]
        yield f"| {name} | {' | '.join(texts)} | {sum(means) / len(means):.1f} |"


def _cell(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    if len(values) < 2:
        return f"{100 * mean:.1f}"
    deviation = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return f"{100 * mean:.1f} ± {100 * deviation:.1f}"


if __name__ == "__main__":
    sys.exit(main())
