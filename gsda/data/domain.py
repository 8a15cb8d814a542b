"""Images of one domain, with labels kept apart from them.

What a method sees of the target is `Images`, which has no labels to give.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


class Images(Protocol):
    """Decoded square images of one domain, all of one size, shared between processes.

    Or what a frozen backbone makes of them: then a row is a vector of features (width,), and the
    size is 0.

    Attributes:
        digest: hex identity of the content (pixels and paths); equal content, equal digest.
        paths: one name per image, for messages and predictions.
        size: S, the side in pixels.
    """

    digest: str
    paths: Sequence[str]
    size: int

    def __len__(self) -> int: ...

    def gather(self, indices: Int64) -> UInt8 | Float32:
        """Rows at `indices` (B,), as a fresh, writable array: (B, S, S, 3), or (B, width)."""
        ...


class Subset:
    """Some images of a domain, on the same memory map as all of them."""

    def __init__(self, base: Images, chosen: Int64) -> None:
        """The images of `base` at `chosen` (n,), in that order."""
        self.base, self.chosen = base, chosen
        self.size = base.size
        self.paths: Sequence[str] = tuple(base.paths[index] for index in chosen.tolist())
        content = base.digest.encode() + chosen.astype("<i8").tobytes()
        self.digest = hashlib.sha256(content).hexdigest()

    def __len__(self) -> int:
        return len(self.chosen)

    def gather(self, indices: Int64) -> UInt8 | Float32:
        """Rows at `indices` (B,), counted within the subset.

        Raises:
            IndexError: an index outside 0..n-1.
        """
        if len(indices) and not 0 <= min(indices) <= max(indices) < len(self):
            raise IndexError(f"an index is not one of {len(self)} images")
        return self.base.gather(self.chosen[indices])


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


def restrict(domain: Domain, classes: Sequence[int]) -> Domain:
    """The domain with the images of `classes` (indices) alone; its list of classes stays."""
    chosen = np.flatnonzero(np.isin(domain.labels, classes))
    return replace(domain, images=Subset(domain.images, chosen), labels=domain.labels[chosen])


class Nameless:
    """Images without the names of their files, which often lie in folders named after classes."""

    def __init__(self, base: Images) -> None:
        self.base = base
        self.digest = base.digest
        self.size = base.size
        self.paths: Sequence[str] = tuple(map(str, range(len(base))))

    def __len__(self) -> int:
        return len(self.base)

    def gather(self, indices: Int64) -> UInt8 | Float32:
        """As the images' own."""
        return self.base.gather(indices)


@dataclass(frozen=True)
class Pair:
    """What adaptation may see: a labelled source and the target's images.

    No target labels; and no names of the target's files, for a name may tell the class.
    """

    source: Domain
    target: Images

    def __post_init__(self) -> None:
        """Take the names away."""
        if not isinstance(self.target, Nameless):
            object.__setattr__(self, "target", Nameless(self.target))

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes
