"""The benchmark: its forms compute the same, it counts right, and its table has every row."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments import bench_step
from experiments.measure import Spread, Timer, count_flops, measure_rates
from experiments.step_forms import FORMS, Game, Sizes
from gsda.losses import confident

CPU = torch.device("cpu")
SIZES = Sizes(5, 2, batch=6, d=8, hidden=16)


@pytest.mark.parametrize("half", ["step_D", "step_EC"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_computes_the_same(half: str, form: str) -> None:
    truth, game = Game(SIZES, CPU), Game(SIZES, CPU)
    getattr(truth, half)("autograd")()
    getattr(game, half)(form)()
    ours = game.gradients()
    assert len(ours) == len(truth.gradients()) == (6 if half == "step_D" else 1)
    for mine, true in zip(ours, truth.gradients(), strict=True):
        torch.testing.assert_close(mine, true, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("r", "b"), [(31, 6), (65, 13), (12, 4), (345, 69)])
def test_half_of_the_target_is_over_tau(r: int, b: int) -> None:
    game = Game(Sizes(r, b, d=4, hidden=4), CPU)
    over = game.stage.weights.sync[32:, 0]
    assert int(over.sum()) == 16
    source, sure, unsure = 32 * 3, 16 * (1 + b + r), 16
    assert game.stage.pairs is not None
    assert len(game.stage.pairs.sample) == source + sure + unsure
    assert bool(confident(game.stage.weights.align[32:, -r:], 0.9).eq(over > 0).all())


@pytest.mark.parametrize(
    ("half", "form", "of_W1", "of_W2"),
    [
        ("step_D", "autograd", 5, 6),
        ("step_D", "dense", 4, 4),
        ("step_D", "sparse", 4, 4),
        ("step_EC", "dense", 2, 2),
        ("step_EC", "sparse", 2, 2),
    ],
)
def test_arithmetic_is_counted(half: str, form: str, of_W1: int, of_W2: int) -> None:
    game = Game(SIZES, CPU)
    assert game.stage.pairs is not None
    K, h, d = game.D.W1.shape
    n = len(game.stage.pairs.sample) if form == "sparse" else 12 * K
    expected = 2 * n * (of_W1 * h * d + of_W2 * h * h)
    # What is left is products with vectors, and sums over a sample's pairs.
    assert expected <= count_flops(getattr(game, half)(form)) < 1.5 * expected


@pytest.mark.parametrize("clock", ["wall", "cpu"])
def test_steps_are_timed_in_turns(clock: str) -> None:
    order: list[str] = []
    steps = {name: lambda name=name: order.append(name) for name in "ab"}
    times = Timer(CPU, 3, clock).interleaved(steps)
    assert order == ["a", "b"] * 5
    for spread in times.values():
        assert 0 <= spread.low <= spread.median <= spread.high
    assert str(Spread(1.0, 2.04, 3.0)) == "2.0 (1.0 to 3.0)"


def test_rates_are_those_of_a_machine() -> None:
    rates = measure_rates(64, Timer(CPU, 2))
    assert rates.flops > 0
    assert rates.bytes > 0


def test_the_whole_report(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    assert bench_step.main(["--quick", "--device", "cpu"]) == 0
    assert torch.get_num_threads() == threads
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [c[2] for c in cells if c[1] in ("D", "(E, C)")] == [*FORMS, *FORMS]
    for step in ("D", "(E, C)"):
        assert [c[3] for c in cells if c[1:3] == [step, "loop"]] == ["1.00, 1.00"]
    for name in bench_step.ITERATIONS:
        assert sum(c[1] == name for c in cells) == 2
    assert [c[0] for c in cells if c[0] in ("4, 2", "6, 2")] == ["4, 2", "6, 2"]
    errors = [float(c[4]) for c in cells if c[0] == "tiny" and len(c) == 6]
    assert len(errors) == 1 + len(bench_step.EPSILONS)
    assert errors[0] == 0.0
    assert errors == sorted(errors)


def test_it_needs_none_of_the_search() -> None:
    """So that it runs on a bare machine with a GPU."""
    code = (
        "import sys\n"
        "for name in 'ray mlflow optuna pyarrow matplotlib'.split(): sys.modules[name] = None\n"
        "from experiments import bench_step\n"
        "bench_step.main(['--quick', '--device', 'cpu', '--parts', 'growth'])\n"
    )
    root = Path(bench_step.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| 6, 2 |" in done.stdout
