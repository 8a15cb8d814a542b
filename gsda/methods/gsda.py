"""GSDA: alternating descent of D on Eq. 14 and of (E, C) on Eq. 16.

Hu, Kan, Shan and Chen, "Unsupervised Domain Adaptation with Hierarchical Gradient
Synchronization", CVPR 2020. Equation numbers are the paper's.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gsda import losses
from gsda.config import Config
from gsda.device import arrange
from gsda.discriminators import Discriminators
from gsda.losses import Layout, Weights
from gsda.methods.common import extract
from gsda.model import Network
from gsda.optim import descend, set_progress, sgd, warm_up
from gsda.pairs import Pairs, list_pairs, use_pairs
from gsda.partial import importance, weigh_source


@dataclass(frozen=True)
class Stage:
    """A batch as the discriminators meet it: who counts where. Nothing here carries gradients.

    Attributes:
        d: (N, 1) domain labels. shares: (N, 1). weights: (N, K) twice.
        pairs: where weights are; None to compute all.
    """

    d: Tensor
    shares: Tensor
    weights: Weights
    pairs: Pairs | None


class GSDA:
    """E, C and the hierarchy of discriminators, with an optimiser for each side of the game.

    With no levels and alpha = 0 it is source-only training, and the target is not looked at.
    """

    def __init__(self, network: Network, config: Config, n_classes: int) -> None:
        self.network = network
        self.class_weights: Tensor | None = None
        self.config = config.check_classes(n_classes)
        self.groups = losses.draw_groups(n_classes, config.n_groups, config.group_seed)
        self.layout = self._lay_out(torch.device("cpu"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed + 1)
            self.D = Discriminators(self.layout.n_discriminators, config.bottleneck, config.hidden)
        self._build_optimisers()

    def _lay_out(self, device: torch.device) -> Layout:
        config = self.config
        membership = torch.nn.functional.one_hot(self.groups, config.n_groups).float()
        return Layout(config.levels, config.n_groups, membership.to(device))

    def _build_optimisers(self) -> None:
        lr, network = self.config.lr, self.network
        trunk = (network.backbone_parameters(), lr * self.config.backbone_lr)
        self.optimiser_EC = sgd([trunk, (network.new_parameters(), lr)], self.config)
        self.optimiser_D = sgd([(list(self.D.parameters()), lr)], self.config)

    def to(self, device: torch.device) -> None:
        """Move networks, groups and optimisers (before the first update)."""
        arrange(self.network, device)
        self.D.to(device)
        self.layout = self._lay_out(device)
        self._build_optimisers()

    def fit(self, x_s: Tensor, x_t: Tensor) -> None:
        """Nothing: batches are enough."""

    @property
    def adapts(self) -> bool:
        """False for source-only training."""
        return bool(self.config.levels) or self.config.alpha > 0

    @property
    def synchronises(self) -> bool:
        """Whether L^syn is there to be minimised."""
        return self.config.beta > 0 and len(self.config.levels) > 1

    def update(self, x_s: Tensor, y_s: Tensor, x_t: Tensor, progress: float) -> dict[str, Tensor]:
        """A step of D (Eq. 14, 15), then a step of E and C (Eq. 16, 17), on the same batch.

        One pass of E and C serves both: the step of D leaves them as they were, so f, logits and
        the weights made of them are what a second pass would give for Eq. 16 (which would also
        move the running statistics of batch normalisation twice). D has changed in between, and
        is evaluated anew. The host never waits for the device here, but for `pairs="sparse"`.
        """
        set_progress(self.optimiser_EC, progress)
        set_progress(self.optimiser_D, progress)
        self.network.train()
        if not self.adapts:
            return self._update_source_only(x_s, y_s)
        f, logits = self._extract(x_s, x_t)
        stage = self._set_stage(y_s, logits)
        logs = self._update_D(f.detach(), stage) if self.config.levels else {}
        lam = warm_up(progress, self.config.lambda_max)
        return logs | self._update_EC(f, logits, y_s, stage, lam)

    def _update_source_only(self, x_s: Tensor, y_s: Tensor) -> dict[str, Tensor]:
        _, logits_s = self._forward(x_s)
        counts_s = importance(self.class_weights, y_s)
        L_s = losses.source_classification(logits_s, y_s, counts_s)  # Eq. 3
        descend(self.optimiser_EC, L_s)
        return {"loss/C": L_s.detach()}

    def _extract(self, x_s: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, d) and logits (N, r) of the source, then of the target (Eq. 1, 2)."""
        if self.config.passes == "shared":
            return self._forward(torch.cat([x_s, x_t]))
        (f_s, logits_s), (f_t, logits_t) = self._forward(x_s), self._forward(x_t)
        return torch.cat([f_s, f_t]), torch.cat([logits_s, logits_t])

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits, in the precision of the input whatever E and C run in."""
        return extract(self.network, x, self.config.precision)

    def _set_stage(self, y_s: Tensor, logits: Tensor) -> Stage | None:
        if not self.config.levels:
            return None
        n_s, n_t, config = len(y_s), len(logits) - len(y_s), self.config
        p_t = torch.softmax(logits[n_s:].detach(), dim=1)
        weights = losses.sample_weights(y_s, p_t, config.tau, self.layout, config.epsilon)
        sparse = use_pairs(config.pairs, logits.device)
        return Stage(
            d=losses.domain_labels(n_s, n_t, p_t),
            shares=weigh_source(
                losses.sample_shares(n_s, n_t, p_t), importance(self.class_weights, y_s)
            ),
            weights=weights,
            pairs=list_pairs(weights.align) if sparse else None,
        )

    def _discriminate(self, f: Tensor, stage: Stage) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """L^g and L^l by level (Eq. 6 to 9), L^syn (Eq. 10 to 12), and magnitudes (N, K)."""
        z, J_norm = self.D(f, stage.pairs, magnitude=self.synchronises)
        per_D = losses.alignment(z, stage.d, stage.weights.align, stage.shares)
        magnitudes = losses.gradient_magnitudes(z, stage.d, J_norm, stage.weights.sync)
        syn = losses.synchronisation(magnitudes, stage.shares, self.layout, self.config.sync)
        return losses.by_level(per_D, self.layout), syn, magnitudes

    def _update_D(self, f: Tensor, stage: Stage | None) -> dict[str, Tensor]:
        assert stage is not None
        levels, syn, magnitudes = self._discriminate(f, stage)
        self.D.recycle_gradients()
        descend(self.optimiser_D, losses.discriminator_objective(levels, syn, self.config.beta))
        logs = {f"loss/D_{level}": loss.detach() for level, loss in levels.items()}
        if self.synchronises:
            per_D = (stage.shares * magnitudes.detach()).sum(dim=0)
            sums = losses.by_level(per_D, self.layout)
            logs |= {"loss/syn": syn.detach()}
            logs |= {f"magnitude/D_{level}": total for level, total in sums.items()}
        return logs

    def _update_EC(
        self, f: Tensor, logits: Tensor, y_s: Tensor, stage: Stage | None, lam: float
    ) -> dict[str, Tensor]:
        n_s = len(y_s)
        counts_s = importance(self.class_weights, y_s)
        L_c = losses.classification(logits[:n_s], y_s, logits[n_s:], self.config.alpha, counts_s)
        objective = L_c
        if stage is not None:
            self.D.requires_grad_(False)  # D is given in this half: no gradients for its weights
            levels, syn, _ = self._discriminate(f, stage)
            objective = losses.extractor_objective(L_c, levels, syn, self.config.beta, lam)
        descend(self.optimiser_EC, objective)
        self.D.requires_grad_(True)
        return {"loss/C": L_c.detach()}

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers and the division into groups."""
        return {
            "network": self.network.state_dict(),
            "D": self.D.state_dict(),
            "optimiser_EC": self.optimiser_EC.state_dict(),
            "optimiser_D": self.optimiser_D.state_dict(),
            "groups": self.groups,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.D.load_state_dict(state["D"])
        self.optimiser_EC.load_state_dict(state["optimiser_EC"])
        self.optimiser_D.load_state_dict(state["optimiser_D"])
        self.groups = state["groups"]
        self.layout = self._lay_out(next(self.network.parameters()).device)
