"""What a winner is picked by: one label-free score, or the mean rank over several."""

from collections.abc import Callable

from gsda.errors import BadInput
from gsda.validators import check_metric

MEAN_RANK = "mean-rank"
# Spread and certainty of the predictions, and both at once.
DEFAULT_RANKED = ("val/bnm", "val/im", "val/diversity")


def metrics_of(rule: str) -> list[str]:
    """``mean-rank:bnm,im`` -> val/bnm and val/im; ``mean-rank`` -> the default; or one score."""
    name, _, listed = rule.partition(":")
    if name != MEAN_RANK:
        return [rule]
    names = [part.strip() for part in listed.split(",") if part.strip()]
    return [n if "/" in n else f"val/{n}" for n in names] or list(DEFAULT_RANKED)


def check_rule(rule: str, check: Callable[[str], str] = check_metric) -> str:
    """`rule`, if a winner may be picked by it.

    Args:
        check: refuses a metric that a choice must not rest on.

    Raises:
        BadInput: an unknown metric, one that reads target labels, or one that is named twice.
    """
    metrics = [check(metric) for metric in metrics_of(rule)]
    if len(set(metrics)) < len(metrics):
        raise BadInput(f"--pick is {rule}: name each score once.")
    return rule


def check_guide(metric: str) -> str:
    """`metric`, if it can guide a search.

    Raises:
        BadInput: it is a mean rank.
    """
    if metric.partition(":")[0] == MEAN_RANK:
        raise BadInput(
            f"--metric is {metric}, but a rank shifts as trials arrive, so it cannot guide a "
            f"search: leave it to --pick {metric}, which picks the winner among finished trials."
        )
    return metric
