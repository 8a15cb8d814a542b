"""The ready files of docs/cluster, as far as they can be tried without a cluster."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tune.search import build_parser

FOLDER = Path(__file__).parents[1] / "docs" / "cluster"


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def test_ray_up_takes_its_file() -> None:
    """Ray fills in its own defaults, and then checks the whole by its schema."""
    whole = prepare_config(read("ray-up.yaml"))
    validate_config(whole)
    assert whole["max_workers"] == len(whole["provider"]["worker_ips"])
    for kind in ("head", "worker"):
        begins = whole[f"{kind}_start_ray_commands"][-1]
        assert "RAY_AUTH_MODE=token" in begins


def test_ray_up_refuses_what_it_does_not_know() -> None:
    with pytest.raises(Exception, match="Additional properties are not allowed"):
        validate_config(prepare_config(read("ray-up.yaml") | {"workers": 3}))


def test_the_job_of_kubernetes_is_a_search() -> None:
    job = read("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    words = job["spec"]["entrypoint"].split()
    assert words[0] == "gsda-search"
    options = build_parser().parse_args(words[1:])
    assert options.address == "auto"
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    assert cluster["authOptions"] == {"mode": "token"}
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    assert len({pod["containers"][0]["image"] for pod in pods}) == 1
    for pod in pods:  # every pod sees the storage
        mounts = pod["containers"][0]["volumeMounts"]
        assert {"name": "shared", "mountPath": "/shared"} in mounts
        assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "CLAIM"}
    assert str(options.storage).startswith("/shared/")


def test_the_script_of_slurm_is_sound_for_bash() -> None:
    done = subprocess.run(
        ["bash", "-n", str(FOLDER / "search.slurm")], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
