"""Proposals: Optuna's TPE as a function of history, seed and trial number.

For each proposal a study is made anew from the history, so a resumed search proposes what an
undisturbed one would have; stopped trials are PRUNED in it with their intermediate values, failed
ones FAIL, unfinished ones RUNNING, and all have the number and key that they have everywhere.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune.history import (
    COMPLETE,
    FAILED,
    LATER,
    OPEN,
    PRUNED,
    SEARCHED,
    SOURCE_ONLY,
    History,
    Trial,
)
from tune.space import Range, inside
from tune.warmstart import Known, ranked_trials

STARTUP_TRIALS = 8
_STATES = {
    OPEN: TrialState.RUNNING,
    COMPLETE: TrialState.COMPLETE,
    PRUNED: TrialState.PRUNED,
    FAILED: TrialState.FAIL,
}


def propose(
    history: History, space: Mapping[str, Range], metric: str, seed: int, number: int
) -> dict[str, float]:
    """Values of the searched fields for trial `number`.

    The trials that were already asked for are known to TPE, whether finished or not; so are those
    of the searches that this one was begun with (`tune.warmstart`), whose best come first.
    """
    first = history.spec.get("warm", {}).get("first", [])
    begun = sum(trial.kind == SEARCHED for trial in history.trials.values())
    if begun < len(first):
        return {name: first[begun][name] for name in space}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    stream = np.random.SeedSequence([seed, number]).generate_state(1)
    with warnings.catch_warnings():
        # constant_liar keeps trials that run side by side apart; Optuna calls it experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=int(stream[0]), n_startup_trials=STARTUP_TRIALS, constant_liar=True
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    fill_study(study, history, space, metric)
    asked = study.ask(distributions(space))
    return {name: asked.params[name] for name in space}


def fill_study(
    study: optuna.Study, history: History, space: Mapping[str, Range], metric: str
) -> None:
    """Add every trial whose setting lies in the space; source-only has none of the searched.

    Those of later stages are left out: their scores are of another training, or another seed.
    """
    own = {
        trial.number: trial
        for trial in history.trials.values()
        if trial.kind not in (SOURCE_ONLY, *LATER) and inside(trial.values, space)
    }
    ranks: dict[int, dict[int, float]] = {}
    warm = history.spec.get("warm")
    if warm:
        earlier, ranks = ranked_trials(warm, own, metric, int(history.spec["base"]["steps"]))
        study.add_trials([_thaw(known, space) for known in earlier if inside(known.values, space)])
    study.add_trials(
        [
            freeze(trial, history.key(number), space, metric, ranks.get(number))
            for number, trial in own.items()
        ]
    )


def _thaw(known: Known, space: Mapping[str, Range]) -> FrozenTrial:
    """A trial of an earlier search in Optuna's terms."""
    state = _STATES[known.state]
    return create_trial(
        state=state,
        params=in_optuna(known.values, space),
        distributions=distributions(space),
        value=known.scores[max(known.scores)] if state is TrialState.COMPLETE else None,
        intermediate_values=known.scores,
        user_attrs={"gsda.trial": known.key},
    )


def distributions(space: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    """The space in Optuna's terms."""
    return {
        name: IntDistribution(int(span.low), int(span.high))
        if span.integer
        else FloatDistribution(span.low, span.high, log=span.log)
        for name, span in space.items()
    }


def in_optuna(values: Mapping[str, float], space: Mapping[str, Range]) -> dict[str, Any]:
    """The searched fields of a setting as Optuna has them: whole numbers are `int`."""
    return {
        name: int(values[name]) if span.integer else values[name] for name, span in space.items()
    }


def freeze(
    trial: Trial,
    key: str,
    space: Mapping[str, Range],
    metric: str,
    ranks: Mapping[int, float] | None = None,
) -> FrozenTrial:
    """A trial in Optuna's terms.

    Args:
        ranks: what to take for the metric, by step; None for the metric itself.
    """
    curve = {step: m[metric] for step, m in sorted(trial.reports.items()) if metric in m}
    steps = curve if ranks is None else {step: ranks[step] for step in curve}
    state = _STATES[trial.state]
    if state is TrialState.COMPLETE and not steps:
        state = TrialState.FAIL
    return create_trial(
        state=state,
        params=in_optuna(trial.values, space),
        distributions=distributions(space),
        value=steps[max(steps)] if state is TrialState.COMPLETE else None,
        intermediate_values=steps,
        user_attrs={"gsda.trial": key, "kind": trial.kind},
    )
