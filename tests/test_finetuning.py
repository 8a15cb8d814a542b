"""`--finetune-top`: settings found on frozen features, the best of them trained end to end."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scene
from PIL import Image

from gsda.config import Config
from gsda.errors import BadInput
from tune.console import Console
from tune.executor import JournalSearcher
from tune.history import COMPLETE, FINETUNED, OPEN, PAPER, SOURCE_ONLY, History
from tune.journal import Journal, read_events
from tune.mlstore import find_run
from tune.progress import Progress
from tune.record import Projection
from tune.sampler import propose
from tune.settings import Settings
from tune.space import OF_ADAPTATION
from tune.table import table
from tune.trainable import Report

TRIALS, TOP = 6, 2
FROZEN = scene.small_config(features="frozen", lr=0.05)
WHOLE = scene.small_config(steps=3, evaluate_every=3, lr=0.001, backbone_lr=0.5)


def begin(folder: Path, trials: int = TRIALS, top: int = TOP) -> Journal:
    spec = scene.make_spec(FROZEN, trials)
    spec |= {"finetune_top": top, "finetune_base": WHOLE.to_dict()}
    journal = Journal(folder / "journal.log")
    journal.append("search", uuid="5ea4c4", spec=spec)
    return journal


def resume(journal: Journal) -> Progress:
    plan = scene.make_plan(History.of(journal.events).spec, journal.path.parent)
    return Progress(plan, journal, scene.ignore)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Progress:
    """A search and its fine-tuning, undisturbed."""
    progress = resume(begin(tmp_path_factory.mktemp("whole")))
    scene.work(progress)
    progress.journal.close()
    return progress


def rivals(history: History) -> list[int]:
    """Numbers of the finished trials that adapt, best first."""
    ran = [t for t in history.in_state(COMPLETE) if t.kind not in (SOURCE_ONLY, FINETUNED)]
    return [t.number for t in sorted(ran, key=lambda t: -(t.value(scene.METRIC) or 0.0))]


def test_the_best_are_trained_end_to_end_after_the_others(done: Progress) -> None:
    history = done.history
    assert len(history.trials) == history.total == TRIALS + 2 + TOP
    last = [history.trials[TRIALS + 2 + k] for k in range(TOP)]
    assert [t.kind for t in last] == [FINETUNED] * TOP
    assert [t.parent for t in last] == rivals(history)[:TOP]
    assert not done.has_new


def test_they_keep_what_was_found_and_train_as_end_to_end_training_does(done: Progress) -> None:
    for trial in done.history.of_kind(FINETUNED):
        parent = done.history.trials[trial.parent]
        for name in OF_ADAPTATION:
            assert trial.config[name] == parent.config[name]
        changed = {n: WHOLE.to_dict()[n] for n in trial.config if n not in OF_ADAPTATION}
        assert {n: v for n, v in trial.config.items() if n not in OF_ADAPTATION} == changed
        assert max(trial.reports) == WHOLE.steps


def test_one_that_is_still_running_may_be_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.executor.places", lambda share: 8)  # there is no Ray to ask
    progress = resume(begin(tmp_path, trials=1, top=1))
    trials = []
    for _ in range(3):
        trial = progress.next_trial()
        progress.start(trial)
        trials.append(trial)
    for trial in trials[:2]:
        progress.report(trial.number, Report(6, {scene.METRIC: 0.5}, 1.0, True))
    assert progress.next_trial() is None
    assert JournalSearcher(progress).suggest("x") is None  # later, not never
    progress.report(2, Report(6, {scene.METRIC: 0.9}, 1.0, True))
    best = progress.next_trial()
    assert (best.kind, best.parent) == (FINETUNED, 2)
    progress.journal.close()


def test_source_only_and_unfinished_trials_are_not_fine_tuned(done: Progress) -> None:
    parents = {trial.parent for trial in done.history.of_kind(FINETUNED)}
    kinds = {done.history.trials[number].kind for number in parents}
    assert SOURCE_ONLY not in kinds
    assert {done.history.trials[number].state for number in parents} == {COMPLETE}


def test_fewer_than_asked_for_if_fewer_finished(tmp_path: Path) -> None:
    progress = resume(begin(tmp_path, trials=1, top=9))
    assert progress.history.total == 3 + 9
    scene.work(progress)
    finished = rivals(progress.history)
    assert len(progress.history.of_kind(FINETUNED)) == len(finished) < 9
    assert progress.history.total == len(progress.history.trials)
    progress.journal.close()


def test_killed_after_any_event_it_ends_the_same(done: Progress, tmp_path: Path) -> None:
    lines = done.journal.path.read_bytes().splitlines(keepends=True)
    for kept in range(1, len(lines) + 1):
        folder = tmp_path / str(kept)
        folder.mkdir()
        (folder / "journal.log").write_bytes(b"".join(lines[:kept]))
        progress = resume(Journal(folder / "journal.log"))
        scene.work(progress)
        assert scene.summary(progress.history) == scene.summary(done.history), kept
        progress.journal.close()


def test_more_trials_may_bring_others_to_the_top(done: Progress, tmp_path: Path) -> None:
    (tmp_path / "journal.log").write_bytes(done.journal.path.read_bytes())
    journal = Journal(tmp_path / "journal.log")
    journal.append("extend", trials=TRIALS + 8)
    progress = resume(journal)
    scene.work(progress)
    history = progress.history
    parents = [trial.parent for trial in history.of_kind(FINETUNED)]
    assert len(set(parents)) == len(parents)
    assert set(rivals(history)[:TOP]) <= set(parents)
    assert len(history.trials) == history.total
    journal.close()


def test_their_scores_do_not_guide_the_search(done: Progress) -> None:
    events = read_events(done.journal.path)[0]
    before = History.of(e for e in events if e.get("trial", 0) < TRIALS + 2)
    arguments = (done.plan.space, scene.METRIC, 0, 40)
    assert propose(done.history, *arguments) == propose(before, *arguments)


def test_they_are_never_stopped_early(tmp_path: Path) -> None:
    progress = resume(begin(tmp_path, trials=3, top=1))
    while (trial := progress.next_trial()).kind != FINETUNED:
        for report in scene.reports(progress.start(trial)):
            if progress.report(trial.number, report):
                break
    progress.start(trial)
    assert not progress.report(trial.number, Report(2, {scene.METRIC: -9.0}, 1.0, False))
    assert trial.state == OPEN
    progress.journal.close()


def test_the_table_shows_both_scores(done: Progress) -> None:
    lines = [line for line in table(done.history, scene.METRIC) if "end to end" in line]
    assert len(lines) == TOP
    for trial in done.history.of_kind(FINETUNED):
        was = done.history.trials[trial.parent].value(scene.METRIC)
        assert any(f"trial {trial.parent} end to end, was {was:.4f}" in line for line in lines)


def test_the_console_tells_of_the_second_stage(done: Progress) -> None:
    stream = io.StringIO()
    console = Console(stream)
    history = History()
    for event in done.journal.events:
        history.apply(event)
        if event["event"] == "search":
            console.begin(history, "cpu", 1)
        console.event(event, history)
    text = stream.getvalue()
    assert f", then the {TOP} best end to end for {WHOLE.steps} steps" in text
    assert text.count("end to end: alpha") == TOP


def test_mlflow_has_both_scores_on_the_run(done: Progress, store: str) -> None:
    projection = Projection(store)
    for event in done.journal.events:
        projection.apply(event, deliver=True)
    for trial in done.history.of_kind(FINETUNED):
        key = done.history.key(trial.number)
        run_id = find_run(projection.client, projection.experiment, "gsda.trial", key)
        run = projection.client.get_run(run_id)
        assert run.data.tags["setting_of"] == str(trial.parent)
        frozen = done.history.trials[trial.parent].value(scene.METRIC)
        assert run.data.metrics[f"frozen/{scene.METRIC}"] == frozen
        assert run.data.metrics[scene.METRIC] == trial.value(scene.METRIC)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"finetune_top": 2}, "add --features frozen"),
        ({"finetune_top": 0}, "--finetune-top is 0"),
        ({"finetune_steps": 9, "overrides": {"features": "frozen"}}, "needs --finetune-top"),
    ],
)
def test_mistakes(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        Settings(**options)


def pictures(root: Path) -> None:
    rng = np.random.default_rng(0)
    for place in range(12):
        folder = root / "ab"[place % 2] / "xy"[place // 2 % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{place}.png")


@pytest.mark.usefixtures("ray_here")
def test_a_real_search(
    real_data: Path, tmp_path: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from tune.search import main

    pictures(tmp_path / "own")
    words = f"--data {tmp_path / 'own'} --source a --target b --backbone mobilenet_v2 "
    words += f"--weights {real_data / 'weights' / 'mobilenet_v2.pth'} --features frozen "
    words += "--steps 4 --evaluate-every 2 --batch-size 4 --trials 2 --name it "
    words += f"--finetune-top 1 --finetune-steps 2 --storage {tmp_path / 's'} "
    words += f"--tracking-uri {store} --cache {tmp_path / 'cache'} --device cpu"
    assert main(words.split()) == 0
    printed = capsys.readouterr().out
    assert "end to end, was" in printed
    history = History.of(read_events(tmp_path / "s" / "it" / "journal.log")[0])
    kinds = Counter(trial.kind for trial in history.trials.values())
    assert kinds[FINETUNED] == kinds[PAPER] == 1
    trial = history.of_kind(FINETUNED)[0]
    config = Config.from_dict(trial.config)
    assert (config.features, config.steps, config.bottleneck) == ("trained", 2, 256)
    assert trial.state == COMPLETE
    assert (tmp_path / "s" / "it" / "trials" / f"{trial.number:04d}" / "model").is_dir()
