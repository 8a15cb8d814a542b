"""The pictures of a report: each a function from the findings to a figure, or to None.

Matplotlib's figures alone, without its global state: a search may be drawing in any thread.
"""

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import Triangulation

from gsda.sealed import ACCURACY
from tune.findings import Findings
from tune.history import COMPLETE, PAPER, PRUNED, SEARCHED, Trial
from tune.space import Range, build_space, inside

INK, FAINT, GRID = "#1f2a37", "#9aa4b2", "#e3e7ec"
STOPPED = "#d3d9e0"
TEAL, AMBER, RED = "#00798c", "#d9902f", "#d1495b"
COLOURS = "viridis"
_STYLE: dict[str, Any] = {
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11.5,
    "axes.titleweight": "normal",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "text.parse_math": False,  # names of classes and searches may hold dollars
}
_DOTS: dict[str, Any] = {"edgecolor": "white", "s": 52, "zorder": 4, "clip_on": False}
# Steps that are the same one are rings around each other.
_RINGS = ((TEAL, 17), (AMBER, 12), (RED, 7.5))
_STAR: dict[str, Any] = {
    "marker": "*",
    "color": RED,
    "markersize": 17,
    "markeredgecolor": "white",
    "linestyle": "none",
    "zorder": 6,
    "clip_on": False,
}


def draw(findings: Findings) -> dict[str, bytes]:
    """The pictures that can be drawn of a search, as PNG, by name."""
    pictures = {}
    with rc_context(_STYLE):
        for name, plot in PLOTS.items():
            figure = plot(findings)
            if figure is not None:
                pictures[name] = _png(figure)
    return pictures


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _legend(figure: Figure, axes: Any, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique, loc="outside lower center", ncols=columns)


def _known(findings: Findings, state: str) -> list[tuple[Trial, float]]:
    """Trials in a state that have the metric, with it."""
    found = [(t, t.value(findings.metric)) for t in findings.history.in_state(state)]
    return [(trial, value) for trial, value in found if value is not None]


def _of_setting(findings: Findings, state: str) -> list[tuple[Trial, float]]:
    """The same of those whose setting is one of the search space."""
    space = _space(findings)
    return [
        (trial, value)
        for trial, value in _known(findings, state)
        if trial.kind in (PAPER, SEARCHED) and inside(trial.values, space)
    ]


def _space(findings: Findings) -> dict[str, Range]:
    spec = findings.history.spec
    return build_space(spec["search"], spec["classes"])


def _chosen(findings: Findings) -> Trial | None:
    return None if findings.choice is None else findings.choice.picked


def history(findings: Findings) -> Figure | None:
    """The score of each trial in the order of the search, and the best so far."""
    finished, stopped = _known(findings, COMPLETE), _known(findings, PRUNED)
    if not finished:
        return None
    figure = _figure(8, 4.2)
    axes = figure.add_subplot()
    _references(axes, findings)
    if stopped:
        numbers = [trial.number for trial, _ in stopped]
        values = [value for _, value in stopped]
        axes.plot(numbers, values, "o", mfc="none", mec=FAINT, label="stopped early, at that time")
    numbers = [trial.number for trial, _ in finished]
    values = [value for _, value in finished]
    last = max(findings.history.trials)
    best = np.maximum.accumulate(values)
    axes.step([*numbers, last], [*best, best[-1]], where="post", color=INK, label="best so far")
    axes.plot(numbers, values, "o", color=INK, label="finished")
    chosen = _chosen(findings)
    value = None if chosen is None else chosen.value(findings.metric)
    if chosen is not None and value is not None:
        axes.plot([chosen.number], [value], label="chosen", **_STAR)
    axes.set_xlabel("trial")
    axes.set_ylabel(findings.metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.09)
    axes.grid(axis="y")
    _legend(figure, axes, 3)
    return figure


def _references(axes: Any, findings: Findings) -> None:
    colours = {"paper": TEAL, "source-only": AMBER}
    for row in findings.rows:
        value = row.trial.value(findings.metric)
        if row.role in colours and value is not None:
            axes.axhline(value, color=colours[row.role], ls="--", lw=1.3, label=row.title)


def parallel(findings: Findings) -> Figure | None:
    """Each setting as a line over the axes of the searched fields, in the colour of its score."""
    finished = _of_setting(findings, COMPLETE)
    if len(finished) < 2:
        return None
    space = _space(findings)
    low, high = min(v for _, v in finished), max(v for _, v in finished)
    score = Range(low, high if high > low else low + 1e-9)
    names = [*space, findings.metric]
    spans = [*space.values(), score]
    figure = _figure(max(6.5, 1.9 * len(names)), 4.6)
    axes = figure.add_subplot()
    _axes_of(axes, names, spans)
    for trial, _ in _of_setting(findings, PRUNED):
        heights = [_height(trial.values[n], space[n]) for n in space]
        axes.plot(
            range(len(space)), heights, color=STOPPED, lw=1.1, zorder=1, label="stopped early"
        )
    colours = _colours()
    chosen = _chosen(findings)
    for trial, value in sorted(finished, key=lambda entry: entry[1]):
        heights = [*(_height(trial.values[n], space[n]) for n in space), _height(value, score)]
        mine = chosen is not None and trial.number == chosen.number
        style: dict[str, Any] = {"color": RED, "lw": 3.2, "zorder": 4, "label": "chosen"}
        plain: dict[str, Any] = {"color": colours(heights[-1]), "lw": 1.6, "zorder": 3}
        axes.plot(range(len(names)), heights, **(style if mine else plain))
    if axes.get_legend_handles_labels()[0]:
        _legend(figure, axes, 2)
    return figure


def _colours() -> Any:
    from matplotlib import colormaps

    return colormaps[COLOURS]


def _axes_of(axes: Any, names: Sequence[str], spans: Sequence[Range]) -> None:
    """Upright axes from the low end of each range to the high one."""
    axes.set_axis_off()
    axes.set_xlim(-0.35, len(names) - 0.45)
    axes.set_ylim(-0.06, 1.16)
    for position, (name, span) in enumerate(zip(names, spans, strict=True)):
        axes.plot([position, position], [0, 1], color=FAINT, lw=1.2, zorder=2)
        axes.text(position, 1.08, name, ha="center", va="bottom", fontsize=11.5)
        for height in (0.0, 0.5, 1.0):
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.2}
            text = f"{_at(height, span):.3g}"
            axes.text(position + 0.05, height, text, va="center", fontsize=9, bbox=box, zorder=5)


def _height(value: float, span: Range) -> float:
    """Where in a range a value lies, from 0 to 1."""
    low, high, at = (_scaled(v, span) for v in (span.low, span.high, value))
    return 0.5 if high == low else (at - low) / (high - low)


def _at(height: float, span: Range) -> float:
    """Undo `_height`."""
    low, high = _scaled(span.low, span), _scaled(span.high, span)
    value = low + height * (high - low)
    return float(10**value if span.log else value)


def _scaled(value: float, span: Range) -> float:
    return float(np.log10(value)) if span.log else float(value)


def contour(findings: Findings) -> Figure | None:
    """The score over alpha and beta, interpolated between the finished settings.

    Where these two are not searched: over the two fields that matter most.
    """
    finished = _of_setting(findings, COMPLETE)
    pair = _pair(findings)
    if pair is None or not finished:
        return None
    space = _space(findings)
    x, y = ([t.values[name] for t, _ in finished] for name in pair)
    z = [value for _, value in finished]
    figure = _figure(6.8, 5)
    axes = figure.add_subplot()
    shades = Normalize(min(z), max(z) if max(z) > min(z) else min(z) + 1e-9)
    points_x, points_y = (_heights(v, space[n]) for v, n in zip((x, y), pair, strict=True))
    _surface(axes, points_x, points_y, z, shades)
    stopped = _of_setting(findings, PRUNED)
    spots = [[_height(t.values[n], space[n]) for t, _ in stopped] for n in pair]
    axes.plot(*spots, "o", mfc="none", mec=FAINT, ms=6, ls="none", label="stopped early")
    dots = axes.scatter(points_x, points_y, c=z, norm=shades, cmap=COLOURS, **_DOTS)
    for trial, style, title in _marked(findings):
        spot = [[_height(trial.values[n], space[n])] for n in pair]
        axes.plot(*spot, label=title, **style)
    _scales(axes, pair, space)
    figure.colorbar(dots, ax=axes, label=findings.metric, pad=0.03)
    _legend(figure, axes, 3)
    return figure


def _pair(findings: Findings) -> tuple[str, str] | None:
    fields, shares = findings.fields, findings.importance.shares
    if {"alpha", "beta"} <= set(fields):
        return "alpha", "beta"
    ranked = sorted(fields, key=lambda name: -shares.get(name, 0.0))
    return (ranked[0], ranked[1]) if len(ranked) > 1 else None


def _heights(values: Sequence[float], span: Range) -> list[float]:
    return [_height(value, span) for value in values]


def _surface(
    axes: Any, x: Sequence[float], y: Sequence[float], z: Sequence[float], norm: Any
) -> None:
    """Level areas between the points, as far as triangles can be put between them."""
    try:
        triangles = Triangulation(x, y)
        levels = np.linspace(norm.vmin, norm.vmax, 12)
        axes.tricontourf(triangles, z, levels=levels, cmap=COLOURS, norm=norm, alpha=0.55)
    except (RuntimeError, ValueError):
        return  # fewer than three points, or all on a line


def _marked(findings: Findings) -> list[tuple[Trial, dict[str, Any], str]]:
    """The paper's setting and the chosen one, as far as they lie in the space."""
    space = _space(findings)
    cross = {"marker": "P", "color": TEAL, "markersize": 13, "markeredgecolor": "white"}
    cross |= {"linestyle": "none", "zorder": 5, "clip_on": False}
    rows = [(row.trial, cross, row.title) for row in findings.rows if row.role == PAPER]
    chosen = _chosen(findings)
    if chosen is not None and chosen.kind in (PAPER, SEARCHED):
        rows.append((chosen, _STAR, "chosen"))
    return [entry for entry in rows if inside(entry[0].values, space)]


def _scales(axes: Any, pair: Sequence[str], space: dict[str, Range]) -> None:
    """Both axes over the whole of what was searched; labels in the fields' own numbers."""
    for name, axis in zip(pair, (axes.xaxis, axes.yaxis), strict=True):
        ticks = _ticks(space[name])
        axis.set_ticks([_height(tick, space[name]) for tick in ticks], [f"{t:g}" for t in ticks])
        axis.set_label_text(name)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)


def _ticks(span: Range) -> list[float]:
    if not span.log:
        ticks = np.linspace(span.low, span.high, 5)
        return sorted({float(round(t) if span.integer else round(t, 3)) for t in ticks})
    exponents = range(int(np.floor(np.log10(span.low))), int(np.ceil(np.log10(span.high))) + 1)
    every = [10.0**e * d for e in exponents for d in (1, 3)]
    return [round(tick, 10) for tick in every if span.low <= tick * 1.0001 <= span.high * 1.0002]


def validators(findings: Findings) -> Figure | None:
    """Each label-free score against the accuracy: which of them could have been trusted."""
    if not findings.judged:
        return None
    n = len(findings.judged)
    columns = min(n, 3 if n <= 6 else 4)
    rows = -(-n // columns)
    figure = _figure(2.7 * columns + 0.4, 2.5 * rows + 0.6)
    trials = [t for t in findings.history.in_state(COMPLETE) if t.value(ACCURACY) is not None]
    first = None
    for place, judged in enumerate(findings.judged):
        axes = figure.add_subplot(rows, columns, place + 1, sharey=first)
        first = first or axes
        known = "" if judged.correlation is None else f", {judged.correlation:+.2f}"
        axes.set_title(f"{judged.name}{known}", fontsize=10)
        _scatter(axes, trials, judged.name, findings)
        axes.tick_params(labelsize=8.5)
        axes.tick_params(labelleft=place % columns == 0)
    figure.supylabel("target accuracy, %", fontsize=10.5)
    assert first is not None
    _legend(figure, first, 4)
    return figure


def _scatter(axes: Any, trials: Sequence[Trial], name: str, findings: Findings) -> None:
    roles = {row.trial.number: row for row in findings.rows if row.role in (PAPER, "source-only")}
    colours = {PAPER: TEAL, "source-only": AMBER}
    for trial in trials:
        row = roles.get(trial.number)
        colour, title = (INK, "trial") if row is None else (colours[row.role], row.title)
        order = 2 if row is None else 3
        spot = [trial.final[name]], [100 * trial.final[ACCURACY]]
        axes.plot(*spot, "o", color=colour, ms=5, alpha=0.85, label=title, zorder=order)
    chosen = _chosen(findings)
    if chosen is not None and name in chosen.final and ACCURACY in chosen.final:
        spot = [chosen.final[name]], [100 * chosen.final[ACCURACY]]
        axes.plot(*spot, label="chosen", **(_STAR | {"markersize": 13}))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.margins(0.1)
    axes.grid()


def steps(findings: Findings) -> Figure | None:
    """The model's run over its steps: the score, the accuracy, and the steps that were picked."""
    if findings.choice is None or len(findings.choice.model.reports) < 2:
        return None
    trial = findings.choice.model
    curves = [(findings.metric, 1.0)]
    if any(ACCURACY in metrics for metrics in trial.reports.values()):
        curves.append((ACCURACY, 100.0))
    figure = _figure(8, 2.0 * len(curves) + 0.9)
    panels = figure.subplots(len(curves), sharex=True, squeeze=False)[:, 0]
    for axes, (name, factor) in zip(panels, curves, strict=True):
        known = [s for s in sorted(trial.reports) if name in trial.reports[s]]
        values = [factor * trial.reports[step][name] for step in known]
        axes.plot(known, values, "o-", color=INK, ms=4)
        axes.set_ylabel("target accuracy, %" if factor > 1 else name)
        axes.grid(axis="y")
        for entry, (colour, size) in zip(findings.steps, _RINGS, strict=False):
            if entry.step in known:
                ring = {"mfc": "none", "mec": colour, "ms": size, "mew": 2.2, "ls": "none"}
                spot = [entry.step], [factor * trial.reports[entry.step][name]]
                axes.plot(*spot, "o", label=entry.title, clip_on=False, **ring)
    panels[-1].set_xlabel(f"step of trial {trial.number}")
    _legend(figure, panels[0], 3)
    return figure


PLOTS: dict[str, Callable[[Findings], Figure | None]] = {
    "history": history,
    "parallel": parallel,
    "contour": contour,
    "validators": validators,
    "steps": steps,
}
