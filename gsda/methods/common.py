"""What the baselines share: one network, one optimiser, a sum of weighted losses."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gsda import losses
from gsda.config import Config
from gsda.device import arrange, autocast
from gsda.model import Network
from gsda.optim import descend, set_progress, sgd, warm_up
from gsda.partial import importance


class Term(NamedTuple):
    """A part () of an objective, and how much it counts."""

    weight: float
    loss: Tensor


@dataclass(frozen=True)
class Batch:
    """What E and C make of a batch of each domain.

    Attributes:
        f_s, f_t: (B, d) features. logits_s, logits_t: (B, r). y_s: (B,) labels.
        importance_s: (B,) weight of each source sample, None for 1 (`gsda.partial`).
        progress: share of the training that lies behind.
        lam: lambda(p) of Ganin et al., from 0 to nearly lambda_max.
    """

    f_s: Tensor
    logits_s: Tensor
    y_s: Tensor
    f_t: Tensor
    logits_t: Tensor
    importance_s: Tensor | None
    progress: float
    lam: float

    @property
    def f(self) -> Tensor:
        """(N, d), source first."""
        return torch.cat([self.f_s, self.f_t])

    @property
    def p(self) -> Tensor:
        """(N, r) predictions, source first."""
        return torch.softmax(torch.cat([self.logits_s, self.logits_t]), dim=1)

    @property
    def shares(self) -> Tensor:
        """(N, 1) of `gsda.losses.sample_shares`, with the source's importance."""
        n_s, n_t = len(self.f_s), len(self.f_t)
        shares = losses.sample_shares(n_s, n_t, self.f_s)
        if self.importance_s is None:
            return shares
        return torch.cat([shares[:n_s] * self.importance_s[:, None], shares[n_s:]])


def extract(network: Network, x: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """Features and logits, in the precision of the input whatever E and C run in."""
    with autocast(precision, x.device):
        f, logits = network(x)
    return f.to(x.dtype), logits.to(x.dtype)


class Baseline:
    """Classification of the source plus `terms`, descended in one step of one optimiser.

    A subclass says which networks it has beside E and C (`build`), and what it adds to Eq. 3
    (`terms`). Adversaries are met by reversing gradients (`gsda.methods.adversary`).

    Attributes:
        own: networks beside E and C, and constants that were drawn at random (buffers).
    """

    def __init__(self, network: Network, config: Config, n_classes: int) -> None:
        self.network, self.config, self.n_classes = network, config, n_classes
        self.class_weights: Tensor | None = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed + 1)
            self.own = self.build(config.bottleneck, n_classes)
        self.optimisers = self.build_optimisers()

    def build(self, d: int, r: int) -> nn.ModuleDict:
        """Networks beside E and C, for features of width d and r classes."""
        return nn.ModuleDict()

    def build_optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """By name; made anew when everything has moved to its device."""
        groups = [*self.groups_of_E(), (self.new_of_C(), self.config.lr)]
        return {"all": sgd(groups, self.config)}

    def groups_of_E(self) -> list[tuple[list[nn.Parameter], float]]:
        """Parameters of E with their learning rates."""
        lr, network = self.config.lr, self.network
        bottleneck = list(network.E.get_submodule("bottleneck").parameters())
        return [(network.backbone_parameters(), lr * self.config.backbone_lr), (bottleneck, lr)]

    def new_of_C(self) -> list[nn.Parameter]:
        """Parameters of C and of the networks beside it."""
        return [*self.network.C.parameters(), *self.own.parameters()]

    def to(self, device: torch.device) -> None:
        """Move everything (before the first update)."""
        arrange(self.network, device)
        self.own.to(device)
        self.optimisers = self.build_optimisers()

    def fit(self, x_s: Tensor, x_t: Tensor) -> None:
        """Nothing: batches are enough."""

    def begin(self, progress: float) -> None:
        """Learning rates and modes of an update."""
        for optimiser in self.optimisers.values():
            set_progress(optimiser, progress)
        self.network.train()

    def extract(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, d) and logits (B, r)."""
        return extract(self.network, x, self.config.precision)

    def look(self, x_s: Tensor, y_s: Tensor, x_t: Tensor, progress: float) -> Batch:
        """One pass of E and C over both domains, as `config.passes` says."""
        n_s = len(x_s)
        if self.config.passes == "shared":
            f, logits = self.extract(torch.cat([x_s, x_t]))
            parts = f[:n_s], logits[:n_s], y_s, f[n_s:], logits[n_s:]
        else:
            (f_s, logits_s), (f_t, logits_t) = self.extract(x_s), self.extract(x_t)
            parts = f_s, logits_s, y_s, f_t, logits_t
        counts_s = importance(self.class_weights, y_s)
        return Batch(*parts, counts_s, progress, warm_up(progress, self.config.lambda_max))

    def source_loss(self, batch: Batch) -> Tensor:
        """Eq. 3."""
        return losses.source_classification(batch.logits_s, batch.y_s, batch.importance_s)

    def terms(self, batch: Batch) -> dict[str, Term]:
        """What is added to Eq. 3, by name."""
        raise NotImplementedError

    def update(self, x_s: Tensor, y_s: Tensor, x_t: Tensor, progress: float) -> dict[str, Tensor]:
        """One step of everything on the sum of the terms."""
        self.begin(progress)
        batch = self.look(x_s, y_s, x_t, progress)
        terms = {"C": Term(1.0, self.source_loss(batch))} | self.terms(batch)
        descend(self.optimisers["all"], total(terms))
        return logs(terms)

    def state_dict(self) -> dict[str, Any]:
        """Networks and optimisers."""
        return {
            "network": self.network.state_dict(),
            "own": self.own.state_dict(),
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.own.load_state_dict(state["own"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])


def total(terms: dict[str, Term]) -> Tensor:
    """The weighted sum."""
    first, *rest = [term.weight * term.loss for term in terms.values()]
    return sum(rest, start=first)


def logs(terms: dict[str, Term]) -> dict[str, Tensor]:
    """The terms without their weights, as `update` returns them."""
    return {f"loss/{name}": term.loss.detach() for name, term in terms.items()}
