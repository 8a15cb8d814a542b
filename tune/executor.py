"""Ray Tune as the executor: it gives out trials to workers and brings back their reports.

What Tune knows is thrown away with the process: both of its hooks ask `Progress`, and tell it.
"""

import shutil
from pathlib import Path
from typing import Any

import ray.tune
from ray import cloudpickle
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tune.cluster import places, silent
from tune.failures import LOST_NODE, LOST_WORKER, NO_WORKER, classify_worker
from tune.progress import Progress
from tune.trainable import Report, RunTrainable

_SCRATCH = "tune"  # what Tune writes of its own accord, below the search's folder


class JournalSearcher(Searcher):  # type: ignore[misc]
    """Tune's question "what next?", answered from the journal."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(metric="training_iteration", mode="max")
        self._progress = progress

    def suggest(self, trial_id: str) -> Any:
        """The next trial's order; None while all places are taken; FINISHED at the end."""
        progress = self._progress
        if len(progress.running) >= max(1, places(progress.plan.share)):
            return None
        trial = progress.next_trial()
        if trial is None:
            return None if progress.is_waiting else Searcher.FINISHED
        try:
            order = progress.start(trial)
        except OSError as error:
            progress.halt_over(error)
            return Searcher.FINISHED
        if progress.is_safe():
            return order.to_config()
        progress.running.discard(trial.number)  # no worker has it
        return Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the scheduler hears of it too, and by number."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the journal remembers."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: Tune's own state is never restored."""


class JournalScheduler(FIFOScheduler):  # type: ignore[misc]
    """Tune's question "go on with this trial?", answered from the journal."""

    _supports_buffered_results = False

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Write the report down, then decide."""
        over = self._progress.report(trial.config["trial"], Report.of_result(result))
        return str(TrialScheduler.STOP if over else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """The worker died: killed, out of memory, or its node is gone."""
        cause, reason = classify_worker(_error_of(trial))
        if cause == LOST_WORKER and (gone := silent()):
            cause, reason = LOST_NODE, f"its machine {gone[0]} was lost"
        self._progress.fault(trial.config["trial"], reason, cause)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Tune gave up on a trial before it ran."""
        self._progress.fault(trial.config["trial"], "its worker could not be started", NO_WORKER)


def _error_of(trial: Any) -> BaseException | None:
    """What Ray raised when a trial's worker was gone, as far as Tune could keep it.

    Tune wrote it a moment ago, for itself; `get_pickled_error` looks for it in the storage, where
    it is not yet.
    """
    try:
        error: BaseException | None = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception:  # of whatever kind: an error that cannot be read is an error unknown
        return None
    return error


def execute(progress: Progress) -> None:
    """Run the search until all is done, or it is interrupted or halted."""
    plan = progress.plan
    trainable = ray.tune.with_resources(
        RunTrainable, {"CPU": plan.share.cpus, "GPU": plan.share.gpus}
    )
    ray.tune.run(
        trainable,
        name=_SCRATCH,
        trial_dirname_creator=lambda trial: f"{trial.config['trial']:04d}-{trial.trial_id}",
        num_samples=10**9,  # the searcher says when it is enough
        search_alg=JournalSearcher(progress),
        scheduler=JournalScheduler(progress),
        storage_path=str(plan.folder),
        max_failures=0,  # a fault goes through the journal, and is tried again from there
        reuse_actors=True,
        raise_on_failed_trial=False,
        verbose=0,
        callbacks=[],
    )
    shutil.rmtree(plan.folder / _SCRATCH, ignore_errors=True)
