"""What a trial gets of the machines, and addresses where nobody is."""

import socket
import stat
from pathlib import Path

import pytest

import tune.cluster
from gsda.errors import BadInput
from tune.cluster import Share, check_device, connected, places, share


@pytest.fixture
def have(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Resources of a Ray that is not there."""
    resources = {"CPU": 8.0, "GPU": 2.0}
    nodes = [{"Alive": True, "Resources": resources}, {"Alive": False, "Resources": {"CPU": 99.0}}]
    monkeypatch.setattr(tune.cluster.ray, "nodes", lambda: nodes)
    return resources


@pytest.mark.parametrize(
    ("device", "cpus", "gpus", "expected"),
    [
        (None, None, None, Share("cuda", 1.0, 1.0)),
        ("auto", 2.0, 0.5, Share("cuda", 2.0, 0.5)),
        ("cpu", None, None, Share("cpu", 1.0, 0.0)),
        ("cuda", 4.0, 0.0, Share("cuda", 4.0, 0.0)),
    ],
)
def test_a_share(
    have: dict[str, float],
    device: str | None,
    cpus: float | None,
    gpus: float | None,
    expected: Share,
) -> None:
    assert share(device, cpus, gpus) == expected


def test_the_device_follows_from_the_cluster_s_gpus(have: dict[str, float]) -> None:
    del have["GPU"]
    assert share(None, None, None) == Share("cpu", 1.0, 0.0)


@pytest.mark.parametrize(
    ("device", "cpus", "gpus", "culprit"),
    [("cpu", 9.0, None, "lower --cpus-per-trial"), ("cuda", 1.0, 3.0, "lower --gpus-per-trial")],
)
def test_more_than_there_is(
    have: dict[str, float], device: str, cpus: float, gpus: float | None, culprit: str
) -> None:
    with pytest.raises(BadInput, match=culprit):
        share(device, cpus, gpus)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Share("cpu", 1, 0), 8),
        (Share("cpu", 3, 0), 2),
        (Share("cuda", 1, 0.5), 4),
        (Share("cuda", 0.5, 0.25), 8),
        (Share("cuda", 0.5, 0.1), 16),
        (Share("cuda", 8, 1), 1),
    ],
)
def test_places(have: dict[str, float], wanted: Share, expected: int) -> None:
    assert places(wanted) == expected


def test_a_trial_is_not_spread_over_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    resources = [{"CPU": 3.0}, {"CPU": 3.0, "GPU": 1.0}, {"GPU": 8.0}]
    nodes = [{"Alive": True, "Resources": have} for have in resources]
    monkeypatch.setattr(tune.cluster.ray, "nodes", lambda: nodes)
    assert places(share("cpu", 2, None)) == 2
    assert places(share("cuda", 0.5, 0.25)) == 4
    with pytest.raises(BadInput, match="no machine of the cluster has more than 3: lower --cpus"):
        share("cpu", 4, None)
    with pytest.raises(BadInput, match="1 CPU and 2 GPU, and no machine of the cluster has both"):
        share("cuda", 1, 2)


def test_tenths_of_a_gpu_add_up_to_one() -> None:
    for n in range(1, 101):
        assert tune.cluster.holds({"GPU": 1.0}, Share("cuda", 0, 1 / n)) == n


def test_a_search_does_not_run_through_ray_s_client() -> None:
    with (
        pytest.raises(BadInput, match=r"runs on a machine of the cluster, .* --address auto"),
        connected("ray://127.0.0.1:10001"),
    ):
        raise AssertionError("connected")


def test_a_gpu_elsewhere_may_be_wanted_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune.cluster.torch.cuda, "is_available", lambda: False)
    check_device("cuda", "head:6379")
    check_device("cpu", None)
    with pytest.raises(BadInput, match="torch sees no GPU here"):
        check_device("cuda", None)


def test_nobody_at_an_address() -> None:
    with (
        pytest.raises(BadInput, match=r"Nothing answers at --address 127\.0\.0\.1:1 "),
        connected("127.0.0.1:1"),
    ):
        raise AssertionError("connected to nobody")


def test_the_token_is_the_user_s_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    tune.cluster._protect_token()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_a_machine_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray counts on it, and nobody listens there."""
    with (
        socket.create_server(("127.0.0.1", 0)) as there,
        socket.create_server(("127.0.0.2", 0)) as gone,
    ):
        nodes = [
            {"Alive": True, "NodeManagerAddress": host, "NodeManagerPort": port}
            for host, port in (there.getsockname(), gone.getsockname())
        ]
        monkeypatch.setattr(tune.cluster.ray, "nodes", lambda: nodes)
        assert tune.cluster.silent() == []
        gone.close()
        assert tune.cluster.silent() == ["127.0.0.2"]
        nodes[1]["Alive"] = False
        assert tune.cluster.silent() == []
