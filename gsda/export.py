"""A model for other programs: safetensors, or ONNX, each read again and compared.

Both come in a folder with `manifest.json`. The ONNX graph takes images as they are stored (uint8,
resized) and gives probabilities: crop and normalisation are in it.
"""

import importlib.util
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gsda.backbones import find_backbone
from gsda.bundle import FORMAT, MANIFEST, SAFETENSORS, Predictor, load_bundle, transform_of
from gsda.data.domain import Float32, UInt8
from gsda.data.transforms import IMAGENET_MEAN, IMAGENET_STD, centre_crop, normalise
from gsda.errors import BadCheckpoint, BadInput
from gsda.files import write_atomically

ONNX = "model.onnx"
FORMATS = ("safetensors", "onnx")
# Largest difference of a probability: the same sums in another order.
TOLERANCE = 1e-4
_NEEDS = {"safetensors": ("safetensors",), "onnx": ("onnx", "onnxruntime", "onnxscript")}
_OPSET = 18


class Differs(RuntimeError):
    """What was exported does not predict what the model predicts; nothing was left."""


@dataclass(frozen=True)
class Exported:
    """What was written, and how near it is to the model.

    Attributes:
        images: how many were compared. difference: the largest, of a probability.
    """

    file: Path
    images: int
    difference: float


def check_format(form: str) -> None:
    """Refuse a format that is unknown, or that lacks its libraries.

    Raises:
        BadInput: with what to install.
    """
    if form not in FORMATS:
        raise BadInput(f"Unknown format {form!r}: choose one of {', '.join(FORMATS)}.")
    for name in _NEEDS[form]:
        if importlib.util.find_spec(name) is None:
            raise BadInput(f"The format {form} needs {name}: pip install 'gsda[export]'.")


def export(predictor: Predictor, output: Path, form: str, images: UInt8) -> Exported:
    """Write a model to the folder `output`, read it again, and compare.

    Args:
        form: one of `FORMATS`. images: (N, size, size, 3), N at least 2, to compare on.

    Raises:
        BadInput: the format cannot be had, or there is something at `output` already.
        Differs: by more than `TOLERANCE`.
    """
    check_format(form)
    if output.exists():
        raise BadInput(f"{output} is there already: name another place, or remove it.")
    predictor = predictor.to("cpu")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise BadInput(f"{output} cannot be written ({error.strerror}).") from error
    try:
        write, predict = _KINDS[form]
        name = write(predictor, fresh, images)
        _write_manifest(predictor.manifest, fresh)
        _, wanted = predictor.predict_sized([images])
        difference = float(np.abs(predict(fresh, images) - wanted).max())
        if not difference <= TOLERANCE:
            raise Differs(
                f"the {form} file gives probabilities up to {difference:.2g} away from the "
                f"model's, over the tolerance of {TOLERANCE:g}: nothing was left at {output}."
            )
        fresh.chmod(0o755)
        fresh.rename(output)
    except OSError as error:
        raise BadInput(f"{output} cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Exported(output / name, len(images), difference)


def _write_manifest(manifest: Mapping[str, Any], folder: Path) -> None:
    transform = {"transform": transform_of(manifest["backbone"])}  # older models lack it
    text = json.dumps({"format": FORMAT} | transform | dict(manifest), indent=2, ensure_ascii=False)
    write_atomically(folder / MANIFEST, text.encode())


# safetensors


def _write_safetensors(predictor: Predictor, folder: Path, _: UInt8) -> str:
    from safetensors.torch import save

    state = {name: t.contiguous() for name, t in predictor.network.state_dict().items()}
    write_atomically(folder / SAFETENSORS, save(state, {"format": "pt"}))
    return SAFETENSORS


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file; nothing in it can be executed.

    Raises:
        BadInput: the library is not there. BadCheckpoint: damaged.
    """
    check_format("safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        state: dict[str, Tensor] = load(path.read_bytes())
    except SafetensorError as error:
        raise BadCheckpoint(f"{path.name} cannot be read") from error
    return state


def _predict_safetensors(folder: Path, images: UInt8) -> Float32:
    return load_bundle(folder).predict_sized([images])[1]


# ONNX


class _Graph(nn.Module):
    """What is exported: from stored images to probabilities.

    The transform for ImageNet's backbones stands here as one expression of tensors: as training
    has it, it is a loop over images, which a trace would fix to the number in the example.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.network = predictor.network
        self._entry = find_backbone(predictor.manifest["backbone"])
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, size, size, 3) -> (N, r)."""
        x = centre_crop(images, self._entry.crop)
        if self._entry.normalise == "imagenet":
            x = (x.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        else:
            x = normalise(x, self._entry.normalise)
        return torch.softmax(self.network(x)[1], dim=1)


def _write_onnx(predictor: Predictor, folder: Path, images: UInt8) -> str:
    import onnx

    example = torch.from_numpy(images[:2].copy())
    graph = _Graph(predictor).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        torch.onnx.export(
            graph,
            (example,),
            folder / ONNX,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("n")}},
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = onnx.load(folder / ONNX)
    text = {"classes": json.dumps(list(predictor.classes), ensure_ascii=False)}
    onnx.helper.set_model_props(model, text)
    onnx.save(model, folder / ONNX)
    return ONNX


def _predict_onnx(folder: Path, images: UInt8) -> Float32:
    """By ONNX's own runtime, in batches of another size than the example's."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / ONNX, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"images": images[i : i + 7]})[0] for i in range(0, len(images), 7)]
    return np.concatenate(parts)


_KINDS: dict[str, Any] = {
    "safetensors": (_write_safetensors, _predict_safetensors),
    "onnx": (_write_onnx, _predict_onnx),
}
