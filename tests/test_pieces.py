"""The journal in a store, in pieces and whole."""

from pathlib import Path

import pytest

from gsda.errors import BadInput
from tune import pieces
from tune.journal import Journal
from tune.objectstore import Store, StoreError
from tune.pieces import RemoteJournal, take_in


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few bytes, and no waiting."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 8)
    monkeypatch.setattr(pieces, "PAUSES_S", (0.0,))


def test_what_is_appended_is_read(uri: str, short: None) -> None:
    store, data = Store(uri), b""
    journal = RemoteJournal(store, "s")
    journal.put_whole(data)
    for n in range(12):
        data += b"%03d\n" % n
        journal.append(data)
        assert journal.delivered == len(data)
        assert RemoteJournal(store, "s").read() == data
    names = list(store.files("s"))
    assert "journal.log" in names
    assert len(names) == 1 + len(data) // 8
    journal.put_whole(data)
    assert list(store.files("s")) == ["journal.log"]
    assert RemoteJournal(store, "s").read() == data


def test_an_event_costs_no_more_late_than_early(tmp_path: Path, short: None) -> None:
    store = Store(f"file://{tmp_path}/far")
    journal, data = RemoteJournal(store, "s"), b""
    sizes = []
    real = store.write
    store.write = lambda name, content: (sizes.append(len(content)), real(name, content))[1]  # type: ignore[method-assign, assignment, func-returns-value]
    for _ in range(100):
        data += b"abc\n"
        journal.append(data)
    journal.append(data)
    assert len(sizes) == 100
    assert max(sizes) <= 8 + 4


def test_pieces_that_a_kill_left_are_no_matter(tmp_path: Path, short: None) -> None:
    """Between writing the whole and removing the pieces."""
    store = Store(f"file://{tmp_path}/far")
    store.write("s/journal.log", b"0123456789")
    store.write("s/journal.000000000004", b"4567")
    assert RemoteJournal(store, "s").read() == b"0123456789"
    store.write("s/journal.000000000008", b"89ab")
    assert RemoteJournal(store, "s").read() == b"0123456789ab"


@pytest.mark.parametrize("piece", ["000000000011", "000000000008"])
def test_pieces_that_do_not_fit(piece: str, tmp_path: Path, short: None) -> None:
    store = Store(f"file://{tmp_path}/far")
    store.write("s/journal.log", b"0123456789")
    store.write(f"s/journal.{piece}", b"xx")
    with pytest.raises(StoreError, match="do not fit together"):
        RemoteJournal(store, "s").read()


def test_no_journal(tmp_path: Path) -> None:
    journal = RemoteJournal(Store(f"file://{tmp_path}/far"), "s")
    assert not journal.is_there()
    with pytest.raises(FileNotFoundError):
        journal.read()


def test_who_looks_again_reads_only_what_is_new(uri: str, short: None) -> None:
    store = Store(uri)
    writer, reader = RemoteJournal(store, "s"), RemoteJournal(store, "s")
    data = b"0123456789"
    writer.put_whole(data)
    assert reader.read() == data
    read = []
    real = store.read
    store.read = lambda name: (read.append(name), real(name))[1]  # type: ignore[method-assign, assignment, func-returns-value]
    assert reader.read() == data
    assert read == []
    writer.append(data + b"ab")
    assert reader.read() == data + b"ab"
    assert read == ["s/journal.000000000010"]


# A working copy and what is there


def meet(tmp_path: Path, here: bytes | None, there: bytes) -> bytes:
    path = tmp_path / "s" / "journal.log"
    if here is not None:
        path.parent.mkdir()
        path.write_bytes(here)
    take_in(path, there, "s3://b")
    return path.read_bytes()


@pytest.mark.parametrize("here", [None, b"", b"a\n", b"a\nb", b"a\nb\n"])
def test_a_shorter_journal_goes_on(here: bytes | None, tmp_path: Path) -> None:
    assert meet(tmp_path, here, b"a\nb\nc\n") == b"a\nb\nc\n"


def test_a_longer_one_was_not_delivered_yet(tmp_path: Path) -> None:
    assert meet(tmp_path, b"a\nb\nc\nd", b"a\nb\n") == b"a\nb\nc\nd"


@pytest.mark.parametrize("here", [b"a\nx\n", b"x\n", b"a\nb\nc\nx\n"])
def test_different_ways(here: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"of s in s3://b and its working copy .* different ways"):
        meet(tmp_path, here, b"a\nb\nc\nd\n")
    assert (tmp_path / "s" / "journal.log").read_bytes() == here


def test_a_journal_that_is_held_is_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s" / "journal.log")
    journal.append("search", uuid="u", spec={})
    own = journal.path.read_bytes()
    take_in(journal.path, own + b"more\n", "s3://b")
    assert journal.path.read_bytes() == own
    journal.close()
    take_in(journal.path, own + b"more\n", "s3://b")
    assert journal.path.read_bytes() == own + b"more\n"
