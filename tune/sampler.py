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
    SOURCE_ONLY,
    History,
    Trial,
)
from tune.space import Range, inside

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

    The trials that were already asked for are known to TPE, whether finished or not.
    """
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
    study.add_trials(
        [
            freeze(trial, history.key(trial.number), space, metric)
            for trial in history.trials.values()
            if trial.kind not in (SOURCE_ONLY, *LATER) and inside(trial.values, space)
        ]
    )


def distributions(space: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    """The space in Optuna's terms."""
    return {
        name: IntDistribution(int(span.low), int(span.high))
        if span.integer
        else FloatDistribution(span.low, span.high, log=span.log)
        for name, span in space.items()
    }


def freeze(trial: Trial, key: str, space: Mapping[str, Range], metric: str) -> FrozenTrial:
    """A trial in Optuna's terms."""
    steps = {
        step: metrics[metric]
        for step, metrics in sorted(trial.reports.items())
        if metric in metrics
    }
    state = _STATES[trial.state]
    if state is TrialState.COMPLETE and not steps:
        state = TrialState.FAIL
    params: dict[str, Any] = {
        name: int(trial.values[name]) if span.integer else trial.values[name]
        for name, span in space.items()
    }
    return create_trial(
        state=state,
        params=params,
        distributions=distributions(space),
        value=trial.value(metric) if state is TrialState.COMPLETE else None,
        intermediate_values=steps,
        user_attrs={"gsda.trial": key, "kind": trial.kind},
    )
