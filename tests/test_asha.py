"""ASHA's decisions against Ray Tune's own scheduler, over random sequences of reports."""

import random
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from tune.asha import Asha

Sequence = list[tuple[int, int, float]]


def random_reports(rng: random.Random, every: int, last: int, decide) -> Sequence:
    """Trials that take turns at random, reporting every `every` steps until `decide` stops them."""
    at = dict.fromkeys(range(12), 0)
    seen: Sequence = []
    while at:
        number = rng.choice(list(at))
        at[number] = min(at[number] + every, last)
        value = round(rng.random() + 0.1 * number, 1 if rng.random() < 0.5 else 6)  # some are ties
        seen.append((number, at[number], value))
        if decide(number, at[number], value) or at[number] == last:
            del at[number]
    return seen


class Reference:
    """Ray Tune's scheduler, asked about trials that exist in name only."""

    def __init__(self, first: int, last: int) -> None:
        self.scheduler = AsyncHyperBandScheduler(
            time_attr="step",
            metric="value",
            mode="max",
            max_t=last,
            grace_period=first,
            reduction_factor=3,
            brackets=1,
        )
        self.trials: dict[int, SimpleNamespace] = {}

    def report(self, number: int, step: int, value: float) -> bool:
        if number not in self.trials:
            self.trials[number] = SimpleNamespace(trial_id=str(number), config={}, status="RUNNING")
            self.scheduler.on_trial_add(None, self.trials[number])
        result = {"step": step, "value": value}
        decision = self.scheduler.on_trial_result(None, self.trials[number], result)
        return bool(decision == TrialScheduler.STOP)


@pytest.mark.parametrize(("every", "last"), [(1, 27), (2, 6), (100, 400), (5, 50), (3, 82)])
def test_decisions_are_those_of_ray_tune(every: int, last: int) -> None:
    stopped = went_on = 0
    for seed in range(30):
        rng = random.Random(seed)
        theirs, ours = Reference(every, last), Asha(every, last)
        for number, step, value in random_reports(rng, every, last, Asha(every, last).report):
            verdict = ours.report(number, step, value)
            if step < last:  # at the last step Tune says stop to all: they are done
                assert verdict == theirs.report(number, step, value), (seed, number, step, value)
                stopped += verdict
                went_on += not verdict
    assert stopped > 20
    assert went_on > 20


def test_replaying_gives_the_same_decisions() -> None:
    for seed in range(20):
        live, again = Asha(2, 54), Asha(2, 54)
        decisions: list[bool] = []

        def decide(*report: Any, asha: Asha = live, taken: list[bool] = decisions) -> bool:
            taken.append(asha.report(*report))
            return taken[-1]

        seen = random_reports(random.Random(seed), 2, 54, decide)
        assert [again.report(*report) for report in seen] == decisions
        assert again.recorded == live.recorded


def test_rungs_lie_a_factor_apart_below_the_last_step() -> None:
    assert list(Asha(100, 400).recorded) == [100, 300]
    assert list(Asha(1, 27).recorded) == [1, 3, 9]
    assert list(Asha(400, 400).recorded) == []


def test_a_single_rung_search_stops_nothing() -> None:
    asha = Asha(5, 5)
    assert not any(asha.report(number, 5, -number) for number in range(9))


def test_the_first_to_arrive_and_the_best_third_go_on() -> None:
    asha = Asha(1, 9)
    assert not asha.report(0, 1, 0.0)
    assert not asha.report(1, 1, 1.0)
    assert not asha.report(2, 1, 2.0)
    assert asha.report(3, 1, 0.5)
    assert not asha.report(4, 1, 3.0)


def test_a_trial_counts_once_at_a_rung() -> None:
    asha = Asha(1, 9)
    asha.report(0, 1, 1.0)
    assert not asha.report(0, 1, -5.0)
    assert asha.recorded[1] == {0: 1.0}
    assert not asha.report(0, 2, -5.0)
    assert asha.recorded[3] == {}
