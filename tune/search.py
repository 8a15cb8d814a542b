"""The main job: search the settings of GSDA, or another method, for a task; keep the best model.

python tune/search.py --task A2D
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    # Python puts this file's folder first on the path; what is imported here lies one above.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from gsda.data.folders import check_root
from gsda.errors import BadInput
from gsda.methods import METHODS
from gsda.recipes import describe_default as _default
from gsda.tasks import Task
from gsda.validators import DEFAULT_METRIC
from tune.command import program
from tune.group import Group
from tune.history import History
from tune.holdout import SHARE
from tune.journal import read_events
from tune.kind import check_search
from tune.remote import check_unbegun, find_begun
from tune.scope import SCOPES, is_group, members, read_origin
from tune.settings import (
    BAD_USE,
    DEFAULT_MAX_FAILURES,
    DEFAULT_METHOD,
    DEFAULT_TRIALS,
    INTERRUPTED,
    Settings,
    resolve_scope,
)
from tune.shelf import JOURNAL
from tune.space import DEFAULT_FIELDS, SEARCHABLE
from tune.stages import DEFAULT_TOP
from tune.tracked import choose_again
from tune.warmstart import read_earlier

if TYPE_CHECKING:
    from tune.driver import Result


# Options that are fields of `Config`, not searched ones.
_TRAINING = (
    "method steps evaluate_every batch_size features class_weighting target_sampling passes sync "
    "holdout"
).split()


def search(task: Task | Group, **options: Any) -> "Result":
    """Search one task from Python; `options` are those of the command line (`Settings`).

    Raises:
        BadInput: with the sentence that the command line would print.
    """
    unknown = set(options) - {field.name for field in fields(Settings)}
    if unknown:
        raise BadInput(
            f"{sorted(unknown)[0]!r} is no option of a search: see tune.settings.Settings."
        )
    settings = Settings(**options)
    from tune.console import Console
    from tune.driver import search_one  # imports torch, ray and mlflow: not before it is needed

    return search_one(task, settings, Console(options=settings.places()))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = vars(build_parser().parse_args(arguments))
    texts, only_flush = options.pop("task") or [], options.pop("flush")
    quiet, script = options.pop("quiet"), options.pop("json")
    try:
        settings = _read(options)
        if only_flush:
            return _flush(texts, settings, script)
        tasks = _tasks(texts, settings)
        _check_places(tasks, settings)
        return _search(tasks, settings, quiet, script)
    except BadInput as error:
        print(f"{program()}: {error}", file=sys.stderr)
        return BAD_USE
    except KeyboardInterrupt:
        print("\nStopped before anything was begun.", file=sys.stderr)
        return INTERRUPTED


def _tasks(texts: list[str], settings: Settings) -> list[Task | Group]:
    """What is searched; a search that is gone on with by its name alone knows it."""
    named = texts or settings.source is not None or settings.target is not None
    if settings.name is None or not settings.resume or named:
        return resolve_scope(texts, settings)
    spec = History.of(read_events(find_begun(settings, None) / JOURNAL)[0]).spec
    check_search(spec, "--resume")
    tasks = [task for task, _ in members(spec)]
    return [Group(tuple(tasks)) if is_group(spec) else tasks[0]]


def _search(tasks: Sequence[Task | Group], settings: Settings, quiet: bool, script: bool) -> int:
    from tune.console import Console, Script

    console = (Script if script else Console)(options=settings.places(), quiet=quiet)
    console.wait("Starting ...")
    try:
        from tune.driver import search_several  # the seconds that torch and ray take to load

        return search_several(tasks, settings, console)
    finally:
        console.close()


def _flush(texts: list[str], settings: Settings, script: bool) -> int:
    """Deliver what MLflow is owed; the search is named, or the newest of each task."""
    if settings.resume:
        raise BadInput("--flush runs nothing, and --resume does: leave one of them out.")
    tasks = resolve_scope(texts, settings) if settings.name is None and texts else [None]
    if settings.name is None and not texts:
        raise BadInput("--flush needs a search: give its --name, or a --task for the newest.")
    folders = [find_begun(settings, task) for task in tasks]
    uris = [_uri_of(folder, settings) for folder in folders]
    from tune.console import Console, Script
    from tune.delivery import flush  # imports torch and mlflow

    console = (Script if script else Console)(options=settings.places())
    found, remote = zip(folders, uris, strict=True), settings.remote
    return max(flush(folder, uri, settings.promote, console, remote) for folder, uri in found)


def _uri_of(folder: Path, settings: Settings) -> str:
    spec = History.of(read_events(folder / JOURNAL)[0]).spec
    return choose_again(settings.tracking_uri, spec)


def _check_places(tasks: Sequence[Task | Group], settings: Settings) -> None:
    """What a look at the disk tells, before the seconds that torch and ray take to load."""
    if settings.data is not None:
        check_root(settings.data)
    for task in tasks if settings.warm_start and not settings.resume else ():
        read_earlier(task, settings)
    for task in tasks if settings.origin is not None else ():
        read_origin(task, settings)
    for task in tasks if len(tasks) == 1 else ():
        if settings.resume:
            find_begun(settings, task)
        else:
            check_unbegun(settings)


def _read(options: dict[str, Any]) -> Settings:
    overrides = {name: options.pop(name) for name in _TRAINING}
    overrides |= {name: options.pop(f"fix_{name}") for name in SEARCHABLE}
    options["overrides"] = {name: value for name, value in overrides.items() if value is not None}
    if options["search"] is not None:
        options["search"] = tuple(part.strip() for part in options["search"].split(","))
    return Settings(**{name: value for name, value in options.items() if value is not None})


def build_parser() -> argparse.ArgumentParser:
    """All options; None means "not said"."""
    parser = argparse.ArgumentParser(
        prog=program(),
        description="Search the settings of GSDA, or another method, for a transfer task without "
        "target labels, and register the best model.",
        epilog="Exit codes: 0 done, 1 no usable trial, 2 bad use, 3 done but the tracking server "
        "is owed a part of the record, 75 interrupted and resumable.",
    )
    _add_data(parser.add_argument_group("what to adapt"))
    _add_search(parser.add_argument_group("what to search"))
    training = parser.add_argument_group("how to train")
    _add_training(training)
    _add_fixed(training)
    _add_machines(parser.add_argument_group("where to run"))
    _add_record(parser.add_argument_group("the record"))
    _add_output(parser.add_argument_group("what is printed"))
    return parser


def _add_data(group: Any) -> None:
    group.add_argument(
        "--task",
        nargs="+",
        metavar="TASK",
        help="A2D, a qualified office31/A2D, several, or all",
    )
    group.add_argument(
        "--scope",
        help=f"{', '.join(SCOPES)}: a setting for each task (default), one for all tasks that are "
        "named, or that of an earlier search",
    )
    group.add_argument(
        "--from",
        dest="origin",
        metavar="NAME",
        help="with --scope transfer: the search whose winner is used, or the task of one",
    )
    group.add_argument("--dataset", help="default: glyph31 (built in), or office31 with --data")
    group.add_argument("--source", help="a folder of --data, of a task of one's own")
    group.add_argument("--target", help="another; its images need no classes")
    group.add_argument("--data", type=Path, help="folder of the domains: DIR/<domain>/<class>/*")
    group.add_argument(
        "--backbone", help="default: cnn for built-in data, resnet50 for photographs"
    )
    group.add_argument("--weights", help='file of pretrained weights, "default" or "none"')
    group.add_argument(
        "--skip-bad-images", action="store_true", default=None, help="leave out unreadable files"
    )
    group.add_argument("--cache", type=Path, help="folder for decoded images")


def _add_search(group: Any) -> None:
    group.add_argument(
        "--method", metavar="NAME", help=f"{', '.join(METHODS)} (default: {DEFAULT_METHOD})"
    )
    group.add_argument(
        "--trials", type=int, help=f"settings to try beside 2 reference trials ({DEFAULT_TRIALS})"
    )
    group.add_argument("--max-hours", type=float, help="start no trial after so many hours")
    group.add_argument(
        "--search",
        metavar="FIELDS",
        help=f"fields, with commas, of {', '.join(SEARCHABLE)} "
        f"({','.join(DEFAULT_FIELDS)}; other methods have their own)",
    )
    group.add_argument(
        "--warm-start",
        action="append",
        metavar="NAME",
        help="begin with what an earlier search of the same dataset knows; may be repeated",
    )
    group.add_argument("--metric", help=f"label-free score to search by ({DEFAULT_METRIC})")
    group.add_argument(
        "--select", help="the step that is a trial's model: last (default), or best by the metric"
    )
    group.add_argument(
        "--pick",
        metavar="RULE",
        help="what the winner is picked by among finished trials: a score (default: the --metric), "
        "or mean-rank[:SCORE,SCORE...], the mean of the ranks in several",
    )
    group.add_argument(
        "--unseal",
        action="store_true",
        default=None,
        help="let --metric and --pick be oracle/..., which reads target labels; everything "
        "recorded says so",
    )
    group.add_argument("--seed", type=int, help="of the search and of its trials (0)")
    group.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="train the best settings again, with N seeds in all; the best mean wins",
    )
    group.add_argument("--top", type=int, metavar="K", help=f"how many of them ({DEFAULT_TOP})")
    group.add_argument(
        "--refit",
        action="store_true",
        default=None,
        help="train the winner once more, on all of the source (with --holdout)",
    )


def _add_training(group: Any) -> None:
    group.add_argument("--steps", type=int, help=f"iterations of a trial ({_default('steps')})")
    group.add_argument(
        "--evaluate-every",
        type=int,
        help=f"iterations between evaluations ({_default('evaluate_every')})",
    )
    group.add_argument(
        "--batch-size", type=int, help=f"images of each domain in a step ({_default('batch_size')})"
    )
    group.add_argument(
        "--target-sampling", help=f"uniform or pseudo ({_default('target_sampling')})"
    )
    group.add_argument("--features", help="trained, or frozen: cached once, trials take seconds")
    group.add_argument(
        "--finetune-top",
        type=int,
        metavar="K",
        help="train the K best settings found on frozen features end to end",
    )
    group.add_argument(
        "--finetune-steps",
        type=int,
        help="iterations of these (as --steps without frozen features)",
    )
    group.add_argument("--class-weighting", help="none, or pada: for targets of fewer classes")
    group.add_argument(
        "--holdout",
        type=float,
        metavar="SHARE",
        help="share of each class of the source that is kept off the training, for scores that "
        f"judge by it (0; {SHARE} where --metric or --pick needs one)",
    )
    group.add_argument("--passes", help="separate or shared passes of the domains through E")
    group.add_argument("--sync", help="reading of Eq. 10 and 11: batch, squared, relative, sample")


def _add_fixed(group: Any) -> None:
    for name in SEARCHABLE:
        kind = int if name == "n_groups" else float
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            dest=f"fix_{name}",
            metavar="VALUE",
            help=f"{name} where it is not searched, and in the paper's reference trial",
        )


def _add_machines(group: Any) -> None:
    group.add_argument("--device", choices=("auto", "cpu", "cuda"))
    group.add_argument("--cpus-per-trial", type=float, help="processor cores of a trial (1)")
    group.add_argument("--gpus-per-trial", type=float, help="GPUs of a trial, may be a fraction")
    group.add_argument(
        "--address", help="Ray cluster to join: auto, or host:port; default: a Ray of its own"
    )
    group.add_argument(
        "--dashboard",
        action="store_true",
        default=None,
        help="show Ray's own page of workers and logs, to this machine alone",
    )
    group.add_argument(
        "--max-failures",
        type=int,
        help=f"restarts of a trial whose worker died ({DEFAULT_MAX_FAILURES})",
    )


def _add_record(group: Any) -> None:
    group.add_argument("--name", help="of the search; default: glyph31-A2D-001 and so on")
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on with the search of --name, or the newest of --task",
    )
    group.add_argument(
        "--storage", help="folder of all searches (searches), or s3://BUCKET/..., gs://BUCKET/..."
    )
    group.add_argument(
        "--flush",
        action="store_true",
        help="deliver what the tracking server is owed of the search of --name; run nothing",
    )
    group.add_argument("--tracking-uri", help="MLflow's address; default: ./mlflow.db")
    group.add_argument(
        "--promote",
        action="store_true",
        default=None,
        help="let the best model take the alias from a champion that it cannot be compared with",
    )


def _add_output(group: Any) -> None:
    group.add_argument("--quiet", action="store_true", help="plain lines on a terminal, too")
    group.add_argument(
        "--json", action="store_true", help="one JSON object a line, the last one the result"
    )


if __name__ == "__main__":
    sys.exit(main())
