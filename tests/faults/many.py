"""200 trials of a tiny run, several at a time, with a worker killed every few seconds."""

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

from .rig import TASK, Rig, dice, scratch, show, tally, workers_of

TRIALS, EVERY_S = 200, 5.0
AT_ONCE = 4
SEARCH = ["--task", TASK, "--steps", "2", "--evaluate-every", "1", "--batch-size", "2"]
SEARCH += ["--trials", str(TRIALS - 2), "--max-failures", "20", "--seed", "5"]
SEARCH += ["--cpus-per-trial", str((os.cpu_count() or 1) / AT_ONCE)]


def run(folder: Path, cache: Path | None = None) -> bool:
    """The fault; True if nothing was lost."""
    rig = Rig(folder, cache)
    process = rig.start(*SEARCH, "--name", "s")
    random, killed, began = dice(3), 0, time.monotonic()
    rig.wait(process, lambda: rig.count("s", "end") >= AT_ONCE)
    while process.poll() is None:
        workers = workers_of(process)
        if workers:
            os.kill(random.choice(workers), signal.SIGKILL)
            killed += 1
        until, known = time.monotonic() + EVERY_S, rig.count("s", "report")
        # Three faults without a report between them are the surroundings' fault: a search halts.
        while process.poll() is None and (
            time.monotonic() < until or rig.count("s", "report") <= known
        ):
            time.sleep(0.1)
    process.communicate()
    took = time.monotonic() - began
    census, history = rig.census("s"), rig.history("s")
    ends = [event["time"] for event in rig.events("s") if event["event"] == "end"]
    quarters = [ends[len(ends) * k // 4 - (k == 4)] for k in range(5)]
    pace = [f"{60 * len(ends) / 4 / max(1e-9, b - a):.1f}" for a, b in pairwise(quarters)]
    show(
        [
            ["many trials, workers killed", "result"],
            ["killed", f"{killed} workers, {rig.count('s', 'fault')} faults told"],
            ["search", f"exit code {process.returncode} after {took:.0f} s"],
            ["trials", tally([trial.state for trial in history.trials.values()])],
            ["trials per minute, by quarters of the search", ", ".join(pace)],
            ["record", census],
        ]
    )
    whole = len(history.trials) == TRIALS and census.is_sound
    return process.returncode == 0 and whole and not history.in_state("FAILED")


def main() -> bool:
    with scratch() as folder:
        return run(folder)
