"""The journal: what is in it survives anything but damage to the disk, and damage is noticed."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gsda.errors import BadInput
from tune.journal import Journal, encode, iterate_events, read_events

EVENTS = [{"n": n, "text": "Zürich\n" * n} for n in range(4)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of four events."""
    journal = Journal(tmp_path / "search" / "journal.log")
    for fields in EVENTS:
        journal.append("something", **fields)
    journal.close()
    return journal.path


def numbers(path: Path) -> list[int]:
    return [event["n"] for event in read_events(path)[0]]


def test_events_come_back_in_order(path: Path) -> None:
    events, end = read_events(path)
    assert [{k: e[k] for k in ("n", "text")} for e in events] == EVENTS
    assert {event["event"] for event in events} == {"something"}
    assert end == path.stat().st_size
    times = [event["time"] for event in events]
    assert times == sorted(times)
    assert min(times) > 1e9


def test_append_returns_what_it_wrote(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.log")
    event = journal.append("report", step=3)
    assert journal.events == [event]
    assert read_events(journal.path)[0] == [event]
    journal.close()


def test_torn_at_every_byte_of_the_last_line(path: Path) -> None:
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert numbers(path) == [0, 1, 2]
        journal = Journal(path)
        assert len(journal.events) == 3
        assert path.stat().st_size == start  # the torn line is gone before anything is added
        journal.append("something", n=9)
        journal.close()
        assert numbers(path) == [0, 1, 2, 9]


def test_last_line_with_its_end_but_not_its_middle(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    start = whole[:-1].rindex(b"\n") + 1
    whole[start + 12 : start + 20] = bytes(8)  # a block that never reached the disk
    path.write_bytes(whole)
    journal = Journal(path)
    assert [event["n"] for event in journal.events] == [0, 1, 2]
    journal.close()
    assert path.stat().st_size == start


def test_damage_at_every_byte_within_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    last = whole[:-1].rindex(b"\n")  # without this line end, the last two lines are one torn line
    for position in range(last):
        damaged = bytearray(whole)
        damaged[position] ^= 0x01
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match=r"damaged \d+ bytes in: restore .* or start"):
            read_events(path)


def test_a_missing_line_within_is_no_damage_of_lines_but_a_cut_one_is(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], lines[1][:-5], *lines[2:]]))
    with pytest.raises(BadInput, match=f"damaged {len(lines[0]) + 1} bytes in"):
        Journal(path)
    assert path.read_bytes().count(b"\n") == 4  # refused, and nothing cut off


def test_reading_on_from_an_offset(path: Path) -> None:
    pairs = list(iterate_events(path))
    for position, (_, end) in enumerate(pairs):
        events, last = read_events(path, end)
        assert [e["n"] for e in events] == [e["n"] for e, _ in pairs[position + 1 :]]
        assert last == path.stat().st_size


def test_an_empty_journal_has_no_events(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "journal.log")
    assert journal.events == []
    assert read_events(journal.path) == ([], 0)
    journal.close()


def test_not_a_number_is_not_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.log")
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.append("report", value=float("nan"))
    assert journal.path.read_bytes() == b""
    assert journal.events == []
    journal.close()


def test_a_line_is_checksum_and_json() -> None:
    line = encode({"event": "x", "value": 1.5})
    assert line == b'cb7a4e62 {"event":"x","value":1.5}\n'
    assert json.loads(line[9:]) == {"event": "x", "value": 1.5}


_HOLD = """
import sys, pathlib
from tune.journal import Journal
journal = Journal(pathlib.Path(sys.argv[1]))
journal.append("held", n=7)
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_second_process_is_refused_and_reads_what_the_first_wrote(path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BadInput, match="search is being driven by another process: wait"):
            Journal(path)
        assert numbers(path) == [0, 1, 2, 3, 7]  # on the disk, though the writer still runs
    finally:
        holder.kill()
        holder.communicate()
    journal = Journal(path)  # the lock died with its holder
    assert len(journal.events) == 5
    journal.close()


def test_appended_events_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("tune.journal.os.fsync", lambda fd: synced.append(fd))
    journal = Journal(tmp_path / "journal.log")
    before = len(synced)
    journal.append("one")
    assert synced[before:] == [journal._file.fileno()]
    journal.close()


def test_a_full_disk_tears_a_line_and_no_more(tmp_path: Path) -> None:
    """A limit to the size of files stands for the disk; what was refused is not there later."""
    journal = Journal(tmp_path / "journal.log")
    journal.append("one", text="x" * 100)
    size = journal.path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.append("two", text="y" * 100)
        journal.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert journal.path.stat().st_size == size + 20
    again = Journal(journal.path)
    assert [event["event"] for event in again.events] == ["one"]
    again.append("three")
    again.close()
    assert [event["event"] for event in read_events(journal.path)[0]] == ["one", "three"]


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "journal.log").mkdir()
    with pytest.raises(BadInput, match=r"journal.log cannot be written \(Is a directory\): make"):
        Journal(tmp_path / "journal.log")
