"""Each method tuned by the same search: the file of settings that tables take."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import scene

from experiments.cells import choose_rows
from experiments.tables import read_tuned
from experiments.tuned import main, winner
from gsda.config import Config
from gsda.tasks import Task
from tune.driver import Result
from tune.history import COMPLETE, FAILED, PAPER, SEARCHED, SOURCE_ONLY, History, Trial
from tune.settings import DONE, NO_MODEL, Settings

Capture = pytest.CaptureFixture[str]


def trial(number: int, kind: str, score: float, state: str = COMPLETE) -> Trial:
    config = scene.small_config().to_dict()
    return Trial(
        number, kind, {"lr": 0.1 * number}, config, {6: {scene.METRIC: score}}, state, metric=""
    )


def history(method: str, scores: dict[str, float], state: str = COMPLETE) -> History:
    base = scene.small_config(method=method)
    spec = scene.make_spec(base, 2) | {"seeds": None}
    trials = [trial(n, kind, score, state) for n, (kind, score) in enumerate(scores.items())]
    return History(spec, "u", 0.0, {one.number: one for one in trials})


def test_the_row_of_a_method_has_the_method_s_own_setting() -> None:
    scores = {SOURCE_ONLY: 0.9, PAPER: 0.4, SEARCHED: 0.6}
    found = winner(history("dann", scores))
    assert found is not None
    assert found.kind == SEARCHED
    found = winner(history("source_only", {SOURCE_ONLY: 0.9, SEARCHED: 0.6}))
    assert found is not None
    assert found.kind == SOURCE_ONLY
    assert winner(history("dann", {SOURCE_ONLY: 0.9})) is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--methods", "magic"], "Unknown method 'magic'"),
        (["--methods", "tca"], "fitted to frozen features"),
        (["--trials", "0"], "--trials is 0"),
        (["--on", "all"], "--on all is 6 tasks: name one, such as glyph31/A2W"),
        (["--metric", "oracle/target_accuracy"], "reads target labels"),
    ],
)
def test_mistakes(arguments: list[str], sentence: str, tmp_path: Path, capsys: Capture) -> None:
    places = ["--storage", str(tmp_path / "s"), "--output", str(tmp_path / "t.json")]
    assert main(["glyph31", "--on", "W2D", *places, *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_method_that_cannot_be_trained_holds_up_no_other(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def search(task: Task, settings: Settings, console: object) -> Result:
        method = str(settings.overrides["method"])
        asked.append(method)
        if method == "dann":
            return Result("a", NO_MODEL, history(method, {SOURCE_ONLY: 0.9, PAPER: 0.1}, FAILED))
        return Result("b", DONE, history(method, {SOURCE_ONLY: 0.9, PAPER: 0.4, SEARCHED: 0.6}))

    monkeypatch.setattr("tune.driver.search_one", search)
    monkeypatch.setattr("tune.cluster.connected", lambda _: nullcontext())
    path = tmp_path / "t.json"
    methods = ["--methods", "dann", "cdan"]
    assert main(["glyph31", "--on", "W2D", "--output", str(path), *methods]) == 0
    assert asked == ["dann", "cdan"]
    assert set(json.loads(path.read_text())) == {"CDAN"}
    assert "| DANN | no trial finished |" in capsys.readouterr().out


@pytest.mark.usefixtures("ray_here")
def test_searches_are_run_once_and_tables_take_what_they_found(
    tmp_path: Path, store: str, capsys: Capture
) -> None:
    path = tmp_path / "t.json"
    command = ["glyph31", "--on", "W2D", "--trials", "1", "--methods", "dann", "source_only"]
    command += ["--steps", "4", "--evaluate-every", "4", "--batch-size", "4"]
    command += ["--storage", str(tmp_path / "s"), "--tracking-uri", store]
    assert main([*command, "--output", str(path)]) == 0
    first = capsys.readouterr()
    lines = first.out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| DANN", "| source-only"]
    assert [line.split(" | ")[-1] for line in lines[2:]] == ["3 |", "2 |"]
    told = json.loads(path.read_text())
    assert {title: set(values) for title, values in told.items()} == {
        "DANN": {"lambda_max", "lr"},
        "source-only": {"lr", "weight_decay"},
    }
    rows = choose_rows(["methods"], Config(backbone="cnn", weights="none"), tuned=read_tuned(path))
    assert set(rows) == {"DANN", "source-only"}
    assert rows["DANN"].lr == told["DANN"]["lr"]
    assert (tmp_path / "s" / "tuned-glyph31-W2D-dann" / "journal.log").is_file()
    assert main([*command, "--output", str(tmp_path / "again.json")]) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert second.err.count("all trials are finished already") == 2
    assert (tmp_path / "again.json").read_text() == path.read_text()
