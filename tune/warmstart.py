"""Beginning with what earlier searches know: their trials for the model, their best to be tried.

All of it is read once, when a search begins, and stands in the search's own journal: a resume
needs no other search's folder.

Scores of another task, or of another training, have another level and another spread: BNM on an
easy pair says nothing of BNM on a hard one. TPE reads nothing but the order of scores, so each is
replaced by its rank among those of its own search, between 0 (worst) and 1 (best): whatever is
added to all scores of a search, or stretches them, changes nothing. An earlier search of the very
same training (task, images, settings that are not searched) is ranked together with this one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gsda.errors import BadInput
from gsda.tasks import Task
from tune.group import Group
from tune.history import COMPLETE, PAPER, PRUNED, SEARCHED, History, Trial
from tune.journal import read_events
from tune.kind import check_search
from tune.remote import find_other
from tune.seal import check_origins
from tune.settings import Settings
from tune.shelf import JOURNAL, method_of
from tune.space import Range, inside

OPTION = "--warm-start"
BEST = 3  # settings of each earlier search that are tried among the first
Scores = dict[int, float]  # by step


def read_earlier(task: Task | Group, settings: Settings) -> list[History]:
    """The searches that the settings name, which must be able to tell something.

    Raises:
        BadInput: a name twice; no such search; another dataset, method, metric or space; or no
            trial of it has finished.
    """
    names = settings.warm_start or ()
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"{OPTION} {name} is given twice: leave one out.")
    found = []
    for name in names:
        folder = find_other(settings, name, OPTION)
        history = History.of(read_events(folder / JOURNAL)[0])
        check_search(history.spec, OPTION)
        check_origins(OPTION, [history.spec], settings.unseal)
        _check(history, task, settings)
        found.append(history)
    return found


def _check(history: History, task: Task | Group, settings: Settings) -> None:
    spec, method = history.spec, settings.method
    metric, fields = settings.metric_of(task), settings.chosen_fields
    option = f"{OPTION} {spec['name']}"
    if spec["dataset"] != task.dataset:
        raise BadInput(
            f"{option} is a search of {spec['task']}, and this one is of {task}: "
            "choose a search of the same dataset."
        )
    if method_of(spec) != method:
        raise BadInput(
            f"{option} is a search of {method_of(spec)}, and this one of {method}: "
            "choose a search of the same method."
        )
    if spec["metric"] != metric:
        raise BadInput(
            f"{option} searched by {spec['metric']}, and this one by {metric}: "
            f"add --metric {spec['metric']}, or choose another search."
        )
    if set(spec["search"]) != set(fields):
        raise BadInput(
            f"{option} searched {','.join(spec['search'])}, and this one {','.join(fields)}: "
            f"add --search {','.join(spec['search'])}, or choose another search."
        )
    if not any(trial.state == COMPLETE for trial in _of_space(history)):
        raise BadInput(
            f"{option} has no finished trial yet: finish it with --resume, or leave it out."
        )


def _of_space(history: History) -> list[Trial]:
    """Trials of a searched setting, with a score; those of another stage are none."""
    metric = history.spec["metric"]
    return [
        trial
        for trial in history.trials.values()
        if trial.kind in (PAPER, SEARCHED)
        and trial.state in (COMPLETE, PRUNED)
        and trial.value(metric) is not None
    ]


def describe(
    earlier: Sequence[History], spec: Mapping[str, Any], space: Mapping[str, Range]
) -> dict[str, Any]:
    """What a search of this spec has to know of earlier ones, in plain values for its journal.

    Raises:
        BadInput: no finished setting of a search lies in the space.
    """
    known = [_describe_search(history, spec, space) for history in earlier]
    paper = {name: spec["base"][name] for name in space}  # tried anyway, as a reference trial
    return {"searches": known, "first": _best_settings(known, space, paper)}


def _describe_search(
    history: History, spec: Mapping[str, Any], space: Mapping[str, Range]
) -> dict[str, Any]:
    name, metric = history.spec["name"], history.spec["metric"]
    trials: list[dict[str, Any]] = [
        {
            "trial": trial.number,
            "state": trial.state,
            "values": {name: trial.values[name] for name in space},
            "scores": {str(s): m[metric] for s, m in sorted(trial.reports.items()) if metric in m},
        }
        for trial in _of_space(history)
    ]
    if not any(t["state"] == COMPLETE and inside(t["values"], space) for t in trials):
        raise BadInput(
            f"{OPTION} {name} has no finished trial within the ranges of this search: leave it out."
        )
    return {
        "name": name,
        "uuid": history.uuid,
        "task": history.spec["task"],
        "steps": int(history.spec["base"]["steps"]),
        "comparable": _training(history.spec) == _training(spec),
        "trials": trials,
    }


def _training(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What scores must have in common to be compared; the seed alone makes no other training."""
    left_out = {*spec["search"], "seed"}
    base = {name: value for name, value in spec["base"].items() if name not in left_out}
    return {"task": spec["task"], "digest": spec["digest"], "base": base}


@dataclass(frozen=True)
class Known:
    """A trial as TPE is told of it.

    Attributes:
        scores: ranks by step, steps in proportion to those of this search.
    """

    key: str
    state: str
    values: dict[str, float]
    scores: Scores


def ranked_trials(
    warm: Mapping[str, Any], own: Mapping[int, Trial], metric: str, steps: int
) -> tuple[list[Known], dict[int, Scores]]:
    """Trials of earlier searches, and the ranks of one's own trials by their numbers.

    Args:
        warm: as `describe` gives it. own: trials of this search. steps: of a trial of it.
    """
    comparable = [search for search in warm["searches"] if search["comparable"]]
    curves = [
        {step: m[metric] for step, m in trial.reports.items() if metric in m}
        for trial in own.values()
    ]
    states = [trial.state for trial in own.values()]
    pool = [trial for search in comparable for trial in search["trials"]]
    ranks = rank_curves(
        [*curves, *map(_curve, pool)], [*states, *(trial["state"] for trial in pool)]
    )
    theirs = iter(ranks[len(curves) :])
    known: list[Known] = []
    for search in warm["searches"]:
        trials = search["trials"]
        mine = (
            [next(theirs) for _ in trials]
            if search["comparable"]
            else rank_curves([_curve(t) for t in trials], [t["state"] for t in trials])
        )
        scale = steps / search["steps"]
        known += [
            Known(
                key=f"{search['uuid']}/{trial['trial']:04d}",
                state=trial["state"],
                values=dict(trial["values"]),
                scores={max(1, round(step * scale)): value for step, value in scores.items()},
            )
            for trial, scores in zip(trials, mine, strict=True)
        ]
    return known, dict(zip(own, ranks, strict=False))


def _curve(trial: Mapping[str, Any]) -> Scores:
    return {int(step): value for step, value in trial["scores"].items()}


def rank_curves(curves: Sequence[Scores], states: Sequence[str]) -> list[Scores]:
    """Each score's rank, in [0, 1], among the scores of the same search at the same step.

    The last score of a finished trial is ranked among the last scores of finished trials.
    """
    at_step: dict[int, list[float]] = {}
    for curve in curves:
        for step, value in curve.items():
            at_step.setdefault(step, []).append(value)
    finals = [c[max(c)] for c, state in zip(curves, states, strict=True) if state == COMPLETE and c]
    ranked = []
    for curve, state in zip(curves, states, strict=True):
        ranks = {step: rank(value, at_step[step]) for step, value in curve.items()}
        if state == COMPLETE and curve:
            ranks[max(curve)] = rank(curve[max(curve)], finals)
        ranked.append(ranks)
    return ranked


def rank(value: float, among: Sequence[float]) -> float:
    """The share of `among` that `value`, one of them, is better than; equals count half."""
    below = sum(other < value for other in among)
    equal = sum(other == value for other in among)
    return (below + 0.5 * equal) / len(among)


def _best_settings(
    known: Iterable[dict[str, Any]], space: Mapping[str, Range], paper: Mapping[str, float]
) -> list[dict[str, float]]:
    """The best of each search, then the second of each, and so on; each setting once."""
    orders = []
    for search in known:
        finished = [
            t for t in search["trials"] if t["state"] == COMPLETE and inside(t["values"], space)
        ]
        finished.sort(key=lambda t: (-_last(t["scores"]), t["trial"]))
        orders.append([dict(trial["values"]) for trial in finished if trial["values"] != paper])
    first: list[dict[str, float]] = []
    for place in range(BEST):
        for order in orders:
            if place < len(order) and order[place] not in first:
                first.append(order[place])
    return first


def _last(scores: Mapping[str, float]) -> float:
    return scores[max(scores, key=int)]
