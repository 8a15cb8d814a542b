"""A search in a bucket: the driver killed, each time on another machine, and the bucket away.

"Another machine" is the same one without the working copy. The bucket is moto's S3 server.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gsda.checkpoint import KEEP
from tune.objectstore import Store
from tune.uri import parse

from .rig import ONE_AT_A_TIME, TINY, Rig, free_port, kill, outcome, scratch, show

KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
SEARCH = [*TINY, *ONE_AT_A_TIME, "--trials", "2", "--seed", "5", "--name", "s"]
RESUME = ["--task", TINY[1], "--name", "s", "--resume"]
_SERVER = """
import sys, time, urllib.request
from moto.server import ThreadedMotoServer
host, port = sys.argv[1:]
ThreadedMotoServer(host, int(port), verbose=False).start()
bucket = urllib.request.Request(f"http://{host}:{port}/bucket", method="PUT")
urllib.request.urlopen(bucket).close()
print("there", flush=True)
time.sleep(10**6)
"""


class Bucket:
    """An S3 server in a process of its own, so that it can be stopped as if the network were."""

    def __init__(self, host: str = "127.0.0.1", wrapper: Sequence[str] = ()) -> None:
        """Start it, with a bucket.

        Args:
            wrapper: words before it, such as a command that enters a namespace.
        """
        self.port = free_port()
        self.uri = f"s3://bucket/searches?endpoint_override={host}:{self.port}&scheme=http"
        self._process = subprocess.Popen(
            [*wrapper, sys.executable, "-c", _SERVER, host, str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        if b"there" not in self._process.stdout.readline():
            raise RuntimeError("moto's server did not start")

    def pause(self) -> None:
        """Nobody answers any more."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again, with all that was there."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it for good."""
        self._process.kill()
        self._process.wait()


def rig_of(folder: Path, uri: str, cache: Path | None) -> Rig:
    """A working folder whose searches are kept below a URI."""
    folder.mkdir()
    rig = Rig(folder, cache or folder / "cache")
    rig.storage = parse(uri).working_copy(Path(rig.environment["GSDA_CACHE"]))
    rig.environment |= KEYS
    return rig


def killed_elsewhere(rig: Rig, uri: str, reports: int, options: list[str]) -> list[str]:
    """Kill a search after so many reports, and lose its machine's copy; gives what is there."""
    process = rig.start(*options, "--storage", uri)
    if not rig.wait(process, lambda: rig.count("s", "report") >= reports):
        raise RuntimeError(f"the search ended early: {process.communicate()}")
    kill(process)
    shutil.rmtree(rig.storage)
    return list(Store(uri).files("s"))


def files_of(folder: Path) -> list[str]:
    """Names below a folder, without the hashes of checkpoints."""
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    return sorted(names)


def run(folder: Path, cache: Path | None = None) -> bool:
    """The fault; True if nothing was lost."""
    os.environ.update(KEYS)
    bucket = Bucket()
    try:
        return _run(folder, bucket, cache)
    finally:
        bucket.close()


def _run(folder: Path, bucket: Bucket, cache: Path | None) -> bool:
    whole, torn = Rig(folder / "whole", cache), rig_of(folder / "torn", bucket.uri, cache)
    whole.folder.mkdir()
    status, said = whole.run(*SEARCH)
    if status:
        raise RuntimeError(f"the undisturbed search failed: {said}")
    left = killed_elsewhere(torn, bucket.uri, 2, SEARCH)
    print("in the bucket after the first kill:", *left, sep="\n  ")
    killed_elsewhere(torn, bucket.uri, 6, RESUME)
    away = _away(torn, bucket)
    status, said = torn.run(*RESUME, "--storage", bucket.uri)
    census = torn.census("s")
    same = outcome(torn.history("s")) == outcome(whole.history("s"))
    store = Store(bucket.uri)
    there, here = sorted(store.files("s")), files_of(whole.storage / "s")
    checkpoints = [name for name in left if ".pt" in name and "model" not in name]
    show(
        [
            ["a search in a bucket", "result"],
            ["exit code when the bucket is away", away],
            ["last resume", f"exit code {status}"],
            ["record", census],
            ["all trials and values as undisturbed, in a folder", same],
            ["below the URI stands what stands in a folder", there == here],
            ["checkpoints of a trial that was killed", f"{len(checkpoints)} (at most {KEEP})"],
        ]
    )
    if there != here:
        print("only there:", set(there) - set(here), "only here:", set(here) - set(there))
    right = (away, status, same, there == here) == (75, 0, True, True)
    return right and census.is_sound and len(checkpoints) <= KEEP


def _away(rig: Rig, bucket: Bucket) -> int:
    """The exit code of a search whose bucket goes away after some more reports."""
    rig.environment["GSDA_STORAGE_PATIENCE_S"] = "5"
    process = rig.start(*RESUME, "--storage", bucket.uri)
    if not rig.wait(process, lambda: rig.count("s", "report") >= 9):
        raise RuntimeError(f"the search ended early: {process.communicate()}")
    began = time.monotonic()
    bucket.pause()
    said, _ = process.communicate()
    bucket.go_on()
    print(f"the bucket was away for {time.monotonic() - began:.0f} s:\n{said}")
    rig.environment.pop("GSDA_STORAGE_PATIENCE_S")
    return process.returncode


def main() -> bool:
    with scratch() as folder:
        return run(folder)
