"""Validators that read the predictions on the target, and nothing else."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gsda.outputs import Outputs

if TYPE_CHECKING:
    from torch import Tensor

SND_TEMPERATURE = 0.05
SND_SAMPLES = 4096
SND_ROWS = 512
PRIOR_FLOOR = 1e-6  # a class that the source lacks costs much, and not without end


def _entropy(p: Tensor) -> Tensor:
    import torch

    entropies: Tensor = torch.special.entr(p).sum(dim=-1)
    return entropies


def _gram(target: Outputs) -> Tensor:
    """p^T p, (r, r)."""
    r = target.logits.shape[1]
    total = target.logits.new_zeros(r, r).double()
    for p in target.chunks():
        total += p.t() @ p
    return total


def bnm(target: Outputs) -> float:
    """Batch nuclear norm of the predictions, divided by its bound, so in (0, 1].

    Large where predictions are sure and spread over many classes (Cui et al., "Towards
    Discriminability and Diversity", CVPR 2020). Singular values come from the r x r Gram matrix,
    so that the number of images does not matter.
    """
    import torch

    n, r = target.logits.shape
    singular = torch.linalg.eigvalsh(_gram(target)).clamp(min=0).sqrt()
    return float(singular.sum() / math.sqrt(n * min(n, r)))


def im(target: Outputs) -> float:
    """Information maximisation: entropy of the mean prediction less mean entropy, in nats.

    Musgrave, Belongie and Lim, "Three New Validators and a Large-Scale Benchmark Ranking for
    Unsupervised Domain Adaptation", 2022; after Shi and Sha, ICML 2012.
    """
    return diversity(target) + entropy(target)


def entropy(target: Outputs) -> float:
    """Negative mean entropy of the predictions, in nats (Morerio et al., ICLR 2018)."""
    return -float(target.mean(_entropy))


def diversity(target: Outputs) -> float:
    """Entropy of the mean prediction, in nats."""
    return float(_entropy(target.mean(lambda p: p)))


def confidence(target: Outputs) -> float:
    """Mean of the largest probability."""
    return float(target.mean(lambda p: p.amax(dim=1)))


def snd(target: Outputs) -> float:
    """Soft neighbourhood density: mean entropy of each prediction's similarities to the others.

    Saito et al., "Tune it the Right Way", ICCV 2021, Eq. 1 to 3, temperature 0.05. Of more than
    `SND_SAMPLES` images it takes that many, evenly spaced: all pairs of 55,000 would take minutes.
    The similarities stand in memory `SND_ROWS` rows at a time.
    """
    import torch

    n = min(len(target.logits), SND_SAMPLES)
    if n < 2:
        return 0.0
    chosen = torch.linspace(0, len(target.logits) - 1, n).round().long()
    p = target.logits[chosen.to(target.logits.device)].double().softmax(dim=1)
    unit = torch.nn.functional.normalize(p, dim=1)
    total = 0.0
    for start in range(0, n, SND_ROWS):
        similar = unit[start : start + SND_ROWS] @ unit.t() / SND_TEMPERATURE
        rows = torch.arange(len(similar), device=similar.device)
        similar[rows, start + rows] = -math.inf  # nobody is a neighbour of itself
        total += float(_entropy(similar.softmax(dim=1)).sum())
    return total / n


def balance(target: Outputs, prior: Tensor) -> float:
    """Minus the divergence of the predicted classes' shares from the source's, in nats.

    KL(shares || prior), of the most probable classes alone: 0 where the target is predicted to
    have the classes in the source's proportions, far below 0 where predictions collapse onto few
    classes, however sure they are. Not of a paper; the assumption that target and source have
    about the same class prior is the one that most alignment makes, too.

    Args:
        prior: (r,) shares of the classes in the source, which sum to 1.
    """
    import torch

    r = target.logits.shape[1]
    counts = torch.bincount(target.predicted, minlength=r).double()
    shares = counts / counts.sum()
    floored = prior.double().clamp(min=PRIOR_FLOOR)
    return float((torch.special.entr(shares) + torch.special.xlogy(shares, floored)).sum())


def softmax_corr(target: Outputs, prior: Tensor) -> float:
    """Cosine of the class-to-class correlation p^T p / N and diag(prior), in [0, 1].

    Tu et al., "What Does Softmax Probability Tell Us about Classifiers Ranking Across Diverse Test
    Conditions?", TMLR 2024 (SoftmaxCorr), with the source's prior for that of the target: 1 where
    predictions are sure and the classes have the source's proportions.

    Args:
        prior: (r,) shares of the classes in the source, which sum to 1.
    """
    import torch

    correlation = _gram(target)
    norms = torch.linalg.matrix_norm(correlation) * torch.linalg.vector_norm(prior.double())
    return float((correlation.diagonal() * prior.double()).sum() / norms)
