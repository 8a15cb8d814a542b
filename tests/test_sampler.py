"""Proposals: a function of history, seed and number; and what Optuna is told."""

import copy

import optuna
import pytest
from optuna.trial import TrialState

from tune.history import COMPLETE, FAILED, OPEN, PRUNED, SEARCHED, SOURCE_ONLY, History, Trial
from tune.sampler import STARTUP_TRIALS, distributions, fill_study, freeze, propose
from tune.space import DEFAULT_FIELDS, SEARCHABLE, build_space

METRIC = "val/bnm"
SPACE = build_space(DEFAULT_FIELDS, 31)
STATES = [COMPLETE, COMPLETE, PRUNED, FAILED, OPEN]


def make_trial(number: int, state: str, kind: str = SEARCHED) -> Trial:
    values = {"alpha": 0.01 * (number + 1), "beta": 1.0 + number, "n_groups": 2 + number % 14}
    trial = Trial(number, kind, values | {"tau": 0.6 + 0.01 * number}, {}, state=state)
    last = {COMPLETE: 6, PRUNED: 4, FAILED: 2, OPEN: 4}[state]
    for step in range(2, last + 1, 2):
        trial.reports[step] = {METRIC: 0.1 * step + 0.01 * number, "loss/C": 1.0}
    return trial


def make_history(n: int) -> History:
    history = History(uuid="u")
    for number in range(n):
        history.trials[number] = make_trial(number, STATES[number % len(STATES)])
    return history


def study_of(history: History) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    fill_study(study, history, SPACE, METRIC)
    return study


@pytest.mark.parametrize("n", [0, 3, 25])
def test_a_proposal_is_a_function_of_history_seed_and_number(n: int) -> None:
    history = make_history(n)
    first = propose(history, SPACE, METRIC, 7, n)
    assert propose(copy.deepcopy(history), SPACE, METRIC, 7, n) == first
    assert propose(history, SPACE, METRIC, 7, n + 1) != first
    assert propose(history, SPACE, METRIC, 8, n) != first
    assert list(first) == list(SPACE)


def test_after_the_start_proposals_depend_on_what_was_measured() -> None:
    history = make_history(25)
    assert len([t for t in history.trials.values() if t.state == COMPLETE]) >= STARTUP_TRIALS
    other = copy.deepcopy(history)
    for trial in other.trials.values():
        for metrics in trial.reports.values():
            metrics[METRIC] *= -1
    assert propose(other, SPACE, METRIC, 7, 25) != propose(history, SPACE, METRIC, 7, 25)


def test_a_running_trial_is_kept_away_from() -> None:
    history = make_history(25)
    without = propose(history, SPACE, METRIC, 7, 30)
    history.trials[25] = Trial(25, SEARCHED, dict(without), {})
    assert propose(history, SPACE, METRIC, 7, 30) != without


@pytest.mark.parametrize("n_classes", [1, 2, 3, 31])
@pytest.mark.parametrize("n", [0, 25])
def test_proposals_lie_in_range(n: int, n_classes: int) -> None:
    space = build_space(SEARCHABLE, n_classes)
    history = History(uuid="u")
    for number in range(n):
        trial = make_trial(number, STATES[number % len(STATES)])
        trial.values = propose(history, space, METRIC, 1, number)
        history.trials[number] = trial
    for number in range(n, n + 6):
        for name, value in propose(history, space, METRIC, 1, number).items():
            assert value in space[name], (name, value)
            assert isinstance(value, int if space[name].integer else float)


def test_states_are_told_as_they_are() -> None:
    trials = study_of(make_history(5)).get_trials()
    expected = [TrialState.COMPLETE] * 2 + [TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert [trial.state for trial in trials] == expected
    complete, _, pruned, failed, running = trials
    assert complete.value == pytest.approx(0.6)
    assert set(complete.intermediate_values) == {2, 4, 6}
    assert set(pruned.intermediate_values) == {2, 4}
    assert pruned.intermediate_values[4] == pytest.approx(0.42)
    assert failed.value is None
    assert running.value is None
    assert [trial.user_attrs["gsda.trial"] for trial in trials] == [f"u/{n:04d}" for n in range(5)]


def test_what_lies_outside_the_space_is_left_out() -> None:
    history = make_history(2)
    history.trials[0] = make_trial(0, COMPLETE, SOURCE_ONLY)
    history.trials[0].values |= {"alpha": 0.0, "beta": 0.0}
    assert [trial.user_attrs["kind"] for trial in study_of(history).get_trials()] == [SEARCHED]


def test_a_finished_trial_without_the_metric_has_failed() -> None:
    trial = make_trial(0, COMPLETE)
    for metrics in trial.reports.values():
        del metrics[METRIC]
    frozen = freeze(trial, "u/0000", SPACE, METRIC)
    assert frozen.state is TrialState.FAIL
    assert frozen.intermediate_values == {}


def test_trials_without_any_report_can_be_told() -> None:
    for state in (OPEN, PRUNED, FAILED, COMPLETE):
        trial = make_trial(0, state)
        trial.reports = {}
        history = History(uuid="u", trials={0: trial})
        assert len(study_of(history).get_trials()) == 1
        assert set(propose(history, SPACE, METRIC, 0, 1)) == set(SPACE)


def test_groups_are_whole_numbers_in_optuna_too() -> None:
    trial = make_trial(0, COMPLETE)
    trial.values["n_groups"] = 5.0  # JSON of another writer
    assert freeze(trial, "u/0000", SPACE, METRIC).params["n_groups"] == 5
    assert type(distributions(SPACE)["n_groups"]).__name__ == "IntDistribution"


def test_optuna_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    propose(make_history(12), SPACE, METRIC, 0, 12)
    assert capfd.readouterr() == ("", "")
