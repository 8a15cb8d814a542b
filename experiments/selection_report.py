"""The study as tables in Markdown, a CSV file and pictures."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.selection_rules import RULES, Verdict, leave_one_out, ranks
from experiments.selection_study import (
    DEFAULT,
    Studied,
    best_first,
    kept_at_each_step,
    over_steps,
    regrets,
    single_scores,
    within_runs,
)

SHOWN = ("bnm", "mixval", DEFAULT)  # scores in the scatter picture
CLIP = 20.0  # points of regret at the end of the colour scale


def render(studied: Sequence[Studied]) -> Iterator[str]:
    """All tables, line by line."""
    yield from _rules(studied)
    yield ""
    yield from _tasks(studied)
    yield ""
    yield from _within(studied)
    yield ""
    yield from _chosen_elsewhere(studied)


def _datasets(studied: Sequence[Studied]) -> list[str]:
    return list(dict.fromkeys(study.task.dataset for study in studied))


def _rules(studied: Sequence[Studied]) -> Iterator[str]:
    verdicts = [study.verdicts() for study in studied]
    found, datasets = regrets(studied), _datasets(studied)
    yield (
        "| picked by | mean regret | largest | worst quarter | Spearman, mean | lowest | "
        + " | ".join(datasets)
        + " |"
    )
    yield "|---" * (6 + len(datasets)) + "|"
    for name in best_first(found):
        own = [of_task[name] for of_task in verdicts]
        known = [v.spearman for v in own if v.spearman is not None]
        cells = [
            f"**{name}**" if name == DEFAULT else name,
            f"{np.mean([v.regret for v in own]):.2f}",
            f"{max(v.regret for v in own):.1f}",
            f"{sum(v.worst for v in own)} of {len(own)}",
            f"{np.mean(known):.2f}" if known else "",
            f"{min(known):.2f}" if known else "",
        ]
        for dataset in datasets:
            of_it = [r for task, r in found[name].items() if task.startswith(f"{dataset}/")]
            cells.append(f"{np.mean(of_it):.1f}")
        yield "| " + " | ".join(cells) + " |"


def _tasks(studied: Sequence[Studied]) -> Iterator[str]:
    yield (
        f"| task | settings | source-only | paper's setting | worst | median | best | "
        f"picked by {DEFAULT} | picked by bnm | regret of {DEFAULT} | its Spearman |"
    )
    yield "|---" * 11 + "|"
    for study in studied:
        accuracy, verdicts = study.final(), study.verdicts()
        default, bnm = verdicts[DEFAULT], verdicts["bnm"]
        told = "" if default.spearman is None else f"{default.spearman:.2f}"
        lost = f" ({study.lost} lost)" if study.lost else ""
        figures = [
            study.end(0),
            study.end(1),
            accuracy.min(),
            float(np.median(accuracy)),
            accuracy.max(),
            accuracy[default.pick],
            accuracy[bnm.pick],
            default.regret,
        ]
        cells = " | ".join(f"{x:.1f}" for x in figures)
        yield f"| {study.task} | {len(accuracy)}{lost} | {cells} | {told} |"
    ends = [
        [
            study.end(0),
            study.end(1),
            study.final().max(),
            study.final()[study.verdicts()[DEFAULT].pick],
            study.final()[study.verdicts()["bnm"].pick],
        ]
        for study in studied
    ]
    plain, paper, best, default, bnm = np.mean(ends, axis=0)
    yield (
        f"| mean | | {plain:.1f} | {paper:.1f} | | | {best:.1f} | {default:.1f} | {bnm:.1f} | "
        f"{best - default:.2f} | |"
    )


def _within(studied: Sequence[Studied]) -> Iterator[str]:
    yield "| step of a run picked by | mean regret within runs | correlation over the steps |"
    yield "|---|---|---|"
    yield f"| the last step | {within_runs(studied, DEFAULT).last:.2f} | |"
    rows = {name: within_runs(studied, name) for name in kept_at_each_step(studied)}
    for name in sorted(rows, key=lambda n: rows[n].best):
        title = f"**{name}**" if name == DEFAULT else name
        yield f"| {title} | {rows[name].best:.2f} | {rows[name].correlation:.2f} |"
    both = np.mean([over_steps(study, DEFAULT) for study in studied], axis=0)
    last = np.mean([study.verdicts()[DEFAULT].regret for study in studied])
    yield ""
    yield (
        f"Setting and step picked at once by {DEFAULT}: {both[0]:.2f} points below the best step "
        f"of the best setting; setting picked after its last step: {both[1] + last:.2f} below it."
    )


def _chosen_elsewhere(studied: Sequence[Studied]) -> Iterator[str]:
    """The rule chosen on the other datasets, on each."""
    groups = {str(study.task): study.task.dataset for study in studied}
    if len(set(groups.values())) < 2:
        return
    for title, names in (("all rules", list(RULES)), ("scores of one model", single_scores())):
        found = leave_one_out({n: r for n, r in regrets(studied).items() if n in names}, groups)
        told = "; ".join(
            f"{group}: {name}, {points:.2f}" for group, (name, points) in found.items()
        )
        mean = np.mean([found[group][1] for group in groups.values()])
        yield (
            f"Best on the other datasets, of {title}, and its regret here: {told}. "
            f"Mean over all tasks: {mean:.2f}."
        )


def write_csv(studied: Sequence[Studied], path: Path) -> None:
    """A row for each rule and task."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            "rule task spearman regret worst_quarter setting accuracy best settings".split()
        )
        for study in studied:
            accuracy = study.final()
            for name, verdict in study.verdicts().items():
                writer.writerow(_row(study, name, verdict, accuracy))


def _row(study: Studied, name: str, verdict: Verdict, accuracy: Any) -> list[Any]:
    told = "" if verdict.spearman is None else f"{verdict.spearman:.4f}"
    return [
        name,
        str(study.task),
        told,
        f"{verdict.regret:.2f}",
        int(verdict.worst),
        study.random[verdict.pick].number,
        f"{accuracy[verdict.pick]:.2f}",
        f"{accuracy.max():.2f}",
        len(accuracy),
    ]


def draw_regrets(studied: Sequence[Studied], path: Path) -> None:
    """Rules by tasks: a cell is the regret of the rule's pick, in points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = regrets(studied)
    names, tasks = best_first(found), [str(study.task) for study in studied]
    points = np.array([[found[name][task] for task in tasks] for name in names])
    figure = Figure(figsize=(13, 0.36 * len(names) + 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    picture = axes.imshow(points, cmap="YlOrRd", vmin=0, vmax=CLIP, aspect="auto")
    axes.set_xticks(range(len(tasks)), tasks, rotation=40, ha="right", fontsize=8)
    labels = [f"{n}   {row.mean():.1f}" for n, row in zip(names, points, strict=True)]
    axes.set_yticks(range(len(names)), labels, fontsize=8)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name == DEFAULT else "normal")
    axes.tick_params(length=0)
    for row, column in np.ndindex(points.shape):
        dark = "white" if points[row, column] > 0.7 * CLIP else "black"
        text = f"{points[row, column]:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=dark)
    axes.set_title(
        "Points of target accuracy lost by picking a setting with each rule (beside it: mean)",
        fontsize=11,
    )
    figure.colorbar(picture, ax=axes, label="points", extend="max", shrink=0.7)
    figure.savefig(path, dpi=130)


def draw_scores(studied: Sequence[Studied], path: Path) -> None:
    """Rank of the accuracy against rank of a score, all tasks of a dataset in a panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    datasets = _datasets(studied)
    figure = Figure(figsize=(3.1 * len(datasets) + 0.5, 9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(SHOWN), len(datasets), squeeze=False, sharey="col")
    for row, name in enumerate(SHOWN):
        for column, dataset in enumerate(datasets):
            axes = panels[row][column]
            for study in studied:
                if study.task.dataset != dataset:
                    continue
                values, accuracy = study.scores()[name], study.final()
                place = (ranks(values) - 1) / max(len(values) - 1, 1)
                (dots,) = axes.plot(place, accuracy, ".", ms=5, alpha=0.6, label=study.task.pair)
                pick = int(np.argmax(values))
                axes.plot(place[pick], accuracy[pick], "o", mfc="none", ms=9, c=dots.get_color())
            axes.set_title(f"{dataset}: {name}", fontsize=9)
            axes.tick_params(labelsize=7)
            axes.grid(alpha=0.3)
        panels[row][0].set_ylabel("target accuracy, %", fontsize=8)
    for axes, _ in zip(panels[-1], datasets, strict=True):
        axes.set_xlabel("rank of the score (right: what it would pick)", fontsize=8)
        axes.legend(fontsize=6, ncols=2, loc="lower right")
    figure.savefig(path, dpi=120)
