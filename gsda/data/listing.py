"""What is known of a domain's files before any is decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Listing:
    """The image files of one domain.

    Attributes:
        domain: its short name in the task, such as ``A``.
        root: the folder that holds the class folders (or, unlabelled, the images).
        classes: class names in index order; empty for an unlabelled domain.
        files: (posix path relative to `root`, index into `classes` or -1), sorted by path.
        source: the image list that it was read from, None for folders.
    """

    domain: str
    root: Path
    classes: tuple[str, ...]
    files: tuple[tuple[str, int], ...]
    source: Path | None = None

    def __len__(self) -> int:
        return len(self.files)


def some(names: Sequence[str], limit: int = 12) -> str:
    """At most `limit` of `names`, as a readable list."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
