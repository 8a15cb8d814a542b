"""glyph31, the built-in benchmark: drawn letters in three domains, with Office-31's image counts.

The 31 classes are the capital letters, 2, 3, 4, 7 and &. Domain A looks like a catalogue: twelve
fonts, some hollow, on near-white paper. Domain D looks like photographs: two other fonts among
clutter, with shadow, uneven light and perspective. Domain W is D seen by a poor camera.

glyph31-hard is the same with wider gaps (`_HARD`), for studies of what fails where adapting is
hard: each domain's letters are worn in a way that no other domain's are.

The gaps between the domains were designed here, so results on it prove nothing about a method:
it is there so that everything runs at once, everywhere, without a download.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from gsda.data.domain import Int64, UInt8
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, GLYPH31_CLASSES

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SIZE = 32
"""Side of an image in pixels."""

VERSION = 1
"""Part of the content's identity: raise it with any change that alters a pixel."""

_CANVAS = 2 * SIZE  # drawn at twice the size, then reduced: that smooths all edges alike
_CAPITAL = 38  # height of a capital on the canvas, before scaling
_OUTLINE = 2  # stroke width of hollow letters on the canvas
_CHUNK = 128  # images composed at once, which bounds the memory

# Each has all 31 characters, which not every font of matplotlib does: cmmi10 has no &.
_CATALOGUE_FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Oblique.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Italic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralBolIta.ttf",
    "cmr10.ttf",
    "cmss10.ttf",
    "cmtt10.ttf",
)
_PHOTO_FONTS = ("DejaVuSansMono-Bold.ttf", "DejaVuSerif-Bold.ttf")
_SLANTED_FONTS = ("DejaVuSansMono-BoldOblique.ttf", "DejaVuSerif-BoldItalic.ttf")


@dataclass(frozen=True)
class _Look:
    """What sets a domain's images apart; the strengths were tuned for the gaps' size.

    Attributes:
        fonts: file names of the fonts, equally likely.
        hollow: share of the letters of which only the outline is drawn.
        rotation: largest angle, in degrees.
        scale: range of the size, 1 for a capital of `_CAPITAL` pixels on the canvas.
        shift: largest offset from the centre, in pixels of the canvas.
        perspective: largest foreshortening, per pixel of the canvas.
        photo: whether there are background, clutter, shadow, lighting and inversion.
        webcam: whether the image is degraded at the end.
        inverted: share of the photographs with light and dark exchanged.
        clutter: strength of what lies behind the letters of photographs.
        sides, contrast, noise: of the poor camera: range of the pixels a side, range of the factor
            on the contrast, standard deviation of the noise.
    """

    fonts: tuple[str, ...]
    hollow: float
    rotation: float
    scale: tuple[float, float]
    shift: float
    perspective: float
    photo: bool
    webcam: bool
    inverted: float = 1 / 7
    clutter: float = 0.6
    sides: tuple[int, int] = (19, 31)
    contrast: tuple[float, float] = (0.5, 0.8)
    noise: float = 0.02


_PLAIN = {
    "A": _Look(_CATALOGUE_FONTS, 0.2, 8.0, (0.85, 1.2), 5.0, 0.0, photo=False, webcam=False),
    "D": _Look(_PHOTO_FONTS, 0.0, 12.0, (0.84, 1.16), 5.0, 0.005, photo=True, webcam=False),
    "W": _Look(_PHOTO_FONTS, 0.0, 12.0, (0.9, 1.2), 5.0, 0.005, photo=True, webcam=True),
}
# What differs from `_PLAIN`: A's letters are mostly outlines, turned further, of very different
# sizes and places; D's are turned further, half of them light on dark, among stronger clutter; W's
# are slanted, of fonts that D has not, with two thirds of the pixels, less contrast and more noise.
# Source-only stays under 50% on each of the six tasks.
_HARD = {
    "A": replace(_PLAIN["A"], hollow=0.6, rotation=25.0, scale=(0.5, 1.2), shift=8.0),
    "D": replace(_PLAIN["D"], rotation=20.0, inverted=0.5, clutter=1.0),
    "W": replace(
        _PLAIN["W"],
        fonts=_SLANTED_FONTS,
        inverted=0.0,
        sides=(11, 18),
        contrast=(0.35, 0.7),
        noise=0.05,
    ),
}
_LOOKS = {"glyph31": _PLAIN, "glyph31-hard": _HARD}


def render(domain: str, seed: int = 0, benchmark: str = "glyph31") -> tuple[UInt8, Int64]:
    """Draw one domain of glyph31, or of glyph31-hard.

    The result depends on the domain, the seed and `VERSION` alone: no other domain need be drawn
    first, and no global random state is read or changed. The bytes are the same in every run with
    the same libraries; other releases of Pillow, numpy or the fonts may shade an edge otherwise.

    Args:
        domain: "A" (2817 images), "W" (795) or "D" (498).
        seed: which of the possible data sets; zero or above.
        benchmark: "glyph31" or "glyph31-hard".

    Returns:
        The images (N, SIZE, SIZE, 3), and their labels (N,), which index `GLYPH31_CLASSES`. Every
        class is present, and no two classes differ by more than one image in number.

    Raises:
        BadInput: the benchmark has no such domain, or the seed is negative.
    """
    look = _look(domain, benchmark)
    if seed < 0:
        raise BadInput(f"The seed of {benchmark} is {seed}: it must be zero or above.")
    count = BENCHMARKS[benchmark].counts[domain]
    # The domain is part of the key, so that no domain's stream depends on another's.
    key = np.random.SeedSequence(seed, spawn_key=(VERSION, ord(domain)))
    rng = np.random.default_rng(key)
    labels = rng.permutation(np.arange(count, dtype=np.int64) % len(GLYPH31_CLASSES))
    chunks = [_draw(look, labels[start : start + _CHUNK], rng) for start in range(0, count, _CHUNK)]
    return np.concatenate(chunks), labels


def font_paths(domain: str, benchmark: str = "glyph31") -> tuple[Path, ...]:
    """Files of the fonts that a domain is drawn with, all of which come with matplotlib.

    Raises:
        BadInput: the benchmark has no such domain.
    """
    return _font_files(_look(domain, benchmark))


def _look(domain: str, benchmark: str) -> _Look:
    looks = _LOOKS[benchmark]
    if domain not in looks:
        raise BadInput(f"{benchmark} has no domain {domain!r}: choose one of {', '.join(looks)}.")
    return looks[domain]


def _font_files(look: _Look) -> tuple[Path, ...]:
    # Imported late, because it takes a third of a second and only drawing needs it. The folder
    # is asked for, not a font by name, which would have matplotlib scan the system's fonts.
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return tuple(folder / name for name in look.fonts)


def _draw(look: _Look, labels: Int64, rng: Generator) -> UInt8:
    """One image for each label (B,), as (B, SIZE, SIZE, 3)."""
    masks = _placed_masks(look, labels, rng)
    images = _halved(_photo(look, masks, rng) if look.photo else _catalogue(masks, rng))
    return _bytes(_webcam(look, images, rng) if look.webcam else images)


# The letter's shape and place


def _placed_masks(look: _Look, labels: Int64, rng: Generator) -> list[Image.Image]:
    """The letters in white on black, moved, turned, scaled and tilted at random."""
    n = len(labels)
    files = _font_files(look)
    fonts = rng.integers(len(files), size=n)
    hollow = rng.random(n) < look.hollow
    maps = _homographies(look, n, rng)
    return [
        _letter(files[font], GLYPH31_CLASSES[label], bool(outline)).transform(
            (_CANVAS, _CANVAS), Image.Transform.PERSPECTIVE, row, Image.Resampling.BILINEAR
        )
        for font, label, outline, row in zip(fonts, labels, hollow, maps.tolist(), strict=True)
    ]


@lru_cache(maxsize=2048)
def _letter(file: Path, letter: str, hollow: bool) -> Image.Image:
    """One letter, centred on the canvas, white on black."""
    font = _font(file)
    left, top, right, bottom = font.getbbox(letter)
    corner = ((_CANVAS - left - right) / 2, (_CANVAS - top - bottom) / 2)
    image = Image.new("L", (_CANVAS, _CANVAS))
    draw = ImageDraw.Draw(image)
    if hollow:
        draw.text(corner, letter, fill=255, font=font, stroke_width=_OUTLINE)
    draw.text(corner, letter, fill=0 if hollow else 255, font=font)
    return image


@lru_cache(maxsize=32)
def _font(file: Path) -> ImageFont.FreeTypeFont:
    """The font, at the size at which its capitals are `_CAPITAL` pixels high."""
    # The basic layout engine is in every build of Pillow; the other one may differ in its pixels.
    basic = ImageFont.Layout.BASIC
    _, top, _, bottom = ImageFont.truetype(str(file), 100, layout_engine=basic).getbbox("H")
    size = 100 * _CAPITAL / (bottom - top)
    return ImageFont.truetype(str(file), size, layout_engine=basic)


def _homographies(look: _Look, n: int, rng: Generator) -> Float64:
    """The maps (n, 8) from a place on the canvas to a place in the letter, as Pillow takes them."""
    angle = np.deg2rad(rng.uniform(-look.rotation, look.rotation, n))
    scale = rng.uniform(*look.scale, n)
    shift = rng.uniform(-look.shift, look.shift, (n, 2))
    tilt = rng.uniform(-look.perspective, look.perspective, (n, 2))

    turn = np.tile(np.eye(3), (n, 1, 1))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(angle) / scale
    turn[:, 0, 1] = np.sin(angle) / scale
    turn[:, 1, 0] = -turn[:, 0, 1]
    turn[:, 2, :2] = tilt
    away, back = np.tile(np.eye(3), (2, n, 1, 1))
    away[:, :2, 2] = -_CANVAS / 2 - shift
    back[:, :2, 2] = _CANVAS / 2
    full: Float64 = (back @ turn @ away).reshape(n, 9)
    maps: Float64 = full[:, :8] / full[:, 8:]
    return maps


# The looks


def _catalogue(masks: list[Image.Image], rng: Generator) -> Float32:
    """Dark ink, plain or coloured, on near-white paper."""
    n = len(masks)
    paper = _uniform(rng, 0.92, 1.0, (n, 1, 1, 3))
    ink = _uniform(rng, 0.0, 0.3, (n, 1, 1, 1)) + _uniform(rng, 0.0, 0.2, (n, 1, 1, 3))
    return _blend(paper, ink, _stack(masks))


def _photo(look: _Look, masks: list[Image.Image], rng: Generator) -> Float32:
    """The letters among clutter on a coloured ground, in uneven light, some of them inverted."""
    n = len(masks)
    ground = _uniform(rng, 0.6, 0.85, (n, 1, 1, 3)) + 0.17 * _smooth_noise(n, rng)
    colour = _uniform(rng, 0.2, 1.0, (n, 1, 1, 3))
    scene = _blend(ground, colour, look.clutter * _clutter(n, rng))
    scene *= 1 - 0.4 * _shadows(masks, rng)
    ink = _uniform(rng, 0.0, 0.28, (n, 1, 1, 3))
    scene = _blend(scene, ink, _stack(masks)) * _light(n, rng)
    inverted = rng.random(n) < look.inverted
    scene[inverted] = 1 - scene[inverted]
    return scene


def _webcam(look: _Look, images: Float32, rng: Generator) -> Float32:
    """The same as a poor camera gives it: fewer pixels, less contrast, a colour cast, noise."""
    n = len(images)
    sides = rng.integers(*look.sides, size=n).tolist()
    coarse = np.stack([_coarser(*pair) for pair in zip(_bytes(images), sides, strict=True)])
    contrast = _uniform(rng, *look.contrast, (n, 1, 1, 1))
    cast = _uniform(rng, -0.06, 0.06, (n, 1, 1, 3))
    noise = rng.standard_normal(images.shape, dtype=np.float32)
    return 0.5 + contrast * (coarse - 0.5) + cast + look.noise * noise


def _coarser(image: UInt8, side: int) -> Float32:
    """The image at `side` pixels, brought back to its size."""
    cubic = Image.Resampling.BICUBIC
    full = Image.fromarray(image).resize((side, side), cubic).resize((SIZE, SIZE), cubic)
    return _numbers(full)


# What the looks are made of


def _smooth_noise(n: int, rng: Generator, knots: int = 5) -> Float32:
    """Coloured noise in -1..1, interpolated between `knots` by `knots` random points."""
    points = _uniform(rng, -1.0, 1.0, (n, knots, knots, 3))
    at = np.linspace(0, knots - 1, _CANVAS, dtype=np.float32)
    before = at.astype(np.int64).clip(0, knots - 2)
    part = at - before.astype(np.float32)
    # Not a matrix product: its last bits, and so the pixels, would depend on the BLAS.
    rows = _blend(points[:, before], points[:, before + 1], part[:, None, None])
    return _blend(rows[:, :, before], rows[:, :, before + 1], part[:, None])


def _clutter(n: int, rng: Generator) -> Float32:
    """Masks (n, canvas, canvas, 1) of a few lines, boxes and rings each."""
    return _stack([_clutter_mask(rng) for _ in range(n)])


def _clutter_mask(rng: Generator) -> Image.Image:
    """Two to five shapes, drawn in white on black, which may run out of the canvas."""
    image = Image.new("L", (_CANVAS, _CANVAS))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 6)):
        kind, width, *place = rng.integers((0, 1, -8, -8, 8, 8), (3, 4, 64, 64, 40, 40)).tolist()
        x, y, wide, high = place
        if kind == 0:
            draw.line((x, y, x + wide, y + high), fill=255, width=width)
        elif kind == 1:
            draw.rectangle((x, y, x + wide, y + high), outline=255, width=width)
        else:
            draw.ellipse((x, y, x + wide, y + wide), outline=255, width=width)
    return image


def _shadows(masks: list[Image.Image], rng: Generator) -> Float32:
    """Masks of the shadows that the letters cast: moved aside and blurred."""
    offsets = rng.integers(2, 7, size=(len(masks), 2)) * rng.choice((-1, 1), (len(masks), 2))
    blur = ImageFilter.BoxBlur(2)
    shadows = []
    for mask, offset in zip(masks, offsets.tolist(), strict=True):
        shadow = Image.new("L", mask.size)
        shadow.paste(mask, tuple(offset))
        shadows.append(shadow.filter(blur))
    return _stack(shadows)


def _light(n: int, rng: Generator) -> Float32:
    """Brightness (n, canvas, canvas, 1) that falls off along a random direction."""
    slope = _uniform(rng, -0.25, 0.25, (n, 2, 1, 1))
    at = np.linspace(-1, 1, _CANVAS, dtype=np.float32)
    return (1 + slope[:, 0] * at[:, None] + slope[:, 1] * at)[..., None]


def _stack(masks: list[Image.Image]) -> Float32:
    """Masks as numbers in 0..1, (B, canvas, canvas, 1)."""
    return np.stack([_numbers(mask) for mask in masks])[..., None]


def _blend(ground: Float32, ink: Float32, mask: Float32) -> Float32:
    """`ink` where the mask is 1, `ground` where it is 0, a mixture in between."""
    return ground + mask * (ink - ground)


def _halved(canvas: Float32) -> Float32:
    """Means over squares of two by two pixels."""
    rows = canvas[:, ::2] + canvas[:, 1::2]
    return np.float32(0.25) * (rows[:, :, ::2] + rows[:, :, 1::2])


def _numbers(image: Image.Image) -> Float32:
    """An image's bytes as numbers in 0..1; the inverse of `_bytes`."""
    return np.asarray(image, dtype=np.float32) * (1 / 255)


def _bytes(images: Float32) -> UInt8:
    """Numbers in 0..1 as whole ones in 0..255; what lies outside is cut off."""
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def _uniform(rng: Generator, low: float, high: float, shape: tuple[int, ...]) -> Float32:
    """Uniform numbers in single precision, which halves the time and memory of composing."""
    return rng.random(shape, dtype=np.float32) * np.float32(high - low) + np.float32(low)
