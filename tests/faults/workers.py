"""`kill -9` of the processes that train, several in one search; each trial goes on elsewhere."""

import os
import signal
import subprocess
import time
from pathlib import Path

from tune.history import History

from .rig import ONE_AT_A_TIME, TINY, Rig, dice, scratch, show, tally, workers_of

SEARCH = [*TINY, *ONE_AT_A_TIME, "--trials", "4", "--seed", "5", "--max-failures", "5"]
KILLS = 3


def run(folder: Path, cache: Path | None = None) -> bool:
    """The fault; True if nothing was lost."""
    whole, torn = Rig(folder / "whole", cache), Rig(folder / "torn", cache)
    for rig in (whole, torn):
        rig.folder.mkdir()
    status, said = whole.run(*SEARCH, "--name", "s")
    if status:
        raise RuntimeError(f"the undisturbed search failed: {said}")
    process = torn.start(*SEARCH, "--name", "s")
    killed = _kill_workers(torn, process)
    said, _ = process.communicate()
    census, history = torn.census("s"), torn.history("s")
    faults = [event for event in torn.events("s") if event["event"] == "fault"]
    same = _agree(history, whole.history("s"))
    show(
        [
            ["kill -9 of workers", "result"],
            ["killed", f"{killed} workers in the middle of a trial"],
            ["search", f"exit code {process.returncode}"],
            ["faults told", tally([f"trial {e['trial']}: {e['reason']}" for e in faults])],
            ["record", census],
            ["all values that were measured undisturbed, too, are the same", same],
        ]
    )
    return process.returncode == 0 and census.is_sound and same and len(faults) >= 1


def _agree(one: History, other: History) -> bool:
    """Whether the same trials have the same values at each step that both reached.

    Not the same steps: a trial that was put back is compared by ASHA with others.
    """
    for number, trial in one.trials.items():
        twin = other.trials[number]
        common = trial.reports.keys() & twin.reports.keys()
        if trial.config != twin.config or not common:
            return False
        if any(trial.reports[step] != twin.reports[step] for step in common):
            return False
    return len(one.trials) == len(other.trials)


def _kill_workers(rig: Rig, process: subprocess.Popen[str]) -> int:
    """Kill the worker KILLS times, each time after it has reported at least once more."""
    random, killed, known = dice(2), 0, 0
    while killed < KILLS:
        if not rig.wait(process, lambda known=known: rig.count("s", "report") > known):
            break
        known = rig.count("s", "report") + random.randint(1, 4)
        for pid in workers_of(process):
            os.kill(pid, signal.SIGKILL)
            killed += 1
        time.sleep(0.1)
    return killed


def main() -> bool:
    with scratch() as folder:
        return run(folder)
