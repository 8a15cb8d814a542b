"""A folder in which searches run as a user's would, and a census of what they leave."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tune.history import OPEN, History
from tune.journal import Event, read_events
from tune.record import SEARCH_TAG, TRIAL_TAG
from tune.study import export_study, load_study

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "tune" / "search.py")
TASK = "glyph31/W2D"
# A trial of a few seconds, of which starting is the larger part.
TINY = ["--task", TASK, "--steps", "12", "--evaluate-every", "3", "--batch-size", "4"]
ONE_AT_A_TIME = ["--cpus-per-trial", str(os.cpu_count())]


@dataclass
class Census:
    """What a search left, counted in the three places where it is written down.

    Attributes:
        asked: trials in the journal. ended: of them, those that ended. ends: events of an end.
        runs, studied: trials in MLflow and in Optuna's file, with repetitions.
        running: runs of MLflow that are still RUNNING, the search's own included.
        points: values of the metric in MLflow. reports: values in the journal.
        disagreements: trials whose state or values differ between the three.
    """

    asked: int = 0
    ended: int = 0
    ends: int = 0
    runs: int = 0
    studied: int = 0
    running: int = 0
    reports: int = 0
    points: int = 0
    disagreements: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether every trial ended, and is in each place once, with the same values."""
        same = {self.asked, self.ended, self.ends, self.runs, self.studied}
        alike = self.reports == self.points and not self.disagreements
        return len(same) == 1 and alike and not self.running

    def __str__(self) -> str:
        counts = (
            f"{self.asked} trials asked, {self.ended} ended ({self.ends} ends), "
            f"{self.runs} runs in MLflow ({self.running} running), {self.studied} in Optuna; "
            f"{self.reports} reports, {self.points} in MLflow"
        )
        return "; ".join([counts, *self.disagreements])


class Rig:
    """A working folder, its storage and its tracking database."""

    def __init__(self, folder: Path, cache: Path | None = None, uri: str | None = None) -> None:
        self.folder = folder
        self.storage = folder / "searches"
        self.uri = uri or f"sqlite:///{folder / 'mlflow.db'}"
        self.environment = os.environ | {"PYTHONWARNINGS": "", "PYTHONPATH": str(ROOT)}
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            self.environment.pop(name, None)
        if cache is not None:
            self.environment["GSDA_CACHE"] = str(cache)
        if uri is not None:
            self.environment["MLFLOW_TRACKING_URI"] = uri

    def start(
        self, *options: str, script: str = SCRIPT, wrapper: Sequence[str] = (), **more: Any
    ) -> subprocess.Popen[str]:
        """A search in a process group of its own, as a shell would give it.

        Args:
            wrapper: words before it, such as a command that enters a namespace.
        """
        return subprocess.Popen(
            [*wrapper, sys.executable, script, *options],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **more,
        )

    def run(self, *options: str) -> tuple[int, str]:
        """A search to its end: exit code, and all that it said."""
        process = self.start(*options)
        out, _ = process.communicate()
        return process.returncode, out

    def journal(self, name: str) -> Path:
        return self.storage / name / "journal.log"

    def events(self, name: str) -> list[Event]:
        """Events so far; none before there is a journal."""
        path = self.journal(name)
        return read_events(path)[0] if path.is_file() else []

    def history(self, name: str) -> History:
        return History.of(self.events(name))

    def count(self, name: str, *kinds: str) -> int:
        """How many events there are of these kinds."""
        return sum(event["event"] in kinds for event in self.events(name))

    def wait(self, process: subprocess.Popen[str], holds: Callable[[], bool]) -> bool:
        """Wait until something holds; False if the search ended before."""
        while process.poll() is None:
            if holds():
                return True
            time.sleep(0.02)
        return False

    def census(self, name: str) -> Census:
        """Count what the search left."""
        events, history = self.events(name), self.history(name)
        metric = history.spec["metric"]
        told = [e["trial"] for e in events if e["event"] == "report" and metric in e["metrics"]]
        census = Census(
            asked=len(history.trials),
            ended=len(history.ended),
            ends=sum(event["event"] == "end" for event in events),
            reports=len(told),
        )
        self._count_runs(census, history)
        self._count_study(census, history)
        return census

    def _count_runs(self, census: Census, history: History) -> None:
        client = MlflowClient(self.uri, registry_uri=self.uri)
        experiment = client.get_experiment_by_name(history.spec["task"])
        if experiment is None:
            return
        runs = client.search_runs([experiment.experiment_id], max_results=5000)
        of_search = [r for r in runs if r.data.tags.get(SEARCH_TAG) == history.uuid]
        runs = [r for r in runs if r.data.tags.get(TRIAL_TAG, "").startswith(history.uuid + "/")]
        census.runs = len(runs)
        census.running = sum(run.info.status == "RUNNING" for run in [*runs, *of_search])
        if len(of_search) != 1:
            census.disagreements.append(f"{len(of_search)} runs of the search itself")
        metric = history.spec["metric"]
        for run in runs:
            trial = history.trials[int(run.data.tags["trial"])]
            points = client.get_metric_history(run.info.run_id, metric)
            census.points += len(points)
            wanted = {s: m[metric] for s, m in trial.reports.items() if metric in m}
            if {p.step: p.value for p in points} != wanted:
                census.disagreements.append(f"values of trial {trial.number} in MLflow")
            if trial.state != OPEN and run.data.tags["state"] != trial.state:
                census.disagreements.append(f"state of trial {trial.number} in MLflow")

    def _count_study(self, census: Census, history: History) -> None:
        study = load_study(export_study(self.storage / history.spec["name"]))
        census.studied = len(study.trials)
        metric = history.spec["metric"]
        for frozen in study.trials:
            trial = history.trials[frozen.number]
            wanted = {s: m[metric] for s, m in trial.reports.items() if metric in m}
            if frozen.intermediate_values != wanted:
                census.disagreements.append(f"values of trial {trial.number} in Optuna")
            if frozen.user_attrs["gsda.trial"] != history.key(trial.number):
                census.disagreements.append(f"key of trial {trial.number} in Optuna")


def outcome(history: History) -> list[tuple[Any, ...]]:
    """All of a search that must not depend on how often it was disturbed."""
    return [
        (t.number, t.kind, t.values, t.config, t.reports, t.state, t.reason)
        for t in history.trials.values()
    ]


def best_of(history: History) -> tuple[int, float]:
    """Number and score of the best trial."""
    best = history.best(history.spec["metric"])
    if best is None:
        raise AssertionError("no trial finished")
    return best.number, best.final[history.spec["metric"]]


def kill(process: subprocess.Popen[str]) -> None:
    """`kill -9` of the driver alone; what Ray started follows it, or not, of its own accord."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Processes that train a trial for this driver at the moment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if (
            title.startswith("ray::")
            and "Trainable" in title
            and process.pid in _ancestors(int(folder.name))
        ):
            found.append(int(folder.name))
    return found


def _ancestors(pid: int) -> list[int]:
    chain: list[int] = []
    while pid > 1 and len(chain) < 20:
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        pid = int(text.rpartition(")")[2].split()[1])
        chain.append(pid)
    return chain


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Server:
    """`mlflow server` on loopback, that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = ["mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
        words += ["--port", str(self.port), "--artifacts-destination", str(self.folder / "served")]
        words += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", *words],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while not self._answers():
            if self._process.poll() is not None:
                raise RuntimeError("the tracking server did not start")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """`kill -9` of the server and of its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for the time of a fault."""
    folder = Path(tempfile.mkdtemp(prefix="gsda-faults-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def show(rows: Sequence[Sequence[object]]) -> None:
    """A table in Markdown, the first row its head."""
    head, *body = [[str(cell) for cell in row] for row in rows]
    for row in (head, ["---"] * len(head), *body):
        print(f"| {' | '.join(row)} |", flush=True)


def tally(names: Sequence[object]) -> str:
    """``2 x this, 1 x that``."""
    return ", ".join(f"{n} x {name}" for name, n in Counter(names).most_common()) or "none"


def dice(seed: int = 0) -> random.Random:
    """The moments of the faults, the same in each run."""
    return random.Random(seed)
