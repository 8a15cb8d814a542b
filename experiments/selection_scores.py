"""Label-free scores of kept outputs: what `experiments.selection_cells` left, and no accuracy.

Each cell is scored once, and again only when the code of a validator has changed.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gsda.outputs
import gsda.validators
from experiments.selection_cells import REFERENCES, outputs_path
from gsda.files import write_atomically
from gsda.outputs import Labelled, Mixed, Outputs
from gsda.tasks import Task
from gsda.validators import VALIDATORS, ensemble_agreement, validate

Curve = dict[int, dict[str, float]]  # scores by step
ENSEMBLE = "ensemble"
_KINDS = {"target": Outputs, "source": Labelled, "train": Labelled, "mixed": Mixed}


@dataclass(frozen=True)
class Scored:
    """A setting of a task that was trained to its end, as a user without target labels knows it.

    Attributes:
        number: of the cell; the first `REFERENCES` are source-only and the paper's setting.
        curve: its scores at each evaluation.
    """

    number: int
    curve: Curve

    @property
    def is_reference(self) -> bool:
        return self.number < REFERENCES

    @property
    def final(self) -> dict[str, float]:
        """The scores after the last step."""
        return self.curve[max(self.curve)]


def score_task(work: Path, task: Task, numbers: Sequence[int]) -> list[Scored]:
    """The cells `numbers` of a task, with the agreement of each with the ensemble of them all."""
    torch.set_num_threads(1)
    found = [Scored(number, _curve(work, task, number)) for number in numbers]
    ends = [read(outputs_path(work, task, s.number, max(s.curve)))["target"] for s in found]
    for scored, agreement in zip(found, ensemble_agreement(ends) if ends else [], strict=True):
        scored.final[ENSEMBLE] = agreement
    return found


def _curve(work: Path, task: Task, number: int) -> Curve:
    path = work / "scores" / task.slug / f"{number:03d}.json"
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["code"] == code():
            return {int(step): scores for step, scores in kept["curve"].items()}
    steps = sorted(int(p.stem.partition("-")[2]) for p in _kept(work, task, number))
    curve = {
        step: validate(VALIDATORS, **read(outputs_path(work, task, number, step))) for step in steps
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"code": code(), "curve": curve}).encode())
    return curve


def _kept(work: Path, task: Task, number: int) -> Iterator[Path]:
    return outputs_path(work, task, number, 0).parent.glob(f"{number:03d}-*.npz")


@lru_cache(maxsize=1)
def code() -> str:
    """A digest of all that a score depends on beside the outputs."""
    digest = hashlib.sha256()
    folder = Path(gsda.validators.__file__).parent
    for path in [*sorted(folder.glob("*.py")), Path(gsda.outputs.__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def read(path: Path) -> dict[str, Any]:
    """What `validate` may be given of a cell, by the names in `gsda.validators.NEEDS`.

    The source's class prior is that of its held-out images, which were taken of each class alike.
    """
    with np.load(path) as file:
        arrays = {name: torch.from_numpy(_widened(file[name])) for name in file}
    known: dict[str, Any] = {"classifier": arrays["classifier"]}
    for name, kind in _KINDS.items():
        fields = {
            key.removeprefix(f"{name}."): x
            for key, x in arrays.items()
            if key.startswith(f"{name}.")
        }
        if fields:
            known[name] = kind(**fields)
    counts = torch.bincount(
        arrays["source.labels"], minlength=arrays["target.logits"].shape[1]
    ).double()
    known["prior"] = counts / counts.sum()
    return known


def _widened(array: Any) -> Any:
    return array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
