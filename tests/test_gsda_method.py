"""An update of GSDA against the alternation of Eq. 14 and 16 done by hand from `reference`."""

import copy
import math
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

import pytest
import reference
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gsda.config import LEVELS, SYNC_READINGS, Config
from gsda.errors import BadInput
from gsda.methods import gsda as gsda_module
from gsda.methods.gsda import GSDA
from gsda.model import Network, build_network

R = 4
CPU = torch.device("cpu")
CONFIG = Config(
    alpha=0.3,
    beta=0.7,
    n_groups=2,
    tau=0.6,
    backbone="cnn",
    bottleneck=8,
    hidden=8,
    lr=0.02,
    batch_size=5,
    steps=10,
    seed=1,
)


def make(config: Config = CONFIG, dtype: torch.dtype = torch.float64) -> GSDA:
    network = build_network("cnn", R, config.bottleneck, config.seed).to(dtype)
    with torch.no_grad():
        network.C.weight *= 5  # so that some predictions are confident and some are not
    method = GSDA(network, config, R)
    method.D.to(dtype)
    method.to(CPU)
    return method


def batch(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    dice = torch.Generator().manual_seed(seed)
    x_s = torch.randn(5, 3, 32, 32, generator=dice, dtype=dtype)
    x_t = 0.5 + 2 * torch.randn(6, 3, 32, 32, generator=dice, dtype=dtype)
    return x_s, torch.randint(R, (5,), generator=dice), x_t


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def differing(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def train(config: Config, batches: list[tuple[Tensor, Tensor, Tensor]]) -> GSDA:
    method = make(config)
    for i, (x_s, y_s, x_t) in enumerate(batches):
        method.update(x_s, y_s, x_t, (i + 1) / 4)
    return method


BATCHES = [batch(seed) for seed in range(3)]


# The alternation by hand


@dataclass
class ByHand:
    """E, C and D of a method, trained by the reference."""

    network: Network
    D: dict[str, Tensor]
    groups: list[list[int]]
    config: Config
    velocity: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def like(cls, method: GSDA) -> "ByHand":
        D = {name: value.detach().clone() for name, value in method.D.named_parameters()}
        groups = [
            [k for k in range(R) if method.groups[k] == q] for q in range(method.config.n_groups)
        ]
        return cls(copy.deepcopy(method.network), D, groups, method.config)

    @property
    def game(self) -> reference.Game:
        config = self.config
        return reference.Game(self.groups, config.levels, config.tau, config.sync)

    def extract(self, network: Network, x_s: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
        network.train()
        if self.config.passes == "shared":
            f, logits = network(torch.cat([x_s, x_t]))
            return f, logits
        source, target = network(x_s), network(x_t)
        return torch.cat([source[0], target[0]]), torch.cat([source[1], target[1]])

    def move(self, name: str, value: Tensor, gradient: Tensor, lr: float) -> Tensor:
        config = self.config
        velocity = self.velocity.get(name, torch.zeros_like(value))
        moved, self.velocity[name] = reference.sgd_nesterov(
            value, gradient, velocity, lr, config.momentum, config.weight_decay
        )
        return moved

    def update(self, x_s: Tensor, y_s: Tensor, x_t: Tensor, progress: float) -> None:
        lr = self.config.lr * (1 + 10 * progress) ** -0.75
        lam = self.config.lambda_max * (2 / (1 + math.exp(-10 * progress)) - 1)
        self.update_D(x_s, y_s, x_t, lr)
        self.update_EC(x_s, y_s, x_t, lr, lam)

    def update_D(self, x_s: Tensor, y_s: Tensor, x_t: Tensor, lr: float) -> None:
        with torch.no_grad():
            f, logits = self.extract(copy.deepcopy(self.network), x_s, x_t)
        p_t = torch.softmax(logits[len(y_s) :], dim=1)
        D = {name: value.clone().requires_grad_(True) for name, value in self.D.items()}
        objective = reference.objective_D(self.game, D, f, y_s, p_t, self.config.beta)
        gradients = torch.autograd.grad(objective, list(D.values()))
        for name, gradient in zip(D, gradients, strict=True):
            self.D[name] = self.move(f"D.{name}", self.D[name], gradient, lr)

    def update_EC(self, x_s: Tensor, y_s: Tensor, x_t: Tensor, lr: float, lam: float) -> None:
        f, logits = self.extract(self.network, x_s, x_t)
        config = self.config
        objective = reference.objective_EC(
            self.game, self.D, f, logits, y_s, config.alpha, config.beta, lam
        )
        named = dict(self.network.named_parameters())
        gradients = torch.autograd.grad(objective, list(named.values()))
        with torch.no_grad():
            for (name, value), gradient in zip(named.items(), gradients, strict=True):
                rate = lr * config.backbone_lr if name.startswith("E.backbone.") else lr
                value.copy_(self.move(name, value, gradient, rate))


def assert_like(method: GSDA, by_hand: ByHand, tolerance: float = 1e-10) -> None:
    for name, value in method.D.named_parameters():
        torch.testing.assert_close(
            value.detach(), by_hand.D[name], rtol=tolerance, atol=tolerance, msg=name
        )
    truth = by_hand.network.state_dict()
    for name, value in method.network.state_dict().items():
        torch.testing.assert_close(value, truth[name], rtol=tolerance, atol=tolerance, msg=name)


VARIANTS = {
    "default": {},
    "shared pass": {"passes": "shared"},
    "dense": {"pairs": "dense"},
    "dense dom+cls": {"pairs": "dense", "levels": ("dom", "cls")},
    "no beta": {"beta": 0.0},
    "no momentum": {"momentum": 0.0, "weight_decay": 0.0},
    "none confident": {"tau": 0.999},
    "all confident": {"tau": 0.0},
    "dom": {"levels": ("dom",)},
    "cls": {"levels": ("cls",)},
    "dom+cls": {"levels": ("dom", "cls")},
    "dom+grp": {"levels": ("dom", "grp")},
    "grp+cls": {"levels": ("grp", "cls")},
    **{reading: {"sync": reading} for reading in SYNC_READINGS},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_updates_are_the_alternation_by_hand(variant: str) -> None:
    method = make(replace(CONFIG, **VARIANTS[variant]))
    by_hand = ByHand.like(method)
    before = snapshot(method.network), snapshot(method.D)
    for seed, progress in [(0, 0.1), (1, 1.0)]:
        method.update(*batch(seed), progress)
        by_hand.update(*batch(seed), progress)
        assert_like(method, by_hand)
    assert len(differing(before[0], snapshot(method.network))) == len(before[0])
    assert len(differing(before[1], snapshot(method.D))) == len(before[1])


def test_some_samples_of_the_batch_are_confident_and_some_are_not() -> None:
    """Else the comparison above would not see the rule of confident samples."""
    method = make()
    tops = [
        torch.softmax(method.network(batch(seed)[2])[1], dim=1).amax(dim=1) for seed in range(3)
    ]
    sure = torch.cat(tops) >= CONFIG.tau
    assert 0 < int(sure.sum()) < len(sure)


@pytest.mark.parametrize(("passes", "times"), [("separate", 2), ("shared", 1)])
def test_running_statistics_move_once_for_each_pass(passes: str, times: int) -> None:
    method = make(replace(CONFIG, passes=passes))
    method.update(*batch(), 0.5)
    counts = [v for n, v in method.network.named_buffers() if n.endswith("num_batches_tracked")]
    assert len(counts) == 4
    assert {int(count) for count in counts} == {times}


def test_each_half_moves_its_own_side_only(monkeypatch: pytest.MonkeyPatch) -> None:
    method = make()
    stages: list[tuple[set[str], set[str]]] = []
    descend = gsda_module.descend

    def watch(optimiser: torch.optim.Optimizer, objective: Tensor) -> None:
        before = snapshot(method.network), snapshot(method.D)
        descend(optimiser, objective)
        stages.append(
            (
                differing(before[0], snapshot(method.network)),
                differing(before[1], snapshot(method.D)),
            )
        )

    monkeypatch.setattr(gsda_module, "descend", watch)
    method.update(*batch(), 0.5)
    first, second = stages
    assert first == (set(), set(dict(method.D.named_parameters())))
    assert second == (set(dict(method.network.named_parameters())), set())


def test_the_half_of_E_and_C_spends_nothing_on_gradients_of_D(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = make()
    gradients: list[list[Tensor]] = []
    descend = gsda_module.descend

    def watch(optimiser: torch.optim.Optimizer, objective: Tensor) -> None:
        descend(optimiser, objective)
        gradients.append([value.grad.clone() for value in method.D.parameters()])

    monkeypatch.setattr(gsda_module, "descend", watch)
    method.update(*batch(), 0.5)
    for after_D, after_EC in zip(*gradients, strict=True):
        assert torch.equal(after_D, after_EC)


def test_the_discriminators_stay_trainable() -> None:
    method = make()
    method.update(*batch(), 0.5)
    assert all(parameter.requires_grad for parameter in method.D.parameters())


def test_logged_losses_are_the_reference() -> None:
    method = make()
    by_hand = ByHand.like(method)
    x_s, y_s, x_t = batch()
    f, logits = by_hand.extract(copy.deepcopy(by_hand.network), x_s, x_t)
    f, logits = f.detach(), logits.detach()
    p_t = torch.softmax(logits[5:], dim=1)
    truth = {
        f"loss/D_{level}": loss
        for level, loss in reference.L_levels(by_hand.game, by_hand.D, f, y_s, p_t).items()
    }
    truth["loss/syn"] = reference.L_syn(by_hand.game, by_hand.D, f, y_s, p_t)
    truth["loss/C"] = reference.L_c(logits[:5], y_s, logits[5:], CONFIG.alpha)
    for (level, _), m in reference.magnitudes(by_hand.game, by_hand.D, f, y_s, p_t).items():
        name = f"magnitude/D_{level}"
        truth[name] = truth.get(name, torch.tensor(0.0)) + m.sum()
    logs = method.update(x_s, y_s, x_t, 0.5)
    assert logs.keys() == truth.keys()
    for name, value in logs.items():
        assert not value.requires_grad
        assert float(value) == pytest.approx(float(truth[name].detach()), rel=1e-9), name


# Precision, and waiting


def test_bfloat16_reaches_E_and_C_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    exact, method = (
        make(replace(CONFIG, precision=precision, lambda_max=0.0), torch.float32)
        for precision in ("float32", "bfloat16")
    )
    seen: set[torch.dtype] = set()
    forward = method.D.forward

    def watch(f: Tensor, *rest: Any, **named: Any) -> tuple[Tensor, Tensor]:
        seen.update((f.dtype, *(out.dtype for out in forward(f, *rest, **named))))
        return forward(f, *rest, **named)

    monkeypatch.setattr(method.D, "forward", watch)
    logs, truth = (m.update(*batch(dtype=torch.float32), 0.5) for m in (method, exact))
    assert seen == {torch.float32}
    for name, value in logs.items():
        assert value.dtype == torch.float32
        assert float(value) == pytest.approx(float(truth[name]), rel=0.1), name
    assert float(logs["loss/C"]) != float(truth["loss/C"])
    values = [*method.network.state_dict().values(), *method.D.state_dict().values()]
    assert {value.dtype for value in values} == {torch.float32, torch.int64}


def test_on_the_cpu_nothing_is_rounded_unless_asked_for() -> None:
    usual, exact = (
        make(replace(CONFIG, precision=precision), torch.float32)
        for precision in ("auto", "float32")
    )
    for method in (usual, exact):
        method.update(*batch(dtype=torch.float32), 0.5)
    assert differing(snapshot(usual.network), snapshot(exact.network)) == set()


class NeverWait(TorchDispatchMode):
    """Fails on what makes the host wait for a GPU: reading a value, or how many there are."""

    WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2")

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function._overloadpacket.__name__
        assert name not in self.WAITING, f"{name} waits for the device"
        if name.startswith("index"):
            given = [index for index in args[1] or () if isinstance(index, Tensor)]
            assert all(index.dtype != torch.bool for index in given), "a mask waits for the device"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("levels", [LEVELS, ("dom",), ()], ids="+".join)
@pytest.mark.parametrize("passes", ["separate", "shared"])
def test_no_value_is_read_from_the_device(levels: tuple[str, ...], passes: str) -> None:
    method = make(replace(CONFIG, pairs="dense", levels=levels, passes=passes))
    for progress in (0.0, 0.5):
        with NeverWait():
            method.update(*batch(), progress)


def test_the_sparse_form_does_wait() -> None:
    with NeverWait(), pytest.raises(AssertionError, match="waits for the device"):
        make(replace(CONFIG, pairs="sparse")).update(*batch(), 0.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_a_gpu_is_never_waited_for(precision: str) -> None:
    gpu = torch.device("cuda")
    method = make(replace(CONFIG, precision=precision), torch.float32)
    method.to(gpu)
    x_s, y_s, x_t = (value.to(gpu) for value in batch(dtype=torch.float32))
    method.update(x_s, y_s, x_t, 0.5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        logs = method.update(x_s, y_s, x_t, 0.5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(math.isfinite(float(value)) for value in logs.values())


# Construction and state


def test_construction_is_a_function_of_the_seeds() -> None:
    before = torch.get_rng_state()
    one, same = make(), make()
    assert bool((torch.get_rng_state() == before).all())
    assert differing(snapshot(one.D), snapshot(same.D)) == set()
    other = make(replace(CONFIG, seed=2))
    assert len(differing(snapshot(one.D), snapshot(other.D))) == 6
    assert torch.equal(one.groups, other.groups)


def test_the_number_of_discriminators() -> None:
    assert len(make().D.b3) == 1 + 2 + R
    assert len(make(replace(CONFIG, levels=("dom", "cls"))).D.b3) == 1 + R
    assert len(make(replace(CONFIG, levels=())).D.b3) == 0


def test_more_groups_than_classes_are_refused() -> None:
    with pytest.raises(BadInput, match="n_groups is 5, but there are 4 classes"):
        make(replace(CONFIG, n_groups=5))


@pytest.mark.parametrize("levels", [LEVELS, ()])
def test_state_goes_on_to_the_same_bits_through_a_file(levels: tuple[str, ...]) -> None:
    config = replace(CONFIG, levels=levels)
    method = train(config, BATCHES)
    buffer = BytesIO()
    torch.save(method.state_dict(), buffer)
    buffer.seek(0)
    resumed = make(replace(config, seed=7, group_seed=4))
    assert not torch.equal(method.groups, resumed.groups)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    logs = [m.update(*batch(9), 0.9) for m in (method, resumed)]
    assert differing(*logs) == set()
    assert differing(snapshot(method.network), snapshot(resumed.network)) == set()
    assert differing(snapshot(method.D), snapshot(resumed.D)) == set()
    assert torch.equal(method.groups, resumed.groups)
