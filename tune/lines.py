"""The words for what happens in a search: lines of a log, and the block that a terminal shows."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from gsda.collapse import describe_collapse
from gsda.console import clock
from gsda.sealed import ACCURACY
from gsda.tasks import Task
from tune import seal, stages
from tune.choice import Choice, rule_of
from tune.command import search_words
from tune.history import COMPLETE, FAILED, PAPER, SOURCE_ONLY, History, Trial
from tune.kind import is_sweep, onward
from tune.scope import DATASET, is_group, members, origin_of
from tune.shelf import of_method
from tune.standing import STATES, Standing, count, reference
from tune.table import align_right, later_kind, percent, setting_of
from tune.tracked import with_tracking

BAR, SHORT_BAR, NARROW = 20, 8, 60
SHOWN = 4  # of the trials that run, and of those that failed, in the block


def opening(history: History, device: str, at_once: int) -> list[str]:
    """What is about to be run, on what."""
    spec = history.spec
    base = spec["base"]
    lines = [
        f"Search {spec['name']}: {spec['task']}, {spec['data_title']}",
        f"  {_images(spec)}, "
        f"{spec['classes']} classes; backbone {base['backbone']}, {base['steps']} steps of "
        f"{base['batch_size']} + {base['batch_size']} images",
    ]
    if not at_once:
        return [*lines, "  all trials are finished already"]
    ended = len(history.ended)
    begun = f", {ended} of them done before" if ended else ""
    return [
        *lines,
        f"  {history.total} trials ({len(spec['references'])} reference, {spec['trials']} "
        f"searched{_later(history)}{begun}), {at_once} at a time on {device}; "
        f"{_aim(spec)}",
        *([f"  {seal.told(spec)}"] if seal.is_unsealed(spec) else []),
        *(
            f"  begun with {len(known['trials'])} trials of {known['name']}, {known['task']}"
            for known in spec.get("warm", {}).get("searches", ())
        ),
    ]


def _images(spec: dict[str, Any]) -> str:
    if is_group(spec):
        pairs = ", ".join(task.pair for task, _ in members(spec))
        return f"each trial trains {len(members(spec))} tasks ({pairs})"
    n_s, n_t = spec["images"]
    task = Task.parse(spec["task"])
    return f"{n_s} labelled images of {task.source}, {n_t} unlabelled images of {task.target}"


def _aim(spec: dict[str, Any]) -> str:
    if spec.get("origin"):
        return f"with the setting of {origin_of(spec)}"
    mean = "the mean of " if is_group(spec) else ""
    return f"searching {', '.join(spec['search'])}{of_method(spec)} by {mean}{spec['metric']}"


def _later(history: History) -> str:
    return "".join(f", then {s.title(history.spec)}" for s in stages.asked_for(history.spec))


def end_of(trial: Trial, history: History) -> str:
    """How a trial ended."""
    metric = history.spec["metric"]
    value = trial.value(metric)
    score = "" if value is None else f"  {metric} {value:.4f}"
    what = f"reference: {trial.kind}" if trial.is_reference else _setting(trial)
    if trial.parent is not None:
        what = f"{later_kind(trial)}: {what}"
    reason = f": {trial.reason}" if trial.reason else ""
    return f"  trial {trial.number:>3} {STATES[trial.state]:<13}{score}  {what}{reason}"


def collapse_of(trial: Trial, history: History) -> str:
    """A warning, or nothing."""
    return describe_collapse(trial.final, history.spec["classes"]) or ""


def failures(history: History) -> list[str]:
    """What failed, and why."""
    return [
        f"trial {t.number} failed{f', {t.cause}' if t.cause else ''}: {t.reason}"
        for t in history.in_state(FAILED)
    ]


def progress(history: History, standing: Standing, now: float) -> str:
    """How far a search is, in one line."""
    metric, counts = history.spec["metric"], count(history, standing.running)
    best = history.best(metric)
    parts = [f"{len(history.ended)}/{history.total} trials", f"{counts['running']} running"]
    for key in ("stopped_early", "failed"):
        parts += [f"{counts[key]} {key.replace('_', ' ')}"] if counts[key] else []
    if best is not None:
        parts.append(f"best {best.value(metric):.4f} (trial {best.number})")
    return "  " + " | ".join(parts) + left(history, standing, now)


def left(history: History, standing: Standing, now: float) -> str:
    """ ", about 3 min left", or nothing where that cannot be told."""
    seconds = standing.seconds_left(history, now)
    return "" if seconds is None else f", about {clock(seconds)} left"


def block(history: History, standing: Standing, now: float, width: int = 79) -> list[str]:
    """All that matters of a search at this moment, in lines made for so many columns."""
    ended, size = len(history.ended), BAR if width > NARROW else SHORT_BAR
    filled = size * ended // max(1, history.total)
    bar = f"[{'#' * filled}{'.' * (size - filled)}] {ended}/{history.total} trials"
    lines = [
        f"  {bar}{left(history, standing, now)}",
        f"  {counted(history, standing)}",
        "",
        *(cells(history) if is_sweep(history.spec) else _comparison(history, width)),
    ]
    warning = "" if is_sweep(history.spec) else _collapse_of_best(history)
    lines += [f"  {warning}"] if warning else []
    troubles = _troubles(history, standing)
    running = _running(history, standing)
    for part in (running, troubles):
        lines += ["", *part] if part else []
    return lines


def counted(history: History, standing: Standing) -> str:
    """How many trials are in which state, in words."""
    counts = count(history, standing.running)
    states = ("running", "waiting", "finished", "stopped_early", "failed")
    return ", ".join(f"{counts[key]} {key.replace('_', ' ')}" for key in states if counts[key])


def _comparison(history: History, width: int) -> list[str]:
    """The best so far beside the paper's setting and source-only; only columns that fit."""
    spec, metric = history.spec, history.spec["metric"]
    paper = "paper's setting" if spec["as_in_paper"] else "given setting"
    rows = {
        "best so far": history.best(metric),
        paper: reference(history, PAPER),
        "source-only": reference(history, SOURCE_ONLY),
    }
    oracle = any(trial is not None and ACCURACY in trial.final for trial in rows.values())
    fields = spec["search"]
    head = ["", "trial", metric, *(["accuracy"] if oracle else []), *fields]
    body = [_compared(name, trial, metric, fields, oracle) for name, trial in rows.items()]
    first = max(len(name) for name in rows)
    table = [[row[0].ljust(first), *row[1:]] for row in (head, *body)]
    for columns in range(len(head), 2, -1):
        shown = [f"  {line}" for line in align_right([[*row[:columns], ""] for row in table])]
        if max(map(len, shown)) <= width:
            break
    return shown


def cells(history: History) -> list[str]:
    """The cells of a sweep that finished last, with their labels."""
    metric, done = history.spec["metric"], history.in_state(COMPLETE)
    rows = [
        [
            str(trial.number),
            *(["-"] if (value := trial.value(metric)) is None else [f"{value:.4f}"]),
            percent(trial.final.get(ACCURACY)),
            trial.kind,
        ]
        for trial in done[-SHOWN:]
    ]
    head = ["trial", metric, "accuracy", "cell"]
    earlier = [f"  and {len(done) - SHOWN} before them"] if len(done) > SHOWN else []
    return [*(f"  {line}" for line in align_right([head, *rows])), *earlier] if rows else []


def _compared(
    name: str, trial: Trial | None, metric: str, fields: Sequence[str], oracle: bool
) -> list[str]:
    if trial is None:
        return [name, *["-"] * (2 + oracle + len(fields))]
    accuracy = [percent(trial.final.get(ACCURACY))] if oracle else []
    values = [setting_of(trial, field) for field in fields]
    value = trial.value(metric)
    score = "-" if value is None else f"{value:.4f}"
    return [name, str(trial.number), score, *accuracy, *values]


def _collapse_of_best(history: History) -> str:
    best = history.best(history.spec["metric"])
    warning = "" if best is None else collapse_of(best, history)
    return f"trial {best.number}: {warning}" if best is not None and warning else ""


def _running(history: History, standing: Standing) -> list[str]:
    metric = history.spec["metric"]
    trials = [history.trials[number] for number in sorted(standing.running)]
    lines = []
    for trial in trials[:SHOWN]:
        value = trial.value(metric)
        score = "" if value is None else f"   {metric} {value:.4f}"
        label = f"   {trial.kind}" if is_sweep(history.spec) else ""
        step = f"step {max(trial.reports, default=0)} of {trial.steps}"
        lines.append(f"  running  trial {trial.number:>3}   {step}{score}{label}")
    return [*lines, *_rest(len(trials))]


def _troubles(history: History, standing: Standing) -> list[str]:
    put_back = [
        f"  put back trial {n:>3}   {reason}" for n, reason in sorted(standing.faults.items())
    ]
    failed = [f"  {line}" for line in reversed(failures(history))]
    both = [*put_back, *failed]
    return [*both[:SHOWN], *_rest(len(both))]


def _rest(number: int) -> list[str]:
    return [f"  ... and {number - SHOWN} more"] if number > SHOWN else []


def _setting(trial: Trial) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in trial.values.items())


def chosen(choice: Choice | None, spec: Mapping[str, Any]) -> str:
    """Which trial became the model, and by what: the table's order is that of the metric alone."""
    if choice is None:
        return ""
    winner, picked, model = choice.winner, choice.picked, choice.model
    rule, runs = rule_of(spec), len(winner.runs)
    how = f"by {rule}"
    if spec.get("origin"):
        how = f"with the setting of {origin_of(spec)}"
    elif runs > 1:
        how = f"by the mean of {rule} over {runs} seeds"
        if picked is not winner.setting:
            how += f", which are of the setting of trial {winner.setting.number}"
    if model is not picked:
        how += f"; its model is that of trial {model.number}, trained on all of the source"
    return f"Chosen: trial {picked.number}, {how}."


def flush_command(spec: dict[str, Any], options: Sequence[str] = ()) -> str:
    """The command line that delivers what MLflow is owed of a search."""
    return shlex.join(
        [*search_words(), "--name", spec["name"], *with_tracking(options, spec), "--flush"]
    )


def resume_command(spec: dict[str, Any], options: Sequence[str] = ()) -> str:
    """The command line that goes on with a search, or with a sweep."""
    if is_sweep(spec):
        return onward(spec)
    tasks = [str(task) for task, _ in members(spec)]
    scope = ["--scope", DATASET] if is_group(spec) else []
    words = [*search_words(), "--task", *tasks, *scope, "--name", spec["name"]]
    if spec["data"]["root"] is not None:
        words += ["--data", spec["data"]["root"]]
    return shlex.join([*words, *with_tracking(options, spec), "--resume"])
