"""The tracking server is stopped in the middle of a search, and is back later, or too late."""

from pathlib import Path

from .rig import ONE_AT_A_TIME, TINY, Rig, Server, scratch, show

SEARCH = [*TINY, *ONE_AT_A_TIME, "--trials", "4", "--seed", "5"]


def run(folder: Path, cache: Path | None = None) -> bool:
    """The fault; True if nothing was lost."""
    server = Server(folder)
    server.start()
    try:
        back, rows_back = _back_in_time(Rig(folder, cache, server.uri), server)
        late, rows_late = _back_too_late(Rig(folder, cache, server.uri), server)
    finally:
        server.stop()
    show([["tracking server stopped", "result"], *rows_back, *rows_late])
    return back and late


def _back_in_time(rig: Rig, server: Server) -> tuple[bool, list[list[object]]]:
    process = rig.start(*SEARCH, "--name", "back")
    rig.wait(process, lambda: rig.count("back", "report") >= 3)
    server.stop()
    stopped = rig.count("back", "report")
    rig.wait(process, lambda: rig.count("back", "end") >= 3)
    missed = rig.count("back", "report") - stopped
    server.start()
    process.communicate()
    census = rig.census("back")
    rows: list[list[object]] = [
        ["away for a part of it", f"{missed} reports came meanwhile"],
        ["search", f"exit code {process.returncode}"],
        ["record", census],
    ]
    return process.returncode == 0 and census.is_sound and missed > 0, rows


def _back_too_late(rig: Rig, server: Server) -> tuple[bool, list[list[object]]]:
    process = rig.start(*SEARCH, "--name", "late")
    rig.wait(process, lambda: rig.count("late", "report") >= 3)
    server.stop()
    said, _ = process.communicate()
    owed = [line for line in said.splitlines() if "MLflow is owed" in line]
    away, _ = rig.run("--flush", "--name", "late")
    server.start()
    status, told = rig.run("--flush", "--name", "late")
    census = rig.census("late")
    rows: list[list[object]] = [
        ["away to the end", f"exit code {process.returncode}; {' '.join(owed)}"],
        ["--flush, still away", f"exit code {away}"],
        ["--flush, back", f"exit code {status}; {' '.join(told.split())}"],
        ["record", census],
    ]
    sound = (process.returncode, away, status) == (3, 3, 0) and census.is_sound
    return sound and bool(owed), rows


def main() -> bool:
    with scratch() as folder:
        return run(folder)
