"""`kill -9` of Ray's own processes: of the raylet of this machine, and of the head's gcs_server."""

import os
import signal
import subprocess
import time
from pathlib import Path

from .rig import ONE_AT_A_TIME, TINY, Rig, outcome, scratch, show

SEARCH = [*TINY, *ONE_AT_A_TIME, "--trials", "3", "--seed", "5"]
RESUME = ["--task", TINY[1], "--name", "s", "--resume"]


def run(folder: Path, cache: Path | None = None) -> bool:
    """The fault; True if nothing was lost."""
    whole, torn = Rig(folder / "whole", cache), Rig(folder / "torn", cache)
    for rig in (whole, torn):
        rig.folder.mkdir()
    status, said = whole.run(*SEARCH, "--name", "s")
    if status:
        raise RuntimeError(f"the undisturbed search failed: {said}")
    rows: list[list[object]] = [["kill -9 of Ray", "result"]]
    noticed = [_kill(torn, name, rows) for name in ("raylet", "gcs_server")]
    status, _ = torn.run(*RESUME)
    census = torn.census("s")
    same = outcome(torn.history("s")) == outcome(whole.history("s"))
    rows += [
        ["resumed to the end", f"exit code {status}"],
        ["record", census],
        ["all trials and values as undisturbed", same],
    ]
    show(rows)
    return all(noticed) and not status and census.is_sound and same


def _kill(rig: Rig, name: str, rows: list[list[object]]) -> bool:
    """Kill one of Ray's processes in the middle of a trial; whether the search says so and ends."""
    known = rig.count("s", "report")
    process = rig.start(*(RESUME if known else [*SEARCH, "--name", "s"]))
    rig.wait(process, lambda: rig.count("s", "report") > known)
    for pid in children(process, name):
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    said, _ = process.communicate()
    took = time.monotonic() - began
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    rows.append(
        [name, f"exit code {process.returncode} after {took:.1f} s: {' / '.join(lines[-3:])}"]
    )
    told = f"({name}) died" in said and "--resume" in said and "Traceback" not in said
    return process.returncode == 75 and told


def children(process: subprocess.Popen[str], name: str) -> list[int]:
    """Processes of that name which a search has started."""
    found = [process.pid]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(word) for word in task.read_text().split()]
    return [pid for pid in found if Path(f"/proc/{pid}/comm").read_text().strip() == name]


def main() -> bool:
    with scratch() as folder:
        return run(folder)
