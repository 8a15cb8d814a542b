"""What follows a search: its best settings with other seeds, end to end, or on all of the source.

Each stage is a function from the history to the trials that it wants, so a search that was stopped
in any of them goes on with what is left. One begins when those before it are over, because a late
trial may be better than all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gsda.config import Config
from tune.choice import candidates, choose
from tune.history import FINETUNED, OPEN, PAPER, REFITTED, REPEATED, SEARCHED, History, Trial
from tune.space import OF_ADAPTATION

Spec = Mapping[str, Any]
DEFAULT_TOP = 3  # settings that are repeated


@dataclass(frozen=True)
class Due:
    """A trial of a later stage that has not begun.

    Attributes:
        parent: number of the trial whose setting it has.
        config: all settings, as `Config.to_dict`.
    """

    kind: str
    parent: int
    config: dict[str, Any]

    def is_begun(self, history: History) -> bool:
        """Whether the history has it: the same setting, of the same seed."""
        return any(
            (t.parent, t.config["seed"]) == (self.parent, self.config["seed"])
            for t in history.of_kind(self.kind)
        )


@dataclass(frozen=True)
class Stage:
    """One kind of later trials.

    Attributes:
        size: how many there will be at most, by the spec; 0 where nobody asked for them.
        wanted: those that the history calls for, begun or not, first things first.
        title: what is going to be done, for the line that announces it.
    """

    kind: str
    size: Callable[[Spec], int]
    wanted: Callable[[History], list[Due]]
    title: Callable[[Spec], str]


def n_seeds(spec: Spec) -> int:
    """With how many seeds the best settings are trained in all."""
    return int(spec.get("seeds") or 1)


def _repeated(history: History) -> list[Due]:
    best = candidates(history, repeated=False)[: _top(history.spec)]
    return [
        Due(REPEATED, entry.setting.number, _reseed(entry.setting, more))
        for entry in best
        for more in range(1, n_seeds(history.spec))
    ]


def _top(spec: Spec) -> int:
    return int(spec.get("top") or DEFAULT_TOP)


def _reseed(trial: Trial, more: int) -> dict[str, Any]:
    """Another initialisation, other batches, other groups."""
    config = trial.config
    return config | {name: config[name] + more for name in ("seed", "group_seed")}


def _finetuned(history: History) -> list[Due]:
    adapting = [
        entry.setting for entry in candidates(history) if entry.setting.kind in (PAPER, SEARCHED)
    ]
    return [
        Due(FINETUNED, trial.number, _end_to_end(trial, history.spec))
        for trial in adapting[: _finetune_top(history.spec)]
    ]


def _finetune_top(spec: Spec) -> int:
    return int(spec.get("finetune_top") or 0)


def _end_to_end(trial: Trial, spec: Spec) -> dict[str, Any]:
    """A setting found on frozen features, for a backbone that is trained with the rest.

    What the optimiser is set to belongs to the kind of training, and is not taken over.
    """
    base = Config.from_dict(spec["finetune_base"])
    return replace(base, **{name: trial.config[name] for name in OF_ADAPTATION}).to_dict()


def _refitted(history: History) -> list[Due]:
    chosen = choose(history)
    if chosen is None:
        return []
    return [Due(REFITTED, chosen.picked.number, chosen.picked.config | {"holdout": 0.0})]


STAGES = (
    Stage(
        REPEATED,
        lambda spec: _top(spec) * (n_seeds(spec) - 1),
        _repeated,
        lambda spec: f"the {_top(spec)} best with {n_seeds(spec)} seeds in all",
    ),
    Stage(
        FINETUNED,
        _finetune_top,
        _finetuned,
        lambda spec: (
            f"the {_finetune_top(spec)} best end to end for {spec['finetune_base']['steps']} steps"
        ),
    ),
    Stage(
        REFITTED,
        lambda spec: int(bool(spec.get("refit"))),
        _refitted,
        lambda spec: "the winner on all of the source",
    ),
)


def asked_for(spec: Spec) -> list[Stage]:
    """The stages of a search, in order."""
    return [stage for stage in STAGES if stage.size(spec)]


def due(history: History) -> list[Due]:
    """Later trials that can begin now: of the first stage that is not over."""
    if history.is_searching:
        return []
    for stage in asked_for(history.spec):
        left = [entry for entry in stage.wanted(history) if not entry.is_begun(history)]
        if left or any(trial.state == OPEN for trial in history.of_kind(stage.kind)):
            return left
    return []


def total(history: History) -> int:
    """How many trials there will be, as far as can be told."""
    count, told = history.planned, not history.is_searching
    for stage in asked_for(history.spec):
        begun = history.of_kind(stage.kind)
        left = 0
        if told:
            left = sum(not entry.is_begun(history) for entry in stage.wanted(history))
            told = not left and all(trial.state != OPEN for trial in begun)
        else:
            left = max(0, stage.size(history.spec) - len(begun))
        count += len(begun) + left
    return count


def progress(history: History) -> tuple[str, int, int]:
    """The stage at hand, by the kind of its trials; steps of it done, and steps in all.

    A trial that has ended counts as whole, at whatever step.
    """
    kinds = [stage.kind for stage in STAGES if history.of_kind(stage.kind)]
    if kinds:
        trials = history.of_kind(kinds[-1])
        coming = [int(e.config["steps"]) for e in due(history) if e.kind == kinds[-1]]
    else:
        trials = list(history.trials.values())
        coming = [int(history.spec["base"]["steps"])] * (history.planned - len(trials))
    done = sum(max(t.reports, default=0) if t.state == OPEN else t.steps for t in trials)
    return (kinds or [SEARCHED])[-1], done, sum(t.steps for t in trials) + sum(coming)
