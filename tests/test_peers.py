"""Our validators beside those of pytorch-adapt and skada, on the same outputs.

Neither can be installed beside this package (pytorch-adapt pins old versions of its own
dependencies), so this is for an environment of its own with either of them; elsewhere it skips.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from judged import known
from numpy.typing import NDArray

from gsda.outputs import Mixed, Outputs
from gsda.validators.predictions import bnm, diversity, entropy, im, snd
from gsda.validators.source import controlled_risk
from gsda.validators.structure import adjusted_mutual_information, class_ami, mixval

pytestmark = pytest.mark.filterwarnings("ignore")
N, R = 60, 5
LOUDLY = "IS NOT INSTALLED: VALIDATORS ARE NOT COMPARED WITH IT"


@pytest.fixture
def target() -> Outputs:
    given: Outputs = known(N, R, scale=2.0, d=4)["target"]
    return given


def adapt() -> Any:
    return pytest.importorskip("pytorch_adapt.validators", reason=f"pytorch-adapt {LOUDLY}")


def skada() -> Any:
    return pytest.importorskip("skada.metrics", reason=f"skada {LOUDLY}")


# pytorch-adapt


def of_adapt(name: str, target: Outputs, **options: Any) -> float:
    preds = target.logits.softmax(dim=1)
    given = {"logits": target.logits, "preds": preds, "features": target.features}
    return float(getattr(adapt(), name)(**options)(target_train=given))


def test_the_scores_of_predictions_are_those_of_pytorch_adapt(target: Outputs) -> None:
    assert entropy(target) == pytest.approx(of_adapt("EntropyValidator", target), abs=1e-5)
    assert diversity(target) == pytest.approx(of_adapt("DiversityValidator", target), abs=1e-5)
    assert im(target) == pytest.approx(of_adapt("IMValidator", target), abs=1e-5)
    assert snd(target) == pytest.approx(of_adapt("SNDValidator", target), abs=1e-4)


def test_bnm_is_that_of_pytorch_adapt_over_its_bound(target: Outputs) -> None:
    theirs = of_adapt("BNMValidator", target) * N
    assert bnm(target) == pytest.approx(theirs / math.sqrt(N * R), abs=1e-5)


def test_class_ami_is_that_of_pytorch_adapt(target: Outputs) -> None:
    pytest.importorskip("sklearn.metrics", reason=f"scikit-learn {LOUDLY}")
    theirs = of_adapt("ClassClusterValidator", target, centroid_init="label_centers")
    assert class_ami(target) == pytest.approx(theirs, abs=1e-6)


def test_the_risk_of_dev_is_that_of_pytorch_adapt() -> None:
    adapt()
    from pytorch_adapt.validators.deep_embedded_validator import get_dev_risk

    dice = torch.Generator().manual_seed(0)
    weights, losses = torch.rand(30, generator=dice), torch.rand(30, generator=dice)
    theirs = float(get_dev_risk(weights[:, None], losses[:, None], None))
    assert controlled_risk(weights, losses).item() == pytest.approx(theirs, abs=1e-6)


# skada


class Estimator:
    """A model whose inputs (N, d + r) are its features, and behind them its logits."""

    def __init__(self, d: int) -> None:
        self.d = d
        self.module_ = SimpleNamespace(layer_name="features")

    def predict_proba(self, x: NDArray[np.float64], **_: Any) -> NDArray[np.float64]:
        logits = torch.from_numpy(np.asarray(x)[:, self.d :])
        return logits.softmax(dim=1).numpy()

    def predict(self, x: NDArray[np.float64], **_: Any) -> NDArray[np.int64]:
        return self.predict_proba(x).argmax(axis=1)

    def score(self, x: NDArray[np.float64], y: NDArray[np.int64], **_: Any) -> float:
        return float((self.predict(x) == y).mean())

    def fit(self, *_: Any, **__: Any) -> "Estimator":
        return self


def of_skada(scorer: Any, target: Outputs) -> float:
    x = torch.cat([target.features, target.logits], dim=1).double().numpy()
    estimator = Estimator(target.features.shape[1])
    y, domains = np.zeros(len(x), dtype=int), np.full(len(x), -2)
    return float(scorer._score(None, estimator, x, y, sample_domain=domains))


def test_entropy_is_that_of_skada_over_the_classes(target: Outputs) -> None:
    theirs = of_skada(skada().PredictionEntropyScorer(), target)
    assert entropy(target) == pytest.approx(theirs * R, abs=1e-5)


def test_snd_is_that_of_skada(target: Outputs) -> None:
    theirs = of_skada(skada().SoftNeighborhoodDensity(), target)
    assert snd(target) == pytest.approx(theirs, abs=1e-5)


def test_mixval_is_that_of_skada(target: Outputs) -> None:
    """Of a model that is linear in what is mixed."""
    theirs = of_skada(skada().MixValScorer(random_state=3), target)
    partner = torch.from_numpy(np.random.RandomState(3).permutation(N))
    both = [0.55 * x + 0.45 * x[partner] for x in (target.features, target.logits)]
    assert mixval(target, Mixed(*both, torch.arange(N), partner)) == pytest.approx(theirs, abs=1e-9)


def test_adjusted_mutual_information_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason=f"scikit-learn {LOUDLY}")
    for n in (6, 50, 2000):
        dice = torch.Generator().manual_seed(n)
        a = torch.randint(5, (n,), generator=dice)
        b = torch.where(torch.rand(n, generator=dice) < 0.5, a, a.flip(0)) % 4
        theirs = metrics.adjusted_mutual_info_score(a.numpy(), b.numpy())
        assert adjusted_mutual_information(a, b) == pytest.approx(theirs, abs=1e-9)
