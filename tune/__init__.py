"""The search: Ray Tune runs the trials, Optuna proposes them, a log of events remembers them."""

from tune.environment import prepare

prepare()  # ray and mlflow read it when they are imported, which only modules below this one do
