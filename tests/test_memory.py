"""What would fit into a GPU, from figures as a GPU gives them."""

import pytest
import torch

from gsda.memory import Demand, asked_for, describe, largest_batch, watch

G = 2**30


def demand(
    fixed: float, reached: float, limit: float, others: float = 0, total: float = 16
) -> Demand:
    return Demand(*(int(value * G) for value in (fixed, reached, limit, others, total)))


@pytest.mark.parametrize(
    ("needs", "batch", "fits"),
    [
        (demand(2, 18, 10), 64, 32),  # half of the 16 that grow with the batch
        (demand(2, 18, 17), 64, 60),
        (demand(2, 18, 1), 64, 0),  # not even the weights
        (demand(2, 3, 15.9), 64, 63),  # it failed, so it was too much, whatever the figures
        (demand(2, 2, 1), 64, 0),
    ],
)
def test_the_largest_batch(needs: Demand, batch: int, fits: int) -> None:
    assert largest_batch(needs, batch) == fits


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total", int(2.5 * G)),
        ("Tried to allocate 20.00 MiB", 20 * 2**20),
        ("out of memory", 0),
    ],
)
def test_the_request_that_failed(message: str, size: int) -> None:
    assert asked_for(message) == size


def test_sentences() -> None:
    told = describe(demand(2, 18, 10), 64)
    assert told == (
        "a batch of 64 + 64 images needs over 18.0 GiB, and there were 10.0 GiB of the GPU's "
        "16.0 GiB; try --batch-size 32 or less in a search of another name"
    )
    assert "6.0 GiB being held by others" in describe(demand(2, 18, 10, 6), 64)
    assert "choose a smaller --backbone" in describe(demand(9, 18, 8), 64)


def test_without_a_gpu_there_is_nothing_to_watch() -> None:
    assert watch(torch.device("cpu"), first=True) == 0
