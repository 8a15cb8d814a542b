"""What the predictions on the target look like: coverage of pseudo labels, spread over classes."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor


def summarise_predictions(p_t: Tensor, tau: float, classes: Sequence[str]) -> dict[str, float]:
    """How the target's predictions spread over the classes.

    Args:
        p_t: (N, r) probabilities.

    Returns:
        `coverage/all`: share of samples whose largest probability reaches tau;
        `coverage/<class>`: the same among those predicted as the class, if there are any;
        `predicted/<class>`: share of samples predicted as the class;
        `predicted/effective_classes`: exp of the entropy of these shares, 1 for one class alone.
    """
    top, label = p_t.max(dim=1)
    sure = top >= tau
    counts = torch.bincount(label, minlength=len(classes)).double()
    shares = counts / counts.sum()
    metrics = {
        "coverage/all": float(sure.double().mean()),
        "predicted/effective_classes": float(torch.special.entr(shares).sum().exp()),
    }
    for k, name in enumerate(metric_names(classes)):
        metrics[f"predicted/{name}"] = float(shares[k])
        if counts[k] > 0:
            metrics[f"coverage/{name}"] = float(sure[label == k].double().mean())
    return metrics


def metric_names(classes: Sequence[str]) -> list[str]:
    """Class names fit for the names of metrics: `03_desk_lamp`."""
    width = len(str(len(classes) - 1))
    return [
        f"{k:0{width}}_{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}" for k, name in enumerate(classes)
    ]
