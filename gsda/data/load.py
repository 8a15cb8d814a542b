"""From a task and the user's folders to decoded domains; each is decoded once and then mapped."""

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gsda.data.decoding import decode, read_ahead
from gsda.data.digits import find_raw, read_raw
from gsda.data.domain import Domain, Pair, UInt8, restrict
from gsda.data.folders import images_below, is_folder, scan, task_listings
from gsda.data.listing import Listing
from gsda.data.store import FORMAT, Row, cached, write_store
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, Benchmark, Task

Progress = Callable[[int, int], None]


def default_cache() -> Path:
    """Where decoded images are kept: ``$GSDA_CACHE``, or ``~/.cache/gsda``."""
    return Path(os.environ.get("GSDA_CACHE") or Path.home() / ".cache" / "gsda")


@dataclass(frozen=True)
class DataSpec:
    """Which images to use, and how.

    Attributes:
        root: the folder that holds the domains; None for a built-in dataset.
        cache: the folder for decoded images, made if need be.
        size: S, the side in pixels to which images are resized.
        skip_bad: leave out files that cannot be read, rather than stop at the first.
        source_folder, target_folder: in data of one's own, names of the domains' folders where
            they are not the names in the task (`gsda.tasks.own_task` makes slugs of them).
    """

    root: Path | None
    cache: Path
    size: int
    skip_bad: bool = False
    source_folder: str = ""
    target_folder: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to JSON."""
        root = None if self.root is None else str(self.root)
        return asdict(self) | {"root": root, "cache": str(self.cache)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DataSpec":
        """Undo `to_dict`."""
        root = None if values["root"] is None else Path(values["root"])
        return cls(**(dict(values) | {"root": root, "cache": Path(values["cache"])}))


def load_pair(task: Task, spec: DataSpec, progress: Progress | None = None) -> Pair:
    """All that a method may see of `task`: the labelled source and the target's images.

    Raises:
        BadInput: as `load_domains`.
    """
    source, target = load_domains(task, spec, progress)
    return Pair(source, target.images)


def load_domains(
    task: Task, spec: DataSpec, progress: Progress | None = None
) -> tuple[Domain, Domain]:
    """Source and target of `task`, decoded; the target has its labels where they are known.

    Args:
        progress: called with (images done, images in all) while a domain is prepared.

    Raises:
        BadInput: the folders, files or settings are wrong, or the disk is full.
    """
    benchmark = BENCHMARKS.get(task.dataset)
    if spec.size < 1:
        raise BadInput(f"The image size is {spec.size}: it must be 1 or more pixels.")
    if benchmark is not None and benchmark.built_in:
        _check_built_in(task, spec)
    elif spec.root is None:
        raise BadInput(
            f"{task.dataset} is not built in: name the folder that holds its domains with --data."
        )
    source, target = _load(task, benchmark, spec, progress)
    if benchmark is not None and benchmark.target_classes:
        target = restrict(target, benchmark.target_classes)
    return source, target


def _load(
    task: Task, benchmark: Benchmark | None, spec: DataSpec, progress: Progress | None
) -> tuple[Domain, Domain]:
    """Source and target with all of their classes."""
    if benchmark is not None and (benchmark.built_in or benchmark.raw):
        one = _built_in if benchmark.built_in else _digits
        source, target = (one(benchmark, d, spec, progress) for d in (task.source, task.target))
        return source, target
    assert spec.root is not None
    listings = task_listings(task, spec.root, spec.source_folder, spec.target_folder)
    source, target = (
        prepare(listing, spec.size, spec.cache, spec.skip_bad, progress) for listing in listings
    )
    _check_classes_left(source, listings[0], range(len(source.classes)))
    if benchmark is not None:
        left = benchmark.target_classes or range(len(target.classes))
        _check_classes_left(target, listings[1], left)
    return source, target


def identity(source: Domain, target: Domain) -> str:
    """Hex identity of the images of a task: equal images under equal names, equal identity."""
    text = f"{source.images.digest} {target.images.digest}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prepare(
    listing: Listing,
    size: int,
    cache: Path,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Domain:
    """The decoded images of `listing`, (N, S, S, 3): from `cache` if they are there and current.

    Args:
        skip_bad: leave out files that cannot be read, rather than stop at the first.
        progress: called with (files done, files in all) while decoding.

    Raises:
        BadInput: a file that cannot be read, no file that can, or no space.
    """
    root = os.fsencode((listing.source or listing.root).resolve()).hex()
    key = json.dumps([root, size, listing.classes]).encode()
    path = cache / f"{hashlib.sha256(key).hexdigest()[:16]}-{size}.arrow"
    mark = fingerprint(listing, size)

    def build() -> None:
        skipped: list[str] = []
        decoded = _decoded(listing, size, skipped if skip_bad else None, progress)
        with closing(decoded) as rows:
            write_store(
                path,
                listing.domain,
                listing.classes,
                size,
                rows,
                fingerprint=mark,
                expected=len(listing),
                skipped=skipped,
            )

    return cached(path, listing.domain, mark, build, skip_bad)


def fingerprint(listing: Listing, size: int) -> str:
    """Hex identity of the files (path, label, bytes, time of change), of S and the classes."""
    digest = hashlib.sha256(json.dumps([FORMAT, size, listing.classes]).encode())
    for name, label in listing.files:
        seen = (name, label, *_change(listing.root / name))
        digest.update(json.dumps(seen).encode())
    return digest.hexdigest()


def _change(path: Path) -> tuple[int, int]:
    """What shows that a file was changed: its bytes, and the time of it."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def iterate_files(paths: Sequence[Path]) -> list[Path]:
    """The image files that `paths` name, sorted, each once.

    A folder stands for the image files in it and below it; a file stands for itself, whatever its
    extension.

    Raises:
        BadInput: a path that is not there, cannot be read, or is a folder without images.
    """
    files: set[Path] = set()
    for path in paths:
        folder = is_folder(path)
        if folder is None:
            raise BadInput(f"{path} does not exist: name an image file or a folder of them.")
        found = [path / name for name in images_below(path)] if folder else [path]
        if not found:
            raise BadInput(f"{path} holds no images: name an image file or a folder of them.")
        files.update(found)
    return sorted(files)


def _decoded(
    listing: Listing, size: int, skipped: list[str] | None, progress: Progress | None
) -> Generator[Row, None, None]:
    """Rows in the listing's order.

    Files that cannot be read are appended to `skipped`, unless that is None.
    """
    total = len(listing)
    files = (listing.root / name for name, _ in listing.files)
    with closing(read_ahead(partial(_decode_and_hash, size=size), files)) as found:
        pairs = zip(listing.files, found, strict=True)
        for done, ((name, label), content) in enumerate(pairs, start=1):
            if not isinstance(content, BadInput):
                yield Row(name, label, *content)
            elif skipped is None:
                raise content
            else:
                skipped.append(name)
            if progress is not None:
                progress(done, total)
    if skipped and len(skipped) == total:
        raise BadInput(
            f"None of the {total} images in {listing.root} can be read: "
            "point --data at an intact copy."
        )


def _decode_and_hash(path: Path, size: int) -> tuple[UInt8, str]:
    """The image, and the SHA-256 of its file."""
    image = decode(path, size)
    with path.open("rb") as file:
        return image, hashlib.file_digest(file, "sha256").hexdigest()


def _check_classes_left(domain: Domain, listing: Listing, labels: Iterable[int]) -> None:
    """Every class of `labels` still has an image after bad files were skipped."""
    left = set(domain.labels.tolist())
    for label in labels:
        if label not in left:
            name = domain.classes[label]
            raise BadInput(
                f"None of the images of class {name!r} in {listing.root / name} can be read: "
                "replace them with intact ones."
            )


def _check_built_in(task: Task, spec: DataSpec) -> None:
    from gsda.data.glyphs import SIZE

    if spec.root is not None:
        raise BadInput(f"{task.dataset} is built in: leave out --data {spec.root}.")
    if spec.size != SIZE:
        raise BadInput(f"{task.dataset} has images of size {SIZE}, not {spec.size}: use {SIZE}.")


def _built_in(
    benchmark: Benchmark, domain: str, spec: DataSpec, progress: Progress | None, seed: int = 0
) -> Domain:
    """One domain of a built-in dataset, drawn on first use; paths do not give labels away."""
    from gsda.data.glyphs import SIZE, VERSION, render

    images_of = benchmark.images_of or benchmark.name
    name = f"{images_of}-v{VERSION}-seed{seed}-{domain}"
    path = spec.cache / f"{name}.arrow"

    def rows() -> Iterator[Row]:
        images, labels = render(domain, seed, images_of)
        for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            yield Row(f"{name}-{index:05d}.png", label, image)
            if progress is not None:
                progress(index + 1, len(labels))

    def build() -> None:
        total, classes = benchmark.counts[domain], benchmark.classes or ()
        write_store(path, domain, classes, SIZE, rows(), fingerprint=name, expected=total)

    return cached(path, domain, name, build)


def _digits(benchmark: Benchmark, domain: str, spec: DataSpec, progress: Progress | None) -> Domain:
    """One domain of `benchmark`, raw as torchvision leaves it, or in class folders."""
    assert spec.root is not None
    kind, root, classes = benchmark.raw[domain], spec.root, benchmark.classes or ()
    raw = find_raw(root, kind)
    if raw is None:
        listing = scan(root, domain, benchmark.domains[domain], classes)
        found = prepare(listing, spec.size, spec.cache, spec.skip_bad, progress)
        _check_classes_left(found, listing, range(len(classes)))
        return found
    key = json.dumps([FORMAT, kind, spec.size, os.fsencode(raw.resolve()).hex(), *_change(raw)])
    mark = hashlib.sha256(key.encode()).hexdigest()
    path = spec.cache / f"{mark[:16]}-{spec.size}.arrow"

    def build() -> None:
        total, rows = read_raw(root, kind, spec.size)
        told = _telling(rows, total, progress)
        write_store(path, domain, classes, spec.size, told, fingerprint=mark, expected=total)

    return cached(path, domain, mark, build)


def _telling(rows: Iterator[Row], total: int, progress: Progress | None) -> Iterator[Row]:
    for done, row in enumerate(rows, start=1):
        yield row
        if progress is not None:
            progress(done, total)
