"""How right a model is on labelled images.

Labels are read here on purpose, through `gsda.oracle`: what comes of it is for people to read, and
nothing that selects may.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsda.bundle import Predictor
from gsda.console import align
from gsda.data.domain import Domain, Int64
from gsda.data.folders import check_root, scan_folder
from gsda.data.load import DataSpec, Progress, load_domains, prepare
from gsda.errors import BadInput
from gsda.oracle import Oracle
from gsda.tasks import BENCHMARKS, Benchmark, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Evaluation:
    """Counts of what was taken for what.

    Attributes:
        confusion: (r, r), images of a class (row) that were taken for a class (column).
        skipped: names of files that could not be read.
    """

    classes: tuple[str, ...]
    confusion: Int64
    skipped: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of images that were classified right."""
        return float(np.trace(self.confusion) / self.images)

    @property
    def class_mean(self) -> float:
        """Mean over the classes that have images of the share that was right."""
        counts = self.confusion.sum(axis=1)
        there = counts > 0
        return float((np.diag(self.confusion)[there] / counts[there]).mean())

    def per_class(self) -> dict[str, dict[str, Any]]:
        """Of each class its images, accuracy, and what its images were mostly mistaken for."""
        rows: dict[str, dict[str, Any]] = {}
        for k, name in enumerate(self.classes):
            row = self.confusion[k]
            n = int(row.sum())
            wrong = np.where(np.arange(len(row)) == k, 0, row)
            mistaken = int(wrong.argmax())
            rows[name] = {
                "images": n,
                "accuracy": float(row[k] / n) if n else None,
                "mistaken_for": self.classes[mistaken] if wrong[mistaken] else None,
                "times": int(wrong[mistaken]),
            }
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "images": self.images,
            "accuracy": self.accuracy,
            "class_mean": self.class_mean,
            "classes": self.per_class(),
            "confusion": self.confusion.tolist(),
            "skipped": list(self.skipped),
        }

    def table(self) -> list[str]:
        """Lines for a screen."""
        rows = [["class", "images", "accuracy", "mostly mistaken for"]]
        for name, row in self.per_class().items():
            share = "-" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f}%"
            wrong = f"{row['mistaken_for']} ({row['times']})" if row["times"] else ""
            rows.append([name, str(row["images"]), share, wrong])
        overall = f"{100 * self.accuracy:.1f}% of {self.images} images are classified right"
        return [*align(rows), "", f"{overall}; mean over classes {100 * self.class_mean:.1f}%"]


def evaluate(
    predictor: Predictor,
    domain: Domain,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare a model's predictions with the labels of a domain.

    Raises:
        BadInput: the domain has no labels, or other classes than the model.
    """
    if domain.classes != predictor.classes:
        raise BadInput(
            f"The images of {domain.name} have other classes than the model: "
            "take those that it was trained for."
        )
    n, step = len(domain), batch_size or predictor.batch_size
    index = {name: k for k, name in enumerate(predictor.classes)}
    predicted = np.zeros(n, dtype=np.int64)
    for start in range(0, n, step):
        chosen = np.arange(start, min(start + step, n))
        names, _ = predictor.predict_sized(
            [domain.images.gather(chosen).astype(np.uint8, copy=False)]
        )
        predicted[chosen] = [index[name] for name in names.tolist()]
        if progress is not None:
            progress(int(chosen[-1]) + 1, n)
    confusion = Oracle(domain).confusion(predicted, len(predictor.classes))
    if not confusion.any():
        raise BadInput(
            f"{domain.name} has no labels to compare with: put its images into folders of classes."
        )
    return Evaluation(predictor.classes, confusion, getattr(domain.images, "skipped", ()))


def labelled_folder(
    predictor: Predictor,
    folder: Path,
    cache: Path,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Domain:
    """The images of ``folder/<class>/*``, of classes of the model, decoded.

    Raises:
        BadInput: no such folder, a class that the model has not, or a file that cannot be read.
    """
    check_root(folder)
    folder = folder.resolve()
    listing = scan_folder(folder, folder.name, predictor.classes, missing_ok=True)
    return prepare(listing, predictor.size, cache, skip_bad, progress)


def built_in_domain(name: str, cache: Path, progress: Progress | None = None) -> Domain:
    """A domain of a built-in benchmark, written ``glyph31/D``, as its tasks have it for a target.

    Raises:
        BadInput: there is none.
    """
    benchmark, domain = find_domain(name)
    task = next(task for task in benchmark.tasks() if task.target == domain)
    from gsda.data.glyphs import SIZE

    return load_domains(task, DataSpec(None, cache, SIZE), progress)[1]


def find_domain(name: str) -> tuple[Benchmark, str]:
    """The benchmark and the domain of ``glyph31/D``.

    Raises:
        BadInput: there is none that is built in.
    """
    dataset, _, domain = name.partition("/")
    known = BENCHMARKS.get(dataset)
    if known is None or not known.built_in or domain not in known.domains:
        there = [f"{b.name}/{d}" for b in BENCHMARKS.values() if b.built_in for d in b.domains]
        raise BadInput(f"{name} is no domain of built-in data: choose one of {', '.join(there)}.")
    return known, domain


def default_domain(manifest: dict[str, Any]) -> str:
    """The target of the task that a model was trained for, if it is built in.

    Raises:
        BadInput: it is not.
    """
    text = str(manifest.get("task", ""))
    if "/" in text:
        task = Task.parse(text)
        known = BENCHMARKS.get(task.dataset)
        if known is not None and known.built_in:
            return f"{task.dataset}/{task.target}"
    raise BadInput("Which images? Name a folder of labelled ones, DIR/<class>/*, with --data.")


def draw(evaluation: Evaluation, path: Path, title: str) -> None:
    """The confusion as a picture: a row for each class, its colour the share of the class.

    Raises:
        BadInput: the file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"text.parse_math": False}):  # names may hold dollars
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        _draw_confusion(figure, evaluation, title)
        try:
            figure.savefig(path, dpi=120)
        except (OSError, ValueError) as error:
            raise BadInput(
                f"{path} cannot be drawn ({error}): choose another --picture."
            ) from error


def _draw_confusion(figure: "Figure", evaluation: Evaluation, title: str) -> None:
    counts = evaluation.confusion
    r = len(counts)
    side = min(max(4.5, 0.3 * r + 2.5), 24.0)
    figure.set_size_inches(side + 1, side)
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = max(4.0, min(9.0, 300 / r))
    axes.set_xticks(range(r), [_short(name) for name in evaluation.classes], rotation=90)
    axes.set_yticks(range(r), [_short(name) for name in evaluation.classes])
    axes.tick_params(labelsize=size, length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{title}\n{100 * evaluation.accuracy:.1f}% of {evaluation.images} images right")
    if r <= 40:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size - 1)
    figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.8)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"
