"""The seal on target labels: scores that read them, and who may be chosen by such a score.

Target labels choose nothing, because a user has none. With `--unseal` they may, to see what they
would have chosen; then everything that is recorded says so, and no such model becomes a champion by
itself. Named here without anything heavy, so that a command line can refuse at once; the scores
are made in `gsda.oracle`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gsda.errors import BadInput
from gsda.sealed import ACCURACY, CLASS_MEAN, PREFIX
from gsda.validators import check_metric

OPTION, TAG = "--unseal", "unsealed"


def check_sealed(metric: str) -> str:
    """`metric`, if a choice may rest on it while the labels are sealed.

    Raises:
        BadInput: unknown, or one that reads target labels.
    """
    try:
        return check_metric(metric)
    except BadInput as error:
        if metric not in (ACCURACY, CLASS_MEAN):
            raise
        text = str(error).rstrip(".")
        raise BadInput(
            f"{text}; or, to see what the labels would choose, add {OPTION}, which marks "
            "everything recorded."
        ) from error


def check_unsealed(metric: str) -> str:
    """`metric`, if a choice may rest on it once the seal is broken.

    Raises:
        BadInput: unknown.
    """
    if metric.startswith(PREFIX) and metric not in (ACCURACY, CLASS_MEAN):
        raise BadInput(f"Unknown metric {metric!r}: choose {ACCURACY} or {CLASS_MEAN}.")
    return metric if metric.startswith(PREFIX) else check_metric(metric)


def is_unsealed(spec: Mapping[str, Any]) -> bool:
    """Whether target labels may have had a part in a search of this spec."""
    return bool(spec.get(TAG))


def tags(spec: Mapping[str, Any]) -> dict[str, str]:
    """What everything recorded of a search carries."""
    return {TAG: "true"} if is_unsealed(spec) else {}


def check_origins(option: str, earlier: Sequence[Mapping[str, Any]], unseal: bool) -> None:
    """Refuse to take over unsealed what was chosen by labels: they would have a part in it again.

    Args:
        option: that names the earlier searches. earlier: their specs.

    Raises:
        BadInput: one of them is unsealed, and this search is not.
    """
    for spec in earlier:
        if is_unsealed(spec) and not unseal:
            raise BadInput(
                f"{option} {spec['name']} was searched with {OPTION}, so target labels would have "
                f"a part in this search, too: choose another, or add {OPTION}."
            )


def told(spec: Mapping[str, Any]) -> str:
    """What a reader has to know of how the choice was made."""
    if is_unsealed(spec):
        return f"target labels had a part in choosing: {OPTION}"
    return "no target label was read in choosing"
