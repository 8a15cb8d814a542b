"""E, the feature extractor, and C, the classifier."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gsda.backbones import find_backbone
from gsda.errors import BadInput

NO_WEIGHTS = "none"
DEFAULT_WEIGHTS = "default"


class SmallCNN(nn.Module):
    """Three convolutions for 32 x 32 images: (N, 3, 32, 32) -> (N, 1024)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 64)
        blocks: list[nn.Module] = []
        for before, after in pairwise(widths):
            convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
            blocks += [convolution, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*blocks, nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) -> (N, 1024)."""
        features: Tensor = self.features(x)
        return features


def _build_trunk(name: str) -> nn.Module:
    """The backbone itself, without pretrained weights and without a classification layer."""
    entry = find_backbone(name)
    if not entry.head:
        return SmallCNN()
    from torchvision import models

    trunk: nn.Module = models.get_model(name, weights=None)
    setattr(trunk, entry.head, nn.Identity())
    return trunk


def _build_neck(backbone: str, bottleneck: int) -> nn.Module:
    width = find_backbone(backbone).width
    return nn.Sequential(nn.Linear(width, bottleneck), nn.BatchNorm1d(bottleneck), nn.ReLU())


class Network(nn.Module):
    """E (Eq. 1: backbone, then a bottleneck of width d with batch norm and ReLU) and C (Eq. 2).

    Attributes:
        E: images (N, 3, crop, crop), normalised, to features (N, d).
        C: features (N, d) to logits (N, r).
    """

    def __init__(self, backbone: str, n_classes: int, bottleneck: int) -> None:
        super().__init__()
        self.E = nn.Sequential()
        neck = _build_neck(backbone, bottleneck)
        self.E.add_module("backbone", _build_trunk(backbone))
        self.E.add_module("bottleneck", neck)
        self.C = nn.Linear(bottleneck, n_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, crop, crop) -> features (N, d) and logits (N, r)."""
        f = self.E(x)
        return f, self.C(f)

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Parameters that may have been pretrained."""
        return list(self.E.get_submodule("backbone").parameters())

    def new_parameters(self) -> list[nn.Parameter]:
        """Parameters of the bottleneck and of C."""
        return [*self.E.get_submodule("bottleneck").parameters(), *self.C.parameters()]


class Head(Network):
    """Bottleneck and C alone, on the features (N, width) of a frozen backbone."""

    def __init__(self, backbone: str, n_classes: int, bottleneck: int) -> None:
        nn.Module.__init__(self)
        self.E = nn.Sequential()
        self.E.add_module("bottleneck", _build_neck(backbone, bottleneck))
        self.C = nn.Linear(bottleneck, n_classes)
        self._sizes = backbone, n_classes, bottleneck

    def backbone_parameters(self) -> list[nn.Parameter]:
        """None: they are frozen, and not even here."""
        return []

    def complete(self, weights: str) -> Network:
        """The whole network, from images on; its bottleneck and C are copies.

        Raises:
            BadInput: as `load_pretrained`.
        """
        whole = Network(*self._sizes)
        load_pretrained(whole, self._sizes[0], weights)
        whole.load_state_dict(self.state_dict(), strict=False)
        return whole


def build_head(backbone: str, n_classes: int, bottleneck: int, seed: int) -> Head:
    """A `Head` with freshly drawn weights, a function of `seed`; no global generator is moved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Head(backbone, n_classes, bottleneck)


def build_network(backbone: str, n_classes: int, bottleneck: int, seed: int) -> Network:
    """A network with freshly drawn weights, a function of `seed`; the CPU's generator stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(backbone, n_classes, bottleneck)


def load_pretrained(network: Network, backbone: str, weights: str) -> None:
    """Put pretrained weights into the trunk.

    Args:
        weights: "none", "default" (torchvision's IMAGENET1K_V1; nothing for "cnn"), or a file.

    Raises:
        BadInput: the file is not there, is no weights file or does not fit, or the download failed.
    """
    entry = find_backbone(backbone)
    if weights == NO_WEIGHTS or (weights == DEFAULT_WEIGHTS and not entry.head):
        return
    if not entry.head:
        raise BadInput(f"Backbone {backbone!r} has no pretrained weights: leave --weights out.")
    given = _download(backbone) if weights == DEFAULT_WEIGHTS else read_weights(Path(weights))
    trunk = network.E.get_submodule("backbone")
    given = {name: value for name, value in given.items() if not name.startswith(f"{entry.head}.")}
    _check_fit(trunk.state_dict(), given, weights, backbone)
    trunk.load_state_dict(given)


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a file, without running any code in it.

    Raises:
        BadInput: not there, or no file of weights.
    """
    if not path.is_file():
        raise BadInput(f"There is no weights file {path}: check --weights.")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path} cannot be read as a file of weights ({reason[:120]}).") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise BadInput(f"{path} holds no state dict (names to tensors): save model.state_dict().")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _download(backbone: str) -> dict[str, Tensor]:
    from torchvision import models

    entry = models.get_model_weights(backbone).IMAGENET1K_V1
    try:
        # A file that was downloaded before is not hashed again, so it may be anybody's.
        state: dict[str, Tensor] = entry.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:
        file = entry.url.rsplit("/", 1)[-1]
        raise BadInput(
            f"The ImageNet weights of {backbone} could not be downloaded: "
            f"fetch {file} where there is a network and give --weights {file}."
        ) from error
    return state


def _check_fit(
    expected: Mapping[str, Tensor], given: Mapping[str, Tensor], weights: str, backbone: str
) -> None:
    blame = f"{weights} does not fit {backbone}"
    for name, tensor in expected.items():
        if name not in given and name.endswith(".num_batches_tracked"):
            continue  # older files, torchvision's among them, do not count batches
        if name not in given:
            raise BadInput(f"{blame}: it lacks the tensor {name}, of shape {tuple(tensor.shape)}.")
        if given[name].shape != tensor.shape:
            raise BadInput(
                f"{blame}: its tensor {name} has shape {tuple(given[name].shape)}, "
                f"not {tuple(tensor.shape)}."
            )
    for name in given:
        if name not in expected:
            raise BadInput(f"{blame}: it has a tensor {name}, which {backbone} has not.")
