"""The disk that searches are kept on is full, and later is not (a small tmpfs; needs root)."""

import subprocess
from pathlib import Path

from .rig import ONE_AT_A_TIME, TINY, Rig, outcome, scratch, show

SEARCH = [*TINY, *ONE_AT_A_TIME, "--trials", "3", "--seed", "5"]
SIZE, SPARE = 64 * 2**20, 40_000  # bytes of the disk, and what is left of them


def run(folder: Path, cache: Path | None = None) -> bool:
    """The fault; True if nothing was lost."""
    whole, torn = Rig(folder / "whole", cache), Rig(folder / "torn", cache)
    for rig in (whole, torn):
        rig.folder.mkdir()
    status, said = whole.run(*SEARCH, "--name", "s")
    if status:
        raise RuntimeError(f"the undisturbed search failed: {said}")
    torn.storage.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(torn.storage)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        print("A TMPFS CANNOT BE MOUNTED HERE: NOT TRIED WITH A FULL DISK")
        return True
    try:
        return _fill(torn, whole)
    finally:
        subprocess.run(["umount", "-l", str(torn.storage)], check=False)


def _fill(torn: Rig, whole: Rig) -> bool:
    ballast = torn.storage / "ballast"
    process = torn.start(*SEARCH, "--name", "s")
    torn.wait(process, lambda: torn.count("s", "report") >= 2)
    free = _free(torn.storage)
    ballast.write_bytes(bytes(max(0, free - SPARE)))
    said, _ = process.communicate()
    first = process.returncode
    reported = torn.count("s", "report")
    ballast.unlink()
    status, _ = torn.run("--task", TINY[1], "--name", "s", "--resume")
    census = torn.census("s")
    same = outcome(torn.history("s")) == outcome(whole.history("s"))
    told = [line.strip() for line in said.splitlines() if "space" in line.lower()]
    show(
        [
            ["a full disk", "result"],
            ["filled", f"after {reported} reports"],
            ["search", f"exit code {first}: {told[-1] if told else said[-300:]}"],
            ["resume, the disk freed", f"exit code {status}"],
            ["record", census],
            ["all trials and values as undisturbed", same],
        ]
    )
    return first == 75 and bool(told) and not status and census.is_sound and same


def _free(folder: Path) -> int:
    import os

    found = os.statvfs(folder)
    return found.f_bavail * found.f_bsize


def main() -> bool:
    with scratch() as folder:
        return run(folder)
