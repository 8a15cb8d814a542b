"""Target labels choose nothing; where they are let choose, everything says so."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import finished
import numpy as np
import pytest
import scene
from mlflow import MlflowClient
from PIL import Image
from test_registry import NAME, Registry, champion, hand_in

from gsda.bundle import load_bundle
from gsda.errors import BadInput
from gsda.sealed import ACCURACY
from gsda.tasks import Task
from tune import report, seal, spec
from tune.choice import choose
from tune.console import Console
from tune.history import PRUNED, History
from tune.journal import read_events
from tune.record import Projection
from tune.registry import Outcome
from tune.search import main, search
from tune.settings import Settings
from tune.study import StudyFile, load_study
from tune.warmstart import read_earlier

__all__ = ["hand_in"]  # a fixture
Capture = pytest.CaptureFixture[str]
CLASSES, EACH = "abcd", 6


# What is refused


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--metric oracle/target_accuracy", "to see what the labels would choose, add --unseal"),
        ("--pick oracle/target_class_mean", "to see what the labels would choose, add --unseal"),
        ("--pick mean-rank:bnm,oracle/target_accuracy", "oracle/target_accuracy reads target"),
        ("--metric oracle/class/00_A", "oracle/class/00_A reads target labels"),
        ("--metric oracle/class/00_A --unseal", "choose oracle/target_accuracy or oracle/target_c"),
        ("--metric val/magic --unseal", "Unknown metric 'val/magic'"),
    ],
)
def test_mistakes(
    arguments: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--task", "A2D", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert sentence in err
    assert list(tmp_path.iterdir()) == []


def test_labels_that_are_not_there_cannot_choose(tmp_path: Path, cache: Path) -> None:
    data = tree(tmp_path / "own", labels=None)
    task = Task.parse("own/left2right")
    settings = Settings(data=data, backbone="cnn", cache=cache, unseal=True, metric=ACCURACY)
    with pytest.raises(BadInput, match="own/left2right has none: leave it out"):
        spec.specify(task, settings, Console())


def test_a_sealed_search_takes_over_nothing_that_labels_chose(tmp_path: Path) -> None:
    finished.write(tmp_path / "old", unsealed=True, name="old")
    task = Task.parse(scene.TASK)
    sealed = Settings(storage=tmp_path, warm_start=("old",))
    with pytest.raises(BadInput, match="--warm-start old was searched with --unseal, so target"):
        read_earlier(task, sealed)
    opened = Settings(storage=tmp_path, metric=scene.METRIC, warm_start=("old",), unseal=True)
    assert [history.spec["name"] for history in read_earlier(task, opened)] == ["old"]


# What says so


@pytest.fixture
def unsealed(tmp_path: Path) -> Path:
    """A search that was guided by labels and is over."""
    return finished.write(tmp_path / "open", unsealed=True, metric=ACCURACY)


def test_the_tag_is_on_everything_recorded(unsealed: Path, store: str) -> None:
    events = read_events(unsealed / "journal.log")[0]
    projection = Projection(store)
    for event in events[:12]:
        projection.apply(event, deliver=True)
    client = MlflowClient(store, registry_uri=store)
    runs = client.search_runs([projection.experiment])
    assert len(runs) == 3
    assert [run.data.tags[seal.TAG] for run in runs] == ["true"] * 3
    assert all("target labels had a part" in r.data.tags["mlflow.note.content"] for r in runs)
    study = load_study(StudyFile(unsealed / "optuna.log", events).path)
    assert study.user_attrs[seal.TAG] == "true"
    assert events[0]["spec"][seal.TAG] is True


def test_without_it_nothing_carries_the_tag(tmp_path: Path, store: str) -> None:
    events = read_events(finished.write(tmp_path / "shut") / "journal.log")[0]
    projection = Projection(store)
    for event in events[:12]:
        projection.apply(event, deliver=True)
    runs = projection.client.search_runs([projection.experiment])
    assert [seal.TAG in run.data.tags for run in runs] == [False] * 3


def test_the_choice_is_by_labels_and_says_so(unsealed: Path, capsys: Capture) -> None:
    history = History.of(read_events(unsealed / "journal.log")[0])
    chosen = choose(history)
    assert chosen is not None
    assert chosen.picked.number == 11  # the best by accuracy, which val/bnm does not pick
    assert chosen.comparable(history.spec)[0] == ACCURACY
    Console().finish(history, chosen.model, None, "", "sqlite:////x.db")
    out = capsys.readouterr().out
    assert "(target labels had a part in choosing: --unseal)" in out
    assert "no target label" not in out
    Console().begin(history, "cpu", 1)
    assert "  target labels had a part in choosing: --unseal" in capsys.readouterr().out


# The alias


def test_no_champion_that_labels_chose_unless_promoted(hand_in: Registry, store: str) -> None:
    labels: dict[str, Any] = {"unsealed": True, "metric": ACCURACY}
    first = hand_in("a", 0.9, **labels)
    said = (
        "version 1, chosen with target labels, is registered and no champion (--promote makes it)"
    )
    assert first == Outcome(NAME, "1", False, said)
    assert champion(store) is None
    assert hand_in("b", 0.1).is_champion  # sealed: it need not beat the first
    assert champion(store) == "2"
    assert hand_in("a", 0.9, **labels) == first
    assert champion(store) == "2"
    promoted = hand_in("a", 0.9, promote=True, **labels)
    assert (promoted.is_champion, champion(store)) == (True, "1")


def test_nor_by_the_same_score(hand_in: Registry, store: str) -> None:
    """One that labels guided and BNM picked is no rival of those that BNM alone chose."""
    assert not hand_in("a", 0.9, unsealed=True).is_champion
    assert hand_in("b", 0.1).is_champion
    assert hand_in("c", 0.2).is_champion
    assert champion(store) == "3"


def test_a_promoted_one_stays_until_another_is_promoted(hand_in: Registry, store: str) -> None:
    assert hand_in("a", 0.1, promote=True, unsealed=True).is_champion
    outcome = hand_in("b", 0.9)
    assert not outcome.is_champion
    assert "champion stays version 1, which target labels chose (--promote puts" in outcome.sentence
    assert hand_in("a", 0.1, unsealed=True).is_champion  # registered again
    assert hand_in("b", 0.9, promote=True).is_champion
    assert champion(store) == "2"


def test_the_version_says_so(hand_in: Registry, store: str, tmp_path: Path) -> None:
    hand_in("a", 0.9, unsealed=True, metric=ACCURACY)
    version = MlflowClient(store, registry_uri=store).get_model_version(NAME, "1")
    assert version.tags[seal.TAG] == "true"
    assert "| Accuracy on the target | 75.0%, which had a part in choosing |" in version.description
    assert "= 0.9000, target labels had a part in choosing |" in version.description
    assert "no target label" not in version.description
    rule = load_bundle(tmp_path / "model").manifest["selection"]["rule"]
    assert rule.endswith("on images of the target with target labels (--unseal)")


# Poison


def tree(data: Path, labels: Callable[[np.random.Generator], list[int]] | None) -> Path:
    """own/left2right, four classes of six images; the target's labels stand in a list.

    Args:
        labels: what the list says of the target's images, in the order of their names.
    """
    rng = np.random.default_rng(0)
    for domain, noise in (("left", 30), ("right", 60)):
        for k, name in enumerate(CLASSES):
            folder = data / domain / name if domain == "left" else data / domain
            folder.mkdir(parents=True, exist_ok=True)
            for n in range(EACH):
                pixels = rng.normal(0, noise, (32, 32, 3)) + 120
                pixels[:, 8 * k : 8 * k + 8] += 25
                file = folder / f"{name}{n}.png"
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
    names = sorted(path.name for path in (data / "right").iterdir())
    told = [""] * len(names) if labels is None else [f" {k}" for k in labels(rng)]
    lines = [f"right/{name}{label}" for name, label in zip(names, told, strict=True)]
    (data / "right.txt").write_text("\n".join(lines))
    return data


def true_labels(rng: np.random.Generator) -> list[int]:
    return [k for k in range(len(CLASSES)) for _ in range(EACH)]


def poisoned(rng: np.random.Generator) -> list[int]:
    """As many of each class, given to images at random."""
    return list(np.random.default_rng(3).permutation(true_labels(rng)))


def run(folder: Path, cache: Path, store: Path, labels: Any, **options: Any) -> Any:
    """A whole search, as a user would run it, one trial after another."""
    folder.mkdir()
    shutil.copy(store, folder / "mlflow.db")  # making one takes seconds
    return search(
        Task.parse("own/left2right"),
        data=tree(folder / "own", labels),
        backbone="cnn",
        cache=cache,
        trials=4,
        name="poison",
        storage=folder / "searches",
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        cpus_per_trial=os.cpu_count(),
        device="cpu",
        seed=1,
        select="best",
        overrides={"steps": 9, "evaluate_every": 3, "batch_size": 8},
        **options,
    )


def decisions(history: History) -> list[Any]:
    """Every choice that a search made: what was asked, how far it was let go, which step it is."""
    return [
        (t.number, t.kind, t.config, t.values, t.state, sorted(t.reports), t.picked)
        for t in history.trials.values()
    ]


def without_labels(history: History) -> list[Any]:
    found = []
    for trial in history.trials.values():
        for metrics in trial.reports.values():
            found.append({n: v for n, v in metrics.items() if not n.startswith("oracle/")})
    return found


def model_of(folder: Path, number: int) -> dict[str, Any]:
    bundle = folder / "searches" / "poison" / "trials" / f"{number:04d}" / "model"
    return dict(load_bundle(bundle).network.state_dict())


@pytest.mark.usefixtures("ray_here")
def test_poisoned_labels_move_no_choice(
    tmp_path: Path, cache: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole search twice, the second time with labels that are all wrong."""
    monkeypatch.setattr(report, "draw", lambda findings: {})  # which takes seconds
    sound = run(tmp_path / "sound", cache, empty_store, true_labels)
    foul = run(tmp_path / "foul", cache, empty_store, poisoned)
    assert (sound.status, foul.status) == (0, 0)
    # The poison works: every figure that labels give is another, and so is what they would pick.
    for mine, other in zip(*(r.history.trials.values() for r in (sound, foul)), strict=True):
        assert mine.final[ACCURACY] > other.final[ACCURACY] + 0.2
    picks = [[t.picks["oracle"] for t in r.history.trials.values()] for r in (sound, foul)]
    assert picks[0] != picks[1]
    # And yet no choice is another.
    assert any(t.state == PRUNED for t in sound.history.trials.values())
    assert decisions(sound.history) == decisions(foul.history)
    assert without_labels(sound.history) == without_labels(foul.history)
    assert sound.best.number == foul.best.number
    assert (sound.outcome.version, sound.outcome.is_champion) == ("1", True)
    assert sound.outcome == foul.outcome
    mine, other = (model_of(tmp_path / n, sound.best.number) for n in ("sound", "foul"))
    assert mine.keys() == other.keys()
    assert all(bool((mine[name] == other[name]).all()) for name in mine)
