"""Batches, discriminators and settings drawn at random, and what the losses make of them."""

from dataclasses import dataclass

import reference
import torch
from hypothesis import strategies as st
from reference import Game
from torch import Tensor

from gsda import losses
from gsda.config import LEVELS, SYNC_READINGS
from gsda.discriminators import Discriminators
from gsda.losses import Layout
from gsda.pairs import list_pairs

TOLERANCE = 1e-9
FORMS = ("dense", "sparse")
SELECTIONS = [
    tuple(level for level, bit in zip(LEVELS, (1, 2, 4), strict=True) if code & bit)
    for code in range(1, 8)
]


@dataclass
class Case:
    """A batch, D and a linear C, drawn at random, in float64."""

    game: Game
    layout: Layout
    D: Discriminators
    f: Tensor
    y_s: Tensor
    C: list[Tensor]
    alpha: float
    beta: float
    lam: float
    form: str

    @property
    def logits(self) -> Tensor:
        return self.f @ self.C[0].T + self.C[1]

    @property
    def p_t(self) -> Tensor:
        return torch.softmax(self.logits[len(self.y_s) :], dim=1)

    @property
    def parameters(self) -> dict[str, Tensor]:
        return dict(self.D.named_parameters())


def make_case(
    seed: int = 0,
    r: int = 5,
    b: int = 2,
    n_s: int = 4,
    n_t: int = 3,
    d: int = 3,
    hidden: int = 4,
    tau: float = 0.5,
    levels: tuple[str, ...] = LEVELS,
    reading: str = "batch",
    sharpness: float = 2.0,
    n_labels: int | None = None,
    alpha: float = 0.1,
    beta: float = 1.0,
    lam: float = 1.0,
    form: str = "sparse",
) -> Case:
    dice = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=dice, dtype=torch.float64)

    group_of = losses.draw_groups(r, b, seed)
    groups = [[k for k in range(r) if group_of[k] == q] for q in range(b)]
    membership = torch.tensor([[float(k in group) for group in groups] for k in range(r)])
    layout = Layout(levels, b, membership)
    D = Discriminators(layout.n_discriminators, d, hidden).double()
    with torch.no_grad():
        for parameter in D.parameters():
            parameter.copy_(draw(*parameter.shape))
    C = [(sharpness * draw(r, d)).requires_grad_(True), draw(r).requires_grad_(True)]
    y_s = torch.randint(n_labels or r, (n_s,), generator=dice)
    f = draw(n_s + n_t, d).requires_grad_(True)
    return Case(Game(groups, levels, tau, reading), layout, D, f, y_s, C, alpha, beta, lam, form)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    r = draw(st.integers(1, 7))
    return make_case(
        seed=draw(st.integers(0, 2**31)),
        r=r,
        b=draw(st.integers(1, r)),
        n_s=draw(st.integers(1, 6)),
        n_t=draw(st.integers(1, 6)),
        d=draw(st.integers(1, 6)),
        hidden=draw(st.integers(1, 6)),
        tau=draw(st.sampled_from([0.0, 0.3, 0.6, 0.9, 0.999])),
        levels=draw(st.sampled_from(SELECTIONS)),
        reading=draw(st.sampled_from(SYNC_READINGS)),
        sharpness=draw(st.sampled_from([0.01, 1.0, 10.0])),
        n_labels=draw(st.integers(1, r)),
        alpha=draw(st.floats(0, 2)),
        beta=draw(st.floats(0, 3)),
        lam=draw(st.floats(0, 2)),
        form=draw(st.sampled_from(FORMS)),
    )


def product(case: Case, f: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Losses by level and L^syn, as the package has them."""
    n_s, n_t = len(case.y_s), len(case.f) - len(case.y_s)
    d = losses.domain_labels(n_s, n_t, f)
    shares = losses.sample_shares(n_s, n_t, f)
    weights = losses.sample_weights(case.y_s, case.p_t, case.game.tau, case.layout)
    pairs = list_pairs(weights.align) if case.form == "sparse" else None
    z, J_norm = case.D(f, pairs)
    levels = losses.by_level(losses.alignment(z, d, weights.align, shares), case.layout)
    m = losses.gradient_magnitudes(z, d, J_norm, weights.sync)
    return levels, losses.synchronisation(m, shares, case.layout, case.game.reading)


def product_D(case: Case) -> Tensor:
    levels, syn = product(case, case.f.detach())
    return losses.discriminator_objective(levels, syn, case.beta)


def product_EC(case: Case, logits: Tensor) -> Tensor:
    levels, syn = product(case, case.f)
    n_s = len(case.y_s)
    L_c = losses.classification(logits[:n_s], case.y_s, logits[n_s:], case.alpha)
    return losses.extractor_objective(L_c, levels, syn, case.beta, case.lam)


def reference_EC(case: Case, logits: Tensor) -> Tensor:
    return reference.objective_EC(
        case.game, case.parameters, case.f, logits, case.y_s, case.alpha, case.beta, case.lam
    )


def gradients(objective: Tensor, *of: Tensor) -> list[Tensor]:
    given = torch.autograd.grad(objective, of, allow_unused=True, retain_graph=True)
    return [
        torch.zeros_like(value) if gradient is None else gradient
        for value, gradient in zip(of, given, strict=True)
    ]


def assert_same(ours: Tensor, truth: Tensor, tolerance: float = TOLERANCE) -> None:
    assert ours.dtype == truth.dtype == torch.float64
    torch.testing.assert_close(ours, truth, rtol=tolerance, atol=tolerance)
