"""The hold-out of a search: whom it is for, and that the winner can have all of the source."""

import json
from pathlib import Path
from typing import Any

import pytest
import scene

from gsda.config import Config
from gsda.tasks import Task
from tune.choice import choose
from tune.console import Console
from tune.history import COMPLETE, REFITTED
from tune.holdout import SHARE, chosen_share, describe
from tune.journal import Journal
from tune.progress import Progress
from tune.settings import Settings
from tune.spec import specify
from tune.stages import due, total
from tune.trainable import Order, Report, RunTrainable


@pytest.mark.parametrize(
    ("overrides", "metrics", "share"),
    [
        ({}, ["val/bnm"], 0.0),
        ({}, ["val/dev"], SHARE),
        ({}, ["val/bnm", "val/im", "val/iwcv"], SHARE),
        ({"holdout": 0.1}, ["val/bnm"], 0.1),
        ({"holdout": 0.1}, ["val/dev"], 0.1),
        ({"holdout": 0.0}, ["val/bnm"], 0.0),
    ],
)
def test_a_hold_out_is_there_for_those_who_need_it(
    overrides: dict[str, Any], metrics: list[str], share: float
) -> None:
    assert chosen_share(overrides, metrics) == share


def test_what_nobody_asked_for_is_told() -> None:
    told = describe({}, ["val/bnm", "val/dev"], refit=False)
    assert told.startswith("val/dev judges by 20% of the source, which no trial is trained on; --")
    assert describe({}, ["val/dev"], refit=True).endswith("no trial is trained on.")
    assert describe({}, ["val/bnm"], refit=False) == ""
    assert describe({"holdout": 0.3}, ["val/dev"], refit=False) == ""


def test_every_trial_of_a_search_has_the_hold_out(cache: Path, capsys: Any) -> None:
    settings = Settings(cache=cache, metric="val/dev", refit=True)
    spec = specify(Task.parse(scene.TASK), settings, Console())
    assert spec["refit"] is True
    configs = [spec["base"], *spec["references"].values()]
    assert [config["holdout"] for config in configs] == [SHARE] * 3
    assert "val/dev judges by 20% of the source" in capsys.readouterr().out
    json.dumps(spec)
    plain = specify(Task.parse(scene.TASK), Settings(cache=cache), Console())
    assert plain["base"]["holdout"] == 0.0
    assert "judges" not in capsys.readouterr().out


@pytest.fixture
def searched(tmp_path: Path) -> Progress:
    """A search with a hold-out whose winner is to be trained again."""
    spec = scene.make_spec(scene.small_config(holdout=0.2), 3) | {"refit": True}
    journal = Journal(tmp_path / "journal.log")
    journal.append("search", uuid="5ea4c4", spec=spec)
    return scene.resume(journal)


def test_the_winner_is_trained_again_on_all_of_the_source(searched: Progress) -> None:
    assert due(searched.history) == []  # not before there is a winner
    assert total(searched.history) == 6
    scene.work(searched)
    (again,) = searched.history.of_kind(REFITTED)
    chosen = choose(searched.history)
    assert chosen is not None
    picked = chosen.picked
    assert picked.kind != REFITTED
    assert chosen.model is again
    assert (again.parent, again.state) == (picked.number, COMPLETE)
    assert again.config == picked.config | {"holdout": 0.0}
    assert due(searched.history) == []
    assert total(searched.history) == len(searched.history.trials) == 6
    # The refit has seen what others were judged by: it has no score to compete with.
    assert chosen.winner.runs == (picked,)
    searched.journal.close()


def test_a_refit_that_fails_leaves_the_winner_its_own_model(searched: Progress) -> None:
    while (trial := searched.next_trial()) is not None:
        reports = scene.reports(searched.start(trial))
        if trial.kind == REFITTED:
            reports = iter([Report(2, {}, 1.0, False, failure="it broke down")])
        for report in reports:
            if searched.report(trial.number, report):
                break
    chosen = choose(searched.history)
    assert chosen is not None
    assert chosen.model is chosen.picked
    searched.journal.close()


def test_a_worker_judges_by_what_is_held_out(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunTrainable, "_setup_logdir", lambda self: None)
    told = {}
    for share in (0.0, 0.2):
        config = scene.small_config(steps=2, holdout=share).to_dict()
        data, folder = scene.data_spec(cache), str(tmp_path / str(share))
        digest = scene.data_digest(cache)
        order = Order(0, scene.TASK, data, digest, config, folder, "cpu", 1)
        told[share] = Report.of_result(RunTrainable(order.to_config()).step()).metrics
    more = {"val/source_accuracy", "val/dev", "val/iwcv"}
    assert more <= set(told[0.2]) - set(told[0.0])
    assert {"val/mixval", "val/balance", "val/transfer_score"} <= set(told[0.0])


def test_the_setting_of_an_older_search_has_no_hold_out() -> None:
    older = scene.small_config().to_dict()
    del older["holdout"]
    assert Config.from_dict(older).holdout == 0.0
