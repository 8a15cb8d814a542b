"""`Progress`, where a trial stops through no fault of its setting."""

from pathlib import Path

import pytest
import scene

from tune.failures import BAD_DATA, GPU_MEMORY, LOST_NODE, LOST_WORKER, STORAGE
from tune.history import COMPLETE, FAILED, OPEN, History
from tune.journal import Journal, read_events
from tune.progress import HALT_AFTER, Progress
from tune.trainable import Report


def fault(number: int, progress: Progress, reason: str = "the disk is full") -> bool:
    return progress.report(number, Report(0, {}, 0.0, False, fault=reason))


def test_a_fault_is_tried_again_after_the_others(tmp_path: Path) -> None:
    progress = scene.resume(scene.begin(tmp_path, trials=2))
    progress.start(progress.next_trial())
    assert fault(0, progress)  # the worker leaves the trial
    assert progress.history.trials[0].state == OPEN
    assert not progress.running
    tried = []
    while (trial := progress.next_trial()) is not None:
        tried.append(trial.number)
        for report in scene.reports(progress.start(trial)):
            if progress.report(trial.number, report):
                break
    assert tried == [1, 2, 3, 0]
    assert progress.history.trials[0].state == COMPLETE
    progress.journal.close()


def test_more_faults_than_it_may_have_fail_a_trial(tmp_path: Path) -> None:
    progress = scene.resume(scene.begin(tmp_path, trials=1))
    first = progress.next_trial()
    for _ in range(progress.plan.max_failures + 1):
        assert first.state == OPEN
        progress.start(first)
        progress.fault(0, "its worker died")
    assert (first.state, first.reason) == (FAILED, "its worker died")
    progress.fault(0, "it was removed")
    assert sum(event["event"] == "end" for event in progress.journal.events) == 1
    assert not progress.halted  # one trial alone says nothing of the surroundings
    progress.journal.close()


def test_one_fault_after_another_halts_the_search(tmp_path: Path) -> None:
    progress = scene.resume(scene.begin(tmp_path))
    for number in range(HALT_AFTER):
        assert not progress.halted
        progress.start(progress.next_trial())
        progress.fault(number, f"the disk is full ({number})")
    assert progress.halted == f"the disk is full ({HALT_AFTER - 1})"
    assert progress.next_trial() is None
    assert len(progress.history.in_state(OPEN)) == HALT_AFTER  # none of them is lost
    progress.journal.append("resume")
    progress.journal.close()
    again = scene.resume(Journal(progress.journal.path))
    assert not again.halted
    scene.work(again)
    assert not again.history.in_state(OPEN)
    assert len(again.history.trials) == again.history.total
    again.journal.close()


def test_with_many_at_once_one_fault_of_each_is_not_enough(tmp_path: Path) -> None:
    progress = scene.resume(scene.begin(tmp_path, trials=12))
    for _ in range(8):
        progress.start(progress.next_trial())
    for number in range(8):  # as when the machine that has them all is restarted
        progress.fault(number, "its worker died", LOST_WORKER)
    assert not progress.halted
    progress.start(progress.next_trial())
    progress.fault(8, "its worker died", LOST_WORKER)
    assert progress.halted == "its worker died"
    progress.journal.close()


def test_lost_machines_count_against_nobody(tmp_path: Path) -> None:
    progress = scene.resume(scene.begin(tmp_path, trials=2))
    for _ in range(5):
        for _ in range(3):
            progress.start(progress.next_trial())
        for number in range(3):
            progress.fault(number, "its machine was lost", LOST_NODE)
    assert not progress.halted
    assert [trial.faults for trial in progress.history.in_state(OPEN)] == [0, 0, 0]
    scene.work(progress)
    assert [t.state for t in progress.history.trials.values()].count(FAILED) == 0
    progress.journal.close()


@pytest.mark.parametrize("cause", [STORAGE, BAD_DATA])
def test_what_would_stop_all_trials_halts_the_search_at_once(cause: str, tmp_path: Path) -> None:
    progress = scene.resume(scene.begin(tmp_path))
    progress.start(progress.next_trial())
    fault = Report(0, {}, 0.0, False, fault="x.png cannot be read", cause=cause)
    assert progress.report(0, fault)
    assert progress.halted == "x.png cannot be read"
    assert progress.next_trial() is None
    assert [trial.state for trial in progress.history.trials.values()] == [OPEN]
    progress.journal.append("resume")
    progress.journal.close()
    again = scene.resume(Journal(progress.journal.path))
    scene.work(again)
    assert len(again.history.ended) == again.history.total
    again.journal.close()


def test_the_cause_stands_in_the_journal(tmp_path: Path) -> None:
    progress = scene.resume(scene.begin(tmp_path))
    progress.start(progress.next_trial())
    progress.report(0, Report(2, {}, 1.0, False, failure="too large", cause=GPU_MEMORY))
    trial = progress.history.trials[0]
    assert (trial.state, trial.reason, trial.cause) == (FAILED, "too large", GPU_MEMORY)
    progress.journal.close()
    events, _ = read_events(progress.journal.path)
    assert History.of(events).trials[0].cause == GPU_MEMORY


def test_a_journal_of_before_there_were_causes(tmp_path: Path) -> None:
    journal = scene.begin(tmp_path)
    progress = scene.resume(journal)
    progress.start(progress.next_trial())
    journal.append("fault", trial=0, reason="its worker died")
    journal.append("end", trial=0, state=FAILED, reason="its worker died")
    trial = History.of(journal.events).trials[0]
    assert (trial.faults, trial.cause, trial.reason) == (1, "", "its worker died")
    journal.append("fault", trial=0, reason="?", cause="of a later version")
    assert History.of(journal.events).trials[0].faults == 2
    journal.close()


def test_a_report_shows_that_the_surroundings_are_sound(tmp_path: Path) -> None:
    progress = scene.resume(scene.begin(tmp_path, trials=6))
    for number in range(2 * HALT_AFTER):
        progress.start(progress.next_trial())
        if number % 2:
            progress.report(number, Report(2, {scene.METRIC: 0.1}, 1.0, False))
        progress.fault(number, "its worker died")
    assert not progress.halted
    progress.journal.close()
