"""What depends on the machine: how data reach it, and in which precision E and C run."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from gsda.errors import BadInput

# Images at evaluation, where no gradient is kept; a small crop allows eight times as many.
EVALUATION_BATCH, EVALUATION_BATCH_GPU = 64, 256
SMALL_CROP = 64


def choose_device(said: str) -> str:
    """The device of a name that torch knows; "auto" is a GPU where there is one, else "cpu".

    Raises:
        BadInput: no such device, or not on this machine.
    """
    if said == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=said)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BadInput(
            f"--device is {said}, but torch has no such device here: use cpu, or auto."
        ) from error
    return said


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; to a GPU from pinned memory, so that the host does not wait."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def arrange(network: nn.Module, device: torch.device) -> None:
    """Move a network; on a GPU its convolutions in channels-last, which its matrix units read.

    Images come in that order on every device (`gsda.data.transforms.normalise`).
    """
    network.to(device)
    if device.type == "cuda":
        network.to(memory_format=torch.channels_last)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which E and C run.

    Args:
        precision: "float32"; "bfloat16"; or "auto", which is bfloat16 on a GPU that computes in it.
    """
    if precision == "auto":
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bfloat16" if native else "float32"
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def evaluation_batch(device: torch.device, crop: int) -> int:
    """How many images of crop x crop to evaluate at once."""
    batch = EVALUATION_BATCH_GPU if device.type == "cuda" else EVALUATION_BATCH
    return batch if crop > SMALL_CROP else 8 * batch
