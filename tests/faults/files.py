"""Files that are damaged: a torn checkpoint, a torn journal, a storage that cannot be written."""

import os
import subprocess
import time
from pathlib import Path

from .rig import ONE_AT_A_TIME, TINY, Rig, kill, outcome, scratch, show

SEARCH = [*TINY, *ONE_AT_A_TIME, "--trials", "3", "--seed", "5"]
RESUME = ["--task", TINY[1], "--name", "s", "--resume"]
Row = list[object]


def run(folder: Path, cache: Path | None = None) -> bool:
    """The faults; True if nothing was lost."""
    whole = Rig(folder / "whole", cache)
    whole.folder.mkdir()
    status, said = whole.run(*SEARCH, "--name", "s")
    if status:
        raise RuntimeError(f"the undisturbed search failed: {said}")
    rows: list[Row] = [["damaged files", "result"]]
    sound = [
        _checkpoint(Rig(folder / "checkpoint", cache), whole, rows),
        _journal(Rig(folder / "journal", cache), whole, rows),
        _read_only(Rig(folder / "read-only", cache), rows),
    ]
    show(rows)
    return all(sound)


def _begin(rig: Rig, reports: int) -> None:
    """A search whose driver was killed after some reports."""
    rig.folder.mkdir()
    process = rig.start(*SEARCH, "--name", "s")
    if not rig.wait(process, lambda: rig.count("s", "report") >= reports):
        raise RuntimeError(f"the search ended early: {process.communicate()}")
    kill(process)


def _checkpoint(rig: Rig, whole: Rig, rows: list[Row]) -> bool:
    """The newest checkpoint of the trial that was running loses its second half."""
    _begin(rig, 2)
    files = sorted((rig.storage / "s" / "trials").rglob("step-*.pt"), key=os.path.getmtime)
    newest = files[-1]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    status, said = rig.run(*RESUME)
    notes = [line.strip() for line in said.splitlines() if "note:" in line]
    return _tell(rig, whole, rows, "torn checkpoint", status, notes)


def _journal(rig: Rig, whole: Rig, rows: list[Row]) -> bool:
    """The journal ends in the middle of its last line; then, a byte within is another."""
    _begin(rig, 2)
    path = rig.journal("s")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 7])
    status, _ = rig.run(*RESUME)
    sound = _tell(rig, whole, rows, "torn journal", status, ["last line lost, and made again"])
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    status, said = rig.run(*RESUME)
    rows.append(["a changed byte within the journal", f"exit code {status}: {said.strip()}"])
    path.write_bytes(content)
    return sound and status == 2 and "is damaged" in said and said.count("\n") == 1


def _tell(rig: Rig, whole: Rig, rows: list[Row], what: str, status: int, notes: list[str]) -> bool:
    census = rig.census("s")
    same = outcome(rig.history("s")) == outcome(whole.history("s"))
    rows += [
        [what, f"resume: exit code {status}; {'; '.join(notes)}"],
        ["record", census],
        ["all trials and values as undisturbed", same],
    ]
    return not status and census.is_sound and same and bool(notes)


def _read_only(rig: Rig, rows: list[Row]) -> bool:
    """A storage on a disk that is mounted read-only, which stops root, too; then a resume there."""
    rig.folder.mkdir()
    rig.storage.mkdir()
    disk = ["mount", "-t", "tmpfs", "tmpfs", str(rig.storage)]
    if subprocess.run(disk, stderr=subprocess.DEVNULL).returncode:
        print("NO DISK CAN BE MOUNTED HERE: NOT TRIED WITH A READ-ONLY STORAGE")
        return True
    try:
        process = rig.start(*SEARCH, "--name", "s")
        rig.wait(process, lambda: rig.count("s", "report") >= 2)
        kill(process)
        time.sleep(5)  # until its workers are gone
        subprocess.run(["mount", "-o", "remount,ro", str(rig.storage)], check=True)
        sound = []
        for what, options in (("new", [*SEARCH, "--name", "new"]), ("resumed", RESUME)):
            status, said = rig.run(*options)
            rows.append([f"read-only storage, {what}", f"exit code {status}: {said.strip()}"])
            sound.append(status == 2 and "Read-only" in said and said.count("\n") == 1)
        subprocess.run(["mount", "-o", "remount,rw", str(rig.storage)], check=True)
        status, _ = rig.run(*RESUME)
        census = rig.census("s")
        rows += [["writable again", f"exit code {status}"], ["record", census]]
        return all(sound) and not status and census.is_sound
    finally:
        subprocess.run(["umount", "-l", str(rig.storage)], check=False)


def main() -> bool:
    with scratch() as folder:
        return run(folder)
