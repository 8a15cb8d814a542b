"""The package's losses against `reference`, against values worked out by hand, and at extremes."""

import math
from dataclasses import replace

import pytest
import reference
import torch
from cases import (
    FORMS,
    SELECTIONS,
    Case,
    assert_same,
    cases,
    gradients,
    make_case,
    product,
    product_D,
    product_EC,
    reference_EC,
)
from hypothesis import given, settings
from torch import Tensor

from gsda import losses
from gsda.config import LEVELS, SYNC_READINGS
from gsda.discriminators import Discriminators
from gsda.losses import Layout

# Against the reference


@settings(max_examples=200, deadline=None, derandomize=True)
@given(cases())
def test_every_loss_is_the_reference(case: Case) -> None:
    n_s = len(case.y_s)
    logits_s, logits_t = case.logits[:n_s], case.logits[n_s:]
    assert_same(losses.source_classification(logits_s, case.y_s), reference.L_s(logits_s, case.y_s))
    assert_same(losses.target_entropy(logits_t), reference.L_t(logits_t))
    assert_same(
        losses.classification(logits_s, case.y_s, logits_t, case.alpha),
        reference.L_c(logits_s, case.y_s, logits_t, case.alpha),
    )
    levels, syn = product(case, case.f)
    batch = (case.game, case.parameters, case.f, case.y_s, case.p_t)
    truth = reference.L_levels(*batch)
    assert list(levels) == list(case.game.levels)
    for level in case.game.levels:
        assert_same(levels[level], truth[level])
    assert_same(syn, reference.L_syn(*batch))


@settings(max_examples=250, deadline=None, derandomize=True)
@given(cases())
def test_the_objective_of_D_and_its_gradients_are_the_reference(case: Case) -> None:
    ours = product_D(case)
    truth = reference.objective_D(
        case.game, case.parameters, case.f.detach(), case.y_s, case.p_t, case.beta
    )
    assert_same(ours, truth)
    weights = list(case.D.parameters())
    for mine, true in zip(gradients(ours, *weights), gradients(truth, *weights), strict=True):
        assert_same(mine, true)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(cases())
def test_the_objective_of_E_and_C_and_its_gradients_are_the_reference(case: Case) -> None:
    logits = case.logits
    ours, truth = product_EC(case, logits), reference_EC(case, logits)
    assert_same(ours, truth)
    inputs = (case.f, logits, *case.C)
    for mine, true in zip(gradients(ours, *inputs), gradients(truth, *inputs), strict=True):
        assert_same(mine, true)


@pytest.mark.parametrize("reading", SYNC_READINGS)
@pytest.mark.parametrize("levels", SELECTIONS, ids="+".join)
@pytest.mark.parametrize(("r", "b"), [(1, 1), (4, 1), (4, 4), (5, 2)])
@pytest.mark.parametrize("form", FORMS)
def test_every_reading_of_every_selection(
    form: str, reading: str, levels: tuple[str, ...], r: int, b: int
) -> None:
    case = make_case(seed=3, r=r, b=b, levels=levels, reading=reading, form=form)
    ours, truth = product_EC(case, case.logits), reference_EC(case, case.logits)
    assert_same(ours, truth)
    assert_same(gradients(ours, case.f)[0], gradients(truth, case.f)[0])


@pytest.mark.parametrize("sharpness", [0.001, 1000.0])
@pytest.mark.parametrize("tau", [0.0, 0.9])
@pytest.mark.parametrize("form", FORMS)
def test_none_and_all_confident(form: str, sharpness: float, tau: float) -> None:
    case = make_case(sharpness=sharpness, tau=tau, n_labels=1, form=form)
    with torch.no_grad():
        case.C[1].zero_()
    sure = losses.confident(case.p_t, tau)
    assert bool((sure == (tau == 0 or sharpness > 1)).all())
    ours, truth = product_EC(case, case.logits), reference_EC(case, case.logits)
    assert_same(ours, truth)
    inputs = (case.f, *case.D.parameters())
    for mine, true in zip(gradients(ours, *inputs), gradients(truth, *inputs), strict=True):
        assert_same(mine, true)


def test_no_level_at_all_is_no_adversary() -> None:
    case = make_case(levels=())
    levels, syn = product(case, case.f)
    assert levels == {}
    assert float(syn.detach()) == 0.0
    assert float(product_D(case).detach()) == 0.0
    assert_same(product_EC(case, case.logits), reference_EC(case, case.logits))


# By hand: r = 2, b = 1, d = h = 1, D_k(f) = c_k f for the positive features 1 and 2


LN3 = math.log(3)


def tiny(tau: float) -> tuple[Layout, Tensor, Tensor, Tensor, Tensor, losses.Weights]:
    layout = Layout(LEVELS, 1, torch.ones(2, 1))
    D = Discriminators(4, 1, 1).double()
    with torch.no_grad():
        for name, parameter in D.named_parameters():
            parameter.fill_(1.0 if name.startswith("W") else 0.0)
        D.w3[:, 0] = torch.tensor([LN3, -LN3, LN3, 0.0], dtype=torch.float64)
        z, J_norm = D(torch.tensor([[1.0], [2.0]], dtype=torch.float64))
    p_t = torch.tensor([[0.8, 0.2]], dtype=torch.float64)
    weights = losses.sample_weights(torch.tensor([0]), p_t, tau, layout)
    return layout, z, J_norm, losses.domain_labels(1, 1, z), losses.sample_shares(1, 1, z), weights


def test_alignment_by_hand() -> None:
    layout, z, _, d, shares, weights = tiny(tau=0.5)
    per_D = losses.alignment(z, d, weights.align, shares)
    expected = [
        0.5 * math.log(4 / 3) + 0.5 * math.log(10),
        0.5 * math.log(4) + 0.5 * math.log(10 / 9),
        0.5 * math.log(4 / 3) + 0.5 * 0.8 * math.log(10),
        0.5 * 0.2 * math.log(2),
    ]
    assert per_D.tolist() == pytest.approx(expected, abs=1e-14)
    levels = {name: float(loss) for name, loss in losses.by_level(per_D, layout).items()}
    assert levels == pytest.approx(
        {"dom": expected[0], "grp": expected[1], "cls": expected[2] + expected[3]}
    )


@pytest.mark.parametrize(
    ("reading", "tau", "expected"),
    [
        ("batch", 0.5, 0.21 * LN3),  # M: 0.575, 0.425, 0.485 and 0, all times ln 3
        ("squared", 0.5, 0.0261 * LN3**2),
        ("relative", 0.5, 0.06 / 0.91 + 0.15 / 1.0),
        ("sample", 0.5, 1.21 * LN3),
        ("batch", 0.81, 0.5 * LN3),  # the target is out everywhere: 0.125, 0.375, 0.125 and 0
    ],
)
def test_synchronisation_by_hand(reading: str, tau: float, expected: float) -> None:
    layout, z, J_norm, d, shares, weights = tiny(tau)
    m = losses.gradient_magnitudes(z, d, J_norm, weights.sync)
    syn = losses.synchronisation(m, shares, layout, reading)
    assert float(syn) == pytest.approx(expected, abs=1e-14)


def test_classification_by_hand() -> None:
    logits_s = torch.tensor([[LN3, 0.0], [0.0, 0.0]], dtype=torch.float64)
    logits_t = torch.tensor([[math.log(4), 0.0]], dtype=torch.float64)
    L_s = (math.log(4 / 3) + math.log(2)) / 2
    L_t = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    y_s = torch.tensor([0, 1])
    assert float(losses.source_classification(logits_s, y_s)) == pytest.approx(L_s)
    assert float(losses.target_entropy(logits_t)) == pytest.approx(L_t)
    assert float(losses.classification(logits_s, y_s, logits_t, 0.3)) == pytest.approx(
        L_s + 0.3 * L_t
    )


def test_objectives_by_hand() -> None:
    levels = {"dom": torch.tensor(1.0), "grp": torch.tensor(2.0), "cls": torch.tensor(4.0)}
    syn, L_c = torch.tensor(10.0), torch.tensor(100.0)
    assert float(losses.discriminator_objective(levels, syn, 0.5)) == 12.0
    assert float(losses.extractor_objective(L_c, levels, syn, 0.5, 1.0)) == 98.0
    assert float(losses.extractor_objective(L_c, levels, syn, 0.5, 0.25)) == 99.5


def test_weights_by_hand() -> None:
    membership = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    p_t = torch.tensor([[0.1, 0.7, 0.2], [0.3, 0.4, 0.3], [0.5, 0.25, 0.25]])
    weights = losses.sample_weights(torch.tensor([2, 1]), p_t, 0.5, Layout(LEVELS, 2, membership))
    expected = torch.tensor(
        [
            [1.0, 1.0, 0.0, 0.0, 0.0, 1.0],
            [1.0, 0.0, 1.0, 0.0, 1.0, 0.0],
            [1.0, 0.3, 0.7, 0.1, 0.7, 0.2],
            [1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [1.0, 0.75, 0.25, 0.5, 0.25, 0.25],  # exactly tau is confident
        ]
    )
    torch.testing.assert_close(weights.align, expected)
    expected[3, 0] = 0.0
    torch.testing.assert_close(weights.sync, expected)


def test_weights_under_epsilon_are_dropped_at_the_local_levels() -> None:
    membership = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    p_t = torch.tensor([[0.05, 0.75, 0.2]])
    weights = losses.sample_weights(torch.tensor([2]), p_t, 0.5, Layout(LEVELS, 2, membership), 0.2)
    source = [1.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    target = [1.0, 0.25, 0.75, 0.0, 0.75, 0.2]  # exactly epsilon stays
    torch.testing.assert_close(weights.align, torch.tensor([source, target]))
    torch.testing.assert_close(weights.sync, torch.tensor([source, target]))


@pytest.mark.parametrize("epsilon", [1e-3, 1e-6])
def test_a_small_epsilon_changes_the_losses_little(epsilon: float) -> None:
    case = make_case(r=7, sharpness=4.0, tau=0.3)
    exact = losses.sample_weights(case.y_s, case.p_t, 0.3, case.layout)
    rough = losses.sample_weights(case.y_s, case.p_t, 0.3, case.layout, epsilon)
    assert int((rough.align != 0).sum()) < int((exact.align != 0).sum())
    assert float((rough.align - exact.align).abs().max()) < 3 * epsilon


# Properties


@pytest.mark.parametrize("reading", [name for name in SYNC_READINGS if name != "penalty"])
@pytest.mark.parametrize("levels", [s for s in SELECTIONS if len(s) > 1], ids="+".join)
def test_equal_discriminators_are_synchronous(levels: tuple[str, ...], reading: str) -> None:
    case = make_case(n_t=6, tau=0.6, sharpness=0.7, levels=levels, reading=reading, hidden=6)
    n_sure = int(losses.confident(case.p_t, 0.6).sum())
    assert 0 < n_sure < 6
    with torch.no_grad():
        for parameter in case.D.parameters():
            parameter.copy_(parameter[:1].expand_as(parameter))
    assert float(case.D(case.f)[1].detach().max()) > 0.1
    assert float(product(case, case.f)[1].detach()) < 1e-12


def test_without_the_matched_rule_equal_discriminators_would_not_be_synchronous() -> None:
    case = make_case(n_t=6, tau=0.6, sharpness=0.7, hidden=6)
    with torch.no_grad():
        for parameter in case.D.parameters():
            parameter.copy_(parameter[:1].expand_as(parameter))
    weights = losses.sample_weights(case.y_s, case.p_t, 0.6, case.layout)
    d, shares = losses.domain_labels(4, 6, case.f), losses.sample_shares(4, 6, case.f)
    m = losses.gradient_magnitudes(case.D(case.f)[0], d, case.D(case.f)[1], weights.align)
    assert float(losses.synchronisation(m, shares, case.layout).detach()) > 1e-3


@pytest.mark.parametrize("reading", SYNC_READINGS)
@pytest.mark.parametrize("level", LEVELS)
def test_one_level_has_nothing_to_be_synchronous_with(level: str, reading: str) -> None:
    case = make_case(levels=(level,), reading=reading)
    assert float(product(case, case.f)[1].detach()) == 0.0


@pytest.mark.parametrize("reading", SYNC_READINGS)
def test_no_loss_depends_on_the_batch_size(reading: str) -> None:
    once = make_case(reading=reading)
    f = torch.cat([once.f[:4].repeat(3, 1), once.f[4:].repeat(2, 1)]).detach().requires_grad_(True)
    more = replace(once, f=f, y_s=once.y_s.repeat(3))
    for case_product in (product_D, lambda case: product_EC(case, case.logits)):
        assert_same(case_product(more), case_product(once), 1e-12)
    (levels, syn), (more_levels, more_syn) = product(once, once.f), product(more, more.f)
    assert_same(more_syn, syn, 1e-12)
    for level in LEVELS:
        assert_same(more_levels[level], levels[level], 1e-12)


def test_no_gradient_flows_into_the_weights() -> None:
    case = make_case(tau=0.0)
    weights = losses.sample_weights(case.y_s, case.p_t, 0.0, case.layout)
    assert case.p_t.requires_grad
    assert not weights.align.requires_grad
    assert not weights.sync.requires_grad
    logits = case.logits
    L_c = losses.classification(logits[:4], case.y_s, logits[4:], case.alpha)
    (full,) = gradients(product_EC(case, logits), logits)
    (alone,) = gradients(L_c, logits)
    assert_same(full, alone, 1e-15)
    assert float(alone.abs().max()) > 1e-3


# Numerics


EXTREMES = {
    "zero features": lambda case: case.f.zero_(),
    "zero discriminators": lambda case: [value.zero_() for value in case.D.parameters()],
    "zero features and discriminators": lambda case: [
        value.zero_() for value in (case.f, *case.D.parameters())
    ],
    "zero rows": lambda case: [value[::2].zero_() for value in case.D.parameters()],
    "zero last layer": lambda case: case.D.w3.zero_(),
    "dead units": lambda case: case.D.b1.fill_(-1e3),
    "z = +1e4": lambda case: case.D.b3.fill_(1e4),
    "z = -1e4": lambda case: case.D.b3.fill_(-1e4),
    "z of both signs, huge": lambda case: case.D.w3.mul_(1e4),
    "classifier at +-1e4": lambda case: case.C[1].copy_(torch.tensor([1e4, -1e4, 1e4, 0.0, -1e4])),
    "huge features": lambda case: case.f.mul_(1e4),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("reading", SYNC_READINGS)
@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("form", FORMS)
def test_never_nan(form: str, extreme: str, reading: str, dtype: torch.dtype) -> None:
    case = make_case(reading=reading, form=form)
    with torch.no_grad():
        EXTREMES[extreme](case)
    case.D.to(dtype)
    case.f = case.f.detach().to(dtype).requires_grad_(True)
    case.C = [value.detach().to(dtype).requires_grad_(True) for value in case.C]
    logits = case.logits
    objectives = (product_D(case), product_EC(case, logits))
    inputs = [list(case.D.parameters()), [case.f, logits, *case.C]]
    for objective, variables in zip(objectives, inputs, strict=True):
        assert objective.dtype == dtype
        assert math.isfinite(float(objective.detach()))
        for gradient in gradients(objective, *variables):
            assert bool(torch.isfinite(gradient).all())


def test_a_wrong_but_certain_discriminator_is_not_rounded_away() -> None:
    z, d = torch.tensor([[-40.0], [40.0]]), torch.tensor([[1.0], [0.0]])
    ones, shares = torch.ones(2, 1), torch.full((2, 1), 0.5)
    assert float(losses.alignment(z, d, ones, shares)) == pytest.approx(40.0)
    right = losses.gradient_magnitudes(-z, d, ones, ones)
    assert right.flatten().tolist() == pytest.approx([math.exp(-40)] * 2, rel=1e-5, abs=0)


def test_a_right_and_certain_discriminator_still_has_a_loss_and_a_gradient() -> None:
    z = torch.tensor([[25.0], [-25.0]], dtype=torch.float64, requires_grad=True)
    d, ones = torch.tensor([[1.0], [0.0]]), torch.ones(2, 1)
    loss = losses.alignment(z, d, ones, 0.5 * ones).sum()
    assert float(loss.detach()) == pytest.approx(math.exp(-25), rel=1e-9, abs=0)
    (slope,) = gradients(loss, z)
    expected = [-0.5 * math.exp(-25), 0.5 * math.exp(-25)]
    assert slope.flatten().tolist() == pytest.approx(expected, rel=1e-9, abs=0)


# Groups and columns


@pytest.mark.parametrize(("r", "b"), [(1, 1), (7, 1), (7, 7), (7, 3), (31, 6), (65, 12)])
def test_groups_cover_the_classes_evenly(r: int, b: int) -> None:
    groups = losses.draw_groups(r, b, seed=0)
    sizes = torch.bincount(groups, minlength=b)
    assert groups.shape == (r,)
    assert len(sizes) == b
    assert int(sizes.min()) >= 1
    assert int(sizes.max() - sizes.min()) <= 1


def test_groups_are_a_function_of_the_seed() -> None:
    draws = [tuple(losses.draw_groups(31, 6, seed).tolist()) for seed in (0, 1, 2, 3)]
    assert len(set(draws)) == 4
    assert draws[0] == tuple(losses.draw_groups(31, 6, 0).tolist())


def test_drawing_groups_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    losses.draw_groups(31, 6, 0)
    assert bool((torch.get_rng_state() == before).all())


@pytest.mark.parametrize("levels", [(), *SELECTIONS], ids="+".join)
def test_columns_follow_one_another(levels: tuple[str, ...]) -> None:
    layout = Layout(levels, 3, torch.zeros(7, 3))
    sizes = {"dom": 1, "grp": 3, "cls": 7}
    assert layout.n_classes == 7
    start = 0
    for level in LEVELS:
        columns = layout.columns(level)
        if level in levels:
            assert columns == slice(start, start + sizes[level])
            start += sizes[level]
        else:
            assert list(range(20))[columns] == []
    assert layout.n_discriminators == start
