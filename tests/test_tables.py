"""Tables of cells: what is run once, what stays empty, and what stands beside it."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.cells import choose_rows, with_seeds
from experiments.estimate import describe_time
from experiments.results import Result
from experiments.tables import main, render
from gsda.config import Config
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, Task
from tune.history import History
from tune.journal import read_events
from tune.shelf import JOURNAL

BASE = Config(backbone="cnn", weights="none")


def test_rows_of_the_ladder_and_of_partial_tasks() -> None:
    rows = choose_rows(["ablation"], BASE)
    assert list(rows) == ["source-only", "Glb", "+ Cls", "+ Grp", "+ Grad Sync", "+ Grad Penalty"]
    assert rows["+ Grad Penalty"].sync == "penalty"
    assert rows["+ Grad Sync"] == BASE
    partial = choose_rows(["partial"], BASE)
    assert partial["DANN, weighted"].method == "dann"
    assert all((c.class_weighting == "pada") == ("weighted" in t) for t, c in partial.items())


def test_methods_that_need_frozen_features_are_left_out_elsewhere() -> None:
    assert "TCA" not in choose_rows(["methods"], BASE)
    frozen = Config(features="frozen", backbone="mobilenet_v2")
    assert {"TCA", "GFK", "DANN", "GSDA"} < set(choose_rows(["methods"], frozen))


def test_tuned_settings_go_into_their_rows_alone() -> None:
    rows = choose_rows(["methods"], BASE, tuned={"DANN": {"lambda_max": 0.3}})
    assert list(rows) == ["DANN"]
    assert rows["DANN"].lambda_max == 0.3
    with pytest.raises(BadInput, match="There is no row 'XYZ': choose from"):
        choose_rows(["methods"], BASE, only=["XYZ"])
    with pytest.raises(BadInput, match="No row is left: none of --only has a setting"):
        choose_rows(["methods"], BASE, only=["CDAN"], tuned={"DANN": {"lambda_max": 0.3}})
    with pytest.raises(BadInput, match="There are no rows 'x'"):
        choose_rows(["x"], BASE)


def test_seeds_change_training_and_groups() -> None:
    cells = with_seeds({"GSDA": BASE}, range(2))
    assert [(t, s, c.config.seed, c.config.group_seed) for t, s, c in cells] == [
        ("GSDA", 0, 0, 0),
        ("GSDA", 1, 1, 1),
    ]


def result(row: str, pair: str, seed: int, accuracy: float) -> Result:
    metrics = {"oracle/target_accuracy": accuracy, "oracle/target_class_mean": accuracy / 2}
    task = Task.parse(f"office31/{pair}")
    return Result(row, task, seed, metrics, "abc", "http://here/abc")


def test_a_cell_that_was_not_run_is_empty_and_the_paper_stands_in_rows_of_its_own() -> None:
    pairs = ["A2W", "D2W"]
    results = [result("GSDA", "A2W", 0, 0.8), result("GSDA", "A2W", 1, 0.9)]
    lines = list(render("office31", pairs, results, ["GSDA", "DANN"]))
    assert lines[3] == "| DANN |  |  |  |  | not run |"
    assert lines[2] == "| GSDA | 85.0 ± 7.1 |  |  |  | this package, 2 seeds |"
    paper = [line for line in lines if "| *GSDA* |" in line]
    assert paper == [
        "| *GSDA* | 95.7 | 99.1 | 89.7 |  | Table 2: measured by the paper's authors |"
    ]
    assert any("TLL's re-run, chosen on target labels" in line for line in lines)


def test_means_need_every_task_and_links_lead_to_runs() -> None:
    results = [result("GSDA", pair, 0, 0.8) for pair in ("A2W", "D2W")]
    lines = list(render("office31", ["A2W", "D2W"], results, ["GSDA"], links=True))
    cell = "80.0 [0](http://here/abc)"
    assert lines[2] == f"| GSDA | {cell} | {cell} | 80.0 | 40.0 | this package, 1 seed |"


def test_a_single_task_is_shown_by_class_with_both_averages() -> None:
    metrics = {"oracle/target_accuracy": 0.5, "oracle/target_class_mean": 0.25}
    metrics |= {"oracle/class/00_aeroplane": 1.0, "oracle/class/11_truck": 0.125}
    lines = list(
        render(
            "visda2017",
            ["S2R"],
            [Result("GSDA", Task.parse("visda2017/S2R"), 0, metrics)],
            ["GSDA"],
        )
    )
    assert lines[2].startswith("| GSDA | 100.0 |  |")
    assert lines[2].endswith("| 12.5 | 50.0 | 25.0 | this package, 1 seed |")
    assert any(line.startswith("| *TPN* |") and "quoted" in line for line in lines)
    assert any("| 81.5 (printed) | 82.5 |" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["glyph31", "--rows", "x"], "There are no rows 'x'"),
        (["glyph31", "--seeds", "0"], "--seeds is 0, but must be at least 1"),
        (["imagenet"], "Unknown dataset 'imagenet'"),
        (["office31"], "office31 is not built in"),
        (["glyph31", "--tuned", "nowhere.json"], "--tuned nowhere.json cannot be read"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*arguments, "--storage", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def tiny_copy(root: Path, dataset: str, domains: Sequence[str]) -> None:
    """An image in every class of some domains, laid out as the archive is."""
    benchmark = BENCHMARKS[dataset]
    dice = np.random.default_rng(0)
    for domain in domains:
        for name in benchmark.classes or ():
            folder = root / benchmark.domains[domain][0] / name
            folder.mkdir(parents=True)
            pixels = dice.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "0001.jpg")


@pytest.mark.usefixtures("ray_here")
def test_cells_are_run_once_recorded_and_extended(
    tmp_path: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--storage", str(tmp_path / "s"), "--tracking-uri", store]
    size = ["--steps", "2", "--evaluate-every", "2", "--batch-size", "4", "--task", "W2D"]
    command = ["glyph31", *places, *size, "--only", "source-only"]
    assert main([*command, "--dry-run"]) == 0
    assert "1 cells, 0 of them recorded, 1 to run" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
    assert main(command) == 0
    first = capsys.readouterr()
    assert "| source-only | " in first.out
    assert main([*command, "GSDA", "--output", str(tmp_path / "o")]) == 0
    second = capsys.readouterr()
    assert "2 cells, 1 of them recorded, 1 to run" in second.err
    with (tmp_path / "o" / "cells.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert [(c["row"], c["task"], c["seed"]) for c in cells] == [
        ("source-only", "glyph31/W2D", "0"),
        ("GSDA", "glyph31/W2D", "0"),
    ]
    assert len({c["run"] for c in cells}) == 2
    assert all(c["link"].endswith(c["run"]) for c in cells)
    (journal,) = (tmp_path / "s").glob(f"*/{JOURNAL}")
    ends = [event for event in read_events(journal)[0] if event["event"] == "end"]
    assert [event["trial"] for event in ends] == [0, 1]
    assert not list((tmp_path / "s").glob("*/trials/*/model"))


# What is run of the paper's benchmarks: the row in full; of a partial task the weighted one.
PAPERS = [
    ("office31", "A2W", "GSDA"),
    ("office-home", "Ar2Cl", "GSDA"),
    ("visda2017", "S2R", "GSDA"),
    ("office31-partial", "A2W", "GSDA, weighted"),
]


@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize(("dataset", "pair", "row"), PAPERS)
def test_the_paper_s_benchmarks_on_a_tiny_copy(
    dataset: str,
    pair: str,
    row: str,
    tmp_path: Path,
    store: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The commands for the real archives, with ResNet-50, on a slice of the same layout."""
    tiny_copy(tmp_path / "data", dataset, pair.split("2"))
    arguments: list[Any] = [dataset, "--data", tmp_path / "data", "--task", pair, "--only", row]
    arguments += ["--storage", tmp_path / "s", "--tracking-uri", store, "--weights", "none"]
    arguments += ["--batch-size", "2", "--steps", "1"]
    assert main(list(map(str, arguments))) == 0
    said = capsys.readouterr()
    assert "1 cells, 0 of them recorded, 1 to run" in said.err
    assert re.search(r"^about .*, \d+ at a time$", said.err, re.MULTILINE)  # before it starts
    (line,) = [line for line in said.out.splitlines() if line.startswith(f"| {row} |")]
    assert line.endswith("| this package, 1 seed |")
    (journal,) = (tmp_path / "s").glob(f"*/{JOURNAL}")
    history = History.of(read_events(journal)[0])
    config = history.trials[0].config
    assert (config["backbone"], config["class_weighting"]) == (
        "resnet50",
        "pada" if "weighted" in row else "none",
    )
    n_target = len(BENCHMARKS[dataset].target_classes) or len(BENCHMARKS[dataset].classes or ())
    assert history.spec["images"] == [len(BENCHMARKS[dataset].classes or ()), n_target]
    assert history.trials[0].reports[1]["oracle/target_accuracy"] >= 0


def test_partial_office31_keeps_the_source_s_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All tasks and rows of the partial protocol: 31 classes of the source, ten of the target."""
    dataset = "office31-partial"
    tiny_copy(tmp_path / "data", dataset, "AWD")
    arguments = [dataset, "--data", str(tmp_path / "data"), "--storage", str(tmp_path / "s")]
    arguments += ["--backbone", "cnn", "--batch-size", "2", "--steps", "1", "--dry-run"]
    assert main(arguments) == 0
    told = capsys.readouterr().err
    assert "48 cells, 0 of them recorded, 48 to run" in told  # six tasks, eight rows
    assert "one worker needs about " in told
    assert not (tmp_path / "s").exists()


def test_times_are_told_shortly() -> None:
    told = [describe_time(s) for s in (40, 600, 12240)]
    assert told == ["40 s", "10 min", "3.4 h"]


def test_what_is_tuned_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"GSDA": 1}))
    assert main(["glyph31", "--tuned", str(path)]) == 2
    assert "must hold {row: {setting: value}}" in capsys.readouterr().err
