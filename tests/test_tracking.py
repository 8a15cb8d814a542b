"""The address of the record: what is shown of it, and which are refused."""

from pathlib import Path

import pytest

from gsda.errors import BadInput
from gsda.tracking import SQLITE, choose_tracking_uri, hide_password


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://u:pw@h:5000/x", "http://h:5000/x"),
        ("http://u:pw/x@h/", "http://h/"),
        ("http://u:p?x@h/", "http://h/"),
        ("http://u:p@ss@h/", "http://h/"),
        ("http://token@h", "http://h"),
        ("postgresql+psycopg2://u:a/b@c/d@h/db", "postgresql+psycopg2://h/db"),
        ("postgresql://h/db?user=u&password=SECRET", "postgresql://h/db?user=u&password=***"),
        ("postgresql://h/db?PASSWD=S;S&user=u", "postgresql://h/db?PASSWD=***&user=u"),
        ("http://h/?access_token=S&x=1", "http://h/?access_token=***&x=1"),
        ("mysql://h/db?ssl_key=S", "mysql://h/db?ssl_key=***"),
        ("http://h:5000/x", "http://h:5000/x"),
        ("sqlite:////home/me@work:1/mlflow.db", "sqlite:////home/me@work:1/mlflow.db"),
        ("databricks", "databricks"),
    ],
)
def test_what_is_shown_of_an_address(uri: str, shown: str) -> None:
    assert hide_password(uri) == shown


def test_a_path_that_sqlite_would_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "what?"
    folder.mkdir()
    for said in (f"{SQLITE}{folder}/mlflow.db", f"{SQLITE}{tmp_path}/a.db?timeout=3"):
        with pytest.raises(
            BadInput, match=r"for its path has a '\?': name another place by --trac"
        ):
            choose_tracking_uri(said)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    with pytest.raises(BadInput, match=r"An SQLite file cannot lie at .*what\?/mlflow\.db, for"):
        choose_tracking_uri(None)
    assert choose_tracking_uri("http://h:5000") == "http://h:5000"
    assert list(tmp_path.iterdir()) == [folder]
