"""Small forms of the faults in tests/faults that no other test makes, with real processes."""

import os
import re
import shutil
import signal
from pathlib import Path

from faults.rig import ONE_AT_A_TIME, Rig, workers_of
from mlflow import MlflowClient

SMALL = ["--task", "glyph31/W2D", "--steps", "6", "--evaluate-every", "2", "--batch-size", "4"]


def test_searches_at_once_on_one_storage_and_one_database(tmp_path: Path, cache: Path) -> None:
    """Three that begin in the same moment, two of them under one name; nothing is there yet."""
    rig = Rig(tmp_path, cache)
    options = [*SMALL, "--trials", "1", *ONE_AT_A_TIME]
    started = [rig.start(*options, "--name", name) for name in ("same", "same", "other")]
    said = [process.communicate()[0] for process in started]
    first, second, third = (process.returncode for process in started)
    assert sorted([first, second]) == [0, 2], said
    assert third == 0, said[2]
    refused = said[0 if first == 2 else 1]
    assert "There is a search named same in" in refused or "driven by another process" in refused
    assert "Traceback" not in "".join(said)
    for name in ("same", "other"):
        census = rig.census(name)
        assert census.is_sound, census
        assert census.asked == 3
    client = MlflowClient(rig.uri, registry_uri=rig.uri)
    versions = client.search_model_versions("name = 'gsda-glyph31-W2D'")
    assert len({v.tags["gsda.trial"] for v in versions}) == len(versions) == 2
    best = max(versions, key=lambda v: (float(v.tags["value"]), -int(v.version)))
    champion = client.get_model_version_by_alias("gsda-glyph31-W2D", "champion")
    assert str(champion.version) == str(best.version)


def test_a_worker_killed_in_the_last_trial_costs_nothing(
    tmp_path: Path, cache: Path, empty_store: Path
) -> None:
    rig = Rig(tmp_path, cache)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    options = ["--trials", "1", *ONE_AT_A_TIME, "--name", "s"]
    process = rig.start(*SMALL, *options)
    killed: list[int] = []

    def kill() -> bool:
        killed.extend(workers_of(process) if rig.count("s", "start") > 2 else [])
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        return bool(killed)

    rig.wait(process, kill)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    faults = [event for event in rig.events("s") if event["event"] == "fault"]
    assert len(faults) >= 1, said
    assert {e["cause"] for e in faults} == {"lost worker"}
    assert all(re.match(r"its worker on [\d.]+ died$", e["reason"]) for e in faults), faults
    census = rig.census("s")
    assert census.is_sound, census
    assert census.asked == 3
