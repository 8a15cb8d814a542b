"""Tune's questions, answered from the journal, without Tune."""

from pathlib import Path

import pytest
import scene

from tune import executor
from tune.executor import JournalSearcher
from tune.failures import LOST_WORKER
from tune.trainable import Order, Report


def test_a_trial_that_cannot_get_a_place_halts_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "places", lambda share: 2)
    progress = scene.resume(scene.begin(tmp_path))
    (tmp_path / "trials").write_text("")
    assert JournalSearcher(progress).suggest("first") == JournalSearcher.FINISHED
    assert progress.halted.startswith("Not a directory on this machine: ")
    assert (progress.running, progress.history.trials[0].starts) == (set(), 0)
    progress.journal.close()


def test_a_fault_of_the_last_trial_is_tried_again_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune asks no more once it was told that all is finished."""
    monkeypatch.setattr(executor, "places", lambda share: 2)
    progress = scene.resume(scene.begin(tmp_path, 1))
    searcher = JournalSearcher(progress)
    for _ in range(2):  # the references
        order = Order.of_config(searcher.suggest("x"))
        for report in scene.reports(order):
            progress.report(order.number, report)
    last = Order.of_config(searcher.suggest("x"))
    assert searcher.suggest("x") is None
    progress.fault(last.number, "its worker died", LOST_WORKER)
    assert Order.of_config(searcher.suggest("x")).number == last.number
    progress.report(last.number, Report(6, {scene.METRIC: 0.9}, 1.0, True))
    assert searcher.suggest("x") == JournalSearcher.FINISHED
    progress.journal.close()
