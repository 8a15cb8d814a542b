"""The journal of a search that is over, with scores and accuracies that were made up."""

import math
from pathlib import Path
from typing import Any

import scene

from tune.history import COMPLETE, FAILED, PAPER, PRUNED, SEARCHED, SOURCE_ONLY, History
from tune.journal import Event, Journal, read_events

STEPS = (2, 4, 6)
ALPHAS = [0.001 * 200 ** (n / 11) for n in range(12)]


def metrics(score: float, accuracy: float | None, im: float = 0.0) -> dict[str, float]:
    """What a report tells; without `accuracy` the target has no labels."""
    known = {"val/bnm": score, "val/im": im, "val/none": 1.0, "loss/C": 1.0}
    if accuracy is None:
        return known
    return known | {
        "oracle/target_accuracy": accuracy,
        "oracle/target_class_mean": accuracy - 0.1,
        "oracle/class/00_A": accuracy,
    }


def events(labels: bool = True, **changes: Any) -> list[Event]:
    """Two references and twelve searched settings; alpha alone decides the score.

    The accuracy rises with the score, but falls at the two largest. The last trial but one was
    stopped early and the last one failed.
    """
    spec = scene.make_spec(scene.small_config(), 14) | changes
    found: list[Event] = [{"event": "search", "time": 1.0, "uuid": "5ea4c4", "spec": spec}]
    base = spec["base"]
    kinds = [SOURCE_ONLY, PAPER, *[SEARCHED] * 14]
    for number, kind in enumerate(kinds):
        own = spec["references"].get(kind, base) | {"seed": 0}
        if kind == SEARCHED:
            own = own | setting(number - 2)
        found += trial(number, kind, own, labels)
    return [*found, {"event": "done", "time": 100.0}]


def setting(n: int) -> dict[str, float]:
    """Alpha rises; the others wander."""
    alpha = ALPHAS[min(n, 11)]
    return {
        "alpha": alpha,
        "beta": 0.1 * 1.5 ** (n * 5 % 12),
        "n_groups": 1 + n * 7 % 12,
        "tau": 0.6,
    }


def trial(number: int, kind: str, config: dict[str, Any], labels: bool) -> list[Event]:
    """All events of a trial: its score rises by a tenth at each report."""
    final = 0.3 if kind == SOURCE_ONLY else 0.9 + 0.1 * math.log10(config["alpha"])
    accuracy = 0.5 + final / 4 - (0.2 if config["alpha"] > 0.1 else 0)
    values = {name: config[name] for name in scene.FIELDS}
    ask = {"event": "ask", "trial": number, "kind": kind, "values": values, "config": config}
    last = 1 if number == 14 else 0 if number == 15 else len(STEPS)
    told: list[Event] = [ask, {"event": "start", "trial": number}]
    for place, step in enumerate(STEPS[:last]):
        known = accuracy - 0.02 * abs(place - 1) if labels else None
        report = metrics(final - 0.1 * (2 - place), known, -final)
        told.append(
            {"event": "report", "trial": number, "step": step, "metrics": report, "seconds": 1.0}
        )
    state = PRUNED if number == 14 else FAILED if number == 15 else COMPLETE
    told.append({"event": "end", "trial": number, "state": state, "reason": "it <broke>"})
    return [event | {"time": 2.0 + number} for event in told]


def history(labels: bool = True, **changes: Any) -> History:
    """What the events add up to."""
    return History.of(events(labels, **changes))


def write(folder: Path, labels: bool = True, **changes: Any) -> Path:
    """The journal in the folder of a search, which is given back."""
    journal = Journal(folder / "journal.log")
    for event in events(labels, **changes):
        rest = {name: value for name, value in event.items() if name not in ("event", "time")}
        journal.append(event["event"], **rest)
    journal.close()
    return folder


def noted(folder: Path) -> list[dict[str, Any]]:
    """The events of a search, with a note in one of them."""
    progress = scene.resume(scene.begin(folder, 12, scene.small_config(steps=18)))
    scene.work(progress)
    progress.journal.close()
    found = read_events(folder / "journal.log")[0]
    report = next(e for e in found if e["event"] == "report" and e["trial"] == 1)
    report["notes"] = ["something was odd"]
    for event in found:
        if event["event"] == "report":
            event["metrics"] = event["metrics"] | {"oracle/target_accuracy": 0.5}
    return found
