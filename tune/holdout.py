"""How much of the source a search keeps off its training, and for whom."""

from collections.abc import Mapping, Sequence
from typing import Any

from gsda.errors import BadInput
from gsda.validators import needs_holdout

SHARE = 0.2


def chosen_share(overrides: Mapping[str, Any], metrics: Sequence[str]) -> float:
    """The share that was asked for; `SHARE` where nobody did and a metric needs one; else 0.

    Raises:
        BadInput: none was asked for, and a metric needs one.
    """
    needy = [metric for metric in metrics if needs_holdout(metric)]
    share = float(overrides.get("holdout", SHARE if needy else 0.0))
    if needy and share == 0:
        raise BadInput(
            f"{needy[0]} judges by labelled images of the source that were not trained on, and "
            f"--holdout is 0: leave it out, or hold out a share such as {SHARE}."
        )
    return share


def check_refit(share: float) -> None:
    """Raises:
    BadInput: there is nothing that a refit would add.
    """
    if share == 0:
        raise BadInput(
            "--refit trains the winner again on all of the source, and all of it is trained on "
            f"already: it belongs to a --holdout, such as {SHARE}."
        )


def describe(overrides: Mapping[str, Any], metrics: Sequence[str], refit: bool) -> str:
    """A sentence on what is held out though nobody asked for it; "" if nothing is."""
    if "holdout" in overrides or chosen_share(overrides, metrics) == 0:
        return ""
    needy = next(metric for metric in metrics if needs_holdout(metric))
    onward = "" if refit else "; --refit would train the winner again on all of it"
    return f"{needy} judges by {SHARE:.0%} of the source, which no trial is trained on{onward}."
