"""The search: Ray Tune runs the trials, Optuna proposes them, a log of events remembers them."""
