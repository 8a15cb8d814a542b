"""Domains, and parts of them."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from gsda.data.domain import Domain, Int64, Pair, Subset, UInt8, restrict
from gsda.data.store import Row, open_domain, write_store

SIZE = 4


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    images = np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3), dtype=np.uint8)
    rows = [Row(f"{i}.png", i % 3, image) for i, image in enumerate(images)]
    write_store(tmp_path / "s.arrow", "A", ("x", "y", "z"), SIZE, rows)
    return open_domain(tmp_path / "s.arrow", "A")


def test_restriction_keeps_the_list_of_classes(domain: Domain) -> None:
    part = restrict(domain, (0, 2))
    assert part.classes == ("x", "y", "z")
    assert part.labels.tolist() == [0, 2, 0, 2, 0, 2]
    assert list(part.images.paths) == [f"{i}.png" for i in (0, 2, 3, 5, 6, 8)]
    assert len(part) == 6
    assert part.images.size == SIZE


def test_a_subset_counts_from_its_own_start(domain: Domain) -> None:
    part = restrict(domain, (1,)).images
    chosen = np.array([2, 0, 2])
    assert np.array_equal(part.gather(chosen), domain.images.gather(np.array([7, 1, 7])))
    assert part.gather(np.array([], dtype=np.int64)).shape == (0, SIZE, SIZE, 3)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_subset_gives_nothing_from_outside(domain: Domain, index: int) -> None:
    with pytest.raises(IndexError):
        restrict(domain, (1,)).images.gather(np.array([0, index]))


def test_subsets_have_their_own_identity(domain: Domain) -> None:
    digests = {restrict(domain, kept).images.digest for kept in [(0,), (1,), (0, 1)]}
    assert len(digests | {domain.images.digest}) == 4
    assert restrict(domain, (0,)).images.digest in digests


def test_a_subset_pickles_without_its_images(domain: Domain) -> None:
    part = restrict(domain, (0,)).images
    assert isinstance(part, Subset)
    again = pickle.loads(pickle.dumps(part))
    assert again.digest == part.digest
    assert np.array_equal(again.gather(np.array([1])), part.gather(np.array([1])))


def test_a_pair_does_not_name_the_target_s_files() -> None:
    """The path of an image often holds its class."""

    class Named:
        digest, size = "d", 1
        paths = ("dog/1.png", "cat/2.png")

        def __len__(self) -> int:
            return 2

        def gather(self, indices: Int64) -> UInt8:
            return np.full((len(indices), 1, 1, 3), 7, dtype=np.uint8)

    labels = np.array([0, 1])
    pair = Pair(Domain("A", Named(), labels, ("cat", "dog")), Named())
    assert list(pair.target.paths) == ["0", "1"]
    assert pair.source.images.paths == Named.paths
    assert not hasattr(pair.target, "labels")
    assert (len(pair.target), pair.target.digest, pair.target.size) == (2, "d", 1)
    assert (pair.target.gather(np.array([1, 0])) == 7).all()
