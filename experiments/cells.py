"""Which settings a table is made of: rows by name, for any base setting."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gsda.config import Config, ladder, source_only
from gsda.errors import BadInput
from gsda.methods import METHODS
from gsda.naming import find_benchmark
from tune.sweep import Cell

SOURCE_ONLY, PENALTY = "source-only", "+ Grad Penalty"
Rows = dict[str, Config]


def ablation(base: Config) -> Rows:
    """The paper's Table 1; and a control that only penalises what GSDA synchronises."""
    return ladder(base) | {PENALTY: replace(base, sync="penalty")}


def methods(base: Config) -> Rows:
    """Every method that can be trained on such features; each with its authors' weights."""
    frozen = base.features == "frozen"
    rows = {SOURCE_ONLY: source_only(base)}
    for name, entry in METHODS.items():
        if name not in ("source_only", base.method) and (frozen or not entry.frozen_only):
            rows[entry.title] = replace(base, method=name)
    return rows | {METHODS[base.method].title: base}


def partial(base: Config) -> Rows:
    """For targets of fewer classes: with and without class weights. The third pair's is PADA."""
    rows = {SOURCE_ONLY: source_only(base), "domain level": ladder(base)["Glb"]}
    rows |= {"DANN": replace(base, method="dann"), "GSDA": base}
    return {
        name: config
        for title, plain in rows.items()
        for name, config in (
            (title, plain),
            (f"{title}, weighted", replace(plain, class_weighting="pada")),
        )
    }


ROWS: dict[str, Callable[[Config], Rows]] = {
    "ablation": ablation,
    "methods": methods,
    "partial": partial,
}


def default_rows(dataset: str) -> list[str]:
    """The lists of rows that the paper has for a dataset, or would have.

    Raises:
        BadInput: an unknown dataset.
    """
    return ["partial"] if find_benchmark(dataset).target_classes else ["ablation", "methods"]


def choose_rows(
    names: Sequence[str],
    base: Config,
    only: Sequence[str] = (),
    tuned: Mapping[str, Mapping[str, Any]] | None = None,
) -> Rows:
    """The rows of some lists, each once.

    Args:
        names: keys of `ROWS`.
        only: titles of rows; empty for all.
        tuned: fields of `Config` by title, put into these rows; others are left out if given.

    Raises:
        BadInput: an unknown list or title, or a field that is none.
    """
    for name in names:
        if name not in ROWS:
            raise BadInput(f"There are no rows {name!r}: choose from {', '.join(ROWS)}.")
    rows: Rows = {}
    for name in names:
        rows |= ROWS[name](base)
    for title in (*only, *(tuned or {})):
        if title not in rows:
            raise BadInput(f"There is no row {title!r}: choose from {', '.join(rows)}.")
    if only:
        rows = {title: config for title, config in rows.items() if title in only}
    if tuned is not None:
        rows = {
            title: Config.from_dict(config.to_dict() | dict(tuned[title]))
            for title, config in rows.items()
            if title in tuned
        }
    if not rows:
        raise BadInput("No row is left: none of --only has a setting in --tuned.")
    return rows


def with_seeds(rows: Rows, seeds: Sequence[int]) -> list[tuple[str, int, Cell]]:
    """Each row with each seed, of training and of the division into groups: title, seed, cell."""
    return [
        (title, seed, Cell(f"{title}, seed {seed}", replace(config, seed=seed, group_seed=seed)))
        for seed in seeds
        for title, config in rows.items()
    ]
