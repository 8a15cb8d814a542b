"""What MLflow runs to serve a model: this file is copied into the model, with `gsda` beside it."""

from pathlib import Path
from typing import Any

import mlflow.models
import mlflow.pyfunc
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from gsda.bundle import load_bundle
from gsda.errors import BadInput


class ImageClassifier:
    """Images, an array (N, ...), to classes (N,) and probabilities (N, r).

    Either uint8 (N, H, W, 3), or N objects: what `gsda.incoming` takes, such as texts in base64.

    Apart from MLflow's class, and without type hints in `predict`: MLflow would make a schema of
    them, or warn that it cannot, wherever the model is loaded. The signature is given when it is
    logged.
    """

    def load_context(self, context: Any) -> None:
        """Read the weights; nothing in them is executed."""
        self.predictor = load_bundle(Path(context.artifacts["bundle"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """{"class": names (N,), "probabilities": float32 (N, r), in the manifest's order}."""
        try:
            classes, probabilities = self.predictor.predict_any(np.asarray(model_input))
        except BadInput as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None
        return {"class": classes.astype(object), "probabilities": probabilities}


class Served(ImageClassifier, mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """The model that MLflow loads."""


mlflow.models.set_model(Served())
