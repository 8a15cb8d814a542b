"""From stored uint8 images to what a backbone is fed, a whole batch at a time, on its device."""

from functools import lru_cache

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEVIATION_FLOOR = 1e-4


def normalise(images: Tensor, how: str) -> Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W).

    Args:
        how: "imagenet", or "image" (zero mean and unit deviation for each image).
    """
    if how == "imagenet":
        return _imagenet(images)
    x = images.permute(0, 3, 1, 2).float() / 255
    deviation, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
    return (x - mean) / (deviation + DEVIATION_FLOOR)


def _imagenet(images: Tensor) -> Tensor:
    """A row of an image at a time, and colours innermost as they are stored: four times as fast as
    by channels, and the memory format that convolutions like best.

    On a CPU one image at a time, too: it stays in the cache, and nothing but the result is written.
    """
    n, height, width, _ = images.shape
    scale, shift = _imagenet_row(width, images.device)
    rows = images.reshape(n, height, 3 * width)
    out = torch.empty(rows.shape, device=images.device)
    at_once = 1 if images.device.type == "cpu" else max(1, n)
    for start in range(0, n, at_once):
        part = out[start : start + at_once].copy_(rows[start : start + at_once])
        torch.addcmul(shift, part, scale, out=part)
    return out.view(n, height, width, 3).permute(0, 3, 1, 2)


@lru_cache(maxsize=8)
def _imagenet_row(width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and summand of a row's values 0..255, (3 * width,) each."""
    mean, deviation = (torch.tensor(v, device=device) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (1 / (255 * deviation)).repeat(width), (-mean / deviation).repeat(width)


def random_crop_flip(images: Tensor, crop: int, flip: bool, generator: torch.Generator) -> Tensor:
    """uint8 (N, S, S, 3) -> (N, crop, crop, 3): each image cropped, and mirrored, by its own dice.

    The generator lives on the CPU, so that a seed means the same on every device.
    """
    n, size = images.shape[:2]
    if size == crop and not flip:
        return images
    slack = size - crop + 1
    top = torch.randint(slack, (n,), generator=generator).tolist()
    left = torch.randint(slack, (n,), generator=generator).tolist()
    dice = torch.rand(n, generator=generator).tolist() if flip else [1.0] * n
    out = images.new_empty(n, crop, crop, 3)
    # Slices are copied as they lie, many times faster than picking pixels by index.
    for image, cropped, y, x, die in zip(images, out, top, left, dice, strict=True):
        window = image[y : y + crop, x : x + crop]
        cropped.copy_(window.flip(1) if die < 0.5 else window)
    return out


def centre_crop(images: Tensor, crop: int) -> Tensor:
    """(N, S, S, 3) -> (N, crop, crop, 3)."""
    offset = (images.shape[1] - crop) // 2
    return images[:, offset : offset + crop, offset : offset + crop]
