"""Every method keeps the contract: it learns, resumes to the bit, refuses what others refuse."""

import math
from dataclasses import replace
from functools import cache as once
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gsda import checkpoint
from gsda.bundle import load_bundle, save_bundle
from gsda.config import Config, source_only
from gsda.data.domain import Domain, Pair
from gsda.errors import BadCheckpoint, BadInput, NonFinite
from gsda.methods import METHODS, check_fields, check_method, find_method, key_of
from gsda.methods.base import Method
from gsda.methods.gsda import GSDA
from gsda.model import build_head, build_network
from gsda.run import Run
from gsda.tasks import Task
from tune.settings import Settings

TASK = Task("own", "left", "right")
CLASSES = ("a", "b", "c")
R, N, WIDTH = len(CLASSES), 18, 1280
IMAGES = Config(
    backbone="cnn",
    bottleneck=8,
    hidden=8,
    n_groups=2,
    tau=0.4,
    lr=0.05,
    backbone_lr=1.0,
    batch_size=6,
    steps=6,
    evaluate_every=3,
)
FROZEN = replace(IMAGES, backbone="mobilenet_v2", features="frozen", weights="none")
KINDS = {"images": IMAGES, "frozen": FROZEN}
CASES = [
    (name, kind)
    for name, entry in METHODS.items()
    for kind in KINDS
    if kind == "frozen" or not entry.frozen_only
]
each = pytest.mark.parametrize(("name", "kind"), CASES)


class Made:
    """Images, or features, in memory."""

    def __init__(self, content: np.ndarray, size: int, name: str) -> None:
        self.content, self.size = content, size
        self.digest, self.paths = f"{name}-{size}", [str(n) for n in range(len(content))]

    def __len__(self) -> int:
        return len(self.content)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        return self.content[indices].copy()


@once
def make_pair(kind: str) -> Pair:
    """Three classes that are told apart by a direction; the target is shifted a little."""
    rng = np.random.default_rng(0)
    labels = np.arange(N) % R
    if kind == "images":
        kinds = rng.integers(60, 190, (R, 32, 32, 3))
        noise = rng.normal(0, 12, (2, N, 32, 32, 3))
        s, t = kinds[labels] + noise[0], 0.9 * kinds[labels] + noise[1] + 8
        source, target = (np.clip(x, 0, 255).astype(np.uint8) for x in (s, t))
    else:
        kinds = rng.normal(0, 1, (R, WIDTH))
        noise = rng.normal(0, 0.7, (2, N, WIDTH))
        s, t = kinds[labels] + noise[0], 0.9 * kinds[labels] + noise[1] + 0.2
        source, target = np.float32(s), np.float32(t)
    size = 32 if kind == "images" else 0
    domain = Domain("left", Made(source, size, "left"), labels, CLASSES)
    return Pair(domain, Made(target, size, "right"))


def configure(name: str, kind: str, **changes: Any) -> Config:
    return replace(KINDS[kind], method=name, **changes)


def make(name: str, kind: str, **changes: Any) -> Run:
    return Run(TASK, configure(name, kind, **changes), make_pair(kind))


def flat(value: Any) -> Any:
    """Tensors as bytes, so that states compare to the bit."""
    if isinstance(value, torch.Tensor):
        return (value.dtype, tuple(value.shape), value.detach().cpu().numpy().tobytes())
    if isinstance(value, dict):
        return {name: flat(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [flat(entry) for entry in value]
    return value


def through_a_file(run: Run, folder: Path) -> Any:
    checkpoint.save_step(folder, run.step_count, run.state_dict())
    state, complaints = checkpoint.load_newest(folder)
    assert complaints == []
    return state


# The table


@pytest.mark.parametrize("name", METHODS)
def test_an_entry_names_a_class_that_exists_and_fields_that_are_settings(name: str) -> None:
    entry = METHODS[name]
    assert issubclass(find_method(name), object)
    assert find_method(name).__module__ == f"gsda.methods.{entry.home.partition(':')[0]}"
    known = {*entry.fields, "lr", "backbone_lr", "weight_decay"}
    assert entry.searched
    assert set(entry.searched) <= known <= set(Config().to_dict())
    check_fields(name, dict.fromkeys(known, ""))
    assert entry.title
    assert entry.citation


def test_fields_that_mean_nothing_are_refused() -> None:
    with pytest.raises(BadInput, match="--beta means nothing to dann: choose from lambda_max, lr"):
        check_fields("dann", {"lr": "--lr", "beta": "--beta"})
    with pytest.raises(BadInput, match="means nothing to source_only: choose from lr"):
        check_fields("source_only", {"lambda_max": "--search lambda_max"})


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_has_no_place_for_is_refused(name: str) -> None:
    entry = METHODS[name]
    frozen, pada = configure(name, "frozen"), {"class_weighting": "pada"}
    assert check_method(frozen) is entry
    if entry.frozen_only:
        with pytest.raises(BadInput, match=f"'{name}'.*frozen features.*add --features frozen"):
            make(name, "images")
    if entry.weighs_classes:
        assert check_method(replace(frozen, **pada)) is entry
    else:
        with pytest.raises(BadInput, match=f"'{name}' has no place for: choose.* dann"):
            make(name, "frozen", **pada)


# Each method


@each
def test_it_learns(name: str, kind: str) -> None:
    run = make(name, kind, steps=24, evaluate_every=24)
    first = run.step(1)["loss/C"]
    run.step(22)
    last = run.step(1)
    images = run.pair.source.images if name != "adda" else run.pair.target
    right = run.predict(images).logits.argmax(dim=1).numpy() == run.pair.source.labels
    assert right.mean() >= 0.8
    assert last.get("loss/C", 0.0) < first
    assert all(math.isfinite(value) for value in last.values())


@each
def test_the_same_seed_gives_the_same_numbers(name: str, kind: str) -> None:
    runs = [make(name, kind, seed=seed) for seed in (1, 1, 2)]
    losses = [run.step(6) for run in runs]
    states = [flat(run.state_dict()["method"]) for run in runs]
    assert losses[0] == losses[1] != losses[2]
    assert states[0] == states[1] != states[2]


@each
def test_it_resumes_to_the_bit_at_any_step(name: str, kind: str, tmp_path: Path) -> None:
    whole = make(name, kind)
    expected = [whole.step(1) for _ in range(6)]
    for stop in (2, 4):
        first = make(name, kind)
        said = [first.step(1) for _ in range(stop)]
        second = make(name, kind)
        second.load_state_dict(through_a_file(first, tmp_path / str(stop)))
        assert said + [second.step(1) for _ in range(6 - stop)] == expected
        assert flat(second.state_dict()) == flat(whole.state_dict())


@each
def test_its_outputs_are_those_of_the_model_that_it_leaves(
    name: str, kind: str, tmp_path: Path
) -> None:
    run = make(name, kind)
    run.step(6)
    outputs = run.predict(run.pair.target)
    assert outputs.features.shape == (N, IMAGES.bottleneck)
    assert outputs.logits.shape == (N, R)
    manifest = {"classes": CLASSES, "backbone": run.config.backbone, "bottleneck": 8}
    save_bundle(tmp_path, run.network, manifest)
    again = load_bundle(tmp_path).network
    if kind == "frozen":  # the features are given: what is left of the model is its head
        head = build_head("mobilenet_v2", R, 8, seed=5)
        head.load_state_dict(
            {n: v for n, v in again.state_dict().items() if not n.startswith("E.backbone.")}
        )
        x = torch.from_numpy(run.pair.target.gather(np.arange(N)))
        with torch.inference_mode():
            assert torch.allclose(head.eval()(x)[1], outputs.logits, atol=1e-5)
    metrics = run.evaluate()
    assert {"val/bnm", "val/im", "coverage/all"} <= set(metrics)
    assert not [m for m in metrics if m.startswith("oracle/")]


@each
@pytest.mark.parametrize("end", [0, 1])
def test_it_stays_finite_at_the_ends_of_what_is_searched(name: str, kind: str, end: int) -> None:
    ranges: dict[str, tuple[Any, Any]] = {
        "alpha": (1e-3, 0.2),
        "beta": (0.03, 30.0),
        "tau": (0.5, 0.99),
        "n_groups": (1, 2),
        "lambda_max": (0.03, 2.0),
        "lr": (1e-3, 0.1),
    }
    chosen = {n: span[end] for n, span in ranges.items()}
    run = make(name, kind, **chosen)
    losses = run.step(6)  # raises NonFinite where they are not
    assert losses
    assert bool(torch.isfinite(run.predict(run.pair.target).logits).all())


@each
@pytest.mark.parametrize("passes", ["shared", "separate"])
def test_domains_of_unequal_batches_and_both_kinds_of_passes(
    name: str, kind: str, passes: str
) -> None:
    method = make(name, kind, passes=passes).method
    pair = make_pair(kind)
    rows = [images.gather(np.arange(N)) for images in (pair.source.images, pair.target)]
    x_s, x_t = (torch.from_numpy(x).float() for x in rows)
    if kind == "images":
        x_s, x_t = (x.permute(0, 3, 1, 2) / 255 for x in (x_s, x_t))
    if METHODS[name].frozen_only:
        method.fit(x_s, x_t)
    y_s = torch.from_numpy(pair.source.labels)
    for progress in (0.0, 0.9):
        logs = method.update(x_s[:5], y_s[:5], x_t[:7], progress)
        assert all(value.shape == () and not value.requires_grad for value in logs.values())


@each
def test_a_state_of_another_method_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    other = "dann" if name != "dann" else "dan"
    state = through_a_file(make(other, kind), tmp_path)
    with pytest.raises(BadCheckpoint, match="another config"):
        make(name, kind).load_state_dict(state)


@each
def test_images_and_features_are_not_confused(name: str, kind: str) -> None:
    wrong = make_pair("frozen" if kind == "images" else "images")
    with pytest.raises(BadInput, match=r"pass it through gsda\.features\.freeze"):
        Run(TASK, configure(name, kind), wrong)


@each
def test_numbers_that_are_none_are_told(name: str, kind: str) -> None:
    run = make(name, kind)
    run.step(1)
    with torch.no_grad():
        for parameter in [*run.method.network.parameters(), *own_parameters(run.method)]:
            parameter.fill_(math.nan)
    with pytest.raises(NonFinite):
        run.step(2)


def own_parameters(method: Method) -> list[Any]:
    return list(getattr(method, "own", torch.nn.Module()).parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_source_only_is_gsda_without_all_that_adapts(kind: str) -> None:
    config = configure("gsda", kind)
    assert source_only(config).method == "source_only"
    bare = Run(TASK, replace(config, alpha=0.0, levels=()), make_pair(kind))
    own = Run(TASK, source_only(config), make_pair(kind))
    assert bare.step(6) == own.step(6)
    networks = [flat(run.method.network.state_dict()) for run in (bare, own)]
    assert networks[0] == networks[1]


@pytest.mark.parametrize("name", [n for n, e in METHODS.items() if e.weighs_classes])
def test_a_class_without_weight_teaches_nothing(name: str) -> None:
    """With PADA's weights at 0 for a class, its images might as well be others."""

    def trained(x_s: torch.Tensor) -> Any:
        method = make(name, "frozen", precision="float32", passes="separate").method
        # The running statistics and the batch's own see all images: they are left out here.
        for module in method.network.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.eval()
                module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]
        method.class_weights = torch.tensor([1.0, 0.5, 0.0])
        method.update(x_s, y_s, x_t, 0.5)
        return [value.detach().clone() for value in method.network.parameters()]

    dice = torch.Generator().manual_seed(0)
    y_s = torch.tensor([0, 1, 2, 2])
    x_s, x_t = torch.randn(2, 4, WIDTH, generator=dice)
    other = torch.cat([x_s[:2], torch.randn(2, WIDTH, generator=dice)])
    changed = torch.cat([other[:1] * 2, x_s[1:]])
    usual, weightless, weighty = trained(x_s), trained(other), trained(changed)
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(usual, weightless, strict=True))
    assert not all(torch.allclose(a, b, atol=1e-7) for a, b in zip(usual, weighty, strict=True))


@pytest.mark.parametrize("name", [n for n, e in METHODS.items() if not e.frozen_only])
def test_nothing_is_drawn_from_the_global_generator(name: str) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    network = build_network("cnn", R, 8, 0)
    find_method(name)(network, configure(name, "images"), R)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("said", "key"),
    [
        *((entry.title, key) for key, entry in METHODS.items()),
        *((key.upper().replace("_", "-"), key) for key in METHODS),
        ("nothing-such", "nothing-such"),
    ],
)
def test_a_method_has_the_name_of_the_literature(said: str, key: str) -> None:
    assert key_of(said) == key
    assert Config(method=said).method == key
    if key in METHODS:
        assert Settings(overrides={"method": said, "features": "frozen"}).method == key


def test_unknown_methods_are_refused() -> None:
    assert find_method("gsda") is GSDA
    with pytest.raises(BadInput, match="Unknown method 'deep'"):
        find_method("deep")
