"""The built-in benchmark: counts, determinism, independence of the domains, and its fonts."""

from functools import lru_cache

import numpy as np
import pytest
from PIL import ImageFont

from gsda.data import glyphs
from gsda.data.domain import Int64, UInt8
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, GLYPH31_CLASSES

COUNTS = BENCHMARKS["glyph31"].counts


@lru_cache
def rendered(domain: str, benchmark: str = "glyph31") -> tuple[UInt8, Int64]:
    """Each domain once for all tests, which only read it."""
    return glyphs.render(domain, benchmark=benchmark)


@pytest.mark.parametrize("benchmark", ["glyph31", "glyph31-hard"])
@pytest.mark.parametrize("domain", COUNTS)
def test_shapes_types_and_counts(domain: str, benchmark: str) -> None:
    images, labels = rendered(domain, benchmark)
    assert images.shape == (COUNTS[domain], glyphs.SIZE, glyphs.SIZE, 3)
    assert images.dtype == np.uint8
    assert labels.shape == (COUNTS[domain],)
    assert labels.dtype == np.int64


@pytest.mark.parametrize("domain", COUNTS)
def test_every_class_is_present_about_equally_often(domain: str) -> None:
    counts = np.bincount(rendered(domain)[1], minlength=31)
    assert len(counts) == len(GLYPH31_CLASSES)
    assert counts.min() > 0
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("domain", COUNTS)
def test_every_image_shows_something_and_no_two_are_equal(domain: str) -> None:
    images = rendered(domain)[0].reshape(COUNTS[domain], -1)
    assert images.std(axis=1).min() > 5
    assert len({image.tobytes() for image in images}) == COUNTS[domain]


def test_same_seed_same_bytes_whatever_was_drawn_before() -> None:
    first = glyphs.render("D", seed=3)
    glyphs.render("W", seed=3)
    np.random.seed(0)
    again = glyphs.render("D", seed=3)
    assert first[0].tobytes() == again[0].tobytes()
    assert first[1].tobytes() == again[1].tobytes()


def test_another_seed_gives_other_images() -> None:
    images, labels = glyphs.render("D", seed=1)
    assert not np.array_equal(images, rendered("D")[0])
    assert not np.array_equal(labels, rendered("D")[1])


def test_global_random_state_is_left_alone() -> None:
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    glyphs.render("D")
    assert np.random.random() == expected


@pytest.mark.parametrize("domain", COUNTS)
def test_the_hard_variant_has_the_same_labels_and_wider_gaps(domain: str) -> None:
    """Its looks alone differ, so that the two can be compared."""
    plain, hard = rendered(domain), rendered(domain, "glyph31-hard")
    assert np.array_equal(plain[1], hard[1])
    assert not np.array_equal(plain[0], hard[0])


def test_the_hard_variant_degrades_more() -> None:
    def contrast(benchmark: str, domain: str) -> float:
        return float(rendered(domain, benchmark)[0].astype(float).std(axis=(1, 2, 3)).mean())

    assert contrast("glyph31-hard", "W") < 0.9 * contrast("glyph31", "W")
    assert contrast("glyph31-hard", "A") < 0.9 * contrast("glyph31", "A")  # outlines, smaller
    fonts = [set(glyphs.font_paths(d, "glyph31-hard")) for d in "ADW"]
    assert not fonts[0] & fonts[1]
    assert not fonts[1] & fonts[2]
    assert not fonts[0] & fonts[2]


def test_domains_do_not_share_a_stream() -> None:
    n = COUNTS["D"]
    streams = [rendered(domain)[1][:n].tobytes() for domain in COUNTS]
    assert len(set(streams)) == 3


def test_results_do_not_share_memory() -> None:
    images, labels = glyphs.render("D")
    images[:], labels[:] = 0, 0
    assert np.array_equal(glyphs.render("D")[0], rendered("D")[0])


def test_catalogue_is_bright_and_photographs_are_coloured() -> None:
    corner = {domain: rendered(domain)[0][:, :2, :2].astype(float) for domain in COUNTS}
    assert corner["A"].mean() > 235
    assert corner["D"].mean() < 215
    assert corner["W"].mean(axis=(1, 2)).std() < corner["D"].mean(axis=(1, 2)).std()


@pytest.mark.parametrize("domain", ["B", "", "a", "AW"])
def test_unknown_domain_is_one_clear_sentence(domain: str) -> None:
    with pytest.raises(BadInput) as caught:
        glyphs.render(domain)
    assert str(caught.value) == f"glyph31 has no domain {domain!r}: choose one of A, D, W."


def test_font_paths_of_an_unknown_domain() -> None:
    with pytest.raises(BadInput, match="no domain 'B'"):
        glyphs.font_paths("B")


def test_negative_seed_is_one_clear_sentence() -> None:
    with pytest.raises(BadInput, match=r"seed of glyph31 is -1: .* zero or above\.$"):
        glyphs.render("D", seed=-1)


def test_fonts_exist_and_those_of_the_photographs_are_not_in_the_catalogue() -> None:
    fonts = {domain: glyphs.font_paths(domain) for domain in COUNTS}
    assert [len(set(fonts[domain])) for domain in "ADW"] == [12, 2, 2]
    assert not set(fonts["A"]) & set(fonts["D"])
    assert not set(fonts["A"]) & set(fonts["W"])
    assert all(path.is_file() for paths in fonts.values() for path in paths)


@pytest.mark.parametrize(
    "path",
    [
        *glyphs.font_paths("A"),
        *glyphs.font_paths("D"),
        *glyphs.font_paths("W", "glyph31-hard"),
    ],
    ids=lambda path: path.stem,
)
def test_font_draws_every_class_differently(path: object) -> None:
    """A font without a character draws the same box, or nothing, in its place."""
    font = ImageFont.truetype(str(path), 40, layout_engine=ImageFont.Layout.BASIC)
    missing = bytes(font.getmask("\ue0ff"))
    drawn = {bytes(font.getmask(letter)) for letter in GLYPH31_CLASSES}
    assert len(drawn) == len(GLYPH31_CLASSES)
    assert missing not in drawn
