"""`python -m gsda train`: one run, without a search."""

import inspect
import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsda.backbones import BACKBONES, find_backbone
from gsda.config import LEVELS, SYNC_READINGS, Config
from gsda.errors import BadInput, NonFinite
from gsda.naming import resolve_own, resolve_task
from gsda.sealed import ACCURACY
from gsda.stopping import INTERRUPTED
from gsda.tasks import Task
from gsda.watching import Watcher, kept_signals

if TYPE_CHECKING:
    from gsda.train import Trained

DONE, FAILED = 0, 1
_SETTINGS = tuple(field.name for field in fields(Config))


def add_train_command(commands: Any) -> None:
    """Add `train` to a parser's commands: an option for each field of `Config`."""
    train = commands.add_parser(
        "train",
        help="adapt with one setting, without a search",
        description="Adapt to one task with one setting: no search, no Ray, no MLflow.",
        epilog="What is not said is as in the paper where it has the task, else as gsda.recommend "
        "has it. Exit codes: 0 done, 1 the setting cannot be trained, 2 bad use, "
        f"{INTERRUPTED} interrupted and resumable.",
    )
    train.add_argument("--task", help="glyph31/A2D, office31/A2W, or A2D; see `gsda data list`")
    train.add_argument("--output", type=Path, help="folder to leave it in; default: runs/TASK")
    train.add_argument("--resume", action="store_true", help="go on with the run in --output")
    train.add_argument("--data", type=Path, help="folder of the domains: DIR/<domain>/<class>/*")
    train.add_argument("--dataset", help="default: glyph31 (built in), or office31 with --data")
    train.add_argument("--source", help="a folder of --data, of a task of one's own")
    train.add_argument("--target", help="another; its images need no classes")
    train.add_argument("--cache", type=Path, help="folder for decoded images")
    train.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    train.add_argument("--skip-bad-images", action="store_true", help="leave unreadable ones out")
    train.add_argument("--quiet", action="store_true", help="print the result alone")
    _add_settings(train.add_argument_group("settings"))
    train.set_defaults(run=_train)


def _add_settings(group: Any) -> None:
    said = described_settings()
    for field in fields(Config):
        plain = field.type in (int, float)
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=field.type if plain else _levels if field.name == "levels" else str,
            metavar="N" if field.type is int else "X" if plain else "TEXT",
            help=(said.get(field.name, "") + _choices(field.name)).replace("%", "%%"),
        )


def _choices(name: str) -> str:
    """What there is to choose from, where the docstring only says where that stands."""
    known: dict[str, Iterable[str]] = {"levels": LEVELS, "sync": SYNC_READINGS}
    known["backbone"] = BACKBONES
    return f": {', '.join(known[name])}" if name in known else ""


def _levels(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def described_settings() -> dict[str, str]:
    """What each field of `Config` is, in the words of its docstring."""
    _, _, listed = (inspect.getdoc(Config) or "").partition("Attributes:\n")
    said: dict[str, str] = {}
    for names, text in re.findall(r"^    (\w[\w, ]*): (.*(?:\n        .*)*)", listed, re.M):
        for name in names.split(", "):
            said[name] = " ".join(text.replace("`", "").split()).rstrip(".")
    return said


def _train(options: Any) -> int:
    changes = {name: v for name in _SETTINGS if (v := getattr(options, name)) is not None}
    Config.from_dict(changes)  # before torch is loaded
    if "backbone" in changes:
        find_backbone(changes["backbone"])
    task = _named(options)
    output = options.output or _default_output(task)
    _check_places(output, options.resume, options.data)
    watcher = Watcher(options.quiet)
    try:
        with kept_signals():
            trained = _run(options, output, task, changes, watcher)
    except NonFinite as error:
        print(
            f"gsda: This setting cannot be trained ({error}): lower --lr, and name another "
            f"--output than {output}, which keeps what came before.",
            file=sys.stderr,
        )
        return FAILED
    except KeyboardInterrupt:
        lost = "Stopped at once: what came after the last checkpoint, minutes at most, is lost."
        return _tell_interrupted(output, lost if (output / "run.json").exists() else None)
    if trained.model is None:
        return _tell_interrupted(output, "Stopped; nothing is lost.")
    _tell_done(trained, output)
    return DONE


def _run(
    options: Any, output: Path, task: Task | None, changes: dict[str, Any], watcher: Watcher
) -> "Trained":
    from gsda.train import resume, train

    common = {"data": options.data, "device": options.device, "cache": options.cache} | changes
    if options.resume:
        return resume(output, task=task, listener=watcher.listener(), **common)
    assert task is not None
    return train(
        task,
        output,
        listener=watcher.listener(),
        skip_bad_images=options.skip_bad_images,
        source_folder=options.source or "",
        target_folder=options.target or "",
        **common,
    )


def _tell_interrupted(output: Path, what: str | None) -> int:
    if what is None:
        print("\nStopped before anything was begun.", file=sys.stderr)
        return INTERRUPTED
    command = shlex.join(["python", "-m", "gsda", "train", "--resume", "--output", str(output)])
    print(f"{what} Go on with:\n  {command}", file=sys.stderr)
    return INTERRUPTED


def _tell_done(trained: "Trained", output: Path) -> None:
    """The result, and what to do with it."""
    scores = [f"{name.removeprefix('val/')} {trained.metrics[name]:.4f}" for name in _told(trained)]
    print(f"{trained.task}: {', '.join(scores)}")
    if ACCURACY in trained.metrics:
        accuracy = 100 * trained.metrics[ACCURACY]
        print(f"Accuracy on target labels, which the training never saw: {accuracy:.1f}%")
    command = shlex.join(["python", "-m", "gsda", "predict", str(trained.model)])
    print(f"Metrics: {output / 'metrics.jsonl'}\nUse:     {command} IMAGES")


def _told(trained: "Trained") -> list[str]:
    return [name for name in trained.metrics if name.startswith("val/")]


def _named(options: Any) -> Task | None:
    if options.source is not None or options.target is not None:
        named = options.task is not None
        return resolve_own(named, options.dataset, options.data, options.source, options.target)
    if options.task is not None and options.resume and "/" in options.task:
        return Task.parse(options.task)
    if options.task is not None:
        return resolve_task(options.task, options.dataset, options.data)
    if options.resume:
        return None
    raise BadInput(
        "No task is named: give --task glyph31/A2D, or --data with --source and --target."
    )


def _default_output(task: Task | None) -> Path:
    if task is None:
        raise BadInput("--resume needs to know which run: name its --output, or its --task.")
    return Path("runs") / task.slug


def _check_places(output: Path, resume: bool, data: Path | None) -> None:
    """What a look at the disk tells, before the seconds that torch takes to load."""
    there = (output / "run.json").exists()
    if there and not resume:
        raise BadInput(
            f"There is a run in {output} already: add --resume to go on with it, "
            "or name another --output."
        )
    if resume and not there:
        raise BadInput(f"There is no run in {output} to resume: check --output.")
    if data is not None:
        from gsda.data.folders import check_root

        check_root(data)
