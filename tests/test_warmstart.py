"""Beginning with an earlier search's knowledge: what is taken, what is refused, what it changes."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import scene
from optuna.trial import TrialState

from gsda.errors import BadInput
from gsda.tasks import Task
from tune.history import COMPLETE, PRUNED, SEARCHED, History
from tune.journal import Journal, read_events
from tune.sampler import STARTUP_TRIALS, fill_study, propose
from tune.search import main
from tune.settings import Settings
from tune.space import build_space, inside
from tune.warmstart import BEST, describe, rank, rank_curves, ranked_trials, read_earlier

SPACE = build_space(scene.FIELDS, scene.N_CLASSES)
TASK = Task.parse(scene.TASK)
OTHER = "glyph31/A2D"
Spec = dict[str, Any]


def search(storage: Path, name: str, trials: int = 12, **changes: Any) -> History:
    """An earlier search that is over."""
    spec = scene.make_spec(scene.small_config(steps=18), trials, seed=3, name=name) | changes
    journal = Journal(storage / name / "journal.log")
    journal.append("search", uuid=f"uuid-{name}", spec=spec)
    progress = scene.resume(journal)
    scene.work(progress)
    journal.close()
    return progress.history


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Searches `same` of the same training and `other` of another task."""
    storage = tmp_path_factory.mktemp("searches")
    search(storage, "same")
    search(storage, "other", task=OTHER, digest="another")
    return storage


def begun_with(storage: Path, *names: str, steps: int = 18) -> Spec:
    """The spec of a search that begins with others."""
    spec = scene.make_spec(scene.small_config(steps=steps), 10, seed=7)
    earlier = read_earlier(TASK, Settings(storage=storage, metric=scene.METRIC, warm_start=names))
    return spec | {"warm": describe(earlier, spec, SPACE)}


def history_of(spec: Spec) -> History:
    return History(spec=spec, uuid="u")


def proposals(spec: Spec, folder: Path) -> list[dict[str, float]]:
    """What the search of that spec tries, one trial after another."""
    journal = Journal(folder / "journal.log")
    journal.append("search", uuid="u", spec=spec)
    progress = scene.resume(journal)
    scene.work(progress)
    journal.close()
    return [t.values for t in progress.history.trials.values() if t.kind == SEARCHED]


def test_the_best_of_the_earlier_search_are_tried_first(storage: Path, tmp_path: Path) -> None:
    spec = begun_with(storage, "same")
    tried = proposals(spec, tmp_path)
    earlier = History.of(read_events(storage / "same" / "journal.log")[0])
    finished = [t for t in earlier.in_state(COMPLETE) if t.kind == SEARCHED]
    finished.sort(key=lambda t: (-(t.value(scene.METRIC) or 0), t.number))
    wanted = [trial.values for trial in finished[:BEST]]
    assert spec["warm"]["first"] == wanted
    assert len(wanted) > 0
    assert tried[: len(wanted)] == wanted
    assert len({tuple(values.values()) for values in tried}) == len(tried) == 10


def test_of_several_searches_the_best_of_each_come_first(storage: Path) -> None:
    one, two = (begun_with(storage, name)["warm"]["first"] for name in ("same", "other"))
    both = begun_with(storage, "same", "other")["warm"]["first"]
    assert one == two  # the pretended training does not depend on the task
    assert both == one  # and each setting is tried once
    assert all(inside(values, SPACE) for values in both)


def test_nothing_of_the_other_folder_is_needed_afterwards(storage: Path, tmp_path: Path) -> None:
    """The proposals of a search that was killed after each event are those of a whole one."""
    spec = begun_with(storage, "same", "other")
    whole = proposals(spec, tmp_path / "whole")
    journal = Journal(tmp_path / "torn" / "journal.log")
    journal.append("search", uuid="u", spec=spec)
    for _ in range(200):
        progress = scene.resume(journal)
        trial = progress.next_trial()
        if trial is None:
            break
        for report in scene.reports(progress.start(trial)):
            if progress.report(trial.number, report):
                break
        journal.close()
        journal = Journal(journal.path)
    journal.close()
    history = History.of(read_events(journal.path)[0])
    assert [t.values for t in history.trials.values() if t.kind == SEARCHED] == whole


def study_of(history: History) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    fill_study(study, history, SPACE, scene.METRIC)
    return study


def test_earlier_trials_enter_the_study_with_their_states(storage: Path) -> None:
    earlier = History.of(read_events(storage / "other" / "journal.log")[0])
    study = study_of(history_of(begun_with(storage, "other")))
    known = [t for t in earlier.trials.values() if inside(t.values, SPACE) and t.reports]
    known = [t for t in known if t.state in (COMPLETE, PRUNED)]
    assert [t.params for t in study.trials] == [t.values for t in known]
    states = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED}
    assert [t.state for t in study.trials] == [states[t.state] for t in known]
    assert len(known) >= STARTUP_TRIALS
    assert [t.user_attrs["gsda.trial"] for t in study.trials] == [
        f"uuid-other/{t.number:04d}" for t in known
    ]
    done = [t for t in study.trials if t.state == TrialState.COMPLETE]
    scores = {t.number: t.value(scene.METRIC) or 0 for t in known}
    order = [
        scores[int(t.user_attrs["gsda.trial"][-4:])] for t in sorted(done, key=lambda t: t.value)
    ]
    assert order == sorted(order)


def change_scores(spec: Spec, name: str, change: Callable[[float], float]) -> Spec:
    changed = copy.deepcopy(spec)
    for search in changed["warm"]["searches"]:
        if search["name"] == name:
            for trial in search["trials"]:
                trial["scores"] = {s: change(v) for s, v in trial["scores"].items()}
    return changed


@pytest.mark.parametrize("change", [lambda v: v + 100, lambda v: 7 * v - 3, lambda v: v**3])
def test_the_level_of_another_tasks_scores_changes_nothing(
    storage: Path, tmp_path: Path, change: Callable[[float], float]
) -> None:
    spec = begun_with(storage, "other")
    plain = proposals(spec, tmp_path / "plain")
    shifted = proposals(change_scores(spec, "other", change), tmp_path / "shifted")
    assert shifted == plain
    worse = proposals(change_scores(spec, "other", lambda v: -v), tmp_path / "worse")
    assert worse[BEST:] != plain[BEST:]  # but their order does


def test_the_same_training_is_compared_by_its_scores(storage: Path) -> None:
    spec = begun_with(storage, "same", "other")
    assert [s["comparable"] for s in spec["warm"]["searches"]] == [True, False]
    longer = begun_with(storage, "same", steps=36)["warm"]["searches"]
    assert [s["comparable"] for s in longer] == [False]
    history = history_of(spec)
    scene_trials = History.of(read_events(storage / "same" / "journal.log")[0]).trials
    own = {1: copy.deepcopy(scene_trials[1])}
    for metrics in own[1].reports.values():
        metrics[scene.METRIC] = 50.0  # better than all
    known, ranks = ranked_trials(history.spec["warm"], own, scene.METRIC, 18)
    done = [k for k in known if k.state == COMPLETE]
    same = [k.scores[max(k.scores)] for k in done if k.key.startswith("uuid-same")]
    assert ranks[1][18] > max(same)
    other = [k.scores[max(k.scores)] for k in done if k.key.startswith("uuid-other")]
    assert max(same) < max(other)  # its best is the second of two searches now, theirs still first


def test_steps_are_in_proportion(storage: Path) -> None:
    spec = begun_with(storage, "other", steps=36)
    known, _ = ranked_trials(spec["warm"], {}, scene.METRIC, 36)
    assert max(max(k.scores) for k in known) == 36
    assert min(min(k.scores) for k in known) == 4


def test_ranks() -> None:
    assert [rank(v, [1.0, 2.0, 2.0, 5.0]) for v in (1.0, 2.0, 5.0)] == [0.125, 0.5, 0.875]
    curves = [{1: 3.0, 2: 1.0}, {1: 1.0, 2: 2.0}, {1: 2.0}]
    ranked = rank_curves(curves, [COMPLETE, COMPLETE, PRUNED])
    assert ranked[0] == {1: 2.5 / 3, 2: 0.25}
    assert ranked[1] == {1: 0.5 / 3, 2: 0.75}
    assert ranked[2] == {1: 0.5}


def test_without_earlier_searches_nothing_is_other(storage: Path) -> None:
    history = History.of(read_events(storage / "same" / "journal.log")[0])
    study = study_of(history)
    values = {t.user_attrs["gsda.trial"]: t.value for t in study.trials if t.value is not None}
    assert values == {
        history.key(t.number): t.value(scene.METRIC)
        for t in history.in_state(COMPLETE)
        if t.kind != "source-only"
    }
    assert propose(history, SPACE, scene.METRIC, 3, 14) == propose(
        copy.deepcopy(history), SPACE, scene.METRIC, 3, 14
    )


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Searches that cannot help."""
    storage = tmp_path_factory.mktemp("odd")
    search(storage, "good", 2)
    search(storage, "pacs", 1, dataset="pacs", task="pacs/P2A")
    search(storage, "im", 1, metric="val/im")
    search(storage, "lr", 1, search=["alpha", "lr"])
    base = scene.small_config(steps=18, method="dann").to_dict()
    search(storage, "dann", 1, base=base)
    journal = Journal(storage / "new" / "journal.log")
    journal.append("search", uuid="x", spec=scene.make_spec(scene.small_config(), 2, name="new"))
    journal.close()
    return storage


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("gone", "There is no search named gone in"),
        ("../good", "--warm-start is '../good': use letters"),
        ("good good", "--warm-start good is given twice: leave one out."),
        ("good pacs", "--warm-start pacs is a search of pacs/P2A, and this one is of glyph31/W2D"),
        ("im", "--warm-start im searched by val/im, and this one by val/bnm: add --metric val/im"),
        ("lr", "--warm-start lr searched alpha,lr, and this one alpha,beta,n_groups,tau: add --se"),
        ("dann", "--warm-start dann is a search of dann, and this one of gsda: choose a search of"),
        ("new", "--warm-start new has no finished trial yet: finish it with --resume"),
    ],
)
def test_mistakes(names: str, sentence: str, odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for name in names.split() for word in ("--warm-start", name)]
    assert main(["--task", "W2D", "--storage", str(odd), "--metric", scene.METRIC, *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1


def test_a_search_of_other_ranges_is_refused(odd: Path) -> None:
    earlier = read_earlier(TASK, Settings(storage=odd, metric=scene.METRIC, warm_start=("good",)))
    spec = scene.make_spec(scene.small_config(), 2)
    with pytest.raises(BadInput, match="good has no finished trial within the ranges"):
        describe(earlier, spec, SPACE | {"tau": build_space(["beta"], 31)["beta"].__class__(2, 3)})
