"""What can be loaded: built-in data, real images, and files for prediction."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_load import GLYPH, OWN, ROOT, SIZE, Calls, stores

from gsda.data.decoding import decode
from gsda.data.load import (
    DataSpec,
    default_cache,
    iterate_files,
    load_domains,
    load_pair,
)
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, Task

REAL = os.environ.get("GSDA_TEST_DATA")
needs_real = pytest.mark.skipif(
    not REAL, reason="GSDA_TEST_DATA IS NOT SET: NOT TESTED ON REAL IMAGES"
)


def test_own_data_needs_a_root(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^own is not built in: .* --data\.$"):
        load_pair(OWN, DataSpec(None, tmp_path, SIZE))


def test_size_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^The image size is 0: it must be 1 or more pixels\.$"):
        load_pair(OWN, DataSpec(tmp_path, tmp_path, 0))


def test_default_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GSDA_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.setenv("HOME", "/home/someone")
    for unset in (lambda: monkeypatch.setenv("GSDA_CACHE", ""), lambda: None):
        unset()
        assert default_cache() == Path("/home/someone/.cache/gsda")
        monkeypatch.delenv("GSDA_CACHE", raising=False)


def test_built_in_takes_no_root_and_one_size(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^glyph31 is built in: leave out --data .*\.$"):
        load_pair(GLYPH, DataSpec(tmp_path, tmp_path, 32))
    with pytest.raises(BadInput, match=r"^glyph31 has images of size 32, not 64: use 32\.$"):
        load_pair(GLYPH, DataSpec(None, tmp_path, 64))


def test_built_in_is_drawn_once(tmp_path: Path) -> None:
    from gsda.data.glyphs import VERSION, render

    calls = Calls()
    spec = DataSpec(None, tmp_path, 32)
    source, target = load_domains(Task.parse("glyph31/D2W"), spec, calls)
    counts = BENCHMARKS["glyph31"].counts
    assert (len(source), len(target)) == (counts["D"], counts["W"])
    assert calls[-1] == (counts["W"], counts["W"])
    assert source.classes == target.classes == BENCHMARKS["glyph31"].classes
    images, labels = render("D", 0)
    assert np.array_equal(source.images.gather(np.arange(len(source))), images)
    assert np.array_equal(source.labels, labels)
    assert stores(spec) == [f"glyph31-v{VERSION}-seed0-{domain}.arrow" for domain in "DW"]
    calls.clear()
    again = load_pair(Task.parse("glyph31/W2D"), spec, calls)
    assert calls == []
    assert again.target.digest == source.images.digest


# Files for prediction


def test_iterate_files(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/c d/1.JPG", "b/.x.png", "b/notes.txt", "a.heic"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    files = [tmp_path / name for name in ("a.heic", "b/2.png", "b/c d/1.JPG")]
    assert iterate_files([tmp_path / "b", tmp_path / "a.heic", files[1]]) == files
    assert iterate_files([]) == []


def test_iterate_files_refuses_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, reason in (("none.png", "does not exist"), ("empty", "holds no images")):
        with pytest.raises(BadInput, match=rf"{name} {reason}: name an image file or a folder"):
            iterate_files([tmp_path / name])


def test_importing_the_data_layer_is_light() -> None:
    heavy = ["torch", "torchvision", "ray", "mlflow", "optuna", "matplotlib", "pandas"]
    code = f"import sys, gsda.data; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "[]\n"


# Real images


@needs_real
def test_real_digits(tmp_path: Path) -> None:
    spec = DataSpec(Path(REAL or "") / "digits", tmp_path, 16)
    source, target = load_domains(Task.parse("digits/M2U"), spec)
    assert (len(source), len(target)) == (2000, 1800)
    assert source.classes == target.classes == tuple("0123456789")
    usps = target.images.gather(np.arange(1800))
    for index in (0, 999, 1799):
        path = Path(REAL or "") / "digits" / "usps" / target.images.paths[index]
        with Image.open(path) as image:
            assert np.array_equal(usps[index], np.asarray(image.convert("RGB")))


@needs_real
def test_real_office_caltech10(tmp_path: Path) -> None:
    root = Path(REAL or "") / "office-caltech10"
    spec = DataSpec(root, tmp_path, 32)
    source, target = load_domains(Task.parse("office-caltech10/D2W"), spec)
    assert (len(source), len(target)) == (157, 295)
    assert 60 < source.images.gather(np.arange(157)).mean() < 200
    path = root / "webcam" / "images" / target.images.paths[294]
    assert np.array_equal(target.images.gather(np.array([294]))[0], decode(path, 32))
