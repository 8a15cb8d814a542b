"""Several tasks of a dataset that are searched as one."""

from collections.abc import Sequence
from dataclasses import dataclass

from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, Task


@dataclass(frozen=True)
class Group:
    """Several tasks of a dataset that are searched as one; in a search it stands for a task."""

    tasks: tuple[Task, ...]

    @property
    def dataset(self) -> str:
        return self.tasks[0].dataset

    @property
    def pair(self) -> str:
        """``all``, or ``A2W+A2D`` where it is a part of the dataset's tasks."""
        known = BENCHMARKS.get(self.dataset)
        if known is not None and set(self.tasks) == set(known.tasks()):
            return "all"
        return "+".join(task.pair for task in self.tasks)

    @property
    def slug(self) -> str:
        """``glyph31-all``: safe in file names."""
        return f"{self.dataset}-{self.pair.replace('+', '_')}"

    def __str__(self) -> str:
        return f"{self.dataset}/{self.pair}"


def grouped(tasks: Sequence[Task]) -> Group:
    """The tasks as one, in the order of their benchmark: named otherwise, they are the same search.

    Raises:
        BadInput: a single one, or of several datasets.
    """
    if len({task.dataset for task in tasks}) > 1:
        raise BadInput("--scope dataset finds one setting for tasks of one dataset: name those.")
    if len(tasks) < 2:
        raise BadInput(
            f"--scope dataset finds one setting for several tasks, and {tasks[0]} is one: "
            "name more of them, or all."
        )
    known = BENCHMARKS.get(tasks[0].dataset)
    order = known.tasks() if known is not None else sorted(tasks, key=str)
    return Group(tuple(sorted(tasks, key=order.index)))


def tasks_of(task: Task | Group) -> tuple[Task, ...]:
    """The tasks that a trial trains."""
    return task.tasks if isinstance(task, Group) else (task,)
