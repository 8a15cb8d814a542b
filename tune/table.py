"""The trials of a search side by side: the best, and what they are measured against."""

from collections.abc import Sequence

from gsda.sealed import ACCURACY
from tune.history import (
    COMPLETE,
    FINETUNED,
    PAPER,
    REFITTED,
    REPEATED,
    SEARCHED,
    SOURCE_ONLY,
    TRANSFERRED,
    History,
    Trial,
)
from tune.scope import origin_of
from tune.space import OF_ADAPTATION

TOP = 5


def table(history: History, metric: str, top: int = TOP) -> list[str]:
    """The best trials, and the references wherever they stand."""
    ranked = rank(history, metric)
    shown = ranked[:top] + [t for t in ranked[top:] if t.kind != SEARCHED]
    fields = history.spec["search"]
    oracle = any(ACCURACY in trial.final for trial in shown)
    head = ["rank", "trial", *fields, metric, *(["target accuracy"] if oracle else []), ""]
    rows = [
        [
            str(ranked.index(trial) + 1),
            str(trial.number),
            *(setting_of(trial, name) for name in fields),
            f"{trial.value(metric):.4f}",
            *([percent(trial.final.get(ACCURACY))] if oracle else []),
            describe_kind(trial, history),
        ]
        for trial in shown
    ]
    return align_right([head, *rows])


def rank(history: History, metric: str) -> list[Trial]:
    """The finished trials, best first; of equals, the oldest."""
    ranked = [t for t in history.in_state(COMPLETE) if t.value(metric) is not None]
    return sorted(ranked, key=lambda t: (-(t.value(metric) or 0.0), t.number))


def describe_kind(trial: Trial, history: History) -> str:
    """What a trial is, if it is not simply one of those that were searched."""
    if trial.kind == SEARCHED:
        return ""
    if trial.kind == SOURCE_ONLY:
        return "source-only, no adaptation"
    if trial.kind == TRANSFERRED:
        return f"the setting of {origin_of(history.spec)}"
    if trial.parent is not None:
        return f"{later_kind(trial)}, was {_parent(trial.parent, history)}"
    if trial.kind != PAPER:  # a cell of a table
        return trial.kind
    as_in_paper = history.spec["as_in_paper"]
    return "the paper's setting" if as_in_paper else "the setting that was given"


def later_kind(trial: Trial) -> str:
    """What a later stage did with the setting of an earlier trial."""
    how = {FINETUNED: "end to end", REPEATED: "again, seed", REFITTED: "on all of the source"}
    seed = f" {trial.config['seed']}" if trial.kind == REPEATED else ""
    return f"trial {trial.parent} {how[trial.kind]}{seed}"


def _parent(number: int, history: History) -> str:
    """What the setting came to before."""
    trial = history.trials[number]
    accuracy = percent(trial.final.get(ACCURACY))
    score = f"{trial.value(history.spec['metric']):.4f}"
    return f"{score} ({accuracy})" if accuracy else score


def setting_of(trial: Trial, name: str) -> str:
    """A searched field of a trial, as a table shows it."""
    unused = trial.kind == SOURCE_ONLY and name in OF_ADAPTATION
    return "-" if unused else f"{trial.values[name]:.4g}"


def percent(value: float | None) -> str:
    """``82.3%``, or nothing."""
    return "" if value is None else f"{100 * value:.1f}%"


def align_right(rows: Sequence[Sequence[str]]) -> list[str]:
    """All columns to the right but the last, which is text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines
