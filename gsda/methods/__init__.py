"""The methods, one file each; a new one is a file and an entry here."""

from gsda.errors import BadInput
from gsda.methods.base import Method
from gsda.methods.gsda import GSDA

METHODS: dict[str, type[Method]] = {"gsda": GSDA}


def find_method(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        BadInput: there is none of that name.
    """
    if name not in METHODS:
        raise BadInput(f"Unknown method {name!r}: choose one of {', '.join(METHODS)}.")
    return METHODS[name]


__all__ = ["GSDA", "METHODS", "Method", "find_method"]
