"""`python -m tune.status`: by the journal alone, whoever holds it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import scene
from test_imports import loaded

from tune.history import COMPLETE
from tune.progress import Progress
from tune.status import main

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[1]


Begin = Callable[..., Progress]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Makes searches whose driver is at it: the journal is open and locked."""
    begun: list[Progress] = []

    def make(storage: Path, name: str = "scene") -> Progress:
        folder = storage / name
        folder.mkdir(parents=True)
        begun.append(scene.resume(scene.begin(folder, 6, scene.small_config(steps=18))))
        return begun[-1]

    yield make
    for progress in begun:
        progress.journal.close()


def half(progress: Progress) -> None:
    """Run six trials, and leave a seventh in the middle."""
    while (trial := progress.next_trial()) is not None and trial.number < 6:
        for report in scene.reports(progress.start(trial)):
            if progress.report(trial.number, report):
                break
    assert trial is not None
    progress.report(trial.number, next(scene.reports(progress.start(trial))))


def show(storage: Path, capsys: Capture, *arguments: str) -> str:
    assert main([*arguments, "--storage", str(storage)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_a_search_that_runs_elsewhere(begin: Begin, tmp_path: Path, capsys: Capture) -> None:
    progress = begin(tmp_path)
    half(progress)
    before = (tmp_path / "scene" / "journal.log").read_bytes()
    files = sorted((tmp_path / "scene").rglob("*"))
    said = show(tmp_path, capsys, "scene").splitlines()
    assert said[0].startswith("Search scene: glyph31/W2D, built-in drawn letters")
    assert said[1].startswith("  running; last heard of ")
    assert any(line.startswith("  [###############.....] 6/8 trials, about ") for line in said)
    assert any(line.startswith("  1 running, 1 waiting, ") for line in said)
    assert any(line.startswith("  running  trial   6   step 2 of 18   val/bnm 0.") for line in said)
    assert (tmp_path / "scene" / "journal.log").read_bytes() == before
    assert sorted((tmp_path / "scene").rglob("*")) == files
    progress.journal.append("pause", trials=[6], reason="")  # the driver has noticed nothing


def test_an_interrupted_search_can_go_on(begin: Begin, tmp_path: Path, capsys: Capture) -> None:
    progress = begin(tmp_path)
    half(progress)
    progress.journal.append("pause", trials=[6], reason="the disk is full")
    said = show(tmp_path, capsys)
    assert "  interrupted 0 s ago: the disk is full\n" in said
    assert said.splitlines()[-1].endswith(f"--name scene --storage {tmp_path} --resume")
    assert "  2 waiting, " in said


def test_a_search_that_is_over(begin: Begin, tmp_path: Path, capsys: Capture) -> None:
    progress = begin(tmp_path)
    scene.work(progress)
    progress.journal.append("champion", trial=1, outcome="version 1 is the champion", version="1")
    progress.journal.append("done")
    said = show(tmp_path, capsys)
    assert "  done 0 s ago\n" in said
    assert "Model of trial 1: version 1 is the champion." in said
    assert "Best by val/bnm:" in said
    assert "Go on with" not in said
    told = json.loads(show(tmp_path, capsys, "--json"))
    history = progress.history
    best = history.best(scene.METRIC)
    assert best is not None
    assert told["state"] == "done"
    assert told["best"]["trial"] == best.number
    assert told["trials"]["finished"] == len(history.in_state(COMPLETE))
    assert [one["trial"] for one in told["failed"]] == [
        t.number for t in history.in_state("FAILED")
    ]
    assert told["source_only"]["trial"] == 0
    assert told["paper"]["value"] == history.trials[1].value(scene.METRIC)


def test_without_a_name_it_is_the_last_that_was_written_to(
    begin: Begin, tmp_path: Path, capsys: Capture
) -> None:
    first, second = begin(tmp_path, "first"), begin(tmp_path, "second")
    half(first)
    assert json.loads(show(tmp_path, capsys, "--json"))["trials"]["running"] == 1
    second.journal.append("resume")
    assert json.loads(show(tmp_path, capsys, "--json"))["trials"]["running"] == 0


def test_a_trial_that_was_put_back(begin: Begin, tmp_path: Path, capsys: Capture) -> None:
    progress = begin(tmp_path)
    half(progress)
    progress.fault(6, "its worker died")
    said = show(tmp_path, capsys)
    assert "  put back trial   6   its worker died" in said
    assert "0 running" not in said
    trial = progress.next_trial()
    assert trial is not None
    progress.start(trial)
    told = json.loads(show(tmp_path, capsys, "--json"))
    assert (told["trials"]["running"], told["trials"]["waiting"]) == (1, 1)


def test_silence_is_told(
    begin: Begin, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    half(begin(tmp_path))
    monkeypatch.setattr("tune.status.SILENT_S", -1.0)
    assert "running, but silent for 0 s: if its process is gone" in show(tmp_path, capsys)


def test_watching_ends_with_the_search(
    begin: Begin, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = begin(tmp_path)
    half(progress)
    looks: list[float] = []

    def later(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            scene.work(progress)
            progress.journal.append("done")

    monkeypatch.setattr("tune.status.time.sleep", later)
    told = [json.loads(line) for line in show(tmp_path, capsys, "--watch", "--json").splitlines()]
    assert [one["state"] for one in told] == ["running", "done"]
    assert len(looks) == 2


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("gone", "There is no search named gone in "), (None, "There is no search in ")],
)
def test_no_such_search(
    name: str | None, sentence: str, begin: Begin, tmp_path: Path, capsys: Capture
) -> None:
    if name is not None:
        begin(tmp_path, "other")
    arguments = [name] if name else []
    assert main([*arguments, "--storage", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"status: {sentence}")
    assert err.count("\n") == 1


def test_a_damaged_journal_is_one_sentence(begin: Begin, tmp_path: Path, capsys: Capture) -> None:
    half(begin(tmp_path))
    path = tmp_path / "scene" / "journal.log"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert main(["scene", "--storage", str(tmp_path)]) == 2
    assert "is damaged 0 bytes in" in capsys.readouterr().err


def test_it_loads_nothing_heavy() -> None:
    assert loaded("import tune.status") <= {"pyarrow"}


def test_as_a_command(begin: Begin, tmp_path: Path) -> None:
    half(begin(tmp_path / "searches"))
    done = subprocess.run(
        [sys.executable, "-m", "tune.status", "--json"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["search"] == "scene"
