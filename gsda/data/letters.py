"""The drawn letters as files, for whoever wants to see them, or to try what takes images."""

import shutil
from pathlib import Path

from PIL import Image

from gsda.data.glyphs import render
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, GLYPH31_CLASSES


def drawn() -> list[str]:
    """The built-in benchmarks that have images of their own."""
    return [b.name for b in BENCHMARKS.values() if b.built_in and not b.images_of]


def write_letters(folder: Path, benchmark: str, domain: str) -> int:
    """Write a domain to ``folder/<domain>/<class>/0000.png``; the number of its images.

    The folder of the domain is there when all went well, and not before.

    Raises:
        BadInput: no such benchmark or domain, the domain's folder is there already, or it cannot
            be written.
    """
    if benchmark not in drawn():
        raise BadInput(f"{benchmark!r} is not drawn: choose one of {', '.join(drawn())}.")
    place = folder / domain
    if place.exists():
        raise BadInput(f"{place} is there already: name another folder, or remove it.")
    images, labels = render(domain, benchmark=benchmark)
    part = folder / f".{domain}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        for name in GLYPH31_CLASSES:
            (part / name).mkdir(parents=True)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image).save(part / GLYPH31_CLASSES[label] / f"{number:04d}.png")
        part.rename(place)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise BadInput(
            f"{place} cannot be written ({error.strerror or error}): name a folder that can."
        ) from error
    return len(images)
