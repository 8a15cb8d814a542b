"""What the programs about cells have in common on their command lines: data, training, machines."""

import argparse
from pathlib import Path
from typing import Any

from gsda.tasks import BENCHMARKS
from tune.settings import Settings

_OVERRIDES = "features steps evaluate_every batch_size".split()
_SETTINGS = "dataset data backbone weights device cpus_per_trial gpus_per_trial address".split()


def build_common(program: str, description: str | None) -> argparse.ArgumentParser:
    """A parser that knows how cells are trained, where, and where they are recorded."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("dataset", help=", ".join(BENCHMARKS))
    parser.add_argument("--data", type=Path, help="folder of the domains")
    parser.add_argument("--backbone")
    parser.add_argument("--weights")
    parser.add_argument("--features", help="trained, or frozen")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--evaluate-every", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device")
    parser.add_argument("--cpus-per-trial", type=float)
    parser.add_argument("--gpus-per-trial", type=float)
    parser.add_argument("--address", help="Ray cluster to join")
    parser.add_argument("--storage", type=Path, help="folder of the journals (searches)")
    parser.add_argument("--tracking-uri", help="MLflow's address; default: ./mlflow.db")
    return parser


def add_sweep_options(parser: argparse.ArgumentParser) -> None:
    """What concerns cells that are recorded already, or not yet."""
    parser.add_argument("--dry-run", action="store_true", help="say what is missing, and how long")
    parser.add_argument("--retry", action="store_true", help="run all cells that failed once more")


def read_settings(options: Any, **more: Any) -> Settings:
    """The same options, as a search has them; `more` are further ones of `Settings`.

    Raises:
        BadInput: whatever is wrong with them.
    """
    given = {name: getattr(options, name) for name in [*_SETTINGS, "tracking_uri"]}
    if options.storage is not None:
        given["storage"] = options.storage
    overrides = {name: v for name in _OVERRIDES if (v := getattr(options, name)) is not None}
    return Settings(**(given | more), overrides=overrides)
