"""`mlflow models serve` of a champion: a real round trip over HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scene import in_base64
from test_registry import NAME, make_entry

from gsda.bundle import load_bundle
from tune.registry import CHAMPION, register

PATIENCE = 180


def free_port() -> int:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])
    except OSError as error:
        pytest.skip(f"NO LOOPBACK PORT CAN BE HAD ({error}): SERVING NOT TESTED")


@pytest.fixture
def served(store: str, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a server of a champion, as the README starts it, and the model's folder."""
    assert register(make_entry(store, tmp_path / "model"), store).is_champion
    port, work = free_port(), tmp_path / "elsewhere"
    work.mkdir()
    words = ["-m", "mlflow", "models", "serve", "--env-manager", "local"]
    words += ["-m", f"models:/{NAME}@{CHAMPION}", "--host", "127.0.0.1", "--port", str(port)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with (work / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=work,
            env=environment | {"MLFLOW_TRACKING_URI": store},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait(address, process, work / "log")
            yield address, tmp_path / "model"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait(address: str, process: Any, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/ping", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"no answer in {PATIENCE} s:\n{log.read_text()}")


def post(address: str, content: Any) -> Any:
    request = urllib.request.Request(
        f"{address}/invocations",
        json.dumps(content).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]


def test_a_round_trip(served: tuple[str, Path]) -> None:
    address, folder = served
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 30, 3), dtype=np.uint8)
    classes, p = load_bundle(folder).predict(images)
    texts = [in_base64(image) for image in images]
    for content in (
        {"inputs": images.tolist()},
        {"instances": images.tolist()},
        {"inputs": texts},
        {"instances": texts},
        {"inputs": [texts[0], images[1].tolist(), f"data:image/png;base64,{texts[2]}"]},
    ):
        told = post(address, content)
        assert told["class"] == classes.tolist()
        assert np.allclose(told["probabilities"], p, atol=1e-6)
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(address, {"inputs": [texts[0], "no base64!"]})
    assert refused.value.code == 400
    assert "Image 1 is a text that is not base64" in refused.value.read().decode()
    assert len(post(address, {"inputs": texts})["class"]) == 3  # and it serves on
