"""One run from images to a model: `gsda.train`, and `gsda train` of the command line."""

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from scene import TASK

from gsda.bundle import load_bundle
from gsda.checkpoint import load_newest
from gsda.cli import main
from gsda.cli_train import described_settings
from gsda.config import Config
from gsda.errors import BadInput, NonFinite
from gsda.train import CHECKPOINTS, SAVE_S, Listener, Trained, read_history, resume, train

SMALL: dict[str, Any] = {"bottleneck": 8, "hidden": 8, "batch_size": 4}
SMALL |= {"steps": 6, "evaluate_every": 3}
FLAGS = "--bottleneck 8 --hidden 8 --batch-size 4 --steps 6 --evaluate-every 3".split()
ROOT = Path(__file__).parents[1]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return train(TASK, folder, **SMALL), folder


def stop_at(step: int) -> Listener:
    """Stops a run once so many steps are done."""
    seen = [0]
    return Listener(
        stepped=lambda now, _: seen.__setitem__(0, now), stop=lambda: seen[0] >= step > 0
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_bundle(folder / "model").network.state_dict()


def assert_equal_bits(a: Path, b: Path) -> None:
    one, other = weights(a), weights(b)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()


def test_a_run_leaves_model_metrics_and_no_checkpoints(whole: tuple[Trained, Path]) -> None:
    trained, folder = whole
    assert trained.model == folder / "model"
    assert [row["step"] for row in read_history(folder)] == [3, 6]
    assert read_history(folder) == trained.history
    assert trained.metrics == trained.history[-1]
    assert {"loss/C", "loss/D_dom", "loss/D_grp", "loss/D_cls", "loss/syn"} < set(trained.metrics)
    assert {"val/bnm", "oracle/target_accuracy"} < set(trained.metrics)
    assert load_newest(folder / CHECKPOINTS)[0] is None


def test_the_manifest_says_what_the_model_is(whole: tuple[Trained, Path]) -> None:
    trained, folder = whole
    manifest = load_bundle(folder / "model").manifest
    assert len(manifest["classes"]) == 31
    assert manifest["transform"]["resize"] == [32, 32]
    assert (manifest["backbone"], manifest["bottleneck"], manifest["task"]) == ("cnn", 8, TASK)
    assert manifest["config"] == trained.config.to_dict()
    assert manifest["scores"]["val/bnm"] == trained.metrics["val/bnm"]
    assert "no" in manifest["selection"]["rule"]
    assert not [name for name in json.dumps(manifest).split('"') if name.startswith("oracle/")]


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_stopped_run_goes_on_to_the_same_bits(
    step: int, whole: tuple[Trained, Path], tmp_path: Path
) -> None:
    stopped = train(TASK, tmp_path / "run", listener=stop_at(step), **SMALL)
    assert stopped.model is None
    assert not (tmp_path / "run" / "model").exists()
    assert resume(tmp_path / "run", task=TASK, alpha=0.02).model == tmp_path / "run" / "model"
    assert_equal_bits(tmp_path / "run", whole[1])


@pytest.mark.parametrize(("save_s", "steps"), [(SAVE_S, [4, 5, 6]), (0.0, [5, 6])])
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    save_s: float,
    steps: list[int],
    whole: tuple[Trained, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That of the last evaluation, or of the clock where evaluations are far apart."""
    monkeypatch.setattr("gsda.train.SAVE_S", save_s)

    class Killed(BaseException):
        pass

    def kill(step: int, _: dict[str, float]) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(TASK, tmp_path / "run", listener=Listener(stepped=kill), **SMALL)
    made: list[int] = []
    resume(tmp_path / "run", listener=Listener(stepped=lambda step, _: made.append(step)))
    assert made == steps
    assert_equal_bits(tmp_path / "run", whole[1])


def test_a_full_disk_gets_a_sentence_and_the_run_goes_on(
    whole: tuple[Trained, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("gsda.train.save_bundle", full)
        with pytest.raises(BadInput, match=r"cannot be written \(No space left on device\): make"):
            train(TASK, tmp_path / "run", **SMALL)
    with monkeypatch.context() as patch:
        patch.setattr("gsda.train.save_step", full)
        with pytest.raises(BadInput, match="go on with --resume"):
            train(TASK, tmp_path / "other", **SMALL)
    assert resume(tmp_path / "run").model == tmp_path / "run" / "model"
    assert_equal_bits(tmp_path / "run", whole[1])


def test_levels_may_be_said_again_in_another_order(tmp_path: Path) -> None:
    changes = SMALL | {"levels": ("cls", "dom"), "beta": 0.0}
    train(TASK, tmp_path / "run", listener=stop_at(1), **changes)
    with pytest.raises(BadInput, match="levels is"):
        resume(tmp_path / "run", levels=("dom",))
    assert resume(tmp_path / "run", levels=("cls", "dom")).model is not None


def test_a_damaged_checkpoint_is_passed_over_and_told(
    whole: tuple[Trained, Path], tmp_path: Path
) -> None:
    train(TASK, tmp_path / "run", listener=stop_at(4), **SMALL)
    newest = max((tmp_path / "run" / CHECKPOINTS).iterdir())
    newest.write_bytes(newest.read_bytes()[:1000])
    notes: list[str] = []
    resume(tmp_path / "run", listener=Listener(note=notes.append))
    assert len(notes) == 1
    assert notes[0].endswith("is damaged; going on from an earlier one")
    assert_equal_bits(tmp_path / "run", whole[1])


def test_what_is_done_stays_as_it_is(whole: tuple[Trained, Path]) -> None:
    again = resume(whole[1], listener=Listener(stepped=lambda *_: pytest.fail("trained")))
    assert again == whole[0]


def test_a_second_run_in_the_same_place_is_refused(whole: tuple[Trained, Path]) -> None:
    with pytest.raises(BadInput, match=r"There is a run in .* already: go on with it"):
        train(TASK, whole[1], **SMALL)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"alpha": 0.5}, "alpha is 0.5, but the run in .* was begun with 0.02: leave alpha out"),
        ({"levels": ("dom",)}, "levels is .* was begun with"),
        ({"task": "glyph31/A2D"}, "task is glyph31/A2D, but the run in .* begun with glyph31/W2D"),
    ],
)
def test_a_resume_must_not_contradict(
    changes: dict[str, Any], sentence: str, whole: tuple[Trained, Path]
) -> None:
    with pytest.raises(BadInput, match=sentence):
        resume(whole[1], **changes)


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    refused: list[str] = []

    def second(step: int, _: dict[str, float]) -> None:
        with pytest.raises(BadInput, match="is being trained by another process"):
            resume(tmp_path / "run")
        refused.append(str(step))

    train(TASK, tmp_path / "run", listener=Listener(stepped=second), **SMALL | {"steps": 1})
    assert refused == ["1"]


def test_other_images_are_refused(tmp_path: Path) -> None:
    train(TASK, tmp_path / "run", listener=stop_at(1), **SMALL)
    file = tmp_path / "run" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"images": "another"}))
    with pytest.raises(BadInput, match=r"are not those that the run in .* began with"):
        resume(tmp_path / "run")
    file.write_text("{")
    with pytest.raises(BadInput, match=r"run\.json is damaged"):
        resume(tmp_path / "run")


def test_a_setting_that_breaks_down_is_told(tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(NonFinite):
        train(TASK, tmp_path / "a", lr=1e30, **SMALL)
    output = ["--output", str(tmp_path / "b")]
    assert main(["train", "--task", TASK, *FLAGS, "--lr", "1e30", *output]) == 1
    told = capsys.readouterr().err
    assert "This setting cannot be trained (" in told
    assert f"lower --lr, and name another --output than {tmp_path / 'b'}" in told


# The command line


def test_the_command_line_trains_the_same(
    whole: tuple[Trained, Path], tmp_path: Path, capsys: Capture
) -> None:
    assert main(["train", "--task", "W2D", *FLAGS, "--output", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    head = out.splitlines()[2].split()
    assert head == "step C D_dom D_grp D_cls syn guarded bnm confidence classes accuracy".split()
    assert [line.split()[0] for line in out.splitlines()[3:5]] == ["3", "6"]
    assert "which the training never saw" in out
    assert f"python -m gsda predict {tmp_path / 'run' / 'model'} IMAGES" in out
    assert_equal_bits(tmp_path / "run", whole[1])
    assert main(["train", "--resume", "--output", str(tmp_path / "run"), "--quiet"]) == 0


def test_ctrl_c_leaves_what_the_told_command_goes_on_with(
    whole: tuple[Trained, Path], tmp_path: Path
) -> None:
    """A real signal to a real process, at step 2; then the command that it printed."""
    code = (
        "import os, signal, sys, gsda.watching as w; from gsda.cli import main\n"
        "told = w.Watcher.stepped\n"
        "def stepped(self, step, losses):\n"
        "    told(self, step, losses)\n"
        "    if step == 2: os.kill(os.getpid(), signal.SIGINT)\n"
        "w.Watcher.stepped = stepped\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["train", "--task", TASK, *FLAGS, "--output", "run"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 75
    lines = done.stderr.splitlines()
    assert lines[0] == "Stopping after this step; once more to stop at once."
    assert lines[1] == "Stopped; nothing is lost. Go on with:"
    assert lines[2] == "  python -m gsda train --resume --output run"
    state = load_newest(tmp_path / "run" / CHECKPOINTS)[0]
    assert state is not None
    assert state["run"]["step"] == 2
    again = subprocess.run(
        [sys.executable, *lines[2].split()[1:]],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
    )
    assert (again.returncode, again.stderr) == (0, "")
    assert "going on after step 2" in again.stdout
    assert_equal_bits(tmp_path / "run", whole[1])


def _environment() -> dict[str, str]:
    return dict(os.environ) | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_signals_do_afterwards_what_they_did(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    arguments = ["train", "--task", TASK, *FLAGS, "--steps", "1", "--quiet"]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_every_setting_is_an_option_with_the_words_of_its_docstring(capsys: Capture) -> None:
    said = described_settings()
    assert set(said) >= {field.name for field in fields(Config)}
    assert said["weight_decay"] == "of SGD with Nesterov momentum"
    assert said["tau"].startswith("a target sample enters the local levels if")
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    for field in fields(Config):
        assert f"--{field.name.replace('_', '-')} " in shown


Refusal = tuple[list[str], str]
REFUSALS: list[Refusal] = [
    (["--task", "A2X"], "Unknown task 'A2X' of glyph31: choose one of"),
    (["--task", "A2D", "--alpha", "x"], "Argument --alpha: invalid float value: 'x'"),
    (["--task", "A2D", "--alpha", "-1"], "alpha is -1.0, but must be zero or more"),
    (["--task", "A2D", "--levels", "dom,x"], "levels is"),
    (["--task", "A2D", "--backbone", "vgg"], "Unknown backbone 'vgg': choose one of"),
    (["--task", "office31/A2D"], "office31 is not built in: give the folder"),
    (["--data", "gone", "--source", "a", "--target", "b"], "gone does not exist: point --data"),
    (["--source", "a"], "--source and --target name two folders of --data: give all three"),
    ([], "No task is named: give --task glyph31/A2D"),
    (["--resume"], "--resume needs to know which run: name its --output, or its --task"),
    (["--resume", "--task", "A2D"], "There is no run in runs/glyph31-A2D to resume"),
    (["--task", "A2D", "--no-such"], "Unrecognized arguments: --no-such"),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSALS)
def test_mistakes_are_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status: Any = main(["train", *arguments])
    except SystemExit as error:
        status = error.code
    assert status == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gsda: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_answered_before_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from gsda.cli import main\n"
        "for words in sys.argv[1:]:\n"
        "    try: status = main(['train', *words.split()])\n"
        "    except SystemExit as error: status = error.code\n"
        "    assert status == 2, words\n"
        "assert 'torch' not in sys.modules"
    )
    mistakes = [" ".join(arguments) for arguments, _ in REFUSALS]
    done = subprocess.run(
        [sys.executable, "-c", code, *mistakes],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_frozen_features_and_folders_of_ones_own(
    real_data: Path, tmp_path: Path, capsys: Capture
) -> None:
    for domain in ("dslr", "webcam"):
        for name in ("mug", "projector"):
            folder = real_data / "office-caltech10" / domain / "images" / name
            here = tmp_path / "data" / domain / (name if domain == "dslr" else "")
            here.mkdir(parents=True, exist_ok=True)
            for file in sorted(folder.iterdir())[:6]:
                (here / f"{name}-{file.name}").symlink_to(file)
    weights = real_data / "weights" / "mobilenet_v2.pth"
    arguments = ["--data", str(tmp_path / "data"), "--source", "dslr", "--target", "webcam"]
    arguments += ["--backbone", "mobilenet_v2", "--weights", str(weights), "--features", "frozen"]
    arguments += [*FLAGS, "--n-groups", "1", "--cache", str(tmp_path / "cache")]
    assert main(["train", *arguments, "--output", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "data/dslr2webcam: 12 source and 12 target images, 2 classes; cpu" in out
    assert "accuracy" not in out  # the target is a flat folder: nobody knows its classes
    predictor = load_bundle(tmp_path / "run" / "model")
    assert predictor.classes == ("mug", "projector")
    assert predictor.manifest["transform"]["mean"] == [0.485, 0.456, 0.406]
    assert resume(tmp_path / "run").model is not None
