"""A trial in its worker, driven by hand, without Ray."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scene
import torch

from gsda.bundle import load_bundle
from gsda.errors import BadInput
from gsda.run import Run
from tune.failures import BAD_CHECKPOINT, BAD_DATA, ERROR, GPU_MEMORY, NON_FINITE, STORAGE
from tune.shelf import MODEL_FOLDER
from tune.trainable import PAYLOAD, Order, Report, RunTrainable

Make = Any


@pytest.fixture
def make(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A function that gives a worker an order; its changes are those of `Config` or `Order`."""
    monkeypatch.setattr(RunTrainable, "_setup_logdir", lambda self: None)

    def build(name: str, known: tuple[int, ...] = (), **changes: Any) -> RunTrainable:
        return RunTrainable(order(cache, tmp_path / name, known, **changes).to_config())

    return build


def order(cache: Path, folder: Path, known: tuple[int, ...] = (), **changes: Any) -> Order:
    of_order = {name: changes.pop(name) for name in ("metric", "select") if name in changes}
    config = scene.small_config(n_groups=3, tau=0.05, **changes).to_dict()
    data = scene.data_spec(cache)
    digest = scene.data_digest(cache)
    told = Order(3, scene.TASK, data, digest, config, str(folder), "cpu", threads=1, known=known)
    return replace(told, **of_order)


def tell(trainable: RunTrainable) -> Report:
    return Report.of_result(trainable.step())


def all_reports(trainable: RunTrainable) -> list[Report]:
    reports = [tell(trainable)]
    while not (reports[-1].finished or reports[-1].failure or reports[-1].fault):
        reports.append(tell(trainable))
    return reports


def same(left: list[Report], right: list[Report]) -> bool:
    """Whether the reports agree in all but the time that they took."""
    return [replace(r, seconds=0.0) for r in left] == [replace(r, seconds=0.0) for r in right]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_bundle(folder / MODEL_FOLDER).network.state_dict()


def same_weights(left: Path, right: Path) -> bool:
    ours, theirs = weights(left), weights(right)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def newest(folder: Path) -> Path:
    return max(folder.glob("step-*.pt"))


def test_orders_and_reports_survive_the_journey(cache: Path, tmp_path: Path) -> None:
    sent = order(cache, tmp_path, known=(2, 4))
    assert Order.of_config(sent.to_config()) == sent
    report = Report(2, {"val/bnm": 0.1}, 1.5, False, notes=("a note",))
    assert Report.of_result(report.to_result()) == report


def test_a_trial_reports_at_every_evaluation(make: Make, tmp_path: Path) -> None:
    reports = all_reports(make("a"))
    assert [(r.step, r.finished) for r in reports] == [(2, False), (4, False), (6, True)]
    assert {(r.failure, r.fault, r.notes) for r in reports} == {("", "", ())}
    for report in reports:
        assert {"loss/C", "loss/D_dom", "loss/syn", "val/bnm"} <= set(report.metrics)
        assert "oracle/target_accuracy" in report.metrics
    seconds = [report.seconds for report in reports]
    assert 0 < seconds[0] < seconds[1] < seconds[2]
    assert len(list((tmp_path / "a").glob("step-*.pt"))) == 2


def test_tune_carries_the_report(make: Make) -> None:
    trainable = make("a")
    result = trainable.train()
    assert Report.of_result(result).step == 2
    assert PAYLOAD in result
    assert result["training_iteration"] == 1


def test_the_model_is_left_when_the_trial_is_finished(make: Make, tmp_path: Path) -> None:
    trainable = make("a")
    tell(trainable)
    assert not (tmp_path / "a" / MODEL_FOLDER).exists()
    all_reports(trainable)
    predictor = load_bundle(tmp_path / "a" / MODEL_FOLDER)
    assert len(predictor.classes) == 31
    assert predictor.manifest["task"] == scene.TASK
    assert predictor.manifest["config"]["tau"] == 0.05


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_resumed_to_the_bit(killed_after: int, make: Make, tmp_path: Path) -> None:
    whole = all_reports(make("whole", target_sampling="pseudo"))
    first = make("cut", target_sampling="pseudo")
    begun = [tell(first) for _ in range(killed_after)]
    known = tuple(report.step for report in begun)
    again = make("cut", known, target_sampling="pseudo")
    reports = begun if begun[-1].finished else begun + all_reports(again)
    assert same(reports, whole)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


def test_reports_that_the_driver_missed_are_sent_again_first(make: Make) -> None:
    first = make("a")
    begun = [tell(first), tell(first)]
    reports = all_reports(make("a", known=(2,)))
    assert [report.step for report in reports] == [4, 6]
    assert reports[0] == begun[1]  # from the checkpoint: even its time is that of then
    everything = all_reports(make("a"))
    assert [report.step for report in everything] == [2, 4, 6]
    assert everything[:2] == begun


def test_a_finished_trial_says_so_again(make: Make) -> None:
    whole = all_reports(make("a"))
    again = make("a", known=(2, 4, 6))
    assert tell(again) == whole[-1]
    assert tell(again).finished


@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
def test_a_damaged_newest_checkpoint_falls_back(how: str, make: Make, tmp_path: Path) -> None:
    whole = all_reports(make("whole"))
    first = make("cut")
    tell(first), tell(first)
    path = newest(tmp_path / "cut")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"flipped": content, "cut": content[:100], "empty": b""}[how])
    reports = all_reports(make("cut", known=(2, 4)))
    assert [report.step for report in reports] == [4, 6]
    # the driver takes in no report twice, so the note must come with a new one
    assert reports[0].notes == ()
    note = reports[1].notes[0]
    assert note == f"checkpoint {path.name} is damaged; going on from the one before"
    assert reports[1].metrics == whole[2].metrics
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


def scores(reports: list[Report], metric: str) -> list[float]:
    return [report.metrics[metric] for report in reports]


@pytest.fixture
def falling(make: Make) -> str:
    """A metric that is largest at an inner step of the trial, so that the last is not picked."""
    reports = all_reports(make("probe", steps=10))
    for metric in reports[0].metrics:
        values = scores(reports, metric)
        if 0 < values.index(max(values)) < 2:  # older than the last two checkpoints
            return metric
    raise AssertionError("all metrics rise")


def test_the_model_of_the_best_step(make: Make, falling: str, tmp_path: Path) -> None:
    whole = all_reports(make("a", steps=10, metric=falling, select="best"))
    best = max(whole, key=lambda report: report.metrics[falling]).step
    assert best < 6
    manifest = load_bundle(tmp_path / "a" / MODEL_FOLDER).manifest
    assert manifest["step"] == best
    kept = sorted(int(path.name[5:14]) for path in (tmp_path / "a").glob("*.pt"))
    assert kept == [best, 8, 10]
    # it is the model that was there at that step
    short = make("b", steps=10)
    while tell(short).step < best:
        pass
    ours, theirs = short._run.network.state_dict(), weights(tmp_path / "a")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_killed_before_the_model_was_kept(make: Make, falling: str, tmp_path: Path) -> None:
    all_reports(make("a", steps=10, metric=falling, select="best"))
    before = weights(tmp_path / "a")
    (tmp_path / "a" / MODEL_FOLDER / "manifest.json").unlink()
    again = all_reports(make("a", known=(2, 4, 6, 8, 10), steps=10, metric=falling, select="best"))
    assert again[-1].finished
    after = weights(tmp_path / "a")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_damaged_best_checkpoint_begins_again(make: Make, falling: str, tmp_path: Path) -> None:
    trainable = make("a", steps=10, metric=falling, select="best")
    told = [tell(trainable) for _ in range(4)]
    min((tmp_path / "a").glob("step-*.pt")).write_bytes(b"gone")
    report = tell(trainable)
    assert report.cause == BAD_CHECKPOINT
    assert report.fault.endswith("is damaged, and it was the best; beginning again")
    known = tuple(r.step for r in told)
    again = all_reports(make("a", known, steps=10, metric=falling, select="best"))
    assert [r.step for r in again] == [2, 4, 6, 8, 10]
    assert load_bundle(tmp_path / "a" / MODEL_FOLDER).manifest["step"] in (4, 6)


def test_without_a_sound_checkpoint_it_begins_again(make: Make, tmp_path: Path) -> None:
    whole = all_reports(make("whole"))
    tell(make("cut"))
    newest(tmp_path / "cut").write_bytes(b"gone")
    reports = all_reports(make("cut", known=(2,)))
    assert [r.metrics for r in reports] == [r.metrics for r in whole]
    assert reports[1].notes[0].endswith("is damaged; beginning again")


def test_non_finite_training_is_a_failure_and_no_exception(make: Make, tmp_path: Path) -> None:
    report = all_reports(make("a", lr=1e20))[-1]
    assert not report.finished
    assert report.fault == ""  # the setting is to blame
    assert report.cause == NON_FINITE
    assert "finite" in report.failure or "became" in report.failure
    assert "\n" not in report.failure
    assert report.metrics == {}
    assert not (tmp_path / "a" / "error.txt").exists()
    assert not (tmp_path / "a" / MODEL_FOLDER).exists()


def test_what_the_user_did_wrong_is_told_in_his_words(make: Make, tmp_path: Path) -> None:
    report = tell(make("a", weights=str(tmp_path / "none.pth")))
    assert report.fault == "Backbone 'cnn' has no pretrained weights: leave --weights out."
    assert (report.step, report.failure, report.cause) == (0, "", BAD_DATA)
    assert not (tmp_path / "a" / "error.txt").exists()


def test_an_unexpected_exception_leaves_its_traceback(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainable = make("a")
    assert tell(trainable).step == 2

    def explode(run: Run, n: int) -> None:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr(Run, "step", explode)
    report = tell(trainable)
    assert report.fault.startswith("ZeroDivisionError: first line (see error.txt in ")
    assert "second line" not in report.fault
    assert (report.step, report.failure, report.cause) == (2, "", ERROR)
    assert tell(trainable) == report  # and again, should anyone ask
    assert "in explode" in (tmp_path / "a" / "error.txt").read_text()


def test_an_unexpected_exception_at_the_start(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise OSError("no disk")

    monkeypatch.setattr("tune.trainable._domains", explode)
    assert tell(make("a")).fault.startswith("OSError: no disk (see error.txt")
    assert "in explode" in (tmp_path / "a" / "error.txt").read_text()


def test_a_gpu_without_room_names_a_batch_that_fits(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainable = make("a")

    def explode(run: Run, n: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")

    giga = 2**30
    figures = {"mem_get_info": (giga, 16 * giga), "memory_reserved": 15 * giga}
    figures |= {"max_memory_allocated": 14 * giga, "memory_allocated": giga}
    for name, figure in figures.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, figure=figure: figure)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(Run, "step", explode)
    trainable._run.device = torch.device("cuda")
    report = tell(trainable)
    assert (report.cause, report.fault) == (GPU_MEMORY, "")
    # 3 GiB of weights, gradients and momentum; 13 more were wanted for 4 images, and are not there
    needed = (
        "a batch of 4 + 4 images needs over 16.0 GiB, and there were 16.0 GiB of the GPU's 16.0"
    )
    assert needed in report.failure
    assert "try --batch-size 3 or less" in report.failure
    assert "\n" not in report.failure
    assert trainable._run is None  # nothing holds the memory for the next trial
    assert not (tmp_path / "a" / "error.txt").exists()


def test_a_full_disk_is_a_matter_of_storage(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainable = make("a")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere/step.pt")

    monkeypatch.setattr("tune.trainable.save_step", full)
    report = tell(trainable)
    assert (report.cause, report.failure) == (STORAGE, "")
    assert report.fault.startswith("No space left on device on ")
    assert report.fault.endswith(": somewhere/step.pt")


def test_a_traceback_that_cannot_be_kept_is_no_second_failure(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainable = make("a")
    (tmp_path / "a").rename(tmp_path / "moved") if (tmp_path / "a").exists() else None
    (tmp_path / "a").write_text("a file where the folder should be")
    monkeypatch.setattr(Run, "step", lambda run, n: 1 / 0)
    assert "its traceback could not be kept: " in tell(trainable).fault


def test_a_checkpoint_of_another_setting_is_refused(make: Make) -> None:
    tell(make("a"))
    report = tell(make("a", alpha=0.7))
    assert "the checkpoint is of another config" in report.fault


def test_other_images_than_the_searchs_are_a_fault(make: Make, cache: Path, tmp_path: Path) -> None:
    trainable = make("a")
    other = replace(order(cache, tmp_path / "b"), digest="f" * 16)
    trainable.reset_config(other.to_config())
    assert "are not the search's" in tell(trainable).fault
    assert tell(make("c")).fault == ""


def test_a_resumed_trial_needs_no_pretrained_weights(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tell(make("a"))

    def gone(*_: object) -> None:
        raise BadInput("the weights file is gone")

    monkeypatch.setattr("gsda.run.load_pretrained", gone)
    assert tell(make("b")).fault == "the weights file is gone"
    assert not [r for r in all_reports(make("a", (begun.step,))) if r.fault]


def test_one_actor_runs_one_trial_after_another(make: Make, cache: Path, tmp_path: Path) -> None:
    expected = all_reports(make("b", alpha=0.5, seed=4))
    trainable = make("a", lr=1e20)
    assert all_reports(trainable)[-1].failure
    assert trainable.reset_config(order(cache, tmp_path / "c", alpha=0.5, seed=4).to_config())
    assert same(all_reports(trainable), expected)
    assert same_weights(tmp_path / "b", tmp_path / "c")


def test_threads_are_those_of_the_order(make: Make, cache: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        trainable = make("a")
        trainable.reset_config(replace(order(cache, tmp_path / "b"), threads=2).to_config())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
