"""200 trials of a tiny run, several at a time, with a worker killed every few seconds."""

import os
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from random import Random

from .rig import TASK, Rig, dice, scratch, show, tally, workers_of

TRIALS, EVERY_S = 200, 5.0
AT_ONCE, MOST_HALTS = 8, 20
ALIKE = 48  # trials that are run without kills, to compare the pace
SEARCH = ["--task", TASK, "--steps", "2", "--evaluate-every", "1", "--batch-size", "2"]
SEARCH += ["--max-failures", "20", "--seed", "5"]
RESUME = ["--task", TASK, "--resume", "--max-failures", "20"]
SEARCH += ["--cpus-per-trial", str((os.cpu_count() or 1) / AT_ONCE)]


def run(folder: Path, cache: Path | None = None) -> bool:
    """The fault; True if nothing was lost."""
    whole, rig = Rig(folder / "whole", cache), Rig(folder / "torn", cache)
    for one in (whole, rig):
        one.folder.mkdir()
    status, said = whole.run(*SEARCH, "--trials", str(ALIKE - 2), "--name", "s")
    if status:
        raise RuntimeError(f"the undisturbed search failed: {said}")
    began = time.monotonic()
    killed, halts = _run_to_the_end(rig)
    took = time.monotonic() - began
    census, history = rig.census("s"), rig.history("s")
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    show(
        [
            ["many trials, workers killed", "result"],
            ["killed", f"{killed} workers, {rig.count('s', 'fault')} faults told"],
            ["search", f"halted and resumed {halts} times, over after {took:.0f} s"],
            ["trials", tally([trial.state for trial in history.trials.values()])],
            [f"trials per minute, {ALIKE} without kills, by halves", _pace(whole, 2)],
            ["trials per minute with kills, by quarters", _pace(rig, 4)],
            ["load of the machine over 1, 5 and 15 minutes, at the end", load],
            ["record", census],
        ]
    )
    complete = len(history.trials) == TRIALS and census.is_sound
    return complete and not history.in_state("FAILED")


def _pace(rig: Rig, parts: int) -> str:
    """Trials per minute in each of some equal parts of a search, from the first end on."""
    ends = [event["time"] for event in rig.events("s") if event["event"] == "end"]
    marks = [ends[(len(ends) - 1) * k // parts] for k in range(parts + 1)]
    each = (len(ends) - 1) / parts
    return ", ".join(f"{60 * each / max(1e-9, b - a):.1f}" for a, b in pairwise(marks))


def _run_to_the_end(rig: Rig) -> tuple[int, int]:
    """Resume the search as often as it halts; how many workers were killed, and how many halts."""
    random, killed, halts = dice(3), 0, -1
    options, status = [*SEARCH, "--trials", str(TRIALS - 2), "--name", "s"], 75
    while status == 75 and halts < MOST_HALTS:
        process = rig.start(*options)
        killed += _kill_now_and_then(rig, process, random)
        said, _ = process.communicate()
        status, halts = process.returncode, halts + 1
        options = [*RESUME, "--name", "s"]
    if status:
        print(f"exit code {status}: {said[-1000:]}")
    return killed, halts


def _kill_now_and_then(rig: Rig, process: subprocess.Popen[str], random: Random) -> int:
    """Kill one of the workers every few seconds, as long as the search runs."""
    killed = 0
    while process.poll() is None:
        until, known = time.monotonic() + EVERY_S, rig.count("s", "report")
        # Three faults without a report between them are the surroundings' fault: a search halts.
        while process.poll() is None and (
            time.monotonic() < until or rig.count("s", "report") <= known
        ):
            time.sleep(0.1)
        workers = workers_of(process) if process.poll() is None else []
        if workers:
            os.kill(random.choice(workers), signal.SIGKILL)
            killed += 1
    return killed


def main() -> bool:
    with scratch() as folder:
        return run(folder)
