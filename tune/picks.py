"""Which step of a trial is its model: a function of its reports, and of nothing else."""

from collections.abc import Callable, Mapping

from gsda.sealed import ACCURACY

LAST, BEST = "last", "best"
Reports = Mapping[int, Mapping[str, float]]  # metrics by step


def last_step(reports: Reports, metric: str) -> int | None:
    """The last step that was reported."""
    return max(reports, default=None)


def best_step(reports: Reports, metric: str) -> int | None:
    """The step with the largest metric; of equals, the earliest."""
    known = [step for step in sorted(reports) if metric in reports[step]]
    return max(known, key=lambda step: reports[step][metric], default=None)


SELECTIONS: dict[str, Callable[[Reports, str], int | None]] = {LAST: last_step, BEST: best_step}


def pick(reports: Reports, metric: str, select: str) -> int | None:
    """The step whose model stands for the trial; None without reports.

    A trial that has no such metric, as a refit has none that judges by a hold-out, is taken as it
    ends.
    """
    found = SELECTIONS[select](reports, metric)
    return last_step(reports, metric) if found is None else found


def all_picks(reports: Reports, metric: str) -> dict[str, int]:
    """The step that each selection picks, and the one that the target's labels would.

    The latter, "oracle", is there to be compared with: it picks no model.
    """
    found = {name: choose(reports, metric) for name, choose in SELECTIONS.items()}
    found["oracle"] = best_step(reports, ACCURACY)
    return {name: step for name, step in found.items() if step is not None}
