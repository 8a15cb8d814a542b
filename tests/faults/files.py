"""Files that are damaged: a torn checkpoint, a torn journal, a storage that cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

from .rig import ONE_AT_A_TIME, ROOT, SCRIPT, TINY, Rig, kill, outcome, scratch, show

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
        _read_only(folder / "read-only", cache, rows),
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
    files = sorted((rig.storage / "s" / "trials").glob("*/step-*.pt"), key=os.path.getmtime)
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


def _read_only(folder: Path, cache: Path | None, rows: list[Row]) -> bool:
    """A storage that belongs to somebody else; tried as nobody where we are root."""
    folder.mkdir(mode=0o755)
    words = [sys.executable, SCRIPT, *SEARCH, "--storage", str(folder / "searches")]
    words += ["--tracking-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    who: dict[str, int] = {}
    if os.geteuid() == 0:
        who = {"user": 65534, "group": 65534}
        for part in (folder, *folder.parents):
            if part != Path("/tmp") and part.is_relative_to("/tmp"):
                part.chmod(0o755)
    else:
        folder.chmod(0o555)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": "/tmp", "PYTHONWARNINGS": ""}
    if cache is not None:
        environment["GSDA_CACHE"] = str(cache)
    done = subprocess.run(words, cwd="/", env=environment, capture_output=True, text=True, **who)
    said = done.stderr.strip() or done.stdout.strip()
    rows.append(["read-only storage", f"exit code {done.returncode}: {said}"])
    return done.returncode == 2 and "cannot be kept in" in said and said.count("\n") == 0


def main() -> bool:
    with scratch() as folder:
        return run(folder)
