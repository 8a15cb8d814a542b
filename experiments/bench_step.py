"""What a step of the discriminators costs, and what a whole iteration costs because of them.

    python -m experiments.bench_step > speed.md

Everything is measured in this process, the forms in turns; ratios first. `--quick` is for tests.
"""

import argparse
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from experiments.measure import (
    CLOCKS,
    Rates,
    Spread,
    Step,
    Timer,
    count_flops,
    count_launches,
    measure_memory,
    measure_rates,
    profile_operators,
)
from experiments.step_forms import FORMS, Game, Sizes
from gsda.config import LEVELS, Config
from gsda.methods.gsda import GSDA
from gsda.model import Network, build_network
from gsda.pairs import use_pairs
from gsda.stopping import stoppable

BENCHMARKS = {"Office-31": (31, 6), "Office-Home": (65, 13), "VisDA-2017": (12, 4)}
CLASSES = (10, 31, 65, 126, 345)  # 345: DomainNet
EPSILONS = (1e-4, 1e-3, 1e-2)
ITERATIONS: dict[str, dict[str, Any]] = {
    "GSDA": {"levels": LEVELS, "beta": 1.0},
    "DANN (domain level alone)": {"levels": ("dom",), "beta": 0.0, "alpha": 0.0},
    "source-only": {"levels": (), "beta": 0.0, "alpha": 0.0},
}


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes:
        timer: of the steps; whole iterations, which take longer, are repeated less.
        side: of the matrices whose product gives the machine's rate.
    """

    timer: Timer
    benchmarks: dict[str, Sizes]
    growth: list[Sizes]
    loop_up_to: int
    side: int
    backbone: str
    crop: int
    features: int

    @property
    def device(self) -> torch.device:
        """Where everything is measured."""
        return self.timer.device

    @property
    def form(self) -> str:
        """What `Config.pairs` takes by itself on this device."""
        return "sparse" if use_pairs("auto", self.device) else "dense"

    @property
    def first(self) -> Sizes:
        """The benchmark of the whole iterations."""
        return next(iter(self.benchmarks.values()))


@stoppable
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = build_parser().parse_args(arguments)
    plan = make_plan(options)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    rates = measure_rates(plan.side, replace(plan.timer, repeats=3 * plan.timer.repeats))
    parts = {
        "steps": lambda: steps_table(plan, rates),
        "profile": lambda: profile_table(plan),
        "epsilon": lambda: epsilon_table(plan),
        "growth": lambda: growth_table(plan, rates),
        "iteration": lambda: iteration_table(plan, rates),
    }
    for line in describe_machine(plan, rates):
        print(line)
    for name in options.parts or parts:
        for line in parts[name]():
            print(line, flush=True)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(prog="bench_step", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, help="of the CPU; default: all cores")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: on a busy machine")
    parser.add_argument("--batch", type=int, default=32, help="samples of each domain")
    parser.add_argument("--loop-up-to", type=int, default=126, help="classes; its time is long")
    names = ["steps", "profile", "epsilon", "growth", "iteration"]
    parser.add_argument("--parts", nargs="+", choices=names, help="default: all")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    return parser


def make_plan(options: argparse.Namespace) -> Plan:
    """The sizes of the paper's benchmarks, or tiny ones."""
    timer = Timer(torch.device(options.device), options.repeats, options.clock)
    if options.quick:
        tiny = Sizes(4, 2, batch=4, d=8, hidden=16)
        growth = [tiny, replace(tiny, r=6)]
        timer = replace(timer, repeats=1, warm_up=1)
        return Plan(timer, {"tiny": tiny}, growth, 4, 64, "cnn", 32, 16)
    benchmarks = {name: Sizes(r, b, options.batch) for name, (r, b) in BENCHMARKS.items()}
    growth = [Sizes(r, max(1, r // 5), options.batch) for r in CLASSES]
    return Plan(timer, benchmarks, growth, options.loop_up_to, 2048, "resnet50", 224, 2048)


def describe_machine(plan: Plan, rates: Rates) -> Iterator[str]:
    """What was measured on, and what it can do."""
    if plan.device.type == "cuda":
        name = torch.cuda.get_device_name(plan.device)
    else:
        name = f"{torch.get_num_threads()}-core {platform.machine()} CPU"
    yield f"{name}, torch {torch.__version__}, Python {platform.python_version()}."
    yield (
        f"Measured in this run: {rates.flops / 1e9:.0f} GFLOP/s in a float32 product of "
        f"{plan.side} x {plan.side}, {rates.bytes / 1e9:.0f} GB/s in a copy. "
        f"Times are of the {plan.timer.clock} clock, {plan.timer.repeats} rounds."
    )


def steps_table(plan: Plan, rates: Rates) -> Iterator[str]:
    """The D step and the (E, C) step, each in all forms."""
    yield ""
    yield (
        "| benchmark | step | form | loop's time / its own: medians, minima | "
        "ms: median (min to max) | GFLOP | floor ms | floor / time | launches | peak MB |"
    )
    yield "|---" * 10 + "|"
    for name, sizes in plan.benchmarks.items():
        game = Game(sizes, plan.device)
        for half, make in {"D": game.step_D, "(E, C)": game.step_EC}.items():
            yield from _step_rows(f"{name}, {sizes} | {half}", make, plan, rates)


def _step_rows(title: str, make: Callable[[str], Step], plan: Plan, rates: Rates) -> Iterator[str]:
    steps = {form: make(form) for form in FORMS}
    times = plan.timer.interleaved(steps)
    for form, step in steps.items():
        flops = count_flops(step)
        launches, memory = count_launches(step, plan.device), measure_memory(step, plan.device)
        yield (
            f"| {title} | {form} | {times['loop'].ratio(times[form])} | "
            f"{times[form]} | {_floor(flops, times[form], rates)} | {launches} | "
            f"{_megabytes(memory)} |"
        )


def _floor(flops: int, time: Spread, rates: Rates) -> str:
    """Arithmetic, the time that it takes at the machine's rate, and the share that this is."""
    floor = 1e3 * flops / rates.flops
    return f"{flops / 1e9:.2f} | {floor:.1f} | {floor / time.median:.0%}"


def _megabytes(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0f}"


def profile_table(plan: Plan) -> Iterator[str]:
    """Where the processor's time goes in the D step of the form that `Config` takes by itself."""
    yield ""
    yield f"| D step, {plan.form} | operator | share of its time | calls |"
    yield "|---|---|---|---|"
    for name, sizes in plan.benchmarks.items():
        step = Game(sizes, plan.device).step_D(plan.form)
        step()
        for operator, share, calls in profile_operators(step, plan.timer.repeats, rows=5):
            yield f"| {name} | {operator} | {share:.0%} | {calls} |"


def epsilon_table(plan: Plan) -> Iterator[str]:
    """What dropping small weights saves, and how far the gradients then are from the exact ones."""
    yield ""
    yield (
        "| benchmark | epsilon | exact time / its own | pairs | "
        "relative error of D's gradient | of the features' gradient |"
    )
    yield "|---|---|---|---|---|---|"
    for name, sizes in plan.benchmarks.items():
        games = {epsilon: Game(sizes, plan.device, epsilon) for epsilon in (0.0, *EPSILONS)}
        steps = {str(epsilon): game.step_D("sparse") for epsilon, game in games.items()}
        times = plan.timer.interleaved(steps)
        truth = _gradients(games[0.0])
        for epsilon, game in games.items():
            errors = [
                _distance(mine, true) for mine, true in zip(_gradients(game), truth, strict=True)
            ]
            pairs = len(game.stage.pairs.sample) if game.stage.pairs is not None else 0
            yield (
                f"| {name} | {epsilon:g} | {times['0.0'].ratio(times[str(epsilon)])}"
                f" | {pairs} of {game.stage.weights.align.numel()} | {errors[0]:.1e} | "
                f"{errors[1]:.1e} |"
            )


def _gradients(game: Game) -> tuple[Tensor, Tensor]:
    """Of all layers by the D step, and of the features by the (E, C) step."""
    game.step_D("sparse")()
    of_layers = torch.cat([gradient.flatten() for gradient in game.gradients()])
    game.step_EC("sparse")()
    (of_features,) = game.gradients()
    return of_layers, of_features


def _distance(mine: Tensor, true: Tensor) -> float:
    return float((mine - true).norm() / true.norm())


def growth_table(plan: Plan, rates: Rates) -> Iterator[str]:
    """The D step as the classes grow, their groups with them."""
    yield ""
    yield (
        f"| classes, groups | K | loop / {plan.form} | loop ms | {plan.form} ms | GFLOP | "
        "floor ms | floor / time |"
    )
    yield "|---" * 8 + "|"
    for sizes in plan.growth:
        game = Game(sizes, plan.device)
        forms = ("loop", plan.form) if sizes.r <= plan.loop_up_to else (plan.form,)
        steps = {form: game.step_D(form) for form in forms}
        times = plan.timer.interleaved(steps)
        loop, own = times.get("loop"), times[plan.form]
        ratio = "not measured" if loop is None else loop.ratio(own)
        yield (
            f"| {sizes.r}, {sizes.b} | {game.layout.n_discriminators} | {ratio} | "
            f"{loop or 'not measured'} | {own} | "
            f"{_floor(count_flops(steps[plan.form]), own, rates)} |"
        )


def iteration_table(plan: Plan, rates: Rates) -> Iterator[str]:
    """`GSDA.update` from images, and from the features of a frozen backbone."""
    yield ""
    yield (
        "| input | method | time / DANN's | ms: median (min to max) | GFLOP | floor ms | "
        "floor / time | launches | peak MB |"
    )
    yield "|---" * 9 + "|"
    inputs = {
        f"frozen features, {plan.features}": _update_from_features,
        f"{plan.backbone}, {plan.crop} x {plan.crop}": _update_from_images,
    }
    for name, make in inputs.items():
        yield from _iteration_rows(name, partial(make, plan), plan, rates)


def _iteration_rows(
    title: str, make: Callable[[Config], Step], plan: Plan, rates: Rates
) -> Iterator[str]:
    sizes = plan.first
    # The learning rate keeps the network, and so the half that is over tau, as it is.
    base = Config(
        n_groups=sizes.b, bottleneck=sizes.d, hidden=sizes.hidden, backbone=plan.backbone, lr=1e-12
    )
    steps = {name: make(replace(base, **change)) for name, change in ITERATIONS.items()}
    timer = replace(plan.timer, repeats=max(plan.timer.repeats // 3, 1), warm_up=1)
    times = timer.interleaved(steps)
    dann = times["DANN (domain level alone)"]
    for name, step in steps.items():
        launches, memory = count_launches(step, plan.device), measure_memory(step, plan.device)
        yield (
            f"| {title} | {name} | {times[name].ratio(dann)} | {times[name]} | "
            f"{_floor(count_flops(step), times[name], rates)} | {launches} | "
            f"{_megabytes(memory)} |"
        )


def _update_from_images(plan: Plan, config: Config) -> Step:
    network = build_network(plan.backbone, plan.first.r, plan.first.d, seed=0)
    # As `gsda.data.transforms.normalise` gives them.
    x = torch.randn(2 * plan.first.batch, plan.crop, plan.crop, 3).permute(0, 3, 1, 2)
    return _update(network, config, plan, x)


def _update_from_features(plan: Plan, config: Config) -> Step:
    network = build_network("cnn", plan.first.r, plan.first.d, seed=0)
    neck = nn.Sequential(
        nn.Linear(plan.features, plan.first.d), nn.BatchNorm1d(plan.first.d), nn.ReLU()
    )
    network.E.add_module("backbone", nn.Identity())
    network.E.add_module("bottleneck", neck)
    return _update(network, config, plan, torch.randn(2 * plan.first.batch, plan.features))


def _update(network: Network, config: Config, plan: Plan, x: Tensor) -> Step:
    """An iteration of the method on one random batch, half of its target over tau."""
    x_s, x_t = x.to(plan.device).chunk(2)
    y_s = (torch.arange(len(x_s)) % plan.first.r).to(plan.device)
    network = network.to(plan.device).train()
    with torch.no_grad():
        tau = network(x_t)[1].softmax(dim=1).amax(dim=1).median().item()
    method = GSDA(network, replace(config, tau=tau), plan.first.r)
    method.to(plan.device)
    return lambda: method.update(x_s, y_s, x_t, 0.5)


if __name__ == "__main__":
    sys.exit(main())
