"""Runs what README and pages tell a reader to run, page by page, and lists what it could not.

python -m tests.docs [PAGE...]
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .blocks import ROOT, Block, blocks, pages

PATIENCE_S = 900
# What stands for a thing of the reader's; made by the README's own blocks, or here.
NAMES = {
    "MODEL": "runs/a2d/model",
    "IMAGES": "images",
    "DIR": "images",
    "OUT": "out",
    "NAME": "glyph31-A2D-001",
}


def main(names: list[str]) -> int:
    """1 if a block failed."""
    folder = Path(tempfile.mkdtemp(prefix="gsda-docs-"))
    try:
        return _run(folder, names)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, names: list[str]) -> int:
    _furnish(folder)
    failed, left = [], []
    for page in pages():
        if names and page.name not in names:
            continue
        for block in blocks(page):
            if block.reason:
                left.append(block)
                continue
            began = time.monotonic()
            trouble = _try(block, folder)
            first = block.text.strip().splitlines()[0][:70]
            took = time.monotonic() - began
            print(f"{'FAILED' if trouble else 'ok':<6} {took:5.0f} s  {block.page}: {first}")
            if trouble:
                failed.append(block)
                print(trouble)
    print(f"\nNot run ({len(left)}):")
    for block in left:
        print(f"  {block.page}: {block.text.strip().splitlines()[0][:60]}: {block.reason}")
    return 1 if failed else 0


def _furnish(folder: Path) -> None:
    """A folder as a reader has it: the checkout's files, and some images."""
    for name in ("gsda", "tune", "experiments", "tests", "constraints.txt", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    from PIL import Image

    from gsda.data.glyphs import render

    images, labels = render("D")
    for number in range(0, 498, 16):
        letter = folder / "images" / "ABCDEFGHIJKLMNOPQRSTUVWXYZ2347&"[int(labels[number])]
        letter.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[number]).save(letter / f"{number}.png")


def _try(block: Block, folder: Path) -> str:
    """What went wrong, "" if nothing did."""
    text = block.tested
    for name, value in NAMES.items():
        text = text.replace(f" {name}", f" {value}")
    shell = ["bash", "-euo", "pipefail", "-c", text]
    command = shell if block.language == "sh" else [sys.executable, "-c", text]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return "" if done.returncode == 0 else f"{done.stdout[-2000:]}{done.stderr[-2000:]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
