"""Which settings a search starts from."""

import pytest

from gsda.errors import BadInput
from gsda.recipes import default_backbone, describe_default, recommend
from gsda.tasks import Task

GLYPH, OFFICE = Task.parse("glyph31/A2D"), Task.parse("office31/A2D")
OWN = Task.parse("own/left2right")


def test_backbones_follow_the_kind_of_images() -> None:
    assert default_backbone(GLYPH) == "cnn"
    assert default_backbone(OFFICE) == default_backbone(OWN) == "resnet50"


def test_the_papers_setting_of_office31() -> None:
    config = recommend(OFFICE, 31)
    assert (config.alpha, config.beta, config.n_groups, config.tau) == (0.02, 1.0, 6, 0.9)
    assert (config.backbone, config.bottleneck, config.steps) == ("resnet50", 256, 10_000)


def test_the_built_in_benchmark_has_a_small_recipe() -> None:
    config = recommend(GLYPH, 31)
    assert (config.backbone, config.bottleneck, config.steps) == ("cnn", 64, 400)
    assert (config.alpha, config.beta, config.n_groups, config.tau) == (0.02, 1.0, 6, 0.9)


@pytest.mark.parametrize(("n_classes", "groups"), [(1, 1), (4, 1), (10, 2), (31, 6), (345, 69)])
def test_own_data_has_a_fifth_of_its_classes_as_groups(n_classes: int, groups: int) -> None:
    config = recommend(OWN, n_classes)
    assert (config.alpha, config.beta, config.tau) == (0.02, 1.0, 0.9)
    assert config.n_groups == groups


def test_a_benchmarks_groups_are_bounded_by_the_classes() -> None:
    assert recommend(OFFICE, 3).n_groups == 3


def test_the_callers_changes_win() -> None:
    config = recommend(GLYPH, 31, alpha=0.5, steps=40, bottleneck=16)
    assert (config.alpha, config.steps, config.bottleneck) == (0.5, 40, 16)
    assert config.evaluate_every == 40  # there is an evaluation at all


def test_the_callers_mistakes_are_refused() -> None:
    with pytest.raises(BadInput, match="n_groups is 40, but there are 31 classes"):
        recommend(GLYPH, 31, n_groups=40)
    with pytest.raises(BadInput, match="Unknown backbone 'vgg'"):
        recommend(GLYPH, 31, "vgg")
    with pytest.raises(BadInput, match=r"tau is 2\.0"):
        recommend(GLYPH, 31, tau=2.0)


def test_defaults_in_words() -> None:
    assert describe_default("steps") == "10000; 400 with cnn or frozen features"
    assert describe_default("bottleneck") == "256; 64 with cnn; 128 with frozen features"
    assert describe_default("batch_size") == "32"
    for backbone, features in (("cnn", "trained"), ("mobilenet_v2", "frozen")):
        assert recommend(GLYPH, 31, backbone, features=features).steps == 400
    assert recommend(GLYPH, 31, "resnet50").steps == 10_000
