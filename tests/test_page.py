"""The report as a page: whole, self-contained, and true to the findings."""

import re
from html.parser import HTMLParser

import finished
import pytest

from tune.findings import find
from tune.history import COMPLETE, REFITTED, REPEATED, History, Trial
from tune.page import of_tasks, page
from tune.plots import PLOTS, draw

VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Checks that what is opened is closed, and keeps the words and the sources."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def reader() -> Reader:
    found = find(finished.history())
    return read(page(found, draw(found)))


def test_it_needs_no_other_file(reader: Reader) -> None:
    assert len(reader.sources) == len(PLOTS)
    assert all(source.startswith("data:image/png;base64,") for source in reader.sources)


def test_it_tells_what_was_chosen_and_what_that_cost(reader: Reader) -> None:
    words = " ".join(reader.words)
    assert "No target label was read in choosing." in words
    assert "is 19.0 points of accuracy below" in words
    assert "A user without target labels cannot see this." in words
    assert "last step (the model)" in words
    assert re.search(r"alpha \d\d%", words)
    assert "13 finished settings; rough with fewer than 30" in words
    assert "All 16 trials" in words
    assert "14 finished, 1 stopped early, 1 failed" in words


def test_without_labels(reader: Reader) -> None:
    found = find(finished.history(labels=False))
    words = " ".join(read(page(found, {})).words)
    assert "accuracy" not in words
    assert "regret" not in words
    assert "What was chosen" in words


def test_another_rule_is_named() -> None:
    words = " ".join(read(page(find(finished.history(pick="val/im")), {})).words)
    assert "guided by val/bnm, the winner picked by val/im. No target label" in words


def test_what_labels_had_a_part_in_says_so() -> None:
    words = " ".join(read(page(find(finished.history(unsealed=True)), {})).words)
    assert "target labels had a part in choosing (--unseal)" in words
    assert "No target label was read" not in words


def test_other_seeds_and_a_refit_are_told() -> None:
    history = finished.history(seeds=2)
    best = history.trials[13]
    for number, kind, seed in ((16, REPEATED, 1), (17, REFITTED, 0)):
        config = best.config | {"seed": seed}
        more = Trial(number, kind, best.values, config, best.reports, COMPLETE, parent=13)
        history.trials[number] = more
    words = " ".join(read(page(find(history), {})).words)
    assert "Its setting was trained with 2 seeds (13, 16)." in words
    assert "The model is trial 17, its refit on all of the source." in words


def test_several_tasks_are_told_one_by_one() -> None:
    tasks = [{"task": f"glyph31/{pair}", "digest": "0"} for pair in ("A2W", "W2A")]
    history = finished.history(tasks=tasks)
    for number, trial in history.trials.items():
        for metrics in trial.reports.values():
            for place, pair in enumerate(("A2W", "W2A")):
                metrics[f"{pair}/val/bnm"] = 0.5 + number / 100 + place / 10
                metrics[f"{pair}/oracle/target_accuracy"] = 0.2 + number / 100 + place / 10
    found = find(history)
    assert of_tasks(found) == [
        ("val/bnm of each task", []),
        ("A2W", ["0.6300", "0.5100", "0.5000", "0.6100"]),
        ("W2A", ["0.7300", "0.6100", "0.6000", "0.7100"]),
        ("accuracy of each task", []),
        ("A2W", ["33.0%", "21.0%", "20.0%", "31.0%"]),
        ("W2A", ["43.0%", "31.0%", "30.0%", "41.0%"]),
    ]
    words = " ".join(read(page(found, {})).words)
    assert "guided by the mean over 2 tasks of val/bnm" in words
    assert "accuracy of each task A2W 33.0%" in words
    assert of_tasks(find(finished.history())) == []


def test_a_setting_from_elsewhere_is_told() -> None:
    origin = {"search": "old", "trial": 7}
    words = " ".join(read(page(find(finished.history(origin=origin)), {})).words)
    assert "Nothing was searched here: the setting was found by old, trial 7. No target" in words


def test_signs_are_escaped() -> None:
    found = find(finished.history(data_title="images in <b>&", name='"<i>'))
    text = page(found, {})
    assert "images in &lt;b&gt;&amp;" in text
    assert "<i>" not in text
    read(text)


def test_a_search_that_has_hardly_begun() -> None:
    words = " ".join(read(page(find(History.of(finished.events()[:3])), {})).words)
    assert "No trial has finished yet." in words
    assert "not over yet" in words
