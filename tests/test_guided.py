"""Guided against random search: the same cost, the same bookkeeping, and no look at labels."""

from pathlib import Path
from typing import Any

import pytest
import scene

from experiments import guided, selection_cells
from experiments.guided import GUIDED, RANDOM, Arm, Point, at, draw_values
from experiments.selection_cells import SUITES, Suite
from gsda.config import Config
from gsda.tasks import Task
from tune.history import PRUNED, History
from tune.journal import Journal
from tune.space import build_space, inside

TASK = Task.parse("glyph31/W2D")
TINY = {"steps": 9, "evaluate_every": 1, "batch_size": 4, "bottleneck": 8, "hidden": 8}
BUDGET = 90
METRIC = "val/guarded_ami"


class Pretended:
    """A run whose score is a formula, and whose accuracy is another."""

    def __init__(self, task: Task, config: Config, *_: Any) -> None:
        self.config, self.step_count = config, 0

    @property
    def finished(self) -> bool:
        return self.step_count >= self.config.steps

    def step(self, n: int) -> dict[str, float]:
        self.step_count += n
        return {"loss/C": 1.0}

    def evaluate(self) -> dict[str, float]:
        value = scene.score(self.config.to_dict(), self.step_count)
        return {METRIC: value, "oracle/target_accuracy": self.accuracy(value)}

    def accuracy(self, value: float) -> float:
        return 0.9 - value / 2


class Poisoned(Pretended):
    def accuracy(self, value: float) -> float:
        return value / 3


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "glyph31", Suite("glyph31", ("W2D",), TINY))
    selection_cells.load.cache_clear()


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guided, "Run", Pretended)


def run(kind: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Point], History]:
    """An arm's points, and the history that its journal adds up to."""
    kept: list[Journal] = []
    plain = guided.Journal

    def journal(path: Path) -> Journal:
        kept.append(plain(path))
        return kept[-1]

    monkeypatch.setattr(guided, "Journal", journal)
    points = Arm(TASK, None, METRIC, kind, 0, BUDGET).run()
    monkeypatch.setattr(guided, "Journal", plain)
    return points, History.of(kept[0].events)


@pytest.mark.usefixtures("pretended")
def test_both_arms_cost_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = {}
    for kind in (GUIDED, RANDOM):
        points, history = run(kind, monkeypatch)
        spent[kind] = sum(max(t.reports, default=0) for t in history.trials.values())
        assert points[0] == Point(9, 100 * history.trials[0].final["oracle/target_accuracy"])
        stopped = history.in_state(PRUNED)
        assert bool(stopped) == (kind == GUIDED)
        assert [t.kind for t in list(history.trials.values())[:2]] == ["source-only", "paper"]
    assert set(spent.values()) == {BUDGET}


@pytest.mark.usefixtures("pretended")
def test_an_arm_is_a_function_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(GUIDED, monkeypatch)[0] == run(GUIDED, monkeypatch)[0]


@pytest.mark.usefixtures("pretended")
def test_labels_move_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poisoned accuracies change what is reported, and none of the settings that are tried."""
    honest = run(GUIDED, monkeypatch)[1]
    monkeypatch.setattr(guided, "Run", Poisoned)
    misled = run(GUIDED, monkeypatch)[1]
    assert [t.config for t in honest.trials.values()] == [t.config for t in misled.trials.values()]
    assert [t.state for t in honest.trials.values()] == [t.state for t in misled.trials.values()]


def test_random_settings_lie_in_the_space() -> None:
    space = build_space(guided.FIELDS, 31)
    drawn = draw_values(space, 0, 300)
    assert all(inside(values, space) for values in drawn)
    assert drawn != draw_values(space, 1, 300)
    assert {values["n_groups"] for values in drawn} == set(range(1, 16))
    assert sum(values["alpha"] < 0.0141 for values in drawn) == pytest.approx(150, abs=30)


def test_the_pick_at_a_cost() -> None:
    points = [Point(4, 10.0), Point(8, 30.0), Point(20, 20.0)]
    assert [at(points, spent) for spent in (0, 4, 7.9, 8, 19, 99)] == [10, 10, 10, 30, 30, 20]


def test_the_command_writes_a_table_and_a_picture(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With runs that are what they seem."""
    quick = Suite("glyph31", ("W2D",), TINY | {"steps": 2, "evaluate_every": 2})
    monkeypatch.setitem(SUITES, "glyph31", quick)
    arguments = f"--work {tmp_path} --tasks glyph31/W2D --seeds 1 --trials 3".split()
    assert guided.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "| glyph31/W2D | TPE + ASHA |" in printed
    assert "| glyph31/W2D | random |" in printed
    assert (tmp_path / "guided.png").read_bytes().startswith(b"\x89PNG")
    assert guided.main(arguments) == 0  # from what is there
    again = capsys.readouterr()
    assert again.out == printed
    assert again.err == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--metric oracle/target_accuracy", "reads target labels"),
        ("--metric mean-rank", "cannot guide a search"),
        ("--tasks office-caltech10/A2W", "office-caltech10/A2W needs --data"),
        ("--data nowhere", "nowhere"),
    ],
)
def test_mistakes_have_a_sentence(arguments: str, sentence: str, capsys: Any) -> None:
    assert guided.main(arguments.split()) == 2
    assert sentence in capsys.readouterr().err
