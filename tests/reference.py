"""Equations 3 to 16 once more: slow, plain, in float64, and written without a look at the package.

One discriminator after the other, one sample's weight after the other; the gradients of Eq. 10 and
11 come from autograd with a second graph, not from a closed form. What the package computes must
equal this.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

Name = tuple[str, int]


@dataclass(frozen=True)
class Game:
    """What a batch is played by.

    Attributes:
        groups: the classes of each group. levels: a subset of dom, grp, cls.
        reading: batch, squared, relative, sample or penalty.
    """

    groups: list[list[int]]
    levels: tuple[str, ...]
    tau: float
    reading: str = "batch"

    @property
    def n_classes(self) -> int:
        return sum(len(group) for group in self.groups)

    def discriminators(self) -> list[Name]:
        """(level, index) of each discriminator that there is."""
        everything = [("dom", 0)]
        everything += [("grp", q) for q in range(len(self.groups))]
        everything += [("cls", k) for k in range(self.n_classes)]
        return [(level, index) for level, index in everything if level in self.levels]


def discriminate(parameters: dict[str, Tensor], k: int, f: Tensor) -> Tensor:
    """D_k: (N, d) -> (N,) logits, by the k-th slices of W1, b1, W2, b2, w3, b3."""
    hidden = torch.relu(f @ parameters["W1"][k].T + parameters["b1"][k])
    hidden = torch.relu(hidden @ parameters["W2"][k].T + parameters["b2"][k])
    return hidden @ parameters["w3"][k] + parameters["b3"][k]


def L_s(logits_s: Tensor, y_s: Tensor) -> Tensor:
    """Eq. 3."""
    terms = []
    for z, y in zip(logits_s, y_s.tolist(), strict=True):
        terms.append(-torch.log_softmax(z, dim=0)[y])
    return torch.stack(terms).mean()


def L_t(logits_t: Tensor) -> Tensor:
    """Eq. 4."""
    terms = []
    for z in logits_t:
        p = torch.softmax(z, dim=0)
        terms.append(-(p * torch.log_softmax(z, dim=0)).sum())
    return torch.stack(terms).mean()


def L_c(logits_s: Tensor, y_s: Tensor, logits_t: Tensor, alpha: float) -> Tensor:
    """Eq. 5."""
    return L_s(logits_s, y_s) + alpha * L_t(logits_t)


def weight(game: Game, name: Name, y: int | None, p: list[float], matched: bool) -> float:
    """w_ik of one sample: a source sample of class y, or (y None) a target sample predicted as p.

    Args:
        matched: as L^syn needs it: the domain level sees what the local levels see.
    """
    level, index = name
    sure = y is not None or max(p) >= game.tau
    if level == "dom":
        return 1.0 if sure or not matched else 0.0
    if not sure:
        return 0.0
    classes = [index] if level == "cls" else game.groups[index]
    if y is not None:
        return 1.0 if y in classes else 0.0
    return sum(p[k] for k in classes)


def weights(game: Game, name: Name, y_s: Tensor, p_t: Tensor, matched: bool) -> Tensor:
    """(N,) w_ik with the share of each sample: half the mean of the source, half of the target."""
    source = [weight(game, name, y, [], matched) * 0.5 / len(y_s) for y in y_s.tolist()]
    target = [weight(game, name, None, p, matched) * 0.5 / len(p_t) for p in p_t.tolist()]
    return torch.tensor(source + target, dtype=torch.float64)


def cross_entropies(z: Tensor, n_source: int) -> Tensor:
    """(N,) of BCE(z_i, d_i)."""
    logsigmoid = torch.nn.functional.logsigmoid
    return torch.cat([-logsigmoid(z[:n_source]), -logsigmoid(-z[n_source:])])


def L_levels(
    game: Game, parameters: dict[str, Tensor], f: Tensor, y_s: Tensor, p_t: Tensor
) -> dict[str, Tensor]:
    """Eq. 6, 7, 8: sums over the discriminators of each level."""
    losses = {level: f.new_zeros(()) for level in game.levels}
    for k, name in enumerate(game.discriminators()):
        w = weights(game, name, y_s, p_t, matched=False)
        z = discriminate(parameters, k, f)
        losses[name[0]] = losses[name[0]] + (w * cross_entropies(z, len(y_s))).sum()
    return losses


def magnitudes(
    game: Game, parameters: dict[str, Tensor], f: Tensor, y_s: Tensor, p_t: Tensor
) -> dict[Name, Tensor]:
    """(N,) of || dL_k / df_i || for each discriminator; its sum is M_k."""
    if not f.requires_grad:
        f = f.clone().requires_grad_(True)
    norms = {}
    for k, name in enumerate(game.discriminators()):
        w = weights(game, name, y_s, p_t, matched=True)
        loss = (w * cross_entropies(discriminate(parameters, k, f), len(y_s))).sum()
        (gradient,) = torch.autograd.grad(loss, f, create_graph=True)
        norms[name] = torch.stack([torch.linalg.vector_norm(row) for row in gradient])
    return norms


def L_syn(game: Game, parameters: dict[str, Tensor], f: Tensor, y_s: Tensor, p_t: Tensor) -> Tensor:
    """Eq. 10, 11, 12."""
    m = magnitudes(game, parameters, f, y_s, p_t)
    total = f.new_zeros(())
    if game.reading == "penalty":  # the control: all magnitudes, if there are two levels
        many = len(game.levels) > 1
        return sum((norms.sum() for norms in m.values()), start=total) if many else total
    if "grp" in game.levels and "cls" in game.levels:
        for q, group in enumerate(game.groups):
            below = sum(m["cls", k] for k in group)
            total = total + difference(m["grp", q], below, game.reading)
    if "dom" in game.levels and "grp" in game.levels:
        below = sum(m["grp", q] for q in range(len(game.groups)))
        total = total + difference(m["dom", 0], below, game.reading)
    elif "dom" in game.levels and "cls" in game.levels:
        below = sum(m["cls", k] for k in range(game.n_classes))
        total = total + difference(m["dom", 0], below, game.reading)
    return total


def difference(upper: Tensor, lower: Tensor, reading: str) -> Tensor:
    """The four readings of || ... || around a difference; both sides (N,)."""
    if reading == "sample":
        return torch.stack([abs(u - v) for u, v in zip(upper, lower, strict=True)]).sum()
    U, V = upper.sum(), lower.sum()
    if reading == "batch":
        return abs(U - V)
    if reading == "squared":
        return (U - V) ** 2
    assert reading == "relative"
    return abs(U - V) / (U + V) if U + V > 0 else 0 * U


def objective_D(
    game: Game,
    parameters: dict[str, Tensor],
    f: Tensor,
    y_s: Tensor,
    p_t: Tensor,
    beta: float,
) -> Tensor:
    """Eq. 13, 14."""
    levels = L_levels(game, parameters, f, y_s, p_t)
    total = f.new_zeros(()) + beta * L_syn(game, parameters, f, y_s, p_t)
    for loss in levels.values():
        total = total + loss
    return total


def objective_EC(
    game: Game,
    parameters: dict[str, Tensor],
    f: Tensor,
    logits: Tensor,
    y_s: Tensor,
    alpha: float,
    beta: float,
    lam: float,
) -> Tensor:
    """Eq. 16, its adversarial terms times the warm-up lam; f and logits hold the source first."""
    logits_s, logits_t = logits[: len(y_s)], logits[len(y_s) :]
    p_t = torch.softmax(logits_t, dim=1).detach()
    adversarial = beta * L_syn(game, parameters, f, y_s, p_t)
    for loss in L_levels(game, parameters, f, y_s, p_t).values():
        adversarial = adversarial - loss
    return L_c(logits_s, y_s, logits_t, alpha) + lam * adversarial


def sgd_nesterov(
    value: Tensor, gradient: Tensor, velocity: Tensor, lr: float, momentum: float, decay: float
) -> tuple[Tensor, Tensor]:
    """A step of SGD with Nesterov momentum and weight decay; the new value and velocity."""
    gradient = gradient + decay * value
    velocity = momentum * velocity + gradient
    return value - lr * (gradient + momentum * velocity), velocity
