"""What MLflow is owed, told and delivered later, with the tracking server away in between."""

import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import scene
from faults.rig import Server
from mlflow import MlflowClient
from test_record import content

from gsda.bundle import save_bundle
from gsda.errors import BadInput
from gsda.model import build_network
from tune import delivery, record, registry
from tune.console import Console
from tune.delivery import Delivery, flush, is_over
from tune.history import History
from tune.journal import Journal, read_events
from tune.record import SEARCH_TAG, TRIAL_TAG, Mirror
from tune.registry import Entry, Outcome
from tune.search import main
from tune.shelf import MODEL_FOLDER, trial_folder

Store = Callable[[str], str]
NOWHERE = "http://127.0.0.1:1"
NAME = "gsda-glyph31-W2D"


@pytest.fixture
def searches(tmp_path: Path) -> Path:
    """A storage with a search, `scene`, that is over, its best model beside it."""
    folder = tmp_path / "searches" / "scene"
    progress = scene.resume(scene.begin(folder, 1))
    scene.work(progress)
    progress.journal.append("done")
    progress.journal.close()
    best = progress.history.best(scene.METRIC)
    assert best is not None
    classes = [f"class {n}" for n in range(scene.N_CLASSES)]
    manifest = {"classes": classes, "backbone": "cnn", "bottleneck": 8, "config": best.config}
    network = build_network("cnn", scene.N_CLASSES, 8, 0)
    save_bundle(trial_folder(folder, best.number) / MODEL_FOLDER, network, manifest)
    return folder.parent


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No patience with a server that is away."""
    monkeypatch.setattr(delivery, "PATIENCE_S", 0.3)
    monkeypatch.setattr(delivery, "PAUSES_S", (0.01,))
    monkeypatch.setattr(record, "BACK_OFF_S", (0.01,))


def run_flush(searches: Path, uri: str) -> tuple[int, str]:
    out = StringIO()
    console = Console(out, ["--storage", str(searches)])
    return flush(searches / "scene", uri, False, console), out.getvalue()


def test_a_real_server_that_is_away_and_back(
    searches: Path, tmp_path: Path, empty_store: Path, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_store, tmp_path / "server.db")  # making one takes seconds
    server = Server(tmp_path)
    status, said = run_flush(searches, server.uri)
    events = read_events(searches / "scene" / "journal.log")[0]
    assert status == 3
    assert said.startswith(f"MLflow is owed {len(events)} events of {len(events)} (")
    assert "7 report" in said
    assert "and the best model: the tracking server does not answer\n" in said
    assert said.endswith(f"--name scene --storage {searches} --flush\n")
    monkeypatch.undo()
    server.start()
    try:
        status, said = run_flush(searches, server.uri)
        print(said)
        assert (status, said.splitlines()) == (
            0,
            ["MLflow has the whole record of scene.", f"Model {NAME}: version 1 is the champion."],
        )
        seen = content(server.uri)
        assert len(seen) == 4  # three trials and the search
        assert {run[1] for run in seen.values()} == {"FINISHED"}
        assert run_flush(searches, server.uri)[0] == 0
        assert content(server.uri) == seen
        client = MlflowClient(server.uri, registry_uri=server.uri)
        versions = client.search_model_versions(f"name = '{NAME}'")
        history = History.of(read_events(searches / "scene" / "journal.log")[0])
        best = history.best(scene.METRIC)
        assert best is not None
        assert [v.tags[TRIAL_TAG] for v in versions] == [history.key(best.number)]
        experiment = client.get_experiment_by_name(scene.TASK)
        runs = client.search_runs([experiment.experiment_id], f"tags.`{SEARCH_TAG}` = '5ea4c4'")
        kept = {file.path for file in client.list_artifacts(runs[0].info.run_id, "report")}
        assert {"report/report.html", "report/report.json", "report/history.png"} <= kept
    finally:
        server.stop()


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> list[Entry]:
    """A registry that takes no seconds; gives what was registered."""
    taken: list[Entry] = []

    def take(entry: Entry, uri: str, promote: bool = False) -> Outcome:
        taken.append(entry)
        return Outcome(NAME, "1", True, "version 1 is the champion")

    monkeypatch.setattr(delivery, "register", take)
    return taken


def test_the_command_runs_nothing(
    searches: Path, store: str, cheap: list[Entry], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--flush", "--storage", str(searches), "--tracking-uri", store]
    before = (searches / "scene" / "journal.log").read_bytes()
    for which in (["--name", "scene"], ["--name", "scene", "--task", "W2D"]):
        assert main([*words, *which]) == 0
        out, err = capsys.readouterr()
        assert out.startswith("MLflow has the whole record of scene.\n")
        assert err == ""
    assert len(cheap) == 2
    events = read_events(searches / "scene" / "journal.log")[0]
    # The champion is written down once, and nothing else.
    added = [event["event"] for event in events[len(before.splitlines()) :]]
    assert added == ["champion"]
    hold = Journal(searches / "scene" / "journal.log")
    with pytest.raises(BadInput, match="driven by another process"):
        flush(searches / "scene", store, False, Console(StringIO()))
    hold.close()


def test_an_unfinished_search_is_delivered_and_nothing_is_registered(
    tmp_path: Path, store: str, cheap: list[Entry]
) -> None:
    folder = tmp_path / "searches" / "scene"
    progress = scene.resume(scene.begin(folder, 1))
    trial = progress.next_trial()
    assert trial is not None
    progress.start(trial)
    progress.journal.append("pause", trials=[0], reason="")
    progress.journal.close()
    assert not is_over(read_events(folder / "journal.log")[0])
    status, said = run_flush(folder.parent, store)
    assert status == 0
    assert "0 of 3 trials are done. Go on with:\n" in said
    assert "--name scene" in said
    assert cheap == []
    assert {run[1] for run in content(store).values()} == {"KILLED"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--flush", "--flush needs a search: give its --name, or a --task for the newest."),
        ("--flush --resume --name scene", "--flush runs nothing, and --resume does"),
        ("--flush --name gone", "There is no search named gone in"),
        ("--flush --task W2D", "There is no search of glyph31/W2D in"),
        ("--flush --name scene --tracking-uri x", "--tracking-uri is x: give a server"),
    ],
)
def test_mistakes(
    arguments: str, sentence: str, searches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments.split(), "--storage", str(searches)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1


def test_a_registry_that_is_locked_for_a_moment_is_asked_again(
    searches: Path, store: str, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def locked(entry: Entry, uri: str, promote: bool = False) -> Outcome:
        asked.append(1)
        if len(asked) == 1:
            raise registry.MlflowException("(sqlite3.OperationalError) database is locked\n[SQL]")
        return Outcome(NAME, "1", True, "version 1 is the champion")

    monkeypatch.setattr(delivery, "PATIENCE_S", 30)
    monkeypatch.setattr(delivery, "register", locked)
    assert run_flush(searches, store)[0] == 0
    assert len(asked) == 2


def test_a_registry_that_stays_locked_is_told(
    searches: Path, store: str, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(entry: Entry, uri: str, promote: bool = False) -> Outcome:
        raise registry.MlflowException("database is locked\n[SQL]")

    monkeypatch.setattr(delivery, "PATIENCE_S", 30)
    monkeypatch.setattr(delivery, "register", locked)
    status, said = run_flush(searches, store)
    assert status == 3
    assert said.startswith("MLflow is owed the best model: database is locked\n")


def test_a_lost_model_is_told_at_once(searches: Path, store: str) -> None:
    for model in (searches / "scene" / "trials").glob(f"*/{MODEL_FOLDER}/*"):
        model.unlink()
    status, said = run_flush(searches, store)
    assert status == 3
    assert said.startswith("MLflow is owed the best model: ")


def test_an_event_that_mlflow_refuses_holds_up_no_other(searches: Path, store: str) -> None:
    """A run that a user deleted takes nothing any more; the others get all that is theirs."""
    path = searches / "scene" / "journal.log"
    mirror = Mirror(path, store)
    mirror.start()
    assert mirror.settle(30)
    gone = mirror.run_of(1)
    mirror.stop()
    client = MlflowClient(store, registry_uri=store)
    client.delete_run(gone)
    before = {key: run for key, run in content(store).items() if run[1] != "deleted"}
    path.with_name("mlflow.place").unlink()  # all is delivered again
    mirror = Mirror(path, store)
    mirror.start()
    assert mirror.settle(60)
    assert content(store) == before
    history = History.of(read_events(path)[0])
    of_trial = [e for e in read_events(path)[0] if e.get("trial") == 1 and e["event"] != "start"]
    assert len(mirror.refused) == len(of_trial) == len(history.trials[1].reports) + 2
    assert mirror.refused[0].startswith("ask of 1: ")
    journal = Journal(path)
    told = Delivery(journal, mirror, store).owed("")
    journal.close()
    mirror.stop()
    assert told.startswith(f"{len(of_trial)} events that it refused for good, the last: end of 1: ")
