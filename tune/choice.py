"""Who wins: the finished trials compared by what a user can know, over all seeds that they had."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np

from tune.history import COMPLETE, FINETUNED, LATER, REFITTED, REPEATED, TRANSFERRED, History, Trial
from tune.rule import metrics_of


@dataclass(frozen=True)
class Candidate:
    """A setting that competes.

    Attributes:
        setting: the trial that had it first.
        runs: its finished trials, that one first, then those of other seeds.
        scores: of each, by the rule of the search; higher is better.
    """

    setting: Trial
    runs: tuple[Trial, ...]
    scores: tuple[float, ...]

    @property
    def score(self) -> float:
        """Mean over the seeds."""
        return mean(self.scores)

    @property
    def best_run(self) -> Trial:
        """The run with the best score; of equals, the oldest."""
        return max(zip(self.scores, self.runs, strict=True), key=lambda e: (e[0], -e[1].number))[1]


@dataclass(frozen=True)
class Choice:
    """The winner of a search.

    Attributes:
        picked: the run of the winning setting that the choice fell on.
        model: the trial whose model is kept: `picked`, or its refit on all of the source.
    """

    winner: Candidate
    picked: Trial
    model: Trial

    def comparable(self, spec: Mapping[str, Any]) -> tuple[str, float]:
        """The score by which its model competes with those of other searches, and its name.

        A refit has no better claim than the run that was chosen. A rank means nothing beside
        another search's: there, the metric of the search counts.
        """
        metrics = metrics_of(rule_of(spec))
        metric = metrics[0] if len(metrics) == 1 else str(spec["metric"])
        return metric, self.picked.value(metric) or 0.0


def rule_of(spec: Mapping[str, Any]) -> str:
    """What the winner is picked by: the metric that guided the search, unless said otherwise."""
    return str(spec.get("pick") or spec["metric"])


def candidates(history: History, repeated: bool = True) -> list[Candidate]:
    """The settings that compete, best first; of equals, the oldest.

    Only trials that ran to their end compete: others have been measured at fewer steps. Once some
    settings were trained with every seed asked for, those with a single one are out of the race,
    but for fine-tuned ones: a lucky run would beat a mean.

    Args:
        repeated: whether trials of other seeds count.
    """
    metrics = metrics_of(rule_of(history.spec))
    finished = [
        t for t in history.in_state(COMPLETE) if all(t.value(m) is not None for m in metrics)
    ]
    settings = [t for t in finished if t.kind not in LATER or t.kind == FINETUNED]
    if history.spec.get("origin"):  # it was chosen elsewhere
        settings = [t for t in settings if t.kind == TRANSFERRED]
    again = [t for t in finished if t.kind == REPEATED] if repeated else []
    runs = {s.number: [s, *(t for t in again if t.parent == s.number)] for s in settings}
    seeds = int(history.spec.get("seeds") or 1)
    whole = {number for number, group in runs.items() if len(group) >= seeds}
    if whole and seeds > 1 and repeated:
        settings = [s for s in settings if s.number in whole or s.kind == FINETUNED]
    pool = [trial for s in settings for trial in runs[s.number]]
    scores = dict(zip((t.number for t in pool), _scores(pool, metrics), strict=True))
    found = [
        Candidate(s, tuple(runs[s.number]), tuple(scores[t.number] for t in runs[s.number]))
        for s in settings
    ]
    return sorted(found, key=lambda entry: (-entry.score, entry.setting.number))


def _scores(trials: Sequence[Trial], metrics: Sequence[str]) -> list[float]:
    """Of a single metric its value; of several, the negative mean of the ranks in each."""
    values = [[trial.value(name) or 0.0 for trial in trials] for name in metrics]
    if len(values) == 1:
        return values[0]
    return [-mean(ranks) for ranks in zip(*map(rank_values, values), strict=True)]


def rank_values(values: Sequence[float]) -> list[float]:
    """1 for the largest; equal ones share the mean of their ranks."""
    column = np.asarray(values)
    return [float((column > v).sum() + ((column == v).sum() + 1) / 2) for v in column]


def choose(history: History) -> Choice | None:
    """The winner; None if no trial finished."""
    ranked = candidates(history)
    if not ranked:
        return None
    picked = ranked[0].best_run
    refits = [
        t for t in history.in_state(COMPLETE) if (t.kind, t.parent) == (REFITTED, picked.number)
    ]
    return Choice(ranked[0], picked, refits[-1] if refits else picked)


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation over seeds; None for a single one."""
    return stdev(values) if len(values) > 1 else None
