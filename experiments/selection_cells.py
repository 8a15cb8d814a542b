"""Runs of random settings whose outputs are kept, so that any validator can be computed later.

A cell is one setting on one task. Its outputs (what a validator may see) and its accuracy (what
none may) lie in different files, and a cell that is there is not run again.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gsda.backbones import find_backbone
from gsda.config import Config, completed, source_only
from gsda.data.domain import Pair
from gsda.data.load import DataSpec, default_cache, load_domains
from gsda.errors import NonFinite
from gsda.features import freeze
from gsda.files import write_atomically
from gsda.oracle import Oracle
from gsda.recipes import recommend
from gsda.run import Run
from gsda.tasks import BENCHMARKS, Task

Arrays = dict[str, NDArray[Any]]

HOLDOUT = 0.2
TRAINED_ON = 1000  # images of the source kept of those trained on, for density ratios
REFERENCES = 2  # source-only and the paper's setting come first, as in a search


@dataclass(frozen=True)
class Suite:
    """Tasks of one dataset that are run alike.

    Attributes:
        folder: where the domains lie, below the folder of real data; None if built in.
        changes: fields of `Config` that differ from what is recommended.
    """

    dataset: str
    pairs: tuple[str, ...]
    changes: Mapping[str, Any]
    backbone: str = "cnn"
    folder: str | None = None

    def tasks(self) -> list[Task]:
        return [Task.parse(f"{self.dataset}/{pair}") for pair in self.pairs]


_OFFICE_PAIRS = ("A2W", "A2D", "W2A", "W2D", "D2A", "D2W")
_SHORT = {"steps": 100, "evaluate_every": 34, "hidden": 32, "pairs": "dense"}
_FROZEN = _SHORT | {"steps": 200, "evaluate_every": 67, "features": "frozen"}

SUITES: dict[str, Suite] = {
    suite.dataset: suite
    for suite in (
        Suite("glyph31", _OFFICE_PAIRS, _SHORT),
        Suite("glyph31-hard", _OFFICE_PAIRS, _SHORT),
        Suite("digits", ("M2U", "U2M"), _SHORT, folder="digits"),
        Suite("office-caltech10", _OFFICE_PAIRS, _FROZEN, "mobilenet_v2", "office-caltech10"),
    )
}
WEIGHTS = "weights/mobilenet_v2.pth"


def draw_setting(index: int) -> dict[str, float]:
    """Setting number `index` >= 0 of the random ones; `groups` in [0, 1) stands for n_groups.

    Wide enough to hold failures: alpha and lambda_max go far beyond what the paper uses.
    """
    rng = np.random.default_rng([6, index])

    def log(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    return {
        "alpha": log(1e-3, 2.0),
        "beta": log(0.03, 30.0),
        "lambda_max": log(0.03, 3.0),
        "lr": log(0.003, 0.1),
        "tau": float(rng.uniform(0.5, 0.99)),
        "groups": float(rng.random()),
    }


def configure(suite: Suite, task: Task, number: int, n_classes: int, data: Path | None) -> Config:
    """The configuration of setting `number` on a task: the references, then the random ones."""
    weights = {} if suite.backbone == "cnn" or data is None else {"weights": str(data / WEIGHTS)}
    changes = dict(suite.changes) | weights | {"holdout": HOLDOUT}
    base = recommend(task, n_classes, suite.backbone, **changes)
    if number < REFERENCES:
        return (source_only(base), base)[number]
    values: dict[str, Any] = dict(draw_setting(number - REFERENCES))
    groups = 1 + int(values.pop("groups") * (n_classes // 2))
    return replace(base, n_groups=groups, **values)


@lru_cache(maxsize=32)
def load(suite_name: str, task: Task, data: Path | None) -> tuple[Pair, Oracle]:
    """Images or features of a task, each once in a process."""
    suite = SUITES[suite_name]
    root = None if suite.folder is None or data is None else data / suite.folder
    spec = DataSpec(root, default_cache(), find_backbone(suite.backbone).size)
    source, target = load_domains(task, spec)
    config = configure(suite, task, 0, BENCHMARKS[task.dataset].n_classes, data)
    return freeze(Pair(source, target.images), config, spec.cache), Oracle(target)


def outputs_of(run: Run) -> Arrays:
    """What validators may see of a run as it stands, under names like `target.logits`."""
    some = torch.randperm(len(run.trained_on), generator=torch.Generator().manual_seed(0))
    kept = {
        "target": run.predict(run.pair.target),
        "source": run.predict_source(run.held_out),
    }
    if run.finished:  # what costs most, and is compared between settings alone
        kept["mixed"] = run.predict_mixed()
        kept["train"] = run.predict_source(run.trained_on[some[:TRAINED_ON]])
    arrays = {f"{n}.{field}": x.numpy() for n, o in kept.items() for field, x in vars(o).items()}
    arrays["classifier"] = run.method.network.C.weight.detach().numpy()
    return {name: _smaller(name, array) for name, array in arrays.items()}


def _smaller(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind == "i":
        return array.astype(np.int32)
    return array.astype(np.float32 if name.endswith(".logits") else np.float16)


def run_cell(work: Path, suite_name: str, task: Task, number: int, data: Path | None) -> None:
    """Train one setting on one task, keeping its outputs and accuracies of each rung."""
    if is_recorded(work, suite_name, task, number, data):
        return
    torch.set_num_threads(1)
    pair, oracle = load(suite_name, task, data)
    config = configure(SUITES[suite_name], task, number, len(pair.classes), data)
    run = Run(task, config, pair)
    scores: dict[str, dict[str, float]] = {}
    try:
        while not run.finished:
            run.step(config.next_rung(run.step_count) - run.step_count)
            arrays = outputs_of(run)
            if not np.isfinite(arrays["target.logits"]).all():
                raise NonFinite("the target's predictions are not finite")
            _write_arrays(outputs_path(work, task, number, run.step_count), arrays)
            predicted = torch.from_numpy(arrays["target.logits"]).argmax(dim=1)
            scores[str(run.step_count)] = oracle.score(predicted)
    except NonFinite:
        pass  # the run is lost from here on; a search could not choose it either
    record = {"config": config.to_dict(), "scores": scores, "finished": run.finished}
    told = accuracy_path(work, task, number)
    told.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(told, json.dumps(record).encode())


def is_recorded(work: Path, suite_name: str, task: Task, number: int, data: Path | None) -> bool:
    """Whether this very setting was run; one of an earlier range or suite is run anew."""
    told = accuracy_path(work, task, number)
    if not told.exists():
        return False
    known = completed(json.loads(told.read_text(encoding="utf-8"))["config"])
    n_classes = BENCHMARKS[task.dataset].n_classes
    wanted = configure(SUITES[suite_name], task, number, n_classes, data).to_dict()
    return known | {"weights": None} == wanted | {"weights": None}  # their folder may have moved


def accuracy_path(work: Path, task: Task, number: int) -> Path:
    return work / "oracle" / task.slug / f"{number:03d}.json"


def outputs_path(work: Path, task: Task, number: int, step: int) -> Path:
    return work / "outputs" / task.slug / f"{number:03d}-{step:05d}.npz"


def _write_arrays(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def cells(suites: Sequence[str], settings: int) -> Iterator[tuple[str, Task, int]]:
    """All cells, a setting at a time: after any prefix the tasks have about equally many."""
    for number in range(REFERENCES + settings):
        for name in suites:
            for task in SUITES[name].tasks():
                yield name, task, number


def run_all(
    work: Path,
    data: Path | None,
    settings: int,
    processes: int,
    suites: Sequence[str],
    tell: Callable[[str], None],
) -> None:
    """Run the cells that are not there yet."""
    todo = [cell for cell in cells(suites, settings) if not is_recorded(work, *cell, data)]
    with ProcessPoolExecutor(processes) as pool:
        jobs = [pool.submit(run_cell, work, *cell, data) for cell in todo]
        for done, (job, cell) in enumerate(zip(jobs, todo, strict=True), start=1):
            job.result()
            tell(f"{done} of {len(todo)}: {cell[1]} setting {cell[2]}")
