"""Digits as torchvision leaves them."""

import bz2
import struct
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from gsda.data.check import check
from gsda.data.load import DataSpec, load_domains
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, Task

N = 20


def idx(path: Path, values: np.ndarray) -> None:
    head = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(head + values.astype(np.uint8).tobytes())


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """MNIST and USPS of 20 images each, two of each digit."""
    rng, labels = np.random.default_rng(0), np.arange(N) % 10
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        idx(folder / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (N, 28, 28)))
        idx(folder / f"{part}-labels-idx1-ubyte", labels)
    lines = []
    for label in labels:
        values = rng.uniform(-1, 1, 256)
        lines.append(f"{label + 1} " + " ".join(f"{i + 1}:{v:.4f}" for i, v in enumerate(values)))
    (tmp_path / "data" / "usps.bz2").write_bytes(bz2.compress("\n".join(lines).encode()))
    return tmp_path / "data"


def test_raw_digits_are_prepared_once(raw: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    spec = DataSpec(raw, tmp_path / "cache", 28)
    source, target = load_domains(
        Task.parse("digits/M2U"), spec, lambda done, total: calls.append((done, total))
    )
    assert source.labels.tolist() == target.labels.tolist() == [k % 10 for k in range(N)]
    assert source.classes == tuple("0123456789")
    assert calls[-1] == (N, N)
    stored = (raw / "MNIST" / "raw" / "train-images-idx3-ubyte").read_bytes()[16:]
    pixels = np.frombuffer(stored, np.uint8).reshape(N, 28, 28)
    images = source.images.gather(np.arange(N))
    assert all(np.array_equal(images[..., channel], pixels) for channel in range(3))
    calls.clear()
    load_domains(Task.parse("digits/U2M"), spec, lambda *call: calls.append(call))
    assert calls == []


def test_a_changed_file_is_noticed(raw: Path, tmp_path: Path) -> None:
    spec = DataSpec(raw, tmp_path / "cache", 16)
    before = load_domains(Task.parse("digits/M2U"), spec)[0].images.digest
    idx(raw / "MNIST" / "raw" / "train-images-idx3-ubyte", np.zeros((N, 28, 28)))
    assert load_domains(Task.parse("digits/M2U"), spec)[0].images.digest != before


def test_damaged_raw_digits_are_named(raw: Path, tmp_path: Path) -> None:
    (raw / "usps.bz2").write_bytes(b"no bz2")
    with pytest.raises(BadInput, match=r"usps\.bz2 cannot be read as USPS \(.*\): remove it, and"):
        load_domains(Task.parse("digits/U2M"), DataSpec(raw, tmp_path / "cache", 16))


def test_digits_that_are_not_there(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no folder for domain 'S' \(looked for svhn; found"):
        load_domains(Task.parse("digits/S2M"), DataSpec(raw, tmp_path / "cache", 16))


def test_svhn_is_read_by_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io = import_module("scipy.io")  # comes with scikit-learn
    from torchvision import datasets

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (32, 32, 3, N), dtype=np.uint8)
    labels = np.where(np.arange(N) % 10 == 0, 10, np.arange(N) % 10)[:, None]
    io.savemat(tmp_path / "train_32x32.mat", {"X": pixels, "y": labels})
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    monkeypatch.setattr(datasets.SVHN, "_check_integrity", lambda _: True)
    finding = {f.domain: f for f in check(BENCHMARKS["digits"], tmp_path)}["S"]
    assert finding.counts == dict.fromkeys("0123456789", 2)
    assert f"{73257 - N} missing of 73257 images" in finding.problems
