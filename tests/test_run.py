"""`Run`: the same bits from the same arguments, through any interruption, whatever lies outside."""

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scene import small_config

import gsda.run
from gsda import checkpoint
from gsda.config import Config, source_only
from gsda.data.domain import Domain, Pair
from gsda.data.load import DataSpec, load_domains
from gsda.errors import BadCheckpoint, BadInput, NonFinite
from gsda.oracle import Oracle
from gsda.outputs import MIX
from gsda.run import Run
from gsda.tasks import Task

TASK = Task.parse("glyph31/W2D")
BASE = small_config(n_groups=3, tau=0.05, steps=4)
CONFIGS = {
    "uniform": BASE,
    "pseudo": replace(BASE, target_sampling="pseudo"),
    "shared": replace(BASE, passes="shared"),
    "pseudo-shared": replace(BASE, passes="shared", target_sampling="pseudo"),
    "source-only": source_only(BASE),
    "holdout": replace(BASE, holdout=0.2),
}
Domains = tuple[Domain, Domain]


@pytest.fixture
def domains(cache: Path) -> Domains:
    """W and D of glyph31."""
    return load_domains(TASK, DataSpec(None, cache, 32))


@pytest.fixture
def make(domains: Domains) -> Callable[[Config], Run]:
    """A function from a configuration to its run."""
    source, target = domains
    return lambda config: Run(TASK, config, Pair(source, target.images), Oracle(target))


def walk(run: Run) -> list[dict[str, float]]:
    """Train to the end, and all that was said on the way."""
    said = []
    while not run.finished:
        losses = run.step(1)
        said.append(losses | (run.evaluate() if run.step_count % 2 == 0 else {}))
    return said


def flat(value: Any) -> Any:
    """Tensors as bytes, so that states compare to the bit."""
    if isinstance(value, torch.Tensor):
        return (value.dtype, tuple(value.shape), value.cpu().numpy().tobytes())
    if isinstance(value, dict):
        return {name: flat(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [flat(entry) for entry in value]
    return value


@pytest.mark.parametrize("name", CONFIGS)
def test_resumed_at_every_step_through_a_file(
    name: str, make: Callable[[Config], Run], tmp_path: Path
) -> None:
    config = CONFIGS[name]
    whole = make(config)
    expected = walk(whole)
    for stop in range(config.steps + 1):
        first = make(config)
        said = []
        for _ in range(stop):
            losses = first.step(1)
            said.append(losses | (first.evaluate() if first.step_count % 2 == 0 else {}))
        checkpoint.save_step(tmp_path / str(stop), stop, first.state_dict())
        second = make(config)
        state, complaints = checkpoint.load_newest(tmp_path / str(stop))
        assert complaints == []
        assert state is not None
        second.load_state_dict(state)
        assert second.step_count == stop
        assert said + walk(second) == expected
        assert flat(second.state_dict()) == flat(whole.state_dict())


def test_pseudo_labels_change_what_is_drawn(make: Callable[[Config], Run]) -> None:
    uniform, pseudo = make(CONFIGS["uniform"]), make(CONFIGS["pseudo"])
    assert walk(uniform)[:2] == walk(pseudo)[:2]  # nothing is confident before an evaluation
    assert flat(uniform.state_dict()["method"]) != flat(pseudo.state_dict()["method"])


def test_the_same_seed_gives_the_same_numbers(make: Callable[[Config], Run]) -> None:
    assert walk(make(BASE)) == walk(make(BASE))
    assert walk(make(replace(BASE, seed=1))) != walk(make(BASE))
    assert walk(make(replace(BASE, group_seed=1))) != walk(make(BASE))


def test_steps_together_are_steps_one_by_one(make: Callable[[Config], Run]) -> None:
    together, single = make(BASE), make(BASE)
    means = together.step(3)
    each = [single.step(1) for _ in range(3)]
    assert flat(together.state_dict()) == flat(single.state_dict())
    for name, mean in means.items():
        assert mean == pytest.approx(sum(losses[name] for losses in each) / 3, rel=1e-5)


def test_training_ends_at_the_last_step(make: Callable[[Config], Run]) -> None:
    run = make(BASE)
    run.step(100)
    assert run.step_count == BASE.steps
    assert run.finished
    assert run.step(5) == {}


def test_target_labels_reach_nothing_but_the_oracle(domains: Domains) -> None:
    source, target = domains
    poisoned = replace(target, labels=np.random.default_rng(0).permutation(target.labels))
    said = []
    for labels in (target, poisoned):
        run = Run(TASK, CONFIGS["pseudo"], Pair(source, labels.images), Oracle(labels))
        said.append((walk(run), flat(run.state_dict())))
    (clean, state), (other, other_state) = said
    assert state == other_state
    changed = {
        name for a, b in zip(clean, other, strict=True) for name in a | b if a[name] != b[name]
    }
    assert changed
    assert all(name.startswith("oracle/") for name in changed)


def test_no_held_out_image_is_ever_trained_on(domains: Domains) -> None:
    """Beyond several passes: all that the run asks of its source while it trains is noted."""
    source, target = domains
    asked: set[int] = set()

    class Watched:
        digest, paths, size = source.images.digest, source.images.paths, source.images.size

        def __len__(self) -> int:
            return len(source.images)

        def gather(self, indices: Any) -> Any:
            asked.update(indices.tolist())
            return source.images.gather(indices)

    config = source_only(replace(BASE, holdout=0.2, batch_size=64, steps=40))
    run = Run(TASK, config, Pair(replace(source, images=Watched()), target.images))
    run.step(config.steps)
    held, trained = set(run.held_out.tolist()), set(run.trained_on.tolist())
    assert len(held) == pytest.approx(0.2 * len(source), abs=31)
    assert asked == trained
    assert held | trained == set(range(len(source)))
    assert not held & trained


def test_the_hold_out_is_part_of_a_runs_identity(make: Callable[[Config], Run]) -> None:
    state = make(BASE).state_dict()
    with pytest.raises(BadCheckpoint, match="another config"):
        make(replace(BASE, holdout=0.2)).load_state_dict(state)


def test_a_state_of_before_there_was_a_hold_out_is_taken(make: Callable[[Config], Run]) -> None:
    first = make(BASE)
    first.step(1)
    state = first.state_dict()
    del state["config"]["holdout"]
    second = make(BASE)
    second.load_state_dict(state)
    assert second.step(1) == first.step(1)


def test_the_source_is_predicted_in_the_order_asked_for(make: Callable[[Config], Run]) -> None:
    run = make(replace(BASE, holdout=0.2))
    whole = run.predict(run.pair.source.images)
    held = run.predict_source(run.held_out)
    assert torch.allclose(held.logits, whole.logits[run.held_out], atol=1e-5)
    assert torch.equal(held.labels, torch.from_numpy(run.pair.source.labels)[run.held_out])


@pytest.mark.parametrize("most", [1000, 100])
def test_mixtures_lie_between_their_images(
    most: int, domains: Domains, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen by a network that hands its input on."""
    monkeypatch.setattr(gsda.run, "SAMPLED", most)
    run = Run(TASK, BASE, Pair(domains[0], domains[1].images))

    class Mirror(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x.flatten(1), x.flatten(1)

    run.method.network = Mirror()
    plain, mixed = run.predict(run.pair.target), run.predict_mixed()
    assert len(set(mixed.first.tolist())) == len(set(mixed.partner.tolist())) == min(498, most)
    assert not bool((mixed.first == mixed.partner).any())
    expected = MIX * plain.logits[mixed.first] + (1 - MIX) * plain.logits[mixed.partner]
    assert torch.allclose(mixed.logits, expected, atol=1e-5)


def test_unlabelled_targets_have_no_oracle_metrics(domains: Domains) -> None:
    source, target = domains
    unlabelled = replace(target, labels=np.full_like(target.labels, -1))
    pair = Pair(source, target.images)
    for oracle in (None, Oracle(unlabelled)):
        metrics = Run(TASK, BASE, pair, oracle).evaluate()
        assert not [name for name in metrics if name.startswith("oracle/")]
    assert "oracle/target_accuracy" in Run(TASK, BASE, pair, Oracle(target)).evaluate()


def test_the_oracle_counts_what_it_knows(domains: Domains) -> None:
    target = replace(domains[1], labels=np.array([0, 0, 0, 1, -1]))
    scores = Oracle(target).score(torch.tensor([0, 0, 1, 1, 7]))
    assert scores["oracle/target_accuracy"] == pytest.approx(3 / 4)
    assert scores["oracle/target_class_mean"] == pytest.approx((2 / 3 + 1) / 2)


def test_evaluation_tells_coverage_and_predicted_shares(make: Callable[[Config], Run]) -> None:
    metrics = make(BASE).evaluate()
    shares = [v for n, v in metrics.items() if n.startswith("predicted/") and "effective" not in n]
    assert len(shares) == 31
    assert sum(shares) == pytest.approx(1)
    assert 1 <= metrics["predicted/effective_classes"] <= 31
    assert 0 <= metrics["coverage/all"] <= 1
    assert [n for n in metrics if n.startswith("coverage/") and n != "coverage/all"]
    assert {"val/bnm", "val/im", "val/entropy"} <= set(metrics)


def test_predictions_are_in_the_images_order(make: Callable[[Config], Run]) -> None:
    run = make(BASE)
    outputs = run.predict(run.pair.target)
    assert outputs.features.shape == (498, BASE.bottleneck)
    assert outputs.logits.shape == (498, 31)
    again = run.predict(run.pair.target)
    assert torch.equal(outputs.logits, again.logits)


@pytest.mark.parametrize("what", ["task", "config", "data", "version"])
def test_a_state_of_something_else_is_refused(
    what: str, make: Callable[[Config], Run], domains: Domains
) -> None:
    state = copy.deepcopy(make(BASE).state_dict())
    source, target = domains
    task, config, pair = TASK, BASE, Pair(source, target.images)
    if what == "task":
        task = Task.parse("glyph31/A2D")
    if what == "config":
        config = replace(BASE, alpha=0.5)
    if what == "data":
        pair = Pair(source, source.images)
    if what == "version":
        state["version"] = 0
    with pytest.raises(BadCheckpoint, match=f"of another {what} than this run of"):
        Run(task, config, pair).load_state_dict(state)


def test_non_finite_losses_stop_the_run(make: Callable[[Config], Run]) -> None:
    run = make(replace(BASE, lr=1e20))
    with pytest.raises(NonFinite, match=r"became (nan|inf|-inf) between steps 0 and 4"):
        run.step(4)


def test_non_finite_predictions_stop_the_run(make: Callable[[Config], Run]) -> None:
    run = make(BASE)
    with torch.no_grad():
        run.method.network.C.weight.fill_(float("nan"))
    with pytest.raises(NonFinite, match="predictions are not finite after step 0"):
        run.evaluate()


def test_more_groups_than_classes_are_refused(make: Callable[[Config], Run]) -> None:
    with pytest.raises(BadInput, match="n_groups is 32, but there are 31 classes"):
        make(replace(BASE, n_groups=32))


@pytest.mark.parametrize("name", ["uniform", "pseudo", "source-only"])
def test_no_global_generator_is_moved_or_read(name: str, make: Callable[[Config], Run]) -> None:
    said = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        said.append(walk(make(CONFIGS[name])))
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]
        assert random.getstate() == before[2]
    assert said[0] == said[1]
