"""What a method is to a `Run`."""

from typing import Any, Protocol

import torch
from torch import Tensor

from gsda.config import Config
from gsda.model import Network


class Method(Protocol):
    """A network, and one way of improving it from a batch of each domain.

    Attributes:
        network: E and C for the target, which is what remains when training is over.
        class_weights: (r,) how much each class of the source counts (`gsda.partial`), None where
            all count alike; set, and kept in checkpoints, by the `Run`.
    """

    network: Network
    class_weights: Tensor | None

    def __init__(self, network: Network, config: Config, n_classes: int) -> None: ...

    def to(self, device: torch.device) -> None:
        """Move everything, optimisers included."""
        ...

    def update(self, x_s: Tensor, y_s: Tensor, x_t: Tensor, progress: float) -> dict[str, Tensor]:
        """One iteration on images (B, 3, S, S) of both domains and source labels (B,).

        Args:
            progress: share of the training that lies behind, from 0 to 1.

        Returns:
            Losses by name, () each, detached and still on the device.
        """
        ...

    def fit(self, x_s: Tensor, x_t: Tensor) -> None:
        """Called once before the first update of methods that are `frozen_only` in their entry.

        Args:
            x_s, x_t: (N_s, width), (N_t, width) frozen features of all images of both domains.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that changes in `update`, and all that was drawn at random."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        ...
