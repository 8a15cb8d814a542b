"""What is told of the trial that became the model."""

import io
import json
from typing import Any

import finished
import pytest
import scene
from test_console import OUTCOME, URI

from tune import status
from tune.choice import choose
from tune.console import Console, Script
from tune.history import History
from tune.lines import chosen as chosen_line
from tune.standing import Standing


def late(parent: int, kind: str, number: int, score: float, seed: int = 0) -> list[dict[str, Any]]:
    """The events of a trial of a later stage."""
    config = scene.small_config(seed=seed).to_dict()
    values = {name: config[name] for name in scene.FIELDS}
    ask = {"event": "ask", "kind": kind, "values": values, "config": config, "parent": parent}
    told = {"event": "report", "step": 6, "metrics": {"val/bnm": score}, "seconds": 1.0}
    end = {"event": "end", "state": "COMPLETE", "reason": ""}
    return [{**event, "trial": number, "time": 50.0} for event in (ask, told, end)]


@pytest.mark.parametrize(
    ("changes", "later", "sentence", "numbers"),
    [
        ({}, [], "Chosen: trial 13, by val/bnm.", (13, 13, 13)),
        ({"pick": "val/im"}, [], "Chosen: trial 0, by val/im.", (0, 0, 0)),
        (
            {"seeds": 2, "top": 1},
            late(12, "repeated", 16, 0.99, seed=1),
            "Chosen: trial 16, by the mean of val/bnm over 2 seeds, which are of the setting of "
            "trial 12.",
            (16, 12, 16),
        ),
        (
            {"refit": True},
            late(13, "refitted", 16, 0.1),
            "Chosen: trial 13, by val/bnm; its model is that of trial 16, trained on all of the "
            "source.",
            (13, 13, 16),
        ),
    ],
)
def test_which_trial_became_the_model(
    changes: dict[str, Any],
    later: list[dict[str, Any]],
    sentence: str,
    numbers: tuple[int, int, int],
) -> None:
    events = [*finished.events(**changes)[:-1], *later, {"event": "done", "time": 100.0}]
    history, standing = Standing.of(events)
    chosen = choose(history)
    assert chosen is not None
    stream = io.StringIO()
    Console(stream).finish(history, chosen.model, OUTCOME, "", URI)
    assert sentence in stream.getvalue().splitlines()
    assert sentence in status.report(history, standing, 101.0)
    stream = io.StringIO()
    Script(stream).finish(history, chosen.model, OUTCOME, "", URI)
    told = json.loads(stream.getvalue())["chosen"]
    assert (told["trial"], told["setting"], told["model"]) == numbers
    assert told["score"] == chosen.winner.score


def test_a_setting_from_elsewhere_is_chosen_whatever_it_scores() -> None:
    events = finished.events(origin={"search": "old", "trial": 3, "task": "glyph31/A2D"})
    for event in events:
        if event["event"] == "ask" and event["trial"] == 5:
            event["kind"] = "transferred"
    history = History.of(events)
    told = chosen_line(choose(history), history.spec)
    assert told == "Chosen: trial 5, with the setting of old, trial 3."
    assert chosen_line(None, history.spec) == ""
