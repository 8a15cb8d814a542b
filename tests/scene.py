"""A search without training: its spec, its plan, and a worker whose reports are a formula."""

import base64
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gsda.config import Config, source_only
from gsda.data.load import DataSpec, identity, load_domains
from gsda.tasks import Task
from tune.cluster import Share
from tune.history import PAPER, SOURCE_ONLY, History
from tune.journal import Event, Journal
from tune.progress import Plan, Progress
from tune.space import build_space
from tune.trainable import Order, Report

TASK = "glyph31/W2D"
METRIC = "val/bnm"
FIELDS = ("alpha", "beta", "n_groups", "tau")
N_CLASSES = 31


def small_config(**changes: Any) -> Config:
    """A configuration that trains in a moment."""
    values: dict[str, Any] = {
        "backbone": "cnn",
        "bottleneck": 8,
        "hidden": 8,
        "lr": 0.03,
        "backbone_lr": 1.0,
        "batch_size": 4,
        "steps": 6,
        "evaluate_every": 2,
    }
    return Config(**(values | changes))


def data_spec(cache: Path) -> dict[str, Any]:
    """glyph31, as a journal keeps it."""
    return {"root": None, "cache": str(cache), "size": 32, "skip_bad": False}


def data_digest(cache: Path) -> str:
    """The identity of the task's images."""
    return identity(*load_domains(Task.parse(TASK), DataSpec.from_dict(data_spec(cache))))


def make_spec(base: Config, trials: int, seed: int = 0, name: str = "scene") -> dict[str, Any]:
    """The spec of a search, as `tune.driver.describe` makes it."""
    return {
        "name": name,
        "task": TASK,
        "dataset": "glyph31",
        "data_title": "built-in drawn letters; not Office-31",
        "data": data_spec(Path("nowhere")),
        "digest": "0123456789abcdef",
        "images": [795, 498],
        "classes": N_CLASSES,
        "backbone": base.backbone,
        "base": base.to_dict(),
        "references": {SOURCE_ONLY: source_only(base).to_dict(), PAPER: base.to_dict()},
        "as_in_paper": True,
        "search": list(FIELDS),
        "trials": trials,
        "metric": METRIC,
        "seed": seed,
        "machines": {},
        "said": {},
        "version": "0",
    }


def make_plan(spec: dict[str, Any], folder: Path, deadline: float | None = None) -> Plan:
    """The plan of a spec, as `tune.driver._plan` makes it."""
    return Plan(
        task=spec["task"],
        data=spec["data"],
        digest=spec["digest"],
        base=Config.from_dict(spec["base"]),
        references={kind: Config.from_dict(v) for kind, v in spec["references"].items()},
        space=build_space(spec["search"], spec["classes"]),
        trials=spec["trials"],
        metric=spec["metric"],
        seed=spec["seed"],
        folder=folder,
        share=Share("cpu", cpus=1, gpus=0),
        max_failures=2,
        deadline=deadline,
    )


def ignore(event: Event, history: History) -> None:
    """A listener."""


def begin(folder: Path, trials: int = 4, base: Config | None = None, seed: int = 0) -> Journal:
    """A journal in which a search was begun."""
    journal = Journal(folder / "journal.log")
    journal.append("search", uuid="5ea4c4", spec=make_spec(base or small_config(), trials, seed))
    return journal


def begin_again(folder: Path) -> Journal:
    """The journal of a search that was begun before."""
    return Journal(folder / "journal.log")


def resume(journal: Journal, deadline: float | None = None) -> Progress:
    """The progress that a journal tells of."""
    spec = History.of(journal.events).spec
    return Progress(make_plan(spec, journal.path.parent, deadline), journal, ignore)


def score(config: dict[str, Any], step: int) -> float:
    """The metric of the pretended training: rising with the steps, best at alpha 0.1, beta 1."""
    miss = abs(math.log10(config["alpha"] + 1e-4) + 1) + abs(math.log10(config["beta"] + 1e-4))
    speed = 0.1 + config["tau"]
    return (1 - math.exp(-speed * step)) / (1 + miss)


def fails(config: dict[str, Any]) -> bool:
    """Whether the pretended training breaks down."""
    return bool(config["n_groups"] in (2, 3, 4))


def reports(order: Order) -> Iterator[Report]:
    """What a worker tells of a trial, beginning with what the driver does not know yet."""
    config = Config.from_dict(order.config)
    for step in config.rungs():
        if fails(order.config) and step > config.evaluate_every:
            yield Report(step, {}, 1.0, False, failure=f"it broke down at step {step}")
            return
        if step not in order.known:
            metrics = {METRIC: score(order.config, step), "loss/C": 1 / step}
            yield Report(step, metrics, 0.5 * step, step == config.steps)


def work(progress: Progress) -> None:
    """Run all trials that are left, one after the other."""
    while (trial := progress.next_trial()) is not None:
        for report in reports(progress.start(trial)):
            if progress.report(trial.number, report):
                break


def summary(history: History) -> list[tuple[Any, ...]]:
    """All of a search that must not depend on how often it was disturbed."""
    return [
        (t.number, t.kind, t.values, t.config, t.reports, t.state, t.reason, t.seconds)
        for t in history.trials.values()
    ]


def in_base64(image: NDArray[np.uint8]) -> str:
    """A PNG file of an image (H, W, 3), as text."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()
