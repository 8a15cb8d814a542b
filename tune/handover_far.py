"""`tune.handover` where the storage is a URI: the same places; the store itself makes the copies.

Here, too, only the driver moves anything. A start's place holds a mark, and a worker that finds its
own gone stops.
"""

from collections.abc import Collection, Iterable
from contextlib import suppress

from gsda.bundle import MANIFEST
from gsda.checkpoint import step_of
from tune.handover import PLACES, MovedOn, wanted
from tune.objectstore import Store
from tune.shelf import MODEL_FOLDER

MARK = "begun"


def place_of(trial: str, attempt: int) -> str:
    """The name of the place of a trial's start; for attempt 0, of which there is one, its own."""
    return f"{trial}/{PLACES}/{attempt}" if attempt else trial


def take_over(store: Store, trial: str, attempt: int) -> None:
    """Make the place of a start, with the checkpoints that the starts before it left.

    Repeated after a crash in the middle, it comes to the same.

    Args:
        trial: name of its folder.

    Raises:
        StoreError: the store cannot be read or written.
    """
    own = place_of(trial, attempt)
    store.write(f"{own}/{MARK}", b"\n")
    there = _checkpoints(store.files(own))
    for earlier in _before(store, trial, attempt):
        names = store.files(earlier)
        if earlier == trial:
            names = {name: names[name] for name in names if not name.startswith(f"{PLACES}/")}
        found = _checkpoints(names)
        for below, steps in found.items():
            known = there.setdefault(below, {})
            for name in wanted(steps, set(known.values())):
                with suppress(FileNotFoundError):  # it was old, and its writer still lives
                    store.copy(f"{earlier}/{name}", f"{own}/{name}")
                    known[name] = steps[name]
        if earlier == trial:
            store.delete([f"{trial}/{name}" for steps in found.values() for name in steps])
        else:
            store.delete_folder(earlier)


def _before(store: Store, trial: str, attempt: int) -> list[str]:
    """The places of earlier starts, the latest first; last the trial's own, as once was."""
    named = {name.partition("/")[0] for name in store.files(f"{trial}/{PLACES}")}
    numbers = sorted((int(name) for name in named if name.isdecimal()), reverse=True)
    return [*(place_of(trial, n) for n in numbers if n < attempt), trial]


def _checkpoints(names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Checkpoints and their steps, for each folder in which there are any."""
    found: dict[str, dict[str, int]] = {}
    for name in names:
        step = step_of(name)
        if step is not None:
            found.setdefault(name.rpartition("/")[0], {})[name] = step
    return found


def check_place(store: Store, place: str) -> None:
    """Refuse to write for a start that is over.

    Raises:
        MovedOn: the place has no mark any more. StoreError: the store cannot be read.
    """
    if not store.find([f"{place}/{MARK}"]):
        raise MovedOn


def keep_model(store: Store, trial: str, attempt: int) -> None:
    """Copy the model of a start, or that of each of its tasks, to where the trial's is looked for.

    Raises:
        StoreError: the store cannot be read or written.
    """
    place = place_of(trial, attempt)
    if place == trial:
        return
    names = [n for n in store.files(place) if MODEL_FOLDER in n.split("/")[:-1]]
    for name in sorted(names, key=lambda name: name.endswith(MANIFEST)):  # it says: it is whole
        store.copy(f"{place}/{name}", f"{trial}/{name}")


def clear_places(store: Store, trials: Collection[str]) -> None:
    """Remove all that trials which have ended do not need: their models stay.

    Args:
        trials: names of their folders, which stand side by side.

    Raises:
        StoreError: the store cannot be read or written.
    """
    if not trials:
        return
    beside = min(trials).rpartition("/")[0]
    below = min(trials) if len(trials) == 1 else beside
    spare, places = [], set()
    for name in (f"{below}/{name}" for name in store.files(below)):
        number, _, rest = name.removeprefix(f"{beside}/").partition("/")
        if (trial := f"{beside}/{number}") not in trials:
            continue
        if rest.startswith(f"{PLACES}/"):
            places.add(f"{trial}/{PLACES}")
        elif step_of(rest) is not None:
            spare.append(name)
    store.delete(spare)
    for place in sorted(places):
        store.delete_folder(place)
