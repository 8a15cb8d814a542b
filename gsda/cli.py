"""`python -m gsda`: train, predict, evaluate, export, and look at data."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from gsda.cli_data import add_data_commands
from gsda.cli_model import add_model_commands
from gsda.cli_train import add_train_command
from gsda.errors import BadInput
from gsda.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (0 done, 1 not all of it, 2 bad use)."""
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except BadInput as error:
        print(f"gsda: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ngsda: Stopped.", file=sys.stderr)
        return 130
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
    add_model_commands(commands)
    add_train_command(commands)
    add_data_commands(commands)
    return parser
