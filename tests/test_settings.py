"""The options of a search: every mistake has its sentence, and the flags alone fix the dataset."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gsda.errors import BadInput
from gsda.tasks import Task
from gsda.validators import DEFAULT_METRIC, PARTIAL_METRIC
from tune.settings import Settings, resolve_tasks

DATA = Path("some/where")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"trials": 0}, "--trials is 0, but must be at least 1."),
        ({"trials": -3}, "--trials is -3, but must be at least 1."),
        ({"max_hours": -1.0}, "--max-hours is -1.0, but must be over 0."),
        ({"max_hours": 0.0}, "--max-hours is 0.0, but must be over 0."),
        ({"seed": -1}, "--seed is -1, but must be in"),
        ({"seed": 2**63}, "but must be in"),
        ({"max_failures": -1}, "--max-failures is -1, but must be at least 0."),
        ({"cpus_per_trial": 0.0}, "--cpus-per-trial is 0.0, but must be over 0."),
        ({"gpus_per_trial": -1.0}, "--gpus-per-trial is -1.0, but must be at least 0."),
        ({"name": "../up"}, "--name is '../up': use letters"),
        ({"name": ""}, "--name is '': use letters"),
        ({"name": "x" * 101}, "use letters"),
        ({"name": ".hidden"}, "beginning with a letter or digit."),
        ({"metric": "val/magic"}, "Unknown metric 'val/magic': choose one of val/bnm"),
        ({"metric": "bnm"}, "Unknown metric 'bnm'"),
        ({"metric": "loss/C"}, "Unknown metric 'loss/C'"),
        (
            {"metric": "oracle/target_accuracy"},
            "oracle/target_accuracy reads target labels, which a user does not have",
        ),
        ({"backbone": "vgg"}, "Unknown backbone 'vgg': choose one of cnn, resnet18"),
        ({"overrides": {"tau": 1.0}}, r"tau is 1.0, but must be in \[0, 1\)."),
        ({"overrides": {"tau": -0.1}}, r"tau is -0.1, but must be in \[0, 1\)."),
        ({"overrides": {"alpha": -1.0}}, "alpha is -1.0, but must be zero or more"),
        ({"overrides": {"beta": -1.0}}, "beta is -1.0, but must be zero or more"),
        ({"overrides": {"alpha": float("nan")}}, "alpha is nan"),
        ({"overrides": {"steps": 0}}, "steps is 0, but must be at least 1."),
        ({"overrides": {"batch_size": 1}}, "batch_size is 1, but must be at least 2"),
        ({"overrides": {"n_groups": 0}}, "n_groups is 0, but must be at least 1."),
        ({"overrides": {"sync": "odd"}}, "sync is 'odd', but must be one of batch"),
        ({"overrides": {"holdout": 1.0}}, r"holdout is 1.0, but must be in \[0, 1\)."),
        (
            {"metric": "val/dev", "overrides": {"holdout": 0.0}},
            "val/dev judges by labelled images .* --holdout is 0: leave it out",
        ),
        (
            {"pick": "mean-rank:bnm,source_accuracy", "overrides": {"holdout": 0.0}},
            "val/source_accuracy judges by labelled images",
        ),
        ({"refit": True}, "--refit trains the winner again on all of the source, and all of it"),
        ({"refit": True, "overrides": {"holdout": 0.0}}, "it belongs to a --holdout"),
        ({"search": ("alpha", "steps")}, "--search 'steps' cannot be searched: choose from alpha"),
        ({"search": ("",)}, "--search '' cannot be searched"),
    ],
)
def test_each_mistake_has_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence) as caught:
        Settings(**options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("options", "dataset"),
    [
        ({}, "glyph31"),
        ({"data": DATA}, "office31"),
        ({"dataset": "office-caltech10", "data": DATA}, "office-caltech10"),
        ({"dataset": "own", "data": DATA}, "own"),
    ],
)
def test_the_dataset_follows_from_the_flags(options: dict[str, Any], dataset: str) -> None:
    assert Settings(**options).chosen_dataset == dataset
    assert str(resolve_tasks(["A2D"], Settings(**options))[0]) == f"{dataset}/A2D"


def test_the_dataset_does_not_follow_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("amazon", "dslr", "data/amazon", "office31/amazon"):
        (tmp_path / name / "bike").mkdir(parents=True)
    assert str(resolve_tasks(["A2D"], Settings())[0]) == "glyph31/A2D"
    # and a folder that is not there is no reason to take another dataset
    assert str(resolve_tasks(["A2D"], Settings(data=Path("gone")))[0]) == "office31/A2D"


def test_qualified_ids_name_their_dataset() -> None:
    assert str(resolve_tasks(["glyph31/W2D"], Settings())[0]) == "glyph31/W2D"
    with_data = Settings(data=DATA)
    assert str(resolve_tasks(["office-caltech10/C2A"], with_data)[0]) == "office-caltech10/C2A"
    assert str(resolve_tasks(["own/left2right"], with_data)[0]) == "own/left2right"


def test_all_means_every_pair_of_the_chosen_dataset() -> None:
    tasks = [str(task) for task in resolve_tasks(["all"], Settings())]
    assert len(set(tasks)) == 6
    assert {task.partition("/")[0] for task in tasks} == {"glyph31"}
    settings = Settings(dataset="office-caltech10", data=DATA)
    assert len(resolve_tasks(["all"], settings)) == 12


def test_a_task_named_twice_is_run_once() -> None:
    tasks = resolve_tasks(["A2D", "glyph31/A2D", "A2W", "all"], Settings())
    assert [task.pair for task in tasks[:2]] == ["A2D", "A2W"]
    assert len(tasks) == 6


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("A2X", {}, "Unknown task 'A2X' of glyph31: choose one of A2W"),
        ("amazon", {}, "Unknown task 'amazon'"),
        ("A2A", {}, "same source and target"),
        ("glyph31/A2A", {}, "same source and target"),
        ("A2D", {"dataset": "office32"}, "Unknown dataset 'office32': choose one of glyph31"),
        ("all", {"dataset": "office32"}, "Unknown dataset 'office32': choose one of glyph31"),
        ("A2D", {"dataset": "../x", "data": DATA}, "Unknown dataset '../x'"),
        ("A2D", {"dataset": "glyph31", "data": DATA}, "glyph31 is built in: leave --data out"),
        ("glyph31/A2D", {"data": DATA}, "glyph31 is built in: leave --data out"),
        ("A2D", {"dataset": "office31"}, "office31 is not built in: give the folder"),
        ("office31/A2D", {}, "office31 is not built in: give the folder"),
        ("office31/A2D", {"dataset": "glyph31"}, "not of --dataset glyph31: leave one out"),
        ("own/left", {"data": DATA}, "no task: write dataset/SOURCE2TARGET"),
        ("own/a2a", {"data": DATA}, "same source and target"),
    ],
)
def test_wrong_tasks_are_refused(text: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence) as caught:
        resolve_tasks([text], Settings(**options))
    assert "\n" not in str(caught.value)


def test_places_are_what_a_resume_must_repeat() -> None:
    assert Settings().places() == []
    told = Settings(storage=Path("kept here"), tracking_uri="http://mlflow:5000").places()
    assert told == ["--storage", "kept here", "--tracking-uri", "http://mlflow:5000"]
    secret = Settings(tracking_uri="http://me:secret@mlflow:5000").places()
    assert secret == ["--tracking-uri", "http://mlflow:5000"]


def test_choices_fall_back_to_defaults() -> None:
    letters = Task.parse("glyph31/A2D")
    assert Settings().metric_of(letters) == DEFAULT_METRIC
    assert Settings(metric="val/im").metric_of(letters) == "val/im"
    assert Settings().chosen_fields == ("alpha", "beta", "n_groups", "tau")
    assert Settings(search=("lr",)).chosen_fields == ("lr",)
    assert Settings().chosen_max_failures == 2
    assert Settings(max_failures=0).chosen_max_failures == 0
    assert Settings(cache=Path("here")).chosen_cache == Path("here")


@pytest.mark.parametrize(
    ("task", "overrides"),
    [
        ("glyph31-partial/A2D", {}),
        ("office31-partial/A2D", {}),
        ("glyph31/A2D", {"class_weighting": "pada"}),
        ("own/a2b", {"class_weighting": "pada"}),
    ],
)
def test_the_source_s_proportions_do_not_guide_a_partial_task(
    task: str, overrides: dict[str, Any]
) -> None:
    assert Settings(overrides=overrides).metric_of(Task.parse(task)) == PARTIAL_METRIC
    said = Settings(overrides=overrides, metric="val/guarded_ami")
    assert said.metric_of(Task.parse(task)) == "val/guarded_ami"


def test_texts_are_taken_for_paths() -> None:
    settings = Settings(data="some/where", storage="kept", cache="decoded")
    assert (settings.data, settings.storage, settings.cache) == (
        DATA,
        Path("kept"),
        Path("decoded"),
    )


# A task of one's own


def test_two_folders_make_a_task(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "shop", source="catalogue", target="phone")
    (task,) = resolve_tasks([], settings)
    assert str(task) == "shop/catalogue2phone"


@pytest.mark.parametrize(
    ("options", "texts", "sentence"),
    [
        ({"source": "a", "target": "b"}, [], "give all three"),
        ({"data": "shop", "source": "a"}, [], "give all three"),
        ({"data": "shop", "target": "b"}, [], "give all three"),
        ({"data": "shop", "source": "a", "target": "b"}, ["A2D"], "leave --task out"),
        ({}, [], "No task is named"),
    ],
)
def test_half_a_task_of_one_s_own(options: dict[str, str], texts: list[str], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        resolve_tasks(texts, Settings(**options))


@pytest.mark.parametrize("storage", ["s3://bucket/searches", "gs://bucket", "file:///tmp/x"])
def test_a_storage_that_is_a_uri_becomes_a_working_copy(storage: str, tmp_path: Path) -> None:
    settings = Settings(storage=storage, cache=tmp_path)  # type: ignore[arg-type]
    assert settings.remote == storage
    assert settings.storage.parent == tmp_path / "remote"
    assert settings.places() == ["--storage", storage]
    assert replace(settings, name="x").remote == storage
    with pytest.raises(BadInput, match="must be a folder here: mount the store"):
        Settings(storage=Path(storage))  # a path has lost a slash
    assert Settings(storage=Path("odd:name")).remote is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("gpus", [1.5, 2.25])
def test_more_than_one_gpu_is_whole(gpus: float) -> None:
    with pytest.raises(BadInput, match="must be a part of one, or a whole number"):
        Settings(gpus_per_trial=gpus)
    assert Settings(gpus_per_trial=0.25).gpus_per_trial == 0.25


def test_the_dashboard_is_of_a_ray_of_one_s_own() -> None:
    with pytest.raises(BadInput, match="leave it out with --address"):
        Settings(dashboard=True, address="auto")
