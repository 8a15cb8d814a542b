"""A warning about predictions that have gathered on few classes; needs no torch."""

from collections.abc import Mapping

COLLAPSE_SHARE = 0.5


def describe_collapse(metrics: Mapping[str, float], n_classes: int) -> str | None:
    """A sentence if the predictions have collapsed onto few classes, else None."""
    effective = metrics.get("predicted/effective_classes")
    # Between 1, all in one class, and r, evenly spread.
    if effective is None or effective >= 1 + COLLAPSE_SHARE * (n_classes - 1):
        return None
    return (
        f"its predictions on the target spread over about {effective:.1f} of {n_classes} classes "
        "(a collapse, unless the target holds few classes)"
    )
