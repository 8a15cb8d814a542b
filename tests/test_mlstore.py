"""MLflow's own database, made once whoever asks for it."""

import threading
from pathlib import Path

from mlflow import MlflowClient

from tune import mlstore


def test_a_store_is_made_where_there_is_none_and_by_one_alone(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    makers = [threading.Thread(target=mlstore.ensure_database, args=(uri,)) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    client = MlflowClient(uri, registry_uri=uri)
    assert mlstore.ensure_experiment(client, uri, "x") == mlstore.ensure_experiment(
        client, uri, "x"
    )
    before = (tmp_path / "new" / "mlflow.db").stat().st_ino
    mlstore.ensure_database(uri)
    assert (tmp_path / "new" / "mlflow.db").stat().st_ino == before
    mlstore.ensure_database("http://127.0.0.1:1")  # a server makes its own
