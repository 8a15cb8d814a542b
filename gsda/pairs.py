"""Which sample meets which discriminator: the pairs that have weight, and no others.

A source sample counts at its own class, its own group and the domain; a target sample below tau at
the domain only. The rest of the N x K rectangle is multiplied by zero, and need not be computed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """P pairs of a sample and a discriminator, sorted by discriminator, then by sample.

    Attributes:
        sample: (P,) i of each pair. discriminator: (P,) k of each pair.
        counts: pairs of each of the K discriminators, known to the host.
    """

    sample: Tensor
    discriminator: Tensor
    counts: list[int]


def list_pairs(weights: Tensor) -> Pairs:
    """The pairs where `weights` (N, K) is not zero.

    How many they are decides the shapes of what follows, so the host has to wait for the device
    here: on a GPU the dense form, which needs no pairs, goes without that wait.
    """
    discriminator, sample = torch.nonzero(weights.t(), as_tuple=True)
    counts = torch.bincount(discriminator, minlength=weights.shape[1]).tolist()
    return Pairs(sample, discriminator, counts)


def use_pairs(choice: str, device: torch.device) -> bool:
    """Whether to compute pairs ("sparse") or the full rectangle ("dense").

    "auto" is sparse on the CPU, where arithmetic sets the time, and dense elsewhere, where the
    number of launches does and a wait for the device would empty its queue.
    """
    return device.type == "cpu" if choice == "auto" else choice == "sparse"
