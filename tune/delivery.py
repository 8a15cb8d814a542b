"""What MLflow gets at the end of a search, and later what it is still owed; without Ray."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gsda.errors import BadInput
from gsda.sealed import ACCURACY
from gsda.tasks import Task
from tune.choice import Choice, choose
from tune.console import Console
from tune.held import open_journal
from tune.history import History, Trial
from tune.journal import Event, Journal
from tune.kind import is_sweep
from tune.record import Mirror, first_line
from tune.registry import Entry, Outcome, register
from tune.scope import how_chosen, is_group, members, origin_of
from tune.seal import is_unsealed
from tune.settings import DONE, INTERRUPTED, OWED
from tune.shelf import MODEL_FOLDER, method_of, trial_folder

PATIENCE_S = 30.0
# Between attempts to register: two searches that end at once find one database locked.
PAUSES_S = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Delivery:
    """Where the record of a search goes, and how.

    Attributes:
        promote: as of `registry.register`.
    """

    journal: Journal
    mirror: Mirror
    uri: str
    promote: bool = False

    def register(self, history: History, chosen: Choice) -> tuple[Outcome | None, str]:
        """Hand the winner's model to the registry; without an outcome, the reason."""
        outcomes: list[Outcome] = []
        for task, digest in members(history.spec):
            outcome, trouble = self._register(history, chosen, task, digest)
            if outcome is None:
                return None, trouble
            outcomes.append(outcome)
        return replace(outcomes[0], others=tuple(outcomes[1:])), ""

    def _register(
        self, history: History, chosen: Choice, task: Task, digest: str
    ) -> tuple[Outcome | None, str]:
        """The model of one task: of the trial, or one of several that it trained."""
        best, spec = chosen.model, history.spec
        folder = trial_folder(self.journal.path.parent, best.number)
        metric, value = chosen.comparable(spec)
        pair = task.pair if is_group(spec) else ""
        of_task = f"{pair}/" if pair else ""

        def attempt() -> Outcome:
            entry = Entry(
                task=task,
                folder=folder / pair / MODEL_FOLDER,
                run_id=self.mirror.run_of(best.number),
                key=history.key(best.number) + (f"/{pair}" if pair else ""),
                metric=metric,
                value=chosen.picked.final[f"{of_task}{metric}"] if pair else value,
                data=digest,
                oracle=best.value(f"{of_task}{ACCURACY}"),
                method=method_of(spec),
                unsealed=is_unsealed(spec),
                origin=origin_of(spec),
                how=how_chosen(spec),
            )
            return register(entry, self.uri, self.promote)

        outcome, trouble = _patiently(attempt)
        told = {"task": pair} if pair else {}
        if outcome is not None and not _is_told(self.journal.events, best, outcome, told):
            self.journal.append(
                "champion",
                trial=best.number,
                outcome=outcome.sentence,
                version=outcome.version,
                **told,
            )
        return outcome, trouble

    def owed(self, trouble: str, model: bool = False) -> str:
        """What MLflow has not got, and why; "" if it has all.

        Args:
            trouble: the reason, if something is known.
            model: whether the best model is among it.
        """
        events = self.mirror.what_is_owed()
        parts = [part for part in (events, "the best model" if model else "") if part]
        if self.mirror.refused:
            n, last = len(self.mirror.refused), self.mirror.refused[-1]
            parts.append(f"{n} events that it refused for good, the last: {last}")
        reason = trouble or self.mirror.trouble
        return f"{' and '.join(parts)}{f': {reason}' if reason else ''}" if parts else ""


def _patiently(attempt: Callable[[], Outcome]) -> tuple[Outcome | None, str]:
    for pause in (*PAUSES_S, None):
        try:
            return attempt(), ""
        except BadInput as error:  # a model that is damaged stays so
            return None, str(error)
        except Exception as error:  # whatever MLflow raises, the trials are done and stay done
            trouble = first_line(error)
        if pause is not None:
            time.sleep(pause)
    return None, trouble


def _is_told(events: Sequence[Event], best: Trial, outcome: Outcome, of: Mapping[str, str]) -> bool:
    """Whether the last word on the champion, of that task if there are several, was this one."""
    told = [e for e in events if e["event"] == "champion" and e.get("task") == of.get("task")]
    return bool(told) and (told[-1]["trial"], told[-1]["outcome"]) == (
        best.number,
        outcome.sentence,
    )


def is_over(events: Sequence[Event]) -> bool:
    """Whether a search came to its end, not to an interruption."""
    turns = [e["event"] for e in events if e["event"] in ("search", "resume", "pause", "done")]
    return bool(turns) and turns[-1] == "done"


def flush(
    folder: Path, uri: str, promote: bool, console: Console, remote: str | None = None
) -> int:
    """Deliver what MLflow is owed of the search in `folder`, and run nothing; the exit code.

    Raises:
        BadInput: the journal is damaged, or a process drives the search.
    """
    journal = open_journal(remote, folder)
    mirror = Mirror(journal.path, uri)
    try:
        mirror.start()
        return _flush(Delivery(journal, mirror, uri, promote), console)
    finally:
        mirror.stop()
        journal.close()


def _flush(delivery: Delivery, console: Console) -> int:
    events = delivery.journal.events
    history = History.of(events)
    chosen = None if is_sweep(history.spec) or not is_over(events) else choose(history)
    outcome, trouble = None, ""
    if delivery.mirror.settle(PATIENCE_S) and chosen is not None:
        delivery.journal.copy.fetch(trial_folder(delivery.journal.path.parent, chosen.model.number))
        outcome, trouble = delivery.register(history, chosen)
        delivery.mirror.settle(PATIENCE_S)
    owed = delivery.owed(trouble, model=chosen is not None and outcome is None)
    if not owed and is_over(events) and not is_sweep(history.spec):
        _report(delivery, console)
    undelivered = told_undelivered(delivery.journal, console)
    console.flushed(history, outcome, owed, is_over(events))
    return INTERRUPTED if undelivered else OWED if owed else DONE


def told_undelivered(journal: Journal, console: Console) -> bool:
    """Bring the copy of a search elsewhere up to date; if that fails, it is said."""
    trouble = journal.copy.sync()
    if trouble:
        console.say(f"Not all could be delivered to {trouble}. --resume delivers it from here.")
    return bool(trouble)


def _report(delivery: Delivery, console: Console) -> None:
    from tune.report import deliver  # imports matplotlib

    history = History.of(delivery.journal.events)
    trouble = deliver(delivery.journal.path.parent, history, delivery.uri)
    if trouble:
        console.say(f"MLflow has not got the report ({trouble}).")
