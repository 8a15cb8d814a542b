"""The script for SLURM, run with stand-ins for SLURM's commands, for Ray and for the search.

What it does with a real Ray and a real search on two nodes: `python -m tests.faults slurm`.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "cluster" / "search.slurm"
COMMANDS = {
    "scontrol": """#!/bin/bash
        echo "$@" >> "$STATE/scontrol"
        [ "$1" != show ] || tr , '\\n' <<< "$3"
    """,
    "srun": """#!/bin/bash
        echo "$@" >> "$STATE/srun"
        while [[ $1 == --* ]]; do
            [[ $1 != --nodelist=* ]] || export NODE=${1#*=}
            shift
        done
        exec "$@"
    """,
    "hostname": """#!/bin/bash
        [ "$1" = --ip-address ] && echo 127.0.1.1 || echo "fe80::1 10.9.0.1 10.8.0.1"
    """,
    "ray": """#!/bin/bash
        trap 'echo "$NODE" >> "$STATE/ended"; exit' TERM
        echo "$NODE $*" >> "$STATE/ray"
        [ "${BROKEN:-}" != "$NODE" ] || exit 1
        touch "$STATE/up"
        while true; do sleep 0.05; done
    """,
    "python": f"""#!/bin/bash
        case "$*" in
            *socket*) test -e "$STATE/up" ;;
            *tune.status*) echo "$@" >> "$STATE/status"; test -e "$STATE/begun" ;;
            -\\ *) cat > /dev/null; echo "$@" > "$STATE/waited" ;;
            *) exec {sys.executable} "$@" ;;
        esac
    """,
    "gsda-search": f"""#!{sys.executable}
import os, pathlib, sys, time
state = pathlib.Path(os.environ["STATE"])
(state / "begun").touch()
(state / "search").write_text(" ".join(sys.argv[1:]))
try:
    time.sleep(float(os.environ.get("TAKES", "0")))
except KeyboardInterrupt:
    sys.exit(75)
sys.exit(int(os.environ.get("STATUS", "0")))
""",
}


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """The environment of a job; its stand-ins write down in `STATE` what is asked of them."""
    commands, state = tmp_path / "bin", tmp_path / "state"
    for folder in (commands, state):
        folder.mkdir()
    for name, text in COMMANDS.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    slurm = {"JOB_ID": "20007", "JOB_NODELIST": "n1,n2,n3", "CPUS_PER_TASK": "4"}
    return {"PATH": path, "STATE": str(state)} | {f"SLURM_{k}": v for k, v in slurm.items()}


def begin(job: dict[str, str], *options: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", str(SCRIPT), *options],
        env=job | more,
        cwd=job["STATE"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(job: dict[str, str], *options: str, **more: str) -> tuple[int, str]:
    process = begin(job, *options, **more)
    said, _ = process.communicate()
    return process.returncode, said


def written(job: dict[str, str], name: str) -> list[str]:
    """Lines that a stand-in wrote."""
    path = Path(job["STATE"], name)
    return path.read_text().splitlines() if path.exists() else []


def test_it_brings_up_ray_and_tears_it_down(job: dict[str, str]) -> None:
    assert run(job, "--task", "A2W", "--data", "two words") == (0, "")
    assert written(job, "search") == [
        "--task A2W --data two words --name job-20007 --address 10.9.0.1:20007"
    ]
    head, *others = sorted(written(job, "ray"))
    assert head.startswith("n1 start --num-cpus=4 --block --head --node-ip-address=10.9.0.1 --port")
    assert others == [
        f"{n} start --num-cpus=4 --block --address=10.9.0.1:20007" for n in ("n2", "n3")
    ]
    assert written(job, "waited")[0].startswith("- 10.9.0.1:20007 3 ")
    assert sorted(written(job, "ended")) == ["n1", "n2", "n3"]
    steps = [line for line in written(job, "srun") if "ray start" in line]
    assert all("--cpus-per-task=4 --overlap" in line for line in steps)


@pytest.mark.parametrize("status", [1, 3])
def test_the_search_s_exit_code_is_the_job_s(job: dict[str, str], status: int) -> None:
    assert run(job, "--name", "mine", STATUS=str(status)) == (status, "")
    assert written(job, "search") == ["--name mine --address 10.9.0.1:20007"]
    assert sorted(written(job, "ended")) == ["n1", "n2", "n3"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(job: dict[str, str], number: signal.Signals) -> None:
    """It goes to the shell alone, as by --signal=B: and by preemption."""
    process = begin(job, TAKES="60")
    while not written(job, "search"):
        time.sleep(0.02)
    process.send_signal(number)
    said, _ = process.communicate()
    assert process.returncode == 75
    assert said == (
        "As a job: scontrol requeue 20007, or submit it again with --name job-20007 --resume.\n"
    )
    assert sorted(written(job, "ended")) == ["n1", "n2", "n3"]
    assert not any("requeue" in line for line in written(job, "scontrol"))


def test_queued_again_it_goes_on(job: dict[str, str]) -> None:
    process = begin(job, "--storage=there", TAKES="60", GSDA_REQUEUE="1")
    while not written(job, "search"):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 75
    assert written(job, "scontrol")[-1] == "requeue 20007"
    assert run(job, "--storage=there", SLURM_RESTART_COUNT="1") == (0, "")
    assert written(job, "status") == ["-m tune.status job-20007 --storage there"]
    assert written(job, "search") == [
        "--storage=there --name job-20007 --resume --address 10.9.0.1:20007"
    ]


@pytest.mark.parametrize(
    ("options", "begun", "expected"),
    [
        ("--name mine", False, "--name mine"),
        ("--name=mine", True, "--name=mine --resume"),
        ("--resume", True, "--resume"),
        ("--name mine --resume", True, "--name mine --resume"),
    ],
)
def test_what_a_second_start_asks_for(
    job: dict[str, str], options: str, begun: bool, expected: str
) -> None:
    if begun:
        Path(job["STATE"], "begun").touch()
    assert run(job, *options.split(), SLURM_RESTART_COUNT="1") == (0, "")
    assert written(job, "search") == [f"{expected} --address 10.9.0.1:20007"]


def test_a_head_that_does_not_start_is_told(job: dict[str, str]) -> None:
    assert run(job, BROKEN="n1") == (1, "Ray did not start on n1: see gsda-20007-n1.log.\n")
    assert written(job, "search") == []
