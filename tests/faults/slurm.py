"""A SLURM job at its time limit, and queued again; the script is the real one, SLURM is not.

Its two nodes are network namespaces (needs root); stand-ins for `srun` and `scontrol` start what
the script asks for there. Ray and the search are real.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from .nets import Network
from .rig import ROOT, TASK, Rig, scratch, show

NODES = ("n1", "n2")
JOB = 4711
SEARCH = ["--task", TASK, "--steps", "400", "--evaluate-every", "40", "--batch-size", "4"]
SEARCH += ["--trials", "1", "--seed", "5", "--device", "cpu"]
_SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do
    [[ $1 != --nodelist=* ]] || node=${1#*=}
    shift
done
exec ip netns exec "$STEM-$node" unshare --uts sh -c 'hostname "$0" && exec "$@"' "$node" "$@"
"""
_SCONTROL = """#!/bin/bash
[ "$1" != show ] || tr , '\\n' <<< "$3"
"""


def run(folder: Path, cache: Path | None = None) -> bool:
    """The fault; True if nothing was lost."""
    rig = Rig(folder, cache)
    try:
        network = Network(*NODES)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"NO NETWORK NAMESPACES HERE: NOT TRIED WITH A JOB OF SLURM ({error})")
        return True
    with network:
        refused, why = _end(_begin(rig, network, ["--task", "nothing"]))
        alone = _left(network)
        process = _begin(rig, network, SEARCH)
        rig.wait(process, lambda: rig.count(f"job-{JOB}", "report") >= 6)
        reported = rig.count(f"job-{JOB}", "report")
        process.send_signal(signal.SIGINT)  # to the shell alone, as --signal=B: has it
        stopped, said = _end(process)
        alone &= _left(network)
        again, more = _end(_begin(rig, network, SEARCH, SLURM_RESTART_COUNT="1"))
        alone &= _left(network)
    census = rig.census(f"job-{JOB}")
    starts = rig.count(f"job-{JOB}", "start")
    cluster = all("Cluster of 2: all have the same" in text for text in (said, more))
    ways = [line for line in said.splitlines() if "--resume" in line]
    show(
        [
            ["a job of SLURM", "result"],
            ["a task that there is not", f"exit code {refused}: {(why.splitlines() or [''])[-1]}"],
            ["SIGINT before the time limit", f"exit code {stopped}, after {reported} reports"],
            ["says how it goes on", " / ".join(line.strip() for line in ways)],
            ["queued again", f"exit code {again}; {starts} starts of trials in all"],
            ["both nodes are used", cluster],
            ["nothing runs on the nodes afterwards", alone],
            ["record", census],
        ]
    )
    codes = (refused, stopped, again) == (2, 75, 0)
    if not codes:
        print(why, said, more)
    resumed = rig.count(f"job-{JOB}", "resume") == 1 and bool(ways)
    return codes and cluster and alone and resumed and census.is_sound and census.asked == 3


def _begin(rig: Rig, network: Network, options: list[str], **more: str) -> "subprocess.Popen[str]":
    """The job's script on its first node, as SLURM starts it."""
    commands = rig.folder / "bin"
    commands.mkdir(exist_ok=True)
    search = f'#!/bin/bash\nexec {sys.executable} {ROOT / "tune" / "search.py"} "$@"\n'
    for name, text in (("srun", _SRUN), ("scontrol", _SCONTROL), ("gsda-search", search)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    environment = rig.environment | {
        "PATH": os.pathsep.join(
            [str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]
        ),
        "STEM": network.stem,
        "SLURM_JOB_ID": str(JOB),
        "SLURM_JOB_NODELIST": ",".join(NODES),
        "SLURM_CPUS_PER_TASK": "1",
    }
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):  # the script makes its own
        environment.pop(name, None)
    script = str(ROOT / "docs" / "cluster" / "search.slurm")
    return subprocess.Popen(
        [*network.inside(NODES[0]), "bash", script, *options],
        cwd=rig.folder,
        env=environment | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell that was started with SIGINT ignored, as in the background of a script, cannot
        # take it; SLURM starts it with the default.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    said, _ = process.communicate()
    return process.returncode, said


def _left(network: Network, patience: float = 20.0) -> bool:
    """Whether soon nothing runs on the nodes any more."""
    until = time.monotonic() + patience
    while time.monotonic() < until and any(network.processes(node) for node in NODES):
        time.sleep(0.2)
    return not any(network.processes(node) for node in NODES)


def main() -> bool:
    with scratch() as folder:
        return run(folder)
