"""`kill -9` of the driver at ten random moments, each followed by a resume.

Run one trial at a time, the search must come to the very trials, values and best of an undisturbed
one with the same seed.
"""

import subprocess
from contextlib import suppress
from pathlib import Path

from .rig import ONE_AT_A_TIME, TINY, Rig, best_of, dice, kill, outcome, scratch, show

KILLS, SEARCHED = 10, 12
SEARCH = [*TINY, *ONE_AT_A_TIME, "--trials", str(SEARCHED), "--seed", "5"]
_LOUD = ("ask", "start", "report", "end")  # events between which a kill can fall


def run(folder: Path, cache: Path | None = None, kills: int = KILLS) -> bool:
    """The fault; True if nothing was lost."""
    whole = Rig(folder / "whole", cache)
    torn = Rig(folder / "torn", cache)
    for rig in (whole, torn):
        rig.folder.mkdir()
    status, said = whole.run(*SEARCH, "--name", "s")
    if status:
        raise RuntimeError(f"the undisturbed search failed: {said}")
    killed = _kill_often(torn, kills)
    status, said = torn.run("--task", TINY[1], "--name", "s", "--resume")
    census = torn.census("s")
    same = outcome(torn.history("s")) == outcome(whole.history("s"))
    best, expected = best_of(torn.history("s")), best_of(whole.history("s"))
    versions = len(_versions(torn))
    show(
        [
            ["kill -9 of the driver", "result"],
            ["killed and resumed", f"{len(killed)} times, after events {killed}"],
            ["last resume", f"exit code {status}"],
            ["record", census],
            ["all trials and values as undisturbed", same],
            ["best (trial, score)", f"{best}; undisturbed {expected}"],
            ["models registered", versions],
        ]
    )
    return not status and census.is_sound and same and best == expected and versions == 1


def _kill_often(rig: Rig, kills: int) -> list[int]:
    """Kill a search at moments spread over its whole course; numbers of events before each."""
    random = dice(1)
    spread = 7 * SEARCHED  # about as many events as there will be at the least
    killed: list[int] = []
    while len(killed) < kills:
        known = rig.count("s", *_LOUD)
        more = ["--name", "s"] if not known else ["--name", "s", "--resume"]
        process = rig.start(*(SEARCH if not known else SEARCH[:2]), *more)
        wanted = known + random.randint(1, max(1, spread // kills))
        due = rig.wait(process, lambda wanted=wanted: rig.count("s", *_LOUD) >= wanted)
        if not due:
            raise RuntimeError(f"the search ended early: {process.communicate()}")
        with suppress(subprocess.TimeoutExpired):
            process.wait(random.uniform(0, 0.3))
        kill(process)
        killed.append(rig.count("s", *_LOUD))
    return killed


def _versions(rig: Rig) -> list[object]:
    from mlflow import MlflowClient

    client = MlflowClient(rig.uri, registry_uri=rig.uri)
    return list(client.search_model_versions("name = 'gsda-glyph31-W2D'"))


def main() -> bool:
    with scratch() as folder:
        return run(folder)
