"""What must stand in the environment before ray and mlflow are imported: quiet, private, prompt."""

import logging
import os
from pathlib import Path

_DEFAULTS = {
    # Nobody asked for statistics to be sent.
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # One calm console: ours.
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what its other processes say of themselves
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Tune's own result files and snapshots are thrown away: the journal is the record.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    # An actor that is used again must not be killed over a slow clean-up.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
    # A tracking server that is away is asked again by us, not for minutes inside a request.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def prepare() -> None:
    """Set what the user has not set otherwise."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    # `ray start` asks for the token wherever there is one; a driver must be told to show it.
    if "RAY_AUTH_TOKEN" in os.environ or token_path().is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    for name in ("ray", "ray.tune", "ray.train", "alembic", "mlflow", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def token_path() -> Path:
    """The file with the token that opens Ray's ports."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
