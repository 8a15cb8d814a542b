"""A trained model as a folder: what predicts, without what trained it.

The folder holds `weights.pt` (E and C) and `manifest.json` (classes, transform, backbone, where it
is from, and by what it was chosen). `gsda.export` writes the weights as safetensors, too.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gsda.backbones import find_backbone
from gsda.checkpoint import load_bytes, to_bytes
from gsda.data.transforms import (
    DEVIATION_FLOOR,
    IMAGENET_MEAN,
    IMAGENET_STD,
    centre_crop,
    normalise,
)
from gsda.device import evaluation_batch
from gsda.errors import BadCheckpoint, BadInput
from gsda.files import write_atomically
from gsda.model import Network
from gsda.version import __version__

if TYPE_CHECKING:
    from gsda.run import Run

MANIFEST, WEIGHTS, SAFETENSORS = "manifest.json", "weights.pt", "model.safetensors"
FORMAT = 1
CHUNK = 64


class Predictor:
    """E and C with the classes' names.

    Attributes:
        manifest: classes, backbone, bottleneck, task, configuration and whatever was added.
    """

    def __init__(self, network: Network, manifest: Mapping[str, Any]) -> None:
        self.network = network.eval()
        self.manifest = dict(manifest)
        self.classes: tuple[str, ...] = tuple(manifest["classes"])
        self._entry = find_backbone(manifest["backbone"])

    def predict(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
        """Classes (N,) and probabilities (N, r) of RGB images, uint8 (N, H, W, 3), of any H, W.

        Raises:
            BadInput: of another shape or type.
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise BadInput(
                f"Images must be uint8 of shape (N, height, width, 3), not {images.dtype} of "
                f"shape {images.shape}: stack RGB images of one size."
            )
        sized = [
            np.stack([self.resize(image) for image in images[i : i + CHUNK]])
            for i in range(0, len(images), CHUNK)
        ]
        return self.predict_sized(sized)

    def predict_any(self, images: NDArray[Any]) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
        """The same for uint8 (N, H, W, 3), or N objects: arrays, files' bytes, or texts in base64.

        Raises:
            BadInput: as `gsda.incoming.sized_images`.
        """
        if images.ndim == 4 and images.dtype == np.uint8:
            return self.predict(images)
        from gsda.incoming import sized_images

        if images.ndim == 0:
            raise BadInput("Images must be a list, even if there is one alone.")
        parts = (images[i : i + CHUNK] for i in range(0, len(images), CHUNK))
        return self.predict_sized(
            np.stack(list(sized_images(list(part), self.size, self.resize))) for part in parts
        )

    def resize(self, image: NDArray[np.uint8] | Image.Image) -> NDArray[np.uint8]:
        """An RGB image of any size, as training saw it: (size, size, 3)."""
        size = self._entry.size
        if not isinstance(image, Image.Image):
            image = Image.fromarray(image)
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(image)

    def to(self, device: str) -> "Predictor":
        """The same, computing on another device."""
        self.network.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device

    @property
    def batch_size(self) -> int:
        """Images that are well predicted at once."""
        return evaluation_batch(self.device, self._entry.crop)

    @property
    def size(self) -> int:
        """Side of the images that `predict_sized` takes."""
        return self._entry.size

    def predict_sized(
        self, batches: Iterable[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
        """The same for batches (B, size, size, 3) that were resized already."""
        parts = list(self._probabilities(batches))
        r = len(self.classes)
        p = np.concatenate(parts) if parts else np.zeros((0, r), dtype=np.float32)
        return np.asarray(self.classes)[p.argmax(axis=1)], p

    def _probabilities(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        for batch in batches:
            yield self.look(batch)[1]

    def look(self, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features (B, d) and probabilities (B, r) of images (B, size, size, 3), as resized."""
        entry = self._entry
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(batch)).to(self.device)
            f, z = self.network(normalise(centre_crop(x, entry.crop), entry.normalise))
            return f.cpu().numpy(), torch.softmax(z, dim=1).cpu().numpy()


def transform_of(backbone: str) -> dict[str, Any]:
    """How an image becomes the network's input, in words for a reader in another language."""
    entry = find_backbone(backbone)
    steps: dict[str, Any] = {
        "colour": "RGB, upright, transparency on white",
        "resize": [entry.size, entry.size],
        "interpolation": "bilinear, antialiased; the aspect ratio is not kept",
        "centre_crop": [entry.crop, entry.crop],
        "scale": "values / 255",
    }
    if entry.normalise == "imagenet":
        return steps | {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
    formula = f"(x - mean) / (std + {DEVIATION_FLOOR})"
    return steps | {
        "normalise": f"each image by its own mean and deviation over all values: {formula}"
    }


def manifest_of(run: "Run", metrics: Mapping[str, float], selection: Mapping[str, Any]) -> Any:
    """The manifest of a run's model.

    Args:
        metrics: of the model; the label-free scores among them are kept.
        selection: by what it was chosen.
    """
    return {
        "classes": list(run.pair.classes),
        "transform": transform_of(run.config.backbone),
        "backbone": run.config.backbone,
        "bottleneck": run.config.bottleneck,
        "task": str(run.task),
        "config": run.config.to_dict(),
        "data": [run.pair.source.images.digest, run.pair.target.digest],
        "step": run.step_count,
        "scores": {name: v for name, v in metrics.items() if name.startswith("val/")},
        "selection": dict(selection),
        "version": __version__,
    }


def amend_manifest(folder: Path, **more: Any) -> None:
    """Add what was not known when the model was written; what is there is replaced whole.

    Raises:
        OSError: it cannot be read or written.
    """
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8")) | more
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    write_atomically(folder / MANIFEST, text.encode())


def save_bundle(folder: Path, network: Network, manifest: Mapping[str, Any]) -> None:
    """Write a model; the manifest comes last, so that a folder with one is whole.

    Args:
        manifest: JSON values; must name `classes`, `backbone` and `bottleneck`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = to_bytes(network.state_dict())
    write_atomically(folder / WEIGHTS, weights)
    about = {"format": FORMAT, "sha256": _digest(weights)}
    text = json.dumps(about | dict(manifest), indent=2, ensure_ascii=False)
    write_atomically(folder / MANIFEST, text.encode())


def _read_weights(folder: Path, digest: str) -> dict[str, Tensor]:
    """E and C, from whichever form of them lies there.

    Args:
        digest: SHA-256 of `weights.pt` by the manifest, "" where it is not known.

    Raises:
        OSError: neither does. BadCheckpoint: damaged.
    """
    if (folder / WEIGHTS).exists() or not (folder / SAFETENSORS).exists():
        content = (folder / WEIGHTS).read_bytes()
        if digest not in ("", _digest(content)):
            raise BadCheckpoint(f"{WEIGHTS} is not what {MANIFEST} says")
        return load_bytes(content, WEIGHTS)
    from gsda.export import read_safetensors

    return read_safetensors(folder / SAFETENSORS)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def bundle_step(folder: Path) -> int | None:
    """The step of the training that a model is of; None if the model is not whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = manifest["sha256"] == _digest((folder / WEIGHTS).read_bytes())
        return int(manifest["step"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_bundle(folder: Path) -> Predictor:
    """Read a model, executing nothing that lies in the folder.

    Raises:
        BadInput: it is not there, or damaged.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        digest = manifest.get("sha256", "") if isinstance(manifest, dict) else ""
        state = _read_weights(folder, digest)
    except OSError as error:
        raise BadInput(
            f"{folder} is no model: it needs {MANIFEST} and {WEIGHTS}, as a search leaves them."
        ) from error
    except (ValueError, BadCheckpoint) as error:
        raise BadInput(f"The model in {folder} is damaged ({error}): fetch it again.") from error
    try:
        network = Network(manifest["backbone"], len(manifest["classes"]), manifest["bottleneck"])
    except (KeyError, TypeError) as error:
        raise BadInput(
            f"{folder / MANIFEST} describes no model of ours: name a folder that a search left."
        ) from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise BadInput(
            f"The weights in {folder} do not fit its {MANIFEST}: fetch it again."
        ) from error
    return Predictor(network, manifest)
