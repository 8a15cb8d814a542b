"""What the registry's pages say of a model."""

from dataclasses import replace
from typing import Any

import pytest
import scene

from gsda.config import source_only
from gsda.tasks import Task
from tune.card import describe_model, describe_version, licence_of, setting_of

TASK = Task.parse("glyph31/W2D")
NAME = "gsda-glyph31-W2D"


def manifest(**changes: Any) -> dict[str, Any]:
    config = replace(scene.small_config(), alpha=0.02, beta=1.0, n_groups=2, tau=0.9)
    return {"classes": list("ABC"), "config": config.to_dict(), "step": 6} | changes


def test_a_version_says_what_a_user_must_know() -> None:
    said = describe_version(NAME + "/3", TASK, manifest(), "val/bnm", 0.51239, 0.75)
    table = said.split("\n\n")[1].splitlines()[2:]
    rows = dict(line.strip("| ").split(" | ") for line in table)
    assert rows == {
        "Task": "glyph31/W2D: labelled images of W, unlabelled ones of D",
        "Data": "built-in drawn letters with Office-31's image counts; not Office-31",
        "Classes": "3: A, B, C",
        "Setting": "alpha 0.02, beta 1, n_groups 2, tau 0.9",
        "Training": "6 steps of 4 + 4 images, backbone cnn, seed 0",
        "Chosen by": "val/bnm = 0.5124, which reads no target label",
        "Accuracy on the target": "75.0%, by which nothing was chosen",
        "Licence": "The weights began at random; this package is under the MIT licence. The "
        "images that it was trained on have a licence of their own.",
    }
    assert 'load_model("models:/gsda-glyph31-W2D/3")' in said


def test_a_version_begins_with_a_sentence_for_tables_of_versions() -> None:
    gsda = "glyph31/W2D by GSDA with alpha 0.02, beta 1, n_groups 2, tau 0.9: val/bnm = 0.5124"
    said = describe_version(NAME, TASK, manifest(), "val/bnm", 0.51239, 0.75)
    assert said.split("\n")[:2] == [f"{gsda}, 75.0% right on the target.", ""]
    said = describe_version(NAME, TASK, manifest(), "val/bnm", 0.51239, None)
    assert said.split("\n")[:2] == [f"{gsda}.", ""]
    said = describe_version(NAME, TASK, manifest(), "val/bnm", 0.51239, 0.75, unsealed=True)
    assert "right on the target, whose labels had a part in choosing.\n\n|" in said
    plain = source_only(scene.small_config()).to_dict()
    said = describe_version(NAME, TASK, manifest(config=plain), "val/bnm", 0.5, None)
    assert said.startswith("glyph31/W2D by source-only with lr ")


def test_an_accuracy_of_zero_is_known_and_none_is_not() -> None:
    said = describe_version(NAME, TASK, manifest(), "val/bnm", 0.5, 0.0)
    assert "| 0.0%, by which nothing was chosen |" in said
    said = describe_version(NAME, TASK, manifest(), "val/bnm", 0.5, None)
    assert "| Accuracy on the target | not known: the target has no labels here |" in said


def test_many_classes_and_odd_names() -> None:
    classes = ["a|b", *"cdefghijk"]
    said = describe_version(NAME, TASK, manifest(classes=classes), "val/bnm", 0.5, None)
    assert r"| Classes | 10: a\|b, c, d, e, f, g, h, i and 2 more |" in said


@pytest.mark.parametrize(
    ("backbone", "weights", "words"),
    [
        ("cnn", "default", "began at random"),
        ("resnet50", "none", "began at random"),
        ("resnet50", "default", "torchvision's IMAGENET1K_V1. They were trained on ImageNet"),
        ("resnet50", "/home/me/mine.pth", "a file of yours"),
    ],
)
def test_where_the_weights_are_from(backbone: str, weights: str, words: str) -> None:
    said = licence_of({"backbone": backbone, "weights": weights})
    assert words in said
    assert "mine.pth" not in said


def test_a_model_says_how_to_load_its_champion() -> None:
    said = describe_model(NAME, TASK, "gsda")
    assert said.startswith("Best models of glyph31/W2D by GSDA searches.")
    assert 'load_model("models:/gsda-glyph31-W2D@champion")' in said


def test_the_setting_of_another_method() -> None:
    config = {"method": "dann", "lambda_max": 0.5, "lr": 0.03, "alpha": 0.02}
    assert setting_of(config) == "DANN, lambda_max 0.5, lr 0.03"
