"""What a model makes of both domains' images, for people to look at."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.distances import a_distance
from gsda.bundle import Predictor
from gsda.data.domain import Domain, Images, Int64
from gsda.oracle import Oracle

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Course:
    """How a training went: values by step of each metric that it reported."""

    reports: Mapping[int, Mapping[str, float]]

    def line(self, metric: str) -> tuple[list[int], list[float]]:
        """Steps and values, as far as the metric is there."""
        steps = [step for step in sorted(self.reports) if metric in self.reports[step]]
        return steps, [self.reports[step][metric] for step in steps]

    @property
    def last(self) -> Mapping[str, float]:
        """Metrics of the last evaluation."""
        return self.reports[max(self.reports)] if self.reports else {}


@dataclass(frozen=True)
class Look:
    """A row of the report.

    Attributes:
        f_s, f_t: (N_s, d), (N_t, d) features. right: (N_t,) whether a target image is classified
            right, None where no label is known.
        distance: A-distance of the domains. of_class: the same for each class that both have, on
            true labels. accuracy: of each class of the target.
        run: MLflow's id of its run, link: its address; "" where there is none.
    """

    title: str
    course: Course
    f_s: Floats
    f_t: Floats
    right: NDArray[np.bool_] | None
    distance: float | None
    of_class: Mapping[str, float]
    accuracy: Mapping[str, float]
    run: str = ""
    link: str = ""

    @property
    def mean_of_classes(self) -> float | None:
        """Mean of the classes' A-distances."""
        return float(np.mean(list(self.of_class.values()))) if self.of_class else None


def features(predictor: Predictor, images: Images) -> tuple[Floats, Int64]:
    """Features (N, d) and predicted classes (N,) of all images."""
    found, classes = [], []
    for start in range(0, len(images), predictor.batch_size):
        chosen = np.arange(start, min(start + predictor.batch_size, len(images)))
        f, p = predictor.look(images.gather(chosen).astype(np.uint8, copy=False))
        found.append(f)
        classes.append(p.argmax(axis=1))
    return np.concatenate(found), np.concatenate(classes)


def look(
    title: str,
    predictor: Predictor,
    source: Domain,
    target: Domain,
    course: Course,
    run: str = "",
    link: str = "",
) -> Look:
    """Everything that is drawn of a model. Target labels are read, through the oracle."""
    f_s, _ = features(predictor, source.images)
    f_t, predicted = features(predictor, target.images)
    names, in_s, in_t = source.classes, Oracle(source).by_class(), Oracle(target).by_class()
    of_class, accuracy = {}, {}
    right = np.zeros(len(f_t), dtype=bool) if in_t else None
    for k, chosen in in_t.items():
        hits = predicted[chosen] == k
        accuracy[names[k]] = float(hits.mean())
        if right is not None:
            right[chosen] = hits
        if k in in_s and (found := a_distance(f_s[in_s[k]], f_t[chosen])) is not None:
            of_class[names[k]] = found
    distance = a_distance(f_s, f_t)
    return Look(title, course, f_s, f_t, right, distance, of_class, accuracy, run, link)
