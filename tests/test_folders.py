"""Finding images in folders."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsda.data.folders import Listing, images_below, scan, task_listings
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, OFFICE31_CLASSES, Task

REAL = os.environ.get("GSDA_TEST_DATA")
needs_real = pytest.mark.skipif(
    not REAL, reason="GSDA_TEST_DATA IS NOT SET: NOT TESTED ON REAL IMAGES"
)
OWN = Task.parse("own/left2right")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def mistake(*parts: str | Path) -> pytest.RaisesExc[BadInput]:
    """Expects a BadInput of one sentence that has all of `parts`."""

    def one_sentence(error: BadInput) -> bool:
        text = str(error)
        assert text.endswith(".")
        assert "\n" not in text
        assert ". " not in text
        assert ": " in text, "names no cure"
        for part in parts:
            assert str(part) in text
        return True

    return pytest.RaisesExc(BadInput, check=one_sentence)


def own(data: Path) -> tuple[Listing, Listing]:
    return task_listings(OWN, data)


@pytest.mark.parametrize("middle", ["", "images/"])
def test_both_layouts_give_the_same_listing(tmp_path: Path, middle: str) -> None:
    touch(tmp_path, *(f"amazon/{middle}{c}/{i}.jpg" for c in "ba" for i in (10, 2)))
    listing = scan(tmp_path, "A", ("Amazon", "amazon"), None)
    assert listing.root == tmp_path / "amazon" / middle
    assert listing.domain == "A"
    assert listing.classes == ("a", "b")
    assert listing.files == (("a/10.jpg", 0), ("a/2.jpg", 0), ("b/10.jpg", 1), ("b/2.jpg", 1))
    assert len(listing) == 4


def test_given_classes_fix_the_indices(tmp_path: Path) -> None:
    touch(tmp_path, "d/a/1.jpg", "d/b/1.jpg")
    listing = scan(tmp_path, "d", ("d",), ("b", "a"))
    assert listing.classes == ("b", "a")
    assert listing.files == (("a/1.jpg", 1), ("b/1.jpg", 0))


def test_first_candidate_that_is_there_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, "two/a/1.jpg", "three/a/1.jpg")
    assert scan(tmp_path, "x", ("one", "two", "three"), None).root == tmp_path / "two"


def test_a_class_called_images_is_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "d/images/1.jpg", "d/other/1.jpg", "e/images/1.jpg")
    assert scan(tmp_path, "d", ("d",), None).classes == ("images", "other")
    listing = scan(tmp_path, "e", ("e",), ("images", "other"), missing_ok=True)
    assert listing.files == (("images/1.jpg", 0),)


def test_only_visible_images_count_at_any_depth(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *("d/a/x/y/deep.JPEG", "d/a/1.Png", "d/a/.hidden.jpg", "d/a/.git/1.jpg", "d/a/notes.txt"),
        *("d/.cache/1.jpg", "d/README.md", "d/features/a.mat", "d/a/jpg", "d/a/x.jpg.part"),
    )
    (tmp_path / "d" / "empty").mkdir()
    listing = scan(tmp_path, "d", ("d",), None)
    assert listing.classes == ("a",)
    assert listing.files == (("a/1.Png", 0), ("a/x/y/deep.JPEG", 0))


@pytest.mark.parametrize(
    "suffix", ["jpg", "jpeg", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm", "PGM"]
)
def test_every_known_extension_counts(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"d/a/1.{suffix}")
    assert scan(tmp_path, "d", ("d",), None).files == ((f"a/1.{suffix}", 0),)


def test_unicode_and_spaces_in_names(tmp_path: Path) -> None:
    data = tmp_path / "mes données"
    touch(data, "дом 1/Büro stuhl/фото 1.jpg", "дом 1/椅子/a b.png")
    listing = scan(data, "дом 1", ("дом 1",), None)
    assert listing.files == (("Büro stuhl/фото 1.jpg", 0), ("椅子/a b.png", 1))


def test_name_that_is_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / "d" / "a"
    folder.mkdir(parents=True)
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with mistake(folder, "UTF-8", "rename") as caught:
        scan(tmp_path, "d", ("d",), None)
    assert str(caught.value).isascii()


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "d/a/1.jpg", "d/b/1.jpg", "elsewhere/2.jpg", "beside/3.jpg")
    a = tmp_path / "d" / "a"
    (a / "self").symlink_to(a)
    (a / "up").symlink_to(tmp_path / "d")
    (a / "top").symlink_to(tmp_path)
    (a / "itself").symlink_to(a / "itself")
    (a / "once").symlink_to(tmp_path / "elsewhere")
    (a / "twice").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d" / "round").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "knot").symlink_to(tmp_path / "d" / "knot")
    listing = scan(tmp_path, "d", ("d",), None)
    assert listing.files == (("a/1.jpg", 0), ("a/once/2.jpg", 0), ("b/1.jpg", 1))
    assert images_below(a) == ["1.jpg", "once/2.jpg"]


def test_missing_data_folder(tmp_path: Path) -> None:
    with mistake(tmp_path / "no", "does not exist", "--data"):
        own(tmp_path / "no")
    touch(tmp_path, "file")
    with mistake(tmp_path / "file", "is not a folder", "--data"):
        own(tmp_path / "file")
    with mistake(tmp_path / "file" / "x", "does not exist"):
        own(tmp_path / "file" / "x")


def test_missing_domain_says_what_was_sought_and_found(tmp_path: Path) -> None:
    touch(tmp_path, "webcam/a/1.jpg", "photos/a/1.jpg", "amazon")
    with mistake(tmp_path, "'A'", "amazon, Amazon", "found photos, webcam", "--data"):
        task_listings(Task.parse("office31/A2W"), tmp_path)
    (tmp_path / "bare").mkdir()
    with mistake("no folders"):
        own(tmp_path / "bare")
    with mistake("'..'"):
        task_listings(Task("own", "..", "x"), tmp_path)


def test_empty_domain(tmp_path: Path) -> None:
    (tmp_path / "left" / "a").mkdir(parents=True)
    with mistake(tmp_path / "left", "no images", "folder per class"):
        own(tmp_path)


def test_source_without_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "left/1.jpg", "right/1.jpg")
    with mistake(tmp_path / "left", "no class folders"):
        own(tmp_path)


def test_image_beside_the_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "left/a/1.jpg", "left/stray.jpg", "right/1.jpg")
    with mistake(tmp_path / "left" / "stray.jpg", "move it"):
        own(tmp_path)


@pytest.mark.parametrize("middle", ["", "images/"])
def test_own_target_may_be_flat(tmp_path: Path, middle: str) -> None:
    touch(tmp_path, "left/a/1.jpg", f"right/{middle}2.jpg", f"right/{middle}1.jpg")
    source, target = own(tmp_path)
    assert source.classes == ("a",)
    assert target.root == tmp_path / "right" / middle
    assert target.classes == ()
    assert target.files == (("1.jpg", -1), ("2.jpg", -1))


def test_own_target_may_lack_classes_but_not_add_any(tmp_path: Path) -> None:
    touch(tmp_path, "left/a/1.jpg", "left/b/1.jpg", "right/b/1.jpg")
    _, target = own(tmp_path)
    assert target.classes == ("a", "b")
    assert target.files == (("b/1.jpg", 1),)
    touch(tmp_path, "right/c/1.jpg")
    with mistake(tmp_path / "right" / "c", "a, b", "rename"):
        own(tmp_path)


def office31(data: Path, *domains: str) -> None:
    touch(data, *(f"{d}/images/{c}/1.jpg" for d in domains for c in OFFICE31_CLASSES))


def test_benchmark_listing_is_complete(tmp_path: Path) -> None:
    office31(tmp_path, "amazon", "dslr")
    for listing in task_listings(Task.parse("office31/A2D"), tmp_path):
        assert listing.classes == OFFICE31_CLASSES
        assert [label for _, label in listing.files] == list(range(31))


@pytest.mark.parametrize("domain", ["amazon", "dslr"])
def test_benchmark_lacks_a_class(tmp_path: Path, domain: str) -> None:
    office31(tmp_path, "amazon", "dslr")
    folder = tmp_path / domain / "images" / "mug"
    (folder / "1.jpg").unlink()
    with mistake(folder, "no images", "'mug'"):
        task_listings(Task.parse("office31/A2D"), tmp_path)
    folder.rmdir()
    with mistake(folder.parent, "lacks", "'mug'"):
        task_listings(Task.parse("office31/A2D"), tmp_path)


@pytest.mark.parametrize("domain", ["amazon", "dslr"])
def test_benchmark_has_a_class_too_many(tmp_path: Path, domain: str) -> None:
    office31(tmp_path, "amazon", "dslr")
    touch(tmp_path, f"{domain}/images/teapot/1.jpg")
    with mistake(tmp_path / domain / "images" / "teapot", "31 classes", "and 19 more"):
        task_listings(Task.parse("office31/A2D"), tmp_path)


def test_benchmark_target_must_have_class_folders(tmp_path: Path) -> None:
    office31(tmp_path, "amazon")
    touch(tmp_path, "dslr/1.jpg")
    with mistake(tmp_path / "dslr", "no class folders"):
        task_listings(Task.parse("office31/A2D"), tmp_path)


def test_benchmark_with_the_wrong_number_of_classes(tmp_path: Path) -> None:
    touch(tmp_path, *(f"amazon/{c}/1.jpg" for c in "abcdefghi"))
    with mistake(tmp_path / "amazon", "9 class folders", "has 10", "office-caltech10"):
        task_listings(Task.parse("office-caltech10/A2D"), tmp_path)


NOBODY = """
import os, sys
from pathlib import Path
from gsda.data.folders import task_listings
from gsda.data.load import iterate_files
from gsda.data.decoding import decode
from gsda.errors import BadInput
from gsda.tasks import Task
data = Path(sys.argv[1])
if os.geteuid() == 0:
    try:
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
    except PermissionError:
        sys.exit(77)
def say(call):
    try:
        call()
    except BadInput as error:
        print(error)
say(lambda: task_listings(Task("own", "left", "right"), data))
say(lambda: task_listings(Task("own", "right", "left"), data))
say(lambda: task_listings(Task("own", "right", "left"), data / "right" / "shut" / "x"))
say(lambda: iterate_files([data / "right" / "shut" / "x"]))
say(lambda: decode(data / "secret.png", 8))
"""


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Path]:
    """A folder that any user can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_what_this_user_may_not_read(public: Path) -> None:
    touch(public, "left/a/1.jpg", "right/shut/1.jpg", "secret.png")
    (public / "secret.png").chmod(0)
    (public / "left").chmod(0)
    (public / "right" / "shut").chmod(0)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", NOBODY, str(public)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    (public / "left").chmod(0o755)
    (public / "right" / "shut").chmod(0o755)
    if done.returncode == 77:
        pytest.skip("root here, and not allowed to become another user")
    assert done.returncode == 0, done.stderr
    left, right, below, given, secret = done.stdout.splitlines()
    cure = "(Permission denied): make it readable for this user, or remove it."
    assert left == f"{public / 'left'} cannot be read {cure}"
    assert right == f"{public / 'right' / 'shut'} cannot be read {cure}"
    assert below == given == f"{public / 'right' / 'shut' / 'x'} cannot be read {cure}"
    assert secret == (
        f"{public / 'secret.png'} cannot be read as an image (Permission denied): "
        "remove it, or pass --skip-bad-images."
    )


@needs_real
@pytest.mark.parametrize("pair", ["A2D", "W2A"])
def test_real_office_caltech10(pair: str) -> None:
    task = Task.parse(f"office-caltech10/{pair}")
    source, target = task_listings(task, Path(REAL or "") / "office-caltech10")
    counts = BENCHMARKS["office-caltech10"].counts
    assert (len(source), len(target)) == (counts[task.source], counts[task.target])
    assert source.classes == target.classes
    assert "backpack" in source.classes
