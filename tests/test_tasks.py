"""Task names, and the table of benchmarks."""

import re

import pytest

from gsda.config import Config
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, Task


def test_parse_and_print() -> None:
    task = Task.parse("office31/A2D")
    assert task == Task("office31", "A", "D")
    assert (str(task), task.pair, task.slug) == ("office31/A2D", "A2D", "office31-A2D")


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=lambda b: b.name)
def test_every_task_of_a_benchmark_survives_its_name(benchmark) -> None:
    tasks = benchmark.tasks()
    n = len(benchmark.domains)
    assert len(tasks) == len(set(tasks)) == (len(benchmark.pairs) or n * (n - 1))
    for task in tasks:
        assert task.source != task.target
        assert Task.parse(str(task)) == task


def test_folders_of_unknown_datasets_are_tasks_too() -> None:
    assert Task.parse("my-data/photo2sketch") == Task("my-data", "photo", "sketch")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A2D", "names no dataset: write it as dataset/A2D"),
        ("glyph31/A2A", "Task glyph31/A2A has the same source and target"),
        ("glyph31/A2C", "Unknown task 'A2C' of glyph31: choose one of A2W, A2D, W2A"),
        ("glyph31/a2d", "Unknown task 'a2d'"),
        ("glyph31/", "Unknown task ''"),
        ("glyph31/A2D/", "Unknown task 'A2D/'"),
        ("mine/x2x", "mine/x2x has the same source and target"),
        ("mine/xy", "'mine/xy' is no task"),
        ("mine/2y", "'mine/2y' is no task"),
        ("mine/x2", "'mine/x2' is no task"),
        ("/x2y", "'/x2y' is no task"),
        ("../x2y", "is no task"),
        ("my data/x2y", "is no task"),
        ("", "names no dataset"),
    ],
)
def test_bad_tasks_are_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        Task.parse(text)


@pytest.mark.parametrize("text", ["mine/../../etc2b", "mine/a2../b", "mine/a/b2c", "mine/.2.."])
def test_no_task_has_a_slug_that_is_a_path(text: str) -> None:
    """The slug is said to be safe in file names."""
    try:
        slug = Task.parse(text).slug
    except BadInput:
        return
    assert "/" not in slug


def test_the_protocol_of_office31() -> None:
    office = BENCHMARKS["office31"]
    assert [task.pair for task in office.tasks()] == ["A2W", "A2D", "W2A", "W2D", "D2A", "D2W"]
    assert sum(office.counts.values()) == 4110
    assert office.classes is not None
    assert list(office.classes) == sorted(set(office.classes))


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=lambda b: b.name)
def test_benchmarks_agree_with_themselves(benchmark) -> None:
    assert BENCHMARKS[benchmark.name] is benchmark
    assert set(benchmark.counts) <= set(benchmark.domains)
    if benchmark.classes is not None:
        assert len(set(benchmark.classes)) == len(benchmark.classes) == benchmark.n_classes
    folders = [folder for names in benchmark.domains.values() for folder in names]
    assert len(set(folders)) == len(folders)
    config = Config(alpha=benchmark.alpha, beta=benchmark.beta, n_groups=benchmark.n_groups)
    config.check_classes(benchmark.n_classes)


def test_only_the_glyphs_are_built_in_and_say_what_they_are_not() -> None:
    assert [b.name for b in BENCHMARKS.values() if b.built_in] == ["glyph31", "glyph31-partial"]
    assert "not Office-31" in BENCHMARKS["glyph31"].title
    assert BENCHMARKS["glyph31"].counts == BENCHMARKS["office31"].counts
