"""The drawn letters as files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsda.cli import main
from gsda.data.glyphs import render
from gsda.data.letters import drawn, write_letters
from gsda.errors import BadInput
from gsda.tasks import GLYPH31_CLASSES


def test_a_domain_is_written_by_class_to_the_last_pixel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "draw", str(tmp_path / "letters"), "--domain", "D"]) == 0
    place = tmp_path / "letters" / "D"
    assert capsys.readouterr().out == f"glyph31/D: 498 images in {place}\n"
    files = {int(path.stem): path for path in place.glob("*/*.png")}
    images, labels = render("D")
    assert sorted(files) == list(range(498))
    for number, path in files.items():
        assert path.parent.name == GLYPH31_CLASSES[labels[number]]
        np.testing.assert_array_equal(np.asarray(Image.open(path)), images[number])
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["D"]  # no part is left


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    assert drawn() == ["glyph31", "glyph31-hard"]
    with pytest.raises(BadInput, match="'office31' is not drawn: choose one of glyph31, "):
        write_letters(tmp_path, "office31", "A")
    with pytest.raises(BadInput, match="no domain"):
        write_letters(tmp_path, "glyph31", "X")
    (tmp_path / "D").mkdir()
    with pytest.raises(BadInput, match="D is there already"):
        write_letters(tmp_path, "glyph31", "D")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match=r"D cannot be written \(Not a directory\)"):
        write_letters(tmp_path / "file", "glyph31", "D")
