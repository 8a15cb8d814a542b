"""The main job: search the settings of GSDA for a transfer task, and keep the best model.

python tune/search.py --task A2D
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    # Python puts this file's folder first on the path; what is imported here lies one above.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from gsda.errors import BadInput
from gsda.tasks import Task
from tune.settings import Settings, resolve_tasks
from tune.space import DEFAULT_FIELDS, SEARCHABLE

if TYPE_CHECKING:
    from tune.driver import Result


def search(task: Task, **options: Any) -> "Result":
    """Search one task from Python; `options` are those of the command line (`Settings`).

    Raises:
        BadInput: with the sentence that the command line would print.
    """
    return _drive(task, Settings(**options))


def _drive(task: Task, settings: Settings) -> "Result":
    from tune.console import Console
    from tune.driver import drive  # imports torch, ray and mlflow: not before it is needed

    return drive(task, settings, Console(options=settings.places()))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = build_parser()
    options = vars(parser.parse_args(arguments))
    texts = options.pop("task")
    try:
        settings = _read(options)
        tasks = resolve_tasks(texts, settings)
        statuses = []
        for task in tasks:
            named = settings.name is not None and len(tasks) > 1
            own = settings.with_name(f"{settings.name}-{task.pair}") if named else settings
            statuses.append(_drive(task, own).status)
            if statuses[-1] == 75:
                break
    except BadInput as error:
        print(f"search.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped at once. Go on with --resume.", file=sys.stderr)
        return 75
    return max(statuses)


def _read(options: dict[str, Any]) -> Settings:
    overrides = {
        name: options.pop(name)
        for name in ("steps", "evaluate_every", "batch_size", "target_sampling", "passes", "sync")
    }
    overrides |= {name: options.pop(f"fix_{name}") for name in SEARCHABLE}
    options["overrides"] = {name: value for name, value in overrides.items() if value is not None}
    if options["search"] is not None:
        options["search"] = tuple(part.strip() for part in options["search"].split(","))
    return Settings(**{name: value for name, value in options.items() if value is not None})


def build_parser() -> argparse.ArgumentParser:
    """All options; None means "not said"."""
    parser = argparse.ArgumentParser(
        prog="search.py",
        description="Search the settings of GSDA for a transfer task without target labels, and "
        "register the best model.",
        epilog="Exit codes: 0 done, 1 no usable trial, 2 bad use, 3 done but the tracking server "
        "is owed a part of the record, 75 interrupted and resumable.",
    )
    _add_data(parser.add_argument_group("what to adapt"))
    _add_search(parser.add_argument_group("what to search"))
    _add_training(parser.add_argument_group("how to train"))
    _add_machines(parser.add_argument_group("where to run"))
    _add_record(parser.add_argument_group("the record"))
    return parser


def _add_data(group: Any) -> None:
    group.add_argument(
        "--task",
        nargs="+",
        required=True,
        metavar="TASK",
        help="A2D, a qualified office31/A2D, several, or all",
    )
    group.add_argument("--dataset", help="default: glyph31 (built in), or office31 with --data")
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
    group.add_argument("--trials", type=int, help="settings to try beside 2 reference trials (20)")
    group.add_argument("--max-hours", type=float, help="start no trial after so many hours")
    group.add_argument(
        "--search",
        metavar="FIELDS",
        help=f"fields, with commas, of {', '.join(SEARCHABLE)} ({','.join(DEFAULT_FIELDS)})",
    )
    group.add_argument("--metric", help="label-free score to search by (val/bnm)")
    group.add_argument("--seed", type=int, help="of the search and of its trials (0)")


def _add_training(group: Any) -> None:
    group.add_argument("--steps", type=int, help="iterations of a trial")
    group.add_argument("--evaluate-every", type=int, help="iterations between evaluations")
    group.add_argument("--batch-size", type=int, help="images of each domain in a step")
    group.add_argument("--target-sampling", help="uniform or pseudo")
    group.add_argument("--passes", help="separate or shared passes of the domains through E")
    group.add_argument("--sync", help="reading of Eq. 10 and 11: batch, squared, relative, sample")
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
    group.add_argument("--address", help="Ray cluster to join; default: a Ray of its own")
    group.add_argument("--max-failures", type=int, help="restarts of a trial whose worker died (2)")


def _add_record(group: Any) -> None:
    group.add_argument("--name", help="of the search; default: glyph31-A2D-001 and so on")
    group.add_argument(
        "--resume", action="store_true", help="go on with the search of that name, or the newest"
    )
    group.add_argument("--storage", type=Path, help="folder of all searches (searches)")
    group.add_argument("--tracking-uri", help="MLflow's address; default: ./mlflow.db")
    group.add_argument(
        "--promote",
        action="store_true",
        default=None,
        help="let the best model take the alias from a champion that it cannot be compared with",
    )


if __name__ == "__main__":
    sys.exit(main())
