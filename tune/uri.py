"""A storage that is no folder but a URI: what may be said, and where its working copies lie."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from gsda.data.load import default_cache
from gsda.errors import BadInput

# Scheme -> what may stand behind the question mark; none of it is a secret.
SCHEMES = {
    "s3": ("endpoint_override", "region", "scheme"),
    "gs": ("endpoint_override", "scheme", "anonymous"),
    "file": (),
}
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Place:
    """A URI that was checked.

    Attributes:
        root: what the file system knows it by: ``bucket/prefix``, or a whole path.
        options: of the query.
    """

    scheme: str
    root: str
    options: tuple[tuple[str, str], ...]

    @property
    def shown(self) -> str:
        """For a sentence: without the query."""
        return f"{self.scheme}://{self.root}"

    @property
    def text(self) -> str:
        """The whole URI; the same place is the same text."""
        query = urlencode(self.options, safe=":/")
        return f"{self.shown}?{query}" if query else self.shown

    def working_copy(self, cache: Path | None = None) -> Path:
        """Where this machine keeps a copy of what lies there."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()[:16]
        return (cache or default_cache()) / "remote" / digest


def is_uri(text: object) -> bool:
    """Whether a storage was said as a URI."""
    return isinstance(text, str) and _URI.match(text) is not None


def parse(text: str) -> Place:
    """Take a URI apart.

    Raises:
        BadInput: an unknown scheme or option, no bucket, a secret, or a path that leads elsewhere;
            the sentence repeats no more of the URI than is certainly no secret.
    """
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise BadInput("--storage is no URI that can be read: check its query.") from error
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise BadInput(f"--storage begins with {scheme}://, but may be a folder or one of {known}.")
    if "@" in parts.netloc:
        raise BadInput(
            f"--storage {scheme}://... holds a user's name or key: leave it out, and give "
            "credentials by the environment or a profile."
        )
    root = _root(scheme, parts.netloc if scheme != "file" else host, unquote(parts.path))
    for name, value in options:
        if name not in SCHEMES[scheme] or not value:
            may = ", ".join(SCHEMES[scheme]) or "nothing"
            raise BadInput(
                f"--storage {scheme}://{root} has an unknown option: there may be {may}."
            )
        if name == "anonymous" and value != "true":
            raise BadInput(f"--storage {scheme}://{root}: anonymous may be true, or be left out.")
    if parts.fragment or len(dict(options)) < len(options):
        raise BadInput(f"--storage {scheme}://{root} has too much behind it: leave it out.")
    return Place(scheme, root, tuple(sorted(options)))


def _root(scheme: str, host: str, path: str) -> str:
    below = [part for part in path.split("/") if part]
    if any(part in (".", "..") or not part.isprintable() or "\\" in part for part in below):
        raise BadInput(f"--storage {scheme}://... has a path that cannot be used: name it plainly.")
    if scheme == "file":
        if host not in ("", "localhost") or not below:
            raise BadInput("--storage file://... needs a whole path: file:///path/of/searches.")
        return "/" + "/".join(below)
    if not _BUCKET.fullmatch(host):
        raise BadInput(f"--storage {scheme}://... names no bucket: {scheme}://BUCKET/searches.")
    return "/".join([host, *below])


def locate(said: Path | str, cache: Path | None = None) -> tuple[Path, str | None]:
    """The folder of all searches on this machine, and the URI that it is a working copy of.

    Raises:
        BadInput: as `parse`.
    """
    if isinstance(said, str) and is_uri(said):
        place = parse(said)
        return place.working_copy(cache), place.text
    return Path(said), None
