"""Who wins."""

from typing import Any

import pytest

from gsda.errors import BadInput
from tune.choice import candidates, choose
from tune.history import (
    COMPLETE,
    FAILED,
    FINETUNED,
    PAPER,
    PRUNED,
    REFITTED,
    REPEATED,
    SEARCHED,
    SOURCE_ONLY,
    History,
    Trial,
)
from tune.rule import DEFAULT_RANKED, check_guide, check_rule, metrics_of


def trial(number: int, kind: str = SEARCHED, state: str = COMPLETE, **more: Any) -> Trial:
    """A trial whose scores are those named in `more`, under val/."""
    parent, seed = more.pop("parent", None), more.pop("seed", 0)
    metrics = {f"val/{name}": value for name, value in more.items()}
    config = {"seed": seed, "steps": 2}
    return Trial(number, kind, {}, config, {2: metrics}, state, parent=parent)


def history(*trials: Trial, **spec: Any) -> History:
    known = {"metric": "val/bnm", "references": {SOURCE_ONLY: {}, PAPER: {}}, "trials": 2}
    return History(known | spec, "u", 0.0, {t.number: t for t in trials})


def order(of: History) -> list[int]:
    return [entry.setting.number for entry in candidates(of)]


def test_the_largest_final_score_wins_and_of_equals_the_oldest() -> None:
    of = history(trial(0, bnm=0.4), trial(1, bnm=0.6), trial(2, bnm=0.6), trial(3, bnm=0.5))
    assert order(of) == [1, 2, 3, 0]
    chosen = choose(of)
    assert chosen is not None
    assert (chosen.picked, chosen.model) == (of.trials[1], of.trials[1])


def test_only_finished_trials_that_have_the_score_compete() -> None:
    of = history(trial(0, state=PRUNED, bnm=9.0), trial(1, state=FAILED, bnm=9.0), trial(2, im=9.0))
    assert choose(of) is None
    of.trials[3] = trial(3, bnm=0.1)
    assert order(of) == [3]


def test_a_rule_apart_from_the_metric() -> None:
    of = history(trial(0, bnm=0.9, im=0.1), trial(1, bnm=0.1, im=0.9), pick="val/im")
    assert order(of) == [1, 0]


def test_the_mean_rank() -> None:
    """Ranks of a, b, c in bnm 1, 2, 3; in im 3, 1.5, 1.5: means 2, 1.75, 2.25."""
    a, b, c = trial(0, bnm=3.0, im=0.0), trial(1, bnm=2.0, im=5.0), trial(2, bnm=1.0, im=5.0)
    of = history(a, b, c, pick="mean-rank:bnm,im")
    assert order(of) == [1, 0, 2]
    assert [entry.score for entry in candidates(of)] == [-1.75, -2.0, -2.25]


def test_over_seeds_the_mean_wins_and_a_lucky_run_does_not() -> None:
    runs = [trial(0, bnm=0.9), trial(1, bnm=0.7), trial(2, bnm=0.5)]
    runs += [trial(3, REPEATED, parent=0, seed=1, bnm=0.1)]
    runs += [trial(4, REPEATED, parent=1, seed=1, bnm=0.8)]
    of = history(*runs, seeds=2, top=2)
    assert order(of) == [1, 0]  # 0.75, 0.5; of the third there is one run only: out of the race
    chosen = choose(of)
    assert chosen is not None
    assert chosen.winner.score == pytest.approx(0.75)
    assert chosen.picked.number == 4  # its best run


def test_a_setting_that_breaks_down_with_another_seed_is_out() -> None:
    runs = [trial(0, bnm=0.9), trial(1, bnm=0.7)]
    runs += [trial(2, REPEATED, FAILED, parent=0, seed=1)]
    runs += [trial(3, REPEATED, parent=1, seed=1, bnm=0.2)]
    assert order(history(*runs, seeds=2, top=2)) == [1]


def test_without_a_whole_set_of_seeds_all_compete() -> None:
    runs = [trial(0, bnm=0.9), trial(1, bnm=0.7), trial(2, REPEATED, FAILED, parent=0, seed=1)]
    assert order(history(*runs, seeds=2, top=1)) == [0, 1]


def test_fine_tuned_ones_compete_with_means() -> None:
    runs = [trial(0, bnm=0.6), trial(1, REPEATED, parent=0, seed=1, bnm=0.6)]
    runs += [trial(2, FINETUNED, parent=0, bnm=0.8)]
    assert order(history(*runs, seeds=2, top=1)) == [2, 0]


def test_the_model_is_the_refit_of_the_winner() -> None:
    runs = [trial(0, bnm=0.6), trial(1, bnm=0.7)]
    runs += [trial(2, REFITTED, parent=0), trial(3, REFITTED, parent=1, bnm=0.1)]
    chosen = choose(history(*runs))
    assert chosen is not None
    assert (chosen.picked.number, chosen.model.number) == (1, 3)
    runs[3].state = FAILED
    chosen = choose(history(*runs))
    assert chosen is not None
    assert chosen.model is chosen.picked


def test_rules_are_read() -> None:
    assert metrics_of("val/im") == ["val/im"]
    assert metrics_of("mean-rank") == list(DEFAULT_RANKED)
    assert metrics_of("mean-rank:bnm, val/im") == ["val/bnm", "val/im"]
    assert check_rule("mean-rank:bnm,im") == "mean-rank:bnm,im"
    assert check_guide("val/im") == "val/im"


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("mean-rank:bnm,magic", "Unknown metric 'val/magic'"),
        ("mean-rank:bnm,oracle/target_accuracy", "reads target labels"),
        ("mean-rank:bnm,bnm", "name each score once"),
        ("magic", "Unknown metric 'magic'"),
    ],
)
def test_mistakes_in_a_rule(rule: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        check_rule(rule)


def test_a_rank_guides_no_search() -> None:
    with pytest.raises(BadInput, match="a rank shifts as trials arrive"):
        check_guide("mean-rank:bnm,im")
