"""What the study of label-free selection comes to: rules on tasks, and steps within runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.selection_cells import REFERENCES, accuracy_path
from experiments.selection_rules import RULES, Floats, Scores, Verdict, judge, spearman
from experiments.selection_scores import Scored, score_task
from gsda.sealed import ACCURACY
from gsda.tasks import Task
from gsda.validators import DEFAULT_METRIC, VALIDATORS

DEFAULT = DEFAULT_METRIC.removeprefix("val/")


@dataclass(frozen=True)
class Studied:
    """The finished settings of a task, with what they were worth.

    Attributes:
        settings: as a user knows them; references first.
        accuracy: of each, in per cent, by step; only reports read it.
        lost: settings that did not train to their end.
    """

    task: Task
    settings: list[Scored]
    accuracy: dict[int, dict[int, float]]
    lost: int

    @property
    def random(self) -> list[Scored]:
        """The settings without the references."""
        return [scored for scored in self.settings if not scored.is_reference]

    def scores(self) -> Scores:
        """Final scores of the random settings, by name."""
        ends = [scored.final for scored in self.random]
        return {name: np.array([end[name] for end in ends]) for name in ends[0]}

    def final(self) -> Floats:
        """Final accuracies of the random settings."""
        return np.array([self.end(scored.number) for scored in self.random])

    def end(self, number: int) -> float:
        """Final accuracy of a cell."""
        return self.accuracy[number][max(self.accuracy[number])]

    def verdicts(self) -> dict[str, Verdict]:
        """Of every rule."""
        scores, accuracy = self.scores(), self.final()
        return {name: judge(rule(scores), accuracy) for name, rule in RULES.items()}


def study_task(work: Path, task: Task, settings: int, skip: int) -> Studied:
    """Score what is there of a task: the references, and random settings `skip` to `settings`."""
    accuracy: dict[int, dict[int, float]] = {}
    lost = 0
    numbers = [*range(REFERENCES), *range(REFERENCES + skip, REFERENCES + settings)]
    for number in numbers:
        path = accuracy_path(work, task, number)
        if not path.exists():
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        if not record["finished"]:
            lost += 1
            continue
        told = record["scores"].items()
        accuracy[number] = {int(step): 100 * found[ACCURACY] for step, found in told}
    return Studied(task, score_task(work, task, list(accuracy)), accuracy, lost)


@dataclass(frozen=True)
class Within:
    """Mean regret, in points, of the step that is taken for a run's model.

    Attributes:
        last, best: of the last step, and of the one with the largest score.
        correlation: mean Spearman correlation of score and accuracy over the steps of a run.
    """

    last: float
    best: float
    correlation: float


def within_runs(studied: Sequence[Studied], name: str) -> Within:
    """How well a score tells the best step of a run, over all random settings."""
    last, best, correlations = [], [], []
    for study in studied:
        for scored in study.random:
            steps = sorted(scored.curve)
            values = np.array([scored.curve[step][name] for step in steps])
            accuracy = np.array([study.accuracy[scored.number][step] for step in steps])
            last.append(accuracy.max() - accuracy[-1])
            best.append(accuracy.max() - accuracy[int(np.argmax(values))])
            found = spearman(values, accuracy)
            correlations += [] if found is None else [found]
    mean = float(np.mean(correlations)) if correlations else 0.0
    return Within(float(np.mean(last)), float(np.mean(best)), mean)


def over_steps(study: Studied, name: str) -> tuple[float, float]:
    """Regret of picking setting and step at once by a score, and of the best last step.

    Both against the best step of the best setting.
    """
    picks = [
        (scored.curve[step][name], study.accuracy[scored.number][step])
        for scored in study.random
        for step in scored.curve
    ]
    top = max(accuracy for _, accuracy in picks)
    chosen = max(picks, key=lambda pick: pick[0])[1]
    return top - chosen, top - float(study.final().max())


def regrets(studied: Sequence[Studied]) -> dict[str, dict[str, float]]:
    """Rule -> task -> points."""
    found: dict[str, dict[str, float]] = {name: {} for name in RULES}
    for study in studied:
        for name, verdict in study.verdicts().items():
            found[name][str(study.task)] = verdict.regret
    return found


def best_first(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Rules by mean regret."""
    return sorted(found, key=lambda name: float(np.mean(list(found[name].values()))))


def kept_at_each_step(studied: Sequence[Studied]) -> list[str]:
    """Scores of one model that are known at every evaluation, not at the last alone."""
    known = [s for study in studied for scored in study.random for s in scored.curve.values()]
    return [name for name in VALIDATORS if all(name in scores for scores in known)]


def single_scores() -> list[str]:
    """Rules that are a function of one model alone, and so can guide a search."""
    return list(VALIDATORS)
