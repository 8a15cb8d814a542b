"""A search from beginning to end: settings, plan, trials, champion."""

import hashlib
import json
import os
import re
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tune import environment

environment.prepare()

import ray  # noqa: E402  (it reads the environment when it is imported)
import torch  # noqa: E402

import gsda  # noqa: E402
from gsda.backbones import find_backbone  # noqa: E402
from gsda.config import Config, source_only  # noqa: E402
from gsda.data.domain import Domain  # noqa: E402
from gsda.data.load import DataSpec, load_domains  # noqa: E402
from gsda.errors import BadInput  # noqa: E402
from gsda.model import build_network, load_pretrained  # noqa: E402
from gsda.recipes import default_backbone, recommend  # noqa: E402
from gsda.tasks import BENCHMARKS, Task  # noqa: E402
from gsda.tracking import default_tracking_uri  # noqa: E402
from tune.console import Console  # noqa: E402
from tune.executor import Plan, Progress, execute, places  # noqa: E402
from tune.history import OPEN, PAPER, SOURCE_ONLY, History, Trial  # noqa: E402
from tune.journal import Journal  # noqa: E402
from tune.record import Mirror  # noqa: E402
from tune.registry import Entry, Outcome, register  # noqa: E402
from tune.settings import Settings  # noqa: E402
from tune.space import build_space  # noqa: E402
from tune.trainable import MODEL_FOLDER  # noqa: E402

DONE, NO_MODEL, BAD_USE, OWED, INTERRUPTED = 0, 1, 2, 3, 75
DEFAULT_TRIALS = 20
JOURNAL = "journal.log"
PATIENCE_S = 30.0
# What a resumed search may be told anew; anything else stands in its journal.
MAY_CHANGE = (
    "trials max_hours device cpus_per_trial gpus_per_trial address name resume storage "
    "tracking_uri promote max_failures cache data"
).split()


@dataclass(frozen=True)
class Result:
    """What a search came to.

    Attributes:
        status: the exit code of the command line.
        best: the finished trial with the largest metric, None if no trial finished.
        outcome: what the registry made of it, None if it was not reached.
    """

    name: str
    status: int
    history: History
    best: Trial | None = None
    outcome: Outcome | None = None


def drive(task: Task, settings: Settings, console: Console) -> Result:
    """Run, or resume, the search of one task.

    Raises:
        BadInput: before anything was started or written.
    """
    folder = _choose_folder(task, settings)
    if settings.resume:
        return _resume(task, settings, folder, console)
    spec = describe(task, settings, folder.name, console)
    folder = _claim(folder, settings)
    journal = Journal(folder / JOURNAL)
    journal.append("search", uuid=uuid.uuid4().hex, spec=spec | {"name": folder.name})
    return _run(task, settings, journal, console)


def _choose_folder(task: Task, settings: Settings) -> Path:
    """The search's own folder: the one named, the next that is free, or the newest to resume."""
    storage = settings.storage.resolve()
    if settings.name is not None:
        folder = storage / settings.name
        if folder.exists() and not settings.resume:
            raise BadInput(
                f"There is a search named {settings.name} in {storage}: "
                "add --resume to go on with it, or choose another --name."
            )
        if settings.resume and not (folder / JOURNAL).is_file():
            raise BadInput(
                f"There is no search named {settings.name} in {storage}: "
                f"check --name and --storage{_known_names(storage)}."
            )
        return folder
    taken = _numbered(storage, task)
    if settings.resume:
        if not taken:
            raise BadInput(f"There is no search of {task} in {storage} to resume: check --storage.")
        return storage / f"{task.slug}-{max(taken):03d}"
    return storage / f"{task.slug}-{max(taken, default=0) + 1:03d}"


def _numbered(storage: Path, task: Task) -> list[int]:
    pattern = re.compile(re.escape(task.slug) + r"-(\d{3,})")
    names = [path.name for path in storage.iterdir()] if storage.is_dir() else []
    return [int(match.group(1)) for name in names if (match := pattern.fullmatch(name))]


def _known_names(storage: Path) -> str:
    if not storage.is_dir():
        return ""
    names = sorted(path.parent.name for path in storage.glob(f"*/{JOURNAL}"))
    return f" (there are: {', '.join(names)})" if names else ""


def _claim(folder: Path, settings: Settings) -> Path:
    """Make the folder; a search without a name steps aside if another was faster."""
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError as error:
            if settings.name is not None:
                raise BadInput(f"There is a search named {folder.name} already.") from error
            stem, _, number = folder.name.rpartition("-")
            folder = folder.with_name(f"{stem}-{int(number) + 1:03d}")
        except OSError as error:
            raise BadInput(
                f"{folder} cannot be made ({error.strerror}): choose another --storage."
            ) from error


def describe(task: Task, settings: Settings, name: str, console: Console) -> dict[str, Any]:
    """Everything that a search is, in plain values, as its journal keeps it.

    Raises:
        BadInput: whatever is wrong with data, weights, settings or device.
    """
    backbone = settings.backbone or default_backbone(task)
    data = DataSpec(
        root=None if settings.data is None else settings.data.resolve(),
        cache=settings.cache.resolve(),
        size=find_backbone(backbone).size,
        skip_bad=settings.skip_bad_images,
    )
    choose_device(settings.device)
    source, target = load_domains(task, data, console.preparing)
    n_classes = len(source.classes)
    base = _base(task, settings, n_classes, backbone)
    build_space(settings.chosen_fields, n_classes)
    load_pretrained(build_network(backbone, n_classes, base.bottleneck, 0), backbone, base.weights)
    known = BENCHMARKS.get(task.dataset)
    return {
        "name": name,
        "task": str(task),
        "dataset": task.dataset,
        "data_title": known.title if known else f"images in {data.root}",
        "data": data.to_dict(),
        "digest": _digest(source, target),
        "images": [len(source), len(target)],
        "classes": n_classes,
        "backbone": backbone,
        "base": base.to_dict(),
        "references": {
            SOURCE_ONLY: source_only(base).to_dict(),
            PAPER: base.to_dict(),
        },
        "search": list(settings.chosen_fields),
        "trials": settings.trials or DEFAULT_TRIALS,
        "metric": settings.chosen_metric,
        "seed": settings.seed or 0,
        "version": gsda.__version__,
    }


def _base(task: Task, settings: Settings, n_classes: int, backbone: str) -> Config:
    changes = dict(settings.overrides) | {"seed": settings.seed or 0}
    if settings.weights is not None:
        named = settings.weights in ("none", "default")
        changes["weights"] = settings.weights if named else str(Path(settings.weights).resolve())
    return recommend(task, n_classes, backbone, **changes)


def _digest(source: Domain, target: Domain) -> str:
    """Identity of the images of a task, labels of the target left out."""
    text = f"{source.images.digest} {target.images.digest}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _resume(task: Task, settings: Settings, folder: Path, console: Console) -> Result:
    journal = Journal(folder / JOURNAL)
    try:
        _take_up(task, settings, journal, console)
    except BadInput:
        journal.close()
        raise
    return _run(task, settings, journal, console)


def _take_up(task: Task, settings: Settings, journal: Journal, console: Console) -> None:
    """Check that a journal's search can go on as asked, and write down that it does."""
    history, folder = History.of(journal.events), journal.path.parent
    if not history.spec:
        raise BadInput(f"The search {folder.name} never began: delete {folder} and start it anew.")
    choose_device(settings.device)
    _check_same(task, settings, history.spec)
    data = DataSpec.from_dict(history.spec["data"])
    if settings.data is not None:
        data = replace(data, root=settings.data.resolve())
    source, target = load_domains(task, data, console.preparing)
    if _digest(source, target) != history.spec["digest"]:
        raise BadInput(
            f"The images of {task} are not those that {folder.name} began with: "
            "put them back, or start a search of another --name."
        )
    if settings.trials is not None and settings.trials < history.spec["trials"]:
        raise BadInput(
            f"--trials is {settings.trials}, but {folder.name} was asked for "
            f"{history.spec['trials']} already: a search can only be extended."
        )
    if settings.trials is not None and settings.trials > history.spec["trials"]:
        journal.append("extend", trials=settings.trials)
    journal.append("resume")


def _check_same(task: Task, settings: Settings, spec: dict[str, Any]) -> None:
    """Refuse options that contradict what the search was begun with."""
    if str(task) != spec["task"]:
        raise BadInput(f"The search {spec['name']} is of {spec['task']}, not of {task}.")
    said: dict[str, Any] = {
        name: value
        for name, value in asdict(settings).items()
        if name not in MAY_CHANGE and value is not None and value is not False
    }
    said |= said.pop("overrides", {})
    stored = spec | spec["base"] | {"skip_bad_images": spec["data"]["skip_bad"]}
    if said.get("weights") not in (None, "none", "default"):
        said["weights"] = str(Path(said["weights"]).resolve())
    for name, value in said.items():
        if json.loads(json.dumps(value)) != stored.get(name):
            option = "--" + name.replace("_", "-")
            raise BadInput(
                f"{option} is {value}, but {spec['name']} was begun with {stored.get(name)}: "
                f"leave {option} out to resume it."
            )


def _run(task: Task, settings: Settings, journal: Journal, console: Console) -> Result:
    """Drive a search whose journal is open, to its end or its interruption."""
    history = History.of(journal.events)
    plan = _plan(history.spec, settings, journal.path.parent)
    uri = settings.tracking_uri or default_tracking_uri(Path.cwd())
    mirror = Mirror(journal.path, uri)

    def listen(event: dict[str, Any], now: History) -> None:
        mirror.nudge()
        console.event(event, now)

    progress = Progress(plan, journal, listen)
    try:
        mirror.start()
        if _is_unfinished(progress):
            _start_ray(settings, plan)
            console.begin(progress.history, plan.device, places(plan), uri)
            with _sigterm_as_interrupt():
                execute(progress, settings.max_failures)
        else:
            console.begin(progress.history, plan.device, 0, uri)
        return _finish(task, settings, progress, mirror, console, uri)
    finally:
        ray.shutdown()
        mirror.stop()
        journal.close()


def _is_unfinished(progress: Progress) -> bool:
    history = progress.history
    return bool(history.in_state(OPEN)) or len(history.trials) < progress.plan.total


def _plan(spec: dict[str, Any], settings: Settings, folder: Path) -> Plan:
    device = choose_device(settings.device)
    gpus = settings.gpus_per_trial
    data = dict(spec["data"])
    if settings.data is not None:
        data["root"] = str(settings.data.resolve())
    hours = settings.max_hours
    return Plan(
        task=spec["task"],
        data=data,
        base=Config.from_dict(spec["base"]),
        references={k: Config.from_dict(v) for k, v in spec["references"].items()},
        space=build_space(spec["search"], spec["classes"]),
        trials=spec["trials"],
        metric=spec["metric"],
        seed=spec["seed"],
        folder=folder,
        device=device,
        cpus=settings.cpus_per_trial or 1,
        gpus=gpus if gpus is not None else float(device == "cuda"),
        deadline=None if hours is None else time.time() + hours * 3600,
    )


def choose_device(wanted: str | None) -> str:
    """ "cpu" or "cuda".

    Raises:
        BadInput: a device that is not there.
    """
    if wanted in (None, "auto"):
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device is cuda, but torch sees no GPU here: use --device cpu.")
    return str(wanted)


def _start_ray(settings: Settings, plan: Plan) -> None:
    """A local Ray of our own, or the cluster at --address."""
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if settings.address is None:
        ray.init(address="local", include_dashboard=False, object_store_memory=2**28, **common)
    else:
        try:
            ray.init(address=settings.address, **common)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = (str(error).splitlines() or ["no answer"])[0]
            raise BadInput(f"No Ray cluster at --address {settings.address}: {reason}") from error
    have = ray.cluster_resources()
    for kind, option, need in (("CPU", "cpus", plan.cpus), ("GPU", "gpus", plan.gpus)):
        if need > have.get(kind, 0):
            raise BadInput(
                f"A trial needs {need:g} {kind}, and there are {have.get(kind, 0):g}: "
                f"lower --{option}-per-trial."
            )


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a search as Ctrl-C does: stopped cleanly, resumable."""
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _finish(
    task: Task, settings: Settings, progress: Progress, mirror: Mirror, console: Console, uri: str
) -> Result:
    history, journal = progress.history, progress.journal
    name = history.spec["name"]
    unfinished = [trial.number for trial in history.in_state(OPEN)]
    if unfinished or (_is_unfinished(progress) and not progress.is_late):
        journal.append("pause", trials=unfinished)
        mirror.settle(PATIENCE_S)
        console.interrupted(history)
        return Result(name, INTERRUPTED, history)
    best = history.best(history.spec["metric"])
    outcome, owed = None, not mirror.settle(PATIENCE_S)
    if best is not None and not owed:
        outcome = _register(task, settings, progress, best, mirror, uri)
    if journal.events[-1]["event"] != "done":
        journal.append("done")
    owed = not mirror.settle(PATIENCE_S) or (best is not None and outcome is None)
    console.finish(history, best, outcome, mirror.trouble if owed else "", uri)
    status = NO_MODEL if best is None else OWED if owed else DONE
    return Result(name, status, history, best, outcome)


def _register(
    task: Task, settings: Settings, progress: Progress, best: Trial, mirror: Mirror, uri: str
) -> Outcome | None:
    """Hand the best model to the registry; None if MLflow could not be reached."""
    history, projection = progress.history, mirror.projection
    if projection is None:
        return None
    entry = Entry(
        task=task,
        folder=progress.folder_of(best.number) / MODEL_FOLDER,
        run_id=projection.run_of(best.number),
        key=history.key(best.number),
        metric=history.spec["metric"],
        value=best.final[history.spec["metric"]],
        data=history.spec["digest"],
        oracle=best.value("oracle/target_accuracy"),
    )
    try:
        outcome = register(entry, uri, settings.promote)
    except BadInput:
        raise
    except Exception as error:  # whatever MLflow raises, the trials are done and stay done
        mirror.trouble = (str(error).splitlines() or [type(error).__name__])[0][:200]
        return None
    progress.journal.append(
        "champion", trial=best.number, outcome=outcome.sentence, version=outcome.version
    )
    return outcome
