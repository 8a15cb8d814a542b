"""The pictures of a report: which there are, and what they show."""

import io

import finished
import numpy as np
import pytest
from PIL import Image

from tune import plots
from tune.findings import find
from tune.history import History
from tune.plots import PLOTS, draw


def texts(name: str, **changes: object) -> str:
    """All words on a picture that has been drawn."""
    from matplotlib.text import Text

    figure = PLOTS[name](find(finished.history(**changes)))  # type: ignore[arg-type]
    assert figure is not None
    figure.canvas.draw()
    return " | ".join(text.get_text() for text in figure.findobj(Text) if text.get_text())


def test_each_is_a_picture_with_something_on_it() -> None:
    pictures = draw(find(finished.history()))
    assert set(pictures) == set(PLOTS)
    for content in pictures.values():
        pixels = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
        assert min(pixels.shape) > 300
        assert 0.01 < (pixels < 200).mean() < 0.6  # neither blank nor a blot


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("history", ["val/bnm", "best so far", "chosen", "source-only", "the paper's setting"]),
        ("parallel", ["alpha", "beta", "n_groups", "tau", "val/bnm", "chosen", "stopped early"]),
        ("contour", ["alpha", "beta", "val/bnm", "0.001", "0.1", "30"]),
        ("validators", ["val/bnm, +0.", "val/im, -0.", "val/none", "target accuracy, %"]),
        ("steps", ["last step", "best by val/bnm", "best by target labels", "step of trial 13"]),
    ],
)
def test_words_on_them(name: str, words: list[str]) -> None:
    found = texts(name)
    assert [word for word in words if word not in found] == []


def test_without_labels_no_picture_speaks_of_them() -> None:
    pictures = draw(find(finished.history(labels=False)))
    assert set(pictures) == set(PLOTS) - {"validators"}
    assert "labels" not in texts("steps", labels=False)
    assert "accuracy" not in texts("steps", labels=False)


def test_the_contour_is_of_two_searched_fields() -> None:
    assert "tau" in texts("contour", search=["alpha", "tau"])
    assert PLOTS["contour"](find(finished.history(search=["alpha"]))) is None


def test_dollars_are_no_mathematics() -> None:
    """In the name of a class, and so of a score."""
    history = finished.history()
    for trial in history.trials.values():
        for metrics in trial.reports.values():
            metrics["val/a$_b$"] = metrics["val/bnm"]
    assert "validators" in draw(find(history))


def test_a_search_without_a_finished_trial_has_none() -> None:
    assert draw(find(History.of(finished.events()[:3]))) == {}


def test_two_finished_trials_are_enough_for_some() -> None:
    history = finished.history()
    for number in range(3, 16):
        del history.trials[number]
    assert {"history", "parallel", "contour"} <= set(draw(find(history)))


def test_heights_and_back() -> None:
    space = {**plots._space(find(finished.history()))}
    for name, span in space.items():
        assert plots._height(span.low, span) == pytest.approx(0), name
        assert plots._height(span.high, span) == pytest.approx(1), name
        assert plots._at(plots._height(span.low * 1.5, span), span) == pytest.approx(span.low * 1.5)
        ticks = plots._ticks(span)
        assert len(ticks) >= 3
        assert all(span.low * 0.99 <= tick <= span.high * 1.01 for tick in ticks)
