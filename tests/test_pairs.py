"""Both forms of the discriminators: against each other, against autograd, and what they skip."""

from typing import Any

import pytest
import torch
from test_discriminators import make
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gsda import kernels
from gsda.discriminators import Discriminators
from gsda.pairs import Pairs, list_pairs, use_pairs

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def some_weights(n: int = 7, K: int = 5, seed: int = 0) -> Tensor:
    """(n, K), a third of it zero; nothing for discriminator 2, one sample for discriminator 3."""
    dice = torch.Generator().manual_seed(seed)
    weights = torch.rand(n, K, generator=dice, dtype=torch.float64)
    weights[weights < 0.33] = 0.0
    weights[:, 2] = 0.0
    weights[1:, 3] = 0.0
    weights[0, 3] = 1.0
    return weights


def plain(D: Discriminators, f: Tensor) -> tuple[Tensor, Tensor]:
    """z and ||J||, (N, K) each, as autograd differentiates them."""
    a1 = torch.einsum("nd,khd->knh", f, D.W1) + D.b1[:, None]
    a2 = torch.einsum("knh,kgh->kng", a1.relu(), D.W2) + D.b2[:, None]
    z = torch.einsum("knh,kh->nk", a2.relu(), D.w3) + D.b3
    u2 = (a2 > 0) * D.w3[:, None]
    J = ((a1 > 0) * (u2 @ D.W2)) @ D.W1
    return z, torch.linalg.vector_norm(J, dim=2).t()


def objective(z: Tensor, J_norm: Tensor, weights: Tensor) -> Tensor:
    """Something smooth that feels both outputs, wherever there is weight."""
    return (weights * (z.sigmoid() + z.square() * J_norm + J_norm.sin())).sum()


# The list


def test_pairs_are_where_the_weights_are_sorted_by_discriminator() -> None:
    pairs = list_pairs(torch.tensor([[0.5, 0.0, 1.0], [1.0, 0.0, 0.0]]))
    assert pairs.discriminator.tolist() == [0, 0, 2]
    assert pairs.sample.tolist() == [0, 1, 0]
    assert pairs.counts == [2, 0, 1]


@pytest.mark.parametrize("shape", [(4, 0), (4, 3)])
def test_there_may_be_no_pairs(shape: tuple[int, int]) -> None:
    pairs = list_pairs(torch.zeros(shape))
    assert pairs.counts == [0] * shape[1]
    D = Discriminators(shape[1], 3, 5)
    f = torch.randn(4, 3, requires_grad=True)
    z, J_norm = D(f, pairs)
    assert z.shape == J_norm.shape == shape
    (z.sum() + J_norm.sum()).backward()
    for variable in (f, *D.parameters()):
        assert variable.grad is not None
        assert not bool(variable.grad.any())


@pytest.mark.parametrize(
    ("choice", "device", "sparse"),
    [
        ("auto", CPU, True),
        ("auto", CUDA, False),
        ("sparse", CUDA, True),
        ("dense", CPU, False),
    ],
)
def test_the_form_follows_the_device_unless_it_is_named(
    choice: str, device: torch.device, sparse: bool
) -> None:
    assert use_pairs(choice, device) is sparse


# Values and gradients


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize("magnitude", [True, False])
@pytest.mark.parametrize("at", ["samples", "layers", "both"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_gradients_written_by_hand_are_those_of_autograd(
    form: str, magnitude: bool, at: str, seed: int
) -> None:
    D, f = make(5, 4, 6, seed)
    weights = some_weights(seed=seed)
    f.requires_grad_(at != "layers")
    D.requires_grad_(at != "samples")
    z, J_norm = D(f, list_pairs(weights) if form == "sparse" else None, magnitude)
    true_z, true_norm = plain(D, f)
    true_norm = true_norm if magnitude else torch.zeros_like(true_norm)
    variables = [v for v in (f, *D.parameters()) if v.requires_grad]
    ours = torch.autograd.grad(objective(z, J_norm, weights), variables)
    truth = torch.autograd.grad(objective(true_z, true_norm, weights), variables)
    for mine, true in zip(ours, truth, strict=True):
        torch.testing.assert_close(mine, true, rtol=1e-9, atol=1e-9)
    there = weights != 0 if form == "sparse" else torch.ones_like(weights, dtype=torch.bool)
    torch.testing.assert_close(z, true_z * there, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(J_norm, true_norm * there, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradients_of_the_pairs_are_those_of_finite_differences(seed: int) -> None:
    D, f = make(5, 2, 4, seed)
    names = [name for name, _ in D.named_parameters()]
    pairs = list_pairs(some_weights(4))

    def forward(f: Tensor, *values: Tensor) -> Any:
        return torch.func.functional_call(D, dict(zip(names, values, strict=True)), (f, pairs))

    assert torch.autograd.gradcheck(forward, (f[:4].requires_grad_(True), *D.parameters()))


@pytest.mark.parametrize(("K", "d", "h", "n"), [(1, 1, 1, 1), (5, 4, 7, 7), (3, 33, 65, 40)])
def test_float32_by_onednn_and_by_blas_is_float64_to_rounding(
    K: int, d: int, h: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    D, _ = make(K, d, h)
    f = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = torch.ones(n, K, dtype=torch.float64)
    pairs = list_pairs(weights)
    truth = torch.autograd.grad(objective(*D(f, pairs), weights), list(D.parameters()))
    D.float()
    for has_onednn in (kernels._HAS_ONEDNN, False):
        monkeypatch.setattr(kernels, "_HAS_ONEDNN", has_onednn)
        result = D(f.float(), pairs)
        ours = torch.autograd.grad(objective(*result, weights.float()), list(D.parameters()))
        for mine, true in zip(ours, truth, strict=True):
            scale = float(true.abs().max())
            torch.testing.assert_close(mine.double(), true, rtol=1e-3, atol=1e-4 * scale)


def test_where_the_gradient_vanishes_its_norm_has_gradient_zero() -> None:
    D, f = make(3, 2, 4)
    with torch.no_grad():
        D.w3.zero_()
    for pairs in (None, list_pairs(torch.ones(7, 3))):
        gradients = torch.autograd.grad(D(f, pairs)[1].sum(), list(D.parameters()))
        assert all(not bool(gradient.any()) for gradient in gradients)


def test_a_second_differentiation_is_refused() -> None:
    D, f = make(3, 2, 4)
    f.requires_grad_(True)
    (slope,) = torch.autograd.grad(D(f)[0].square().sum(), f, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_the_same_numbers_twice() -> None:
    D, _ = make(5, 33, 65)
    D.float()
    f = torch.randn(7, 33)
    weights = some_weights().float()
    results = []
    for _ in range(2):
        D.recycle_gradients()
        objective(*D(f, list_pairs(weights)), weights).backward()
        results.append([parameter.grad.clone() for parameter in D.parameters()])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


# Memory of the gradients


def backward(D: Discriminators, f: Tensor, pairs: Pairs | None) -> list[Tensor]:
    (D(f, pairs)[0].sum() + D(f, pairs)[1].sum()).backward()
    return [parameter.grad for parameter in D.parameters()]


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_gradients_are_written_over_those_of_the_last_step(form: str) -> None:
    D, f = make(5, 3, 4)
    pairs = list_pairs(some_weights()) if form == "sparse" else None

    def step() -> list[tuple[int, Tensor]]:
        z, J_norm = D(f, pairs)
        (z.sum() + J_norm.sum()).backward()
        return [(p.grad.data_ptr(), p.grad.clone()) for p in D.parameters()]

    first = step()
    D.recycle_gradients()
    assert all(parameter.grad is None for parameter in D.parameters())
    for (place, value), (old_place, old_value) in zip(step(), first, strict=True):
        assert place == old_place
        assert torch.equal(value, old_value)


def test_two_evaluations_in_one_graph_share_no_gradient() -> None:
    D, f = make(5, 3, 4)
    pairs = list_pairs(some_weights())
    once = [gradient.clone() for gradient in backward(D, f, pairs)]
    D.recycle_gradients()
    for one, again in zip(once, backward(D, f, pairs), strict=True):
        assert torch.equal(one, again)


def test_spare_gradients_of_another_kind_are_not_used() -> None:
    D, f = make(5, 3, 4)
    backward(D, f, None)
    D.recycle_gradients()
    D.float()
    assert {g.dtype for g in backward(D, f.float(), None)} == {torch.float32}


# What is skipped


class Products(TorchDispatchMode):
    """Counts matrix products that are as large as the layers."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        if function._overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm):
            operands = [a.shape[-2:] for a in args if isinstance(a, Tensor)]
            self.count += all(min(shape) > 1 for shape in [*operands, out.shape[-2:]])
        return out


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize(
    ("at", "magnitude", "forward", "backward"),
    [
        ("layers", True, 6, 2),
        ("layers", False, 3, 2),
        ("samples", True, 4, 0),
        ("samples", False, 4, 0),
        ("nothing", True, 4, 0),
        ("nothing", False, 2, 0),
    ],
)
def test_no_product_is_taken_in_vain(
    form: str, at: str, magnitude: bool, forward: int, backward: int
) -> None:
    D, f = make(1, 4, 6)
    f.requires_grad_(at == "samples")
    D.requires_grad_(at == "layers")
    pairs = list_pairs(torch.ones(7, 1)) if form == "sparse" else None
    with Products() as products:
        z, J_norm = D(f, pairs, magnitude)
    assert products.count == forward
    if at != "nothing":
        with Products() as products:
            (z.sum() + J_norm.sum()).backward()
        # The sum over a sample's pairs is one more product, with no matrix of the layers.
        assert products.count == backward + (at == "samples" and form == "sparse")


def test_without_gradients_nothing_is_kept() -> None:
    D, f = make(3, 4, 6)
    with torch.no_grad():
        z, J_norm = D(f, list_pairs(torch.ones(7, 3)))
    assert z.grad_fn is None
    assert J_norm.grad_fn is None
