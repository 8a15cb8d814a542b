"""Later stages: what a history calls for, and that a stopped one ends the same."""

from pathlib import Path

import pytest
import scene

from tune import stages
from tune.choice import candidates, choose
from tune.history import COMPLETE, OPEN, REPEATED, History
from tune.journal import Journal, read_events
from tune.mlstore import find_run
from tune.progress import Progress
from tune.record import Projection
from tune.sampler import propose
from tune.trainable import Report

TRIALS, SEEDS, TOP = 5, 3, 2


def begin(folder: Path, **more: object) -> Journal:
    spec = scene.make_spec(scene.small_config(), TRIALS) | {"seeds": SEEDS, "top": TOP} | more
    journal = Journal(folder / "journal.log")
    journal.append("search", uuid="5ea4c4", spec=spec)
    return journal


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Progress:
    """A search and the repeats of its best settings, undisturbed."""
    progress = scene.resume(begin(tmp_path_factory.mktemp("seeds")))
    scene.work(progress)
    progress.journal.close()
    return progress


def test_the_best_settings_get_every_seed(done: Progress) -> None:
    history = done.history
    again = history.of_kind(REPEATED)
    assert len(history.trials) == history.total == TRIALS + 2 + TOP * (SEEDS - 1)
    best = [entry.setting.number for entry in candidates(history, repeated=False)[:TOP]]
    assert [t.parent for t in again] == [n for n in best for _ in range(SEEDS - 1)]
    for trial in again:
        parent = history.trials[trial.parent]
        more = trial.config["seed"] - parent.config["seed"]
        assert more in range(1, SEEDS)
        changed = {"seed": parent.config["seed"] + more, "group_seed": more}
        assert trial.config == parent.config | changed
        assert trial.state == COMPLETE
    assert not done.has_new


def test_the_winner_has_the_best_mean_of_all_seeds(done: Progress) -> None:
    chosen = choose(done.history)
    assert chosen is not None
    assert len(chosen.winner.runs) == SEEDS
    ranked = candidates(done.history)
    assert {entry.setting.number for entry in ranked} == {
        t.parent for t in done.history.of_kind(REPEATED)
    }
    assert chosen.winner.score == max(entry.score for entry in ranked)


def test_repeats_wait_for_the_last_trial(tmp_path: Path) -> None:
    progress = scene.resume(begin(tmp_path))
    begun = []
    for _ in range(TRIALS + 2):
        begun.append(progress.next_trial())
        progress.start(begun[-1])
    assert stages.progress(progress.history)[0] == "searched"
    for trial in begun[:-1]:
        progress.report(trial.number, Report(6, {scene.METRIC: 0.5}, 1.0, True))
    assert progress.next_trial() is None
    assert progress.is_waiting
    progress.report(begun[-1].number, Report(6, {scene.METRIC: 0.9}, 1.0, True))
    first = progress.next_trial()
    assert (first.kind, first.parent) == (REPEATED, begun[-1].number)
    assert stages.progress(progress.history) == (REPEATED, 0, TOP * (SEEDS - 1) * 6)
    progress.journal.close()


def test_killed_after_any_event_it_ends_the_same(done: Progress, tmp_path: Path) -> None:
    lines = done.journal.path.read_bytes().splitlines(keepends=True)
    for kept in range(1, len(lines) + 1, 3):
        folder = tmp_path / str(kept)
        folder.mkdir()
        (folder / "journal.log").write_bytes(b"".join(lines[:kept]))
        progress = scene.resume(Journal(folder / "journal.log"))
        scene.work(progress)
        assert scene.summary(progress.history) == scene.summary(done.history), kept
        progress.journal.close()


def test_repeats_neither_guide_the_search_nor_are_stopped_early(done: Progress) -> None:
    events = read_events(done.journal.path)[0]
    before = History.of(e for e in events if e.get("trial", 0) < TRIALS + 2)
    arguments = (done.plan.space, scene.METRIC, 0, 40)
    assert propose(done.history, *arguments) == propose(before, *arguments)
    assert {t.state for t in done.history.of_kind(REPEATED)} == {COMPLETE}


def test_an_extended_search_repeats_what_is_best_now(done: Progress, tmp_path: Path) -> None:
    (tmp_path / "journal.log").write_bytes(done.journal.path.read_bytes())
    journal = Journal(tmp_path / "journal.log")
    journal.append("extend", trials=TRIALS + 6)
    progress = scene.resume(journal)
    scene.work(progress)
    history = progress.history
    best = {entry.setting.number for entry in candidates(history, repeated=False)[:TOP]}
    assert best <= {t.parent for t in history.of_kind(REPEATED)}
    assert len(history.trials) == history.total
    assert not history.in_state(OPEN)
    journal.close()


def test_mlflow_says_what_a_run_repeats(done: Progress, store: str) -> None:
    projection = Projection(store)
    for event in done.journal.events:
        projection.apply(event, deliver=True)
    trial = done.history.of_kind(REPEATED)[0]
    key = done.history.key(trial.number)
    run_id = find_run(projection.client, projection.experiment, "gsda.trial", key)
    tags = projection.client.get_run(run_id).data.tags
    assert tags["setting_of"] == str(trial.parent)
    assert (tags["kind"], tags["seed"]) == (REPEATED, str(trial.config["seed"]))
