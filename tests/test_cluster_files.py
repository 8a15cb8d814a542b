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


# Fields of ray.io/v1 as of KubeRay 1.5.1 that a manifest like ours can have, with their types; "!"
# stands before those without which it is refused. Of a pod, what every Kubernetes knows.
_POD = {
    "!containers": [
        {
            "!name": str,
            "image": str,
            "env": [dict],
            "resources": {"requests": {str: str}, "limits": {str: str}},
            "volumeMounts": [{"!name": str, "!mountPath": str, "readOnly": bool, "subPath": str}],
        }
    ],
    "volumes": [{"!name": str, "persistentVolumeClaim": {"!claimName": str, "readOnly": bool}}],
    "nodeSelector": {str: str},
    "tolerations": [dict],
}
_GROUP = {
    "!rayStartParams": {str: str},
    "!template": {"metadata": dict, "!spec": _POD},
}
RAY_JOB = {
    "!apiVersion": str,
    "!kind": str,
    "!metadata": {"!name": str, "namespace": str, "labels": {str: str}},
    "!spec": {
        "entrypoint": str,
        "runtimeEnvYAML": str,
        "jobId": str,
        "submissionMode": str,
        "suspend": bool,
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "clusterSelector": {str: str},
        "rayClusterSpec": {
            "rayVersion": str,
            "suspend": bool,
            "enableInTreeAutoscaling": bool,
            "authOptions": {"mode": str, "secretName": str, "enableK8sTokenAuth": bool},
            "!headGroupSpec": {"serviceType": str, "enableIngress": bool, **_GROUP},
            "workerGroupSpecs": [
                {
                    "!groupName": str,
                    "replicas": int,
                    "!minReplicas": int,
                    "!maxReplicas": int,
                    "numOfHosts": int,
                    **_GROUP,
                }
            ],
        },
    },
}


def misfits(found: Any, expected: Any, where: str = "") -> list[str]:
    """Fields of a manifest that are unknown, missing or of another type."""
    if isinstance(expected, list):
        if not isinstance(found, list):
            return [f"{where} is no list"]
        return [m for n, one in enumerate(found) for m in misfits(one, expected[0], f"{where}/{n}")]
    if not isinstance(expected, dict):
        return [] if type(found) is expected else [f"{where} is no {expected.__name__}"]
    if not isinstance(found, dict):
        return [f"{where} is no object"]
    if str in expected:  # keys of a user's own
        return [m for key, value in found.items() for m in misfits(value, str, f"{where}/{key}")]
    fields = {name.lstrip("!"): inner for name, inner in expected.items()}
    needed = [name[1:] for name in expected if name.startswith("!")]
    wrong = [f"{where}/{name} is unknown" for name in found if name not in fields]
    wrong += [f"{where}/{name} is missing" for name in needed if name not in found]
    known = [name for name in found if name in fields]
    return wrong + [
        m for name in known for m in misfits(found[name], fields[name], f"{where}/{name}")
    ]


def test_the_job_of_kubernetes_has_fields_that_kuberay_knows() -> None:
    assert misfits(read("rayjob.yaml"), RAY_JOB) == []


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("spec/ttlSecondsAfterFinish", 3600, "/spec/ttlSecondsAfterFinish is unknown"),
        ("spec/backoffLimit", "0", "/spec/backoffLimit is no int"),
        (
            "spec/rayClusterSpec/headGroupSpec/rayStartParams/num-cpus",
            0,
            "/spec/rayClusterSpec/headGroupSpec/rayStartParams/num-cpus is no str",
        ),
        (
            "spec/rayClusterSpec/workerGroupSpecs",
            [{}],
            "/spec/rayClusterSpec/workerGroupSpecs/0/groupName is missing",
        ),
        (
            "spec/rayClusterSpec/headGroupSpec/template",
            [],
            "/spec/rayClusterSpec/headGroupSpec/template is no object",
        ),
    ],
)
def test_a_wrong_field_is_found(path: str, value: object, complaint: str) -> None:
    job = read("rayjob.yaml")
    *folders, name = path.split("/")
    place = job
    for folder in folders:
        place = place[folder]
    place[name] = value
    assert complaint in misfits(job, RAY_JOB)


def test_the_script_of_slurm_is_sound_for_bash() -> None:
    done = subprocess.run(
        ["bash", "-n", str(FOLDER / "search.slurm")], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
