"""Two starts of one trial at once: the later one goes on, whatever the earlier one still writes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scene
import torch

from gsda.bundle import load_bundle
from gsda.checkpoint import load_newest, save_step, steps_in
from tune.handover import (
    PLACES,
    MovedOn,
    check_place,
    clear_places,
    keep_model,
    place_of,
    take_over,
)
from tune.shelf import MODEL_FOLDER
from tune.trainable import Order, Report, RunTrainable

Make = Callable[..., RunTrainable]
STEPS = [2, 4, 6, 8]


@pytest.fixture
def make(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A function from a trial's name and the number of its start to a worker that has it."""
    monkeypatch.setattr(RunTrainable, "_setup_logdir", lambda self: None)
    config = scene.small_config(n_groups=3, tau=0.05, steps=STEPS[-1]).to_dict()
    data, digest = scene.data_spec(cache), scene.data_digest(cache)

    def build(name: str, attempt: int, known: tuple[int, ...] = ()) -> RunTrainable:
        folder = tmp_path / name
        take_over(folder, attempt)
        order = Order(3, scene.TASK, data, digest, config, str(folder), "cpu", 1, known)
        return RunTrainable(replace(order, attempt=attempt).to_config())

    return build


def tell(worker: RunTrainable) -> Report:
    return Report.of_result(worker.step())


def steps_of(folder: Path) -> list[int]:
    return sorted(steps_in(folder).values())


def write(folder: Path, *steps: int, text: str = "") -> None:
    for step in steps:
        save_step(folder, step, {"text": text}, keep=steps)


def test_a_worker_that_was_thought_lost_writes_no_more(make: Make, tmp_path: Path) -> None:
    whole = make("whole", 1)
    expected = [tell(whole) for _ in STEPS]
    lost = make("torn", 1)
    first = tell(lost)
    other = make("torn", 2, known=(first.step,))
    after = [tell(other) for _ in range(2)]
    late = tell(lost)  # it wakes, and has trained on meanwhile
    assert (late.finished, late.metrics) == (False, {})
    assert late.fault == "the trial has gone on elsewhere"
    assert [path.name for path in (tmp_path / "torn" / PLACES).iterdir()] == ["2"]
    assert steps_of(other._order.place) == [4, 6]
    after.append(tell(other))
    assert after[-1].finished
    assert [r.metrics for r in (first, *after)] == [r.metrics for r in expected]
    for name, attempt in (("whole", 1), ("torn", 2)):
        keep_model(tmp_path / name, attempt)
    ours, theirs = (
        load_bundle(tmp_path / name / MODEL_FOLDER).network.state_dict()
        for name in ("torn", "whole")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_comes_too_late_stays_behind(tmp_path: Path) -> None:
    """A write that hung, as on a file server that was away, and is done after the handover."""
    take_over(tmp_path, 1)
    write(place_of(tmp_path, 1), 2, 4)
    take_over(tmp_path, 2)
    assert steps_of(place_of(tmp_path, 2)) == [2, 4]
    write(place_of(tmp_path, 1), 6, 8, text="late")
    write(place_of(tmp_path, 2), 6)
    take_over(tmp_path, 3)
    assert steps_of(place_of(tmp_path, 3)) == [4, 6]
    assert load_newest(place_of(tmp_path, 3)) == ({"text": ""}, [])
    assert [path.name for path in (tmp_path / PLACES).iterdir()] == ["3"]


def test_what_comes_before_the_handover_is_not_lost(tmp_path: Path) -> None:
    take_over(tmp_path, 1)
    write(place_of(tmp_path, 1), 2, 4, 6)
    take_over(tmp_path, 2)  # which was killed before it wrote anything
    take_over(tmp_path, 3)
    assert steps_of(place_of(tmp_path, 3)) == [2, 4, 6]


def test_a_driver_killed_in_the_middle_of_it(tmp_path: Path) -> None:
    take_over(tmp_path, 1)
    write(place_of(tmp_path, 1), 2, 4, 6)
    place_of(tmp_path, 2).mkdir()
    for path in list(steps_in(place_of(tmp_path, 1)))[:1]:  # the newest goes first
        path.rename(place_of(tmp_path, 2) / path.name)
    write(place_of(tmp_path, 1), 8, text="late")
    assert steps_of(place_of(tmp_path, 1)) == [4, 8]
    take_over(tmp_path, 2)
    assert steps_of(place_of(tmp_path, 2)) == [4, 6]


def test_a_search_of_an_older_version_goes_on(tmp_path: Path) -> None:
    """Which kept checkpoints in the trial's folder, and in that of each of its tasks."""
    write(tmp_path, 2)
    write(tmp_path / "A2W", 2, 4)
    (tmp_path / "A2W" / MODEL_FOLDER).mkdir()
    take_over(tmp_path, 4)
    assert steps_of(place_of(tmp_path, 4)) == [2]
    assert steps_of(place_of(tmp_path, 4) / "A2W") == [2, 4]
    assert steps_of(tmp_path) == steps_of(tmp_path / "A2W") == []
    assert (tmp_path / "A2W" / MODEL_FOLDER).is_dir()


@pytest.mark.parametrize("below", ["", "A2W"])
def test_the_model_of_the_last_start_is_the_trial_s(tmp_path: Path, below: str) -> None:
    for attempt in (1, 2):
        take_over(tmp_path, attempt)
    late = place_of(tmp_path, 1) / below / MODEL_FOLDER  # another machine's, too late
    ours = place_of(tmp_path, 2) / below / MODEL_FOLDER
    for folder, text in ((late, "late"), (ours, "ours"), (tmp_path / below / MODEL_FOLDER, "old")):
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(text)
    keep_model(tmp_path, 2)
    clear_places(tmp_path)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("manifest.json")] == [
        Path(below, MODEL_FOLDER, "manifest.json")
    ]
    assert (tmp_path / below / MODEL_FOLDER / "manifest.json").read_text() == "ours"
    keep_model(tmp_path, 2)  # and again, after a crash
    assert (tmp_path / below / MODEL_FOLDER / "manifest.json").read_text() == "ours"


def test_a_place_that_is_gone(tmp_path: Path) -> None:
    take_over(tmp_path, 1)
    check_place(place_of(tmp_path, 1))
    clear_places(tmp_path)
    with pytest.raises(MovedOn, match="the trial has gone on elsewhere"):
        check_place(place_of(tmp_path, 1))


def test_attempts_are_taken_for_nothing_else(tmp_path: Path) -> None:
    options: dict[str, Any] = {"number": 0, "task": "x/A2W", "data": {}, "digest": "", "config": {}}
    order = Order(**options, folder=str(tmp_path), device="cpu", threads=1, attempt=12)
    assert Order.of_config(order.to_config()).place == tmp_path / PLACES / "12"
    assert replace(order, attempt=0).place == tmp_path
