"""Two machines of a cluster lose sight of each other, and both still reach the bucket.

Each is a network namespace (needs root), and so is the bucket's. The one that is thought lost is
suspended until its trial has gone on at the other, and then woken: so it comes to the bucket with
what nobody wants any more.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from tune.handover import PLACES
from tune.uri import parse

from .bucket import KEYS, Bucket
from .machines import Machines
from .nets import Network
from .network import HERE, SEARCH, THERE, Row, agree, faults_of, lose, wake
from .node import runs_on_both
from .rig import Rig, scratch, show, tally

BUCKET = "bucket"
_LIST = "import sys, json; from tune.objectstore import Store; "
_LIST += "print(json.dumps(list(Store(sys.argv[1]).files('s'))))"


def run(folder: Path, cache: Path | None = None) -> bool:
    """The fault; True if nothing was lost."""
    os.environ.update(KEYS)
    whole, torn = Rig(folder / "whole", cache), Rig(folder / "torn", cache)
    for rig in (whole, torn):
        rig.folder.mkdir()
    try:
        network = Network(HERE, THERE, BUCKET)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"NO NETWORK NAMESPACES HERE: NOT TRIED WITH MACHINES THAT ARE PARTED ({error})")
        return True
    with network:
        bucket = Bucket(network.hosts[BUCKET], network.inside(BUCKET))
        try:
            rows, sound = _disturb(torn, network, bucket.uri)
        finally:
            bucket.close()
    status, said = whole.run(*SEARCH, "--name", "s")
    if status:
        raise RuntimeError(f"the undisturbed search failed: {said}")
    same = agree(torn.history("s"), whole.history("s"))
    show([*rows, ["values of the reference trials as undisturbed", same]])
    return sound and same


def _disturb(rig: Rig, network: Network, uri: str) -> tuple[list[Row], bool]:
    hosts = network.hosts
    rig.environment |= {"GSDA_CACHE": str(rig.folder / "cache")}
    rig.storage = parse(uri).working_copy(rig.folder / "cache")
    with Machines(1, hosts[HERE], network.inside(HERE)) as machines:
        machines.add(THERE, wrapper=network.inside(THERE), host=hosts[THERE])
        options = ["--name", "s", "--address", machines.address, "--storage", uri]
        process = rig.start(*SEARCH, *options, wrapper=network.inside(HERE))
        rig.wait(process, lambda: runs_on_both(rig))
        network.part(HERE, THERE)
        lost, number = lose(rig, process, machines)
        known = _places(network, uri, number)
        woken = wake(machines)
        after = _places(network, uri, number)
        over = number in {trial.number for trial in rig.history("s").ended}
        said, _ = process.communicate()
    census, faults = rig.census("s"), faults_of(rig)
    left = [name for name in _there(network, uri) if "step-" in name or PLACES in name]
    rows: list[Row] = [
        ["parted machines and a bucket", "result"],
        ["parted for good", lost],
        ["suspended all that time, woken before the bucket", woken],
        ["places of its trial in the bucket, before that and after", f"{known}, {after}"],
        ["search", f"exit code {process.returncode}{'' if process.returncode == 0 else said}"],
        ["faults told", tally([f"{e['cause']}: {e['reason']}" for e in faults])],
        ["record", census],
        ["what ended trials need no more is gone", not left],
    ]
    told = [event["cause"] for event in faults] == ["lost node"]
    whole = census.is_sound and census.asked == 3 and not rig.history("s").in_state("FAILED")
    kept = known == ["2"] and after == ([] if over else ["2"])
    return rows, told and whole and kept and not left and not process.returncode


def _there(network: Network, uri: str) -> list[str]:
    """What lies in the bucket, as seen from a machine."""
    words = [*network.inside(HERE), sys.executable, "-c", _LIST, uri]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return [str(name) for name in json.loads(done.stdout)]


def _places(network: Network, uri: str, number: int) -> list[str]:
    below = f"trials/{number:04d}/{PLACES}/"
    names = [name.removeprefix(below) for name in _there(network, uri) if name.startswith(below)]
    return sorted({name.partition("/")[0] for name in names})


def main() -> bool:
    with scratch() as folder:
        return run(folder)
