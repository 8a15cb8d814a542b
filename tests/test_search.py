"""`python tune/search.py`: what it refuses, and a whole search with its ends and interruptions."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from PIL import Image
from pyarrow import csv

from gsda.errors import BadInput
from gsda.model import build_network
from gsda.tasks import OFFICE31_CLASSES, Task
from gsda.validators import DEFAULT_METRIC
from tune import driver, shelf, spec
from tune.cluster import Share
from tune.console import Console
from tune.group import grouped
from tune.history import OPEN, History
from tune.journal import Journal, read_events
from tune.record import SEARCH_TAG, TRIAL_TAG
from tune.search import main
from tune.settings import Settings

ROOT = Path(__file__).parents[1]
SCRIPT = str(ROOT / "tune" / "search.py")
SMALL = ["--task", "W2D", "--steps", "6", "--evaluate-every", "2", "--batch-size", "4"]
Capture = pytest.CaptureFixture[str]
Refuse = Callable[..., str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def refuse(here: Path, capsys: Capture) -> Refuse:
    """Runs a command line that must be refused; gives its sentence, without the prefix."""

    def run(*arguments: str) -> str:
        before = sorted(here.rglob("*"))
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert [line for line in out.splitlines() if not line.startswith("Prepared")] == []
        assert sorted(here.rglob("*")) == before
        assert err.startswith("search.py: ")
        assert err.endswith(".\n")
        assert err.count("\n") == 1
        return err.removeprefix("search.py: ").rstrip("\n")

    return run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """own/left2right: four classes of four images in each domain."""
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        for kind in "abcd":
            folder = tmp_path / "own" / name / kind
            folder.mkdir(parents=True)
            for n in range(4):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{n}.png")
    return tmp_path / "own"


def own(tree: Path, *more: str) -> list[str]:
    return ["--task", "own/left2right", "--data", str(tree), "--backbone", "cnn", *more]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "No task is named: give --task A2D"),
        ("--task A2X", "Unknown task 'A2X' of glyph31: choose one of A2W"),
        ("--task A2D --dataset mnist", "Unknown dataset 'mnist': choose one of glyph31"),
        ("--task A2D --backbone vgg", "Unknown backbone 'vgg': choose one of cnn"),
        ("--task A2D --metric val/magic", "Unknown metric 'val/magic': choose one of val/bnm"),
        (
            "--task A2D --metric oracle/target_accuracy",
            "oracle/target_accuracy reads target labels",
        ),
        ("--task A2A", "same source and target"),
        ("--task office31/A2A", "same source and target"),
        ("--task A2D --tau 1", "tau is 1.0, but must be in [0, 1)"),
        ("--task A2D --tau=-0.5", "tau is -0.5, but must be in [0, 1)"),
        ("--task A2D --alpha=-1", "alpha is -1.0, but must be zero or more"),
        ("--task A2D --beta=-0.01", "beta is -0.01, but must be zero or more"),
        ("--task A2D --trials 0", "--trials is 0, but must be at least 1."),
        ("--task A2D --n-groups 32", "n_groups is 32, but there are 31 classes"),
        ("--task A2D --search alpha,steps", "'steps' cannot be searched"),
        ("--task A2D --search alpha,alpha", "needs distinct fields"),
        ("--task A2D --data gone", "gone does not exist: point --data at the folder"),
        ("--task A2D --data gone --dataset glyph31", "glyph31 is built in: leave --data out"),
        ("--task office31/A2D", "office31 is not built in: give the folder"),
        ("--task A2D --resume --name gone", "There is no search named gone in"),
        ("--task A2D --resume", "There is no search of glyph31/A2D in"),
        ("--task A2D --device cuda", "--device is cuda, but torch sees no GPU here"),
        ("--task A2D --weights some.pth", "Backbone 'cnn' has no pretrained weights"),
        ("--task A2D --backbone resnet18 --weights gone.pth", "glyph31 has images of size 32"),
        ("--task A2D --steps 0", "steps is 0, but must be at least 1."),
        ("--task A2D --name ../up", "--name is '../up': use letters"),
    ],
)
def test_mistakes_in_options(
    arguments: str, sentence: str, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert sentence in refuse(*arguments.split())


@pytest.mark.parametrize("arguments", ["--task A2D --trials many", "--task A2D --device tpu"])
def test_mistakes_that_the_parser_finds(arguments: str, here: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", ["--task A2X", "--task A2D --tau 1", "--task A2D --metric oracle/x"]
)
def test_a_mistake_loads_nothing_heavy(arguments: str, tmp_path: Path) -> None:
    """What answers at once cannot have imported torch, ray or mlflow."""
    code = (
        f"import sys; sys.argv = ['search.py', *{arguments.split()!r}]; import tune.search as s; "
    )
    code += "print(s.main(), sorted({'torch', 'ray', 'mlflow', 'optuna'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "2 []\n"
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", ["--task A2X", "--task A2D --trials 0", "--task A2D --data x"]
)
def test_mistakes_as_a_command(arguments: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments.split()], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("search.py: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_mistakes_in_the_data_folder(refuse: Refuse, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "has no folder for domain 'left'" in refuse(*own(tmp_path / "empty"))
    assert "is not a folder" in refuse(*own(tree / "left" / "a" / "0.png"))
    elsewhere = ["--task", "own/left2middle", *own(tree)[2:]]
    assert "has no folder for domain 'middle'" in refuse(*elsewhere)
    for image in (tree / "left").rglob("*.png"):
        image.unlink()
    assert "left holds no images" in refuse(*own(tree))


def test_a_benchmark_must_have_all_its_classes(refuse: Refuse, tree: Path, tmp_path: Path) -> None:
    image = (tree / "left" / "a" / "0.png").read_bytes()
    data = tmp_path / "office"
    for domain in ("amazon", "dslr"):
        for name in OFFICE31_CLASSES:
            (data / domain / name).mkdir(parents=True)
            (data / domain / name / "0.png").write_bytes(image)
    (data / "dslr" / "mug" / "0.png").unlink()
    said = refuse("--task", "A2D", "--data", str(data))
    assert "mug holds no images: add the images of class 'mug'" in said
    (data / "dslr" / "mug").rmdir()
    assert "lacks the class 'mug'" in refuse("--task", "A2D", "--data", str(data))
    assert "has no folder for domain 'W'" in refuse("--task", "A2W", "--data", str(data))


def test_more_groups_than_the_data_has_classes(refuse: Refuse, tree: Path) -> None:
    said = refuse(*own(tree, "--n-groups", "5"))
    assert said == "n_groups is 5, but there are 4 classes: choose at most 4 groups."


def test_a_corrupt_image_is_named(refuse: Refuse, tree: Path) -> None:
    bad = tree / "right" / "b" / "1.png"
    bad.write_bytes(b"no image")
    assert str(bad) in refuse(*own(tree))


def test_a_corrupt_image_is_skipped_if_told(tree: Path, cache: Path, capsys: Capture) -> None:
    (tree / "right" / "b" / "1.png").write_bytes(b"no image")
    settings = Settings(data=tree, backbone="cnn", skip_bad_images=True, cache=cache)
    task = Task.parse("own/left2right")
    told = spec.specify(task, settings, Console())
    assert (told["images"], told["classes"]) == ([16, 15], 4)
    assert told["data_title"] == f"images in {tree}"
    said = capsys.readouterr().out
    assert "Left out 1 unreadable images of right:\n  b/1.png\n" in said
    with pytest.raises(BadInput, match=r"1\.png"):
        spec.specify(task, replace(settings, skip_bad_images=False), Console())


def test_weights_of_another_network(refuse: Refuse, tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    trunk = build_network("resnet18", 4, 8, 0).E.get_submodule("backbone")
    torch.save(trunk.state_dict(), path)
    arguments = ["--task", "own/left2right", "--data", str(tree), "--backbone", "mobilenet_v2"]
    said = refuse(*arguments, "--weights", str(path))
    assert f"{path} does not fit mobilenet_v2: it lacks the tensor features.0.0.weight" in said
    said = refuse(*arguments, "--weights", str(tmp_path / "gone.pth"))
    assert said == f"There is no weights file {tmp_path / 'gone.pth'}: check --weights."


def test_real_images_are_described(real_data: Path, tmp_path: Path) -> None:
    """The command of the README, as far as its training."""
    settings = Settings(
        dataset="office-caltech10",
        data=real_data / "office-caltech10",
        backbone="mobilenet_v2",
        weights=str(real_data / "weights" / "mobilenet_v2.pth"),
        cache=tmp_path,
    )
    told = spec.specify(Task.parse("office-caltech10/W2D"), settings, Console())
    assert (told["images"], told["classes"]) == ([295, 157], 10)
    assert "not Office-31" in told["data_title"]


# Resuming, without training


@pytest.fixture
def begun(here: Path, cache: Path, capsys: Capture) -> Path:
    """The folder of a search that was begun and did nothing yet."""
    task = Task.parse("glyph31/W2D")
    settings = Settings(cache=cache, seed=3, overrides={"steps": 6, "evaluate_every": 2})
    told = spec.specify(task, settings, Console())
    journal = shelf.claim(here / "searches", "old", task, told)
    journal.close()
    capsys.readouterr()
    return journal.path.parent


def test_an_existing_name_needs_resume(begun: Path, refuse: Refuse) -> None:
    said = refuse("--task", "W2D", "--name", "old")
    assert said.startswith("There is a search named old in ")
    assert "add --resume to go on with it, or choose another --name" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--task W2D --name oldd", "there are old: check --name."),
        ("--task A2D --name old", "The search old is of glyph31/W2D, not of glyph31/A2D."),
        ("--task W2D --name old --seed 4", "--seed is 4, but old was begun with 3"),
        ("--task W2D --name old --seed 0", "--seed is 0, but old was begun with 3"),
        ("--task W2D --name old --steps 8", "--steps is 8, but old was begun with 6"),
        ("--task W2D --name old --metric val/im", "--metric is val/im, but old was begun with"),
        ("--task W2D --name old --search lr", "--search is"),
        ("--task W2D --name old --alpha 0.5", "--alpha is 0.5, but old was begun with 0.02"),
        ("--task W2D --name old --trials 5", "old was asked for 20 already: a search can only be"),
    ],
)
def test_a_resume_that_contradicts(
    arguments: str, sentence: str, begun: Path, refuse: Refuse
) -> None:
    assert sentence in refuse(*arguments.split(), "--resume")


@pytest.mark.parametrize(
    "said",
    [
        {"seed": 3},
        {"overrides": {"steps": 6, "evaluate_every": 2}},
        {"metric": DEFAULT_METRIC, "backbone": "cnn", "dataset": "glyph31"},
        {"trials": 20},
        {"trials": 30, "max_hours": 1.0, "tracking_uri": "http://127.0.0.1:1", "promote": True},
    ],
)
def test_a_resume_may_repeat_what_was_said(said: dict[str, Any], begun: Path) -> None:
    history = History.of(read_events(begun / "journal.log")[0])
    settings = Settings(resume=True, name="old", **said)
    spec.check_resume(Task.parse("glyph31/W2D"), settings, history, Console())


def test_a_name_is_enough_to_resume(begun: Path, refuse: Refuse) -> None:
    """What follows is refused for another reason: the task was known."""
    assert "--seed is 4, but old was begun with 3" in refuse(
        *"--name old --resume --seed 4".split()
    )
    assert "No task is named" in refuse("--resume")
    assert "No task is named" in refuse("--name", "new")
    assert "There is no search named gone in" in refuse("--name", "gone", "--resume")


def test_several_tasks_are_known_by_the_name(here: Path, cache: Path, refuse: Refuse) -> None:
    group = grouped([Task.parse("glyph31/W2D"), Task.parse("glyph31/D2W")])
    told = spec.specify(group, Settings(cache=cache, scope="dataset"), Console())
    shelf.claim(here / "searches", "both", group, told).close()
    said = refuse(*"--name both --resume --steps 7".split())
    assert "--steps is 7, but both was begun with" in said


def test_a_search_that_is_being_driven(
    begun: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "connected", lambda *_: nullcontext())
    monkeypatch.setattr(driver, "share", lambda *_: Share("cpu", 1, 0))
    journal = Journal(begun / "journal.log")
    said = refuse("--task", "W2D", "--name", "old", "--resume")
    assert "The search old is being driven by another process" in said
    journal.close()


def test_an_address_where_nobody_is(refuse: Refuse) -> None:
    said = refuse("--task", "W2D", "--address", "127.0.0.1:1")
    assert said.startswith("Nothing answers at --address 127.0.0.1:1 (")


def test_a_damaged_journal(begun: Path, refuse: Refuse) -> None:
    path = begun / "journal.log"
    path.write_bytes(b"x" + path.read_bytes()[1:] + b"torn")
    assert "is damaged 0 bytes in: restore" in refuse("--task", "W2D", "--name", "old", "--resume")


# A whole search


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
