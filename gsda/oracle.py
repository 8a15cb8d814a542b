"""The only place that reads target labels: what they say of a model, for research.

Metrics made here are called `oracle/...`; nothing that chooses accepts such a name.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gsda.data.domain import Domain, Int64
from gsda.monitor import metric_names
from gsda.sealed import ACCURACY, CLASS_MEAN, OF_CLASS, PRECISION


class Oracle:
    """Labels of a target domain, sealed: they can be compared with, and not be read out."""

    def __init__(self, target: Domain) -> None:
        self._labels = target.labels
        self._names = metric_names(target.classes)

    @property
    def is_known(self) -> bool:
        """Whether there is any label at all."""
        return bool((self._labels >= 0).any())

    def score(self, predicted: Tensor) -> dict[str, float]:
        """Accuracy of predicted classes (N,), in [0, 1]; empty where no label is known.

        Returns:
            `oracle/target_accuracy` overall, `oracle/target_class_mean` as mean over the classes,
            `oracle/class/<class>` of each class that the target has.
        """
        known = self._labels >= 0
        if not known.any():
            return {}
        labels = self._labels[known]
        right = predicted.cpu().numpy()[known] == labels
        of_class = {int(k): float(right[labels == k].mean()) for k in np.unique(labels)}
        return {
            ACCURACY: float(right.mean()),
            CLASS_MEAN: float(np.mean(list(of_class.values()))),
        } | {f"{OF_CLASS}{self._names[k]}": value for k, value in of_class.items()}

    def judge(self, pseudo: Tensor) -> dict[str, float]:
        """How right pseudo labels (N,) are, where -1 stands for none.

        Returns:
            `oracle/pseudo_precision` in [0, 1]: the share that is right of those whose true label
            is known; empty without any. How many there are is `coverage/all` (`gsda.monitor`).
        """
        labels = pseudo.cpu().numpy()
        judged = (labels >= 0) & (self._labels >= 0)
        if not judged.any():
            return {}
        right = labels[judged] == self._labels[judged]
        return {PRECISION: float(right.mean())}

    def by_class(self) -> dict[int, Int64]:
        """Indices of the images of each class, for what is drawn; empty where no label is known."""
        known = np.unique(self._labels[self._labels >= 0])
        return {int(k): np.flatnonzero(self._labels == k) for k in known}

    def confusion(self, predicted: NDArray[np.integer], n_classes: int) -> Int64:
        """Counts (r, r) of images of a class (row) that were taken for a class (column)."""
        known = self._labels >= 0
        pairs = self._labels[known] * n_classes + predicted[known]
        return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)
