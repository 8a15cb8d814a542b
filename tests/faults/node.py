"""`kill -9` of one of two machines of a cluster; its trials go on at the other."""

from pathlib import Path
from typing import Any

from tune.history import OPEN

from .machines import Machines
from .rig import TASK, Rig, scratch, show, tally

SEARCH = ["--task", TASK, "--steps", "2000", "--evaluate-every", "100", "--batch-size", "4"]
SEARCH += ["--trials", "2", "--seed", "5", "--device", "cpu", "--max-failures", "0"]


def run(folder: Path, cache: Path | None = None) -> bool:
    """The fault; True if nothing was lost."""
    rig = Rig(folder, cache)
    with Machines() as machines:
        machines.add("other")
        process = rig.start(*SEARCH, "--name", "s", "--address", machines.address)
        due = rig.wait(process, lambda: runs_on_both(rig))
        machines.kill("other")
        said, _ = process.communicate()
    census, faults = rig.census("s"), _faults(rig)
    show(
        [
            ["kill -9 of a machine", "result"],
            ["killed", "while both ran a trial" if due else f"too late: {said}"],
            ["search", f"exit code {process.returncode}"],
            ["faults told", tally([f"{e['cause']}: {e['reason']}" for e in faults])],
            ["record", census],
        ]
    )
    lost = any(event["cause"] == "lost node" for event in faults)
    whole = census.is_sound and census.asked == 4 and not rig.history("s").in_state("FAILED")
    return due and process.returncode == 0 and lost and whole


def runs_on_both(rig: Rig) -> bool:
    """Whether both train a trial, as each has room for one."""
    history = rig.history("s")
    running = [trial for trial in history.in_state(OPEN) if trial.starts]
    return len(running) == 2 and all(trial.reports for trial in running)


def _faults(rig: Rig) -> list[dict[str, Any]]:
    return [event for event in rig.events("s") if event["event"] == "fault"]


def main() -> bool:
    with scratch() as folder:
        return run(folder)
