"""Crops, mirrors and normalisations."""

import pytest
import torch
from torch import Tensor

from gsda.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    centre_crop,
    normalise,
    random_crop_flip,
)


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(n: int, size: int) -> Tensor:
    return torch.randint(256, (n, size, size, 3), generator=dice(7), dtype=torch.uint8)


def numbered(n: int, size: int) -> Tensor:
    """Each pixel says in which row (channel 0), column (1) and image (2) it stands."""
    image = torch.zeros(n, size, size, 3, dtype=torch.uint8)
    image[..., 0] = torch.arange(size)[:, None]
    image[..., 1] = torch.arange(size)
    image[..., 2] = torch.arange(n)[:, None, None]
    return image


def test_imagenet_normalisation_by_hand() -> None:
    images = torch.zeros(2, 4, 5, 3, dtype=torch.uint8)
    images[1] = 255
    images[1, 2, 3, 1] = 51
    x = normalise(images, "imagenet")
    assert x.dtype == torch.float32
    assert x.shape == (2, 3, 4, 5)
    for c in range(3):
        low, high = -IMAGENET_MEAN[c] / IMAGENET_STD[c], (1 - IMAGENET_MEAN[c]) / IMAGENET_STD[c]
        assert x[0, c].unique().tolist() == pytest.approx([low], rel=1e-5)
        assert x[1, c, 0, 0].item() == pytest.approx(high, rel=1e-5)
    assert x[1, 1, 2, 3].item() == pytest.approx((0.2 - 0.456) / 0.224, rel=1e-5)


def test_image_normalisation_is_each_image_by_its_own() -> None:
    images = noise(3, 16)
    images[1] //= 4
    x = normalise(images, "image")
    deviation, mean = torch.std_mean(x, dim=(1, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(deviation, torch.ones(3), atol=5e-3, rtol=0)
    torch.testing.assert_close(normalise(images[1:2], "image"), x[1:2])


def test_image_normalisation_undoes_contrast() -> None:
    images = noise(1, 16) // 2
    x, y = normalise(images, "image"), normalise(images * 2, "image")
    torch.testing.assert_close(x, y, atol=5e-3, rtol=0)


def test_a_flat_image_is_no_nan() -> None:
    x = normalise(torch.full((1, 8, 8, 3), 77, dtype=torch.uint8), "image")
    torch.testing.assert_close(x, torch.zeros(1, 3, 8, 8), atol=2e-2, rtol=0)


def test_centre_crop() -> None:
    images = numbered(2, 10)
    assert torch.equal(centre_crop(images, 4), images[:, 3:7, 3:7])
    assert torch.equal(centre_crop(images, 5), images[:, 2:7, 2:7])
    assert torch.equal(centre_crop(images, 10), images)


@pytest.mark.parametrize("flip", [True, False])
def test_crops_are_windows_mirrored_or_not(flip: bool) -> None:
    images = numbered(64, 8)
    crops = random_crop_flip(images, 5, flip, dice())
    assert crops.shape == (64, 5, 5, 3)
    assert crops.dtype == torch.uint8
    mirrored = 0
    corners = set()
    for i, crop in enumerate(crops):
        assert (crop[..., 2] == i).all()
        rows, columns = crop[:, 0, 0].tolist(), crop[0, :, 1].tolist()
        if columns[0] > columns[1]:
            mirrored += 1
            columns.reverse()
        top, left = rows[0], columns[0]
        corners.add((top, left))
        assert rows == list(range(top, top + 5))
        assert columns == list(range(left, left + 5))
        window = images[i, top : top + 5, left : left + 5]
        assert torch.equal(crop, window) or torch.equal(crop, window.flip(1))
    assert {top for top, _ in corners} == {left for _, left in corners} == {0, 1, 2, 3}
    assert len(corners) > 8
    assert 16 < mirrored < 48 if flip else mirrored == 0


def test_crops_are_a_function_of_the_generator() -> None:
    images = noise(16, 8)
    one = random_crop_flip(images, 5, True, dice(0))
    assert torch.equal(one, random_crop_flip(images, 5, True, dice(0)))
    assert not torch.equal(one, random_crop_flip(images, 5, True, dice(1)))


def test_flip_without_crop() -> None:
    images = numbered(32, 6)
    flipped = random_crop_flip(images, 6, True, dice())
    same = [torch.equal(a, b) for a, b in zip(images, flipped, strict=True)]
    mirrored = [torch.equal(a.flip(1), b) for a, b in zip(images, flipped, strict=True)]
    assert [a != b for a, b in zip(same, mirrored, strict=True)] == [True] * 32
    assert 0 < sum(same) < 32


def test_nothing_to_crop_or_flip_throws_no_dice() -> None:
    images, generator = noise(4, 6), dice()
    before = generator.get_state()
    assert torch.equal(random_crop_flip(images, 6, False, generator), images)
    assert torch.equal(generator.get_state(), before)


def test_the_stored_images_are_left_as_they_are() -> None:
    images = noise(8, 8)
    before = images.clone()
    random_crop_flip(images, 5, True, dice())
    normalise(images, "image")
    normalise(images, "imagenet")
    assert torch.equal(images, before)
