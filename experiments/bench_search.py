"""What a search costs beside its trials, against a bare loop of the same and against plain Tune.

    python -m experiments.bench_search

Images of glyph31/W2D are written as PNG files. A search of this package runs first; then the
trials that stand in its journal, each to the step that it reached, with the same evaluations and
checkpoints, are run again: in a bare loop in one process, and by Ray Tune with its defaults, where
each trial is a function in a worker of its own that decodes its images. One trial at a time, the
same number of threads, one after another on the same machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gsda.bundle import save_bundle
from gsda.checkpoint import save_step
from gsda.config import Config
from gsda.data.domain import Pair
from gsda.data.load import DataSpec, load_domains
from gsda.oracle import Oracle
from gsda.run import Run
from gsda.stopping import stoppable
from gsda.tasks import Task
from tune.history import History
from tune.journal import read_events

ROOT = Path(__file__).resolve().parent.parent
NAME, TASK = "bench", "glyph31png/W2D"
THREADS = os.cpu_count() or 1


@dataclass(frozen=True)
class Work:
    """One trial of the search, to be done again.

    Attributes:
        steps: the step that it reached; of ASHA's making, often less than `config.steps`.
    """

    number: int
    config: dict[str, Any]
    steps: int


@dataclass(frozen=True)
class Cost:
    """Seconds of the whole command, and of the time between first start and last end of a trial."""

    whole: float
    trials: float


def write_images(folder: Path, n: int) -> None:
    """At most `n` of the built-in letters of W, in folders of 31 classes, and of D, which is flat.

    The classes are those of a count, not of the letters: nothing but time is measured.
    """
    spec = DataSpec(None, folder / "drawn", 32)
    domains = load_domains(Task.parse("glyph31/W2D"), spec)
    for name, images in zip("WD", (domain.images for domain in domains), strict=True):
        pixels = images.gather(np.arange(min(n, len(images))))
        for number, image in enumerate(pixels):
            place = folder / "images" / name / (f"{number % 31:02d}" if name == "W" else "")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number:04d}.png")


def work_of(journal: Path) -> list[Work]:
    """The trials of a search, as far as they went."""
    history = History.of(read_events(journal)[0])
    return [
        Work(trial.number, trial.config, max(trial.reports))
        for trial in history.trials.values()
        if trial.reports
    ]


def train(work: Work, data: DataSpec, folder: Path, tell: Callable[[int, Any], None]) -> None:
    """One trial: steps, evaluations, a checkpoint after each, the model at the end."""
    task, config = Task.parse(TASK), Config.from_dict(work.config)
    source, target = load_domains(task, data)
    run = Run(task, config, Pair(source, target.images), Oracle(target))
    while run.step_count < work.steps:
        run.step(config.next_rung(run.step_count) - run.step_count)
        scores = run.evaluate()
        save_step(folder, run.step_count, {"run": run.state_dict()})
        tell(run.step_count, scores)
    if run.finished:
        manifest = {
            "classes": list(run.pair.classes),
            "backbone": config.backbone,
            "bottleneck": config.bottleneck,
            "config": work.config,
        }
        save_bundle(folder / "model", run.network, manifest)


def run_bare(folder: Path) -> float:
    """All trials in a loop; seconds of the loop."""
    import torch

    torch.set_num_threads(THREADS)
    data = _data(folder, "cache")
    began = time.perf_counter()
    for work in work_of(folder / "searches" / NAME / "journal.log"):
        train(work, data, folder / "bare" / str(work.number), lambda step, scores: None)
    return time.perf_counter() - began


def run_plain(folder: Path) -> float:
    """All trials by Ray Tune with its defaults; seconds of `fit`."""
    import ray
    import ray.tune

    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "0"
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="error")
    works = work_of(folder / "searches" / NAME / "journal.log")

    def trial(config: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(THREADS)
        with tempfile.TemporaryDirectory() as own:
            data = DataSpec(folder / "images", Path(own) / "cache", 32)

            def tell(step: int, scores: dict[str, float]) -> None:
                checkpoint = ray.tune.Checkpoint.from_directory(own)
                ray.tune.report(scores | {"step": step}, checkpoint=checkpoint)

            train(works[config["number"]], data, Path(own), tell)

    began = time.perf_counter()
    result = ray.tune.Tuner(
        ray.tune.with_resources(trial, {"CPU": THREADS}),
        param_space={"number": ray.tune.grid_search(list(range(len(works))))},
        run_config=ray.tune.RunConfig(storage_path=str(folder / "plain"), verbose=0),
    ).fit()
    seconds = time.perf_counter() - began
    if result.errors:
        raise RuntimeError(str(result.errors[0]))
    return seconds


def _data(folder: Path, cache: str) -> DataSpec:
    return DataSpec(folder / "images", folder / cache, 32)


ARMS = {"bare": run_bare, "plain": run_plain}


def time_arm(arm: str, folder: Path) -> Cost:
    """An arm in a process of its own."""
    words = [
        sys.executable,
        "-m",
        "experiments.bench_search",
        "--arm",
        arm,
        "--folder",
        str(folder),
    ]
    began = time.perf_counter()
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=_environment())
    whole = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{arm} failed: {done.stderr[-2000:]}")
    return Cost(whole, float(json.loads(done.stdout.splitlines()[-1])))


def time_search(folder: Path, trials: int, steps: int, every: int) -> Cost:
    """The search, as a user starts it."""
    words = [sys.executable, str(ROOT / "tune" / "search.py"), "--task", TASK, "--name", NAME]
    words += ["--data", str(folder / "images"), "--cache", str(folder / "cache")]
    words += ["--backbone", "cnn", "--trials", str(trials), "--steps", str(steps)]
    words += ["--evaluate-every", str(every), "--cpus-per-trial", str(THREADS), "--device", "cpu"]
    began = time.perf_counter()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=_environment())
    whole = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"the search failed: {done.stdout[-1000:]} {done.stderr[-1000:]}")
    events = read_events(folder / "searches" / NAME / "journal.log")[0]
    starts = [event["time"] for event in events if event["event"] == "start"]
    ends = [event["time"] for event in events if event["event"] == "end"]
    return Cost(whole, max(ends) - min(starts))


def _environment() -> dict[str, str]:
    kept = {
        k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "OMP_NUM_THREADS")
    }
    return kept | {"PYTHONPATH": str(ROOT)}


def table(costs: dict[str, Cost], n: int) -> list[str]:
    """Ratios first, then what they are made of."""
    bare, plain = costs["bare"], costs["plain"]
    lines = [
        "| | time / bare loop's: trials, whole command | seconds a trial over the bare loop's | "
        "trials a minute / plain Tune's | trials a minute | seconds: trials, whole command |",
        "|---|---|---|---|---|---|",
    ]
    titles = {"search": "search of this package", "bare": "bare loop", "plain": "plain Tune"}
    for name, cost in costs.items():
        lines.append(
            f"| {titles[name]} | {cost.trials / bare.trials:.2f}, {cost.whole / bare.whole:.2f} "
            f"| {(cost.trials - bare.trials) / n:.2f} | {plain.trials / cost.trials:.2f} "
            f"| {60 * n / cost.trials:.1f} | {cost.trials:.1f}, {cost.whole:.1f} |"
        )
    return lines


@stoppable
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench_search")
    parser.add_argument("--trials", type=int, default=6, help="searched, beside two references")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--evaluate-every", type=int, default=50)
    parser.add_argument("--images", type=int, default=1000, help="of a domain, at most")
    parser.add_argument("--quick", action="store_true", help="only to see that it runs")
    parser.add_argument("--arm", choices=tuple(ARMS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.arm is not None:
        print(json.dumps(ARMS[options.arm](options.folder)))
        return 0
    if options.quick:
        options.trials, options.steps, options.evaluate_every, options.images = 1, 4, 2, 62
    with tempfile.TemporaryDirectory(prefix="bench-search-") as place:
        folder = Path(place)
        write_images(folder, options.images)
        costs = {
            "search": time_search(folder, options.trials, options.steps, options.evaluate_every)
        }
        costs |= {arm: time_arm(arm, folder) for arm in ARMS}
        works = work_of(folder / "searches" / NAME / "journal.log")
    told = ", ".join(str(work.steps) for work in works)
    print(f"{len(works)} trials of {told} steps, {THREADS} threads, one at a time.\n")
    print("\n".join(table(costs, len(works))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
