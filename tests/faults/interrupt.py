"""Ctrl-C once: a clean stop that says how to resume. Twice: the same, waiting for nothing."""

import os
import signal
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
    rows: list[list[object]] = [["Ctrl-C", "result"]]
    stopped = [_stop(torn, times, rows) for times in (1, 2)]
    status, _ = torn.run(*RESUME)
    census = torn.census("s")
    same = outcome(torn.history("s")) == outcome(whole.history("s"))
    rows += [
        ["resumed to the end", f"exit code {status}"],
        ["record", census],
        ["all trials and values as undisturbed", same],
    ]
    show(rows)
    return all(stopped) and not status and census.is_sound and same


def _stop(rig: Rig, times: int, rows: list[list[object]]) -> bool:
    """Interrupt as a terminal does: the whole process group gets the signal."""
    known = rig.count("s", "report")
    options = RESUME if known else [*SEARCH, "--name", "s"]
    process = rig.start(*options)
    rig.wait(process, lambda: rig.count("s", "report") > known)
    began = time.monotonic()
    for turn in range(times):
        if turn:
            time.sleep(1)
            began = time.monotonic()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate()
    took = time.monotonic() - began
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    told = " / ".join(lines[-3:])
    rows.append([f"{times} x", f"exit code {process.returncode} after {took:.1f} s: {told}"])
    known_end = "--resume" in said and "Traceback" not in said and "anything was begun" not in said
    return process.returncode == 75 and known_end


def main() -> bool:
    with scratch() as folder:
        return run(folder)
