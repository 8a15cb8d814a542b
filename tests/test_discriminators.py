"""The batched discriminators against a loop over ordinary ones, and against autograd."""

import pytest
import torch
from torch import Tensor, nn

from gsda.discriminators import Discriminators

SIZES = [(1, 1, 1), (1, 5, 3), (4, 1, 6), (6, 3, 1), (5, 4, 7)]


def make(K: int, d: int, h: int, seed: int = 0) -> tuple[Discriminators, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        D = Discriminators(K, d, h).double()
        with torch.no_grad():
            for parameter in D.parameters():
                parameter.copy_(torch.randn(parameter.shape))
        return D, torch.randn(7, d, dtype=torch.float64)


def ordinary(D: Discriminators, k: int) -> nn.Sequential:
    _, h, d = D.W1.shape
    network = nn.Sequential(
        nn.Linear(d, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, 1)
    ).double()
    values = (D.W1[k], D.b1[k], D.W2[k], D.b2[k], D.w3[k][None], D.b3[k][None])
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), values, strict=True):
            parameter.copy_(value)
    return network


@pytest.mark.parametrize(("K", "d", "h"), SIZES)
def test_logits_are_those_of_ordinary_networks(K: int, d: int, h: int) -> None:
    D, f = make(K, d, h)
    loop = torch.cat([ordinary(D, k)(f) for k in range(K)], dim=1)
    torch.testing.assert_close(D(f)[0], loop, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("K", "d", "h"), SIZES)
def test_norms_are_those_of_the_jacobian(K: int, d: int, h: int) -> None:
    D, f = make(K, d, h)
    norms = torch.zeros(len(f), K, dtype=torch.float64)
    for k in range(K):
        network = ordinary(D, k)
        for i, row in enumerate(f):
            J = torch.autograd.functional.jacobian(network, row)
            norms[i, k] = torch.linalg.vector_norm(J)
    assert K * h == 1 or float(norms.max()) > 0.1
    torch.testing.assert_close(D(f)[1], norms, rtol=1e-12, atol=1e-12)


def test_a_unit_at_exactly_zero_is_off_as_it_is_in_autograd() -> None:
    D, f = make(3, 2, 4)
    with torch.no_grad():
        D.b1[0] = D.W1[0] = 0.0  # both layers at zero
        D.b2[0] = 0.0
        D.W2[1] = D.b2[1] = 0.0  # the second alone
    for k in range(3):
        J = torch.autograd.functional.jacobian(ordinary(D, k), f[0])
        assert D(f)[1][0, k].item() == pytest.approx(torch.linalg.vector_norm(J).item())
    zero = torch.zeros(1, 2, dtype=torch.float64)
    with torch.no_grad():
        D.W1[0] = D.b2[2] = D.b1[2] = 1.0
        D.W2[2].fill_(-0.25)  # a2 = 1 - 4 / 4 = 0 under live units
    assert D(zero)[1].tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradients_are_those_of_finite_differences(seed: int) -> None:
    D, f = make(3, 2, 4, seed)
    names = [name for name, _ in D.named_parameters()]

    def forward(f: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip(names, values, strict=True))
        z, J_norm = torch.func.functional_call(D, given, (f,))
        return z, J_norm

    inputs = (f[:3].requires_grad_(True), *D.parameters())
    assert torch.autograd.gradcheck(forward, inputs)


def test_norms_do_not_depend_on_the_logit_bias_but_logits_do() -> None:
    D, f = make(3, 4, 5)
    z, J_norm = D(f)
    with torch.no_grad():
        D.b3 += 2.0
    torch.testing.assert_close(D(f)[0], z + 2.0)
    assert torch.equal(D(f)[1], J_norm)


def test_samples_do_not_see_each_other() -> None:
    D, f = make(4, 3, 5)
    z, J_norm = D(f)
    other = f.clone()
    other[1:] = 100 * torch.randn(6, 3, dtype=torch.float64)
    z_other, J_other = D(other)
    torch.testing.assert_close(z_other[0], z[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(J_other[0], J_norm[0], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(z_other[1:], z[1:])


def test_discriminators_do_not_see_each_other() -> None:
    D, f = make(4, 3, 5)
    f.requires_grad_(True)
    z, J_norm = D(f)
    (z[:, 2].sum() + J_norm[:, 2].sum()).backward()
    for parameter in D.parameters():
        assert parameter.grad is not None
        touched = [bool((parameter.grad[k] != 0).any()) for k in range(4)]
        assert touched == [False, False, True, False]


def test_norms_can_be_left_out() -> None:
    D, f = make(4, 3, 5)
    z, zeros = D(f, magnitude=False)
    assert torch.equal(z, D(f)[0])
    assert torch.equal(zeros, torch.zeros(7, 4, dtype=torch.float64))


@pytest.mark.parametrize("magnitude", [True, False])
def test_no_discriminators_are_allowed(magnitude: bool) -> None:
    z, J_norm = Discriminators(0, 3, 4)(torch.zeros(7, 3), magnitude=magnitude)
    assert z.shape == J_norm.shape == (7, 0)


def test_initialised_like_linear_layers_each_on_its_own() -> None:
    D = Discriminators(50, 4, 25)
    for weight, bound in [(D.W1, 0.5), (D.b1, 0.5), (D.W2, 0.2), (D.b2, 0.2), (D.w3, 0.2)]:
        assert 0.95 * bound < float(weight.detach().abs().max()) <= bound
        assert abs(float(weight.detach().mean())) < 0.05 * bound * 2
        assert not torch.equal(weight[0], weight[1])
