"""The settings around the paper's: grids of alpha and beta, numbers of groups, thresholds tau."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from experiments.cells import Rows
from gsda.config import Config
from gsda.errors import BadInput

ALPHA_BETA, N_GROUPS, TAU = "alpha-beta", "n_groups", "tau"
KINDS = (ALPHA_BETA, N_GROUPS, TAU)


@dataclass(frozen=True)
class Grid:
    """Values that are tried; those of the paper's setting are added where they lack."""

    alpha: Sequence[float] = (0.002, 0.02, 0.1, 0.3)
    beta: Sequence[float] = (0.1, 1.0, 10.0)
    n_groups: Sequence[int] = (1, 2, 4, 8, 15)
    tau: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Panel:
    """One axis of settings: `field` varies, all else is fixed.

    Attributes:
        kind: one of `KINDS`. field: of `Config`.
        settings: by the value of the field, in order.
        title: what is fixed elsewhere than the paper has it, "" if nothing.
        paper: the field's value in the paper's setting; None if that does not lie on this axis.
    """

    kind: str
    field: str
    settings: dict[float, Config]
    title: str = ""
    paper: float | None = None


def panels(kinds: Sequence[str], base: Config, grid: Grid, n_classes: int) -> list[Panel]:
    """The axes of some kinds.

    Raises:
        BadInput: a kind that is none.
    """
    found: list[Panel] = []
    for kind in kinds:
        if kind not in KINDS:
            raise BadInput(f"There is no grid {kind!r}: choose from {', '.join(KINDS)}.")
        if kind == ALPHA_BETA:
            for beta in merge(grid.beta, base.beta):
                around = replace(base, beta=beta)
                values = merge(grid.alpha, base.alpha)
                found.append(_panel(kind, "alpha", values, around, base, f"beta {beta:g}"))
        elif kind == N_GROUPS:
            groups = [b for b in merge(grid.n_groups, base.n_groups) if b <= n_classes]
            found.append(_panel(kind, "n_groups", groups, base, base))
        else:
            found.append(_panel(kind, "tau", merge(grid.tau, base.tau), base, base))
    return found


def _panel(
    kind: str, name: str, values: Sequence[float], around: Config, base: Config, title: str = ""
) -> Panel:
    settings = {v: Config.from_dict(around.to_dict() | {name: v}) for v in values}
    return Panel(kind, name, settings, title, getattr(base, name) if around == base else None)


def merge(values: Sequence[float], paper: float) -> list[float]:
    """In order, the paper's among them."""
    return sorted({*values, paper})


def describe(config: Config) -> str:
    """The title of a setting's row."""
    return (
        f"alpha {config.alpha:g}, beta {config.beta:g}, "
        f"{config.n_groups} groups, tau {config.tau:g}"
    )


def rows_of(found: Sequence[Panel]) -> Rows:
    """The settings of some axes, each once."""
    settings = [config for panel in found for config in panel.settings.values()]
    return {describe(config): config for config in settings}
