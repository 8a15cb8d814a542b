"""Digits as torchvision.datasets leaves them on the disk: MNIST, USPS and SVHN, training sets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gsda.data.store import Row
from gsda.errors import BadInput
from gsda.files import is_file

# By torchvision's class: the file that shows it is there, and what picks the training set.
RAW: dict[str, tuple[str, dict[str, Any]]] = {
    "MNIST": ("MNIST/raw/train-images-idx3-ubyte", {"train": True}),
    "USPS": ("usps.bz2", {"train": True}),
    "SVHN": ("train_32x32.mat", {"split": "train"}),
}


def find_raw(data: Path, kind: str) -> Path | None:
    """The file of torchvision's dataset `kind` in the folder `data`, None where it is not."""
    path = data / RAW[kind][0]
    return path if is_file(path) else None


def read_raw(data: Path, kind: str, size: int) -> tuple[int, Iterator[Row]]:
    """How many images the training set has, and its rows: images (S, S, 3), labels 0 to 9.

    Raises:
        BadInput: its files are damaged.
    """
    dataset = _open(data, kind)
    return len(dataset), _rows(dataset, kind, size)


def raw_labels(data: Path, kind: str) -> list[int]:
    """The labels alone.

    Raises:
        BadInput: its files are damaged.
    """
    dataset = _open(data, kind)
    labels = dataset.labels if kind == "SVHN" else dataset.targets
    return [int(label) for label in labels]


def _open(data: Path, kind: str) -> Any:
    from torchvision import datasets

    try:
        return getattr(datasets, kind)(str(data), download=False, **RAW[kind][1])
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise BadInput(
            f"{data / RAW[kind][0]} cannot be read as {kind} ({reason}): "
            f"remove it, and let torchvision.datasets.{kind} download it anew."
        ) from error


def _rows(dataset: Any, kind: str, size: int) -> Iterator[Row]:
    for index in range(len(dataset)):
        image, label = dataset[index]
        small = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        yield Row(f"{kind.lower()}-train-{index:05d}.png", int(label), np.asarray(small))
