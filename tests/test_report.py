"""`python -m tune.report`, and the report at the end of a search."""

import json
from pathlib import Path

import finished
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from PIL import Image

from tune import report
from tune.findings import Findings
from tune.history import History
from tune.journal import Journal, read_events
from tune.record import SEARCH_TAG, Projection
from tune.report import PAGE, after_search, deliver, main

Capture = pytest.CaptureFixture[str]
FILES = ["contour.png", "history.png", "parallel.png", "report.html", "report.json", "steps.png"]
FILES += ["validators.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A search that is over, `scene`, in its storage."""
    return finished.write(tmp_path / "searches" / "scene")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the seconds that drawing takes."""
    monkeypatch.setattr(report, "draw", lambda findings: {"history": b"a picture"})


def history(folder: Path) -> History:
    return History.of(read_events(folder / "journal.log")[0])


def run(folder: Path, *more: str) -> int:
    return main([folder.name, "--storage", str(folder.parent), *more])


def test_the_command(folder: Path, capsys: Capture) -> None:
    before = (folder / "journal.log").read_bytes()
    assert run(folder) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("Search scene: glyph31/W2D, built-in drawn letters")
    assert lines[1] == "  16 of 16 trials are done"
    known = history(folder).trials
    accuracies = [known[n].final["oracle/target_accuracy"] for n in (13, 1, 0, 11)]
    row = next(line for line in lines if line.startswith("  target accuracy")).split()
    assert row[2:] == [f"{100 * accuracy:.1f}%" for accuracy in accuracies]
    assert "By the target's labels, which chose nothing here and which a user does not have:" in out
    assert "regret 19.0 points (19.0 by class)" in out
    assert "last step (6) 2.0, best by val/bnm (6) 2.0; the best is 4" in out
    assert "Importance for val/bnm: alpha " in out
    assert max(map(len, lines)) <= 120
    assert sorted(path.name for path in (folder / "report").iterdir()) == FILES
    assert (folder / "journal.log").read_bytes() == before
    for path in (folder / "report").glob("*.png"):
        Image.open(path).verify()
    data = json.loads((folder / "report" / "report.json").read_text())
    assert data["by_target_labels"]["regret_points"] == pytest.approx(18.954, abs=1e-3)


def test_made_again_it_is_the_same(folder: Path, quick: None) -> None:
    run(folder)
    first = {path.name: path.read_bytes() for path in (folder / "report").iterdir()}
    (folder / "report" / "old.png").write_bytes(b"of a picture that is not drawn any more")
    run(folder)
    assert {path.name: path.read_bytes() for path in (folder / "report").iterdir()} == first


def test_a_search_that_runs(folder: Path, quick: None, capsys: Capture) -> None:
    events = read_events(folder / "journal.log")[0]
    begun = folder.with_name("begun")
    journal = Journal(begun / "journal.log")
    for event in events[:14]:
        rest = {name: value for name, value in event.items() if name not in ("event", "time")}
        journal.append(event["event"], **rest)
    try:
        assert run(begun) == 0  # while another process has the journal
    finally:
        journal.close()
    out = capsys.readouterr().out
    assert "2 of 16 trials are done" in out
    assert "Importance of the settings: too few settings finished: 1, of 10 at least" in out


def test_without_labels(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    plain = finished.write(tmp_path / "searches" / "plain", labels=False)
    assert run(plain) == 0
    out = capsys.readouterr().out
    assert "accuracy" not in out
    assert "regret" not in out
    assert not (plain / "report" / "validators.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gone"], "There is no search named gone in"),
        (["../up"], "use letters, digits"),
        (["scene", "--attach", "--tracking-uri", "ftp://x"], "--tracking-uri is ftp://x"),
        (["scene", "--attach", "--tracking-uri", "sqlite:////gone/mlflow.db"], "There is no /gone"),
    ],
)
def test_mistakes(
    folder: Path, quick: None, arguments: list[str], sentence: str, capsys: Capture
) -> None:
    assert main([*arguments, "--storage", str(folder.parent)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("report: ")
    assert sentence in err
    assert err.count("\n") == 1


def parent_of(uri: str) -> tuple[MlflowClient, str]:
    client = MlflowClient(uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("glyph31/W2D")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run.info.run_id for run in runs if SEARCH_TAG in run.data.tags]
    return client, parent


def test_it_is_stored_with_the_search_in_mlflow(
    folder: Path, quick: None, store: str, tmp_path: Path
) -> None:
    projection = Projection(store)
    for event in read_events(folder / "journal.log")[0][:2]:
        projection.apply(event, deliver=True)
    lines = after_search(folder, history(folder), store)
    assert lines[0].startswith("  Report:   ")
    assert lines[0].endswith("scene/report/report.html")
    assert "MLflow" not in " ".join(lines)
    client, parent = parent_of(store)
    listed = [file.path for file in client.list_artifacts(parent, "report")]
    assert listed == [f"report/{name}" for name in ("history.png", PAGE, "report.json")]
    copy = download_artifacts(
        run_id=parent,
        artifact_path="report/report.html",
        dst_path=str(tmp_path),
        tracking_uri=store,
    )
    assert Path(copy).read_bytes() == (folder / "report" / "report.html").read_bytes()
    known = client.get_run(parent).data.metrics
    assert known["oracle/regret_points"] == pytest.approx(18.954, abs=1e-3)
    assert known["oracle/class_mean_regret_points"] == pytest.approx(18.954, abs=1e-3)
    assert known["oracle/step_regret_points"] == pytest.approx(2)
    assert deliver(folder, history(folder), store) == ""
    assert len(client.get_metric_history(parent, "oracle/regret_points")) == 1
    assert run(folder, "--attach", "--tracking-uri", store) == 0


def test_a_run_that_is_not_there(folder: Path, quick: None, store: str, capsys: Capture) -> None:
    said = after_search(folder, history(folder), store)[-1]
    assert said.startswith("MLflow has not got the report (LookupError: MLflow has no run of this")
    assert said.endswith("). --flush delivers it.")
    assert (folder / "report" / "report.html").is_file()
    assert run(folder, "--attach", "--tracking-uri", store) == 2
    assert "report: MLflow did not take it: LookupError" in capsys.readouterr().err


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(findings: Findings) -> dict[str, bytes]:
        raise ValueError("no ink\nat all")

    monkeypatch.setattr(report, "draw", fail)


def test_a_report_that_fails_is_one_line(folder: Path, broken: None) -> None:
    assert after_search(folder, history(folder), "sqlite:////gone.db") == [
        "There is no report (ValueError: no ink). Make it with: "
        f"python -m tune.report scene --storage {folder.parent}"
    ]
    assert deliver(folder, history(folder), "sqlite:////gone.db") == "ValueError: no ink"


def test_a_disk_that_takes_nothing(folder: Path, capsys: Capture) -> None:
    (folder / "report").write_text("a file where the folder should be")
    assert run(folder) == 2
    assert "report cannot be written (File exists): make it writable." in capsys.readouterr().err
    assert len(after_search(folder, history(folder), "sqlite:////gone.db")) == 1


def test_each_finished_trial_has_the_regrets_of_its_steps(folder: Path, store: str) -> None:
    projection = Projection(store)
    events = read_events(folder / "journal.log")[0]
    for event in events:
        projection.apply(
            event, deliver=event["event"] == "search" or event.get("trial") in (13, 14)
        )
    finished_run, stopped = (projection.client.get_run(projection.run_of(n)) for n in (13, 14))
    known = {n: v for n, v in finished_run.data.metrics.items() if "regret" in n}
    assert known == {
        "oracle/step_regret_points/last": pytest.approx(2),
        "oracle/step_regret_points/best": pytest.approx(2),
    }
    assert not any("regret" in name for name in stopped.data.metrics)
