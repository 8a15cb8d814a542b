"""Where a search stands, by its events alone."""

from pathlib import Path
from typing import Any

import pytest
import scene

from tune.journal import iterate_events
from tune.standing import Standing


@pytest.fixture
def second_trial(tmp_path: Path) -> list[dict[str, Any]]:
    """Events of a search whose second trial has begun; ten seconds lie between any two."""
    base = scene.small_config(steps=18, evaluate_every=2)
    journal = scene.begin(tmp_path, 3, base)
    progress = scene.resume(journal)
    for number in range(2):
        trial = progress.next_trial()
        assert trial is not None
        for report in scene.reports(progress.start(trial)):
            if progress.report(number, report) or number == 1:
                break
    journal.close()
    events = [event for event, _ in iterate_events(tmp_path / "journal.log")]
    return [event | {"time": 10.0 * place} for place, event in enumerate(events)]


def test_the_time_left_waits_for_a_silent_trial(second_trial: list[dict[str, Any]]) -> None:
    """It counts down to what the trial can have done untold, and no further."""
    history, standing = Standing.of(second_trial)
    assert (standing.running, max(history.trials[1].reports)) == ({1}, 2)
    now = second_trial[-1]["time"]
    left = [standing.seconds_left(history, now + passed) for passed in (0.0, 1.0, 1e3, 1e6)]
    assert left[0] is not None
    pace = left[0] / (5 * 18 - 20)  # of five trials of 18 steps, 20 steps are done
    assert left == pytest.approx([left[0], left[0] - 1, left[0] - 2 * pace, left[0] - 2 * pace])
