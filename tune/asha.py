"""Asynchronous successive halving, as a function of the reports so far.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020. The decisions are
those of Ray Tune's AsyncHyperBandScheduler with one bracket (a test compares them), but its rungs
live in memory and are lost with the driver; these are replayed from the journal.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Asha:
    """Rungs at `first`, `first` * factor, ... below `last`: at each, the better 1/factor go on.

    Attributes:
        recorded: for every rung's step, the values of the trials that reached it.
    """

    first: int
    last: int
    factor: int = 3
    recorded: dict[int, dict[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        step = self.first
        while step < self.last:
            self.recorded.setdefault(step, {})
            step *= self.factor

    def report(self, number: int, step: int, value: float) -> bool:
        """Take in a trial's value (higher is better) after `step`; True if it should stop."""
        rung = self._rung(number, step)
        if rung is None:
            return False
        others = list(self.recorded[rung].values())
        self.recorded[rung][number] = value
        if not others:
            return False
        return value < float(np.percentile(others, (1 - 1 / self.factor) * 100))

    def _rung(self, number: int, step: int) -> int | None:
        """The highest rung that the trial has reached, if it has not been there before."""
        reached = [rung for rung in self.recorded if rung <= step]
        if not reached or number in self.recorded[max(reached)]:
            return None
        return max(reached)
