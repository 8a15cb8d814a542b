"""Which fields of `Config` can be searched, and over which range."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gsda.errors import BadInput

# The four of the method itself.
DEFAULT_FIELDS = ("alpha", "beta", "n_groups", "tau")
# What means nothing where nothing is adapted, and the same whatever is trained, and how.
OF_ADAPTATION = (*DEFAULT_FIELDS, "lambda_max")


@dataclass(frozen=True)
class Range:
    """An interval of a numeric setting, ends included.

    Attributes:
        log: drawn uniformly in its logarithm.
        integer: whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


# The paper's values (alpha 0.02 and 0.2, beta 1 and 10) lie in these. alpha ends at the largest of
# them: it minimises the entropy that label-free scores read, so beyond it they rise with alpha
# while the accuracy falls; the default score less so, and not at all in short runs
# (docs/selection.md).
_FIXED: dict[str, Range] = {
    "alpha": Range(1e-3, 0.2, log=True),
    "beta": Range(0.03, 30.0, log=True),
    "tau": Range(0.5, 0.99),
    "lambda_max": Range(0.03, 2.0, log=True),
    "lr": Range(1e-3, 0.1, log=True),
    "backbone_lr": Range(0.01, 1.0, log=True),
    "weight_decay": Range(1e-5, 1e-2, log=True),
}

SEARCHABLE = (*DEFAULT_FIELDS, *(name for name in _FIXED if name not in DEFAULT_FIELDS))


def n_groups_range(n_classes: int) -> Range:
    """From a single group (the domain again) to groups of two classes."""
    return Range(1, max(1, n_classes // 2), integer=True)


def build_space(fields: Sequence[str], n_classes: int) -> dict[str, Range]:
    """Ranges of the fields to search, for data with `n_classes` classes.

    Raises:
        BadInput: an unknown field, none, or one that is named twice.
    """
    if not fields or len(set(fields)) != len(fields):
        raise BadInput(f"--search needs distinct fields: choose from {', '.join(SEARCHABLE)}.")
    for name in fields:
        if name not in SEARCHABLE:
            raise BadInput(f"{name!r} cannot be searched: choose from {', '.join(SEARCHABLE)}.")
    ranges = _FIXED | {"n_groups": n_groups_range(n_classes)}
    return {name: ranges[name] for name in fields}


def inside(values: Mapping[str, float], space: Mapping[str, Range]) -> bool:
    """Whether a setting has every searched field, within its range."""
    return all(name in values and values[name] in span for name, span in space.items())
