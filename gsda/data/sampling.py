"""Which images a batch holds: endless, seeded, and resumable to the exact image.

An order of indices is drawn for a pass over the data, then walked in batches; a batch may take the
end of one pass and the start of the next. State is the generator as it was before the order was
drawn, and the position in it, so it stays small for any number of images.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Draw = Callable[[torch.Generator], Tensor]


class Cycle:
    """An endless walk over orders that `draw` gives from a generator."""

    def __init__(self, draw: Draw, seed: int) -> None:
        self._draw = draw
        self._generator = torch.Generator().manual_seed(seed)
        self._start_pass()

    def take(self, n: int) -> Tensor:
        """The next `n` indices, (n,)."""
        parts = []
        while n > 0:
            if self._position == len(self._order):
                self._start_pass()
            part = self._order[self._position : self._position + n]
            self._position += len(part)
            n -= len(part)
            parts.append(part)
        return torch.cat(parts)

    def redraw(self, draw: Draw) -> None:
        """Go on with a new way of drawing orders, from a fresh pass."""
        self._draw = draw
        self._start_pass()

    def state_dict(self) -> dict[str, Any]:
        """Generator before the current pass, and position in the pass."""
        return {"generator": self._before, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`; the way of drawing must be the one of then."""
        self._generator.set_state(state["generator"])
        self._start_pass()
        self._position = int(state["position"])

    def _start_pass(self) -> None:
        self._before = self._generator.get_state()
        self._order = self._draw(self._generator)
        self._position = 0


def uniform(n: int) -> Draw:
    """Each of `n` images once a pass."""
    return lambda generator: torch.randperm(n, generator=generator)


def class_balanced(labels: Tensor) -> Draw:
    """Every class as often as the largest one: smaller ones are resampled (section 3.1).

    Args:
        labels: (N,); negative labels are left out.
    """
    present = sorted({k for k in labels.tolist() if k >= 0})
    members = [torch.nonzero(labels == k).flatten() for k in present]
    largest = max(len(indices) for indices in members)

    def draw(generator: torch.Generator) -> Tensor:
        order = torch.cat([_stretch(indices, largest, generator) for indices in members])
        return order[torch.randperm(len(order), generator=generator)]

    return draw


def hold_out(labels: Tensor, share: float, seed: int) -> Tensor:
    """Sorted indices (n,) of images to keep off the training: `share` of each class.

    Rounded, but of each class at least one is held out and one is left, where it has two.

    Args:
        labels: (N,). share: in [0, 1); 0 holds out nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    held = [torch.empty(0, dtype=torch.int64)]
    for k in sorted(set(labels.tolist())) if share > 0 else []:
        members = torch.nonzero(labels == k).flatten()
        n = min(max(round(share * len(members)), 1), len(members) - 1)
        held.append(members[torch.randperm(len(members), generator=generator)[:n]])
    return torch.cat(held).sort().values


def _stretch(indices: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """`n` of `indices`, each as often as any other, give or take one."""
    rounds = -(-n // len(indices))
    shuffled = [torch.randperm(len(indices), generator=generator) for _ in range(rounds)]
    return indices[torch.cat(shuffled)[:n]]
