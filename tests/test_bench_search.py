"""The benchmark of the search: that its arms do the same work, and its arithmetic."""

from pathlib import Path

import pytest
import scene

from experiments import bench_search
from experiments.bench_search import NAME, Cost, run_bare, table, work_of, write_images
from gsda.bundle import load_bundle
from tune.history import COMPLETE, History
from tune.journal import read_events


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A search of pretended trials, and real images to run them on again."""
    journal = scene.begin(tmp_path / "searches" / NAME, 3, scene.small_config(steps=6))
    scene.work(scene.resume(journal))
    journal.close()
    write_images(tmp_path, 62)
    return tmp_path


def test_images_are_files_in_the_layout_of_a_task(folder: Path) -> None:
    assert len(list((folder / "images" / "W").iterdir())) == 31
    assert len(list((folder / "images" / "W").rglob("*.png"))) == 62
    assert len(list((folder / "images" / "D").glob("*.png"))) == 62


def test_the_bare_loop_goes_as_far_as_the_search_did(folder: Path) -> None:
    journal = folder / "searches" / NAME / "journal.log"
    history, works = History.of(read_events(journal)[0]), work_of(journal)
    assert [work.number for work in works] == [t.number for t in history.trials.values()]
    assert [work.steps for work in works] == [max(t.reports) for t in history.trials.values()]
    assert run_bare(folder) > 0
    for work in works:
        place = folder / "bare" / str(work.number)
        assert list(place.glob(f"step-{work.steps:09d}*"))
        finished = history.trials[work.number].state == COMPLETE
        assert (place / "model").is_dir() == finished
        if finished:
            assert len(load_bundle(place / "model").classes) == 31


def test_the_table_gives_ratios_first() -> None:
    costs = {"search": Cost(40, 22), "bare": Cost(30, 20), "plain": Cost(80, 44)}
    rows = table(costs, 4)[2:]
    assert rows[0] == "| search of this package | 1.10, 1.33 | 0.50 | 2.00 | 10.9 | 22.0, 40.0 |"
    assert rows[1].startswith("| bare loop | 1.00, 1.00 | 0.00 | 2.20 | 12.0 |")
    assert rows[2].startswith("| plain Tune | 2.20, 2.67 | 6.00 | 1.00 | 5.5 |")
    assert set(bench_search.ARMS) == {"bare", "plain"}
