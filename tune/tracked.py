"""Where a search keeps its record, for whoever goes on with it and does not say so again."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from gsda.errors import BadInput
from gsda.tracking import choose_tracking_uri, hide_password

OPTION = "--tracking-uri"


def note(said: str | None) -> dict[str, Any] | None:
    """What a journal keeps of an address that was said: never a password."""
    if said is None:
        return None
    uri = choose_tracking_uri(said)
    shown = hide_password(uri)
    return {"uri": shown, "secret": shown != uri}


def choose_again(said: str | None, spec: Mapping[str, Any]) -> str:
    """The address to go on with: what is said, else what was said when the search began.

    Raises:
        BadInput: nobody says it, and the journal may not: it has a password. Or as
            `gsda.tracking.choose_tracking_uri`.
    """
    known = spec.get("tracking")
    if said is not None or not known:
        return choose_tracking_uri(said)
    if not known["secret"]:
        return choose_tracking_uri(known["uri"])
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise BadInput(
            f"{spec['name']} keeps its record at {known['uri']}, and the password stands nowhere: "
            f"give {OPTION} again."
        )
    return choose_tracking_uri(None)


def with_tracking(options: Sequence[str], spec: Mapping[str, Any]) -> list[str]:
    """`options` of a command on a search, and the address of its record if it had one."""
    known = spec.get("tracking")
    if not known or OPTION in options:
        return list(options)
    return [*options, OPTION, known["uri"]]
