"""What a frozen backbone makes of a domain's images: computed once, cached, mapped into memory.

The features are those of centre crops without augmentation, pooled, float32. A file of them is an
Arrow IPC file with one column of fixed-size lists. Its name and metadata carry a hash of the
backbone, its weights, the transform and the images' digest, so none can be taken for another.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from gsda.backbones import find_backbone
from gsda.config import Config
from gsda.data.atomic import locked, not_written, replacing
from gsda.data.domain import Float32, Images, Int64, Nameless, Pair, Subset
from gsda.data.load import Progress
from gsda.data.transforms import centre_crop, normalise
from gsda.errors import BadInput
from gsda.model import DEFAULT_WEIGHTS, NO_WEIGHTS, build_network, load_pretrained

FORMAT = "gsda-features-1"
TRANSFORM = "centre crop"
CHUNK = 64
_COLUMN = "features"


class Features:
    """Features of one domain on a mapped file: the `Images` protocol, with rows (width,).

    Pickles as its path and the images that it was made from, which pickle as theirs.
    """

    size = 0

    def __init__(self, path: Path, key: str, images: Images) -> None:
        """Map the file at `path`, which must have the identity `key`.

        Raises:
            BadInput: no sound file of that identity there.
        """
        self.path, self.digest, self.images = path, key, images
        self.paths: Sequence[str] = images.paths
        try:
            self._views = _views(path, key, len(images))
        except (OSError, ValueError, LookupError, TypeError, pa.ArrowException):
            raise BadInput(
                f"{path} is no sound file of features: remove it, and it will be computed again."
            ) from None
        self._starts = np.cumsum([0, *(len(view) for view in self._views)])

    @property
    def width(self) -> int:
        """Features of an image."""
        return int(self._views[0].shape[1])

    def __len__(self) -> int:
        return len(self.paths)

    def gather(self, indices: Int64) -> Float32:
        """Features of the images at `indices` (B,), as a fresh, writable array (B, width).

        Raises:
            IndexError: an index outside 0..N-1.
        """
        out = np.empty((len(indices), self.width), dtype=np.float32)
        for row, index in enumerate(np.asarray(indices).tolist()):
            if not 0 <= index < len(self):
                raise IndexError(f"index {index} is not one of {len(self)} images")
            part = index // CHUNK
            out[row] = self._views[part][index - self._starts[part]]
        return out

    def __reduce__(self) -> tuple[Callable[..., "Features"], tuple[Path, str, Images]]:
        return Features, (self.path, self.digest, self.images)


def _views(path: Path, key: str, n: int) -> list[Float32]:
    """The batches of a file as read-only arrays (at most CHUNK, width) on the mapped file."""
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    if reader.schema.metadata[b"key"] != key.encode():
        raise ValueError("another identity")
    batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    if sum(map(len, batches)) != n or any(len(batch) != CHUNK for batch in batches[:-1]):
        raise ValueError("another number of rows")
    columns = [batch.column(_COLUMN) for batch in batches]
    return [c.flatten().to_numpy(zero_copy_only=True).reshape(len(c), -1) for c in columns]


def freeze(
    pair: Pair,
    config: Config,
    cache: Path,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Pair:
    """What a `Run` of `config` is to be given: `pair` itself, unless its features are frozen.

    Args:
        cache: the folder of cached files, as in `DataSpec`.
        device: where features are computed that are not cached yet.
        progress: called with (images done, images in all) while a domain's are computed.

    Raises:
        BadInput: a backbone without pretrained weights, weights that do not fit, or no space.
    """
    if config.features != "frozen":
        return pair

    def frozen(images: Images) -> Images:
        return _frozen(images, config, cache, device, progress)

    source = replace(pair.source, images=frozen(pair.source.images))
    return Pair(source, frozen(pair.target))


def _frozen(
    images: Images, config: Config, cache: Path, device: str, progress: Progress | None
) -> Images:
    """The features of `images`, computed under a lock if no sound file has them."""
    if images.size == 0:
        return images
    if isinstance(images, Nameless):
        return _frozen(images.base, config, cache, device, progress)
    if isinstance(images, Subset):
        return Subset(_frozen(images.base, config, cache, device, progress), images.chosen)
    key = features_key(images, config.backbone, config.weights)
    path = cache / f"features-{key[:16]}.arrow"
    found = _open(path, key, images)
    if found is not None:
        return found
    with locked(path):
        found = _open(path, key, images)
        if found is None:
            trunk = _trunk(config).to(device)
            try:
                _write(path, key, images, config.backbone, trunk, progress)
            except OSError as error:
                not_written(error, path, 4 * len(images) * find_backbone(config.backbone).width)
    return found or Features(path, key, images)


def _open(path: Path, key: str, images: Images) -> Features | None:
    try:
        return Features(path, key, images)
    except BadInput:
        return None


def features_key(images: Images, backbone: str, weights: str) -> str:
    """Hex identity of features: of the format, the backbone, its weights, the transform, the data.

    Raises:
        BadInput: there are no such pretrained weights.
    """
    entry = find_backbone(backbone)
    parts = [FORMAT, backbone, _weights_identity(backbone, weights), images.digest]
    parts += [TRANSFORM, str(entry.size), str(entry.crop), entry.normalise]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _weights_identity(backbone: str, weights: str) -> str:
    if not find_backbone(backbone).head or weights == NO_WEIGHTS:
        raise BadInput(
            f"features is 'frozen', but backbone {backbone!r} is given no pretrained weights: "
            "choose a --backbone that has some, and --weights."
        )
    if weights == DEFAULT_WEIGHTS:
        from torchvision import models

        # The name of the file ends with a hash of its content.
        return str(models.get_model_weights(backbone).IMAGENET1K_V1.url.rsplit("/", 1)[-1])
    try:
        status = Path(weights).stat()
        return _file_hash(weights, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise BadInput(f"There is no weights file {weights}: check --weights.") from error


@lru_cache(maxsize=8)
def _file_hash(name: str, _size: int, _changed: int) -> str:
    with Path(name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _trunk(config: Config) -> nn.Module:
    """The pretrained backbone alone, as it evaluates."""
    network = build_network(config.backbone, 1, 1, seed=0)
    load_pretrained(network, config.backbone, config.weights)
    return network.E.get_submodule("backbone").eval()


def _write(
    path: Path,
    key: str,
    images: Images,
    backbone: str,
    trunk: nn.Module,
    progress: Progress | None,
) -> None:
    entry = find_backbone(backbone)
    kind: Any = pa.list_(pa.float32(), entry.width)
    schema = pa.schema([(_COLUMN, kind)], {"format": FORMAT, "key": key})
    device = next(trunk.parameters()).device
    with replacing(path) as file, pa.ipc.new_file(file, schema) as writer:
        for start in range(0, len(images), CHUNK):
            indices = np.arange(start, min(start + CHUNK, len(images)))
            raw = torch.from_numpy(images.gather(indices)).to(device)
            with torch.inference_mode():
                rows = trunk(normalise(centre_crop(raw, entry.crop), entry.normalise))
            flat = pa.array(rows.float().cpu().numpy().ravel())
            column = pa.FixedSizeListArray.from_arrays(flat, type=kind)
            writer.write_batch(pa.record_batch([column], schema=schema))
            if progress is not None:
                progress(int(indices[-1]) + 1, len(images))
