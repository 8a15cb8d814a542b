"""One adaptation from images to a model in a folder: without a search, and resumable.

The folder holds `run.json` (what the run is), `checkpoints/` (while it is not done),
`metrics.jsonl` (a line for each evaluation) and, in the end, `model/`. The truth is the newest
checkpoint; the metrics are what it remembers.
"""

import fcntl
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsda.backbones import find_backbone
from gsda.bundle import MANIFEST, manifest_of, save_bundle
from gsda.checkpoint import clear, load_newest, save_step
from gsda.config import Config, completed
from gsda.data.domain import Domain, Pair
from gsda.data.load import DataSpec, Progress, default_cache, identity, load_domains
from gsda.device import choose_device
from gsda.errors import BadInput
from gsda.features import freeze
from gsda.files import write_atomically
from gsda.oracle import Oracle
from gsda.recipes import default_backbone, recommend
from gsda.run import Run
from gsda.tasks import Task
from gsda.version import __version__

DESCRIPTION, METRICS, CHECKPOINTS, MODEL = "run.json", "metrics.jsonl", "checkpoints", "model"
RULE = "none: one run, as it stood after its last step"
# Iterations between two looks at the losses: on a GPU each look waits for the device.
BLOCK, BLOCK_GPU = 1, 20
SAVE_S = 300.0  # between checkpoints where evaluations are further apart

Row = dict[str, float]


@dataclass
class Listener:
    """Who wants to know how a run goes; each part may be left out.

    Attributes:
        preparing: called with (done, total) while images are decoded.
        begun: called once with the run, at whatever step it begins.
        stepped: called with the step and the mean losses since the last evaluation.
        evaluated: called with a row of metrics, `step` among them.
        note: called with a sentence for the user.
        stop: asked before each block of iterations; true ends the run, resumable.
    """

    preparing: Progress | None = None
    begun: Callable[[Run], None] = lambda _: None
    stepped: Callable[[int, Row], None] = lambda _step, _losses: None
    evaluated: Callable[[Row], None] = lambda _: None
    note: Callable[[str], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Attributes:
        history: a row of metrics for each evaluation; `oracle/` ones chose nothing.
        model: the folder of the model, for `load_bundle` and `gsda predict`; None if not done.
    """

    task: Task
    config: Config
    history: list[Row]
    model: Path | None

    @property
    def metrics(self) -> Row:
        """The last row."""
        return self.history[-1] if self.history else {}


@dataclass
class Book:
    """What a run has told so far, in its folder and in its checkpoints.

    Attributes:
        sums: of each loss over the `n` iterations since the last evaluation.
    """

    folder: Path
    history: list[Row] = field(default_factory=list)
    sums: Row = field(default_factory=dict)
    n: int = 0
    saved_at: float = field(default_factory=time.monotonic)

    def add(self, losses: Row, n: int) -> Row:
        """Take in the means of `n` iterations; returns the means since the last evaluation."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + n * value
        self.n += n
        return {name: total / self.n for name, total in self.sums.items()}

    def close(self, row: Row) -> None:
        """An evaluation was made."""
        self.history.append(row)
        self.sums, self.n = {}, 0

    def save(self, run: Run) -> None:
        """Make all of it safe; the metrics' file follows the checkpoint."""
        state = {"run": run.state_dict(), "history": self.history, "sums": self.sums, "n": self.n}
        with _writing(self.folder):
            save_step(self.folder / CHECKPOINTS, run.step_count, state)
            self.write_metrics()
        self.saved_at = time.monotonic()

    def write_metrics(self) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in self.history)
        write_atomically(self.folder / METRICS, lines.encode())

    def restore(self, run: Run, state: dict[str, Any]) -> None:
        """Undo `save`."""
        run.load_state_dict(state["run"])
        self.history, self.sums, self.n = state["history"], state["sums"], state["n"]
        self.write_metrics()


def train(
    task: Task | str,
    output: Path | str,
    *,
    data: Path | str | None = None,
    device: str = "auto",
    listener: Listener | None = None,
    cache: Path | None = None,
    skip_bad_images: bool = False,
    source_folder: str = "",
    target_folder: str = "",
    **changes: Any,
) -> Trained:
    """Adapt to one task with one setting, and leave the model in `output`.

    Args:
        task: ``"glyph31/A2D"``. data: the folder of the domains; None for built-in data.
        source_folder, target_folder: as in `DataSpec`.
        changes: fields of `Config`; the others are as `recommend` has them.

    Raises:
        BadInput: whatever is wrong with settings, data or device, or a run is in `output` already.
        NonFinite: a loss became NaN or infinite.
    """
    task = Task.parse(task) if isinstance(task, str) else task
    output, listener = Path(output), listener or Listener()
    if (output / DESCRIPTION).exists():
        raise BadInput(
            f"There is a run in {output} already: go on with it (--resume), or name another place."
        )
    backbone = changes.pop("backbone", None) or default_backbone(task)
    root = None if data is None else Path(data).resolve()
    size, cache = find_backbone(backbone).size, (cache or default_cache()).resolve()
    spec = DataSpec(root, cache, size, skip_bad_images, source_folder, target_folder)
    device = choose_device(device)
    source, target = load_domains(task, spec, listener.preparing)
    _note_skipped(source, target, listener)
    config = recommend(task, len(source.classes), backbone, **_absolute(changes))
    run = _make_run(task, config, spec, source, target, device, listener, pretrained=True)
    description = {
        "task": str(task),
        "config": config.to_dict(),
        "data": spec.to_dict(),
        "images": identity(source, target),
        "version": __version__,
    }
    with _held(output):
        text = json.dumps(description, indent=2, ensure_ascii=False)
        with _writing(output):
            write_atomically(output / DESCRIPTION, text.encode())
        return _go_on(run, Book(output), listener)


def resume(
    output: Path | str,
    *,
    task: Task | str | None = None,
    data: Path | str | None = None,
    device: str = "auto",
    listener: Listener | None = None,
    cache: Path | None = None,
    **changes: Any,
) -> Trained:
    """Go on with the run in `output`, on the CPU to the same bits as if it had never stopped.

    Args:
        data, cache: where images and decoded images are now, if they were moved.
        task, changes: may be said again, and must be as the run was begun.

    Raises:
        BadInput: no run there, one that is being trained, or anything that contradicts it.
    """
    output, listener = Path(output), listener or Listener()
    known = read_description(output)
    config, spec = Config.from_dict(known["config"]), DataSpec.from_dict(known["data"])
    _check_said(output, known, task, _absolute(changes))
    spec = _moved(spec, data, cache)
    task = Task.parse(known["task"])
    with _held(output):
        if (output / MODEL / MANIFEST).is_file():
            return Trained(task, config, read_history(output), output / MODEL)
        device = choose_device(device)
        source, target = load_domains(task, spec, listener.preparing)
        if identity(source, target) != known["images"]:
            raise BadInput(
                f"The images of {task} are not those that the run in {output} began with: "
                "put them back, or train into another place."
            )
        state, complaints = load_newest(output / CHECKPOINTS)
        for sentence in complaints:
            listener.note(f"{sentence}; {'going on from an earlier one' if state else 'beginning'}")
        pretrained = state is None
        run = _make_run(task, config, spec, source, target, device, listener, pretrained)
        book = Book(output)
        if state is not None:
            book.restore(run, state)
        return _go_on(run, book, listener)


def read_description(output: Path) -> dict[str, Any]:
    """What the run in a folder is: its task, configuration, data.

    Raises:
        BadInput: there is no run, or its description is damaged.
    """
    try:
        known: dict[str, Any] = json.loads((output / DESCRIPTION).read_text(encoding="utf-8"))
        Config.from_dict(known["config"]), DataSpec.from_dict(known["data"]), known["images"]
    except OSError as error:
        raise BadInput(
            f"There is no run in {output} to resume: name the --output of one."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{output / DESCRIPTION} is damaged: train into another --output."
        ) from error
    return known


def read_history(output: Path) -> list[Row]:
    """The rows of `metrics.jsonl`."""
    lines = (output / METRICS).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _absolute(changes: dict[str, Any]) -> dict[str, Any]:
    """The same, with the whole path of a file of weights: a resume may come from elsewhere."""
    weights = changes.get("weights")
    if weights in (None, "none", "default"):
        return changes
    return changes | {"weights": str(Path(weights).resolve())}


def _check_said(
    output: Path, known: dict[str, Any], task: Task | str | None, changes: dict[str, Any]
) -> None:
    """What is said again is as it was, in whatever order."""
    said: dict[str, Any] = {} if task is None else {"task": str(task)}
    begun = {"task": known["task"]} | completed(known["config"])
    for name, value in (said | changes).items():
        if name not in begun or _plain(value) != _plain(begun[name]):
            raise BadInput(
                f"{name} is {value}, but the run in {output} was begun with {begun.get(name)}: "
                f"leave {name} out to go on with it."
            )


def _plain(value: Any) -> Any:
    """The same for levels in another order."""
    return sorted(value) if isinstance(value, (tuple, list)) else value


def _moved(spec: DataSpec, data: Path | str | None, cache: Path | None) -> DataSpec:
    root = spec.root if data is None else Path(data).resolve()
    cache = spec.cache if cache is None else cache.resolve()
    return DataSpec.from_dict(spec.to_dict() | {"root": root, "cache": cache})


def _note_skipped(source: Domain, target: Domain, listener: Listener) -> None:
    for domain in (source, target):
        for name in getattr(domain.images, "skipped", ()):
            listener.note(f"left out, as it cannot be read: {name} of {domain.name}")


def _make_run(
    task: Task,
    config: Config,
    spec: DataSpec,
    source: Domain,
    target: Domain,
    device: str,
    listener: Listener,
    pretrained: bool,
) -> Run:
    pair = Pair(source, target.images)
    pair = freeze(pair, config, spec.cache, device=device, progress=listener.preparing)
    return Run(task, config, pair, Oracle(target), device=device, pretrained=pretrained)


@contextmanager
def _held(output: Path) -> Iterator[None]:
    """The folder, made if need be, for this process alone.

    Raises:
        BadInput: another process trains there, or it cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = (output / ".lock").open("ab")
    except OSError as error:
        raise BadInput(
            f"{output} cannot be written ({error.strerror}): choose another --output."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(
                f"The run in {output} is being trained by another process: wait for it."
            ) from error
        yield


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """What is written to the run's folder; a full disk gets a sentence.

    Raises:
        BadInput: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"{output} cannot be written ({error.strerror or error}): make room or allow it, and "
            "go on with --resume, from the last checkpoint."
        ) from error


def _go_on(run: Run, book: Book, listener: Listener) -> Trained:
    """Train to the end, or until told to stop."""
    listener.begun(run)
    while not run.finished and _reach_rung(run, book, listener):
        row = {"step": run.step_count} | book.add({}, 0) | run.evaluate()
        book.close(row)
        book.save(run)
        listener.evaluated(row)
    if not run.finished:
        book.save(run)
        return Trained(run.task, run.config, book.history, None)
    model = book.folder / MODEL
    with _writing(book.folder):
        save_bundle(model, run.network, manifest_of(run, book.history[-1], {"rule": RULE}))
    clear(book.folder / CHECKPOINTS)
    return Trained(run.task, run.config, book.history, model)


def _reach_rung(run: Run, book: Book, listener: Listener) -> bool:
    """Train up to the next evaluation; False if stopped before it.

    Blocks begin at multiples of their length, so that a stop does not change any sum.
    """
    block = BLOCK if run.device.type == "cpu" else BLOCK_GPU
    rung = run.config.next_rung(run.step_count)
    while run.step_count < rung:
        if listener.stop():
            return False
        if time.monotonic() - book.saved_at > SAVE_S:
            book.save(run)
        n = min(block - run.step_count % block, rung - run.step_count)
        listener.stepped(run.step_count + n, book.add(run.step(n), n))
    return True
