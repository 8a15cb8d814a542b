"""`python tune/search.py`: a whole search, with its ends and interruptions."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from PIL import Image
from pyarrow import csv

from gsda.validators import DEFAULT_METRIC
from tune.history import OPEN, History
from tune.journal import read_events
from tune.record import SEARCH_TAG, TRIAL_TAG

ROOT = Path(__file__).parents[1]
SCRIPT = str(ROOT / "tune" / "search.py")
SMALL = ["--task", "W2D", "--steps", "6", "--evaluate-every", "2", "--batch-size", "4"]
Capture = pytest.CaptureFixture[str]
Refuse = Callable[..., str]


class Place:
    """A working folder in which searches are run as a user would."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"GSDA_CACHE": str(cache), "PYTHONWARNINGS": ""}
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            self.environment.pop(name, None)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a process group of its own, as a shell would give it
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate()
        return process.returncode, out, err

    @property
    def journal(self) -> Path:
        return self.folder / "searches" / "mine" / "journal.log"

    def history(self) -> History:
        return History.of(read_events(self.journal)[0])

    @property
    def client(self) -> MlflowClient:
        uri = f"sqlite:///{self.folder / 'mlflow.db'}"
        return MlflowClient(uri, registry_uri=uri)

    def runs(self) -> list[MlflowRun]:
        experiment = self.client.get_experiment_by_name("glyph31/W2D")
        return list(self.client.search_runs([experiment.experiment_id]))

    def check(self, trials: int) -> None:
        """Each trial once, in the journal and in MLflow, and nothing else there."""
        history = self.history()
        assert list(history.trials) == list(range(trials))
        assert not history.in_state(OPEN)
        ends = Counter(e["trial"] for e in read_events(self.journal)[0] if e["event"] == "end")
        assert set(ends.values()) == {1}
        runs = self.runs()
        parents = [run for run in runs if SEARCH_TAG in run.data.tags]
        assert [run.info.status for run in parents] == ["FINISHED"]
        children = [run for run in runs if TRIAL_TAG in run.data.tags]
        assert len(runs) == 1 + len(children)
        keys = sorted(run.data.tags[TRIAL_TAG] for run in children)
        assert keys == [history.key(number) for number in range(trials)]
        for run in children:
            trial = history.trials[int(run.data.tags["trial"])]
            assert run.data.tags["state"] == trial.state
            assert run.info.status == ("FAILED" if trial.state == "FAILED" else "FINISHED")
            assert run.data.params["alpha"] == str(trial.config["alpha"])
            points = self.client.get_metric_history(run.info.run_id, DEFAULT_METRIC)
            told = {point.step: point.value for point in points}
            assert len(points) == len(told)
            assert told == {step: m[DEFAULT_METRIC] for step, m in trial.reports.items()}

    def champion(self) -> Any:
        return self.client.get_model_version_by_alias("gsda-glyph31-W2D", "champion")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where the tests below, each building on the one before, work."""
    return Place(tmp_path_factory.mktemp("place"), Path(os.environ["GSDA_CACHE"]))


def test_a_search_from_nothing_to_a_champion(place: Place) -> None:
    status, out, err = place.run(SCRIPT, *SMALL, "--trials", "3", "--name", "mine")
    assert (status, err) == (0, "")
    lines = [line for line in out.splitlines() if not line.startswith("Prepared ")]
    assert lines[0].startswith("Search mine: glyph31/W2D, built-in drawn letters")
    assert "not Office-31" in lines[0]
    known = (
        r"Search|Best by|Model gsda-glyph31-W2D: version 1 is the champion\.|  \S|   +(\d|its)|$"
        r"|By the target's labels, which chose nothing here|Importance of the settings: too few"
        r"|Chosen: trial \d, by val/guarded_ami\.$"
    )
    assert [line for line in lines if not re.match(known, line)] == []
    place.check(5)
    best = place.history().best(DEFAULT_METRIC)
    assert best is not None
    assert place.champion().tags["gsda.trial"] == place.history().key(best.number)
    assert [trial.kind for trial in place.history().trials.values()][:2] == ["source-only", "paper"]
    here = sorted(path.name for path in place.folder.iterdir() if path.suffix != ".lock")
    assert here == ["mlartifacts", "mlflow.db", "searches"]
    left = sorted(p.name for p in place.journal.parent.iterdir())
    assert left == ["journal.log", "mlflow.place", "optuna.log", "report", "trials"]
    assert "  Report:   searches/mine/report/report.html" in lines
    parent = next(run for run in place.runs() if SEARCH_TAG in run.data.tags)
    kept = {file.path for file in place.client.list_artifacts(parent.info.run_id, "report")}
    assert {"report/report.html", "report/history.png", "report/validators.png"} <= kept
    assert parent.data.metrics["oracle/regret_points"] >= 0
    assert list(place.journal.parent.rglob("step-*.pt")) == []


def test_the_champion_predicts_files(place: Place, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    address, output = "models:/gsda-glyph31-W2D@champion", tmp_path / "out.csv"
    arguments = ["-m", "gsda", "predict", address, str(tmp_path), "--output", str(output)]
    assert place.run(*arguments) == (0, "", "")
    table = csv.read_csv(output)
    assert table.column_names == ["file", "class", "confidence"]
    assert table.num_rows == 1


def test_a_finished_search_can_be_extended(place: Place) -> None:
    before = place.history().trials
    arguments = ["--task", "W2D", "--name", "mine", "--resume", "--trials", "5"]
    status, out, err = place.run(SCRIPT, *arguments)
    assert (status, err) == (0, "")
    assert "7 trials (2 reference, 5 searched, 5 of them done before)" in out
    place.check(7)
    after = place.history().trials
    assert {number: after[number] for number in before} == before
    best = place.history().best(DEFAULT_METRIC)
    assert best is not None
    assert place.champion().tags["gsda.trial"] == place.history().key(best.number)


def test_a_finished_search_resumed_does_nothing_again(place: Place) -> None:
    versions = place.client.search_model_versions("name = 'gsda-glyph31-W2D'")
    status, out, err = place.run(SCRIPT, "--task", "W2D", "--name", "mine", "--resume")
    assert (status, err) == (0, "")
    assert "all trials are finished already" in out
    place.check(7)
    again = place.client.search_model_versions("name = 'gsda-glyph31-W2D'")
    assert [v.version for v in again] == [v.version for v in versions]


def reports_in(journal: Path) -> int:
    return sum(event["event"] == "report" for event in read_events(journal)[0])


def wait_for_report(place: Place, known: int, process: subprocess.Popen[str]) -> None:
    """Until the journal has more reports than `known`."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if reports_in(place.journal) > known:
            return
        time.sleep(0.01)
    raise AssertionError(f"no report came: {process.communicate()}")


def test_killed_and_interrupted_and_resumed(place: Place) -> None:
    """`kill -9` of the driver; Ctrl-C, which reaches Ray's processes too; SIGTERM; then the end."""
    arguments = [SCRIPT, "--task", "W2D", "--name", "mine", "--resume", "--trials", "14"]
    ended: dict[int, Any] = {}
    for number, status in ((signal.SIGKILL, -9), (signal.SIGINT, 75), (signal.SIGTERM, 75)):
        process = place.start(*arguments)
        wait_for_report(place, reports_in(place.journal), process)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        out, err = process.communicate()
        assert process.returncode == status, (out, err)
        history = place.history()
        now = {n: t for n, t in history.trials.items() if t.state != OPEN}
        assert len(now) < 16
        assert {n: now[n] for n in ended} == ended
        ended = now
        if status == 75:
            assert err == ""
            assert "Nothing is lost. Go on with:" in out
            assert "--name mine --resume" in out
    code, out, err = place.run(*arguments)
    assert (code, err) == (0, "")
    place.check(16)
    assert {n: place.history().trials[n] for n in ended} == ended
