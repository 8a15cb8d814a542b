"""Which task, and which folder of data, a command line means."""

import re
from pathlib import Path

from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, Benchmark, Task, own_task

BUILT_IN_DATASET, FOLDER_DATASET = "glyph31", "office31"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def resolve_task(text: str, dataset: str | None, data: Path | None) -> Task:
    """The task of a bare id (``A2D``, of the chosen dataset) or of a qualified one.

    Args:
        dataset, data: what `--dataset` and `--data` say; None where they are not there.

    Raises:
        BadInput: an unknown task or dataset, or a qualified id that contradicts the flags.
    """
    if "/" in text:
        task = Task.parse(text)
        if dataset is not None and task.dataset != dataset:
            raise BadInput(f"Task {text} is not of --dataset {dataset}: leave one out.")
    else:
        task = Task.parse(f"{known_dataset(dataset, data)}/{text}")
    known = BENCHMARKS.get(task.dataset)
    if known is not None and known.built_in and data is not None:
        raise BadInput(f"{task.dataset} is built in: leave --data out, or name another --dataset.")
    if (known is None or not known.built_in) and data is None:
        raise BadInput(f"{task.dataset} is not built in: give the folder of its domains as --data.")
    return task


def chosen_dataset(dataset: str | None, data: Path | None) -> str:
    """The dataset of a bare task id, by the flags alone."""
    return dataset or (BUILT_IN_DATASET if data is None else FOLDER_DATASET)


def known_dataset(dataset: str | None, data: Path | None) -> str:
    """The same, if there is such a benchmark, or it can name a user's own folder.

    Raises:
        BadInput: neither.
    """
    name = chosen_dataset(dataset, data)
    if name not in BENCHMARKS and (data is None or not NAME.fullmatch(name)):
        raise BadInput(f"Unknown dataset {name!r}: choose one of {', '.join(BENCHMARKS)}.")
    return name


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name.

    Raises:
        BadInput: there is none.
    """
    if name not in BENCHMARKS:
        raise BadInput(f"Unknown dataset {name!r}: choose one of {', '.join(BENCHMARKS)}.")
    return BENCHMARKS[name]


def resolve_own(
    named: bool, dataset: str | None, data: Path | None, source: str | None, target: str | None
) -> Task:
    """The task of two folders of a user's own, given as `--data`, `--source` and `--target`.

    Args:
        named: whether a `--task` was given, too.

    Raises:
        BadInput: not all three, or a task beside them.
    """
    if data is None or source is None or target is None:
        raise BadInput("--source and --target name two folders of --data: give all three.")
    if named:
        raise BadInput("--source and --target make the task: leave --task out.")
    return own_task(data, source, target, dataset)
