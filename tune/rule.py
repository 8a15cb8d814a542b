"""What a winner is picked by: one label-free score, or the mean rank over several."""

from collections.abc import Callable, Mapping
from typing import Any

from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS
from gsda.validators import DEFAULT_METRIC, PARTIAL_METRIC, check_metric

MEAN_RANK = "mean-rank"
# Three different ideas: clusters, the source's proportions of the classes, mixtures.
DEFAULT_RANKED = ("val/class_ami", "val/balance", "val/mixval")


def default_metric(dataset: str, overrides: Mapping[str, Any]) -> str:
    """What guides the search of a task of `dataset` unless something else is asked for."""
    known = BENCHMARKS.get(dataset)
    partial = overrides.get("class_weighting") == "pada" or (known and known.target_classes)
    return PARTIAL_METRIC if partial else DEFAULT_METRIC


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
