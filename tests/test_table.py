"""The table of trials at the end of a search."""

from pathlib import Path
from typing import Any

import finished
import pytest
import scene

from tune.history import History
from tune.journal import read_events
from tune.progress import Progress
from tune.table import table


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return finished.noted(tmp_path_factory.mktemp("table"))


def test_the_table_ranks_and_keeps_the_references(events: list[dict[str, Any]]) -> None:
    history = History.of(events)
    head, *rows = table(history, scene.METRIC)
    assert head.split() == [
        *("rank trial alpha beta n_groups tau val/bnm".split()),
        *("target accuracy".split()),
    ]
    ranked = sorted(history.in_state("COMPLETE"), key=lambda t: -t.final[scene.METRIC])
    shown = [int(row.split()[1]) for row in rows]
    assert shown[:5] == [trial.number for trial in ranked[:5]]
    assert {0, 1} <= set(shown)
    by_number = {int(row.split()[1]): row for row in rows}
    assert by_number[0].endswith("source-only, no adaptation")
    assert by_number[0].split()[2:6] == ["-"] * 4
    assert by_number[1].endswith("the paper's setting")
    assert "50.0%" in by_number[0]
    assert [int(row.split()[0]) for row in rows] == sorted(int(row.split()[0]) for row in rows)
    ends = {row.index("50.0%") for row in rows}
    assert len(ends) == 1  # the columns line up


def test_a_setting_that_was_given_is_not_called_the_papers(events: list[dict[str, Any]]) -> None:
    history = History.of(events)
    history.spec["as_in_paper"] = False
    rows = "\n".join(table(history, scene.METRIC))
    assert "the setting that was given" in rows
    assert "the paper's" not in rows


def test_without_target_labels_there_is_no_such_column(tmp_path: Path) -> None:
    progress: Progress = scene.resume(scene.begin(tmp_path, 2))
    scene.work(progress)
    progress.journal.close()
    lines = table(History.of(read_events(tmp_path / "journal.log")[0]), scene.METRIC)
    assert "target accuracy" not in lines[0]
    assert len(lines) >= 3
