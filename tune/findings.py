"""What a search found, and what its choice cost: a function of its history.

All that reads target labels is made after everything has been chosen, for research. A user without
labels has none of it, and nothing here goes back into a choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from gsda.sealed import ACCURACY, CLASS_MEAN, PREFIX
from tune.choice import Choice, choose, rank_values, rule_of
from tune.history import (
    COMPLETE,
    FAILED,
    OPEN,
    PAPER,
    PRUNED,
    REFITTED,
    SEARCHED,
    SOURCE_ONLY,
    History,
    Trial,
)
from tune.picks import BEST, LAST
from tune.seal import is_unsealed
from tune.space import OF_ADAPTATION, build_space, inside

LEAST, ROUGH = 10, 30  # finished settings: for any importance at all, and for one to lean on
_TREES = 64
STEP_REGRET = f"{PREFIX}step_regret_points"  # as a metric in MLflow
_STEPS = {LAST: "last step", BEST: "best by {metric}", "oracle": "best by target labels"}


@dataclass(frozen=True)
class Row:
    """A trial that is worth a look, and as what.

    Attributes:
        role: "chosen", "paper", "source-only" or "oracle" (the best by target labels).
    """

    role: str
    title: str
    trial: Trial


@dataclass(frozen=True)
class StepPick:
    """A step that could be a trial's model.

    Attributes:
        accuracy, regret: by target labels, None without; regret in points of accuracy.
    """

    title: str
    step: int
    kept: bool
    value: float | None
    accuracy: float | None
    regret: float | None


@dataclass(frozen=True)
class Judged:
    """How far a label-free score can be trusted, by the labels.

    Attributes:
        correlation: Spearman's, with the accuracy, over the finished trials; None without spread.
        regret: of the trial that it would pick, in points.
    """

    name: str
    correlation: float | None
    pick: Trial
    regret: float


@dataclass(frozen=True)
class Importance:
    """Share of each searched field in the variance of the metric; or why there is none."""

    shares: Mapping[str, float]
    trials: int
    reason: str = ""


@dataclass(frozen=True)
class Findings:
    """All that a report tells.

    Attributes:
        regret: in points: the best accuracy among finished trials less that of the trial that was
            picked; None without labels. class_regret: the same of the mean per class.
        mean_step_regret: by way of picking, over all finished trials.
    """

    history: History
    choice: Choice | None
    rows: Sequence[Row]
    regret: float | None
    class_regret: float | None
    steps: Sequence[StepPick]
    mean_step_regret: Mapping[str, float]
    judged: Sequence[Judged]
    importance: Importance

    @property
    def metric(self) -> str:
        return str(self.history.spec["metric"])

    @property
    def rule(self) -> str:
        """What the winner was picked by."""
        return rule_of(self.history.spec)

    @property
    def fields(self) -> list[str]:
        """The searched fields."""
        return list(self.history.spec["search"])

    @property
    def is_over(self) -> bool:
        """Whether all trials are done."""
        return len(self.history.ended) >= self.history.total

    @property
    def has_labels(self) -> bool:
        return self.regret is not None

    @property
    def is_unsealed(self) -> bool:
        """Whether target labels had a part in choosing."""
        return is_unsealed(self.history.spec)


def find(history: History) -> Findings:
    """What there is to tell of a search, running or over."""
    chosen = choose(history)
    finished = _competing(history)
    picked = None if chosen is None else chosen.picked
    return Findings(
        history,
        chosen,
        _rows(history, picked),
        _regret(finished, picked, ACCURACY),
        _regret(finished, picked, CLASS_MEAN),
        [] if chosen is None else step_picks(chosen.model),
        _mean_step_regret(finished),
        _judge(finished),
        importance(history),
    )


def _competing(history: History) -> list[Trial]:
    """The finished trials but for a refit, which has trained on what others are judged by."""
    return [trial for trial in history.in_state(COMPLETE) if trial.kind != REFITTED]


def _rows(history: History, picked: Trial | None) -> list[Row]:
    as_in_paper = history.spec["as_in_paper"]
    given = "the paper's setting" if as_in_paper else "the given setting"
    entries = [
        ("chosen", "chosen", picked),
        (PAPER, given, _reference(history, PAPER)),
        (SOURCE_ONLY, "source-only", _reference(history, SOURCE_ONLY)),
        ("oracle", "best by labels", _best(_competing(history), ACCURACY)),
    ]
    return [Row(role, title, trial) for role, title, trial in entries if trial is not None]


def _reference(history: History, kind: str) -> Trial | None:
    return next((t for t in history.in_state(COMPLETE) if t.kind == kind), None)


def _best(trials: Sequence[Trial], metric: str) -> Trial | None:
    known = [trial for trial in trials if trial.value(metric) is not None]
    return max(known, key=lambda t: (t.value(metric) or 0.0, -t.number), default=None)


def _regret(trials: Sequence[Trial], picked: Trial | None, metric: str) -> float | None:
    best, mine = _best(trials, metric), None if picked is None else picked.value(metric)
    if best is None or mine is None:
        return None
    return 100 * ((best.value(metric) or 0.0) - mine)


def step_picks(trial: Trial) -> list[StepPick]:
    """The steps that could be a trial's model, by each way of picking, and what each costs."""
    picks, kept = trial.picks, way_kept(trial)
    top = trial.reports[picks["oracle"]][ACCURACY] if "oracle" in picks else None
    return [
        StepPick(
            _STEPS[name].format(metric=trial.metric),
            step,
            name == kept,
            trial.reports[step].get(trial.metric),
            trial.reports[step].get(ACCURACY),
            _points(top, trial.reports[step].get(ACCURACY)),
        )
        for name, step in picks.items()
    ]


def way_kept(trial: Trial) -> str:
    """The way of picking a step that a trial's model came by; see `tune.picks.pick`."""
    return trial.select if trial.select in trial.picks else LAST


def step_regrets(trial: Trial) -> dict[str, float]:
    """Points of accuracy that each way of picking a step loses in a trial; empty without labels."""
    names = [name for name in trial.picks if name != "oracle"]
    return {
        name: entry.regret
        for name, entry in zip(trial.picks, step_picks(trial), strict=True)
        if name in names and entry.regret is not None
    }


def _points(top: float | None, value: float | None) -> float | None:
    return None if top is None or value is None else 100 * (top - value)


def _mean_step_regret(finished: Sequence[Trial]) -> dict[str, float]:
    regrets = [entry for trial in finished if (entry := step_regrets(trial))]
    names = [name for name in (LAST, BEST) if regrets and all(name in r for r in regrets)]
    return {name: float(np.mean([entry[name] for entry in regrets])) for name in names}


def _judge(finished: Sequence[Trial]) -> list[Judged]:
    """Each label-free score beside the accuracy, the closest first."""
    known = [trial for trial in finished if trial.value(ACCURACY) is not None]
    if not known:
        return []
    names = [n for n in known[0].final if n.startswith("val/") and all(n in t.final for t in known)]
    found = []
    for name in names:
        pick = _best(known, name)
        assert pick is not None
        regret = _regret(known, pick, ACCURACY)
        found.append(Judged(name, _correlation(known, name), pick, regret or 0.0))
    return sorted(found, key=lambda e: (e.correlation is None, -(e.correlation or 0.0), e.name))


def _correlation(trials: Sequence[Trial], name: str) -> float | None:
    """Spearman's rank correlation with the accuracy."""
    first, second = (
        np.asarray(rank_values([trial.final[metric] for trial in trials]))
        for metric in (name, ACCURACY)
    )
    if len(trials) < 3 or first.std() == 0 or second.std() == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def importance(history: History) -> Importance:
    """fANOVA (Hutter, Hoos and Leyton-Brown, ICML 2014) over the finished settings, by Optuna.

    A field that is searched in its logarithm counts in its logarithm: else the few large values
    would have nearly all of the range.
    """
    spec = history.spec
    space = build_space(spec["search"], spec["classes"])
    metric = spec["metric"]
    trials = [
        t
        for t in history.in_state(COMPLETE)
        if t.kind in (PAPER, SEARCHED) and inside(t.values, space) and t.value(metric) is not None
    ]
    if len(trials) < LEAST:
        return Importance(
            {}, len(trials), f"too few settings finished: {len(trials)}, of {LEAST} at least"
        )
    values = [trial.value(metric) for trial in trials]
    if len(set(values)) == 1:
        return Importance({}, len(trials), "all settings came to the same score")
    bent = {name: np.log10 if span.log else float for name, span in space.items()}
    ranges: dict[str, BaseDistribution] = {
        name: FloatDistribution(float(bent[name](span.low)), float(bent[name](span.high)))
        for name, span in space.items()
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for trial, value in zip(trials, values, strict=True):
        params = {name: float(bent[name](trial.values[name])) for name in space}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=ranges, value=value))
    judge = FanovaImportanceEvaluator(n_trees=_TREES, seed=0)
    return Importance(get_param_importances(study, evaluator=judge), len(trials))


def as_json(findings: Findings) -> dict[str, Any]:
    """The findings in plain values, for other programs."""
    history, importances = findings.history, findings.importance
    counted = {s: len(history.in_state(s)) for s in (COMPLETE, PRUNED, FAILED, OPEN)}
    return {
        "search": history.spec["name"],
        "uuid": history.uuid,
        "task": history.spec["task"],
        "metric": findings.metric,
        "picked_by": findings.rule,
        "unsealed": findings.is_unsealed,
        "is_over": findings.is_over,
        "trials": counted | {"total": history.total},
        "rows": {row.role: describe(row.trial, findings.fields) for row in findings.rows},
        "by_target_labels": {
            "regret_points": findings.regret,
            "class_mean_regret_points": findings.class_regret,
            "mean_step_regret_points": dict(findings.mean_step_regret),
            "validators": [
                {
                    "name": entry.name,
                    "spearman": entry.correlation,
                    "pick": entry.pick.number,
                    "regret_points": entry.regret,
                }
                for entry in findings.judged
            ],
        }
        if findings.has_labels
        else None,
        "steps": [entry.__dict__ for entry in findings.steps],
        "importance": {
            "method": "fANOVA",
            "shares": dict(importances.shares),
            "settings": importances.trials,
            "reason": importances.reason,
        },
    }


def describe(trial: Trial, fields: Sequence[str]) -> dict[str, Any]:
    """A trial's setting and scores in plain values."""
    scores = {n: v for n, v in trial.final.items() if n.startswith("val/")}
    oracle = {n: v for n, v in trial.final.items() if n in (ACCURACY, CLASS_MEAN)}
    return {
        "trial": trial.number,
        "kind": trial.kind,
        "seed": trial.config["seed"],
        "step": trial.picked,
        "setting": {name: setting(trial, name) for name in fields},
        "scores": scores,
        "by_target_labels": oracle,
    }


def setting(trial: Trial, name: str) -> float | None:
    """A searched field; None where it means nothing: source-only adapts nothing."""
    return None if trial.kind == SOURCE_ONLY and name in OF_ADAPTATION else trial.values[name]
