"""Which step stands for a trial."""

import pytest

from tune.picks import SELECTIONS, all_picks, pick

REPORTS = {
    2: {"val/bnm": 0.5, "oracle/target_accuracy": 0.9},
    4: {"val/bnm": 0.7, "oracle/target_accuracy": 0.1},
    6: {"val/bnm": 0.7, "oracle/target_accuracy": 0.2},
    8: {"val/bnm": 0.6, "oracle/target_accuracy": 0.3},
}


@pytest.mark.parametrize(("select", "step"), [("last", 8), ("best", 4)])
def test_picks(select: str, step: int) -> None:
    assert pick(REPORTS, "val/bnm", select) == step


@pytest.mark.parametrize("select", SELECTIONS)
def test_labels_pick_nothing(select: str) -> None:
    shuffled = {s: m | {"oracle/target_accuracy": -s} for s, m in REPORTS.items()}
    assert pick(shuffled, "val/bnm", select) == pick(REPORTS, "val/bnm", select)


def test_all_of_them_side_by_side() -> None:
    assert all_picks(REPORTS, "val/bnm") == {"last": 8, "best": 4, "oracle": 2}
    unlabelled = {step: {"val/bnm": m["val/bnm"]} for step, m in REPORTS.items()}
    assert all_picks(unlabelled, "val/bnm") == {"last": 8, "best": 4}
    assert all_picks({}, "val/bnm") == {}
    assert all_picks({2: {}}, "val/bnm") == {"last": 2}


@pytest.mark.parametrize("select", SELECTIONS)
def test_without_the_metric_it_is_the_last_step(select: str) -> None:
    """A refit has no score that judges by a hold-out."""
    assert pick(REPORTS, "val/dev", select) == 8
    assert pick({}, "val/dev", select) is None
