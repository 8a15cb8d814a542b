"""Image lists: text files of ``path label`` lines, as CDAN and TLL distribute them.

The paths are relative to the folder given as --data, or to one above it: CDAN's begin with
``../data/office/``, and as many leading parts are dropped as it takes to find the first file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from gsda.data.listing import Listing, some
from gsda.errors import BadInput
from gsda.files import is_file

PLACES = ("image_list/{}.txt", "image_list/{}_list.txt", "{}.txt", "{}_list.txt")

Lines = Sequence[tuple[str, int]]


def find_list(data: Path, names: Sequence[str]) -> Path | None:
    """The list of a domain that goes by one of `names`, None where it has none."""
    for name in names:
        for place in PLACES:
            path = data / place.format(name.rstrip("/"))
            if is_file(path):
                return path
    return None


def read_list(
    path: Path,
    data: Path,
    domain: str,
    classes: tuple[str, ...] | None,
    *,
    missing_ok: bool = False,
    unlabelled_ok: bool = False,
) -> Listing:
    """The images that the list `path` names; other arguments as for `gsda.data.folders.scan`.

    A class is called after the folder of its images where label and folder go together, since the
    numbers of public lists follow no common order. Else the label is the index of the class.

    Raises:
        BadInput: it cannot be read, names no image or none that is there, or other classes.
    """
    lines = _relative(_lines(path), path, data)
    labels = {label for _, label in lines}
    if -1 in labels:
        return _unlabelled(path, data, domain, lines, unlabelled_ok)
    names = _class_names(path, lines, classes)
    if classes is None:
        classes = tuple(sorted(names.values()))
    missing = [name for name in classes if name not in names.values()]
    if missing and not missing_ok:
        raise BadInput(f"{path} lacks the class {missing[0]!r}: add the lines of its images.")
    index = {name: i for i, name in enumerate(classes)}
    files = sorted((file, index[names[label]]) for file, label in lines)
    return Listing(domain, data, classes, tuple(files), path)


def _lines(path: Path) -> Lines:
    """Paths and labels; -1 where a line is a path alone."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} cannot be read ({error}): make it a text file of 'path label' lines."
        ) from error
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        *name, last = line.rsplit(None, 1)
        labelled = bool(name) and last.isascii() and last.isdigit()
        found.append((name[0], int(last)) if labelled else (line, -1))
    if not found:
        raise BadInput(f"{path} names no images: write 'path label' lines into it, or remove it.")
    return found


def _relative(lines: Lines, path: Path, data: Path) -> Lines:
    """The same with paths below `data`; each file once."""
    first = PurePosixPath(lines[0][0]).parts
    for dropped in range(len(first)):
        if _is_below(first[dropped:]) and (data / PurePosixPath(*first[dropped:])).exists():
            kept = {(PurePosixPath(name).parts[dropped:], label) for name, label in lines}
            for parts, _ in kept:
                if not _is_below(parts):
                    raise BadInput(
                        f"{path} names {PurePosixPath(*parts)}, which leads out of {data}: "
                        "write all its paths below one folder."
                    )
            return sorted((str(PurePosixPath(*parts)), label) for parts, label in kept)
    raise BadInput(
        f"{path} names {lines[0][0]}, which is not below {data}: "
        "point --data at the folder that the paths in it are relative to."
    )


def _is_below(parts: Sequence[str]) -> bool:
    """Whether a path names something below the folder that it is relative to."""
    return bool(parts) and parts[0] != "/" and ".." not in parts


def _unlabelled(path: Path, data: Path, domain: str, lines: Lines, allowed: bool) -> Listing:
    bare = next(name for name, label in lines if label == -1)
    if not allowed or any(label != -1 for _, label in lines):
        raise BadInput(f"{path} gives {bare} no label: write 'path label' in each line.")
    return Listing(domain, data, (), tuple(lines), path)


def _class_names(path: Path, lines: Lines, classes: tuple[str, ...] | None) -> Mapping[int, str]:
    """The class that each label means."""
    folders: dict[int, set[str]] = {}
    for name, label in lines:
        folders.setdefault(label, set()).add(PurePosixPath(name).parent.name)
    names = {label: min(found) for label, found in folders.items()}
    apart = len(set(names.values())) == len(names) and all(len(f) == 1 for f in folders.values())
    if not apart or (classes is not None and not set(names.values()) & set(classes)):
        known = classes or tuple(str(label) for label in range(max(folders) + 1))
        names = {label: known[label] if label < len(known) else str(label) for label in folders}
    for name in names.values():
        if classes is not None and name not in classes:
            raise BadInput(
                f"{path} has a class {name!r}, which is not one of the {len(classes)} classes "
                f"({some(classes)}): correct its lines, or remove them."
            )
    return names
