"""Odd data of one's own, from folders to a trained run."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gsda.backbones import find_backbone
from gsda.data.domain import Pair
from gsda.data.folders import task_listings
from gsda.data.load import DataSpec, load_domains
from gsda.errors import BadInput
from gsda.oracle import Oracle
from gsda.recipes import default_backbone, recommend
from gsda.run import Run
from gsda.tasks import BENCHMARKS, OFFICE31_CLASSES, Task, own_task


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def run_of(folder: Path, source: str, target: str) -> tuple[Run, dict[str, float]]:
    task = own_task(folder, source, target)
    spec = DataSpec(folder, folder / ".cache", 32, source_folder=source, target_folder=target)
    left, right = load_domains(task, spec)
    config = recommend(task, len(left.classes), "cnn", steps=2, batch_size=4)
    run = Run(task, config, Pair(left, right.images), Oracle(right))
    run.step(2)
    return run, run.evaluate()


def oracles(metrics: dict[str, float]) -> list[str]:
    return [name for name in metrics if name.startswith("oracle/")]


def test_an_unlabelled_target_has_no_oracle(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "catalogue" / "ab"[i % 2] / f"{i}.png", i)
        picture(tmp_path / "phone" / f"{i}.png", 9 + i)
    run, metrics = run_of(tmp_path, "catalogue", "phone")
    assert str(run.task).endswith("/catalogue2phone")
    assert oracles(metrics) == []
    assert "val/bnm" in metrics


def test_names_with_spaces_and_any_unicode(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "Das Lager" / ("Stühle rot", "椅子")[i % 2] / f"é {i}.png", i)
        picture(tmp_path / "携帯 写真" / ("Stühle rot", "椅子")[i % 2] / f"💺{i}.png", i)
    run, metrics = run_of(tmp_path, "Das Lager", "携帯 写真")
    assert Task.parse(str(run.task)) == run.task
    assert run.pair.classes == ("Stühle rot", "椅子")
    assert oracles(metrics)


def test_accents_in_either_form_find_the_folder(tmp_path: Path) -> None:
    picture(tmp_path / "cafe\u0301" / "a" / "1.png")
    picture(tmp_path / "b" / "a" / "1.png")
    source, _ = task_listings(Task("own", "x", "y"), tmp_path, "caf\u00e9", "b")
    assert len(source) == 1


def test_domains_of_one_image(tmp_path: Path) -> None:
    picture(tmp_path / "one" / "a" / "1.png")
    picture(tmp_path / "other" / "a" / "1.png", 1)
    run, metrics = run_of(tmp_path, "one", "other")
    assert (len(run.pair.source), len(run.pair.target)) == (1, 1)
    assert metrics["oracle/target_accuracy"] == 1.0
    assert all(np.isfinite(value) for value in metrics.values())


def test_a_target_with_no_image_of_some_class(tmp_path: Path) -> None:
    for i, name in enumerate("abc"):
        picture(tmp_path / "one" / name / "1.png", i)
    picture(tmp_path / "other" / "b" / "1.png")
    (tmp_path / "other" / "c").mkdir()
    run, metrics = run_of(tmp_path, "one", "other")
    assert run.pair.classes == ("a", "b", "c")
    assert metrics["oracle/target_accuracy"] in (0.0, 1.0)


def test_a_class_of_the_target_alone_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "one" / "a" / "1.png")
    picture(tmp_path / "other" / "z" / "1.png")
    with pytest.raises(BadInput, match=r"other/z is not one of the 1 classes \(a\): rename it"):
        run_of(tmp_path, "one", "other")


def test_lists_in_one_folder_have_stores_of_their_own(tmp_path: Path) -> None:
    for side in ("left", "right"):
        for i in range(2):
            picture(tmp_path / side / f"{i}.png", i)
        lines = "".join(f"{side}/{i}.png {i}\n" for i in range(2))
        (tmp_path / f"{side}.txt").write_text(lines)
    spec = DataSpec(tmp_path, tmp_path / "cache", 8)
    task = Task("own", "left", "right")
    source, _ = load_domains(task, spec)
    assert len(list((tmp_path / "cache").glob("*.arrow"))) == 2
    (tmp_path / "left.txt").write_text("left/0.png 1\nleft/1.png 0\n")
    assert load_domains(task, spec)[0].labels.tolist() == source.labels.tolist()[::-1]


@pytest.mark.parametrize("complete", [True, False])
def test_partial_office31_from_a_full_or_a_restricted_folder(
    tmp_path: Path, complete: bool
) -> None:
    benchmark = BENCHMARKS["office31-partial"]
    kept = [OFFICE31_CLASSES[k] for k in benchmark.target_classes]
    for name in OFFICE31_CLASSES:
        picture(tmp_path / "amazon" / "images" / name / "1.jpg")
    for name in OFFICE31_CLASSES if complete else kept:
        picture(tmp_path / "dslr" / "images" / name / "1.jpg")
    spec = DataSpec(tmp_path, tmp_path / "cache", 8)
    source, target = load_domains(Task.parse("office31-partial/A2D"), spec)
    assert (len(source), len(target)) == (31, 10)
    assert [target.classes[k] for k in target.labels] == kept
    for file in (tmp_path / "dslr" / "images" / "mug").iterdir():
        file.unlink()
    with pytest.raises(BadInput, match=r"dslr/images lacks the class 'mug': add a folder"):
        load_domains(Task.parse("office31-partial/A2D"), spec)


def glyphs(tmp_path: Path, **changes: object) -> Run:
    task = Task.parse("glyph31/W2D")
    source, target = load_domains(task, DataSpec(None, tmp_path, 32))
    config = recommend(task, 31, steps=40, **changes)
    return Run(task, config, Pair(source, target.images))


def batches(run: Run, n: int) -> torch.Tensor:
    size = run.config.batch_size
    return torch.stack([run._fetch(run.pair.target, run._target.take(size)) for _ in range(n)])


def test_an_epoch_over_the_same_seed_gives_the_same_batches(tmp_path: Path) -> None:
    n = 498 // 32 + 1
    first, second = batches(glyphs(tmp_path), n), batches(glyphs(tmp_path), n)
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert not torch.equal(first, batches(glyphs(tmp_path, seed=1), n))


def test_training_crops_the_centre_where_told_to(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "l" / "ab"[i % 2] / f"{i}.png", i)
        picture(tmp_path / "r" / "ab"[i % 2] / f"{i}.png", i)
    source, target = load_domains(Task("own", "l", "r"), DataSpec(tmp_path, tmp_path / "c", 256))
    config = recommend(Task.parse("visda2017/S2R"), 2, "mobilenet_v2", weights="none", n_groups=1)
    assert config.crop == "centre"
    run = Run(Task("own", "l", "r"), config, Pair(source, target.images))
    chosen = torch.zeros(16, dtype=torch.long)
    got = run._fetch(target.images, chosen)
    centre = run._fetch_whole(target.images, chosen.numpy())
    mirrored = [not torch.equal(a, b) for a, b in zip(got, centre, strict=True)]
    assert 0 < sum(mirrored) < 16
    for a, b, flipped in zip(got, centre, mirrored, strict=True):
        assert torch.equal(a, b.flip(2) if flipped else b)


def test_recipes_follow_the_data() -> None:
    assert default_backbone(Task.parse("digits/M2U")) == "cnn"
    assert default_backbone(Task.parse("pacs/P2A")) == "resnet50"
    assert default_backbone(Task("own", "a", "b")) == "resnet50"
    frozen = recommend(Task.parse("office-caltech10/A2D"), 10, features="frozen")
    assert (frozen.steps, frozen.features, frozen.backbone) == (400, "frozen", "resnet50")
    assert recommend(Task.parse("office31/A2D"), 31).steps == 10_000
    assert find_backbone(frozen.backbone).size == 256


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc")
def test_concurrent_readers_hold_the_store_once(tmp_path: Path) -> None:
    from experiments.bench_data import shares

    for i in range(300):
        picture(tmp_path / "left" / "a" / f"{i}.png", i)
    picture(tmp_path / "right" / "a" / "1.png")
    spec = DataSpec(tmp_path, tmp_path / "cache", 128)
    load_domains(Task("own", "left", "right"), spec)
    path = max((tmp_path / "cache").glob("*.arrow"), key=os.path.getsize)
    size = path.stat().st_size / 2**20
    found = shares(path, 2)
    assert sum(found) == pytest.approx(size, rel=0.1)
    assert max(found) < 0.75 * size
