"""`python -m tests.faults [NAME ...]`: exit code 1 if anything was lost."""

import importlib
import os
import secrets
import sys
import time

from tune import environment

FAULTS = (
    "driver",
    "workers",
    "node",
    "network",
    "slurm",
    "ray",
    "server",
    "disk",
    "files",
    "interrupt",
    "bucket",
    "parted",
    "many",
)


def main(names: list[str]) -> int:
    """Run the faults of these names, all of them if none is named."""
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        print(f"There is no fault {unknown[0]!r}: choose from {', '.join(FAULTS)}.")
        return 2
    bad = []
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    environment.prepare()  # before any of them imports ray
    for name in names or FAULTS:
        began = time.monotonic()
        module = importlib.import_module(f"tests.faults.{name}")
        print(f"\n{name}: {module.__doc__.splitlines()[0]}\n", flush=True)
        if not module.main():
            bad.append(name)
        print(f"\n{'LOST' if name in bad else 'sound'}, in {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
