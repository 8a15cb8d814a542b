"""Validators that ask whether features, classifier and predictions on the target fit together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gsda.outputs import Mixed, Outputs
from gsda.validators.predictions import balance, im

if TYPE_CHECKING:
    from torch import Tensor

KMEANS_STEPS = 50
HOPKINS_SAMPLES = 256
SAMPLES = 8192
ROWS = 4096


def class_ami(target: Outputs) -> float:
    """Adjusted mutual information of the predicted classes and clusters of the features.

    ClassAMI of Musgrave, Belongie and Lim, "Three New Validators", 2022: k-means with as many
    clusters as classes, which starts here from the means of the predicted classes (a class that is
    predicted nowhere starts from the origin), so that the score is a function of the outputs.
    """
    labels, features = target.predicted, target.features.float()
    clusters = _cluster(features, labels, target.logits.shape[1])
    return adjusted_mutual_information(labels, clusters)


def guarded_ami(target: Outputs, prior: Tensor) -> float:
    """ClassAMI times exp(balance): fitting classes and clusters, in the source's proportions.

    Either alone can be fooled: a few large classes can be clusters, and evenly spread predictions
    can be noise. The guard is exp of minus a divergence, a ratio of probabilities that is 1 at
    best. Not of a paper; chosen by the study in docs/selection.md.

    Args:
        prior: (r,) shares of the classes in the source, which sum to 1.
    """
    return class_ami(target) * math.exp(balance(target, prior))


def _cluster(x: Tensor, labels: Tensor, k: int) -> Tensor:
    """(N,) clusters of x (N, d) after Lloyd's steps from the means of `labels`."""
    assigned = labels
    centres = _means(x, labels, k, x.new_zeros(k, x.shape[1]))
    for _ in range(KMEANS_STEPS):
        new = _nearest(x, centres)
        if bool((new == assigned).all()):
            break
        assigned = new
        centres = _means(x, assigned, k, centres)
    return assigned


def _means(x: Tensor, labels: Tensor, k: int, old: Tensor) -> Tensor:
    """(k, d) means of x by label; `old` where a label has none."""
    import torch

    counts = torch.bincount(labels, minlength=k)[:, None]
    sums = torch.zeros_like(old).index_add_(0, labels, x)
    return torch.where(counts > 0, sums / counts.clamp(min=1), old)


def _nearest(x: Tensor, centres: Tensor) -> Tensor:
    """(N,) index of the nearest centre; of equally near ones, the first."""
    import torch

    parts = [x[start : start + ROWS] for start in range(0, len(x), ROWS)]
    rows = [torch.cdist(part, centres).argmin(dim=1) for part in parts]
    return torch.cat(rows)


def adjusted_mutual_information(a: Tensor, b: Tensor) -> float:
    """Mutual information of two labellings (N,), adjusted for chance: 0 by chance, 1 if equal.

    Vinh, Epps and Bailey, "Information Theoretic Measures for Clusterings Comparison", JMLR 2010,
    normalised by the mean of the two entropies. 0 where either has a single label, unlike some
    implementations: then there is nothing to agree upon.
    """
    import torch

    n = len(a)
    a, b = (torch.unique(x, return_inverse=True)[1] for x in (a, b))
    k, m = int(a.max()) + 1, int(b.max()) + 1
    if k == 1 or m == 1:
        return 0.0
    table = torch.bincount(a * m + b, minlength=k * m).double().view(k, m).cpu()
    rows, columns = table.sum(dim=1), table.sum(dim=0)
    expected_counts = rows[:, None] * columns / n
    mutual = float(torch.special.xlogy(table, table / expected_counts).sum() / n)
    entropies = [float(torch.special.entr(x / n).sum()) for x in (rows, columns)]
    chance = sum(_expected_mutual(rows, column, n) for column in columns.tolist())
    scale = sum(entropies) / 2 - chance
    return (mutual - chance) / scale if abs(scale) > 1e-12 else 0.0


def _expected_mutual(rows: Tensor, column: float, n: int) -> float:
    """Part of one column in the expected mutual information under random labellings (Eq. 24a)."""
    import torch

    count = torch.arange(1, int(min(float(rows.max()), column)) + 1, dtype=torch.float64)
    a = rows[:, None]
    possible = (count <= a) & (count >= a + column - n)

    def log_factorial(x: Tensor | float) -> Tensor:
        return torch.lgamma(torch.as_tensor(x, dtype=torch.float64) + 1)

    log_probability = (
        log_factorial(a) + log_factorial(column) + log_factorial(n - a) + log_factorial(n - column)
        - log_factorial(n) - log_factorial(count) - log_factorial((a - count).clamp(min=0))
        - log_factorial(column - count) - log_factorial((n - a - column + count).clamp(min=0))
    )  # fmt: skip
    terms = count / n * torch.log(n * count / (a * column)) * log_probability.exp()
    return float(torch.where(possible, terms, 0.0).sum())


def mixval(target: Outputs, mixed: Mixed) -> float:
    """Share of mixtures that are predicted as the image that makes up most of them, in [0, 1].

    Hu et al., "Mixed Samples as Probes for Unsupervised Model Selection in Domain Adaptation",
    NeurIPS 2023: the mean of the shares among pairs of one predicted class and of two.
    """
    predicted = target.predicted
    first = predicted[mixed.first]
    same = first == predicted[mixed.partner]
    right = (mixed.predicted == first).double()
    shares = [float(right[kind].mean()) for kind in (same, ~same) if bool(kind.any())]
    return sum(shares) / len(shares)


def transfer_score(target: Outputs, classifier: Tensor) -> float:
    """Clustering tendency + mutual information / ln r - non-uniformity of the classifier.

    Yang et al., "Can We Evaluate Domain Adaptation Models Without Target-Domain Labels?", ICLR
    2024: the Hopkins statistic of the features, the mutual information of images and predictions,
    and the mean squared deviation of the angles between the classifier's rows from those of a
    simplex, in rad^2.

    Args:
        classifier: (r, d) weights of C.
    """
    r = target.logits.shape[1]
    spread = im(target) / math.log(r) if r > 1 else 0.0
    return hopkins(target.features) + spread - nonuniformity(classifier)


def nonuniformity(classifier: Tensor) -> float:
    """Mean of (angle - arccos(-1 / (r - 1)))^2 over pairs of rows of (r, d), in rad^2."""
    import torch

    r = len(classifier)
    if r < 2:
        return 0.0
    unit = torch.nn.functional.normalize(classifier.double(), dim=1)
    pairs = torch.triu_indices(r, r, offset=1)
    cosines = (unit @ unit.t())[pairs[0], pairs[1]].clamp(-1, 1)
    return float((torch.acos(cosines) - math.acos(-1 / (r - 1))).square().mean())


def hopkins(x: Tensor) -> float:
    """Hopkins statistic of x (N, d): 1/2 for evenly spread points, towards 1 for clusters.

    Sum of distances from random places in the bounding box to their nearest points, divided by the
    same plus the sum of those from random points to their nearest others. Of more than `SAMPLES`
    points it takes that many; the dice are always thrown alike.
    """
    import torch

    dice = torch.Generator().manual_seed(0)
    x = x[torch.randperm(len(x), generator=dice)[:SAMPLES].to(x.device)].double()
    m = min(HOPKINS_SAMPLES, len(x) - 1)
    if m < 1:
        return 0.5
    low, high = x.amin(dim=0), x.amax(dim=0)
    dots = torch.rand(m, x.shape[1], generator=dice, dtype=torch.float64).to(x.device)
    to_points = torch.cdist(low + dots * (high - low), x).amin(dim=1).sum()
    apart = torch.cdist(x[:m], x)
    apart[torch.arange(m), torch.arange(m)] = math.inf
    to_others = apart.amin(dim=1).sum()
    total = float(to_points + to_others)
    return float(to_points) / total if total > 0 else 0.5
