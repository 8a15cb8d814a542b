"""Images as a service receives them."""

import base64
from typing import Any

import numpy as np
import pytest
from scene import in_base64

from gsda.bundle import Predictor
from gsda.errors import BadInput
from gsda.incoming import sized_images
from gsda.model import build_network

MANIFEST = {"classes": ["a", "b", "c"], "backbone": "cnn", "bottleneck": 8}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(build_network("cnn", 3, 8, 0), MANIFEST)


def images(n: int, height: int = 32, width: int = 32) -> Any:
    return np.random.default_rng(n).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def objects(rows: list[Any]) -> Any:
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array


def test_every_form_of_an_image_gives_the_same(predictor: Predictor) -> None:
    (image,) = images(1)
    text = in_base64(image)
    lines = "\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    forms = [image, image.tolist(), image.astype(np.int64), text, lines]
    forms += [f"data:image/png;base64,{text}", base64.b64decode(text)]
    rows = list(sized_images(forms, 32, predictor.resize))
    assert len(rows) == 7
    assert all(np.array_equal(row, image) for row in rows)


def test_mixed_sizes_and_more_than_one_batch(predictor: Predictor) -> None:
    given = [*images(60, 20, 30), *images(40, 33, 9)]
    classes, p = predictor.predict_any(objects([image.tolist() for image in given]))
    wanted = [predictor.predict(image[None]) for image in given]
    assert classes.tolist() == [names[0] for names, _ in wanted]
    assert np.allclose(p, np.concatenate([q for _, q in wanted]), atol=1e-6)


def test_arrays_as_json_has_them(predictor: Predictor) -> None:
    given = images(3)
    for array in (given, given.astype(np.int64), given.astype(object)):
        assert np.allclose(predictor.predict_any(array)[1], predictor.predict(given)[1], atol=1e-6)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("no base64!", "Image 1 is a text that is not base64"),
        ("aGVsbG8=", "Image 1 cannot be read as an image (of no known image format)"),
        (b"hello", "Image 1 cannot be read as an image"),
        ([[[0, 0, 256]]], "Image 1 must be whole numbers 0..255 of shape (height, width, 3)"),
        ([[[0, 0, -1]]], "Image 1 must be whole numbers"),
        ([[[0.5, 0, 0]]], "Image 1 must be whole numbers"),
        ([[0, 1, 2]], "it is int64 of shape (1, 3)."),
        ([[[0, 1, 2]], [[0, 1]]], "Image 1 must be whole numbers"),
        ([], "Image 1 must be whole numbers"),
        (None, "Image 1 must be whole numbers"),
        ({"b64": "x"}, "Image 1 must be whole numbers"),
    ],
)
def test_what_is_no_image_is_named(row: Any, sentence: str, predictor: Predictor) -> None:
    with pytest.raises(BadInput) as refused:
        predictor.predict_any(objects([images(1)[0].tolist(), row]))
    assert sentence in str(refused.value)


def test_no_list_and_no_images(predictor: Predictor) -> None:
    with pytest.raises(BadInput, match="must be a list"):
        predictor.predict_any(np.asarray("text"))
    classes, p = predictor.predict_any(objects([]))
    assert (len(classes), p.shape) == (0, (0, 3))
