"""`python tune/search.py --storage s3://...`: killed, gone on with elsewhere, and looked at."""

import json
from pathlib import Path

import pytest
from faults.bucket import killed_elsewhere, rig_of

from tune import report, status
from tune.objectstore import Store
from tune.search import main

SMALL = ["--task", "glyph31/W2D", "--steps", "6", "--evaluate-every", "2", "--batch-size", "4"]


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_search_in_a_bucket(
    scheme: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = "&anonymous=true" if scheme == "gs" else ""
    address = f"endpoint_override={request.getfixturevalue(scheme)}&scheme=http{more}"
    uri = f"{scheme}://bucket/e2e?{address}"
    rig = rig_of(tmp_path / "work", uri, cache)
    options = [*SMALL, "--trials", "1", "--cpus-per-trial", "1", "--name", "s"]
    left = killed_elsewhere(rig, uri, 1, options)
    assert "journal.log" in left
    assert "driver.json" in left
    assert any(name.startswith("trials/0000/attempts/1/step-") for name in left)
    resume = ["--task", "W2D", "--name", "s", "--storage", uri, "--resume", "--json"]
    code, said = rig.run(*resume)
    assert code == 0, said
    assert "Traceback" not in said
    assert json.loads(said.splitlines()[-1])["event"] == "result"
    census = rig.census("s")
    assert census.is_sound, census
    assert census.asked == 3
    there = list(Store(uri).files("s"))
    kinds = {"journal.log", "mlflow.place", "optuna.log", "report", "trials"}
    assert {name.partition("/")[0] for name in there} == kinds
    models = [name for name in there if name.startswith("trials/")]
    assert {name.split("/", 2)[2] for name in models} == {"model/manifest.json", "model/weights.pt"}

    monkeypatch.setenv("GSDA_CACHE", str(tmp_path / "elsewhere"))
    capsys.readouterr()
    assert status.main(["--storage", uri]) == 0
    assert "Search s: glyph31/W2D" in capsys.readouterr().out
    Store(uri).delete(["s/report/report.html"])
    assert report.main(["s", "--storage", uri]) == 0
    assert "report/report.html" in Store(uri).files("s")
    capsys.readouterr()
    assert main([*SMALL, "--name", "s", "--storage", uri]) == 2
    refused = capsys.readouterr().err
    place = f"{scheme}://bucket/e2e"
    assert refused.startswith(f"search.py: There is a search named s in {place}: add --res")


@pytest.mark.parametrize(
    ("storage", "sentence"),
    [
        ("s3://key:SECRET@bucket/x", "holds a user's name or key: leave it out"),
        ("http://bucket/x", "begins with http://, but may be a folder or one of s3://"),
        ("s3://bucket/x?endpoint_override=127.0.0.1:9&scheme=http", "it does not answer"),
    ],
)
def test_what_is_refused(
    storage: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("GSDA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for run in (main, status.main):
        flags = ["--task", "W2D"] if run is main else []
        assert run([*flags, "--storage", storage]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert sentence in err
        assert "SECRET" not in err
        assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
