"""Settings around the paper's: which there are, that they are run once, what is drawn of them."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from experiments.curves import draw_axes
from experiments.grids import ALPHA_BETA, KINDS, N_GROUPS, TAU, Grid, describe, panels, rows_of
from experiments.results import Result
from experiments.sensitivity import main, render, values_of
from gsda.config import Config
from gsda.errors import BadInput
from gsda.tasks import Task
from gsda.validators import DEFAULT_METRIC

BASE = Config(alpha=0.05, beta=1.0, n_groups=6, tau=0.9, backbone="cnn", weights="none")
GRID = Grid(alpha=(0.01, 0.1), beta=(0.1, 1.0), n_groups=(1, 40), tau=(0.5,))
Capture = pytest.CaptureFixture[str]


def test_the_paper_s_setting_lies_on_every_axis_that_it_can() -> None:
    found = panels(KINDS, BASE, GRID, n_classes=31)
    axes = [(p.kind, p.title, p.field, list(p.settings), p.paper) for p in found]
    assert axes == [
        (ALPHA_BETA, "beta 0.1", "alpha", [0.01, 0.05, 0.1], None),
        (ALPHA_BETA, "beta 1", "alpha", [0.01, 0.05, 0.1], 0.05),
        (N_GROUPS, "", "n_groups", [1, 6], 6),  # 40 groups of 31 classes are none
        (TAU, "", "tau", [0.5, 0.9], 0.9),
    ]
    for panel in found:
        for value, config in panel.settings.items():
            fixed = {"beta": 0.1} if panel.title == "beta 0.1" else {}
            assert config == replace(BASE, **fixed, **{panel.field: value})  # type: ignore[arg-type]


def test_a_setting_on_two_axes_is_run_once() -> None:
    rows = rows_of(panels(KINDS, BASE, GRID, n_classes=31))
    assert len(rows) == 6 + 1 + 1  # the paper's is on three of them
    assert rows[describe(BASE)] == BASE
    with pytest.raises(BadInput, match="There is no grid 'lr': choose from alpha-beta, n_groups"):
        panels(["lr"], BASE, GRID, 31)


def results() -> list[Result]:
    """Two tasks, two seeds, all points of an axis but one."""
    found = []
    for title, alpha in (("0.01", 0.01), ("0.05", 0.05)):
        for pair, level in (("A2W", 0.6), ("A2D", 0.8)):
            for seed in range(2):
                if (title, pair, seed) == ("0.01", "A2D", 1):
                    continue
                metrics = {"oracle/target_accuracy": level + 0.1 * seed, DEFAULT_METRIC: 0.5}
                row = describe(replace(BASE, alpha=alpha))
                found.append(Result(row, Task.parse(f"glyph31/{pair}"), seed, metrics))
    return found


def test_means_over_tasks_need_all_of_them() -> None:
    whole, part = BASE, replace(BASE, alpha=0.01)
    accuracy = "oracle/target_accuracy"
    assert values_of(results(), whole, accuracy) == pytest.approx([0.7, 0.8])
    assert values_of(results(), part, accuracy) == pytest.approx([0.7])
    assert values_of(results(), part, accuracy, "A2W") == pytest.approx([0.6, 0.7])
    assert values_of(results(), replace(BASE, alpha=0.1), accuracy, "A2W") == []


def test_the_table_marks_the_paper_s_setting_and_leaves_gaps() -> None:
    axes = panels([ALPHA_BETA], BASE, replace(GRID, beta=(1.0,)), 31)
    lines = list(render(axes, results()))
    assert lines[0] == f"| | A2W | A2D | mean | {DEFAULT_METRIC} |"
    assert lines[2].startswith("| beta 1, alpha 0.01 | 65.0 ± 7.1 | 80.0 | 70.0 | 0.500 |")
    assert lines[3].startswith(
        "| beta 1, alpha 0.05 (the paper's) | 65.0 ± 7.1 | 85.0 ± 7.1 | 75.0"
    )
    assert lines[4] == "| beta 1, alpha 0.1 |  |  |  |  |"


def test_cells_of_an_earlier_version_leave_a_gap(tmp_path: Path) -> None:
    old = [replace(r, metrics={"oracle/target_accuracy": 0.5}) for r in results()[:4]]
    draw_axes(tmp_path / "a.png", "glyph31", panels([TAU], BASE, GRID, 31), [*old, *results()[4:]])
    draw_axes(tmp_path / "b.png", "glyph31", panels([ALPHA_BETA], BASE, GRID, 31), old)
    assert (tmp_path / "b.png").read_bytes() != (tmp_path / "a.png").read_bytes()


def test_a_picture_has_every_axis(tmp_path: Path) -> None:
    for kind in KINDS:
        axes = panels([kind], BASE, GRID, 31)
        draw_axes(tmp_path / f"{kind}.png", "glyph31", axes, results())
    widths = {}
    for kind in KINDS:
        with Image.open(tmp_path / f"{kind}.png") as picture:
            widths[kind] = picture.width
    assert widths[ALPHA_BETA] > widths[N_GROUPS] == widths[TAU] > 500


@pytest.mark.usefixtures("ray_here")
def test_the_program_from_cells_to_pictures(tmp_path: Path, store: str, capsys: Capture) -> None:
    command = ["glyph31", "--task", "W2D", "--what", "tau", "--tau", "0.3"]
    command += ["--steps", "2", "--evaluate-every", "2", "--batch-size", "4"]
    command += ["--storage", str(tmp_path / "s"), "--tracking-uri", store]
    command += ["--output", str(tmp_path / "o")]
    assert main(command) == 0
    first = capsys.readouterr()
    assert "2 cells, 0 of them recorded, 2 to run" in first.err
    lines = first.out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| tau 0.3", "| tau 0.9 (the paper's)"]
    assert all(" | " in line and line.count("|  |") == 0 for line in lines[2:])
    names = sorted(path.name for path in (tmp_path / "o").iterdir())
    assert names == ["cells.csv", "sensitivity.md", "tau.png"]
    assert main(command) == 0
    second = capsys.readouterr()
    assert "2 cells, 2 of them recorded, 0 to run" in second.err
    assert second.out == first.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--what", "lr"], "There is no grid 'lr'"),
        (["--seeds", "0"], "--seeds is 0"),
        (["--tau", "1.5"], "tau is 1.5, but must be in [0, 1)"),
        (["--task", "A2X"], "Unknown task 'A2X'"),
    ],
)
def test_mistakes(arguments: list[str], sentence: str, tmp_path: Path, capsys: Capture) -> None:
    places = ["--storage", str(tmp_path / "s"), "--output", str(tmp_path / "o")]
    assert main(["glyph31", *places, "--task", "W2D", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
