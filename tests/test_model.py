"""E and C, and pretrained weights: what fits goes in, what does not is named."""

import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gsda.backbones import BACKBONES
from gsda.errors import BadInput
from gsda.model import Network, build_network, load_pretrained, read_weights

State = dict[str, Tensor]


@pytest.fixture
def network() -> Network:
    return build_network("resnet18", 5, 16, seed=0)


def trunk_of(network: Network) -> State:
    return network.E.get_submodule("backbone").state_dict()


def other_weights() -> State:
    """Weights of a resnet18 with its classification layer, as torchvision would give them."""
    state = {n: t.clone() for n, t in trunk_of(build_network("resnet18", 5, 16, seed=1)).items()}
    return state | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


def save(path: Path, content: Any) -> str:
    torch.save(content, path)
    return str(path)


def agrees(network: Network, state: State) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in trunk_of(network).items())


@pytest.mark.parametrize("name", ["cnn", "resnet18", "mobilenet_v2"])
def test_features_have_the_bottlenecks_width(name: str) -> None:
    network = build_network(name, 5, 16, seed=0).eval()
    crop = min(BACKBONES[name].crop, 64)
    with torch.inference_mode():
        f, z = network(torch.zeros(2, 3, crop, crop))
    assert f.shape == (2, 16)
    assert z.shape == (2, 5)
    assert bool((f >= 0).all())


def test_parameters_are_old_or_new_and_none_is_missed(network: Network) -> None:
    old, new = network.backbone_parameters(), network.new_parameters()
    everything = {id(parameter) for parameter in network.parameters()}
    assert {id(parameter) for parameter in [*old, *new]} == everything
    assert len(old) + len(new) == len(everything)
    assert len(new) == 6


def test_initialisation_is_a_function_of_the_seed() -> None:
    before = torch.get_rng_state()
    one, same, other = (build_network("cnn", 5, 16, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["C.weight"], other["C.weight"])


def test_no_weights_leave_the_network_as_it_is(network: Network) -> None:
    before = {name: tensor.clone() for name, tensor in trunk_of(network).items()}
    load_pretrained(network, "resnet18", "none")
    assert agrees(network, before)
    cnn = build_network("cnn", 5, 16, 0)
    load_pretrained(cnn, "cnn", "default")
    load_pretrained(cnn, "cnn", "none")
    assert torch.equal(cnn.C.weight, build_network("cnn", 5, 16, 0).C.weight)


def wrapped(state: State) -> Any:
    return {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3}


def uncounted(state: State) -> State:
    """As files from before torch counted the batches, torchvision's ResNet weights among them."""
    return {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}


def headless(state: State) -> State:
    return {n: t for n, t in state.items() if not n.startswith("fc.")}


@pytest.mark.parametrize("form", [dict, wrapped, headless])
def test_weights_from_a_file(form: Any, network: Network, tmp_path: Path) -> None:
    state = other_weights()
    head = network.C.weight.clone()
    load_pretrained(network, "resnet18", save(tmp_path / "w.pth", form(state)))
    assert agrees(network, state)
    assert torch.equal(network.C.weight, head)


def test_weights_without_counters_of_batches(network: Network, tmp_path: Path) -> None:
    state = other_weights()
    load_pretrained(network, "resnet18", save(tmp_path / "w.pth", uncounted(state)))
    assert agrees(network, state)


def test_weights_of_another_network_name_the_first_tensor(network: Network, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in trunk_of(network).items()}
    mobile = trunk_of(build_network("mobilenet_v2", 5, 16, 0))
    path = save(tmp_path / "mobile.pth", mobile)
    with pytest.raises(BadInput) as caught:
        load_pretrained(network, "resnet18", path)
    lacks = "it lacks the tensor conv1.weight, of shape (64, 3, 7, 7)."
    assert str(caught.value) == f"{path} does not fit resnet18: {lacks}"
    assert agrees(network, before)


def test_weights_of_another_shape_or_with_more(network: Network, tmp_path: Path) -> None:
    wide = other_weights() | {"layer1.0.conv1.weight": torch.zeros(64, 32, 3, 3)}
    with pytest.raises(BadInput, match=r"layer1.0.conv1.weight has shape \(64, 32, 3, 3\), not"):
        load_pretrained(network, "resnet18", save(tmp_path / "wide.pth", wide))
    deep = other_weights() | {"layer5.0.weight": torch.zeros(1)}
    with pytest.raises(
        BadInput, match=r"it has a tensor layer5\.0\.weight, which resnet18 has not"
    ):
        load_pretrained(network, "resnet18", save(tmp_path / "deep.pth", deep))


def test_a_deeper_resnet_does_not_fit(network: Network, tmp_path: Path) -> None:
    deeper = trunk_of(build_network("resnet34", 5, 16, 0))
    with pytest.raises(BadInput, match=r"it has a tensor layer1\.2"):
        load_pretrained(network, "resnet18", save(tmp_path / "34.pth", deeper))


def test_the_small_network_takes_no_file(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", other_weights())
    with pytest.raises(BadInput, match="Backbone 'cnn' has no pretrained weights"):
        load_pretrained(build_network("cnn", 5, 16, 0), "cnn", path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1, 2], "holds no state dict"),
        ({"model": {"a": 1}}, "holds no state dict"),
        (torch.zeros(3), "holds no state dict"),
    ],
)
def test_files_of_something_else(content: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=sentence):
        read_weights(Path(save(tmp_path / "x.pth", content)))


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"There is no weights file .*gone.pth: check --weights."):
        read_weights(tmp_path / "gone.pth")
    with pytest.raises(BadInput, match="There is no weights file"):
        read_weights(tmp_path)
    (tmp_path / "text.pth").write_text("these are no weights\n" * 99)
    with pytest.raises(BadInput, match="cannot be read as a file of weights") as caught:
        read_weights(tmp_path / "text.pth")
    assert "\n" not in str(caught.value)


class Trap:
    """An object whose unpickling leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def test_code_in_a_file_is_not_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    path = save(tmp_path / "trap.pth", {"weight": torch.zeros(1), "trap": Trap(mark)})
    with pytest.raises(BadInput, match="cannot be read as a file of weights") as caught:
        read_weights(Path(path))
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the trap itself works
    assert mark.exists()


def test_a_failed_download_says_what_to_put_where(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import ResNet18_Weights

    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", fail)
    with pytest.raises(BadInput) as caught:
        load_pretrained(network, "resnet18", "default")
    assert str(caught.value) == (
        "The ImageNet weights of resnet18 could not be downloaded: fetch resnet18-f37072fd.pth "
        "where there is a network and give --weights resnet18-f37072fd.pth."
    )


def test_a_download_is_put_in(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import ResNet18_Weights

    state = other_weights()
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda *_, **__: uncounted(state))
    load_pretrained(network, "resnet18", "default")
    assert agrees(network, state)


def test_every_backbone_has_default_weights_to_download() -> None:
    from torchvision import models

    for name, entry in BACKBONES.items():
        if entry.head:
            assert models.get_model_weights(name).IMAGENET1K_V1.url.endswith(".pth")


def test_real_weights_fit(real_data: Path) -> None:
    network = build_network("mobilenet_v2", 10, 16, 0)
    path = real_data / "weights" / "mobilenet_v2.pth"
    load_pretrained(network, "mobilenet_v2", str(path))
    given = read_weights(path)
    trunk = trunk_of(network)
    assert {n for n in given if not n.startswith("classifier.")} <= set(trunk)
    assert all(torch.equal(trunk[n], given[n]) for n in given if n in trunk)
