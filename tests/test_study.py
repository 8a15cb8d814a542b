"""The study in Optuna's file: what stands in it, and that it is the same however it was made."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest
import scene
from optuna.trial import TrialState

from gsda.errors import BadInput
from tune.history import COMPLETE, FAILED, OPEN, PRUNED, History
from tune.journal import read_events
from tune.sampler import distributions
from tune.space import build_space
from tune.study import STUDY, StudyFile, export_study, load_study, main

STATES = {
    OPEN: TrialState.RUNNING,
    COMPLETE: TrialState.COMPLETE,
    PRUNED: TrialState.PRUNED,
    FAILED: TrialState.FAIL,
}
SPACE = build_space(scene.FIELDS, scene.N_CLASSES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search with a trial in each of the four states."""
    folder = tmp_path_factory.mktemp("study") / "scene"
    progress = scene.resume(scene.begin(folder, 10, scene.small_config(steps=18)))
    scene.work(progress)
    progress.journal.append("extend", trials=11)
    progress.journal.close()
    again = scene.resume(scene.begin_again(folder))
    trial = again.next_trial()
    assert trial is not None
    again.start(trial)
    report = {"step": 2, "metrics": {scene.METRIC: 0.1}, "seconds": 1.0}
    again.journal.append("report", trial=trial.number, **report)
    again.journal.close()
    assert {t.state for t in again.history.trials.values()} == set(STATES)
    return folder


@pytest.fixture
def history(folder: Path) -> History:
    return History.of(read_events(folder / "journal.log")[0])


@pytest.fixture
def study(folder: Path) -> optuna.Study:
    return load_study(export_study(folder))


def test_each_trial_is_there_once_under_its_number(study: optuna.Study, history: History) -> None:
    assert [frozen.number for frozen in study.trials] == list(history.trials)
    for frozen, trial in zip(study.trials, history.trials.values(), strict=True):
        assert frozen.state == STATES[trial.state]
        assert frozen.user_attrs["gsda.trial"] == history.key(trial.number)
        assert frozen.user_attrs["kind"] == trial.kind
        assert frozen.user_attrs.get("reason", "") == trial.reason
        curve = {step: metrics[scene.METRIC] for step, metrics in trial.reports.items()}
        assert frozen.intermediate_values == curve


def test_settings_are_params_within_the_searched_ranges(
    study: optuna.Study, history: History
) -> None:
    for frozen, trial in zip(study.trials, history.trials.values(), strict=True):
        if trial.kind == "source-only":
            assert frozen.params == {}
        else:
            assert frozen.params == trial.values
            assert frozen.distributions == distributions(SPACE)


def test_the_study_knows_what_it_is(study: optuna.Study, history: History) -> None:
    assert study.study_name == "scene"
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert study.metric_names == [scene.METRIC]
    assert study.user_attrs["task"] == scene.TASK
    assert study.user_attrs["gsda.search"] == history.uuid
    best = history.best(scene.METRIC)
    assert best is not None
    assert (study.best_trial.number, study.best_value) == (best.number, best.value(scene.METRIC))


def test_times_are_the_journals(study: optuna.Study, folder: Path) -> None:
    events = read_events(folder / "journal.log")[0]
    asked = {e["trial"]: e["time"] for e in events if e["event"] == "ask"}
    ended = {e["trial"]: e["time"] for e in events if e["event"] == "end"}
    for frozen in study.trials:
        assert frozen.datetime_start is not None
        assert frozen.datetime_start.timestamp() == pytest.approx(asked[frozen.number], abs=1e-5)
        if frozen.number in ended:
            assert frozen.datetime_complete is not None
            told = frozen.datetime_complete.timestamp()
            assert told == pytest.approx(ended[frozen.number], abs=1e-5)


def test_however_it_is_made_the_bytes_are_the_same(folder: Path, tmp_path: Path) -> None:
    """Anew, event by event, or with a process that was killed in between."""
    events = read_events(folder / "journal.log")[0]
    whole = export_study(folder).read_bytes()
    path = tmp_path / STUDY
    file = StudyFile(path, events[:3])
    for event in events[3:20]:
        before = path.read_bytes()
        file.follow(event)
        assert path.read_bytes().startswith(before)  # what a dashboard has read stays true
    path.write_bytes(path.read_bytes() + b'{"torn')
    file = StudyFile(path, events[:25])
    for event in events[25:40]:
        file.follow(event)
    export_study(folder).replace(path)  # a user runs the command in the middle
    for event in events[40:]:
        file.follow(event)
    assert file.trouble == ""
    assert path.read_bytes() == whole


def test_what_is_in_the_way_stops_no_search(folder: Path, tmp_path: Path) -> None:
    events = read_events(folder / "journal.log")[0]
    (tmp_path / STUDY).mkdir()
    file = StudyFile(tmp_path / STUDY, events[:10])
    assert "cannot be written (" in file.trouble
    (tmp_path / STUDY).rmdir()
    for event in events[10:]:
        file.follow(event)
    assert file.trouble == ""
    assert (tmp_path / STUDY).read_bytes() == export_study(folder).read_bytes()
    strange = StudyFile(tmp_path / "strange", [{"event": "end", "time": 0.0, "trial": 7}])
    assert "cannot be made (KeyError" in strange.trouble


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / STUDY).unlink(missing_ok=True)
    assert main(["scene", "--storage", str(folder.parent)]) == 0
    out = capsys.readouterr().out
    assert "13 trials (" in out
    assert "1 RUNNING" in out
    assert out.endswith(f"Open it with:\n  optuna-dashboard {folder / STUDY}\n")
    assert len(load_study(folder / STUDY).trials) == 13


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gone", "There is no search named gone in"),
        ("../scene", "--name is '../scene': use letters"),
    ],
)
def test_mistakes(
    name: str, sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--storage", str(folder.parent)]) == 2
    assert sentence in capsys.readouterr().err


def test_an_unwritable_place_is_told(folder: Path) -> None:
    (folder / STUDY).unlink(missing_ok=True)
    (folder / STUDY).mkdir()
    try:
        with pytest.raises(BadInput, match="cannot be written"):
            export_study(folder)
    finally:
        (folder / STUDY).rmdir()


@pytest.fixture
def dashboard(folder: Path) -> Iterator[str]:
    """The address of an optuna-dashboard of the study, on loopback."""
    if find_spec("optuna_dashboard") is None:
        pytest.skip("OPTUNA-DASHBOARD IS NOT INSTALLED: NOT TESTED WITH IT")
    path = export_study(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from optuna_dashboard._cli import main; main()"
    words = [sys.executable, "-c", code, str(path), "--port", str(port), "--host", "127.0.0.1"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/api/studies"
    process.kill()
    process.wait()


def fetch(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return json.load(answer)


def test_optuna_dashboard_opens_it_while_it_grows(
    dashboard: str, folder: Path, history: History
) -> None:
    summaries = fetch(dashboard)["study_summaries"]
    assert [(s["study_id"], s["study_name"]) for s in summaries] == [(0, "scene")]
    trials = fetch(f"{dashboard}/0")["trials"]
    shown = {OPEN: "Running", COMPLETE: "Complete", PRUNED: "Pruned", FAILED: "Fail"}
    assert [t["state"] for t in trials] == [shown[t.state] for t in history.trials.values()]
    file = StudyFile(folder / STUDY, read_events(folder / "journal.log")[0])
    number = history.in_state(OPEN)[0].number
    file.follow({"event": "end", "time": time.time(), "trial": number, "state": COMPLETE})
    until = time.monotonic() + 30  # the dashboard reads anew after two seconds
    while time.monotonic() < until:
        trials = fetch(f"{dashboard}/0")["trials"]
        if trials[number]["state"] == "Complete":
            break
        time.sleep(0.3)
    assert trials[number]["state"] == "Complete"
