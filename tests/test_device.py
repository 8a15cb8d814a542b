"""What depends on the machine, as far as it can be seen without a GPU."""

import pytest
import torch
from torch import nn

from gsda.device import arrange, autocast, evaluation_batch, send

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_to_the_cpu_nothing_is_copied() -> None:
    tensor = torch.arange(3)
    assert send(tensor, CPU) is tensor


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_precision_on_the_cpu(precision: str, dtype: torch.dtype) -> None:
    layer = nn.Linear(3, 2)
    with autocast(precision, CPU):
        assert layer(torch.zeros(1, 3)).dtype == dtype
    assert layer(torch.zeros(1, 3)).dtype == torch.float32


def test_on_the_cpu_weights_keep_their_order() -> None:
    layer = nn.Conv2d(3, 4, 3)
    arrange(layer, CPU)
    assert layer.weight.is_contiguous()


@pytest.mark.parametrize("crop", [32, 224])
def test_a_gpu_evaluates_more_images_at_once(crop: int) -> None:
    assert evaluation_batch(CUDA, crop) > evaluation_batch(CPU, crop)
    assert evaluation_batch(CPU, 32) > evaluation_batch(CPU, 224)


@needs_gpu
def test_a_gpu_is_sent_to_without_waiting() -> None:
    torch.cuda.init()
    torch.cuda.set_sync_debug_mode("error")
    try:
        there = send(torch.arange(5), CUDA)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert there.tolist() == [0, 1, 2, 3, 4]


@needs_gpu
def test_a_gpu_holds_convolutions_in_channels_last() -> None:
    layer = nn.Conv2d(3, 4, 3)
    arrange(layer, CUDA)
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
