"""What MLflow runs to serve a model: this file is copied into the model, with `gsda` beside it."""

import warnings
from pathlib import Path
from typing import Any

import mlflow.models
import mlflow.pyfunc
import numpy as np

from gsda.bundle import load_bundle

with warnings.catch_warnings():
    # MLflow wants type hints for a schema of its own, and warns wherever the model is loaded;
    # the signature is given when the model is logged.
    warnings.simplefilter("ignore")

    class Served(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        """Images, uint8 (N, H, W, 3), to classes (N,) and probabilities (N, r)."""

        def load_context(self, context: Any) -> None:
            """Read the weights; nothing in them is executed."""
            self.predictor = load_bundle(Path(context.artifacts["bundle"]))

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            """{"class": names (N,), "probabilities": float32 (N, r), in the manifest's order}."""
            classes, probabilities = self.predictor.predict(np.asarray(model_input, np.uint8))
            return {"class": classes.astype(object), "probabilities": probabilities}


mlflow.models.set_model(Served())
