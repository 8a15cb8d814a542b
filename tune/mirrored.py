"""A folder and its copy in a store: what changed is put there, what is missing is brought."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from gsda.files import write_atomically
from tune.objectstore import Store

# Names that may reach this machine's disk: whoever can write to a bucket can name things there.
_PART = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*")


class Mirrored:
    """Files of a folder, each by its name relative to it."""

    def __init__(self, store: Store, place: str, folder: Path) -> None:
        """`place`: name of the folder's copy in the store."""
        self._store, self._place, self._folder = store, place, folder
        self._known: dict[str, tuple[int, int]] = {}  # name -> size and time, as they were copied

    def pull(self, below: str = "", wanted: Callable[[str], bool] = lambda name: True) -> None:
        """Bring the files below a folder."""
        place = "/".join(part for part in (self._place, below) if part)
        for name in self._store.files(place):
            if all(_PART.fullmatch(part) for part in name.split("/")) and wanted(name):
                path = self._folder / below / name
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, self._store.read(f"{place}/{name}"))
                self._note(path)

    def push(self, paths: Iterable[Path]) -> None:
        """Put files there that are not as they were when they were last copied.

        In the order in which they were written, since one that was written last is often what says
        that the others are whole.
        """
        changed = [path for path in paths if self._known.get(self._name(path)) != _state(path)]
        for path in sorted(changed, key=lambda path: (path.stat().st_mtime_ns, path.name)):
            self._store.write(f"{self._place}/{self._name(path)}", path.read_bytes())
            self._note(path)

    def push_all(self) -> None:
        """Make the copy the same as the folder, if nobody else writes to it."""
        paths = [p for p in self._folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
        self.push(paths)
        for name in self._known.keys() - {self._name(path) for path in paths}:
            self._store.delete([f"{self._place}/{name}"])
            del self._known[name]

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _note(self, path: Path) -> None:
        self._known[self._name(path)] = _state(path)


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
