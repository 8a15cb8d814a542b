"""Partial tasks: source-only, the domain level alone and GSDA, with and without class weights.

    python -m experiments.partial --dataset glyph31-partial
    python -m experiments.partial --dataset office-caltech10-partial --data DIR \
        --backbone mobilenet_v2 --weights FILE --features frozen --task A2D A2W D2A D2W W2A W2D

Target labels are read here to report, by settings that were fixed before: the paper's for partial
tasks. The class weights are PADA's (`gsda.partial`); the domain level with them is PADA itself.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.ablation import ACCURACY, markdown
from gsda.backbones import find_backbone
from gsda.config import Config, ladder
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, Task

ROWS = {"source-only": "source-only", "Glb": "domain level", "+ Grad Sync": "GSDA"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        pairs = options.task or [task.pair for task in BENCHMARKS[options.dataset].tasks()]
        rows = measure([Task.parse(f"{options.dataset}/{pair}") for pair in pairs], options)
    except BadInput as error:
        print(f"partial: {error}", file=sys.stderr)
        return 2
    for line in markdown(rows, pairs):
        print(line)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    partial = [name for name, known in BENCHMARKS.items() if known.target_classes]
    parser = argparse.ArgumentParser(prog="partial", description=__doc__)
    parser.add_argument("--dataset", default="glyph31-partial", choices=partial)
    parser.add_argument("--task", nargs="+", help="bare ids; default: all tasks of the dataset")
    parser.add_argument("--data", type=Path, help="folder of the domains")
    parser.add_argument("--backbone")
    parser.add_argument("--weights")
    parser.add_argument("--features", default="trained")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ...")
    parser.add_argument("--threads", type=int, default=1)
    return parser


def rows_of(base: Config) -> dict[str, Config]:
    """The rows of the table, all but the compared setting as in `base`."""
    chosen = {title: ladder(base)[row] for row, title in ROWS.items()}
    weighted = {
        f"{title}, weighted": replace(config, class_weighting="pada")
        for title, config in chosen.items()
    }
    return {name: config for pair in zip(chosen.items(), weighted.items(), strict=True)
            for name, config in pair}  # fmt: skip


def measure(tasks: Sequence[Task], options: Any) -> dict[str, dict[str, list[float]]]:
    """Accuracy of each row on each task, a value for each seed; told to stderr as it goes."""
    rows: dict[str, dict[str, list[float]]] = {}
    for task, seed, name, accuracy, seconds in _cells(tasks, options):
        rows.setdefault(name, {}).setdefault(task.pair, []).append(accuracy)
        line = {"task": str(task), "seed": seed, "row": name, "accuracy": accuracy}
        print(json.dumps(line | {"seconds": round(seconds, 1)}), file=sys.stderr, flush=True)
    return rows


def _cells(tasks: Sequence[Task], options: Any) -> Iterator[tuple[Task, int, str, float, float]]:
    import torch

    from gsda.data.domain import Pair
    from gsda.data.load import DataSpec, default_cache, load_domains
    from gsda.features import freeze
    from gsda.oracle import Oracle
    from gsda.recipes import default_backbone, recommend
    from gsda.run import Run

    torch.set_num_threads(options.threads)
    named = {"weights": options.weights, "steps": options.steps, "features": options.features}
    changes = {name: value for name, value in named.items() if value is not None}
    for task in tasks:
        backbone = options.backbone or default_backbone(task)
        spec = DataSpec(options.data, default_cache(), find_backbone(backbone).size)
        source, target = load_domains(task, spec)
        base = recommend(task, len(source.classes), backbone, **changes)
        pair = freeze(Pair(source, target.images), base, spec.cache)
        for seed in range(options.seeds):
            for name, config in rows_of(replace(base, seed=seed)).items():
                began = time.perf_counter()
                accuracy = _train(Run(task, config, pair, Oracle(target)))
                yield task, seed, name, accuracy, time.perf_counter() - began


def _train(run: Any) -> float:
    """Train with the evaluations that refresh the class weights; the accuracy at the end."""
    metrics: dict[str, float] = {}
    while not run.finished:
        run.step(run.config.next_rung(run.step_count) - run.step_count)
        metrics = run.evaluate()
    return metrics[ACCURACY]


if __name__ == "__main__":
    sys.exit(main())
