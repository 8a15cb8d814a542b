"""What TCA and GFK share: a fixed linear map of frozen features, and a classifier on top.

The map is put into the bottleneck, so that the model is a network like any other. The bottleneck
ends with a ReLU: coordinates are shifted until it cuts off nothing, and C takes the shift back.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gsda import losses
from gsda.config import Config
from gsda.methods.common import Baseline, Term, logs
from gsda.model import Network
from gsda.optim import descend, sgd


@dataclass(frozen=True)
class Projection:
    """x -> x P + c of one domain.

    Attributes:
        P: (width, m). c: (m,).
    """

    P: Tensor
    c: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(N, width) -> (N, m)."""
        return x @ self.P + self.c


class Projected(Baseline):
    """A classifier trained by gradient descent on projected source features; E is not trained.

    A subclass gives `project`: the maps of source and target, a function of their features.
    """

    def __init__(self, network: Network, config: Config, n_classes: int) -> None:
        super().__init__(network, config, n_classes)
        self.shift = torch.zeros(config.bottleneck)

    def build(self, d: int, r: int) -> nn.ModuleDict:
        """The source's map into d coordinates, and the classifier W of these."""
        linear = self.network.E.get_submodule("bottleneck.0")
        width = int(linear.get_parameter("weight").shape[1])
        source = nn.Linear(width, d).requires_grad_(False)
        return nn.ModuleDict({"source": source, "W": nn.Linear(d, r)})

    def build_optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """Of W."""
        return {"W": sgd([(list(self.own["W"].parameters()), self.config.lr)], self.config)}

    def project(self, x_s: Tensor, x_t: Tensor, d: int) -> tuple[Projection, Projection]:
        """Maps of source and target into at most d coordinates.

        Args:
            x_s, x_t: (N_s, width), (N_t, width) in float64, on the CPU.
        """
        raise NotImplementedError

    def fit(self, x_s: Tensor, x_t: Tensor) -> None:
        """Find the maps from all features of both domains; called before the first update."""
        d = self.config.bottleneck
        x_s, x_t = x_s.double().cpu(), x_t.double().cpu()
        source, target = (_widen(part, d) for part in self.project(x_s, x_t, d))
        z_s, z_t = source(x_s), target(x_t)
        # The size of features behind batch normalisation, for which learning rates are meant.
        size = (torch.cat([z_s, z_t]).square().sum(dim=1).mean() / d).sqrt().clamp(min=1e-12)
        low = torch.minimum(z_s.amin(dim=0), z_t.amin(dim=0)) / size
        high = torch.maximum(z_s.amax(dim=0), z_t.amax(dim=0)) / size
        self.shift = (high - 2 * low).clamp(min=0.0).float()  # room for as much again below
        self._install(source, target, float(size))

    def _install(self, source: Projection, target: Projection, size: float) -> None:
        bottleneck: Any = self.network.E.get_submodule("bottleneck")
        linear, norm = bottleneck[0], bottleneck[1]
        with torch.no_grad():
            _write(self.own["source"], source, size)
            _write(linear, target, size)
            linear.bias += self.shift.to(linear.bias)
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
            norm.weight.fill_(1)
            norm.bias.zero_()
            self._install_C()

    def _install_C(self) -> None:
        """C is W on shifted coordinates."""
        C, W = self.network.C, self.own["W"]
        weight, bias = W.get_parameter("weight"), W.get_parameter("bias")
        with torch.no_grad():
            C.weight.copy_(weight)
            C.bias.copy_(bias - weight @ self.shift.to(weight))

    def update(self, x_s: Tensor, y_s: Tensor, x_t: Tensor, progress: float) -> dict[str, Tensor]:
        """A step of W on the source; the target has had its say in `fit`."""
        self.begin(progress)
        L_s = losses.source_classification(self.own["W"](self.own["source"](x_s)), y_s)
        descend(self.optimisers["W"], L_s)
        self._install_C()
        return logs({"C": Term(1.0, L_s)})

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers and the shift."""
        return super().state_dict() | {"shift": self.shift}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        super().load_state_dict(state)
        self.shift = state["shift"]


def _widen(part: Projection, d: int) -> Projection:
    """With coordinates that are always 0, up to d of them."""
    missing = d - part.P.shape[1]
    return Projection(
        nn.functional.pad(part.P, (0, missing)), nn.functional.pad(part.c, (0, missing))
    )


def _write(linear: nn.Module, part: Projection, size: float) -> None:
    linear.get_parameter("weight").copy_(part.P.t() / size)
    linear.get_parameter("bias").copy_(part.c / size)
