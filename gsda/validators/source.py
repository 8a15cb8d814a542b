"""Validators that judge by labelled images of the source which were kept off the training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gsda.outputs import Labelled, Outputs

if TYPE_CHECKING:
    from torch import Tensor

RIDGE = 1e-2
MASS_FLOOR = 0.5  # images; a class that has less is not predicted
NEWTON_STEPS = 30


def source_accuracy(source: Labelled) -> float:
    """Accuracy on the source's held-out images, in [0, 1].

    It says nothing of the target; it is there to be compared with, and to catch a collapse that
    reaches the source (Ganin et al., JMLR 2016, tune by it beside a reverse classifier).
    """
    return float((source.predicted == source.labels).double().mean())


def reverse(source: Labelled, target: Outputs) -> float:
    """Reverse validation by class means: the way back from the target, judged on the source.

    A classifier is made of the target's predictions alone, the mean direction of the features of
    each class, weighted by its probabilities; its accuracy on the source's held-out images is the
    score, in [0, 1]. A class that the target is never predicted to have is lost on the way back.
    After Zhong et al., "Cross Validation Framework to Choose amongst Models and Datasets for
    Transfer Learning", ECML 2010, and Ganin et al., JMLR 2016, who train a network on the pseudo
    labels, from scratch; this is the affordable kind and not theirs.
    """
    import torch

    directions = torch.nn.functional.normalize(target.features.double(), dim=1)
    p = target.logits.double().softmax(dim=1)
    means = torch.nn.functional.normalize(p.t() @ directions, dim=1)
    near = torch.nn.functional.normalize(source.features.double(), dim=1) @ means.t()
    near[:, p.sum(dim=0) < MASS_FLOOR] = -math.inf
    return float((near.argmax(dim=1) == source.labels).double().mean())


def iwcv(source: Labelled, train: Labelled, target: Outputs) -> float:
    """Importance-weighted cross-validation: minus the held-out cross entropy, weighted.

    Sugiyama, Krauledat and Müller, "Covariate Shift Adaptation by Importance Weighted Cross
    Validation", JMLR 2007. Weights are density ratios of the features, see `density_ratio`.
    """
    weights = density_ratio(source, train, target)
    return -float((weights * _cross_entropy(source)).mean())


def dev(source: Labelled, train: Labelled, target: Outputs) -> float:
    """Deep embedded validation: IWCV with a control variate that reduces its variance.

    You et al., "Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation",
    ICML 2019, algorithm 1: minus the risk, with the cross entropy as loss.
    """
    return -float(controlled_risk(density_ratio(source, train, target), _cross_entropy(source)))


def controlled_risk(weights: Tensor, losses: Tensor) -> Tensor:
    """mean(w l) + eta mean(w) - eta, eta = -Cov(w l, w) / Var(w) (You et al., Eq. 8); () in nats.

    Args:
        weights: (N,). losses: (N,).
    """
    weighted = weights * losses
    if len(weights) < 2 or float(weights.var()) <= 1e-12:
        return weighted.mean()
    covariance = ((weighted - weighted.mean()) * (weights - weights.mean())).sum()
    eta = -covariance / (len(weights) - 1) / weights.var()
    return weighted.mean() + eta * weights.mean() - eta


def density_ratio(source: Outputs, train: Outputs, target: Outputs) -> Tensor:
    """(N,) p_target / p_source at the features of `source`.

    From the odds of a logistic regression that tells the target's features from those of the
    source's images that were trained on, both standardised (You et al., Eq. 5).
    """
    import torch

    both = torch.cat([train.features, target.features]).double()
    mean, deviation = both.mean(dim=0), both.std(dim=0).clamp(min=1e-6)
    is_target = torch.zeros(len(both), dtype=torch.float64, device=both.device)
    is_target[len(train.features) :] = 1
    w = _fit_logistic(_with_one((both - mean) / deviation), is_target)
    odds = _with_one((source.features.double() - mean) / deviation) @ w
    ratio: Tensor = odds.clamp(-30, 30).exp() * (len(train.features) / len(target.features))
    return ratio


def _with_one(x: Tensor) -> Tensor:
    import torch

    return torch.cat([x, x.new_ones(len(x), 1)], dim=1)


def _fit_logistic(x: Tensor, y: Tensor) -> Tensor:
    """(d + 1,) weights that minimise mean cross entropy + RIDGE / 2 |w|^2, by Newton's method.

    The last weight, that of the constant column, costs nothing. The objective is strictly convex;
    a step that would raise it is halved.
    """
    import torch

    w = x.new_zeros(x.shape[1])
    ridge = torch.full_like(w, RIDGE)
    ridge[-1] = 0

    def objective(w: Tensor) -> Tensor:
        z = x @ w
        return (torch.nn.functional.softplus(z) - y * z).mean() + (ridge * w * w).sum() / 2

    value = objective(w)
    for _ in range(NEWTON_STEPS):
        q = (x @ w).sigmoid()
        gradient = x.t() @ (q - y) / len(x) + ridge * w
        hessian = (x * (q * (1 - q))[:, None]).t() @ x / len(x) + torch.diag(ridge)
        step = torch.linalg.solve(hessian, gradient)
        if float(gradient @ step) < 1e-12:
            break
        while float(objective(w - step)) > float(value) and float(step.abs().max()) > 1e-12:
            step = step / 2
        w = w - step
        value = objective(w)
    return w


def _cross_entropy(source: Labelled) -> Tensor:
    import torch

    losses: Tensor = torch.nn.functional.cross_entropy(
        source.logits.double(), source.labels, reduction="none"
    )
    return losses
