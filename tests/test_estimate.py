"""How long cells will take: what is measured once, and what is made of it."""

from dataclasses import replace
from pathlib import Path

import pytest
import scene
import torch

from experiments.estimate import (
    _AROUND_S,
    ENOUGH_S,
    Cost,
    _kind,
    estimate_seconds,
    measure,
    time_steps,
)
from gsda.config import source_only
from gsda.tasks import Task
from tune.settings import Settings
from tune.sweep import Cell, Sweep

CONFIG = scene.small_config(steps=10, evaluate_every=5)


def make(folder: Path, cache: Path) -> Sweep:
    spec = scene.make_spec(CONFIG, 0) | {"data": scene.data_spec(cache), "images": [795, 498]}
    return Sweep(Task.parse(scene.TASK), Settings(storage=folder), spec, folder)


class Slow:
    """A run whose steps take a time that is known."""

    def __init__(self, clock: list[float], seconds: float, steps: int) -> None:
        self.clock, self.seconds, self.left = clock, seconds, steps

    @property
    def finished(self) -> bool:
        return self.left == 0

    def step(self, n: int) -> None:
        self.left -= n
        self.clock[0] += self.seconds


@pytest.mark.parametrize(
    ("seconds", "steps", "timed"),
    [(10.0, 100, 1), (ENOUGH_S / 4, 100, 4), (0.001, 100, 20), (0.001, 3, 3), (1.0, 0, 0)],
)
def test_steps_are_timed_until_that_is_enough(
    seconds: float, steps: int, timed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("experiments.estimate.time.perf_counter", lambda: clock[0])
    taken = time_steps(Slow(clock, seconds, steps), 20)  # type: ignore[arg-type]
    assert taken == pytest.approx([seconds] * timed)


def test_each_kind_is_measured_once_and_starts_count_for_each_cell(
    tmp_path: Path, cache: Path
) -> None:
    sweep = make(tmp_path, cache)
    cells = [Cell(f"c{seed}", replace(CONFIG, seed=seed, alpha=0.1 * seed)) for seed in range(3)]
    cost = Cost(start=2.0, step=0.5, image=0.01)
    measured = {_kind(cells[0]): cost}
    assert {_kind(cell) for cell in cells} == set(measured)
    assert _kind(Cell("s", source_only(CONFIG))) not in measured
    each = _AROUND_S + 2.0 + 10 * 0.5 + 2 * 498 * 0.01
    assert estimate_seconds(sweep, cells, "cpu", measured) == pytest.approx(3 * each)
    assert list(measured.values()) == [cost]


def test_a_measurement_leaves_the_threads_as_they_were(tmp_path: Path, cache: Path) -> None:
    sweep = make(tmp_path, cache)
    before = torch.get_num_threads()
    cost = measure(sweep, Cell("c", CONFIG), "cpu")
    assert torch.get_num_threads() == before
    assert cost.start >= 0
    assert cost.step > 0
    # twice a third of what a step takes for an image: all 498 are looked at, and as many mixtures
    assert cost.image == pytest.approx(2 * cost.step / (2 * CONFIG.batch_size) / 3)
