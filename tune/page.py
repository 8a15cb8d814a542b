"""The report as one page of HTML that needs no other file and no network."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

from gsda.sealed import ACCURACY, CLASS_MEAN
from tune.findings import Findings, StepPick, setting
from tune.history import COMPLETE, FAILED, OPEN, PRUNED, Trial
from tune.scope import is_group, members, origin_of

CAPTIONS = {
    "history": (
        "The search",
        "The score of each trial in the order of the search. A trial that was stopped early is "
        "shown with the score that it had then.",
    ),
    "parallel": (
        "Settings and score",
        "Each line is a finished trial: its settings, and the score that they led to "
        "(dark low, bright high). Grey lines were stopped early.",
    ),
    "contour": (
        "The score over two settings",
        "Interpolated between the finished trials, over all that was searched; white is where "
        "no trial finished around.",
    ),
    "validators": (
        "What each label-free score knew",
        "Each score against the accuracy on target labels, over the finished trials, with "
        "Spearman's rank correlation. The labels chose nothing here: this shows which scores "
        "could have been trusted.",
    ),
    "steps": (
        "Which step is the model",
        "The run of the chosen model over its steps, and the steps that could have been picked.",
    ),
}
_STATES = {COMPLETE: "finished", PRUNED: "stopped early", FAILED: "failed", OPEN: "unfinished"}
_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 60rem; padding: 2.5rem 1.5rem 4rem; color: #1f2a37;
  background: #fff; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; font-weight: 650; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; font-weight: 650; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
.quiet { color: #5b6675; }
.mark { border-left: 3px solid #d9902f; padding: .3rem 0 .3rem .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { padding: .3rem .8rem .3rem 0; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td.text { text-align: left; }
th { font-weight: 600; border-bottom: 1px solid #9aa4b2; }
td { border-bottom: 1px solid #e3e7ec; }
td.chosen, th.chosen { color: #b3334a; font-weight: 650; }
td.group { padding-top: .9rem; color: #5b6675; border-bottom: 1px solid #9aa4b2; }
.bar { display: inline-block; height: .7rem; background: #00798c; border-radius: 2px; }
img { max-width: 100%; height: auto; display: block; margin: .4rem 0; }
summary { cursor: pointer; margin: 2rem 0 .6rem; font-weight: 650; }
"""


def page(findings: Findings, pictures: Mapping[str, bytes]) -> str:
    """The whole page; `pictures` as `tune.plots.draw` makes them."""
    spec = findings.history.spec
    title = f"{spec['task']}: search {spec['name']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{escape(spec["data_title"])}. {escape(_counted(findings))}.</p>',
        *_how(findings),
        *_compared(findings),
        *_cost(findings),
        _picture("steps", pictures),
        *_mattered(findings),
        *(_picture(name, pictures) for name in ("history", "parallel", "contour")),
        _picture("validators", pictures),
        *_trusted(findings),
        *_every(findings),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _counted(findings: Findings) -> str:
    history = findings.history
    counts = {text: len(history.in_state(state)) for state, text in _STATES.items()}
    told = ", ".join(f"{n} {text}" for text, n in counts.items() if n)
    over = "" if findings.is_over else f"; {history.total} in all, not over yet"
    return f"Trials: {told or 'none yet'}{over}"


def _how(findings: Findings) -> list[str]:
    spec = findings.history.spec
    mean = f"the mean over {len(members(spec))} tasks of " if is_group(spec) else ""
    guided = f"The search was guided by {mean}{findings.metric}"
    if spec.get("origin"):
        guided = f"Nothing was searched here: the setting was found by {origin_of(spec)}"
    picked = "" if findings.rule == findings.metric else f", the winner picked by {findings.rule}"
    if findings.is_unsealed:
        text = f"{guided}{picked}: target labels had a part in choosing (--unseal), so the "
        text += "accuracy of what was chosen is no estimate of what a user would get."
        return [f'<p class="mark">{escape(text)}</p>']
    return [f"<p>{escape(guided + picked)}. No target label was read in choosing.</p>"]


def _compared(findings: Findings) -> list[str]:
    """The trials worth a look, a column each."""
    if not findings.rows:
        return ["<p>No trial has finished yet.</p>"]
    rows = findings.rows
    marks = ["chosen" if row.role == "chosen" else "" for row in rows]
    head = _cells("th", ["", *(row.title for row in rows)], ["", *marks])
    lines = [head, _row("trial", [str(row.trial.number) for row in rows], marks)]
    trials = [row.trial for row in rows]
    for name in findings.fields:
        lines.append(_row(name, [number(setting(t, name)) for t in trials], marks))
    lines.append(_group("label-free scores", len(rows)))
    for name in scores_of(trials):
        lines.append(_row(name, [_score(t.value(name)) for t in trials], marks))
    if findings.has_labels:
        lines.append(_group("by target labels", len(rows)))
        names = {ACCURACY: "accuracy", CLASS_MEAN: "mean per class"}
        for name, title in names.items():
            lines.append(_row(title, [percent(t.value(name)) for t in trials], marks))
    for name, cells in of_tasks(findings):
        lines.append(_row(name, cells, marks) if cells else _group(name, len(rows)))
    return ["<h2>What was chosen</h2>", _table(lines), *_seeds(findings)]


def of_tasks(findings: Findings) -> list[tuple[str, list[str]]]:
    """What each of several tasks came to, a cell for each row of the findings; titles have none."""
    spec = findings.history.spec
    pairs = [task.pair for task, _ in members(spec)] if is_group(spec) else []
    trials = [row.trial for row in findings.rows]
    found: list[tuple[str, list[str]]] = []
    if pairs:
        found.append((f"{findings.metric} of each task", []))
        score = f"/{findings.metric}"
        found += [(pair, [_score(t.value(pair + score)) for t in trials]) for pair in pairs]
    if pairs and findings.has_labels:
        found.append(("accuracy of each task", []))
        score = f"/{ACCURACY}"
        found += [(pair, [percent(t.value(pair + score)) for t in trials]) for pair in pairs]
    return found


def _seeds(findings: Findings) -> list[str]:
    choice = findings.choice
    if choice is None:
        return []
    told = []
    if len(choice.winner.runs) > 1:
        numbers = ", ".join(str(run.number) for run in choice.winner.runs)
        told.append(f"Its setting was trained with {len(choice.winner.runs)} seeds ({numbers}).")
    if choice.model is not choice.picked:
        told.append(f"The model is trial {choice.model.number}, its refit on all of the source.")
    return [f"<p>{' '.join(told)}</p>"] if told else []


def _cost(findings: Findings) -> list[str]:
    parts = []
    if findings.regret is not None:
        text = (
            f"The trial that was chosen is {findings.regret:.1f} points of accuracy below the "
            "finished trial that is best by target labels"
        )
        if findings.class_regret is not None:
            text += f" ({findings.class_regret:.1f} in the mean per class)"
        parts = [
            "<h2>What the choice cost</h2>",
            f'<p class="mark">{text}. A user without target labels cannot see this.</p>',
        ]
    return parts + _step_table(findings)


def _step_table(findings: Findings) -> list[str]:
    if not findings.steps:
        return []
    labels = any(entry.regret is not None for entry in findings.steps)
    head = ["step of the model's run", "step", findings.metric]
    head += ["accuracy", "regret, points"] if labels else []
    lines = [_cells("th", head), *(_step_row(entry, labels) for entry in findings.steps)]
    mean = findings.mean_step_regret
    text = ", ".join(f"{names}: {mean[key]:.1f}" for key, names in MEANT.items() if key in mean)
    more = [f'<p class="quiet">Mean regret over all finished trials, {text}.</p>'] if text else []
    return [_table(lines), *more]


MEANT = {"last": "last step", "best": "best step by the metric"}


def _step_row(entry: StepPick, labels: bool) -> str:
    kept = " (the model)" if entry.kept else ""
    cells = [f"{entry.title}{kept}", str(entry.step), _score(entry.value)]
    cells += [percent(entry.accuracy), number(entry.regret, ".1f")] if labels else []
    return _cells("td", cells, ["", *["chosen" if entry.kept else ""] * (len(cells) - 1)])


def _mattered(findings: Findings) -> list[str]:
    found = findings.importance
    parts = ["<h2>Which settings mattered</h2>"]
    if found.reason:
        return [*parts, f'<p class="quiet">{escape(found.reason)}.</p>']
    parts.append(
        f"<p>Share of each in the variance of {escape(findings.metric)}: fANOVA over "
        f"{found.trials} finished settings{rough(findings)}.</p>"
    )
    lines = [
        f"<tr><td>{escape(name)}</td><td>{100 * share:.0f}%</td>"
        f'<td class="text"><span class="bar" style="width:{18 * share:.2f}rem"></span></td></tr>'
        for name, share in found.shares.items()
    ]
    return [*parts, _table(lines)]


def rough(findings: Findings) -> str:
    """A warning where the settings are few."""
    from tune.findings import ROUGH

    few = 0 < findings.importance.trials < ROUGH
    return f"; rough with fewer than {ROUGH}" if few else ""


def _trusted(findings: Findings) -> list[str]:
    if not findings.judged:
        return []
    head = ["score", "rank correlation", "its pick", "accuracy", "regret, points"]
    lines = [_cells("th", head)]
    for entry in findings.judged:
        cells = [entry.name, number(entry.correlation, "+.2f"), f"trial {entry.pick.number}"]
        cells += [percent(entry.pick.value(ACCURACY)), f"{entry.regret:.1f}"]
        lines.append(_cells("td", cells))
    return [_table(lines)]


def _every(findings: Findings) -> list[str]:
    """All trials, folded away."""
    trials = list(findings.history.trials.values())
    labels = any(ACCURACY in trial.final for trial in trials)
    head = ["trial", "kind", "state", *findings.fields, findings.metric]
    head += ["accuracy"] if labels else []
    lines = [_cells("th", head)]
    for trial in trials:
        lines.append(_cells("td", _every_cells(trial, findings, labels), ["", "text", "text"]))
    table = _table(lines)
    return [f"<details><summary>All {len(trials)} trials</summary>{table}</details>"]


def _every_cells(trial: Trial, findings: Findings, labels: bool) -> list[str]:
    kind = trial.kind if trial.parent is None else f"{trial.kind} of {trial.parent}"
    cells = [str(trial.number), kind, _STATES[trial.state]]
    cells += [number(setting(trial, name)) for name in findings.fields]
    cells.append(_score(trial.value(findings.metric)))
    return cells + ([percent(trial.value(ACCURACY))] if labels else [])


def _picture(name: str, pictures: Mapping[str, bytes]) -> str:
    if name not in pictures:
        return ""
    title, caption = CAPTIONS[name]
    data = base64.b64encode(pictures[name]).decode()
    return (
        f'<h2>{title}</h2>\n<img alt="{title}" src="data:image/png;base64,{data}">\n'
        f'<p class="quiet">{caption}</p>'
    )


def scores_of(trials: Sequence[Trial]) -> list[str]:
    """Label-free scores that any of the trials has."""
    names: dict[str, None] = {}
    for trial in trials:
        names |= dict.fromkeys(name for name in trial.final if name.startswith("val/"))
    return list(names)


def number(value: float | None, form: str = ".4g") -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value:{form}}"


def percent(value: float | None) -> str:
    """``82.3%``, or a dash."""
    return "–" if value is None else f"{100 * value:.1f}%"


def _score(value: float | None) -> str:
    return number(value, ".4f")


def _row(title: str, cells: Sequence[str], marks: Sequence[str]) -> str:
    return _cells("td", [title, *cells], ["", *marks])


def _group(title: str, columns: int) -> str:
    return f'<tr><td class="group" colspan="{columns + 1}">{title}</td></tr>'


def _cells(tag: str, cells: Sequence[str], classes: Sequence[str] = ()) -> str:
    padded = [*classes, *[""] * (len(cells) - len(classes))]
    return (
        "<tr>"
        + "".join(
            f"<{tag}{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>{escape(cell)}</{tag}>"
            for cell, kind in zip(cells, padded, strict=True)
        )
        + "</tr>"
    )


def _table(lines: Sequence[str]) -> str:
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'
