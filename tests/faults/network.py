"""The network between two machines of a cluster goes: for seconds, slowly, and for good.

Each machine is a network namespace (needs root). The one that is lost for good is suspended as well
until its trial has gone on elsewhere, and then woken, still cut off: so it writes into the storage,
which it still reaches, what nobody wants any more.
"""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tune.handover import PLACES
from tune.history import History, Trial
from tune.shelf import trial_folder

from .machines import Machines
from .nets import Network
from .node import runs_on_both
from .rig import TASK, Rig, scratch, show, tally

HERE, THERE = "here", "there"
SEARCH = ["--task", TASK, "--steps", "1600", "--evaluate-every", "40", "--batch-size", "4"]
SEARCH += ["--trials", "1", "--seed", "5", "--device", "cpu", "--max-failures", "0"]
CUT_S, SLOW_S = 5.0, 15.0
Row = list[object]


def run(folder: Path, cache: Path | None = None) -> bool:
    """The faults, one after another in one search; True if nothing was lost."""
    whole, torn = Rig(folder / "whole", cache), Rig(folder / "torn", cache)
    for rig in (whole, torn):
        rig.folder.mkdir()
    try:
        network = Network(HERE, THERE)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"NO NETWORK NAMESPACES HERE: NOT TRIED WITH A NETWORK THAT GOES ({error})")
        return True
    with network:
        rows, sound = _disturb(torn, network)
    status, said = whole.run(*SEARCH, "--name", "s")
    if status:
        raise RuntimeError(f"the undisturbed search failed: {said}")
    same = agree(torn.history("s"), whole.history("s"))
    show([*rows, ["values of the reference trials as undisturbed", same]])
    return sound and same


def _disturb(rig: Rig, network: Network) -> tuple[list[Row], bool]:
    hosts = network.hosts
    with Machines(1, hosts[HERE], network.inside(HERE)) as machines:
        machines.add(THERE, wrapper=network.inside(THERE), host=hosts[THERE])
        address = ["--name", "s", "--address", machines.address]
        process = rig.start(*SEARCH, *address, wrapper=network.inside(HERE))
        rig.wait(process, lambda: runs_on_both(rig))
        seconds, slowly = _cut_for_a_while(rig, process, network), _slow(rig, process, network)
        before = len(faults_of(rig))
        network.cut(THERE)
        lost, number = lose(rig, process, machines)
        woken = wake(machines)
        place = trial_folder(rig.storage / "s", number) / PLACES
        places = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
        woken = f"{woken}; places of the trial: {', '.join(places)}"
        said, _ = process.communicate()
    census, faults = rig.census("s"), faults_of(rig)
    rows: list[Row] = [
        ["a network that goes", "result"],
        [f"cut for {CUT_S:g} s", seconds],
        ["slow", slowly],
        ["faults up to here", before],
        ["cut for good", lost],
        ["suspended all that time, woken cut off", woken],
        ["search", f"exit code {process.returncode}{'' if process.returncode == 0 else said}"],
        ["faults told", tally([f"{e['cause']}: {e['reason']}" for e in faults])],
        ["record", census],
    ]
    told = [event["cause"] for event in faults] == ["lost node"]
    tidy = not list(rig.storage.rglob("step-*.pt")) and not list(rig.storage.rglob(PLACES))
    rows.append(["no checkpoint is left", tidy])
    whole = census.is_sound and census.asked == 3 and not rig.history("s").in_state("FAILED")
    return rows, not before and told and whole and tidy and process.returncode == 0


def _reports_come(rig: Rig, process: subprocess.Popen[str], more: int = 4) -> bool:
    """Wait until both trials have reported again; False if the search ended before."""
    known = rig.count("s", "report")
    return rig.wait(process, lambda: rig.count("s", "report") >= known + more)


def _cut_for_a_while(rig: Rig, process: subprocess.Popen[str], network: Network) -> str:
    known = rig.count("s", "report")
    network.cut(THERE)
    time.sleep(CUT_S)
    network.mend(THERE)
    meanwhile = rig.count("s", "report") - known
    came = _reports_come(rig, process)
    return f"{meanwhile} reports meanwhile, and {'more' if came else 'NO MORE'} afterwards"


def _slow(rig: Rig, process: subprocess.Popen[str], network: Network) -> str:
    """A narrow link that loses all packets for a fifth of each second, whatever the kernel has."""
    how, known, resent = network.slow(THERE), rig.count("s", "report"), network.resent(THERE)
    until = time.monotonic() + SLOW_S
    while time.monotonic() < until:
        network.cut(THERE)
        time.sleep(0.2)
        network.mend(THERE)
        time.sleep(0.8)
    meanwhile, resent = rig.count("s", "report") - known, network.resent(THERE) - resent
    network.quicken(THERE)
    after = "more" if _reports_come(rig, process, 2) else "NO MORE"
    what = f"{how}, and away for a fifth of each second, for {SLOW_S:g} s"
    return f"{what}: {resent} segments sent again, {meanwhile} reports, {after} afterwards"


def lose(rig: Rig, process: subprocess.Popen[str], machines: Machines) -> tuple[str, int]:
    """Suspend a machine that the driver does not see any more, until its trial goes on elsewhere.

    Returns:
        How that went, and the number of the trial.
    """
    while not _at_work(machines):  # let it be in the middle of a stretch
        time.sleep(0.05)
    machines.freeze(THERE)
    began, known = time.monotonic(), len(faults_of(rig))
    rig.wait(process, lambda: len(faults_of(rig)) > known)
    noticed = time.monotonic() - began
    number = faults_of(rig)[-1]["trial"]
    reports = len(rig.history("s").trials[number].reports)
    goes_on = rig.wait(process, _of(rig, number, lambda t: len(t.reports) >= reports + 2))
    lost = f"told after {noticed:.0f} s; trial {number} had {reports} reports"
    return lost if goes_on else f"{lost}; IT DID NOT GO ON", number


def wake(machines: Machines) -> str:
    """Let it go on; says whether it came to the end of its stretch."""
    machines.freeze(THERE, False)
    done = _until(lambda: not _at_work(machines), 60)
    return "ended its stretch" if done else "DID NOT END ITS STRETCH"


def _at_work(machines: Machines) -> bool:
    """Whether the machine trains at the moment, as Ray calls its worker then."""
    return any(b"Trainable.train" in _title(pid) for pid in machines.processes(THERE))


def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _until(holds: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not holds():
        time.sleep(0.05)
    return holds()


def _of(rig: Rig, number: int, holds: Callable[[Trial], bool]) -> Callable[[], bool]:
    return lambda: holds(rig.history("s").trials[number])


def faults_of(rig: Rig) -> list[dict[str, Any]]:
    return [event for event in rig.events("s") if event["event"] == "fault"]


def agree(one: History, other: History) -> bool:
    """Whether the trials that never stop early have the same values, to the bit."""
    pairs = [(t, other.trials[n]) for n, t in one.trials.items() if t.is_reference]
    return bool(pairs) and all(a.reports == b.reports for a, b in pairs)


def main() -> bool:
    with scratch() as folder:
        return run(folder)
