"""The one table of backbones: what each is fed, and what it gives. Needs no torch to be read."""

from dataclasses import dataclass

from gsda.errors import BadInput


@dataclass(frozen=True)
class Backbone:
    """What a backbone is fed, and what it gives.

    Attributes:
        width: features it gives.
        size: images are stored resized to size x size, not keeping the aspect ratio.
        crop: side of the crop that the network is fed: random in training, centred otherwise.
        flip: whether training mirrors images at random.
        normalise: "imagenet" (fixed mean and deviation), or "image" (each image by its own).
        head: torchvision's name of its classification layer, which is taken off; "" for our own.
    """

    width: int
    size: int = 256
    crop: int = 224
    flip: bool = True
    normalise: str = "imagenet"
    head: str = "fc"


BACKBONES: dict[str, Backbone] = {
    # Made letters differ in background and contrast more than photographs do, and a fixed
    # normalisation leaves source-only at chance on them; a mirrored letter is another letter.
    "cnn": Backbone(1024, size=32, crop=32, flip=False, normalise="image", head=""),
    "resnet18": Backbone(512),
    "resnet34": Backbone(512),
    "resnet50": Backbone(2048),
    "resnet101": Backbone(2048),
    "mobilenet_v2": Backbone(1280, head="classifier"),
}


def find_backbone(name: str) -> Backbone:
    """The entry of `BACKBONES`.

    Raises:
        BadInput: there is none of that name.
    """
    if name not in BACKBONES:
        raise BadInput(f"Unknown backbone {name!r}: choose one of {', '.join(BACKBONES)}.")
    return BACKBONES[name]
