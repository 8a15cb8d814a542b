"""What runs on each machine of a cluster before a search: is it one that can work for it?

Imports nothing but the standard library at the top, so that it can say what is missing.
"""

import importlib
import os
import platform
import secrets
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsda.data.load import DataSpec

OF_NODE = {"root": "GSDA_NODE_DATA", "cache": "GSDA_NODE_CACHE"}  # paths of a machine's own
_PACKAGES = ("ray", "torch")


def versions() -> dict[str, str]:
    """Of what must be the same everywhere; without the builds' own tags, such as +cu128."""
    from gsda.version import __version__

    found = {name: metadata.version(name).partition("+")[0] for name in _PACKAGES}
    python = ".".join(platform.python_version_tuple()[:2])
    return {"gsda": __version__, "python": python} | found


def probe_code(marker: str, remote: str = "") -> dict[str, Any]:
    """Whether this machine has the code, and reads and writes where the others do.

    Args:
        marker: a file in the storage, written by the driver; its name, if the storage is the URI
            `remote`.

    Returns:
        versions: as `versions`; trouble: why the package cannot be imported, or "";
        read: what stands in the marker, or why not; answer: name of a file beside it with the same;
        unusable: why the URI cannot be read and written, or "".
    """
    try:
        importlib.import_module("tune.trainable")
        found = {"versions": versions(), "trouble": ""}
    except Exception as error:  # of whatever kind: it is told to the user
        found = {"versions": {}, "trouble": f"{type(error).__name__}: {error}"}
    if remote:
        return found | _probe_store(marker, remote)
    answer = Path(f"{marker}.{secrets.token_hex(8)}")
    try:
        text = Path(marker).read_text(encoding="utf-8")
        answer.write_text(text, encoding="utf-8")
    except OSError as error:
        text = str(error.strerror)
    return found | {"read": text, "answer": answer.name}


def _probe_store(marker: str, remote: str) -> dict[str, Any]:
    answer = f"{marker}.{secrets.token_hex(8)}"
    found = {"read": "", "answer": answer, "unusable": ""}
    try:
        store = importlib.import_module("tune.objectstore").Store(remote)
        text = store.read(marker)
        store.write(answer, text)
    except FileNotFoundError:
        return found  # another store than the driver's
    except Exception as error:  # of whatever kind: it is told to the user
        reason = getattr(error, "strerror", None) or str(error)
        return found | {"unusable": reason.rstrip(".")}
    return found | {"read": text.decode(errors="replace")}


def probe_data(task: str, data: dict[str, Any], weights: str) -> dict[str, str]:
    """Whether this machine has the images, decoding them if need be, and the weights.

    Returns:
        digest: identity of the images; trouble: a sentence, or "".
    """
    from gsda.data.load import identity, load_domains
    from gsda.errors import BadInput
    from gsda.tasks import Task

    if weights not in ("none", "default") and not Path(weights).is_file():
        return {"digest": "", "trouble": f"the weights {weights} are not there."}
    try:
        digest = identity(*load_domains(Task.parse(task), here(data)))
    except (BadInput, OSError) as error:
        return {"digest": "", "trouble": str(error)}
    return {"digest": digest, "trouble": ""}


def here(data: dict[str, Any]) -> "DataSpec":
    """Which images to use, at the paths where this machine has them.

    A machine whose images, or whose room for decoded ones, lie elsewhere says so in its
    environment when Ray is started there: GSDA_NODE_DATA, GSDA_NODE_CACHE.
    """
    from gsda.data.load import DataSpec

    own = {name: os.environ.get(variable) for name, variable in OF_NODE.items()}
    moved = {name: path for name, path in own.items() if path and data[name] is not None}
    return DataSpec.from_dict(data | moved)
