"""Equations 3 to 16 of the paper, as pure functions.

Notation: r classes, b groups, N = B_s + B_t samples of a batch, source first; K discriminators in
the columns that a `Layout` names. Where the paper sums over samples we take half the mean over the
source plus half the mean over the target (`sample_shares`), so that alpha and beta mean the same
at any batch size.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Which column belongs to which discriminator: first D_dom, then D_grp, then D_cls.

    Attributes:
        levels: the levels that are there, in the order dom, grp, cls.
        n_groups: b.
        membership: (r, b), 1.0 where the class is in the group, in a dtype of choice.
    """

    levels: tuple[str, ...]
    n_groups: int
    membership: Tensor

    @property
    def n_classes(self) -> int:
        return int(self.membership.shape[0])

    def columns(self, level: str) -> slice:
        """Columns of one level; empty where the level is off."""
        sizes = {"dom": 1, "grp": self.n_groups, "cls": self.n_classes}
        start = 0
        for name in self.levels:
            if name == level:
                return slice(start, start + sizes[name])
            start += sizes[name]
        return slice(0, 0)

    @property
    def n_discriminators(self) -> int:
        """K, at most 1 + b + r."""
        slices = [self.columns(level) for level in self.levels]
        return max((part.stop for part in slices), default=0)


@dataclass(frozen=True)
class Weights:
    """How much each sample counts at each discriminator, (N, K) each.

    Attributes:
        align: w_ik of Eq. 6, 7, 8; every sample counts once at D_dom.
        sync: the same for L^syn, where D_dom sees the confident target samples only, as the
            levels below it do: else Eq. 11 would compare different sets of samples.
    """

    align: Tensor
    sync: Tensor


def draw_groups(n_classes: int, n_groups: int, seed: int) -> Tensor:
    """Random division of the classes into groups without overlap (section 2.2).

    Returns:
        (r,) group of each class; group sizes differ by at most one.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n_classes, generator=generator)
    groups = torch.empty(n_classes, dtype=torch.long)
    groups[order] = torch.arange(n_classes) % n_groups
    return groups


def source_classification(
    logits_s: Tensor, y_s: Tensor, importance_s: Tensor | None = None
) -> Tensor:
    """Eq. 3, L^s: mean cross entropy of logits_s (B_s, r) against labels y_s (B_s,).

    Args:
        importance_s: (B_s,) weight of each sample (see `gsda.partial`), None for 1.
    """
    if importance_s is None:
        return F.cross_entropy(logits_s, y_s)
    return (importance_s * F.cross_entropy(logits_s, y_s, reduction="none")).mean()


def target_entropy(logits_t: Tensor) -> Tensor:
    """Eq. 4, L^t: mean entropy, in nats, of the predictions of logits_t (B_t, r)."""
    log_p = F.log_softmax(logits_t, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1).mean()


def classification(
    logits_s: Tensor,
    y_s: Tensor,
    logits_t: Tensor,
    alpha: float,
    importance_s: Tensor | None = None,
) -> Tensor:
    """Eq. 5: L^c = L^s + alpha L^t."""
    L_s = source_classification(logits_s, y_s, importance_s)
    return L_s + alpha * target_entropy(logits_t)


def confident(p_t: Tensor, tau: float) -> Tensor:
    """(B_t,) bool: the pseudo label of p_t (B_t, r) is sure enough for the local levels (3.1)."""
    return p_t.amax(dim=1) >= tau


def sample_weights(
    y_s: Tensor, p_t: Tensor, tau: float, layout: Layout, epsilon: float = 0.0
) -> Weights:
    """The weights p_i^k of Eq. 7 and p_i^q of Eq. 8 for a batch of B_s + B_t samples.

    Args:
        y_s: (B_s,) source labels.
        p_t: (B_t, r) target probabilities; detached here, since the paper takes them as labels.
        epsilon: weights below it are set to 0, which the paper does not do.
    """
    p_t = p_t.detach()
    sure = confident(p_t, tau).to(p_t.dtype)[:, None]
    # one_hot would check its labels, for which the host has to wait.
    labels = y_s[:, None] == torch.arange(layout.n_classes, device=y_s.device)
    by_class = torch.cat([labels.to(p_t.dtype), p_t * sure])
    by_group = by_class @ layout.membership.to(p_t.dtype)
    everyone = p_t.new_ones(len(by_class), 1)
    matched = torch.cat([p_t.new_ones(len(y_s), 1), sure])
    local = {"grp": _drop(by_group, epsilon), "cls": _drop(by_class, epsilon)}
    return Weights(
        align=_stack({"dom": everyone} | local, layout),
        sync=_stack({"dom": matched} | local, layout),
    )


def _drop(weights: Tensor, epsilon: float) -> Tensor:
    return weights * (weights >= epsilon) if epsilon > 0 else weights


def _stack(parts: dict[str, Tensor], layout: Layout) -> Tensor:
    nothing = parts["dom"][:, :0]
    return torch.cat([nothing, *(parts[level] for level in layout.levels)], dim=1)


def domain_labels(n_source: int, n_target: int, like: Tensor) -> Tensor:
    """(N, 1) d_i: 1 for source, 0 for target."""
    return torch.cat([like.new_ones(n_source, 1), like.new_zeros(n_target, 1)])


def sample_shares(n_source: int, n_target: int, like: Tensor) -> Tensor:
    """(N, 1) share of each sample in a sum over the batch: 1/(2 B_s) and 1/(2 B_t)."""
    return torch.cat(
        [
            like.new_full((n_source, 1), 0.5 / n_source),
            like.new_full((n_target, 1), 0.5 / n_target),
        ]
    )


def alignment(z: Tensor, d: Tensor, weights: Tensor, shares: Tensor) -> Tensor:
    """Eq. 6, 7, 8: the loss L_k of each discriminator.

    Args:
        z: (N, K) logits. d: (N, 1) domain labels. weights: (N, K). shares: (N, 1).

    Returns:
        (K,) weighted cross entropies.
    """
    # Not softplus(z) - d z, which cancels, and which torch cuts off at z = 20, where it is 2e-9.
    cross_entropy = -F.logsigmoid(z * (2 * d - 1))
    return (shares * weights * cross_entropy).sum(dim=0)


def by_level(losses: Tensor, layout: Layout) -> dict[str, Tensor]:
    """Sums of losses (K,) over each level; L^g is "dom", Eq. 9's L^l is "grp" + "cls"."""
    return {level: losses[layout.columns(level)].sum() for level in layout.levels}


def gradient_magnitudes(z: Tensor, d: Tensor, J_norm: Tensor, weights: Tensor) -> Tensor:
    """|| dL_k / df_i || for every sample and discriminator, without its share in the sum.

    The derivative of the cross entropy at the logit is sigmoid(z) - d, and that of the logit at
    the features is J, so the norm is w |sigmoid(z) - d| ||J||.

    Args:
        z, J_norm, weights: (N, K) logits, norms of their Jacobians, `Weights.sync`. d: (N, 1).

    Returns:
        (N, K), zero or more.
    """
    # |sigmoid(z) - d| is sigmoid(z) at d = 0 and sigmoid(-z) at d = 1: no cancellation.
    return weights * torch.sigmoid(z * (1 - 2 * d)) * J_norm


def synchronisation(
    magnitudes: Tensor, shares: Tensor, layout: Layout, reading: str = "batch"
) -> Tensor:
    """Eq. 12: L^syn, the sum of Eq. 10 (groups against their classes) and Eq. 11 (domain against
    what is below it: the groups, or the classes where there are no groups).

    Args:
        magnitudes: (N, K) of `gradient_magnitudes`. shares: (N, 1).
        reading: what the scanned equations leave open. "batch": |difference| of sums over the
            batch; "squared": its square; "relative": divided by the sum of both sides;
            "sample": |difference| for each sample, then summed over the batch. And "penalty", a
            control: the sum of all magnitudes, which are made small and not equal.

    Returns:
        () zero or more; exactly zero with fewer than two levels.
    """
    dom, grp, cls = (magnitudes[:, layout.columns(level)] for level in ("dom", "grp", "cls"))
    total = magnitudes.new_zeros(())
    if reading == "penalty":
        n_levels = sum(part.shape[1] > 0 for part in (dom, grp, cls))
        return (shares * magnitudes).sum() if n_levels > 1 else total
    if grp.shape[1] and cls.shape[1]:
        classes_of_group = cls @ layout.membership.to(cls.dtype)
        total = total + _difference(grp, classes_of_group, shares, reading)  # Eq. 10
    below = grp if grp.shape[1] else cls
    if dom.shape[1] and below.shape[1]:
        total = total + _difference(dom, below.sum(dim=1, keepdim=True), shares, reading)  # Eq. 11
    return total


def _difference(upper: Tensor, lower: Tensor, shares: Tensor, reading: str) -> Tensor:
    """Distance of two levels' magnitudes, (N, U) each."""
    if reading == "sample":
        return (shares * (upper - lower).abs()).sum()
    upper, lower = (shares * upper).sum(dim=0), (shares * lower).sum(dim=0)
    gap = (upper - lower).abs()
    if reading == "squared":
        return gap.square().sum()
    if reading == "relative":
        # An empty group has 0 on both sides: 0 / 1 there, not 0 / 0.
        sides = upper + lower
        return (gap / torch.where(sides > 0, sides, torch.ones_like(sides))).sum()
    return gap.sum()


def discriminator_objective(levels: dict[str, Tensor], syn: Tensor, beta: float) -> Tensor:
    """Eq. 13, 14: L^d = L^g + L^l + beta L^syn, which D minimises."""
    return _total(levels, syn) + beta * syn


def extractor_objective(
    L_c: Tensor, levels: dict[str, Tensor], syn: Tensor, beta: float, lam: float
) -> Tensor:
    """Eq. 16: L^c + lam (beta L^syn - (L^g + L^l)), which E and C minimise.

    `lam` is the warm-up lambda(p), which the paper does not print; lam = 1 is Eq. 16 as it stands.
    """
    return L_c + lam * (beta * syn - _total(levels, syn))


def _total(levels: dict[str, Tensor], like: Tensor) -> Tensor:
    """L^g + L^l: Eq. 6 plus Eq. 9."""
    return sum(levels.values(), start=like.new_zeros(()))
