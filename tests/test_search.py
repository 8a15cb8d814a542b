"""`python tune/search.py`: what it refuses, and what a resume may say."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gsda.errors import BadInput
from gsda.model import build_network
from gsda.tasks import OFFICE31_CLASSES, Task
from gsda.validators import DEFAULT_METRIC
from tune import driver, shelf, spec
from tune.cluster import Share
from tune.console import Console
from tune.group import grouped
from tune.history import History
from tune.journal import Journal, read_events
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
