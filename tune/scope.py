"""What a search is about: one task, all tasks of a dataset at once, or a setting from elsewhere.

- "task", the default: each task has a search, and a setting, of its own.
- "dataset": one setting for several tasks of a dataset, as in the paper. A trial trains all of
  them, and is guided by the mean of their scores (`tune.suite`).
- "transfer": nothing is searched. The winner of an earlier search is trained on other tasks.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsda.config import Config
from gsda.errors import BadInput
from gsda.tasks import Task
from tune.choice import choose
from tune.group import Group
from tune.history import TRANSFERRED, History
from tune.holdout import check_refit, chosen_share
from tune.journal import read_events
from tune.kind import check_search
from tune.remote import find_there
from tune.seal import check_origins
from tune.shelf import JOURNAL, find_named, find_search, method_of
from tune.space import OF_ADAPTATION

if TYPE_CHECKING:
    from tune.settings import Settings

TASK, DATASET, TRANSFER = "task", "dataset", "transfer"
SCOPES = (TASK, DATASET, TRANSFER)
OPTION = "--from"


def members(spec: Mapping[str, Any]) -> list[tuple[Task, str]]:
    """The tasks of a spec, each with the identity of its images."""
    known = spec.get("tasks") or [{"task": spec["task"], "digest": spec["digest"]}]
    return [(Task.parse(entry["task"]), entry["digest"]) for entry in known]


def is_group(spec: Mapping[str, Any]) -> bool:
    """Whether a trial trains several tasks."""
    return bool(spec.get("tasks"))


def digest_of(digests: Sequence[str]) -> str:
    """One identity for the images of several tasks."""
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]


def check_scope(scope: str | None, origin: str | None, trials: int | None, resume: bool) -> None:
    """Refuse what does not go together.

    Raises:
        BadInput: with the option that is missing or too many.
    """
    if scope is not None and scope not in SCOPES:
        raise BadInput(f"--scope is {scope!r}: choose one of {', '.join(SCOPES)}.")
    if origin is not None and scope != TRANSFER:
        raise BadInput(f"{OPTION} names a search whose winner is used: add --scope transfer.")
    if scope == TRANSFER and origin is None and not resume:
        raise BadInput(f"--scope transfer needs {OPTION}: name a search, or the task of one.")
    if scope == TRANSFER and trials is not None:
        raise BadInput("--scope transfer searches nothing: leave --trials out.")


@dataclass(frozen=True)
class Origin:
    """The winner of an earlier search, to be used on another task.

    Attributes:
        history: of that search. config: the winner's, as `Config.to_dict`.
    """

    history: History
    number: int
    config: dict[str, Any]

    @property
    def backbone(self) -> str:
        return str(self.history.spec["backbone"])

    @property
    def metric(self) -> str:
        return str(self.history.spec["metric"])

    def holdout(self, settings: "Settings") -> float:
        """The share of the source that is held out: as was said, else as in its search.

        Raises:
            BadInput: a score needs a share and has none, or a refit has nothing to add.
        """
        share = chosen_share(self.held(settings), self.metrics(settings))
        if settings.refit:
            check_refit(share)
        return share

    def held(self, settings: "Settings") -> dict[str, Any]:
        """The fields that were said, and the hold-out of its search if it had one."""
        share = self.history.spec["base"].get("holdout")
        return ({"holdout": share} if share else {}) | settings.overrides

    def metrics(self, settings: "Settings") -> list[str]:
        """What the choice rests on: the scores that were said, else the metric of its search."""
        return settings.metrics if settings.metric else [self.metric, *settings.metrics]

    def references(self, base: Config) -> dict[str, dict[str, Any]]:
        """Its setting in the training of `base`: other training options, weights and seeds."""
        fields = set(self.history.spec["search"]) | set(OF_ADAPTATION) | {"method", "levels"}
        config = base.to_dict() | {n: v for n, v in self.config.items() if n in fields}
        return {TRANSFERRED: Config.from_dict(config).to_dict()}

    def describe(self) -> dict[str, Any]:
        """Where a setting comes from, in plain values for a journal."""
        spec = self.history.spec
        return {
            "search": spec["name"],
            "task": spec["task"],
            "trial": self.number,
            "key": self.history.key(self.number),
            "metric": spec["metric"],
        }


def read_origin(task: Task | Group, settings: "Settings") -> Origin:
    """The winner that `settings.origin` names, by its search or by the task of its newest one.

    Raises:
        BadInput: no such search; one that is not over, has no winner, is of another dataset,
            method or backbone, or was unsealed.
    """
    history = History.of(read_events(_find(settings) / JOURNAL)[0])
    spec = history.spec
    name = f"{OPTION} {spec['name']}"
    check_search(spec, OPTION)
    check_origins(OPTION, [spec], settings.unseal)
    if spec["dataset"] != task.dataset:
        raise BadInput(f"{name} is a search of {spec['task']}: choose one of {task.dataset}.")
    if method_of(spec) != settings.method:
        raise BadInput(f"{name} is a search of {method_of(spec)}: add --method {method_of(spec)}.")
    if settings.backbone not in (None, spec["backbone"]):
        raise BadInput(f"{name} has the backbone {spec['backbone']}: leave --backbone out.")
    chosen = choose(history)
    if chosen is None or len(history.ended) < history.total:
        raise BadInput(f"{name} has no winner yet: finish it with --resume.")
    if str(task) in (spec["task"], *(str(member) for member, _ in members(spec))):
        raise BadInput(f"{name} was searched on {task} itself: name other tasks.")
    origin = Origin(history, chosen.picked.number, dict(chosen.picked.config))
    origin.holdout(settings)
    return origin


def _find(settings: "Settings") -> Path:
    """The folder of the search that `--from` names."""
    storage, said = settings.storage.resolve(), str(settings.origin)
    return find_there(settings.remote, storage, lambda: _named_or_newest(storage, said, settings))


def _named_or_newest(storage: Path, said: str, settings: "Settings") -> Path:
    from tune.settings import resolve_tasks

    if (storage / said / JOURNAL).is_file():
        return find_named(storage, said, OPTION)
    try:
        (task,) = resolve_tasks([said], settings)
    except (BadInput, ValueError):
        return find_named(storage, said, OPTION)  # which says what there is
    return find_search(storage, None, task, settings.method)


def origin_of(spec: Mapping[str, Any]) -> str:
    """``glyph31-A2W-001, trial 7`` where a setting was found elsewhere, else ""."""
    known = spec.get("origin")
    return f"{known['search']}, trial {known['trial']}" if known else ""


def how_chosen(spec: Mapping[str, Any]) -> str:
    """How a setting was chosen where that was not by its own task's score alone, else ""."""
    if spec.get("origin"):
        return f"its setting was found by {origin_of(spec)}, on {spec['origin']['task']}"
    if is_group(spec):
        pairs = ", ".join(task.pair for task, _ in members(spec))
        return f"its setting is the best in the mean over {pairs}"
    return ""
