"""Pictures of curves: a line for each task, its spread over seeds, the paper's setting marked."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.grids import Panel, describe
from experiments.results import Result
from gsda.sealed import ACCURACY
from gsda.validators import DEFAULT_METRIC

# Told apart by people who see colours differently, too (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
MARKS = "osD^vP*X"
NAMES = {"alpha": "α", "beta": "β", "n_groups": "number of groups", "tau": "τ"}
LOGARITHMIC = ("alpha", "beta", "n_groups")


def new_figure(width: float, height: float) -> Any:
    """An empty figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Any) -> None:
    """A calm frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=3)


def draw_axes(path: Path, dataset: str, panels: Sequence[Panel], results: Sequence[Result]) -> None:
    """Accuracy above, the label-free score below; a column for each panel.

    Raises:
        OSError: the file cannot be written.
    """
    n = len(panels)
    figure = new_figure(max(5.2, 3.1 * n + 1.2), 5.6)
    grid = figure.subplots(2, n, sharex="col", sharey="row", squeeze=False)
    tasks = list(dict.fromkeys(result.task.pair for result in results))
    for column, panel in enumerate(panels):
        for row, (metric, scale) in enumerate(((ACCURACY, 100.0), (DEFAULT_METRIC, 1.0))):
            axes = grid[row][column]
            for number, task in enumerate(tasks):
                mine = [r for r in results if r.task.pair == task]
                _draw_line(axes, panel, mine, metric, scale, number, task)
            if panel.paper is not None:
                axes.axvline(panel.paper, color="#666666", linestyle=(0, (4, 3)), linewidth=1)
            tidy(axes)
        grid[0][column].set_title(panel.title.replace("beta", "β"), fontsize=10)
        _label_values(grid[1][column], panel)
    grid[0][0].set_ylabel("accuracy on the target, %")
    grid[1][0].set_ylabel(f"{DEFAULT_METRIC} (no labels)")
    seeds = len({result.seed for result in results})
    what = "line: mean, band: smallest to largest" if seeds > 1 else "one seed"
    figure.suptitle(
        f"{dataset}:{' ' if n > 1 else chr(10)}"  # a narrow picture has no room for one line
        f"{NAMES[panels[0].field]} around the paper's setting (dashed)\n"
        f"{seeds} seed{'s' * (seeds > 1)}; {what}",
        fontsize=11,
    )
    handles, names = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False)
    figure.savefig(path, dpi=130)


def _draw_line(
    axes: Any,
    panel: Panel,
    results: Sequence[Result],
    metric: str,
    scale: float,
    number: int,
    name: str,
) -> None:
    points = []
    for value, config in panel.settings.items():
        title = describe(config)
        mine = [r for r in results if r.row == title]
        found = [scale * r.metrics[metric] for r in mine if metric in r.metrics]
        if found:
            points.append((value, statistics.fmean(found), min(found), max(found)))
        elif mine:  # recorded by an earlier version, without today's score: a gap
            points.append((value, *3 * (math.nan,)))
    if not points:
        return
    x, middle, low, high = zip(*points, strict=True)
    colour = COLOURS[number % len(COLOURS)]
    mark = MARKS[number % len(MARKS)]
    axes.plot(x, middle, color=colour, marker=mark, markersize=4.5, linewidth=1.4, label=name)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _label_values(axes: Any, panel: Panel) -> None:
    values = list(panel.settings)
    if panel.field in LOGARITHMIC:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values], rotation=0, fontsize=8)
    axes.minorticks_off()
    axes.set_xlabel(NAMES[panel.field])
