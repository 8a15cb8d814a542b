"""Images of one domain, with labels kept apart from them.

What a method sees of the target is `Images`, which has no labels to give.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]
Int64 = NDArray[np.int64]


class Images(Protocol):
    """Decoded square images of one domain, all of one size, shared between processes.

    Attributes:
        digest: hex identity of the content (pixels and paths); equal content, equal digest.
        paths: one name per image, for messages and predictions.
        size: S, the side in pixels.
    """

    digest: str
    paths: Sequence[str]
    size: int

    def __len__(self) -> int: ...

    def gather(self, indices: Int64) -> UInt8:
        """Images at `indices` (B,), as a fresh, writable array (B, S, S, 3)."""
        ...


@dataclass(frozen=True)
class Domain:
    """A domain: its images, and a label for each.

    Attributes:
        images: the images, N of them.
        labels: (N,) indices into `classes`; -1 where the class is not known.
        classes: class names, in index order.
    """

    name: str
    images: Images
    labels: Int64
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Pair:
    """What adaptation may see: a labelled source and the target's images. No target labels."""

    source: Domain
    target: Images

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes
