"""Agreement with the ensemble by hand."""

import pytest
import torch
from judged import outputs

from gsda.validators.ensemble import ensemble_agreement, mean_prediction

# The mean prediction is class 0, 1, 0.
MODELS = [
    outputs([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]]),
    outputs([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6]]),
    outputs([[0.4, 0.6], [0.1, 0.9], [0.9, 0.1]]),
]


def test_agreement_by_hand() -> None:
    mean = mean_prediction(MODELS)
    assert mean[0].tolist() == pytest.approx([2.2 / 3, 0.8 / 3])
    assert ensemble_agreement(MODELS) == pytest.approx([1.0, 1 / 3, 2 / 3])


def test_a_model_agrees_with_itself() -> None:
    assert ensemble_agreement(MODELS[:1]) == [1.0]


def test_an_outlier_agrees_least() -> None:
    p = torch.eye(4).repeat(5, 1)
    models = [outputs(0.9 * p + 0.025) for _ in range(4)]
    models.append(outputs(torch.full((20, 4), 0.1) + 0.6 * torch.eye(4)[0]))
    scores = ensemble_agreement(models)
    assert scores == pytest.approx([1.0] * 4 + [0.25])
