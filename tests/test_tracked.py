"""Commands that are printed work as they stand, and the record of a search stays in one place."""

import shlex
from pathlib import Path

import finished
import pytest
import scene

from gsda.errors import BadInput
from tune import search, status
from tune.history import History
from tune.journal import Journal, read_events
from tune.lines import flush_command, resume_command
from tune.report import after_search
from tune.settings import Settings
from tune.tracked import choose_again, note

Capture = pytest.CaptureFixture[str]
SECRET = "postgresql://me:secret@host/runs"


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_journal_keeps_an_address_without_its_password() -> None:
    assert note(None) is None
    assert note("http://host:5000") == {"uri": "http://host:5000", "secret": False}
    told = note(SECRET)
    assert told is not None
    assert told["secret"]
    assert "secret@" not in str(told)


def test_the_record_goes_on_where_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"name": "old", "tracking": note("http://host:5000")}
    assert choose_again(None, spec) == "http://host:5000"
    assert choose_again("http://other:1", spec) == "http://other:1"
    assert choose_again(None, {"name": "older"}).endswith("/mlflow.db")
    hidden = {"name": "old", "tracking": note(SECRET)}
    with pytest.raises(BadInput, match="password stands nowhere: give --tracking-uri again"):
        choose_again(None, hidden)
    assert choose_again(SECRET, hidden) == SECRET
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://env:2")
    assert choose_again(None, hidden) == choose_again(None, {"name": "older"}) == "http://env:2"
    assert choose_again(None, spec) == "http://host:5000"


def test_a_resume_may_move_the_record(tmp_path: Path) -> None:
    folder = finished.write(tmp_path / "old", name="old", tracking=note("http://host:5000"))
    journal = Journal(folder / "journal.log")
    journal.append("resume")
    assert History.of(journal.events).spec["tracking"]["uri"] == "http://host:5000"
    journal.append("resume", tracking=note("http://other:1"))
    journal.close()
    assert History.of(journal.events).spec["tracking"]["uri"] == "http://other:1"


def test_printed_commands_name_the_record_once() -> None:
    spec = scene.make_spec(scene.small_config(), 1) | {"tracking": note("http://host:5000")}
    for command in (resume_command, flush_command):
        for options in ([], ["--tracking-uri", "http://host:5000"]):
            words = shlex.split(command(spec, options))
            assert words.count("--tracking-uri") == 1
            assert words[words.index("--tracking-uri") + 1] == "http://host:5000"


def test_the_command_of_a_status_works_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = finished.write(
        tmp_path / "else where" / "old", name="old", data=scene.data_spec(Path())
    )
    journal = Journal(folder / "journal.log")
    journal.append("resume")
    journal.append("pause", trials=[], reason="")
    journal.close()
    assert status.main(["old", "--storage", "else where"]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    read = vars(search.build_parser().parse_args(words[2:]))
    assert (str(read["storage"]), read["resume"], read["name"]) == ("else where", True, "old")
    assert status.main(["--storage", str(tmp_path / "else where")]) == 0
    assert "--storage" in capsys.readouterr().out


def test_the_command_that_makes_a_report_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def broken(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr("tune.report.write", broken)
    history = finished.history(name="old")
    (told,) = after_search(tmp_path / "there" / "old", history, "")
    assert told.endswith(f"python -m tune.report old --storage {tmp_path / 'there'}")
    (told,) = after_search(tmp_path / "searches" / "old", history, "")
    assert told.endswith("python -m tune.report old")
    (told,) = after_search(tmp_path / "copy" / "old", history, "", "s3://bucket/x")
    assert told.endswith("python -m tune.report old --storage s3://bucket/x")


def test_a_flush_delivers_where_the_search_was_recorded(tmp_path: Path, store: str) -> None:
    storage = tmp_path / "searches"
    folder = finished.write(storage / "old", name="old", tracking=note(store))
    settings = Settings(storage=storage)
    assert search._uri_of(folder, settings) == store
    assert read_events(folder / "journal.log")[0][0]["spec"]["tracking"]["secret"] is False
