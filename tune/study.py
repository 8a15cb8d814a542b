"""The Optuna study of a search, in a file that optuna-dashboard opens: `python -m tune.study NAME`.

A projection of the journal and nothing more: the driver keeps it up while a search runs, the
command makes it again at any time, and no search reads it. The same events give the same bytes, so
a dashboard that is open goes on reading after a resume.
"""

import argparse
import json
import shlex
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from gsda.errors import BadInput
from gsda.files import write_atomically
from gsda.sealed import PREFIX
from gsda.stopping import stoppable
from tune import seal
from tune.history import COMPLETE, FAILED, PAPER, PRUNED, SEARCHED, History, Trial
from tune.journal import Event, read_events
from tune.remote import find_there, put_files
from tune.sampler import distributions, in_optuna
from tune.settings import BAD_USE, DEFAULT_STORAGE
from tune.shelf import JOURNAL, find_named
from tune.space import Range, build_space, inside
from tune.uri import locate

STUDY = "optuna.log"
_STATES = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED, FAILED: TrialState.FAIL}
_OF_THE_STUDY = ("task", "data_title", "metric", "seed")
_SHOWN = ("val/", PREFIX)  # scores of a trial that the dashboard shows beside the metric


class _Log(BaseJournalBackend):  # type: ignore[misc]
    """Optuna's own operations on a study, kept in memory as lines of its journal file.

    Attributes:
        now: what the next operations take for the present time, in seconds since 1970.
    """

    def __init__(self) -> None:
        self._logs: list[dict[str, Any]] = []
        self.now = 0.0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Operations from that number on."""
        yield from self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Take operations in, at the time of the event that they belong to."""
        for log in logs:
            if "datetime_complete" in log:
                log["datetime_complete"] = _time(self.now).isoformat(timespec="microseconds")
            self._logs.append(json.loads(json.dumps(log)))

    def lines(self, begin: int = 0) -> list[bytes]:
        """The file's lines; who wrote them is left out, or no two files would be the same."""
        plain = (log | {"worker_id": "gsda"} for log in self._logs[begin:])
        return [json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in plain]

    def __len__(self) -> int:
        return len(self._logs)


class StudyLog:
    """What the events of a journal are in Optuna's terms.

    A trial has the number that it has everywhere, and the states RUNNING, COMPLETE, PRUNED and
    FAIL. Trials of no searched setting (source-only) or of another training (fine-tuned)
    have no params.
    """

    def __init__(self) -> None:
        self.log = _Log()
        self.history = History()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage = JournalStorage(self.log)
        self._study: optuna.Study | None = None
        self._space: Mapping[str, Range] = {}
        self._ids: dict[int, int] = {}

    def apply(self, event: Event) -> None:
        """Take in one more event."""
        self.history.apply(event)
        self.log.now = event["time"]
        act = getattr(self, f"_on_{event['event']}", None)
        if act is not None:
            act(event)

    def _on_search(self, event: Event) -> None:
        spec = event["spec"]
        self._space = build_space(spec["search"], spec["classes"])
        study = optuna.create_study(
            storage=self._storage, study_name=spec["name"], direction="maximize"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([spec["metric"]])
        for name in _OF_THE_STUDY:
            study.set_user_attr(name, spec[name])
        for name, text in {"gsda.search": event["uuid"], **seal.tags(spec)}.items():
            study.set_user_attr(name, text)
        self._study = study

    def _on_ask(self, event: Event) -> None:
        if self._study is None:
            return
        trial = self.history.trials[event["trial"]]
        self._ids[trial.number] = self._storage.create_new_trial(
            self._study._study_id, self._template(trial)
        )

    def _template(self, trial: Trial) -> FrozenTrial:
        """A trial that has just been asked for."""
        attributes = {
            "gsda.trial": self.history.key(trial.number),
            "kind": trial.kind,
            "seed": trial.config["seed"],
        }
        if trial.parent is not None:
            attributes["parent"] = trial.parent
        is_of_it = trial.kind in (PAPER, SEARCHED) and inside(trial.values, self._space)
        space = self._space if is_of_it else {}
        template = create_trial(
            state=TrialState.RUNNING,
            params=in_optuna(trial.values, space),
            distributions=distributions(space),
            user_attrs=attributes,
        )
        template.datetime_start = _time(trial.asked)
        return template

    def _on_report(self, event: Event) -> None:
        value = event["metrics"].get(self.history.spec["metric"])
        if value is not None:
            number = self._ids[event["trial"]]
            self._storage.set_trial_intermediate_value(number, event["step"], value)

    def _on_end(self, event: Event) -> None:
        trial = self.history.trials[event["trial"]]
        number = self._ids[trial.number]
        value = trial.value(self.history.spec["metric"])
        shown: dict[str, Any] = {n: v for n, v in trial.final.items() if n.startswith(_SHOWN)}
        shown |= {"seconds": trial.seconds, "steps": max(trial.reports, default=0)}
        if trial.reason:
            shown["reason"] = trial.reason
        for name, text in shown.items():
            self._storage.set_trial_user_attr(number, name, text)
        state = _STATES[event["state"]]
        if state is TrialState.COMPLETE and value is None:
            state = TrialState.FAIL
        # A pruned trial has its last value, as with Optuna's own pruners.
        values = None if state is TrialState.FAIL or value is None else [value]
        self._storage.set_trial_state_values(number, state, values)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class StudyFile:
    """The file, kept up with a journal by the process that drives the search.

    Attributes:
        trouble: why it is not what it should be, "" if all is well; no search fails over it.
    """

    def __init__(self, path: Path, events: Sequence[Event]) -> None:
        self.path = path
        self.study = StudyLog()
        self.trouble = ""
        self._written = self._size = 0
        self._take(events)

    def follow(self, event: Event) -> None:
        """Take in one more event."""
        self._take([event])

    def _take(self, events: Sequence[Event]) -> None:
        try:
            for event in events:
                self.study.apply(event)
            self._write()
            self.trouble = ""
        except OSError as error:
            self._size = 0  # what is there now is unknown
            self.trouble = f"{self.path} cannot be written ({error.strerror})"
        except Exception as error:  # whatever Optuna raises, the search goes on
            self._size = 0
            self.trouble = f"{self.path} cannot be made ({type(error).__name__}: {error})"

    def _write(self) -> None:
        """Append what is new; the whole file anew where it is not as it was left."""
        if self._is_as_left():
            self._append()
        else:
            write_atomically(self.path, b"".join(self.study.log.lines()))
        self._written, self._size = len(self.study.log), self.path.stat().st_size

    def _is_as_left(self) -> bool:
        return bool(self._size) and self.path.is_file() and self.path.stat().st_size == self._size

    def _append(self) -> None:
        # Not forced to the disk: what a crash of the machine takes is made again.
        lines = self.study.log.lines(self._written)
        if lines:
            with self.path.open("ab") as file:
                file.write(b"".join(lines))


def export_study(folder: Path) -> Path:
    """Make the study of the search in `folder` anew from its journal; returns the file.

    Raises:
        BadInput: the journal is damaged, or the file cannot be written.
    """
    file = StudyFile(folder / STUDY, read_events(folder / JOURNAL)[0])
    if file.trouble:
        raise BadInput(f"{file.trouble}: free the disk, or make the folder writable.")
    return file.path


def load_study(path: Path) -> optuna.Study:
    """The study in a file, as Optuna reads it."""
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(study_name=None, storage=storage)


@stoppable
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tune.study",
        description="Write the Optuna study of a search, running or over, for optuna-dashboard.",
    )
    parser.add_argument("name", help="of the search")
    parser.add_argument("--storage", default=DEFAULT_STORAGE, help="of all searches, or a URI")
    options = parser.parse_args(arguments)
    try:
        storage, remote = locate(options.storage)
        path = export_study(find_there(remote, storage, lambda: find_named(storage, options.name)))
        put_files(remote, path.parent, [STUDY])
    except BadInput as error:
        print(f"study: {error}", file=sys.stderr)
        return BAD_USE
    counts = Counter(trial.state.name for trial in load_study(path).trials)
    told = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    print(f"{path}: {sum(counts.values())} trials{f' ({told})' if told else ''}. Open it with:")
    print(f"  optuna-dashboard {shlex.quote(str(path))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
