"""Task names, and the table of benchmarks."""

import re
from pathlib import Path

import pytest

from gsda.config import Config
from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, OFFICE31_CLASSES, Task, own_task, slug


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
    assert [b.name for b in BENCHMARKS.values() if b.built_in] == [
        "glyph31",
        "glyph31-hard",
        "glyph31-partial",
    ]
    assert "not Office-31" in BENCHMARKS["glyph31"].title
    assert BENCHMARKS["glyph31"].counts == BENCHMARKS["office31"].counts


def test_the_papers_settings() -> None:
    """Section 3.1 of the paper: alpha, beta and the number of groups."""
    settings = {name: (b.alpha, b.beta, b.n_groups) for name, b in BENCHMARKS.items()}
    assert settings["office31"] == (0.02, 1.0, 6)
    assert settings["office-home"] == (0.02, 1.0, 13)
    assert settings["visda2017"] == (0.2, 10.0, 4)
    assert settings["office31-partial"] == (0.2, 10.0, 6)


def test_published_totals() -> None:
    totals = {name: sum(b.counts.values()) for name, b in BENCHMARKS.items()}
    assert totals["office-home"] == 15588
    assert totals["office-caltech10"] == 2533
    assert totals["pacs"] == 9991
    assert BENCHMARKS["visda2017"].counts == {"S": 152397, "R": 55388}
    assert BENCHMARKS["digits"].counts == {"M": 60000, "U": 7291, "S": 73257}
    assert BENCHMARKS["office31-partial"].target_counts == {"A": 958, "W": 295, "D": 157}


def test_task_lists() -> None:
    numbers = {name: len(benchmark.tasks()) for name, benchmark in BENCHMARKS.items()}
    assert numbers["office31"] == numbers["office31-partial"] == numbers["glyph31-partial"] == 6
    assert numbers["office-home"] == numbers["office-caltech10"] == numbers["pacs"] == 12
    assert [str(task) for task in BENCHMARKS["visda2017"].tasks()] == ["visda2017/S2R"]
    with pytest.raises(BadInput, match=r"^Unknown task 'R2S' of visda2017: choose one of S2R\.$"):
        Task.parse("visda2017/R2S")


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=lambda b: b.name)
def test_counts_agree_with_each_other(benchmark) -> None:
    assert set(benchmark.counts) == set(benchmark.domains)
    for domain, numbers in benchmark.class_counts.items():
        assert len(numbers) == benchmark.n_classes
        assert sum(numbers) == benchmark.counts[domain]
    assert bool(benchmark.target_classes) == bool(benchmark.target_counts)
    assert set(benchmark.target_classes) < set(range(benchmark.n_classes))
    assert benchmark.origin


def test_partial_office31_keeps_the_classes_shared_with_caltech() -> None:
    partial = BENCHMARKS["office31-partial"]
    kept = [OFFICE31_CLASSES[k] for k in partial.target_classes]
    assert len(kept) == 10
    assert {"back_pack", "laptop_computer", "projector"} < set(kept)
    assert "stapler" not in kept


def test_own_task_has_slugs_for_names(tmp_path: Path) -> None:
    folder = tmp_path / "Meine Bücher (neu)"
    task = own_task(folder, "catalogue/", "phone")
    assert str(task) == "Meine-Bucher-neu/catalogue2phone"
    assert own_task(folder, "catalogue", "phone", "books") == Task("books", "catalogue", "phone")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("Real World", "Produkte é"),
        ("写真", "スケッチ"),
        ("photos2024", "phone"),
        ("a", "b2c"),
        ("a 2 b", "a--2--b"),
        ("2", "two"),
        ("x y", "x-y"),
        ("...", "---"),
    ],
)
def test_own_tasks_survive_their_names(tmp_path: Path, source: str, target: str) -> None:
    task = own_task(tmp_path / "données", source, target)
    assert Task.parse(str(task)) == task
    assert task.source != task.target
    assert "/" not in task.slug


def test_names_without_a_letter_keep_apart() -> None:
    assert slug("写真") != slug("スケッチ")
    assert slug("é") == "e"
    assert slug("e\u0301") == slug("\u00e9")


def test_own_folder_called_like_a_benchmark(tmp_path: Path) -> None:
    assert own_task(tmp_path / "office31", "a", "b").dataset == "own-office31"
    with pytest.raises(BadInput, match=r"--dataset 'office31' cannot name your own data"):
        own_task(tmp_path, "a", "b", "office31")
    with pytest.raises(BadInput, match=r"--dataset 'a/b' cannot name"):
        own_task(tmp_path, "a", "b", "a/b")
    with pytest.raises(BadInput, match=r"^--source and --target are both 'a': name two"):
        own_task(tmp_path, "a", "a/")


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=lambda b: b.name)
def test_counts_of_classes_add_up(benchmark) -> None:
    for domain, counts in benchmark.class_counts.items():
        assert len(counts) == benchmark.n_classes
        assert sum(counts) == benchmark.counts[domain]
        if benchmark.target_classes:
            kept = [counts[k] for k in benchmark.target_classes]
            assert sum(kept) == benchmark.target_counts[domain]


def test_office31_and_office_caltech10_share_ten_classes() -> None:
    """Two publications of the same images must not contradict each other."""
    partial, ten = BENCHMARKS["office31-partial"], BENCHMARKS["office-caltech10"]
    assert BENCHMARKS["office31"].counts == {"A": 2817, "W": 795, "D": 498}
    for domain in ("A", "W", "D"):
        counts = partial.class_counts[domain]
        assert tuple(counts[k] for k in partial.target_classes) == ten.class_counts[domain]
