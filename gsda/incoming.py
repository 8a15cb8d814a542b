"""Images as a service receives them: arrays, bytes of image files, or these in base64."""

import base64
import binascii
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from gsda.data.decoding import decode_bytes
from gsda.data.domain import UInt8
from gsda.errors import BadInput

Resize = Callable[[UInt8], UInt8]


def sized_images(rows: Sequence[Any], size: int, resize: Resize) -> Iterator[UInt8]:
    """Each of `rows` as (size, size, 3).

    Args:
        rows: of arrays or nested lists (H, W, 3) of whole numbers 0..255, bytes of image files, or
            texts: such bytes in base64, with or without ``data:image/...;base64,`` before them.
        resize: brings an array (H, W, 3) to that size.

    Raises:
        BadInput: something else; names the image by its number, from 0.
    """
    for number, row in enumerate(rows):
        name = f"Image {number}"
        if isinstance(row, str):
            row = _bytes_of(row, name)
        yield decode_bytes(row, name, size) if isinstance(row, bytes) else resize(_array(row, name))


def _bytes_of(text: str, name: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput(
            f"{name} is a text that is not base64: send the bytes of a file so."
        ) from None


def _array(row: Any, name: str) -> UInt8:
    try:
        values = np.asarray(row.tolist() if isinstance(row, np.ndarray) else row)
    except ValueError:  # lists of different lengths
        values = np.zeros(0)
    of_images = values.ndim == 3 and values.shape[2] == 3 and values.size
    if not of_images or values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise BadInput(
            f"{name} must be whole numbers 0..255 of shape (height, width, 3), or an image file "
            f"in base64; it is {values.dtype} of shape {values.shape}."
        )
    return values.astype(np.uint8)
