"""What imports what: layers, weight, and who may see target labels."""

import ast
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scene

import gsda
import tune.spec
import tune.trainable
from gsda.data.domain import Domain, Images
from gsda.data.load import DataSpec, identity, load_domains
from gsda.tasks import Task
from tune.console import Console
from tune.settings import Settings

ROOT = Path(__file__).parents[1]
PACKAGES = {name: sorted((ROOT / name).rglob("*.py")) for name in ("gsda", "tune", "experiments")}
HEAVY = ("torch", "torchvision", "ray", "mlflow", "optuna", "pyarrow")


def loaded(code: str, cwd: Path = ROOT) -> set[str]:
    """Which of the heavy libraries a program has loaded."""
    report = f"; import sys, json; print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code + report], cwd=cwd, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("gsda", set()),
        ("gsda.cli", set()),
        ("gsda.run", {"torch", "torchvision", "pyarrow"}),
        ("gsda.predict", {"torch", "torchvision", "pyarrow"}),
        ("gsda.data", {"torch", "torchvision", "pyarrow"}),
        ("tune.settings", {"pyarrow"}),
        ("tune.search", {"pyarrow"}),
        ("tune.space", set()),
    ],
)
def test_what_an_import_costs(module: str, allowed: set[str]) -> None:
    assert loaded(f"import {module}") <= allowed


@pytest.mark.parametrize("module", ["tune.cluster", "experiments.tuned", "tune.report"])
def test_whoever_imports_ray_shows_it_the_token(module: str, tmp_path: Path) -> None:
    """Ray reads it when it is imported: later is too late, and nothing of Ray starts."""
    (tmp_path / "token").write_text("0" * 64)
    environment = {n: v for n, v in os.environ.items() if not n.startswith("RAY_AUTH")}
    code = f"""
import builtins, os
real = builtins.__import__
def watch(name, *rest):
    if name.split(".")[0] in ("ray", "mlflow"):
        assert os.environ.get("RAY_AUTH_MODE") == "token", name
        assert os.environ.get("MLFLOW_DISABLE_TELEMETRY") == "true", name
    return real(name, *rest)
builtins.__import__ = watch
import {module}
"""
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=True,
        env=environment | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")},
    )


def test_a_run_is_there_once_it_is_asked_for() -> None:
    assert "torch" in loaded("import gsda; gsda.Run")
    with pytest.raises(AttributeError, match="has no attribute 'Walk'"):
        gsda.Walk  # noqa: B018


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module or ""


@pytest.mark.parametrize(
    ("package", "above"),
    [
        ("gsda", {"tune", "experiments", "ray", "optuna"}),
        ("tune", {"experiments"}),
        ("experiments", set()),
    ],
)
def test_imports_point_down(package: str, above: set[str]) -> None:
    assert PACKAGES[package]
    for path in PACKAGES[package]:
        tops = {name.partition(".")[0] for name in imports(path)}
        assert not tops & (above | {"tests"}), path
        if package == "gsda" and path.name != "predict.py":
            assert "mlflow" not in tops, path


def test_config_and_tasks_are_leaves() -> None:
    for name in ("config", "tasks", "errors", "published", "version"):
        own = {n for n in imports(ROOT / "gsda" / f"{name}.py") if n.startswith("gsda")}
        # The registry of methods loads none of them, and nothing but errors.
        assert own <= {"gsda.errors", "gsda.published", "gsda.methods"}, name


def test_no_file_of_tune_hides_another_module() -> None:
    """`python tune/search.py` puts tune/ first on the path, in Ray's workers too."""
    own = {path.stem for path in PACKAGES["tune"]} - {"__init__"}
    installed = set(importlib.metadata.packages_distributions())
    assert {"ray", "optuna", "mlflow", "torch"} <= installed
    assert not own & (set(sys.stdlib_module_names) | (installed - {"tune"}))


@pytest.mark.parametrize("isolated", [[], ["-I"]])
def test_help_works_from_anywhere(isolated: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *isolated, str(ROOT / "tune" / "search.py"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for option in (
        "--task --dataset --data --backbone --weights --trials --max-hours --steps --seed --metric "
        "--device --cpus-per-trial --gpus-per-trial --address --name --resume --storage "
        "--tracking-uri --search --promote --skip-bad-images"
    ).split():
        assert option in done.stdout
    assert "Exit codes: 0 done, 1 no usable trial, 2 bad use" in done.stdout
    assert list(tmp_path.iterdir()) == []


# Target labels


def label_readers(package: str) -> dict[str, set[str]]:
    """Files that read an attribute `labels`, and of what."""
    found: dict[str, set[str]] = {}
    for path in PACKAGES[package]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "labels":
                name = path.relative_to(ROOT / package).as_posix()
                found.setdefault(name, set()).add(ast.unparse(node.value))
    return found


def test_labels_are_read_in_few_places_and_never_of_a_target() -> None:
    readers = label_readers("gsda")
    assert readers.pop("run.py") == {"pair.source"}
    assert readers.pop("oracle.py") == {"target"}
    # `Labelled`, which a run makes of the source alone.
    assert readers.pop("validators/source.py") == {"source"}
    where_they_come_from = {"load", "store", "digits", "domain"}
    assert set(readers) <= {f"data/{name}.py" for name in where_they_come_from}
    assert label_readers("tune") == {}
    assert label_readers("experiments") == {}


def test_a_method_and_a_validator_are_not_given_any() -> None:
    from gsda.data.domain import Pair
    from gsda.validators import Outputs

    assert {field.name: field.type for field in fields(Pair)} == {
        "source": Domain,
        "target": Images,
    }
    assert {field.name for field in fields(Outputs)} == {"features", "logits"}


@dataclass(frozen=True)
class Witness:
    """A target domain that remembers which files read its labels."""

    domain: Domain
    seen: set[str]

    @property
    def labels(self) -> Any:
        frame = sys._getframe(1)
        self.seen.add(Path(frame.f_code.co_filename).relative_to(ROOT).as_posix())
        return self.domain.labels

    def __getattr__(self, name: str) -> Any:
        return getattr(self.domain, name)

    def __len__(self) -> int:
        return len(self.domain)


def test_only_the_oracle_reads_target_labels(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial is run as in a worker, and a search described, on a target that keeps watch."""
    seen: set[str] = set()

    def watched(load: Any) -> Any:
        def wrapper(*arguments: Any) -> Any:
            source, target = load(*arguments)
            return source, Witness(target, seen)

        return wrapper

    monkeypatch.setattr(tune.spec, "load_domains", watched(tune.spec.load_domains))
    settings = Settings(cache=cache, overrides={"steps": 2, "evaluate_every": 1})
    spec = tune.spec.specify(Task.parse(scene.TASK), settings, Console())
    assert spec["images"] == [795, 498]
    assert seen == set()
    monkeypatch.setattr(tune.trainable, "_domains", watched(tune.trainable._domains))
    monkeypatch.setattr(tune.trainable.RunTrainable, "_setup_logdir", lambda self: None)
    config = scene.small_config(steps=2, target_sampling="pseudo", tau=0.05).to_dict()
    data = scene.data_spec(cache)
    digest = scene.data_digest(cache)
    folder = str(tmp_path / "t")
    order = tune.trainable.Order(0, scene.TASK, data, digest, config, folder, "cpu", 1)
    report = tune.trainable.Report.of_result(tune.trainable.RunTrainable(order.to_config()).step())
    assert report.finished
    assert "oracle/target_accuracy" in report.metrics
    assert seen == {"gsda/oracle.py"}


def test_the_digest_of_the_data_leaves_target_labels_out(cache: Path) -> None:
    source, target = load_domains(Task.parse(scene.TASK), DataSpec(None, cache, 32))
    unlabelled = replace(target, labels=np.full_like(target.labels, -1))
    assert identity(source, unlabelled) == identity(source, target)
    assert identity(target, source) != identity(source, target)
