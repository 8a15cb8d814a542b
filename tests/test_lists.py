"""Image lists of CDAN and TLL."""

import re
from pathlib import Path

import pytest

from gsda.data.folders import scan, task_listings
from gsda.errors import BadInput
from gsda.tasks import OFFICE_HOME_CLASSES, Task

OWN = Task("own", "left", "right")


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "place", ["image_list/left.txt", "left.txt", "left_list.txt", "image_list/left_list.txt"]
)
def test_a_list_is_found_and_goes_before_the_folder(tmp_path: Path, place: str) -> None:
    put(tmp_path, "left/a/1.jpg", "left/a/2.jpg", "left/b b/1.jpg")
    path = write(tmp_path, place, "left/b b/1.jpg 1", "", "left/a/2.jpg 0")
    listing = scan(tmp_path, "left", ("left",), None)
    assert listing.files == (("left/a/2.jpg", 0), ("left/b b/1.jpg", 1))
    assert (listing.classes, listing.root, listing.source) == (("a", "b b"), tmp_path, path)


@pytest.mark.parametrize("prefix", ["../data/office/", "/data/office/", "./", ""])
def test_leading_parts_are_dropped(tmp_path: Path, prefix: str) -> None:
    put(tmp_path, "left/a/1.jpg", "left/b/1.jpg")
    write(tmp_path, "left.txt", f"{prefix}left/a/1.jpg 0", f"{prefix}left/b/1.jpg 1")
    listing = scan(tmp_path, "left", ("left",), None)
    assert [name for name, _ in listing.files] == ["left/a/1.jpg", "left/b/1.jpg"]


def test_tabs_and_windows_line_ends(tmp_path: Path) -> None:
    put(tmp_path, "left/a/1.jpg", "left/b b/1.jpg")
    (tmp_path / "left.txt").write_bytes(b"left/a/1.jpg\t0\r\nleft/b b/1.jpg \t 1\r\n")
    listing = scan(tmp_path, "left", ("left",), None)
    assert listing.files == (("left/a/1.jpg", 0), ("left/b b/1.jpg", 1))


def test_no_path_leads_out_of_the_folder(tmp_path: Path) -> None:
    put(tmp_path, "secret/1.jpg", "data/left/a/1.jpg")
    for line in ("../secret/1.jpg 0", f"{tmp_path}/secret/1.jpg 0"):
        write(tmp_path / "data", "left.txt", line)
        with pytest.raises(BadInput, match="not below"):
            scan(tmp_path / "data", "left", ("left",), None)
        write(tmp_path / "data", "left.txt", "left/a/1.jpg 0", line.replace(" 0", " 1"))
        with pytest.raises(BadInput, match="leads out of"):
            scan(tmp_path / "data", "left", ("left",), None)


def test_numbers_in_another_order_mean_the_folders(tmp_path: Path) -> None:
    """TLL numbers Office-Home's classes from Drill on, not by the alphabet."""
    order = ["Drill", *(name for name in OFFICE_HOME_CLASSES if name != "Drill")]
    for folder in ("Art", "Real_World"):
        names = [f"{folder}/{name}/00001.jpg" for name in order]
        put(tmp_path, *names)
        lines = (f"{name} {label}" for label, name in enumerate(names))
        write(tmp_path, f"image_list/{folder}.txt", *lines)
    for listing in task_listings(Task.parse("office-home/Ar2Rw"), tmp_path):
        assert listing.classes == OFFICE_HOME_CLASSES
        assert all(Path(name).parent.name == listing.classes[k] for name, k in listing.files)


def test_numbers_where_folders_are_no_classes(tmp_path: Path) -> None:
    put(tmp_path, *(f"{side}/{i}.png" for side in ("left", "right") for i in range(4)))
    write(tmp_path, "left.txt", *(f"left/{i}.png {i % 3}" for i in range(4)))
    write(tmp_path, "right.txt", "right/0.png 2", "right/1.png 0")
    source, target = task_listings(OWN, tmp_path)
    assert source.classes == target.classes == ("0", "1", "2")
    assert target.files == (("right/0.png", 2), ("right/1.png", 0))


def test_a_target_list_without_labels(tmp_path: Path) -> None:
    put(tmp_path, "left/a/1.png", "left/b/1.png", "right/no class.png")
    write(tmp_path, "right.txt", "right/no class.png")
    _, target = task_listings(OWN, tmp_path)
    assert (target.classes, target.files) == ((), (("right/no class.png", -1),))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "left.txt names no images: write"),
        (["left/c/1.png 0"], "left.txt names left/c/1.png, which is not below"),
        (["left/a/1.png"], "left.txt gives left/a/1.png no label: write 'path label'"),
        (["left/a/1.png 0", "left/b/1.png"], "left.txt gives left/b/1.png no label"),
    ],
)
def test_bad_lists_are_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    put(tmp_path, "left/a/1.png", "left/b/1.png")
    write(tmp_path, "left.txt", *lines)
    with pytest.raises(BadInput, match=re.escape(message)):
        scan(tmp_path, "left", ("left",), None)


def test_lists_of_other_classes_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "left/a/1.png", "left/b/1.png", "right/a/1.png", "right/c/1.png")
    write(tmp_path, "right.txt", "right/a/1.png 0", "right/c/1.png 1")
    with pytest.raises(BadInput, match=r"right\.txt has a class 'c', which is not one of the 2"):
        task_listings(OWN, tmp_path)
    write(tmp_path, "right.txt", "right/a/1.png 0")
    _, target = task_listings(OWN, tmp_path)
    assert target.classes == ("a", "b")
    with pytest.raises(BadInput, match=r"right\.txt lacks the class 'b': add"):
        scan(tmp_path, "right", ("right",), ("a", "b"))


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "left.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"left\.txt cannot be read .*: make it a text file"):
        scan(tmp_path, "left", ("left",), None)
