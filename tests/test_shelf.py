"""Where searches stand: under one name each, whole or not there."""

import threading
from pathlib import Path

import pytest

from gsda.errors import BadInput
from gsda.tasks import Task
from tune import shelf
from tune.journal import read_events
from tune.shelf import JOURNAL, check_free, claim, find_search

TASK = Task.parse("glyph31/W2D")
SPEC = {"task": "glyph31/W2D"}


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "searches"


def begin(
    storage: Path, name: str | None = None, task: Task = TASK, method: str | None = None
) -> str:
    spec = SPEC if method is None else SPEC | {"base": {"method": method}}
    journal = claim(storage, name, task, spec)
    journal.close()
    return journal.path.parent.name


def test_names_count_up_for_each_task(storage: Path) -> None:
    assert [begin(storage) for _ in range(3)] == [f"glyph31-W2D-00{n}" for n in (1, 2, 3)]
    assert begin(storage, task=Task.parse("glyph31/A2D")) == "glyph31-A2D-001"
    begin(storage, "glyph31-W2D-041")
    begin(storage, "glyph31-W2D-x")
    assert begin(storage) == "glyph31-W2D-042"
    assert find_search(storage, None, TASK).name == "glyph31-W2D-042"


def test_other_methods_count_for_themselves(storage: Path) -> None:
    begin(storage)
    names = [begin(storage, method="dann") for _ in range(2)]
    assert names == ["glyph31-W2D-dann-001", "glyph31-W2D-dann-002"]
    assert find_search(storage, None, TASK).name == "glyph31-W2D-001"
    assert find_search(storage, None, TASK, "dann").name == names[-1]
    with pytest.raises(BadInput, match="There is no search of glyph31/W2D by mcd in"):
        find_search(storage, None, TASK, "mcd")


def test_a_search_begins_with_its_spec_and_name(storage: Path) -> None:
    begin(storage, "mine")
    events, _ = read_events(storage / "mine" / JOURNAL)
    assert [event["event"] for event in events] == ["search"]
    assert events[0]["spec"] == {"task": "glyph31/W2D", "name": "mine"}
    assert len(events[0]["uuid"]) == 32
    assert begin(storage) != begin(storage)
    assert sorted(path.name for path in storage.iterdir()) == [
        "glyph31-W2D-001",
        "glyph31-W2D-002",
        "mine",
    ]


def test_the_claimed_journal_is_held(storage: Path) -> None:
    journal = claim(storage, "mine", TASK, SPEC)
    with pytest.raises(BadInput, match="being driven by another process"):
        shelf.Journal(storage / "mine" / JOURNAL)
    journal.close()


def test_a_taken_name_is_refused(storage: Path) -> None:
    begin(storage, "mine")
    for refuse in (lambda: check_free(storage, "mine"), lambda: begin(storage, "mine")):
        with pytest.raises(BadInput, match=r"There is a search named mine in .*: add --resume"):
            refuse()
    check_free(storage, "other")
    check_free(storage, None)
    assert [path.name for path in storage.iterdir()] == ["mine"]


def test_what_is_not_there_cannot_be_resumed(storage: Path) -> None:
    with pytest.raises(BadInput, match=r"There is no search named mine in .*: check --name"):
        find_search(storage, "mine", TASK)
    with pytest.raises(BadInput, match=r"There is no search of glyph31/W2D in .* to resume"):
        find_search(storage, None, TASK)
    begin(storage, "other")
    (storage / "empty").mkdir()
    with pytest.raises(BadInput, match=r"; there are other: check --name"):
        find_search(storage, "empty", TASK)


def test_searches_that_begin_at_once_have_names_of_their_own(storage: Path) -> None:
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(begin(storage))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == [f"glyph31-W2D-{n:03d}" for n in range(1, 9)]
    assert sorted(path.name for path in storage.iterdir()) == sorted(names)
    for name in names:
        assert read_events(storage / name / JOURNAL)[0][0]["spec"]["name"] == name


def test_killed_while_beginning_it_is_not_there(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(shelf, "_place", die)
    with pytest.raises(KeyboardInterrupt):
        begin(storage, "mine")
    assert list(storage.iterdir()) == []


def test_a_place_that_cannot_hold_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match=r"cannot be kept in .*: choose another --storage"):
        begin(tmp_path / "file", "mine")
