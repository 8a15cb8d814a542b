"""From events to trials."""

from typing import Any

import pytest

from tune.history import COMPLETE, FAILED, OPEN, PRUNED, SEARCHED, SOURCE_ONLY, History

SPEC = {"trials": 3, "metric": "val/bnm", "references": {SOURCE_ONLY: {}, "paper": {}}}


def search() -> dict[str, Any]:
    return {"event": "search", "time": 5.0, "uuid": "u", "spec": SPEC}


def ask(number: int, kind: str = SEARCHED) -> dict[str, Any]:
    values, config = {"alpha": 0.5}, {"alpha": 0.5, "seed": 1}
    event = {"event": "ask", "time": 7.0, "trial": number, "kind": kind}
    return event | {"values": values, "config": config}


def start(number: int) -> dict[str, Any]:
    return {"event": "start", "trial": number}


def report(number: int, step: int, value: float) -> dict[str, Any]:
    metrics = {"val/bnm": value}
    return {
        "event": "report",
        "trial": number,
        "step": step,
        "metrics": metrics,
        "seconds": step / 2,
    }


def end(number: int, state: str, **more: str) -> dict[str, Any]:
    return {"event": "end", "trial": number, "state": state, **more}


def finished(number: int, value: float) -> list[dict[str, Any]]:
    return [ask(number), start(number), report(number, 2, value), end(number, COMPLETE)]


def test_a_trial_through_its_life() -> None:
    history = History.of([search(), ask(0), start(0), start(0), report(0, 2, 0.1)])
    trial = history.trials[0]
    assert (trial.state, trial.starts, trial.seconds) == (OPEN, 2, 1.0)
    history.apply(report(0, 4, 0.3))
    assert trial.final == {"val/bnm": 0.3}
    assert trial.value("val/bnm") == 0.3
    assert trial.value("val/other") is None
    history.apply(end(0, FAILED, reason="it broke"))
    assert (trial.state, trial.reason) == (FAILED, "it broke")
    assert history.in_state(FAILED) == [trial]
    assert history.in_state(OPEN) == []


def test_a_trial_without_reports_has_no_value() -> None:
    trial = History.of([search(), ask(0)]).trials[0]
    assert trial.final == {}
    assert trial.value("val/bnm") is None


def test_the_last_step_counts_whatever_arrived_last() -> None:
    history = History.of([search(), ask(0), report(0, 4, 0.4), report(0, 2, 0.9)])
    assert history.trials[0].value("val/bnm") == 0.4


def test_extending_changes_the_number_of_trials_and_not_the_event() -> None:
    event = search()
    history = History.of([event, {"event": "extend", "trials": 9}])
    assert history.spec["trials"] == 9
    assert event["spec"]["trials"] == 3


def test_unknown_events_are_for_others() -> None:
    history = History.of([search(), {"event": "champion", "trial": 0}, {"event": "done"}])
    assert history.trials == {}


def test_keys_are_the_search_and_the_number() -> None:
    assert History.of([search()]).key(12) == "u/0012"


def test_references_are_told_from_searched_trials() -> None:
    history = History.of([search(), ask(0, SOURCE_ONLY), ask(1)])
    assert history.trials[0].is_reference
    assert not history.trials[1].is_reference


def test_what_is_asked_for_and_what_has_ended() -> None:
    history = History.of([search(), ask(0), *finished(1, 0.1), ask(2), end(2, FAILED)])
    assert history.total == 5
    assert [trial.number for trial in history.ended] == [1, 2]
    history.apply({"event": "extend", "trials": 9})
    assert history.total == 11


def test_times_are_those_of_the_events() -> None:
    history = History.of([search(), ask(0)])
    assert (history.began, history.trials[0].asked) == (5.0, 7.0)


def test_faults_count_from_the_last_resume() -> None:
    fault = {"event": "fault", "trial": 0, "reason": "its worker died"}
    history = History.of([search(), ask(0), ask(1), fault, fault])
    assert [trial.faults for trial in history.trials.values()] == [2, 0]
    history.apply({"event": "resume"})
    assert history.trials[0].faults == 0
    assert history.trials[0].state == OPEN


@pytest.mark.parametrize(
    ("values", "best"), [([0.1, 0.3, 0.2], 1), ([0.3, 0.3, 0.2], 0), ([-3.0, -1.0, -2.0], 1)]
)
def test_the_best_is_the_largest_and_of_equals_the_oldest(values: list[float], best: int) -> None:
    events = [search()]
    for number, value in enumerate(values):
        events += finished(number, value)
    found = History.of(events).best("val/bnm")
    assert found is not None
    assert found.number == best


@pytest.mark.parametrize("state", [PRUNED, FAILED])
def test_only_finished_trials_compete(state: str) -> None:
    events = [search(), *finished(0, 0.1), ask(1), report(1, 2, 0.9), end(1, state)]
    events += [ask(2), report(2, 2, 0.8)]
    best = History.of(events).best("val/bnm")
    assert best is not None
    assert best.number == 0
    assert History.of([search(), ask(0), end(0, state)]).best("val/bnm") is None
