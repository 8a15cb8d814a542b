"""`--method NAME`: any method is searched by the same search, and has names of its own."""

import shutil
from pathlib import Path

import pytest
from faults.rig import ONE_AT_A_TIME
from mlflow.exceptions import MlflowException
from test_whole_search import SCRIPT, SMALL, Place

from gsda.config import Config
from gsda.errors import BadInput
from gsda.methods import METHODS
from gsda.tasks import Task
from tune import spec
from tune.console import Console
from tune.history import PAPER, SEARCHED, SOURCE_ONLY, History
from tune.journal import read_events
from tune.settings import Settings
from tune.space import SEARCHABLE, build_space

TASK = Task.parse("glyph31/W2D")


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_searches_has_a_range(name: str) -> None:
    settings = Settings(overrides={"method": name, "features": "frozen"})
    assert settings.chosen_fields == METHODS[name].searched
    assert set(METHODS[name].fields) <= set(SEARCHABLE)
    assert list(build_space(settings.chosen_fields, 31)) == list(METHODS[name].searched)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"overrides": {"method": "dannn"}}, "Unknown method 'dannn': choose one of gsda"),
        ({"overrides": {"method": "tca"}}, "fitted to frozen features, but features is 'trained'"),
        (
            {"overrides": {"method": "dann", "alpha": 0.1}},
            "--alpha means nothing to dann: choose from lambda_max, lr, backbone_lr, weight_decay.",
        ),
        ({"overrides": {"method": "dann"}, "search": ("lr", "tau")}, "--search tau means nothing"),
        ({"overrides": {"method": "tca", "features": "frozen", "lambda_max": 1.0}}, "--lambda-max"),
        (
            {"overrides": {"method": "gfk", "features": "frozen"}, "finetune_top": 1},
            "--finetune-top trains end to end, and gfk only fits frozen features: leave it out.",
        ),
        ({"overrides": {"method": "dan", "class_weighting": "pada"}}, "'dan' has no place for"),
    ],
)
def test_what_means_nothing_to_a_method_is_refused(
    options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence):
        Settings(**options)  # type: ignore[arg-type]


def test_a_resume_need_not_repeat_the_method() -> None:
    Settings(resume=True, overrides={"features": "frozen", "lambda_max": 1.0})
    with pytest.raises(BadInput, match="--alpha means nothing to dann"):
        Settings(resume=True, overrides={"method": "dann", "alpha": 1.0})


def specified(cache: Path, **overrides: object) -> dict[str, object]:
    sizes = {"steps": 6, "evaluate_every": 2}
    settings = Settings(cache=cache, overrides=overrides | sizes)
    return spec.specify(TASK, settings, Console())


def test_references_of_a_method(cache: Path) -> None:
    told = specified(cache, method="dann")
    assert told["search"] == ["lambda_max", "lr"]
    assert not told["as_in_paper"]
    references = {k: Config.from_dict(v) for k, v in told["references"].items()}
    assert {k: c.method for k, c in references.items()} == {
        SOURCE_ONLY: "source_only",
        PAPER: "dann",
    }
    assert references[PAPER].lambda_max == 1.0
    assert specified(cache)["as_in_paper"]


def test_source_only_is_its_own_reference(cache: Path) -> None:
    told = specified(cache, method="source_only")
    assert list(told["references"]) == [SOURCE_ONLY]
    assert told["base"] == told["references"][SOURCE_ONLY]


def test_a_search_by_another_method(tmp_path: Path, cache: Path, empty_store: Path) -> None:
    """Its name, its trials, its model: nothing of it stands where GSDA's would."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    place = Place(tmp_path, cache)
    begin = [*SMALL, "--method", "dann", "--trials", "1", "--promote", *ONE_AT_A_TIME]
    status, out, err = place.run(SCRIPT, *begin)
    assert (status, err) == (0, "")
    assert "Search glyph31-W2D-dann-001: glyph31/W2D" in out
    assert "searching lambda_max, lr of DANN by val/" in out
    assert "Model dann-glyph31-W2D: version 1 is the champion." in out
    status, out, err = place.run(
        SCRIPT, "--task", "W2D", "--method", "dann", "--resume", "--trials", "2", *ONE_AT_A_TIME
    )
    assert (status, err) == (0, "")
    journal = tmp_path / "searches" / "glyph31-W2D-dann-001" / "journal.log"
    history = History.of(read_events(journal)[0])
    assert [t.kind for t in history.trials.values()] == [SOURCE_ONLY, PAPER, SEARCHED, SEARCHED]
    assert [t.config["method"] for t in history.trials.values()] == ["source_only"] + 3 * ["dann"]
    for trial in history.of_kind(SEARCHED):
        assert set(trial.values) == {"lambda_max", "lr"}
        assert trial.config == history.spec["base"] | trial.values
    assert place.client.get_registered_model("dann-glyph31-W2D").tags["method"] == "dann"
    with pytest.raises(MlflowException, match="gsda-glyph31-W2D not found"):
        place.client.get_registered_model("gsda-glyph31-W2D")
    parents = [run for run in place.runs() if "gsda.search" in run.data.tags]
    assert [run.data.tags["method"] for run in parents] == ["dann"]
    status, _, err = place.run(SCRIPT, "--task", "W2D", "--resume")
    assert status == 2
    assert "There is no search of glyph31/W2D in" in err
