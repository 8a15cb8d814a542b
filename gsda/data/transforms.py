"""From stored uint8 images to what a backbone is fed, a whole batch at a time, on its device."""

import torch
from torch import Tensor

from gsda.device import send

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(images: Tensor, how: str) -> Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W).

    Args:
        how: "imagenet", or "image" (zero mean and unit deviation for each image).
    """
    x = images.permute(0, 3, 1, 2).float() / 255
    if how == "imagenet":
        fixed = send(torch.tensor([IMAGENET_MEAN, IMAGENET_STD]), x.device)[:, :, None, None]
        return (x - fixed[0]) / fixed[1]
    deviation, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
    return (x - mean) / (deviation + 1e-4)


def random_crop_flip(images: Tensor, crop: int, flip: bool, generator: torch.Generator) -> Tensor:
    """uint8 (N, S, S, 3) -> (N, crop, crop, 3): each image cropped, and mirrored, by its own dice.

    The generator lives on the CPU, so that a seed means the same on every device.
    """
    n, size = images.shape[:2]
    if size == crop and not flip:
        return images
    slack = size - crop + 1
    top = torch.randint(slack, (n, 1), generator=generator)
    left = torch.randint(slack, (n, 1), generator=generator)
    rows = top + torch.arange(crop)
    columns = left + torch.arange(crop)
    if flip:
        mirrored = torch.rand(n, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    place = (torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :])
    return images[tuple(send(index, images.device) for index in place)]


def centre_crop(images: Tensor, crop: int) -> Tensor:
    """(N, S, S, 3) -> (N, crop, crop, 3)."""
    offset = (images.shape[1] - crop) // 2
    return images[:, offset : offset + crop, offset : offset + crop]
