"""`Progress`: what a search does next, whatever happened to the process that drove it before."""

import random
import time
from collections import Counter
from pathlib import Path

import pytest
import scene

from gsda.checkpoint import save_step
from tune.history import COMPLETE, FAILED, OPEN, PAPER, PRUNED, SEARCHED, SOURCE_ONLY, History
from tune.journal import Journal, read_events
from tune.progress import Progress
from tune.trainable import Report

TRIALS = 12


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Progress:
    """A search that ran from its first event to its last."""
    progress = scene.resume(scene.begin(tmp_path_factory.mktemp("whole"), TRIALS, LONG))
    scene.work(progress)
    progress.journal.close()
    return progress


LONG = scene.small_config(steps=18)


def open_copy(folder: Path, content: bytes) -> Journal:
    folder.mkdir()
    (folder / "journal.log").write_bytes(content)
    return Journal(folder / "journal.log")


def test_the_scene_has_all_that_can_happen(undisturbed: Progress) -> None:
    states = Counter(trial.state for trial in undisturbed.history.trials.values())
    assert set(states) == {COMPLETE, PRUNED, FAILED}
    assert states[PRUNED] >= 2
    assert len({str(t.values) for t in undisturbed.history.trials.values()}) == TRIALS + 2


def test_references_run_first_and_to_their_end(undisturbed: Progress) -> None:
    first, second, *others = undisturbed.history.trials.values()
    assert (first.kind, second.kind) == (SOURCE_ONLY, PAPER)
    assert {trial.kind for trial in others} == {SEARCHED}
    assert first.state == second.state == COMPLETE
    assert first.config["levels"] == []
    assert second.config == LONG.to_dict()


def test_references_are_not_stopped_however_bad_they_are(tmp_path: Path) -> None:
    progress = scene.resume(scene.begin(tmp_path, 2, LONG))
    trials = [progress.next_trial() for _ in range(2) if progress.start(progress.next_trial())]
    searched = progress.next_trial()
    progress.start(searched)
    for step in LONG.rungs():  # the searched one is far ahead at every rung
        over = progress.report(2, Report(step, {scene.METRIC: 9.0}, 1.0, step == LONG.steps))
        assert over == (step == LONG.steps)
    for number in (0, 1):
        for step in LONG.rungs():
            report = Report(step, {scene.METRIC: 0.0}, 1.0, step == LONG.steps)
            assert progress.report(number, report) == (step == LONG.steps)
        assert progress.history.trials[number].state == COMPLETE
    last = progress.next_trial()
    progress.start(last)
    assert progress.report(3, Report(2, {scene.METRIC: -1.0}, 1.0, False))
    assert last.state == PRUNED
    assert len(trials) == 2
    progress.journal.close()


def test_a_search_has_as_many_trials_as_were_asked_for(undisturbed: Progress) -> None:
    assert list(undisturbed.history.trials) == list(range(TRIALS + 2))
    assert undisturbed.next_trial() is None
    events = Counter(e["event"] for e in undisturbed.journal.events)
    assert events["ask"] == events["end"] == TRIALS + 2


def test_killed_after_any_event_it_ends_the_same(undisturbed: Progress, tmp_path: Path) -> None:
    lines = undisturbed.journal.path.read_bytes().splitlines(keepends=True)
    expected = scene.summary(undisturbed.history)
    best = undisturbed.history.best(scene.METRIC)
    assert best is not None
    for kept in range(1, len(lines) + 1):
        torn = lines[kept][: kept % len(lines[kept])] if kept < len(lines) else b""
        journal = open_copy(tmp_path / str(kept), b"".join(lines[:kept]) + torn)
        progress = scene.resume(journal)
        scene.work(progress)
        assert scene.summary(progress.history) == expected, kept
        assert progress.history.best(scene.METRIC).number == best.number
        ends = Counter(e["trial"] for e in journal.events if e["event"] == "end")
        assert set(ends.values()) == {1}
        assert len(ends) == TRIALS + 2
        # the journal alone says the same as the memory of the process
        journal.close()
        assert scene.summary(History.of(read_events(journal.path)[0])) == expected


class Cluster:
    """Workers side by side, at random speed; the driver is killed at random moments."""

    def __init__(self, journal: Journal, seed: int) -> None:
        self.rng = random.Random(seed)
        self.progress = scene.resume(journal)
        self.workers: dict = {}
        self.kills = 0

    def run(self) -> None:
        idle = False
        while self.workers or not idle:
            act = self.rng.random()
            if act < 0.1:
                self.kill()
                idle = False
            elif act < 0.4 and len(self.workers) < 3:
                trial = self.progress.next_trial()
                idle = trial is None
                if trial is not None:
                    self.workers[trial.number] = scene.reports(self.progress.start(trial))
            elif self.workers:
                number = self.rng.choice(list(self.workers))
                if self.progress.report(number, next(self.workers[number])):
                    del self.workers[number]

    def kill(self) -> None:
        self.kills += 1
        self.workers = {}
        self.progress.journal.close()
        self.progress = scene.resume(Journal(self.progress.journal.path))


@pytest.mark.parametrize("seed", range(8))
def test_side_by_side_and_killed_at_random(seed: int, tmp_path: Path) -> None:
    cluster = Cluster(scene.begin(tmp_path, TRIALS, LONG, seed), seed)
    cluster.run()
    history, events = cluster.progress.history, cluster.progress.journal.events
    assert cluster.kills > 0
    assert list(history.trials) == list(range(TRIALS + 2))
    assert not history.in_state(OPEN)
    assert not cluster.progress.running
    once = Counter((e["event"], e["trial"], e.get("step")) for e in events if "trial" in e)
    assert all(n == 1 for (kind, _, _), n in once.items() if kind in ("ask", "report", "end"))
    for trial in history.trials.values():
        steps = [step for step in LONG.rungs() if step in trial.reports]
        assert list(trial.reports) == steps == LONG.rungs()[: len(steps)]  # without gaps, in order
        assert not (trial.is_reference and trial.state == PRUNED)
        assert (trial.state == COMPLETE) == (LONG.steps in trial.reports)
    cluster.progress.journal.close()


def test_orders_say_what_the_driver_knows(tmp_path: Path) -> None:
    progress = scene.resume(scene.begin(tmp_path))
    order = progress.start(progress.next_trial())
    assert (order.number, order.known, order.threads) == (0, (), 1)
    assert order.folder == str(tmp_path / "trials" / "0000")
    assert order.attempt == 1
    assert order.place.is_dir()
    assert type(order).of_config(order.to_config()) == order
    progress.report(0, Report(2, {scene.METRIC: 0.1}, 1.0, False))
    progress.journal.close()
    again = scene.resume(Journal(progress.journal.path))
    trial = again.next_trial()
    assert trial is not None
    second = again.start(trial)
    assert (second.number, second.known, second.attempt) == (0, (2,), 2)
    assert (second.place.is_dir(), order.place.exists()) == (True, False)
    again.journal.close()


def test_duplicate_reports_are_written_once_and_change_nothing(tmp_path: Path) -> None:
    progress = scene.resume(scene.begin(tmp_path))
    progress.start(progress.next_trial())
    report = Report(2, {scene.METRIC: 0.5}, 1.0, False)
    assert not progress.report(0, report)
    size = progress.journal.path.stat().st_size
    assert not progress.report(0, report)
    assert not progress.report(0, Report(2, {scene.METRIC: 99.0}, 7.0, False))
    assert progress.journal.path.stat().st_size == size
    assert progress.history.trials[0].final == {scene.METRIC: 0.5}
    progress.journal.close()


def test_a_finished_report_that_is_known_ends_the_trial(tmp_path: Path) -> None:
    progress = scene.resume(scene.begin(tmp_path))
    progress.start(progress.next_trial())
    report = Report(6, {scene.METRIC: 0.5}, 1.0, True)
    assert progress.report(0, report)
    assert progress.history.trials[0].state == COMPLETE
    assert progress.report(0, report)  # a late echo of a trial that is over
    assert sum(e["event"] == "end" for e in progress.journal.events) == 1
    progress.journal.close()


def test_a_failure_ends_the_trial_with_its_reason_and_not_the_search(tmp_path: Path) -> None:
    progress = scene.resume(scene.begin(tmp_path, trials=2))
    progress.start(progress.next_trial())
    assert progress.report(0, Report(4, {}, 1.0, False, failure="loss/C became nan"))
    trial = progress.history.trials[0]
    assert (trial.state, trial.reason) == (FAILED, "loss/C became nan")
    assert 0 not in progress.running
    scene.work(progress)
    assert len(progress.history.trials) == 4
    assert not progress.history.in_state(OPEN)
    progress.journal.close()


def test_extending_goes_on_with_new_numbers(undisturbed: Progress, tmp_path: Path) -> None:
    journal = open_copy(tmp_path / "x", undisturbed.journal.path.read_bytes())
    journal.append("extend", trials=TRIALS + 3)
    progress = scene.resume(journal)
    scene.work(progress)
    assert len(progress.history.trials) == TRIALS + 5
    kept = scene.summary(progress.history)[: TRIALS + 2]
    assert kept == scene.summary(undisturbed.history)
    journal.close()
    # and it is as if so many had been asked for from the beginning
    longer = scene.resume(scene.begin(tmp_path / "y", TRIALS + 3, LONG))
    scene.work(longer)
    assert scene.summary(longer.history) == scene.summary(progress.history)
    longer.journal.close()


def test_after_the_deadline_nothing_new_is_begun(tmp_path: Path) -> None:
    journal = scene.begin(tmp_path)
    progress = scene.resume(journal, deadline=time.time() + 3600)
    trial = progress.next_trial()
    assert trial is not None
    assert not progress.is_late
    progress.start(trial)
    journal.close()
    late = scene.resume(Journal(journal.path), deadline=time.time() - 1)
    assert late.is_late
    begun = late.next_trial()
    assert begun is not None  # what was begun is brought to its end
    assert begun.number == 0
    late.start(begun)
    assert late.next_trial() is None
    late.journal.close()


def test_a_verdict_that_was_not_written_down_is_carried_out(
    undisturbed: Progress, tmp_path: Path
) -> None:
    lines = undisturbed.journal.path.read_bytes().splitlines(keepends=True)
    wanted = [n for n, line in enumerate(lines) if b'"PRUNED"' in line or b'"COMPLETE"' in line]
    for position in wanted:  # killed between the report and the end that follows from it
        journal = open_copy(tmp_path / str(position), b"".join(lines[:position]))
        number = undisturbed.journal.events[position]["trial"]
        progress = scene.resume(journal)
        assert progress.history.trials[number].state == undisturbed.history.trials[number].state
        journal.close()


def test_checkpoints_go_when_a_trial_ends_and_stay_until_then(tmp_path: Path) -> None:
    progress = scene.resume(scene.begin(tmp_path))
    progress.start(progress.next_trial())
    folder = progress.folder_of(0)
    save_step(folder, 2, {"x": 1})
    progress.report(0, Report(2, {scene.METRIC: 0.1}, 1.0, False))
    assert len(list(folder.glob("*.pt"))) == 1
    progress.report(0, Report(6, {scene.METRIC: 0.1}, 1.0, True))
    assert list(folder.glob("*.pt")) == []
    progress.journal.close()


def test_of_a_trial_that_has_ended_only_the_model_remains(tmp_path: Path) -> None:
    """However it ended, and though the driver was killed before it could clear up."""
    progress = scene.resume(scene.begin(tmp_path))
    for number in range(3):
        progress.start(progress.next_trial())
        save_step(progress.folder_of(number), 2, {"x": 1})
        (progress.folder_of(number) / "model").mkdir()
    progress.report(0, Report(2, {}, 1.0, False, failure="loss/C became nan"))
    for _ in range(progress.plan.max_failures + 1):
        progress.fault(1, "its worker died")
    assert progress.history.trials[1].state == FAILED
    progress.journal.append("end", trial=2, state=PRUNED, reason="")  # and killed at this moment
    progress.journal.close()
    again = scene.resume(Journal(progress.journal.path))
    assert list(tmp_path.rglob("*.pt")) == []
    assert len(list(tmp_path.rglob("model"))) == 3
    again.journal.close()


def test_the_best_step_can_stand_for_a_trial(tmp_path: Path) -> None:
    journal = scene.begin(tmp_path)
    journal.events[0]["spec"]["select"] = "best"
    progress = scene.resume(journal)
    progress.start(progress.next_trial())
    order = progress.start(progress.next_trial())
    assert (order.metric, order.select) == (scene.METRIC, "best")
    for step, score, accuracy in ((2, 0.5, 0.1), (4, 0.7, 0.3), (6, 0.6, 0.4)):
        metrics = {scene.METRIC: score, "oracle/target_accuracy": accuracy}
        progress.report(1, Report(step, metrics, 1.0, step == 6))
    trial = progress.history.trials[1]
    assert (trial.picked, trial.value(scene.METRIC)) == (4, 0.7)
    assert trial.value("oracle/target_accuracy") == 0.3
    assert journal.events[-1]["picks"] == {"last": 6, "best": 4, "oracle": 6}
    assert progress.history.best(scene.METRIC) is trial
    journal.close()


def test_the_listener_hears_of_every_event_after_it_was_written(tmp_path: Path) -> None:
    journal = scene.begin(tmp_path, trials=1)
    heard: list[str] = []

    def listen(event: dict, history: History) -> None:
        assert journal.events[-1] is event
        heard.append(event["event"])

    plan = scene.make_plan(History.of(journal.events).spec, tmp_path)
    scene.work(Progress(plan, journal, listen))
    assert heard == [event["event"] for event in journal.events[1:]]
    journal.close()
