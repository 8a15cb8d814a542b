"""The registry: one version per trial, and the champion is who beats the champion."""

import contextlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import scene
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from gsda.bundle import load_bundle, save_bundle
from gsda.errors import BadInput
from gsda.model import build_network
from gsda.predict import find_model
from gsda.tasks import Task
from tune import registry
from tune.mlstore import ensure_experiment
from tune.registry import CHAMPION, Entry, Outcome, model_name, register

TASK = Task.parse("glyph31/W2D")
NAME = "gsda-glyph31-W2D"
ENDED = 1234567890123
CLASSES = ["A", "B", "&"]
Registry = Callable[..., Outcome]


def make_entry(uri: str, folder: Path, key: str = "u/0001", **changes: Any) -> Entry:
    """A model of a trial, in a run of its own."""
    if not folder.exists():
        config = {"backbone": "cnn", "alpha": 0.02, "beta": 1.0, "n_groups": 2, "tau": 0.9}
        manifest = {"classes": CLASSES, "backbone": "cnn", "bottleneck": 8, "config": config}
        save_bundle(folder, build_network("cnn", 3, 8, 0), manifest)
    client = MlflowClient(uri, registry_uri=uri)
    experiment = ensure_experiment(client, uri, str(TASK))
    run = client.create_run(experiment).info.run_id
    client.set_terminated(run, end_time=ENDED)
    entry = Entry(TASK, folder, run, key, "val/bnm", value=0.5, data="d1", oracle=0.75)
    return replace(entry, **changes)


def champion(uri: str) -> str | None:
    try:
        found = MlflowClient(uri, registry_uri=uri).get_model_version_by_alias(NAME, CHAMPION)
    except MlflowException:
        return None
    return str(found.version)


def versions(uri: str) -> list[Any]:
    return list(MlflowClient(uri, registry_uri=uri).search_model_versions(f"name = '{NAME}'"))


@pytest.fixture
def hand_in(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Registers a model with a value; its files are not copied, which takes seconds."""
    monkeypatch.setattr(registry, "_log_model", lambda *_: f"file://{tmp_path / 'model'}")

    def register_one(key: str, value: float, promote: bool = False, **changes: Any) -> Outcome:
        entry = make_entry(store, tmp_path / "model", key, value=value, **changes)
        return register(entry, store, promote)

    return register_one


def test_model_names_hold_the_dataset_and_the_task() -> None:
    assert model_name(TASK) == NAME
    assert model_name(TASK, "dann") == "dann-glyph31-W2D"


def test_methods_do_not_compete(hand_in: Registry, store: str) -> None:
    hand_in("a", 0.1)
    other = hand_in("b", 0.9, promote=True, method="dann")
    assert other == Outcome("dann-glyph31-W2D", "1", True, "version 1 is the champion")
    assert champion(store) == "1"
    client = MlflowClient(store, registry_uri=store)
    found = client.get_model_version_by_alias("dann-glyph31-W2D", CHAMPION)
    assert (found.tags["method"], found.tags["value"]) == ("dann", "0.9")
    described = client.get_registered_model(NAME).description
    assert described.startswith(f"Best models of {TASK} by GSDA searches.")


def test_the_first_is_the_champion(hand_in: Registry, store: str) -> None:
    outcome = hand_in("a", 0.1)
    assert outcome == Outcome(NAME, "1", True, "version 1 is the champion")
    assert champion(store) == "1"


def test_registering_again_makes_no_other_version(hand_in: Registry, store: str) -> None:
    assert hand_in("a", 0.1) == hand_in("a", 0.1)
    assert len(versions(store)) == 1
    assert hand_in("b", 0.2).version == "2"
    assert hand_in("a", 0.1).version == "1"
    assert len(versions(store)) == 2
    assert champion(store) == "2"


def test_only_a_better_one_becomes_the_champion(hand_in: Registry, store: str) -> None:
    hand_in("a", 0.5)
    worse = hand_in("b", 0.4)
    assert not worse.is_champion
    assert worse.sentence == "version 2 registered; champion is version 1 with val/bnm 0.5000"
    assert champion(store) == "1"
    better = hand_in("c", 0.6)
    assert better.is_champion
    assert better.sentence == "version 3 is the new champion, in place of version 1"
    assert champion(store) == "3"


def test_of_equals_the_older_stays(hand_in: Registry, store: str) -> None:
    hand_in("a", 0.5)
    assert not hand_in("b", 0.5).is_champion
    assert champion(store) == "1"


def test_negative_scores_compare_too(hand_in: Registry, store: str) -> None:
    hand_in("a", -2.0)
    assert hand_in("b", -1.0).is_champion
    assert not hand_in("c", -3.0).is_champion
    assert champion(store) == "2"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"metric": "val/im"}, "champion stays version 1, which was chosen by val/bnm (--promote"),
        ({"data": "d2"}, "champion stays version 1, which saw other images (--promote"),
    ],
)
def test_what_cannot_be_compared_needs_promoting(
    changes: dict[str, Any], reason: str, hand_in: Registry, store: str
) -> None:
    hand_in("a", 0.5)
    other = hand_in("b", 0.9, **changes)
    assert not other.is_champion
    assert reason in other.sentence
    assert champion(store) == "1"
    promoted = hand_in("b", 0.9, promote=True, **changes)
    assert promoted.is_champion
    assert promoted.version == "2"  # the version that was there
    assert champion(store) == "2"
    # from now on it is compared with its like
    assert not hand_in("c", 0.8, **changes).is_champion
    assert hand_in("d", 0.95, **changes).is_champion
    assert champion(store) == "4"


def test_target_labels_decide_nothing(hand_in: Registry, store: str) -> None:
    hand_in("a", 0.5, oracle=0.1)
    assert not hand_in("b", 0.4, oracle=0.99).is_champion
    assert hand_in("c", 0.6, oracle=None).is_champion
    tags = {v.version: v.tags for v in versions(store)}
    assert tags[min(tags)]["oracle/target_accuracy"] == "0.1"
    assert "oracle/target_accuracy" not in tags[max(tags)]


def test_a_lost_alias_goes_to_the_best_there_is(hand_in: Registry, store: str) -> None:
    hand_in("a", 0.9)
    hand_in("b", 0.5)
    MlflowClient(store, registry_uri=store).delete_registered_model_alias(NAME, CHAMPION)
    outcome = hand_in("c", 0.7)
    assert champion(store) == "1"
    assert not outcome.is_champion


def test_a_model_that_is_not_whole_is_refused_before_anything(store: str, tmp_path: Path) -> None:
    entry = make_entry(store, tmp_path / "model")
    (tmp_path / "model" / "weights.pt").unlink()
    with pytest.raises(BadInput, match="is no model"):
        register(entry, store)
    assert versions(store) == []


@pytest.fixture(scope="module")
def served(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A store with a champion, logged as a search logs it, elsewhere than the working folder."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        (folder / "elsewhere").mkdir()
        patch.chdir(folder / "elsewhere")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        outcome = register(make_entry(uri, folder / "model"), uri)
        assert outcome.is_champion
        assert list((folder / "elsewhere").iterdir()) == []
    return uri, folder


@pytest.fixture
def at_store(served: tuple[str, Path]) -> Any:
    """MLflow told where the champion is."""
    mlflow.set_tracking_uri(served[0])
    mlflow.set_registry_uri(served[0])
    yield served[1]
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


def images(n: int, side: int) -> Any:
    return np.random.default_rng(n).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def test_registering_leaves_mlflows_address_alone(served: tuple[str, Path]) -> None:
    assert mlflow.get_tracking_uri() != served[0]


@pytest.mark.parametrize(("n", "side"), [(1, 32), (5, 32), (3, 57)])
def test_the_champion_predicts(n: int, side: int, at_store: Path) -> None:
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@{CHAMPION}")
    told = model.predict(images(n, side))
    classes, p = load_bundle(at_store / "model").predict(images(n, side))
    assert list(told["class"]) == classes.tolist()
    assert np.allclose(told["probabilities"], p, atol=1e-6)


def test_the_champion_has_signature_example_and_requirements(at_store: Path) -> None:
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@{CHAMPION}")
    signature = model.metadata.signature
    assert signature.inputs.inputs[0].type == np.dtype(object)  # arrays, and texts in base64
    assert signature.inputs.inputs[0].shape == (-1,)
    assert {spec.name for spec in signature.outputs.inputs} == {"class", "probabilities"}
    assert model.metadata.saved_input_example_info is not None
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}@{CHAMPION}"))
    needed = (folder / "requirements.txt").read_text().split()
    assert all("==" in line for line in needed)
    assert {line.split("==")[0] for line in needed} >= {"mlflow", "torch", "numpy", "pillow"}
    assert not [line for line in needed if line.startswith(("ray", "optuna"))]
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size < 5e6
    assert not list(folder.rglob("__pycache__"))


def test_wrong_images_are_refused_in_a_sentence(at_store: Path) -> None:
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@{CHAMPION}")
    with pytest.raises(MlflowException, match=r"Image 0 must be whole numbers 0\.\.255 of"):
        model.predict(images(2, 32).astype(np.float32))


def test_the_champion_takes_files_in_base64(at_store: Path) -> None:
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@{CHAMPION}")
    given = images(3, 40)
    told = model.predict(np.array([scene.in_base64(image) for image in given], dtype=object))
    wanted = model.predict(given)
    assert list(told["class"]) == list(wanted["class"])
    assert np.array_equal(told["probabilities"], wanted["probabilities"])


def test_the_version_says_what_it_is(served: tuple[str, Path]) -> None:
    version = versions(served[0])[0]
    assert version.tags["metric"] == "val/bnm"
    assert float(version.tags["value"]) == 0.5
    assert version.tags["data"] == "d1"
    assert "| Setting | alpha 0.02, beta 1, n_groups 2, tau 0.9 |" in version.description
    assert "| 75.0%, by which nothing was chosen |" in version.description
    assert f'load_model("models:/{NAME}/{version.version}")' in version.description
    run = MlflowClient(served[0], registry_uri=served[0]).get_run(version.run_id)
    assert (run.info.status, run.info.end_time) == ("FINISHED", ENDED)  # as logging found it


def test_the_manifest_says_by_what_it_was_chosen(at_store: Path) -> None:
    predictor = find_model(f"models:/{NAME}@{CHAMPION}", mlflow.get_tracking_uri())
    selection = predictor.manifest["selection"]
    assert (selection["metric"], selection["value"]) == ("val/bnm", 0.5)
    assert "without labels" in selection["rule"]


def test_our_own_reader_runs_no_code_of_the_model(at_store: Path) -> None:
    predictor = find_model(f"models:/{NAME}@{CHAMPION}", mlflow.get_tracking_uri())
    assert predictor.classes == tuple(CLASSES)


_LOAD = """
import sys, numpy as np, mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
told = model.predict(np.zeros((2, 40, 40, 3), np.uint8))
import gsda
print(len(told["class"]), told["probabilities"].shape, gsda.__file__)
"""


def test_it_loads_quietly_where_this_package_is_not(
    served: tuple[str, Path], tmp_path: Path
) -> None:
    """Isolated from the working tree, with the code that lies in the model."""
    clean = "import sys; sys.path[:] = [p for p in sys.path if 'editable' not in p]; "
    clean += f"sys.path[:] = [p for p in sys.path if p != {str(Path(__file__).parents[1])!r}]; "
    clean += "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in str(f).lower()]\n"
    done = subprocess.run(
        [sys.executable, "-c", clean + _LOAD, served[0], f"models:/{NAME}@{CHAMPION}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    n, shape, file = done.stdout.strip().split(" ", 1)[0], (2, 3), done.stdout.strip().split()[-1]
    assert n == "2"
    assert str(shape) in done.stdout
    assert "served" in file  # the model's own copy
    assert list(tmp_path.iterdir()) == []


class Killed(RuntimeError):
    """Stands for the end of the process."""


ACTS = ("create_registered_model", "create_logged_model", "log_outputs", "log_model_artifacts")
ACTS += ("finalize_logged_model", "create_model_version", "set_registered_model_alias")


@pytest.mark.parametrize("after", [False, True])
def test_killed_in_the_middle_it_is_registered_once(
    after: bool, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process after another, each killed before, or after, another act of registering."""
    entry = make_entry(store, tmp_path / "model")
    client = MlflowClient(store, registry_uri=store)
    killed = []
    for name in ACTS:
        with monkeypatch.context() as patch:
            method = getattr(MlflowClient, name)

            def die(*args: Any, method: Any = method, name: str = name, **kwargs: Any) -> Any:
                if after:
                    method(*args, **kwargs)
                killed.append(name)
                raise Killed(name)

            patch.setattr(MlflowClient, name, die)
            with contextlib.suppress(Killed):
                register(entry, store)
        run = client.get_run(entry.run_id)
        assert (run.info.status, run.info.end_time) == ("FINISHED", ENDED)  # never opened again
    assert len(killed) >= len(ACTS) - 2
    assert register(entry, store).sentence == "version 1 is the champion"
    assert [(str(v.version), v.tags["gsda.trial"]) for v in versions(store)] == [("1", entry.key)]
    assert champion(store) == "1"
    logged = client.search_logged_models([run.info.experiment_id])
    assert [str(model.status) for model in logged] == ["READY"]


def test_a_version_tells_of_a_choice_made_elsewhere(
    hand_in: Registry, store: str, tmp_path: Path
) -> None:
    hand_in("a", 0.9, origin="old, trial 3", how="its setting was found by old, trial 3, on x/A2B")
    version = MlflowClient(store, registry_uri=store).get_model_version(NAME, "1")
    assert version.tags["transferred_from"] == "old, trial 3"
    said = (
        "| its setting was found by old, trial 3, on x/A2B; here val/bnm = 0.9000, which reads no"
    )
    assert said in version.description
    rule = load_bundle(tmp_path / "model").manifest["selection"]["rule"]
    assert rule == "its setting was found by old, trial 3, on x/A2B"
