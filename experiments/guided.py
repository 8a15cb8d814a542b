"""Does guiding a search pay? TPE and ASHA against random search, at equal cost in training steps.

    python -m experiments.guided --data DIR --seeds 3

Both arms begin with the reference trials and go through the bookkeeping of a real search, with its
sampler and its pruner, in this process and without Ray. Random search draws from the same space and
stops no trial. After each trial that finishes, the pick by the label-free score is noted; what its
target accuracy was is read from the journal afterwards.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from experiments.selection_cells import SUITES, configure, load
from gsda.config import Config, source_only
from gsda.data.folders import check_root
from gsda.errors import BadInput, NonFinite
from gsda.files import write_atomically
from gsda.run import Run
from gsda.sealed import ACCURACY
from gsda.stopping import stoppable
from gsda.tasks import BENCHMARKS, Task
from gsda.validators import DEFAULT_METRIC
from tune.cluster import Share
from tune.history import COMPLETE, PAPER, SOURCE_ONLY, History, Trial
from tune.journal import Event, Journal
from tune.progress import Plan, Progress
from tune.rule import check_guide, check_rule
from tune.settings import BAD_USE, DONE
from tune.space import DEFAULT_FIELDS, Range, build_space
from tune.trainable import Report

FIELDS = (*DEFAULT_FIELDS, "lambda_max", "lr")
TASKS = ("office-caltech10/A2W", "glyph31-hard/A2W")
GUIDED, RANDOM = "TPE + ASHA", "random"
MANY = 1000  # trials: more than any budget pays for
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the budget, at which a table shows the pick


@dataclass(frozen=True)
class Point:
    """The pick after a trial finished.

    Attributes:
        spent: training steps so far. accuracy: of the pick, in per cent.
    """

    spent: int
    accuracy: float


class Unpruned(Progress):
    """The bookkeeping of a search that stops no trial early."""

    def _judge(self, number: int, step: int, metrics: Any) -> str | None:
        return None


def draw_values(space: dict[str, Range], seed: int, n: int) -> list[dict[str, float]]:
    """`n` settings, uniform in the space (in the logarithm where it is searched so)."""
    rng = np.random.default_rng([7, seed])
    return [{name: _draw(span, rng) for name, span in space.items()} for _ in range(n)]


def _draw(span: Range, rng: np.random.Generator) -> float:
    if span.integer:
        return int(rng.integers(int(span.low), int(span.high) + 1))
    if span.log:
        return float(np.exp(rng.uniform(np.log(span.low), np.log(span.high))))
    return float(rng.uniform(span.low, span.high))


@dataclass
class Arm:
    """One search of one task.

    Attributes:
        budget: training steps, those of the reference trials included.
        spent: steps so far.
    """

    task: Task
    data: Path | None
    metric: str
    kind: str
    seed: int
    budget: int
    spent: int = 0

    def run(self) -> list[Point]:
        """Search until the budget is spent."""
        with TemporaryDirectory() as folder:
            journal = Journal(Path(folder) / "journal.log")
            progress = self._begin(journal, Path(folder))
            points: list[Point] = []
            while self.spent < self.budget and (trial := progress.next_trial()) is not None:
                self._work(progress, trial)
                if trial.state == COMPLETE:
                    points.append(Point(self.spent, self._accuracy(progress.history)))
            journal.close()
        return points

    def _begin(self, journal: Journal, folder: Path) -> Progress:
        suite = SUITES[self.task.dataset]
        pair, _ = load(suite.dataset, self.task, self.data)
        base = configure(suite, self.task, 1, len(pair.classes), self.data)
        base = replace(base, seed=self.seed, holdout=0.0)
        space = build_space(FIELDS, len(pair.classes))
        references = {SOURCE_ONLY: source_only(base), PAPER: base}
        spec = {
            "task": str(self.task),
            "base": base.to_dict(),
            "references": {kind: config.to_dict() for kind, config in references.items()},
            "trials": MANY,
            "metric": self.metric,
        }
        if self.kind == RANDOM:  # proposals that stand before the search begins
            spec["warm"] = {"first": draw_values(space, self.seed, MANY)}
        journal.append("search", uuid=f"{self.kind}-{self.seed}", spec=spec)
        plan = Plan(
            task=str(self.task),
            data={},
            digest="",
            base=base,
            references=references,
            space=space,
            trials=MANY,
            metric=self.metric,
            seed=self.seed,
            folder=folder,
            share=Share("cpu", cpus=1, gpus=0),
            max_failures=0,
        )
        return (Progress if self.kind == GUIDED else Unpruned)(plan, journal, _ignore)

    def _work(self, progress: Progress, trial: Trial) -> None:
        """Train a trial to its end, or until it is stopped or the budget is spent."""
        progress.start(trial)
        pair, oracle = load(self.task.dataset, self.task, self.data)
        run = Run(self.task, Config.from_dict(trial.config), pair, oracle)
        for report in self._reports(run):
            if progress.report(trial.number, report) or self.spent >= self.budget:
                return

    def _reports(self, run: Run) -> Iterator[Report]:
        while not run.finished:
            before = run.step_count
            try:
                losses = run.step(run.config.next_rung(before) - before)
                self.spent += run.step_count - before
                yield Report(run.step_count, losses | run.evaluate(), 0.0, run.finished)
            except NonFinite as error:
                self.spent += run.step_count - before
                yield Report(run.step_count, {}, 0.0, False, failure=str(error))
                return

    def _accuracy(self, history: History) -> float:
        best = history.best(self.metric)
        assert best is not None
        return 100 * best.final[ACCURACY]


def _ignore(event: Event, history: History) -> None:
    """A listener."""


def at(points: Sequence[Point], spent: float) -> float:
    """Accuracy of the pick once so many steps are spent; of the first pick before."""
    known = [point.accuracy for point in points if point.spent <= spent]
    return known[-1] if known else points[0].accuracy


def fingerprint(task: Task) -> str:
    """What tells a curve from one of other days: how a trial is trained, and the space."""
    suite = SUITES[task.dataset]
    space = build_space(FIELDS, BENCHMARKS[task.dataset].n_classes)
    spans = {name: [span.low, span.high, span.log] for name, span in space.items()}
    told = json.dumps([suite.backbone, dict(suite.changes), spans], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def curve_of(options: argparse.Namespace, text: str, kind: str, seed: int) -> list[Point]:
    """The arm's points, run unless they are there."""
    task = Task.parse(text)
    steps = int(SUITES[task.dataset].changes["steps"])
    budget = options.trials * steps
    how = f"{'guided' if kind == GUIDED else 'random'}-{fingerprint(task)}"
    name = f"{task.slug}-{how}-{seed}-{budget}.json"
    path = options.work / "guided" / options.metric.replace("/", "-") / name
    if not path.exists():
        arm = Arm(task, options.data, options.metric, kind, seed, budget)
        points = arm.run()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps([[p.spent, p.accuracy] for p in points]).encode())
        print(
            f"{text} {kind}, seed {seed}: {points[-1].accuracy:.1f}%", file=sys.stderr, flush=True
        )
    return [Point(*entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def render(options: argparse.Namespace) -> Iterator[str]:
    """A table: accuracy of the pick at shares of the budget, mean and spread over the seeds."""
    titles = [f"{share:.0%} of the cost" for share in SHARES]
    yield f"| task | search | {' | '.join(titles)} |"
    yield "|---" * (2 + len(SHARES)) + "|"
    for text in options.tasks:
        budget = options.trials * int(SUITES[Task.parse(text).dataset].changes["steps"])
        for kind in (GUIDED, RANDOM):
            curves = [curve_of(options, text, kind, seed) for seed in range(options.seeds)]
            cells = []
            for share in SHARES:
                values = [at(points, share * budget) for points in curves]
                cells.append(f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
            yield f"| {text} | {kind} | {' | '.join(cells)} |"


def draw(options: argparse.Namespace, path: Path) -> None:
    """A panel for each task: accuracy of the pick over the steps spent; thin lines are seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(options.tasks), 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(options.tasks), squeeze=False)[0]
    for axes, text in zip(panels, options.tasks, strict=True):
        steps = int(SUITES[Task.parse(text).dataset].changes["steps"])
        grid = np.linspace(0.1, 1, 91) * options.trials * steps
        for kind, colour in ((GUIDED, "tab:blue"), (RANDOM, "tab:orange")):
            curves = [curve_of(options, text, kind, seed) for seed in range(options.seeds)]
            values = np.array([[at(points, spent) for spent in grid] for points in curves])
            for line in values:
                axes.plot(grid / steps, line, color=colour, lw=0.7, alpha=0.5)
            axes.plot(grid / steps, values.mean(axis=0), color=colour, lw=2.2, label=kind)
        axes.set_title(text, fontsize=10)
        axes.set_xlabel("cost, in whole trials")
        axes.set_ylabel("target accuracy of the pick, %")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


@stoppable
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = build_parser().parse_args(arguments)
    torch.set_num_threads(1)
    try:
        check_rule(check_guide(options.metric))
        if options.data is not None:
            check_root(options.data)
        for text in options.tasks:
            if (dataset := Task.parse(text).dataset) not in SUITES:
                raise BadInput(f"{text} is not of the study: choose from {', '.join(SUITES)}.")
            if SUITES[dataset].folder and options.data is None:
                raise BadInput(f"{text} needs --data: a folder with office-caltech10 and weights.")
        lines = list(render(options))
    except BadInput as error:
        print(f"guided: {error}", file=sys.stderr)
        return BAD_USE
    print("\n".join(lines))
    output = options.output or options.work
    output.mkdir(parents=True, exist_ok=True)
    (output / "guided.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    draw(options, output / "guided.png")
    return DONE


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(prog="guided", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("selection"), help="folder of all runs")
    parser.add_argument("--data", type=Path, help="folder with office-caltech10, weights")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), metavar="DATASET/TASK")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each kind (3)")
    parser.add_argument("--trials", type=int, default=16, help="cost, in whole trials (16)")
    parser.add_argument("--metric", default=DEFAULT_METRIC, help=f"score ({DEFAULT_METRIC})")
    parser.add_argument("--output", type=Path, help="folder of table and picture; default: work")
    return parser


if __name__ == "__main__":
    sys.exit(main())
