"""A sweep is no search: it has no winner, and is never taken for one that has."""

from pathlib import Path
from typing import Any

import pytest
import scene

from gsda.tasks import Task
from tune import search, status
from tune.history import COMPLETE, History
from tune.journal import Journal, read_events
from tune.kind import SEARCH, SWEEP, kind_of
from tune.report import main as report
from tune.settings import Settings
from tune.sweep import Cell, Sweep
from tune.table import table

Capture = pytest.CaptureFixture[str]
NAME = "sweep-glyph31-W2D-01234567"
CELLS = [Cell(label, scene.small_config(seed=n)) for n, label in enumerate(("DANN", "SymNets"))]


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an interrupted sweep: one cell is done, and one is not."""
    monkeypatch.setattr("tune.sweep.own_words", lambda: ["python", "-m", "experiments.tables", "x"])
    spec = scene.make_spec(scene.small_config(), 0) | {"references": {}, "trials": 0}
    folder = tmp_path / "searches" / NAME
    sweep = Sweep(Task.parse(scene.TASK), Settings(storage=folder.parent), spec, folder)
    sweep._open(CELLS).close()
    journal = Journal(folder / "journal.log")
    for number, cell in enumerate(CELLS):
        values = {name: getattr(cell.config, name) for name in scene.FIELDS}
        config = cell.config.to_dict()
        journal.append("ask", trial=number, kind=cell.label, values=values, config=config)
    metrics = {"val/bnm": 0.5, "oracle/target_accuracy": 0.25}
    journal.append("report", trial=0, step=6, metrics=metrics, seconds=1.0)
    journal.append("end", trial=0, state=COMPLETE, reason="")
    journal.append("pause", trials=[1], reason="")
    journal.close()
    monkeypatch.chdir(tmp_path)
    return folder.parent


def test_an_old_journal_is_told_by_its_name() -> None:
    assert kind_of({"name": NAME}) == SWEEP
    assert kind_of({"name": "glyph31-A2D-001"}) == SEARCH
    assert kind_of({"name": "sweep-of-mine", "kind": SEARCH}) == SEARCH


def test_status_shows_cells_and_the_command_of_the_table(storage: Path, capsys: Capture) -> None:
    assert status.main([]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"Cells of a table, {NAME}: glyph31/W2D, ")
    assert said[-1] == "  python -m experiments.tables x"
    assert any(line.split() == ["0", "0.5000", "25.0%", "DANN"] for line in said)
    assert not any(word in "\n".join(said) for word in ("paper", "Best by", "--resume"))
    assert status.main(["--json"]) == 0
    told = capsys.readouterr().out
    assert '"kind": "sweep"' in told
    assert '"best": null' in told


def test_while_it_runs_each_cell_has_its_label(storage: Path, capsys: Capture) -> None:
    journal = Journal(storage / NAME / "journal.log")
    journal.append("resume")
    journal.append("start", trial=1)
    journal.close()
    assert status.main([NAME]) == 0
    said = capsys.readouterr().out
    assert "  running  trial   1   step 0 of 6   SymNets" in said
    assert "paper's setting" not in said


def test_a_table_of_cells_has_their_labels(storage: Path) -> None:
    history = History.of(read_events(storage / NAME / "journal.log")[0])
    assert [line.split()[-1] for line in table(history, "val/bnm")[1:]] == ["DANN"]


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (f"--name {NAME} --resume", "--resume"),
        (f"--task W2D --name {NAME} --resume", "--resume"),
        (f"--task A2D --scope transfer --from {NAME}", "--from"),
        (f"--task A2D --warm-start {NAME}", "--warm-start"),
    ],
)
def test_it_is_no_search(arguments: str, option: str, storage: Path, capsys: Capture) -> None:
    before = (storage / NAME / "journal.log").read_bytes()
    assert search.main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"search.py: {option} is for searches, and {NAME} holds the cells of a table, which has "
        "no winner: its own command is python -m experiments.tables x.\n"
    )
    assert (storage / NAME / "journal.log").read_bytes() == before


def test_it_has_no_report_of_a_search(storage: Path, capsys: Capture) -> None:
    assert report([NAME]) == 2
    assert "which has no winner: its own command is python -m exp" in capsys.readouterr().err
    assert not (storage / NAME / "report").exists()


def test_its_record_is_delivered_and_no_model_with_it(
    storage: Path, store: str, capsys: Capture
) -> None:
    journal = Journal(storage / NAME / "journal.log")
    journal.append("done")
    journal.close()
    assert search.main(["--name", NAME, "--flush", "--tracking-uri", store]) == 0
    said = capsys.readouterr().out
    assert f"MLflow has the whole record of {NAME}." in said
    assert "Model" not in said
    kinds: list[Any] = [e["event"] for e in read_events(storage / NAME / "journal.log")[0]]
    assert "champion" not in kinds
