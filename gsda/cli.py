"""`python -m gsda`: what one does with a model once a search has made it."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from gsda.cli_data import add_data_commands
from gsda.cli_train import add_train_command
from gsda.errors import BadInput
from gsda.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (0 done, 1 data is missing, 2 bad use)."""
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except BadInput as error:
        print(f"gsda: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without all that could have been right."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"gsda: {message[:1].upper()}{message[1:]}: see {self.prog} --help.\n")


def build_parser() -> argparse.ArgumentParser:
    """All commands."""
    parser = Parser(prog="gsda", description=__doc__)
    parser.add_argument("--version", action="version", version=f"gsda {__version__}")
    commands = parser.add_subparsers(title="commands", required=True)
    predict = commands.add_parser("predict", help="classes of images, as CSV or Parquet")
    predict.add_argument("model", metavar="MODEL", help="models:/NAME@champion, or a folder")
    predict.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="images, or folders")
    predict.add_argument(
        "--output", type=Path, help="file.csv or file.parquet; default: CSV on standard output"
    )
    predict.add_argument("--tracking-uri", help="of MLflow; default: ./mlflow.db")
    predict.add_argument(
        "--skip-bad-images", action="store_true", help="leave out unreadable files, and name them"
    )
    predict.set_defaults(run=_predict)
    add_train_command(commands)
    add_data_commands(commands)
    return parser


def _predict(options: Any) -> int:
    if options.output is not None and options.output.suffix not in (".csv", ".parquet"):
        raise BadInput(f"--output is {options.output}: name a .csv or a .parquet file.")
    from gsda.predict import find_model, predict_files, write_table

    predictor = find_model(options.model, options.tracking_uri)
    table, bad = predict_files(predictor, options.paths, options.skip_bad_images)
    write_table(table, options.output)
    for sentence in bad:
        print(f"gsda: skipped: {sentence}", file=sys.stderr)
    return 0
