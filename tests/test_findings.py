"""What a search found, on figures made up so that each can be told in advance."""

import json
import math

import finished
import pytest
import scene

from tune.findings import LEAST, STEP_REGRET, find, importance, step_picks, step_regrets
from tune.history import COMPLETE, REFITTED, History
from tune.report import regrets, summary


def test_the_trials_worth_a_look() -> None:
    found = find(finished.history())
    rows = {row.role: row.trial.number for row in found.rows}
    # Alpha is largest in trial 13, and its accuracy has fallen; in trial 11 it is 0.076.
    assert rows == {"chosen": 13, "paper": 1, "source-only": 0, "oracle": 11}
    assert [row.title for row in found.rows] == [
        "chosen",
        "the paper's setting",
        "source-only",
        "best by labels",
    ]
    assert find(finished.history(as_in_paper=False)).rows[1].title == "the given setting"


def test_regret_in_points() -> None:
    history = finished.history()
    found = find(history)
    best, mine = (history.trials[n].final["oracle/target_accuracy"] for n in (11, 13))
    assert found.regret == pytest.approx(100 * (best - mine))
    # 20 points for the two largest alphas, less a quarter of what two steps of alpha bring.
    assert found.regret == pytest.approx(20 - 2.5 * math.log10(200 ** (2 / 11)))
    assert found.class_regret == pytest.approx(found.regret)


def test_the_rule_may_be_another_than_the_metric() -> None:
    found = find(finished.history(pick="val/im"))  # which is the metric's negative
    assert {row.role: row.trial.number for row in found.rows}["chosen"] == 0
    assert (found.metric, found.rule) == ("val/bnm", "val/im")


def test_without_labels_nothing_is_said_of_them() -> None:
    found = find(finished.history(labels=False))
    assert (found.regret, found.class_regret, found.has_labels) == (None, None, False)
    assert (found.judged, found.mean_step_regret) == ([], {})
    assert [row.role for row in found.rows] == ["chosen", "paper", "source-only"]
    assert [entry.regret for entry in found.steps] == [None, None]


def test_labels_change_nothing_but_what_is_said_of_them() -> None:
    with_labels, without = (find(finished.history(labels=known)) for known in (True, False))
    assert with_labels.importance == without.importance
    for mine, other in zip(with_labels.rows, without.rows, strict=False):
        assert (mine.role, mine.trial.number) == (other.role, other.trial.number)


def test_which_step_is_the_model() -> None:
    trial = finished.history().trials[13]
    picks = step_picks(trial)
    assert [(p.title, p.step, p.kept) for p in picks] == [
        ("last step", 6, True),
        ("best by val/bnm", 6, False),
        ("best by target labels", 4, False),
    ]
    assert [p.regret for p in picks] == pytest.approx([2.0, 2.0, 0.0])
    assert step_regrets(trial) == pytest.approx({"last": 2.0, "best": 2.0})
    assert step_regrets(finished.history(labels=False).trials[13]) == {}


def test_mean_regret_of_the_steps_is_over_the_finished_trials() -> None:
    assert find(finished.history()).mean_step_regret == pytest.approx({"last": 2.0, "best": 2.0})


def test_scores_are_judged_by_the_labels() -> None:
    history = finished.history()
    judged = {entry.name: entry for entry in find(history).judged}
    assert list(judged) == ["val/bnm", "val/im", "val/none"]
    # Without ties it is 1 - 6 sum d^2 / (n (n^2 - 1)), d the differences of the ranks.
    finals = [trial.final for trial in history.in_state(COMPLETE)]
    scores = [f["val/bnm"] for f in finals]
    labels = [f["oracle/target_accuracy"] for f in finals]
    n = len(finals)
    d = sum(
        (sorted(scores).index(s) - sorted(labels).index(a)) ** 2
        for s, a in zip(scores, labels, strict=True)
    )
    assert judged["val/bnm"].correlation == pytest.approx(1 - 6 * d / (n * (n * n - 1)))
    assert judged["val/im"].correlation == pytest.approx(-(judged["val/bnm"].correlation or 0))
    assert judged["val/none"].correlation is None
    assert judged["val/im"].pick.number == 0
    assert judged["val/bnm"].pick.number == 13


def test_importance_finds_the_field_that_decides() -> None:
    found = importance(finished.history())
    assert (found.trials, found.reason) == (13, "")
    assert next(iter(found.shares)) == "alpha"
    assert found.shares["alpha"] > 0.8
    assert sum(found.shares.values()) == pytest.approx(1)
    assert set(found.shares) == set(scene.FIELDS)
    assert importance(finished.history()) == found


def test_a_log_range_counts_in_its_logarithm() -> None:
    """The score is linear in log alpha: where alpha is drawn evenly, it is all of the variance."""
    history = finished.history()
    for trial in history.trials.values():
        trial.values["tau"] = 0.5 + trial.values["beta"] / 20
    assert importance(history).shares["alpha"] > 0.8


def test_too_few_trials_have_no_importance() -> None:
    history = finished.history()
    for number in range(9, 15):
        del history.trials[number]
    found = importance(history)
    assert found.shares == {}
    assert found.reason == f"too few settings finished: {found.trials}, of {LEAST} at least"


def test_equal_scores_have_no_importance() -> None:
    history = finished.history()
    for trial in history.trials.values():
        for metrics in trial.reports.values():
            metrics["val/bnm"] = 0.5
    assert importance(history).reason == "all settings came to the same score"


def test_fields_are_those_that_were_searched() -> None:
    found = find(finished.history(search=["alpha", "n_groups"]))
    assert found.fields == ["alpha", "n_groups"]
    assert set(found.importance.shares) == {"alpha", "n_groups"}


def test_a_search_that_has_hardly_begun() -> None:
    found = find(History.of(finished.events()[:3]))
    assert (found.rows, found.steps, found.choice, found.is_over) == ([], [], None, False)
    assert found.importance.reason.startswith("too few settings finished: 0, of")


def test_plain_values() -> None:
    from tune.findings import as_json

    plain = json.loads(json.dumps(as_json(find(finished.history()))))
    assert plain["rows"]["source-only"]["setting"]["alpha"] is None
    assert plain["rows"]["chosen"]["setting"]["alpha"] == pytest.approx(0.2)
    assert plain["by_target_labels"]["regret_points"] > 0
    assert plain["trials"] == {"COMPLETE": 14, "PRUNED": 1, "FAILED": 1, "OPEN": 0, "total": 16}
    assert as_json(find(finished.history(labels=False)))["by_target_labels"] is None


def refitted(select: str) -> History:
    """A search by a score of a hold-out, and the winner's refit, which has no such score."""
    events = finished.events(refit=True, metric="val/dev", select=select)[:-1]
    for event in events:
        if event["event"] == "report":
            event["metrics"] = event["metrics"] | {"val/dev": event["metrics"]["val/bnm"]}
    config = next(e["config"] for e in events if e["event"] == "ask" and e["trial"] == 13)
    again = finished.trial(16, REFITTED, config | {"holdout": 0.0}, True)
    again[0] |= {"parent": 13}
    for event in again:
        if event["event"] == "report":
            event["metrics"] = event["metrics"] | {"oracle/target_accuracy": 0.99}
    return History.of([*events, *again])


@pytest.mark.parametrize("select", ["last", "best"])
def test_a_refit_takes_no_score_from_the_record(select: str) -> None:
    history = refitted(select)
    found = find(history)
    assert found.choice is not None
    model = found.choice.model
    assert (model.number, model.picked) == (16, 6)
    assert model.value("oracle/target_accuracy") == 0.99
    assert {entry.name for entry in found.judged} == {"val/bnm", "val/im", "val/none", "val/dev"}
    assert all(entry.pick.kind != REFITTED for entry in found.judged)
    assert set(found.mean_step_regret) == {"last", "best"}
    # Nobody could have chosen it: the others are not measured against it.
    assert {row.role: row.trial.number for row in found.rows}["oracle"] == 11
    assert found.regret == find(finished.history()).regret
    assert [step.title for step in found.steps if step.kept] == ["last step"]
    assert regrets(found)[STEP_REGRET] == pytest.approx(0.0)
    assert any(
        line.startswith("  regret of its step: last step (6) 0.0") for line in summary(found)
    )
