"""ADDA: an extractor for the target alone, trained to pass for the source's.

Tzeng, Hoffman, Saenko and Darrell, "Adversarial Discriminative Domain Adaptation", CVPR 2017:
first E and C on the source; then E is copied for the source and kept, and the target's E
learns against a discriminator with inverted labels, while C stays as it is.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from gsda import losses
from gsda.config import Config
from gsda.device import autocast
from gsda.methods.adversary import discriminator, domain_loss
from gsda.methods.common import Baseline, Term, logs
from gsda.model import Network
from gsda.optim import descend, sgd

PRETRAINING = 0.5  # share of the steps on the source alone


class ADDA(Baseline):
    """E_s, which is kept, and D beside the network, which becomes the target's.

    `lambda_max` multiplies the loss of the target's extractor.

    Attributes:
        parted: whether the second stage has begun.
    """

    def __init__(self, network: Network, config: Config, n_classes: int) -> None:
        super().__init__(network, config, n_classes)
        self.parted = False

    def build(self, d: int, r: int) -> nn.ModuleDict:
        """E_s, as E begins, and D."""
        D = discriminator(d, self.config.hidden)
        return nn.ModuleDict({"E_s": deepcopy(self.network.E).requires_grad_(False), "D": D})

    def build_optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """Of each stage and side; that of E in the second stage begins without momentum."""
        lr = self.config.lr
        C = list(self.network.C.parameters())
        return {
            "source": sgd([*self.groups_of_E(), (C, lr)], self.config),
            "E": sgd(self.groups_of_E(), self.config),
            "D": sgd([(list(self.own["D"].parameters()), lr)], self.config),
        }

    def update(self, x_s: Tensor, y_s: Tensor, x_t: Tensor, progress: float) -> dict[str, Tensor]:
        """A step of the stage that `progress` lies in."""
        self.begin(progress)
        if progress < PRETRAINING:
            _, logits_s = self.extract(x_s)
            L_s = losses.source_classification(logits_s, y_s)
            descend(self.optimisers["source"], L_s)
            return logs({"C": Term(1.0, L_s)})
        if not self.parted:
            self.own["E_s"].load_state_dict(self.network.E.state_dict())
            self.parted = True
        return self._pass_for_source(x_s, x_t)

    def _pass_for_source(self, x_s: Tensor, x_t: Tensor) -> dict[str, Tensor]:
        D = self.own["D"]
        f_s, n_s = self._source_features(x_s), len(x_s)
        f_t, _ = self.extract(x_t)
        shares = losses.sample_shares(n_s, len(x_t), f_t)
        L_D = domain_loss(D(torch.cat([f_s, f_t.detach()])), n_s, shares)
        descend(self.optimisers["D"], L_D)
        D.requires_grad_(False)
        L_E = domain_loss(D(f_t), len(f_t), shares[n_s:] / shares[n_s:].sum())
        descend(self.optimisers["E"], self.config.lambda_max * L_E)
        D.requires_grad_(True)
        return logs({"D_dom": Term(1.0, L_D), "E": Term(1.0, L_E)})

    def _source_features(self, x_s: Tensor) -> Tensor:
        self.own["E_s"].eval()
        with torch.no_grad(), autocast(self.config.precision, x_s.device):
            f_s: Tensor = self.own["E_s"](x_s)
        return f_s.to(x_s.dtype)

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers and the stage."""
        return super().state_dict() | {"parted": self.parted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        super().load_state_dict(state)
        self.parted = bool(state["parted"])
