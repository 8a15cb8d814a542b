"""Images per second delivered to the training step, and the memory of concurrent readers.

    python -m experiments.bench_data DIR

DIR holds images in class folders. Both sides give batches of normalised float32 tensors, resized
to 256 x 256, cropped at random to 224, mirrored at random: ours from the decoded store, the other
from torchvision's ImageFolder through a DataLoader of 2 workers with the same transforms. They take
turns, so that whatever else the machine does meets both; the first turn of each is thrown away.
The loader decodes each image anew, so its rate hangs on their size: `--side 1000` measures on JPEG
copies of 1000 x 1000 pixels, as a camera leaves them.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gsda.backbones import BACKBONES
from gsda.data import sampling
from gsda.data.domain import Images
from gsda.data.folders import scan
from gsda.data.listing import Listing
from gsda.data.load import iterate_files, prepare
from gsda.data.store import Store
from gsda.data.transforms import IMAGENET_MEAN, IMAGENET_STD, normalise, random_crop_flip
from gsda.errors import BadInput
from gsda.stopping import stoppable

ENTRY = BACKBONES["resnet50"]
BATCH = 32


@stoppable
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = build_parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        with tempfile.TemporaryDirectory() as cache:
            folder = _resized(options.folder, options.side, Path(cache) / "images")
            began = time.perf_counter()
            listing = scan(folder.parent, "it", (folder.name,), None)
            path = _prepare(listing, Path(cache))
            seconds = time.perf_counter() - began
            # First, while this process has not mapped the store itself.
            shares = list(memory(path))
            for line in speed(options, Store.open(path), listing.root):
                print(line)
            print(f"preparing once: {len(listing)} images in {seconds:.1f} s")
            print("\n".join(shares))
    except BadInput as error:
        print(f"bench_data: {error}", file=sys.stderr)
        return 2
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(prog="bench_data", description=__doc__)
    parser.add_argument("folder", type=Path, help="images in class folders")
    parser.add_argument("--side", type=int, help="pixels of copies to measure on; default: as is")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in the training process")
    parser.add_argument("--workers", type=int, default=2, help="of the DataLoader")
    return parser


def _resized(folder: Path, side: int | None, copies: Path) -> Path:
    """JPEG copies of the images of `folder` in its class folders; itself without a side."""
    if side is None:
        return folder
    for path in iterate_files([folder]):
        copy = (copies / path.relative_to(folder)).with_suffix(".jpg")
        copy.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.convert("RGB").resize((side, side)).save(copy, quality=90)
    return copies


def _prepare(listing: Listing, cache: Path) -> Path:
    images = prepare(listing, ENTRY.size, cache).images
    assert isinstance(images, Store)
    return images.path


def speed(options: Any, images: Images, root: Path) -> Iterator[str]:
    """The ratio first, then each side's images per second: median, least and most."""
    rates: dict[str, list[float]] = {"store": [], "ImageFolder": []}
    for turn in range(options.turns + 1):
        # Anew for each turn, so that no worker fetches ahead in the turn of the other side.
        sides = {"store": from_store(images), "ImageFolder": from_folder(root, options.workers)}
        for name in rates:
            rate = _rate(sides.pop(name), options.seconds, ahead=2 * options.workers + 1)
            if turn:
                rates[name].append(rate)
    ratios = [a / b for a, b in zip(rates["store"], rates["ImageFolder"], strict=True)]
    yield f"ratio: {_spread(ratios, 1)}"
    for name, values in rates.items():
        yield f"{name}: {_spread(values, 0)} images/s"


def _rate(batches: Iterator[Any], seconds: float, ahead: int) -> float:
    """Images per second, after the batches that were fetched ahead."""
    for _ in range(ahead):
        next(batches)
    began, n = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        x = next(batches)
        assert x.shape == (BATCH, 3, ENTRY.crop, ENTRY.crop)
        assert x.dtype == torch.float32
        n += 1
    return n * BATCH / (time.perf_counter() - began)


def _spread(values: Iterable[float], digits: int) -> str:
    values = list(values)
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def from_store(images: Images) -> Iterator[torch.Tensor]:
    """Endless batches, as a `Run` fetches them."""
    cycle = sampling.Cycle(sampling.uniform(len(images)), seed=0)
    generator = torch.Generator().manual_seed(0)
    while True:
        raw = torch.from_numpy(images.gather(cycle.take(BATCH).numpy()))
        cropped = random_crop_flip(raw, ENTRY.crop, ENTRY.flip, generator)
        yield normalise(cropped, ENTRY.normalise)


def from_folder(root: Path, workers: int) -> Iterator[torch.Tensor]:
    """Endless batches by the usual way."""
    from torchvision import datasets
    from torchvision import transforms as T

    steps = T.Compose(
        [
            T.Resize((ENTRY.size, ENTRY.size)),
            T.RandomCrop(ENTRY.crop),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(str(root), steps),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
    )
    while True:
        for x, _ in loader:
            yield x


def memory(path: Path) -> Iterator[str]:
    """What concurrent readers of all images hold of the store: their shares of it, summed."""
    size = path.stat().st_size / 2**20
    yield f"store of {size:.0f} MiB; proportional set size of its mappings, summed over readers:"
    for readers in (1, 4, 8):
        yield f"  {readers} readers: {sum(shares(path, readers)):.0f} MiB"


def shares(path: Path, readers: int) -> list[float]:
    """`share_of` the store in each of `readers` processes at a time when all have read it."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(readers), context.Queue()
    processes = [
        context.Process(target=_read_all, args=(path, barrier, queue)) for _ in range(readers)
    ]
    for process in processes:
        process.start()
    found = [float(queue.get(timeout=300)) for _ in processes]
    for process in processes:
        process.join()
    return found


def _read_all(path: Path, barrier: Any, queue: Any) -> None:
    """Touch every image; tell this process's share of the mapped store once all have done so."""
    store = Store.open(path)
    for start in range(0, len(store), 64):
        store.gather(np.arange(start, min(start + 64, len(store))))
    barrier.wait()
    queue.put(share_of(store.path))
    barrier.wait()


def share_of(path: Path) -> float:
    """MiB of the mapped file `path` that are this process's, a page shared by n counting 1/n."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Pss:"):
            total += int(line.split()[1])
    return total / 1024


if __name__ == "__main__":
    sys.exit(main())
