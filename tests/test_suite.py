"""Several tasks in one trial: each trained as on its own, and resumed to the bit."""

from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import scene
import torch
from test_trainable import all_reports, same, tell

from gsda.bundle import load_bundle
from gsda.checkpoint import load_newest
from gsda.data.load import DataSpec, identity, load_domains
from gsda.errors import NonFinite
from gsda.run import Run
from gsda.tasks import Task
from tune import suite
from tune.shelf import MODEL_FOLDER
from tune.suite import clear_all, merged
from tune.trainable import Order, RunTrainable

TASKS = ("glyph31/W2D", "glyph31/D2W")
PAIRS = ("W2D", "D2W")
Make = Any


@pytest.fixture
def make(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A function that gives a worker an order: of both tasks, or of the one that is named."""
    monkeypatch.setattr(RunTrainable, "_setup_logdir", lambda self: None)
    spec = DataSpec.from_dict(scene.data_spec(cache))
    digests = tuple((t, identity(*load_domains(Task.parse(t), spec))) for t in TASKS)

    def build(name: str, known: tuple[int, ...] = (), task: str = "", **changes: Any) -> Any:
        of_order = {n: changes.pop(n) for n in ("metric", "select") if n in changes}
        config = scene.small_config(n_groups=3, tau=0.05, **changes).to_dict()
        folder = str(tmp_path / name)
        told = Order(
            3, "glyph31/W2D+D2W", scene.data_spec(cache), "all", config, folder, "cpu", 1, known
        )
        alone = {"task": task, "digest": dict(digests).get(task)} if task else {"tasks": digests}
        return RunTrainable(replace(told, **alone, **of_order).to_config())

    return build


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_bundle(folder / MODEL_FOLDER).network.state_dict()


def same_weights(left: Path, right: Path) -> bool:
    ours, theirs = weights(left), weights(right)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_each_task_is_trained_as_on_its_own(make: Make, tmp_path: Path) -> None:
    together = all_reports(make("both"))
    assert [(r.step, r.finished) for r in together] == [(2, False), (4, False), (6, True)]
    for task, pair in zip(TASKS, PAIRS, strict=True):
        for mine, alone in zip(together, all_reports(make(pair, task=task)), strict=True):
            for name in ("val/bnm", "loss/C", "oracle/target_accuracy"):
                assert mine.metrics[f"{pair}/{name}"] == alone.metrics[name]
        assert same_weights(tmp_path / "both" / pair, tmp_path / pair)
        assert load_bundle(tmp_path / "both" / pair / MODEL_FOLDER).manifest["task"] == task
    for report in together:
        both = [report.metrics[f"{pair}/val/bnm"] for pair in PAIRS]
        assert report.metrics["val/bnm"] == pytest.approx(mean(both))
        assert both[0] != both[1]


@pytest.mark.parametrize("killed_after", [1, 3])
def test_resumed_between_evaluations(killed_after: int, make: Make, tmp_path: Path) -> None:
    whole = all_reports(make("whole", target_sampling="pseudo"))
    first = make("cut", target_sampling="pseudo")
    begun = [tell(first) for _ in range(killed_after)]
    known = tuple(report.step for report in begun)
    again = make("cut", known, target_sampling="pseudo")
    reports = begun if begun[-1].finished else begun + all_reports(again)
    assert same(reports, whole)
    assert all(same_weights(tmp_path / "whole" / p, tmp_path / "cut" / p) for p in PAIRS)


def test_resumed_between_two_tasks(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with the first task at step 4 and the second at 2: no task is trained twice."""
    whole = all_reports(make("whole"))
    first = make("cut")
    begun = [tell(first)]
    first._run._reach(Task.parse(TASKS[0]), 4)
    assert load_newest(tmp_path / "cut" / PAIRS[0])[0]["run"]["step"] == 4  # type: ignore[index]
    trained: list[tuple[str, int]] = []
    step = Run.step

    def counted(self: Run, n: int = 1) -> dict[str, float]:
        trained.append((self.task.pair, self.step_count))
        return step(self, n)

    monkeypatch.setattr(Run, "step", counted)
    assert same(begun + all_reports(make("cut", (2,))), whole)
    assert trained == [("D2W", 2), ("W2D", 4), ("D2W", 4)]
    assert all(same_weights(tmp_path / "whole" / p, tmp_path / "cut" / p) for p in PAIRS)


def test_a_damaged_checkpoint_costs_its_task_alone(make: Make, tmp_path: Path) -> None:
    whole = all_reports(make("whole"))
    first = make("cut")
    begun = [tell(first), tell(first)]
    path = max((tmp_path / "cut" / PAIRS[0]).glob("step-*.pt"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    reports = all_reports(make("cut", (2, 4)))
    assert "glyph31/W2D: checkpoint step-000000004" in reports[0].notes[0]
    assert "is damaged; trained again from the one before" in reports[0].notes[0]
    assert same(begun + [replace(r, notes=()) for r in reports], whole)


def test_the_model_is_of_the_step_with_the_best_mean(make: Make, tmp_path: Path) -> None:
    first, *later = (report.metrics for report in all_reports(make("last")))
    shared = [name for name in first if name.split("/")[0] not in PAIRS]
    metric = next(n for n in shared if first[n] > max(metrics[n] for metrics in later))
    reports = all_reports(make("best", metric=metric, select="best"))
    assert max(reports, key=lambda r: r.metrics[metric]).step == 2  # so not the last
    for pair in PAIRS:
        manifest = load_bundle(tmp_path / "best" / pair / MODEL_FOLDER).manifest
        assert manifest["step"] == 2
        assert manifest["scores"]["val/bnm"] == reports[0].metrics[f"{pair}/val/bnm"]


def test_all_checkpoints_can_be_cleared(make: Make, tmp_path: Path) -> None:
    all_reports(make("a"))
    assert len(list((tmp_path / "a").rglob("step-*.pt"))) == 6
    clear_all(tmp_path / "a")
    assert list((tmp_path / "a").rglob("step-*.pt")) == []
    assert all((tmp_path / "a" / pair / MODEL_FOLDER).is_dir() for pair in PAIRS)
    clear_all(tmp_path / "gone")


def test_what_breaks_one_task_names_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Run, n: int = 1) -> dict[str, float]:
        raise NonFinite("loss/C became nan between steps 0 and 2")

    monkeypatch.setattr(suite.Run, "step", broken)
    report = tell(make("a"))
    assert report.failure == "glyph31/W2D: loss/C became nan between steps 0 and 2"


def test_other_images_than_the_searchs(make: Make, tmp_path: Path) -> None:
    trainable = make("a")
    order = trainable._order
    other = replace(order, folder=str(tmp_path / "b"), tasks=((TASKS[0], "0"), order.tasks[1]))
    trainable.reset_config(other.to_config())
    assert "the images of glyph31/W2D on" in tell(trainable).fault


def test_means_are_of_what_all_tasks_have() -> None:
    of_task = {
        "A2W": {"val/bnm": 0.2, "oracle/target_accuracy": 0.5, "oracle/class/00_A": 1.0},
        "W2A": {"val/bnm": 0.4, "predicted/effective_classes": 3.0},
    }
    assert merged(of_task) == {
        "val/bnm": pytest.approx(0.3),
        "A2W/val/bnm": 0.2,
        "A2W/oracle/target_accuracy": 0.5,
        "W2A/val/bnm": 0.4,
        "W2A/predicted/effective_classes": 3.0,
    }
