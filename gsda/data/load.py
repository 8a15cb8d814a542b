"""From a task and the user's folders to decoded domains; each is decoded once and then mapped."""

import fcntl
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gsda.data.domain import Domain, Pair, UInt8
from gsda.data.folders import Listing, images_below, is_folder, task_listings
from gsda.data.store import FORMAT, Row, StoreFile, decode, not_written, open_domain, write_store
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
    """

    root: Path | None
    cache: Path
    size: int
    skip_bad: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to JSON."""
        root = None if self.root is None else str(self.root)
        return asdict(self) | {"root": root, "cache": str(self.cache)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DataSpec":
        """Undo `to_dict`."""
        root = None if values["root"] is None else Path(values["root"])
        return cls(root, Path(values["cache"]), values["size"], values["skip_bad"])


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
        source, target = (
            _built_in(benchmark, domain, spec, progress) for domain in (task.source, task.target)
        )
        return source, target
    if spec.root is None:
        raise BadInput(
            f"{task.dataset} is not built in: name the folder that holds its domains with --data."
        )
    listings = task_listings(task, spec.root)
    source, target = (
        prepare(listing, spec.size, spec.cache, spec.skip_bad, progress) for listing in listings
    )
    _check_classes_left(source, listings[0])
    if benchmark is not None:
        _check_classes_left(target, listings[1])
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
    root = os.fsencode(listing.root.resolve()).hex()
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

    return _cached(path, listing.domain, mark, build, skip_bad)


def fingerprint(listing: Listing, size: int) -> str:
    """Hex identity of the files (path, bytes, time of change), S and the classes, undecoded."""
    digest = hashlib.sha256(json.dumps([FORMAT, size, listing.classes]).encode())
    for name, _ in listing.files:
        try:
            status = (listing.root / name).stat()
            seen = (name, status.st_size, status.st_mtime_ns)
        except OSError:
            seen = (name, -1, -1)
        digest.update(json.dumps(seen).encode())
    return digest.hexdigest()


def _cached(
    path: Path, name: str, mark: str, build: Callable[[], None], skip_bad: bool = False
) -> Domain:
    """The domain in the store `path`; `build` writes it first if it is not sound and current.

    One process builds at a time, under a lock on ``path.lock``; the others wait and take what it
    built. A store that lacks skipped files serves only where skipping is allowed.

    Args:
        mark: the fingerprint that a current store has.

    Raises:
        BadInput: whatever `build` raises, or a cache that cannot be written.
    """
    domain = _current(path, name, mark, skip_bad)
    if domain is None:
        with _locked(path):
            domain = _current(path, name, mark, skip_bad)
            if domain is None:
                build()
                domain = open_domain(path, name)
    return domain


def _current(path: Path, name: str, mark: str, skip_bad: bool) -> Domain | None:
    try:
        file = StoreFile(path)
    except BadInput:
        return None
    if file.fingerprint != mark or (file.skipped and not skip_bad):
        return None
    return file.domain(name)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, and sweep what a killed holder left. The lock file stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("ab")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        not_written(error, path, 0)
    with lock:
        for left in path.parent.glob(f"{path.name}.tmp-*"):
            left.unlink(missing_ok=True)
        yield


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
    """Rows in the listing's order, decoded some ahead by a thread for each core.

    Files that cannot be read are appended to `skipped`, unless that is None.
    """
    threads, total = os.cpu_count() or 1, len(listing)
    waiting = iter(listing.files)
    ahead: deque[Future[UInt8]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for done, (name, label) in enumerate(listing.files, start=1):
            while len(ahead) < 4 * threads and (file := next(waiting, None)):
                ahead.append(pool.submit(decode, listing.root / file[0], size))
            try:
                image = ahead.popleft().result()
            except BadInput:
                if skipped is None:
                    raise
                skipped.append(name)
            else:
                yield name, label, image
            if progress is not None:
                progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)
    if skipped and len(skipped) == total:
        raise BadInput(
            f"None of the {total} images in {listing.root} can be read: "
            "point --data at an intact copy."
        )


def _check_classes_left(domain: Domain, listing: Listing) -> None:
    """Every class still has an image after bad files were skipped."""
    left = set(domain.labels.tolist())
    for label, name in enumerate(domain.classes):
        if label not in left:
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

    name = f"{benchmark.name}-v{VERSION}-seed{seed}-{domain}"
    path = spec.cache / f"{name}.arrow"

    def rows() -> Iterator[Row]:
        images, labels = render(domain, seed)
        for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            yield f"{name}-{index:05d}.png", label, image
            if progress is not None:
                progress(index + 1, len(labels))

    def build() -> None:
        total, classes = benchmark.counts[domain], benchmark.classes or ()
        write_store(path, domain, classes, SIZE, rows(), fingerprint=name, expected=total)

    return _cached(path, domain, name, build)
