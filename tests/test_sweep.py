"""Cells of a sweep: which are due, and what is kept of them; without training."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import scene

from gsda.config import Config
from gsda.tasks import Task
from tune.failures import ERROR, NON_FINITE
from tune.history import COMPLETE, FAILED, OPEN, History
from tune.journal import Journal
from tune.progress import Progress
from tune.raywatch import OWN_S
from tune.settings import Settings
from tune.sweep import Cell, Sweep, Swept, _drop_models, by_setting, identity_of

TASK = Task.parse(scene.TASK)
CELLS = [Cell(f"c{n}", scene.small_config(seed=n)) for n in range(4)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sweep"


def make(folder: Path, **options: Any) -> Sweep:
    spec = scene.make_spec(scene.small_config(), 0) | {"references": {}, "trials": 0}
    return Sweep(TASK, Settings(storage=folder.parent), spec, folder, **options)


def record(folder: Path, cells: list[Cell], keep: bool = False) -> None:
    """The cells' place in a journal, as far as `Sweep.run` makes it."""
    journal = make(folder, keep=keep)._open(cells)
    journal.close()


def end(folder: Path, number: int, cell: Cell, state: str, cause: str = "") -> None:
    """A trial with its end, and with the model that a worker leaves."""
    journal = Journal(folder / "journal.log")
    config = cell.config.to_dict()
    journal.append("ask", trial=number, kind=cell.label, values={}, config=config)
    if state != OPEN:
        journal.append("end", trial=number, state=state, reason="why", cause=cause)
    journal.close()
    if state == COMPLETE:
        make(folder).model_of(history(folder).trials[number]).mkdir(parents=True)


def history(folder: Path) -> History:
    journal = Journal(folder / "journal.log")
    journal.close()
    return History.of(journal.events)


def labels(cells: list[Cell]) -> list[str]:
    return [cell.label for cell in cells]


@pytest.fixture
def four(folder: Path) -> Path:
    """Finished, unfinished, broken down, and failed for another reason."""
    record(folder, CELLS)
    end(folder, 0, CELLS[0], COMPLETE)
    end(folder, 1, CELLS[1], OPEN)
    end(folder, 2, CELLS[2], FAILED, NON_FINITE)
    end(folder, 3, CELLS[3], FAILED, ERROR)
    return folder


def test_a_cell_that_failed_is_run_again_where_it_may_fare_better(four: Path) -> None:
    sweep = make(four)
    assert labels(sweep.missing(CELLS)) == ["c1", "c3"]
    assert [trial.kind for trial in sweep.failed(CELLS)] == ["c2"]
    again = make(four, retry=True)
    assert labels(again.missing(CELLS)) == ["c1", "c2", "c3"]
    assert again.failed(CELLS) == []


def test_a_cell_is_run_again_under_a_number_of_its_own(four: Path) -> None:
    sweep = make(four, retry=True)
    record(four, sweep.missing(CELLS))
    listed = history(four).spec["references"]
    assert list(listed) == ["c0", "c1", "c2", "c3", "c2 (2)", "c3 (2)"]
    record(four, sweep.missing(CELLS))  # they are waiting: they are not listed twice
    assert list(history(four).spec["references"]) == list(listed)
    end(four, 4, Cell("c2 (2)", CELLS[2].config), COMPLETE)
    assert labels(make(four).missing(CELLS)) == ["c1", "c3"]
    found = by_setting(history(four))
    assert found[identity_of(CELLS[2].config.to_dict())].number == 4


def test_a_finished_trial_stands_before_one_that_came_later(four: Path) -> None:
    end(four, 4, CELLS[0], FAILED, ERROR)
    assert by_setting(history(four))[identity_of(CELLS[0].config.to_dict())].number == 0
    assert "c0" not in labels(make(four).missing(CELLS))


def test_models_go_unless_they_are_kept(folder: Path) -> None:
    record(folder, CELLS[:1])
    end(folder, 0, CELLS[0], COMPLETE)
    sweep = make(folder, keep=True)
    _drop_models(folder, scene.resume(journal := Journal(folder / "journal.log")))
    journal.close()
    assert labels(make(folder).missing(CELLS[:1])) == []
    assert labels(sweep.missing(CELLS[:1])) == ["c0"]  # for its model
    record(folder, CELLS[:1], keep=True)
    end(folder, 1, Cell("c0 (2)", CELLS[0].config), COMPLETE)
    _drop_models(folder, scene.resume(journal := Journal(folder / "journal.log")))
    journal.close()
    assert sweep.missing(CELLS[:1]) == []
    (trial,) = sweep.known().values()
    assert trial.number == 1
    assert sweep.model_of(trial).is_dir()


def test_a_journal_that_is_older_than_a_setting_knows_its_cells() -> None:
    config = scene.small_config().to_dict()
    older = {name: value for name, value in config.items() if name != "group_seed"}
    assert identity_of(older) == identity_of(config)
    assert identity_of(older) != identity_of(
        replace(Config.from_dict(config), group_seed=1).to_dict()
    )


def test_a_sweep_is_halted_when_ray_dies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cell at hand is unfinished, the journal says why, and the same command goes on."""
    watched: list[float] = []

    @contextmanager
    def watching(patience: float, on_death: Any, last_words: Any) -> Iterator[None]:
        watched.append(patience)
        with suppress(KeyboardInterrupt):
            yield
        on_death("Ray's head (gcs_server) died")

    def execute(progress: Progress) -> None:
        trial = progress.next_trial()
        assert trial is not None
        progress.start(trial)
        raise KeyboardInterrupt

    monkeypatch.setattr("tune.sweep.watching", watching)
    monkeypatch.setattr("tune.sweep.execute", execute)
    sweep = make(folder)
    journal = sweep._open(CELLS)
    mirror: Any = SimpleNamespace(nudge=lambda: None, settle=lambda _: True)
    monkeypatch.setattr(Sweep, "_link", lambda self, history, _: Swept(self.task, {}, {}))
    swept = sweep._drive(journal, scene.Share("cpu", 1, 0), mirror, scene.ignore)
    journal.close()
    assert swept.halted == "Ray's head (gcs_server) died"
    last = journal.events[-1]
    assert (last["event"], last["trials"], last["reason"]) == ("pause", [0], swept.halted)
    assert watched == [OWN_S]
    assert labels(make(folder).missing(CELLS)) == ["c0", "c1", "c2", "c3"]
