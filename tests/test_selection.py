"""The study of label-free selection: rules by hand, and the whole of it on two tiny runs each."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import selection, selection_cells, selection_scores
from experiments.selection_cells import (
    REFERENCES,
    SUITES,
    Suite,
    accuracy_path,
    configure,
    draw_setting,
    outputs_path,
    run_cell,
)
from experiments.selection_rules import (
    RULES,
    guarded,
    judge,
    leave_one_out,
    mean_rank,
    ranks,
    single,
    spearman,
)
from experiments.selection_scores import ENSEMBLE, score_task
from experiments.selection_study import over_steps, study_task, within_runs
from gsda.tasks import Task
from gsda.validators import VALIDATORS

TASK = Task.parse("glyph31/W2D")
SCORES = {
    "a": np.array([0.1, 0.4, 0.3, 0.3]),
    "b": np.array([9.0, 1.0, 5.0, 7.0]),
    "balance": np.array([-2.0, -0.1, -0.9, 0.0]),
}


def test_ranks_by_hand() -> None:
    assert ranks(np.array([0.1, 0.4, 0.3, 0.3])).tolist() == [1, 4, 2.5, 2.5]


def test_rules_by_hand() -> None:
    assert single("a")(SCORES).argmax() == 1
    assert mean_rank("a", "b")(SCORES).tolist() == [2.5, 2.5, 2.25, 2.75]
    assert guarded("b", -1.0)(SCORES).tolist() == [-np.inf, 1, 5, 7]
    assert guarded("b", 5.0)(SCORES).tolist() == [-np.inf, -np.inf, -np.inf, 7]


def test_a_verdict_by_hand() -> None:
    accuracy = np.array([50.0, 80.0, 70.0, 60.0])
    found = judge(np.array([0.0, 1.0, 2.0, 3.0]), accuracy)
    assert (found.pick, found.regret, found.worst) == (3, 20.0, False)
    assert found.spearman == pytest.approx(0.2)  # 1 - 6 * (0 + 4 + 0 + 4) / (4 * 15)
    worst = judge(np.array([9.0, 1.0, 2.0, 3.0]), accuracy)
    assert (worst.regret, worst.worst) == (30.0, True)
    tied = judge(np.array([1.0, 1.0]), np.array([3.0, 4.0]))
    assert (tied.pick, tied.regret, tied.spearman) == (0, 1.0, None)


def test_no_pick_is_bad_where_all_are_equal() -> None:
    assert not judge(np.arange(8.0), np.full(8, 99.0)).worst


def test_spearman_of_monotone_values() -> None:
    x = np.random.default_rng(0).normal(size=30)
    assert spearman(x, np.exp(x)) == pytest.approx(1.0)
    assert spearman(x, -(x**3)) == pytest.approx(-1.0)


def test_a_rule_is_chosen_where_it_is_not_judged() -> None:
    groups = {"p/1": "p", "p/2": "p", "q/1": "q"}
    regrets = {"x": {"p/1": 0.0, "p/2": 2.0, "q/1": 9.0}, "y": {"p/1": 5.0, "p/2": 5.0, "q/1": 1.0}}
    assert leave_one_out(regrets, groups) == {"p": ("y", 5.0), "q": ("x", 9.0)}


def test_settings_are_wide_and_always_the_same() -> None:
    drawn = [draw_setting(index) for index in range(200)]
    assert drawn[7] == draw_setting(7)
    alphas = [values["alpha"] for values in drawn]
    assert min(alphas) < 0.002
    assert max(alphas) > 1.5
    suite = SUITES["glyph31"]
    configs = [configure(suite, TASK, number, 31, None) for number in range(4)]
    assert (configs[0].method, configs[1].alpha) == ("source_only", 0.02)
    assert configs[REFERENCES].alpha == drawn[0]["alpha"]
    assert {config.holdout for config in configs} == {0.2}


TINY = {"steps": 2, "evaluate_every": 1, "batch_size": 4, "bottleneck": 8, "hidden": 8}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The references and two settings of a task, of two steps."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SUITES, "glyph31", Suite("glyph31", ("W2D",), TINY))
        selection_cells.load.cache_clear()
        for number in range(REFERENCES + 2):
            run_cell(folder, "glyph31", TASK, number, None)
    selection_cells.load.cache_clear()
    return folder


def test_a_cell_is_run_once(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def again(*_: object) -> None:
        raise InterruptedError("it was run again")

    monkeypatch.setattr(selection_cells, "Run", again)
    monkeypatch.setitem(SUITES, "glyph31", Suite("glyph31", ("W2D",), TINY))
    run_cell(work, "glyph31", TASK, 0, None)
    other = TINY | {"bottleneck": 16}  # what is recorded is of another setting
    monkeypatch.setitem(SUITES, "glyph31", Suite("glyph31", ("W2D",), other))
    with pytest.raises(InterruptedError):
        run_cell(work, "glyph31", TASK, 0, None)


def test_outputs_hold_no_target_labels(work: Path) -> None:
    with np.load(outputs_path(work, TASK, 2, 2)) as file:
        names = set(file)
    assert {"target.logits", "source.labels", "mixed.logits", "train.features"} <= names
    assert not {name for name in names if name.startswith("target.") and "label" in name}


def test_scores_are_blind_and_computed_once(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = range(REFERENCES + 2)
    first = score_task(work, TASK, numbers)
    assert [scored.number for scored in first] == list(numbers)
    for scored in first:
        assert set(scored.final) == {*VALIDATORS, ENSEMBLE}
        assert 0 <= scored.final[ENSEMBLE] <= 1
        assert set(scored.curve) == {1, 2}
    for number in numbers:  # what lies elsewhere does not move them
        path = accuracy_path(work, TASK, number)
        told = json.loads(path.read_text())
        for step in told["scores"].values():
            step["oracle/target_accuracy"] = 1 - step["oracle/target_accuracy"]
        path.write_text(json.dumps(told))
    monkeypatch.setattr(selection_scores, "validate", lambda *_, **__: pytest.fail("again"))
    assert score_task(work, TASK, numbers) == first


def test_another_validator_has_all_scored_again(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = range(REFERENCES + 2)
    score_task(work, TASK, numbers)
    monkeypatch.setattr(selection_scores, "code", lambda: "another")
    monkeypatch.setattr(
        selection_scores, "validate", lambda names, **known: dict.fromkeys(names, 0.5)
    )
    assert {s.final["bnm"] for s in score_task(work, TASK, numbers)} == {0.5}
    monkeypatch.undo()
    assert 0.5 not in {s.final["bnm"] for s in score_task(work, TASK, numbers)}


def test_steps_within_runs(work: Path) -> None:
    study = study_task(work, TASK, 2, 0)
    found = within_runs([study], "bnm")
    curves = [study.accuracy[number] for number in (2, 3)]
    assert found.last == pytest.approx(np.mean([max(c.values()) - c[2] for c in curves]))
    regret, of_last = over_steps(study, "bnm")
    assert 0 <= of_last <= max(max(c.values()) for c in curves)
    assert regret >= 0


def test_an_unfinished_setting_is_lost(work: Path, tmp_path: Path) -> None:
    for number in range(REFERENCES + 2):
        told = json.loads(accuracy_path(work, TASK, number).read_text())
        told["finished"] = number != 3
        path = accuracy_path(tmp_path, TASK, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told))
    (tmp_path / "outputs").symlink_to(work / "outputs")
    study = study_task(tmp_path, TASK, 2, 0)
    assert [scored.number for scored in study.random] == [2]
    assert study.lost == 1


def test_the_command_writes_tables_and_pictures(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(SUITES, "glyph31", Suite("glyph31", ("W2D",), {}))
    arguments = f"--work {work} --settings 2 --datasets glyph31 --only-analyse --output {tmp_path}"
    assert selection.main(arguments.split()) == 0
    printed = capsys.readouterr().out
    assert "| **guarded_ami** |" in printed
    assert "| glyph31/W2D | 2 |" in printed
    assert (tmp_path / "selection-tables.md").read_text() == printed
    with (tmp_path / "selection.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["rule"] for row in rows} == set(RULES)
    for name in ("selection.png", "selection-scores.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--settings 1", "must leave two settings"),
        ("--settings 10 --skip 9", "must leave two settings"),
        ("--processes 0", "--processes is 0, but must be at least 1."),
        ("--data nowhere", "nowhere"),
        ("--only-analyse --datasets glyph31 --work nothing", "has no finished runs in nothing"),
    ],
)
def test_mistakes_have_a_sentence(
    arguments: str, sentence: str, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert selection.main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("selection: ")
    assert sentence in error


def test_what_needs_data_is_left_out_and_named(
    work: Path, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SUITES, "glyph31", Suite("glyph31", ("W2D",), {}))
    arguments = f"--work {work} --settings 2 --datasets digits glyph31 --only-analyse --output"
    assert selection.main([*arguments.split(), str(tmp_path)]) == 0
    assert "Left out, as it needs --data: digits" in capsys.readouterr().err
