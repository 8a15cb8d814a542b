"""Rules that pick one of many settings by label-free scores, and what each pick was worth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.selection_scores import ENSEMBLE
from gsda.validators import VALIDATORS
from tune.rule import DEFAULT_RANKED

Floats = NDArray[np.float64]
Scores = Mapping[str, Floats]  # by name, (n,) for the n settings of a task
Rule = Callable[[Scores], Floats]

WORST = 0.75  # of the settings are better than one of the worst quarter
# Bounds of `balance`, in nats, below which a setting is out. Round ones, not tuned: predictions
# that use every second class, or every third, of an even prior.
HALF, THIRD = -float(np.log(2)), -float(np.log(3))


def single(name: str) -> Rule:
    """The score itself."""
    return lambda scores: scores[name]


def ranks(values: Floats) -> Floats:
    """n for the largest of n values, 1 for the smallest; equal ones share the mean."""
    below = (values[:, None] > values).sum(axis=1)
    same = (values[:, None] == values).sum(axis=1)
    return np.asarray(below + (same + 1) / 2, dtype=np.float64)


def mean_rank(*names: str) -> Rule:
    """The mean of the ranks in several scores."""
    return lambda scores: np.mean([ranks(scores[name]) for name in names], axis=0)


def guarded(name: str, bound: float) -> Rule:
    """The score, of settings whose `balance` reaches the bound; if none does, of the best."""

    def rule(scores: Scores) -> Floats:
        sound = scores["balance"] >= min(bound, float(scores["balance"].max()))
        return np.where(sound, scores[name], -np.inf)

    return rule


_RANKED = tuple(name.removeprefix("val/") for name in DEFAULT_RANKED)
RULES: dict[str, Rule] = (
    {name: single(name) for name in VALIDATORS}
    | {"ensemble agreement": single(ENSEMBLE)}
    | {f"mean rank: {', '.join(_RANKED)}": mean_rank(*_RANKED)}
    | {f"{name}, balance over -ln 2": guarded(name, HALF) for name in ("bnm", "class_ami")}
    | {f"{name}, balance over -ln 3": guarded(name, THIRD) for name in ("bnm", "class_ami")}
    | {"ensemble agreement, balance over -ln 2": guarded(ENSEMBLE, HALF)}
)


@dataclass(frozen=True)
class Verdict:
    """What a rule was worth on a task.

    Attributes:
        pick: index of the setting with the largest value; of equals, the first.
        regret: points of accuracy below the best setting.
        worst: whether three quarters of the settings are better.
        spearman: rank correlation with accuracy; None where either is constant.
    """

    pick: int
    regret: float
    worst: bool
    spearman: float | None


def judge(values: Floats, accuracy: Floats) -> Verdict:
    """Compare a rule's values (n,) with accuracies (n,) in per cent."""
    pick = int(np.argmax(values))
    better = float((accuracy > accuracy[pick]).mean())
    regret = float(accuracy.max() - accuracy[pick])
    return Verdict(pick, regret, better >= WORST, spearman(values, accuracy))


def spearman(a: Floats, b: Floats) -> float | None:
    """Spearman's rank correlation; None where either is constant."""
    x, y = ranks(a), ranks(b)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def leave_one_out(
    regrets: Mapping[str, Mapping[str, float]], groups: Mapping[str, str]
) -> dict[str, tuple[str, float]]:
    """For each group of tasks: the rule that is best on the others, and its mean regret there.

    Args:
        regrets: rule -> task -> points. groups: task -> group.
    """
    found = {}
    for group in dict.fromkeys(groups.values()):
        elsewhere = [task for task in groups if groups[task] != group]
        here = [task for task in groups if groups[task] == group]
        best = min(regrets, key=lambda rule: _mean(regrets[rule], elsewhere))
        found[group] = best, _mean(regrets[best], here)
    return found


def _mean(of: Mapping[str, float], tasks: Sequence[str]) -> float:
    return float(np.mean([of[task] for task in tasks]))
