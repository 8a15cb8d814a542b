"""One batch at all discriminators, in four forms that compute the same: what `bench_step` times."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gsda import losses
from gsda.config import LEVELS
from gsda.discriminators import Discriminators
from gsda.kernels import Layers
from gsda.losses import Layout
from gsda.methods.gsda import Stage
from gsda.pairs import list_pairs

TAU, BETA = 0.9, 1.0
FORMS = ("loop", "autograd", "dense", "sparse")


@dataclass(frozen=True)
class Sizes:
    """r classes, b groups, a batch from each domain, d features, h hidden units."""

    r: int
    b: int
    batch: int = 32
    d: int = 256
    hidden: int = 1024

    def __str__(self) -> str:
        return f"r = {self.r}, b = {self.b}"


class Game:
    """Discriminators, and a batch of which half the target is over tau.

    Attributes:
        D: the discriminators. batched: their parameters, for autograd. networks: the same, each
            by itself, for the loop.
        f: (N, d) features. stage: who counts where.
    """

    def __init__(self, sizes: Sizes, device: torch.device, epsilon: float = 0.0) -> None:
        self.sizes = sizes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            groups = losses.draw_groups(sizes.r, sizes.b, seed=0)
            self.layout = Layout(LEVELS, sizes.b, F.one_hot(groups, sizes.b).float().to(device))
            self.D = Discriminators(self.layout.n_discriminators, sizes.d, sizes.hidden).to(device)
            # The same memory, but gradients of their own: no form pays for another's.
            self.batched = Layers(*(value.detach() for value in self.D.parameters()))
            self.networks = [
                Layers(*one) for one in zip(*(v.unbind() for v in self.batched), strict=True)
            ]
            self._train_layers(True)
            self.f = torch.randn(2 * sizes.batch, sizes.d).relu().to(device)
            y_s = (torch.arange(sizes.batch) % sizes.r).to(device)
            self.stage = self._set_stage(y_s, _draw_predictions(sizes).to(device), epsilon)

    def _set_stage(self, y_s: Tensor, p_t: Tensor, epsilon: float) -> Stage:
        n = self.sizes.batch
        weights = losses.sample_weights(y_s, p_t, TAU, self.layout, epsilon)
        d, shares = losses.domain_labels(n, n, p_t), losses.sample_shares(n, n, p_t)
        return Stage(d, shares, weights, list_pairs(weights.align))

    def step_D(self, form: str) -> Callable[[], None]:
        """Forward and backward of Eq. 14 in one of `FORMS`; gradients of all layers."""

        def step() -> None:
            self._forget()
            levels, syn = self._discriminate(form, self.f.requires_grad_(form == "loop"))
            losses.discriminator_objective(levels, syn, BETA).backward()  # type: ignore[no-untyped-call]

        return step

    def step_EC(self, form: str) -> Callable[[], None]:
        """Forward and backward of the adversarial part of Eq. 16; gradients at the features."""

        def step() -> None:
            self._forget()
            self._train_layers(False)
            levels, syn = self._discriminate(form, self.f.requires_grad_())
            losses.extractor_objective(syn * 0, levels, syn, BETA, 1.0).backward()  # type: ignore[no-untyped-call]
            self._train_layers(True)

        return step

    def gradients(self) -> list[Tensor]:
        """What the last step left: of the layers, in every form, or of f."""
        separate = [
            torch.stack([v.grad for v in layer if v.grad is not None])
            for layer in zip(*self.networks, strict=True)
            if layer[0].grad is not None
        ]
        owners = (*self.D.parameters(), *self.batched)
        whole = [owner.grad for owner in owners if owner.grad is not None]
        own = [self.f.grad] if self.f.grad is not None else []
        return whole or separate or own

    def _forget(self) -> None:
        self.D.recycle_gradients()
        for value in (self.f, *self.batched, *itertools.chain(*self.networks)):
            value.grad = None

    def _train_layers(self, on: bool) -> None:
        self.D.requires_grad_(on)
        for value in (*self.batched, *itertools.chain(*self.networks)):
            value.requires_grad_(on)

    def _discriminate(self, form: str, f: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        stage = self.stage
        if form == "loop":
            z, magnitudes = self._loop(f)
        else:
            if form == "autograd":
                z, J_norm = differentiate_by_autograd(self.batched, f)
            else:
                pairs = list_pairs(stage.weights.align) if form == "sparse" else None
                z, J_norm = self.D(f, pairs)
            magnitudes = losses.gradient_magnitudes(z, stage.d, J_norm, stage.weights.sync)
        per_D = losses.alignment(z, stage.d, stage.weights.align, stage.shares)
        syn = losses.synchronisation(magnitudes, stage.shares, self.layout)
        return losses.by_level(per_D, self.layout), syn

    def _loop(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """z and magnitudes as public code has them: a network and a graph of gradients each."""
        z, norms = [], []
        labels = self.stage.d[:, 0]
        for (W1, b1, W2, b2, w3, b3), w in zip(
            self.networks, self.stage.weights.sync.t(), strict=True
        ):
            hidden = F.linear(F.linear(f, W1, b1).relu(), W2, b2).relu()
            z_k = F.linear(hidden, w3[None], b3[None])[:, 0]
            loss = (w * F.binary_cross_entropy_with_logits(z_k, labels, reduction="none")).sum()
            (gradient,) = torch.autograd.grad(loss, f, create_graph=True)
            z.append(z_k)
            norms.append(torch.linalg.vector_norm(gradient, dim=1))
        return torch.stack(z, dim=1), torch.stack(norms, dim=1)


def _draw_predictions(sizes: Sizes) -> Tensor:
    """(B_t, r) probabilities: half of them over tau, the others below it, none of them 0."""
    n, r = sizes.batch, sizes.r
    rest = torch.softmax(2 * torch.randn(n, r), dim=1)
    top = F.one_hot(torch.randint(r, (n,)), r)
    sure = torch.where(torch.arange(n) % 2 == 0, 0.92 + 0.07 * torch.rand(n), torch.zeros(n))
    p_t = sure[:, None] * top + (1 - sure[:, None]) * rest
    unsure = 0.5 * rest + 0.5 / r
    return torch.where(sure[:, None] > 0, p_t, unsure)


def differentiate_by_autograd(layers: Layers, f: Tensor) -> tuple[Tensor, Tensor]:
    """z and ||J||, (N, K) each: the closed form in batched products, left to autograd."""
    K, h, d = layers.W1.shape
    a1 = (
        torch.addmm(layers.b1.flatten(), f, layers.W1.view(K * h, d).t())
        .view(len(f), K, h)
        .transpose(0, 1)
    )
    a2 = torch.baddbmm(layers.b2[:, None], a1.relu(), layers.W2.transpose(1, 2))
    z = torch.baddbmm(layers.b3[:, None, None], a2.relu(), layers.w3[:, :, None]).squeeze(2).t()
    u1 = (a1 > 0) * torch.bmm((a2 > 0) * layers.w3[:, None], layers.W2)
    return z, torch.linalg.vector_norm(torch.bmm(u1, layers.W1), dim=2).t()
