"""MCD: two classifiers look for target samples on which they differ; E takes these away.

Saito, Watanabe, Ushiku and Harada, "Maximum Classifier Discrepancy for Unsupervised Domain
Adaptation", CVPR 2018: steps A, B and C of section 3.3.
"""

import torch
from torch import Tensor, nn

from gsda import losses
from gsda.methods.common import Baseline, Batch, Term, logs
from gsda.optim import descend, sgd

EXTRACTOR_STEPS = 4  # n of step C, the paper's usual choice


def discrepancy(logits_1: Tensor, logits_2: Tensor) -> Tensor:
    """Mean absolute difference of the probabilities of two classifiers, (B, r) each."""
    return (logits_1.softmax(dim=1) - logits_2.softmax(dim=1)).abs().mean()


class MCD(Baseline):
    """C and a second classifier C2 on the same features; C alone predicts in the end."""

    def build(self, d: int, r: int) -> nn.ModuleDict:
        """C2."""
        return nn.ModuleDict({"C2": nn.Linear(d, r)})

    def build_optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """One for each side of the game."""
        C = [(self.new_of_C(), self.config.lr)]
        return {"E": sgd(self.groups_of_E(), self.config), "C": sgd(C, self.config)}

    def update(self, x_s: Tensor, y_s: Tensor, x_t: Tensor, progress: float) -> dict[str, Tensor]:
        """Step A (E, C, C2 on the source), B (C, C2 part on the target), C (E brings them home)."""
        self.begin(progress)
        f_s, _ = self.extract(x_s)
        L_s = self._classify(f_s, y_s)
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        L_s.backward()  # type: ignore[no-untyped-call]
        for optimiser in self.optimisers.values():
            optimiser.step()
        with torch.no_grad():
            batch = self.look(x_s, y_s, x_t, progress)
        self._part(batch)
        L_adv = self._bring_home(x_t)
        return logs({"C": Term(1.0, L_s), "discrepancy": Term(1.0, L_adv)})

    def _classify(self, f_s: Tensor, y_s: Tensor) -> Tensor:
        heads = self.network.C, self.own["C2"]
        return sum(
            (losses.source_classification(head(f_s), y_s) for head in heads),
            start=f_s.new_zeros(()),
        )

    def _differ(self, f_t: Tensor) -> Tensor:
        return discrepancy(self.network.C(f_t), self.own["C2"](f_t))

    def _part(self, batch: Batch) -> None:
        differ = self.config.lambda_max * self._differ(batch.f_t)
        objective = self._classify(batch.f_s, batch.y_s) - differ
        descend(self.optimisers["C"], objective)

    def _bring_home(self, x_t: Tensor) -> Tensor:
        for _ in range(EXTRACTOR_STEPS):
            f_t, _ = self.extract(x_t)
            L_adv = self._differ(f_t)
            descend(self.optimisers["E"], self.config.lambda_max * L_adv)
        return L_adv
