"""Outputs of a pretended model, for validators: all that any of them may ask for."""

from typing import Any

import torch
from torch import Tensor

from gsda.outputs import Labelled, Mixed, Outputs


def outputs(p: list[list[float]] | Tensor, features: Tensor | None = None) -> Outputs:
    """A model that predicts p (N, r)."""
    logits = torch.as_tensor(p, dtype=torch.float64).log()
    return Outputs(torch.zeros(len(logits), 2) if features is None else features, logits)


def labelled(p: list[list[float]] | Tensor, labels: list[int]) -> Labelled:
    """The same of images whose labels are known."""
    plain = outputs(p)
    return Labelled(plain.features, plain.logits, torch.tensor(labels))


def known(n: int, r: int, scale: float = 1.0, d: int = 3, seed: int = 0) -> dict[str, Any]:
    """All that `NEEDS` names, of n target images and r classes; logits of the given scale."""
    dice = torch.Generator().manual_seed(seed)

    def some(rows: int) -> tuple[Tensor, Tensor]:
        return torch.randn(rows, d, generator=dice), scale * torch.randn(rows, r, generator=dice)

    def of_source(rows: int) -> Labelled:
        return Labelled(*some(rows), torch.randint(r, (rows,), generator=dice))

    prior = torch.rand(r, generator=dice).double() + 0.1
    return {
        "target": Outputs(*some(n)),
        "mixed": Mixed(*some(n), torch.arange(n), torch.randperm(n, generator=dice)),
        "classifier": torch.randn(r, d, generator=dice),
        "prior": prior / prior.sum(),
        "source": of_source(7),
        "train": of_source(11),
    }


def reorder(given: dict[str, Any], order: Tensor) -> dict[str, Any]:
    """The same images of the target in another order."""
    target, mixed = given["target"], given["mixed"]
    back = torch.argsort(order)
    return given | {
        "target": Outputs(target.features[order], target.logits[order]),
        "mixed": Mixed(mixed.features, mixed.logits, back[mixed.first], back[mixed.partner]),
    }
