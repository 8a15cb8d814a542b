"""Find the images of a task: ``DATA/<domain>/<class>/*`` or ``DATA/<domain>/images/<class>/*``.

Nothing is decoded here. Every mistake is a `BadInput` that names the folder and the cure.
"""

import os
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from gsda.data.listing import Listing, some
from gsda.data.lists import find_list, read_list
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, Benchmark, Task

SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"]
)


def task_listings(
    task: Task, data: Path, source_folder: str = "", target_folder: str = ""
) -> tuple[Listing, Listing]:
    """The source and the target of `task` below the folder `data`.

    A benchmark must have all of its classes in both domains; under a partial protocol the target
    may lack those that it is restricted from. For other datasets the source fixes the classes, and
    the target may lack some of them or have no class folders at all.

    Args:
        source_folder, target_folder: names of the domains' folders in data of one's own, where
            they are not the names in the task.

    Raises:
        BadInput: the folders are not of that form.
    """
    benchmark = BENCHMARKS.get(task.dataset)
    if benchmark is not None:
        return _benchmark_listings(task, data, benchmark)
    source = scan(data, task.source, (source_folder or task.source,), None)
    folder = target_folder or task.target
    target = scan(data, task.target, (folder,), source.classes, missing_ok=True, unlabelled_ok=True)
    return source, target


def _benchmark_listings(task: Task, data: Path, benchmark: Benchmark) -> tuple[Listing, Listing]:
    source = scan(data, task.source, benchmark.domains[task.source], benchmark.classes)
    if len(source.classes) != benchmark.n_classes:
        raise BadInput(
            f"{source.root} has {len(source.classes)} class folders with images "
            f"({some(source.classes)}) where {benchmark.name} has {benchmark.n_classes}: "
            "point --data at an intact copy of it."
        )
    partial = bool(benchmark.target_classes)
    names = benchmark.domains[task.target]
    target = scan(data, task.target, names, source.classes, missing_ok=partial)
    there = {label for _, label in target.files}
    for label in benchmark.target_classes:
        if label not in there:
            name = source.classes[label]
            raise BadInput(f"{target.root} lacks the class {name!r}: add a folder of its images.")
    return source, target


def scan(
    data: Path,
    domain: str,
    candidates: Sequence[str],
    classes: tuple[str, ...] | None,
    *,
    missing_ok: bool = False,
    unlabelled_ok: bool = False,
) -> Listing:
    """List the images of one domain: from its image list, where there is one, or its folder.

    Args:
        data: the folder that holds the domains.
        domain: the domain's short name, for the listing and for messages.
        candidates: names to look for in `data`; the first one there is taken.
        classes: the class folders that must be there, or None to take those that are.
        missing_ok: whether some of `classes` may have no images.
        unlabelled_ok: whether images without class folders are taken, as unlabelled.

    Raises:
        BadInput: a folder is missing, unreadable, empty, or has the wrong classes.
    """
    file = find_list(data, candidates)
    if file is not None:
        return read_list(
            file, data, domain, classes, missing_ok=missing_ok, unlabelled_ok=unlabelled_ok
        )
    folder = _domain_folder(data, domain, candidates)
    return scan_folder(folder, domain, classes, missing_ok=missing_ok, unlabelled_ok=unlabelled_ok)


def scan_folder(
    folder: Path,
    domain: str,
    classes: tuple[str, ...] | None,
    *,
    missing_ok: bool = False,
    unlabelled_ok: bool = False,
) -> Listing:
    """List the images of one domain from its own folder; arguments and errors as of `scan`.

    Raises:
        BadInput: the folder is unreadable, empty, or has the wrong classes.
    """
    root, loose, per_class = _contents(folder, classes)
    if not per_class and loose:
        return _flat(domain, root, loose, unlabelled_ok)
    if not per_class:
        raise BadInput(
            f"{root} holds no images: put them into one folder per class, "
            f"such as {root / 'CLASS' / 'image.jpg'}."
        )
    if loose:
        raise BadInput(
            f"{root / loose[0]} lies beside the class folders of domain {domain!r}: "
            "move it into one of them, or remove it."
        )
    if classes is None:
        classes = tuple(sorted(per_class))
    _check_classes(root, per_class, classes, missing_ok)
    index = {name: label for label, name in enumerate(classes)}
    files = sorted((file, index[name]) for name, found in per_class.items() for file in found)
    return Listing(domain, root, classes, tuple(files))


def images_below(root: Path, name: str = "") -> list[str]:
    """Image files in ``root/name`` and below it: sorted posix paths relative to `root`.

    Hidden files and folders are left out. Links are followed, but never back into a folder that
    was already seen or that contains `root`.

    Raises:
        BadInput: a folder that cannot be read, or a file name that is not Unicode.
    """
    top = root / name
    try:
        above = (root, *root.resolve().parents) if name else tuple(root.resolve().parents)
        seen = {_identity(folder) for folder in above}
        found: list[str] = []
        for here, folders, files in os.walk(top, followlinks=True, onerror=_unreadable):
            identity = _identity(Path(here))
            if identity in seen:
                folders.clear()
                continue
            seen.add(identity)
            folders[:] = sorted(_visible(folders))
            found += [_relative(root, Path(here, file)) for file in files if _is_image(file)]
    except OSError as error:
        _unreadable(error)
    return sorted(found)


def check_root(data: Path) -> None:
    """Refuse a place where no folder is.

    Raises:
        BadInput: it does not exist, or is no folder.
    """
    folder = is_folder(data)
    if not folder:
        what = "does not exist" if folder is None else "is not a folder"
        raise BadInput(f"{data} {what}: point --data at the folder that holds the domains.")


def _domain_folder(data: Path, domain: str, candidates: Sequence[str]) -> Path:
    """The first candidate that is a folder in `data`."""
    check_root(data)
    there, _ = _entries(data)
    # Some file systems decompose accents, which a keyboard does not.
    plain = {unicodedata.normalize("NFC", name): name for name in there}
    for candidate in candidates:
        name = unicodedata.normalize("NFC", candidate.rstrip("/"))
        if name in plain:
            return data / plain[name]
    raise BadInput(
        f"{data} has no folder for domain {domain!r} (looked for {some(candidates)}; "
        f"found {some(there) or 'no folders'}): point --data at the folder that holds it."
    )


def _contents(
    folder: Path, classes: tuple[str, ...] | None
) -> tuple[Path, list[str], dict[str, list[str]]]:
    """The root, the images directly in it, and those of each subfolder that has any.

    The root is ``folder/images`` where `folder` has images nowhere else.
    """
    loose, per_class = _split(folder)
    only_images = not loose and set(per_class) == {"images"}
    if only_images and "images" not in (classes or ()):
        folder = folder / "images"
        loose, per_class = _split(folder)
    return folder, loose, per_class


def _split(folder: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Images directly in `folder`, and the images of each subfolder that has any."""
    folders, files = _entries(folder)
    loose = [_relative(folder, folder / name) for name in files if _is_image(name)]
    below = {name: images_below(folder, name) for name in folders}
    return loose, {name: found for name, found in below.items() if found}


def _flat(domain: str, root: Path, files: list[str], unlabelled_ok: bool) -> Listing:
    if not unlabelled_ok:
        raise BadInput(
            f"{root} holds images but no class folders: "
            "move each image into a folder named after its class."
        )
    return Listing(domain, root, (), tuple((file, -1) for file in files))


def _check_classes(
    root: Path, per_class: dict[str, list[str]], classes: tuple[str, ...], missing_ok: bool
) -> None:
    extra = sorted(set(per_class) - set(classes))
    if extra:
        raise BadInput(
            f"{root / extra[0]} is not one of the {len(classes)} classes ({some(classes)}): "
            "rename it to its class, or remove it."
        )
    missing = [name for name in classes if name not in per_class]
    if not missing or missing_ok:
        return
    folder = root / missing[0]
    if folder.is_dir():
        raise BadInput(f"{folder} holds no images: add the images of class {missing[0]!r}.")
    raise BadInput(
        f"{root} lacks the class {missing[0]!r}: add a folder of that name with its images."
    )


def is_folder(path: Path) -> bool | None:
    """Whether `path` is a folder; None where there is nothing.

    Raises:
        BadInput: that cannot be seen, for want of permission.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        _unreadable(error)


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Names in `folder` that are not hidden, sorted: subfolders, and everything else."""
    try:
        with os.scandir(folder) as entries:
            kinds = {entry.name: _leads_to_folder(entry) for entry in entries}
    except OSError as error:
        _unreadable(error)
    names = sorted(_visible(kinds))
    return [name for name in names if kinds[name]], [name for name in names if not kinds[name]]


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, for one
        return False


def _visible(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith(".")]


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _relative(root: Path, file: Path) -> str:
    relative = file.relative_to(root).as_posix()
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise BadInput(f"The name of {str(file)!a} is not valid UTF-8: rename the file.") from None
    return relative


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _unreadable(error: OSError) -> NoReturn:
    raise BadInput(
        f"{error.filename} cannot be read ({error.strerror}): "
        "make it readable for this user, or remove it."
    ) from error
