"""The report's pictures."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.curves import COLOURS, new_figure, tidy
from experiments.distances import neighbours_map, principal_components, some
from experiments.looks import Look

SOURCE, TARGET, WRONG = "#0072b2", "#e69f00", "#c1272d"
MOST = 600  # points of each domain: more hide one another
LEVELS = {"dom": "domain", "grp": "groups", "cls": "classes"}


def to_png(figure: Any, dpi: int = 130) -> bytes:
    """The figure as a file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    """A picture that stands in the page itself."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def draw_features(look: Look) -> Any:
    """Source and target features by PCA and by t-SNE; wrong target images are crossed."""
    chosen_s, chosen_t = some(len(look.f_s), MOST), some(len(look.f_t), MOST)
    f = np.concatenate([look.f_s[chosen_s], look.f_t[chosen_t]])
    n_s = len(chosen_s)
    pca, shares = principal_components(f)
    figure = new_figure(9.4, 4.5)
    left, right = figure.subplots(1, 2)
    hits = None if look.right is None else look.right[chosen_t]
    _scatter(left, pca, n_s, hits)
    _scatter(right, neighbours_map(f), n_s, hits)
    left.set_title(f"PCA ({100 * sum(shares):.0f}% of the variance)", fontsize=10)
    right.set_title("t-SNE (neighbours are kept, distances are not)", fontsize=10)
    handles, names = left.get_legend_handles_labels()
    place = {"loc": "outside lower center", "ncols": 3, "frameon": False}
    figure.legend(handles, names, markerscale=2.2, **place)
    return figure


def _scatter(axes: Any, points: Any, n_s: int, hits: Any) -> None:
    s, t = points[:n_s], points[n_s:]
    good = np.ones(len(t), dtype=bool) if hits is None else hits
    axes.scatter(*s.T, s=9, color=SOURCE, alpha=0.45, linewidths=0, label="source")
    known = "target" if hits is None else "target, right"
    axes.scatter(*t[good].T, s=9, color=TARGET, alpha=0.75, linewidths=0, label=known)
    if hits is not None:
        style = {"marker": "x", "s": 14, "linewidths": 0.9, "color": WRONG}
        axes.scatter(*t[~good].T, label="target, wrong", **style)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_color("#cccccc")


def draw_classes(before: Look, after: Look) -> Any:
    """A-distance and accuracy of each class, before and after, the largest change on top."""
    names = [name for name in before.accuracy if name in after.accuracy]
    names.sort(key=lambda n: after.accuracy[n] - before.accuracy[n])
    figure = new_figure(9.4, 1.6 + 0.23 * max(len(names), 4))
    left, right = figure.subplots(1, 2, sharey=True)
    _dumbbells(left, names, before.of_class, after.of_class, 1.0)
    _dumbbells(right, names, before.accuracy, after.accuracy, 100.0)
    left.set_yticks(range(len(names)), [n.replace("$", r"\$")[:22] for n in names], fontsize=8)
    left.set_xlabel("A-distance: 0 is one cloud, 2 is two")
    right.set_xlabel("accuracy on the target, %")
    left.set_xlim(-0.05, 2.05)
    handles, _ = right.get_legend_handles_labels()
    titles = [before.title, after.title]
    figure.legend(handles, titles, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _dumbbells(
    axes: Any,
    names: Sequence[str],
    before: Mapping[str, float],
    after: Mapping[str, float],
    scale: float,
) -> None:
    there = [(y, n) for y, n in enumerate(names) if n in before and n in after]
    y = [place for place, _ in there]
    old = [scale * before[n] for _, n in there]
    new = [scale * after[n] for _, n in there]
    axes.hlines(y, old, new, color="#bbbbbb", linewidth=1.5, zorder=1)
    axes.scatter(old, y, s=22, facecolors="white", edgecolors="#555555", label="before", zorder=2)
    axes.scatter(new, y, s=22, color=COLOURS[2], label="after", zorder=3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)


def draw_magnitudes(looks: Sequence[Look]) -> Any:
    """The gradient magnitudes of the three levels over training, a panel for each model."""
    figure = new_figure(max(9.4, 4.7 * len(looks)), 3.5)
    panels = figure.subplots(1, len(looks), sharey=True, squeeze=False)[0]
    for axes, look in zip(panels, looks, strict=True):
        for number, (level, name) in enumerate(LEVELS.items()):
            steps, values = look.course.line(f"magnitude/D_{level}")
            if steps:
                style = {"color": COLOURS[number], "marker": "os^"[number], "markersize": 3.5}
                axes.plot(steps, values, label=name, linewidth=1.4, **style)
        tidy(axes)
        axes.set_title(look.title, fontsize=10)
        axes.set_xlabel("step")
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("gradient magnitude")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_courses(looks: Sequence[Look], metrics: Mapping[str, str]) -> Any:
    """Metrics in per cent over training, a panel for each, a line for each model.

    Args:
        metrics: what is written above a panel, by metric.
    """
    figure = new_figure(max(9.4, 3.3 * len(metrics)), 3.4)
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, (metric, title) in zip(panels, metrics.items(), strict=True):
        for number, look in enumerate(looks):
            steps, values = look.course.line(metric)
            if steps:
                shown = [100 * value for value in values]
                axes.plot(steps, shown, color=COLOURS[number], label=look.title, linewidth=1.5)
        tidy(axes)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.set_ylim(0, 102)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return figure
