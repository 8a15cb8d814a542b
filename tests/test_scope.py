"""One task, several as one, or the winner of another search."""

from pathlib import Path
from typing import Any

import finished
import pytest
import scene

from gsda.errors import BadInput
from gsda.tasks import BENCHMARKS, Task
from gsda.validators import DEFAULT_METRIC
from tune import spec
from tune.choice import choose
from tune.console import Console
from tune.group import Group, grouped, tasks_of
from tune.history import COMPLETE, TRANSFERRED, History
from tune.journal import Journal, read_events
from tune.lines import opening, resume_command
from tune.progress import Progress
from tune.record import Projection
from tune.scope import how_chosen, is_group, members, origin_of, read_origin
from tune.search import main
from tune.settings import Settings, resolve_scope
from tune.shelf import claim
from tune.space import build_space
from tune.table import table

Capture = pytest.CaptureFixture[str]
A2W, W2D, D2W = (Task.parse(f"glyph31/{pair}") for pair in ("A2W", "W2D", "D2W"))
SMALL = {"steps": 6, "evaluate_every": 2, "batch_size": 4}


def test_names_of_a_group() -> None:
    every = Group(tuple(BENCHMARKS["glyph31"].tasks()))
    assert (str(every), every.slug, every.dataset) == ("glyph31/all", "glyph31-all", "glyph31")
    some = grouped([A2W, W2D])
    assert (str(some), some.slug) == ("glyph31/A2W+W2D", "glyph31-A2W_W2D")
    assert (tasks_of(some), tasks_of(A2W)) == ((A2W, W2D), (A2W,))


def test_the_order_of_the_tasks_makes_no_other_search(
    group_spec: dict[str, Any], tmp_path: Path
) -> None:
    assert grouped([W2D, A2W]) == grouped([A2W, W2D])
    assert grouped(BENCHMARKS["glyph31"].tasks()[::-1]).tasks[0] == A2W
    own = [Task("mine", "b", "a"), Task("mine", "a", "b")]
    assert grouped(own).tasks == (own[1], own[0])
    # A journal of before, in the order in which its tasks were named, goes on in that order.
    old = group_spec | {"tasks": group_spec["tasks"][::-1], "task": "glyph31/D2W+W2D"}
    journal = claim(tmp_path, "mine", grouped([W2D, D2W]), old)
    journal.close()
    history = History.of(journal.events)
    cache = Path(group_spec["data"]["cache"])
    again = Settings(resume=True, name="mine", scope="dataset", cache=cache)
    spec.check_resume(grouped([W2D, D2W]), again, history, Console())
    plan = spec.plan_of(history.spec, again, tmp_path, scene.Share("cpu", 1, 0))
    assert [task for task, _ in plan.tasks] == ["glyph31/D2W", "glyph31/W2D"]


def test_tasks_become_one_by_the_scope() -> None:
    assert resolve_scope(["A2W", "W2D"], Settings()) == [A2W, W2D]
    assert resolve_scope(["A2W", "W2D"], Settings(scope="dataset")) == [grouped([A2W, W2D])]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--task A2D --scope dataset", "several tasks, and glyph31/A2D is one: name more of them"),
        ("--task A2D --scope world", "--scope is 'world': choose one of task, dataset, transfer."),
        ("--task A2D --from A2W", "--from names a search whose winner is used: add --scope transf"),
        ("--task A2D --scope transfer", "--scope transfer needs --from: name a search"),
        ("--task A2D --scope transfer --from old --trials 3", "searches nothing: leave --trials"),
        ("--task A2D --scope transfer --from gone", "There is no search named gone in"),
        ("--task A2D --scope transfer --from A2W", "There is no search of glyph31/A2W in"),
        ("--task W2D --scope transfer --from old", "--from old was searched on glyph31/W2D itself"),
        ("--task A2D --scope transfer --from begun", "--from begun has no winner yet: finish it"),
        ("--task A2D --scope transfer --from open", "--from open was searched with --unseal"),
        ("--task A2D --scope transfer --from old --method dann", "is a search of gsda: add --met"),
        ("--task A2D --scope transfer --from old --backbone resnet18", "has the backbone cnn"),
    ],
)
def test_mistakes(
    arguments: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    finished.write(tmp_path / "searches" / "old", name="old")
    finished.write(tmp_path / "searches" / "open", name="open", unsealed=True)
    finished.write(tmp_path / "searches" / "begun", name="begun", trials=20)
    assert main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert sentence in err


# Several tasks as one


@pytest.fixture
def group_spec(cache: Path) -> dict[str, Any]:
    settings = Settings(cache=cache, trials=2, scope="dataset", overrides=SMALL)
    return spec.specify(grouped([W2D, D2W]), settings, Console())


def test_the_spec_of_a_group(group_spec: dict[str, Any]) -> None:
    assert (group_spec["task"], group_spec["scope"]) == ("glyph31/W2D+D2W", "dataset")
    assert [str(task) for task, _ in members(group_spec)] == ["glyph31/W2D", "glyph31/D2W"]
    assert group_spec["images"] == [795 + 498, 498 + 795]
    digests = [digest for _, digest in members(group_spec)]
    assert len({group_spec["digest"], *digests}) == 3
    assert is_group(group_spec)
    assert how_chosen(group_spec) == "its setting is the best in the mean over W2D, D2W"


def test_a_single_task_is_its_own_member(cache: Path) -> None:
    plain = spec.specify(W2D, Settings(cache=cache), Console())
    assert members(plain) == [(W2D, plain["digest"])]
    assert not is_group(plain)
    assert how_chosen(plain) == ""


def test_an_order_names_the_tasks(group_spec: dict[str, Any], tmp_path: Path) -> None:
    journal = claim(tmp_path, None, grouped([W2D, D2W]), group_spec)
    assert journal.path.parent.name == "glyph31-W2D_D2W-001"
    known = History.of(journal.events).spec
    plan = spec.plan_of(known, Settings(), journal.path.parent, scene.Share("cpu", 1, 0))
    progress = Progress(plan, journal, scene.ignore)
    trial = progress.next_trial()
    assert trial is not None
    assert progress.start(trial).tasks == tuple((str(t), d) for t, d in members(known))
    journal.close()


def test_a_group_resumes_as_it_was_begun(group_spec: dict[str, Any], tmp_path: Path) -> None:
    group = grouped([W2D, D2W])
    journal = claim(tmp_path, "mine", group, group_spec)
    journal.close()
    history = History.of(journal.events)
    words = resume_command(history.spec).split()
    assert words[words.index("--task") :] == (
        "--task glyph31/W2D glyph31/D2W --scope dataset --name mine --resume".split()
    )
    again = Settings(
        resume=True, name="mine", scope="dataset", cache=Path(group_spec["data"]["cache"])
    )
    spec.check_resume(group, again, history, Console())
    with pytest.raises(BadInput, match=r"is of glyph31/W2D\+D2W, not of glyph31/A2W\+D2W"):
        spec.check_resume(grouped([D2W, A2W]), again, history, Console())
    with pytest.raises(BadInput, match=r"is of glyph31/W2D\+D2W, not of glyph31/W2D\."):
        spec.check_resume(W2D, again, history, Console())
    history.spec["tasks"][1]["digest"] = "0"
    with pytest.raises(BadInput, match="The images of glyph31/D2W are not those that mine began"):
        spec.check_resume(group, again, history, Console())


def test_what_a_group_says_of_itself(group_spec: dict[str, Any], store: str) -> None:
    events = [{"event": "search", "time": 1.0, "uuid": "5ea4", "spec": group_spec | {"name": "g"}}]
    history = History.of(events)
    said = "\n".join(opening(history, "cpu", 2))
    assert "Search g: glyph31/W2D+D2W, built-in" in said
    assert "each trial trains 2 tasks (W2D, D2W)" in said
    assert f"by the mean of {DEFAULT_METRIC}" in said
    projection = Projection(store)
    projection.apply(events[0], deliver=True)
    assert projection.client.get_experiment_by_name("glyph31/W2D+D2W") is not None
    assert projection.client.get_run(projection.parent).data.tags["tasks"] == "W2D,D2W"


# A winner from elsewhere


@pytest.mark.parametrize(
    ("share", "options", "expected"),
    [
        (0.0, {"metric": "val/dev"}, 0.2),
        (0.0, {"pick": "val/dev"}, 0.2),
        (0.0, {}, 0.0),
        (0.3, {"refit": True}, 0.3),
        (0.3, {"metric": "val/dev"}, 0.3),
        (0.3, {"overrides": {"holdout": 0.1}}, 0.1),
    ],
)
def test_what_is_held_out_of_a_transferred_training(
    share: float,
    options: dict[str, Any],
    expected: float,
    tmp_path: Path,
    cache: Path,
    capsys: Capture,
) -> None:
    base = scene.small_config(holdout=share).to_dict()
    finished.write(tmp_path / "old", name="old", base=base)
    settings = Settings(storage=tmp_path, cache=cache, scope="transfer", origin="old", **options)
    found = spec.specify(D2W, settings, Console())
    configs = [found["base"], *found["references"].values()]
    assert [config["holdout"] for config in configs] == [expected] * 4
    told = "val/dev judges by 20% of the source" in capsys.readouterr().out
    assert told == (share == 0 and bool(options))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--refit", "--refit trains the winner again on all of the source, and all of it is"),
        ("--metric val/dev --holdout 0", "and --holdout is 0: leave it out, or hold out a share"),
    ],
)
def test_a_hold_out_that_is_not_there(
    arguments: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    finished.write(tmp_path / "searches" / "old", name="old")
    assert main(f"--task A2D --scope transfer --from old {arguments}".split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert sentence in err


@pytest.fixture
def transferred(tmp_path: Path, cache: Path) -> dict[str, Any]:
    """The spec of W2D's winner on D2W, with other steps and another seed."""
    finished.write(tmp_path / "old", name="old")
    settings = Settings(
        storage=tmp_path,
        cache=cache,
        scope="transfer",
        origin="old",
        seed=5,
        overrides={"steps": 4},
    )
    return spec.specify(D2W, settings, Console())


def test_the_setting_and_its_origin(transferred: dict[str, Any], tmp_path: Path) -> None:
    history = History.of(read_events(tmp_path / "old" / "journal.log")[0])
    winner = choose(history)
    assert winner is not None
    config = transferred["references"][TRANSFERRED]
    for name in build_space(scene.FIELDS, scene.N_CLASSES):
        assert config[name] == winner.picked.config[name]
    assert (config["steps"], config["seed"]) == (4, 5)
    assert config["batch_size"] == 4  # as in the earlier search
    assert transferred["references"]["paper"]["alpha"] == 0.02
    assert list(transferred["references"]) == ["source-only", "paper", TRANSFERRED]
    assert (transferred["trials"], transferred["metric"]) == (0, "val/bnm")
    assert transferred["origin"] == {
        "search": "old",
        "task": "glyph31/W2D",
        "trial": 13,
        "key": "5ea4c4/0013",
        "metric": "val/bnm",
    }


def test_a_winner_by_the_task_of_its_search(tmp_path: Path) -> None:
    for number in (1, 2):
        name = f"glyph31-W2D-{number:03d}"
        finished.write(tmp_path / name, name=name)
    settings = Settings(storage=tmp_path, scope="transfer", origin="W2D")
    assert read_origin(D2W, settings).describe()["search"] == "glyph31-W2D-002"


def test_the_result_is_the_transferred_setting_whatever_it_scores(
    transferred: dict[str, Any], tmp_path: Path, store: str
) -> None:
    journal = claim(tmp_path, "new", D2W, transferred)
    known = History.of(journal.events).spec
    plan = spec.plan_of(known, Settings(), journal.path.parent, scene.Share("cpu", 1, 0))
    progress = Progress(plan, journal, scene.ignore)
    while (trial := progress.next_trial()) is not None:
        value = 0.1 if trial.kind == TRANSFERRED else 0.9
        progress.start(trial)
        progress.report(trial.number, scene.Report(4, {"val/bnm": value}, 1.0, True))
    history = progress.history
    assert [t.state for t in history.trials.values()] == [COMPLETE] * 3
    chosen = choose(history)
    assert chosen is not None
    assert (chosen.model.kind, history.total) == (TRANSFERRED, 3)
    assert "the setting of old, trial 13" in "\n".join(table(history, "val/bnm"))
    assert "with the setting of old, trial 13" in "\n".join(opening(history, "cpu", 1))
    projection = Projection(store)
    for event in journal.events:
        projection.apply(event, deliver=True)
    runs = projection.client.search_runs([projection.experiment])
    assert len(runs) == 4
    assert {run.data.tags["transferred_from"] for run in runs} == {"old, trial 13"}
    journal.close()
    with pytest.raises(BadInput, match="new searches nothing: leave --trials out"):
        spec.check_resume(D2W, Settings(resume=True, name="new", trials=3), history, Console())


def test_a_transferred_trial_that_failed_has_no_substitute(transferred: dict[str, Any]) -> None:
    spec_ = transferred | {"name": "new"}
    trials = {}
    for number, (kind, config) in enumerate(spec_["references"].items()):
        state = "FAILED" if kind == TRANSFERRED else COMPLETE
        trials[number] = scene_trial(number, kind, config, state)
    assert choose(History(spec_, "u", 0.0, trials)) is None
    assert origin_of(spec_) == "old, trial 13"
    assert how_chosen(spec_) == "its setting was found by old, trial 13, on glyph31/W2D"


def scene_trial(number: int, kind: str, config: dict[str, Any], state: str) -> Any:
    from tune.history import Trial

    return Trial(number, kind, {}, config, {4: {"val/bnm": 0.5}}, state)


def test_a_journal_of_before_has_one_task(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.log")
    journal.append("search", uuid="1", spec=scene.make_spec(scene.small_config(), 2))
    known = History.of(journal.events).spec
    assert members(known) == [(W2D, "0123456789abcdef")]
    assert (is_group(known), origin_of(known)) == (False, "")
    journal.close()
