"""A search from beginning to end: plan, trials, champion."""

import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gsda.errors import BadInput
from gsda.tasks import Task
from gsda.tracking import choose_tracking_uri
from tune.choice import choose
from tune.cluster import Share, connected, places, share
from tune.console import Console
from tune.delivery import PATIENCE_S, Delivery, told_undelivered
from tune.executor import execute
from tune.group import Group
from tune.held import keep, open_journal
from tune.history import OPEN, History, Trial
from tune.journal import Journal, read_events
from tune.preflight import preflight
from tune.progress import Progress
from tune.raywatch import patience_with, watching
from tune.record import Mirror
from tune.registry import Outcome
from tune.remote import check_unbegun, find_begun
from tune.scope import is_group, members
from tune.settings import DONE, INTERRUPTED, NO_MODEL, OWED, Settings
from tune.shelf import ERROR_FILE, JOURNAL, MODEL_FOLDER, claim
from tune.spec import check_resume, data_of, plan_of, specify, with_machines
from tune.study import STUDY, StudyFile
from tune.tracked import choose_again, note
from tune.uri import parse

_NOWHERE = Share("cpu", 1.0, 0.0)  # of a search that has nothing left to run


@dataclass(frozen=True)
class Result:
    """What a search came to.

    Attributes:
        status: the exit code of the command line.
        best: the trial whose model is kept (`tune.choice`), None if no trial finished.
        outcome: what the registry made of it, None if it was not reached.
    """

    name: str
    status: int
    history: History
    best: Trial | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Prepared:
    """A search that has been checked and can begin, or go on.

    Attributes:
        folder: of the search to resume; None for a new one.
    """

    task: Task | Group
    settings: Settings
    spec: dict[str, Any]
    folder: Path | None
    uri: str


def prepare(task: Task | Group, settings: Settings, console: Console) -> Prepared:
    """Check all that can be checked, and write nothing but decoded images.

    Raises:
        BadInput: whatever is wrong.
    """
    uri = choose_tracking_uri(settings.tracking_uri)
    if not settings.resume:
        check_unbegun(settings)
        return Prepared(task, settings, specify(task, settings, console), None, uri)
    folder = find_begun(settings, task)
    history = History.of(read_events(folder / JOURNAL)[0])
    check_resume(task, settings, history, console)
    uri = choose_again(settings.tracking_uri, history.spec)
    settings = with_machines(settings, history.spec)
    return Prepared(task, settings, history.spec, folder, uri)


def drive(prepared: Prepared, console: Console) -> Result:
    """Run, or go on with, a search.

    Raises:
        BadInput: no cluster, or not enough of it, or another process drives the search; found
            before anything was written.
    """
    settings = prepared.settings
    if not _has_work(prepared):
        return _run(prepared, _open(prepared), _NOWHERE, console)
    result: Result | None = None
    if settings.remote is not None:
        console.say(f"Storage: {parse(settings.remote).shown}, by way of {settings.storage}")
    try:
        # The signal only once Ray is there: it takes SIGTERM for itself when it starts.
        with connected(settings.address, settings.dashboard) as page, _sigterm_as_interrupt():
            if page:
                console.say(f"Ray's dashboard: {page}")
            wanted = share(settings.device, settings.cpus_per_trial, settings.gpus_per_trial)
            if settings.address is not None:
                _check_machines(prepared, wanted, console)
            result = _run(prepared, _open(prepared), wanted, console)
    except KeyboardInterrupt:  # again, while Ray goes: all has been said already
        if result is None:
            raise
    return result


def _check_machines(prepared: Prepared, wanted: Share, console: Console) -> None:
    spec, settings = prepared.spec, prepared.settings
    storage, data = settings.storage.resolve(), data_of(spec, settings)
    weights = spec["base"]["weights"]
    count = 0
    for task, digest in members(spec):
        count = preflight(storage, str(task), data, digest, weights, wanted, settings.remote)
    console.say(f"Cluster of {count}: all have the same versions, storage and images.")


def _has_work(prepared: Prepared) -> bool:
    if prepared.folder is None:
        return True
    history = History.of(read_events(prepared.folder / JOURNAL)[0])
    history.spec["trials"] = max(history.spec["trials"], prepared.settings.trials or 0)
    return len(history.ended) < history.total


def _open(prepared: Prepared) -> Journal:
    """The journal, begun or taken up."""
    settings = prepared.settings
    if prepared.folder is None:
        storage = settings.storage.resolve()
        begun = claim(storage, settings.name, prepared.task, prepared.spec)
        return keep(settings.remote, begun)
    journal = open_journal(settings.remote, prepared.folder)
    if settings.trials is not None and settings.trials > prepared.spec["trials"]:
        journal.append("extend", trials=settings.trials)
    moved = note(settings.tracking_uri)
    journal.append("resume", **({"tracking": moved} if moved else {}))
    return journal


def _run(prepared: Prepared, journal: Journal, wanted: Share, console: Console) -> Result:
    """Drive a search whose journal is open; whatever happens, it can be resumed."""
    mirror = Mirror(journal.path, prepared.uri)
    try:
        mirror.start()
        return _go(prepared, journal, wanted, mirror, console)
    except KeyboardInterrupt:
        console.interrupted(History.of(journal.events), "Stopped at once")
    except Exception as error:
        report = journal.path.with_name(ERROR_FILE)
        console.broken(History.of(journal.events), error, _write(report))
    finally:
        mirror.stop()
        journal.close()
    return Result(journal.path.parent.name, INTERRUPTED, History.of(journal.events))


def _write(path: Path) -> str:
    """Put the traceback at hand into a file; returns where it is."""
    try:
        path.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError:
        return traceback.format_exc()
    return f"see {path}"


def _go(
    prepared: Prepared, journal: Journal, wanted: Share, mirror: Mirror, console: Console
) -> Result:
    spec = History.of(journal.events).spec
    study = StudyFile(journal.path.with_name(STUDY), journal.events)

    def listen(event: dict[str, Any], now: History) -> None:
        mirror.nudge()
        study.follow(event)
        console.event(event, now)

    plan = plan_of(spec, prepared.settings, journal.path.parent, wanted)
    progress = Progress(plan, journal, listen)
    delivery = Delivery(journal, mirror, prepared.uri, prepared.settings.promote)
    if _is_unfinished(progress):
        console.begin(progress.history, wanted.device, places(wanted))
        patience = patience_with(prepared.settings.address)
        with watching(patience, progress.halt, lambda _: _pause(delivery, progress, console)):
            execute(progress)
    else:
        console.begin(progress.history, wanted.device, 0)
    return _finish(prepared, progress, delivery, console)


def _is_unfinished(progress: Progress) -> bool:
    history = progress.history
    return bool(history.in_state(OPEN)) or progress.has_new


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a search as Ctrl-C does: stopped cleanly, resumable."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the business of whoever called us there
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # what a script runs with & begins so
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _pause(delivery: Delivery, progress: Progress, console: Console) -> None:
    """Write down that the search stopped before its end, and say how it goes on."""
    history, halted = progress.history, progress.halted
    unfinished = [trial.number for trial in history.in_state(OPEN)]
    delivery.journal.append("pause", trials=unfinished, reason=halted)
    delivery.mirror.settle(PATIENCE_S)
    delivery.journal.copy.sync()
    why = f"Halted: {halted}" if halted else "Interrupted"
    console.interrupted(history, why, delivery.owed(""))


def _finish(prepared: Prepared, progress: Progress, delivery: Delivery, console: Console) -> Result:
    history, journal, mirror = progress.history, progress.journal, delivery.mirror
    name = history.spec["name"]
    if history.in_state(OPEN) or (_is_unfinished(progress) and not progress.is_late):
        _pause(delivery, progress, console)
        return Result(name, INTERRUPTED, history)
    chosen = choose(history)
    best = None if chosen is None else chosen.model
    outcome, trouble = None, ""
    if best is not None:
        journal.copy.fetch(progress.folder_of(best.number))
    if mirror.settle(PATIENCE_S) and chosen is not None:
        outcome, trouble = delivery.register(history, chosen)
    journal.append("done")
    mirror.settle(PATIENCE_S)
    owed = delivery.owed(trouble, model=best is not None and outcome is None)
    lost = best is not None and not all(p.is_dir() for p in _models_of(progress, best))
    report = _report(progress, prepared.uri)
    undelivered = told_undelivered(journal, console)
    console.finish(history, best, outcome, owed, prepared.uri, report, mirror.page())
    status = NO_MODEL if best is None or lost else OWED if owed else DONE
    if undelivered:
        status = INTERRUPTED
    return Result(name, status, history, best, outcome)


def _report(progress: Progress, uri: str) -> list[str]:
    from tune.report import after_search  # imports matplotlib

    return after_search(progress.plan.folder, progress.history, uri, progress.plan.remote)


def _models_of(progress: Progress, trial: Trial) -> list[Path]:
    """Where a trial leaves its model, or that of each of its tasks."""
    spec, folder = progress.history.spec, progress.folder_of(trial.number)
    if not is_group(spec):
        return [folder / MODEL_FOLDER]
    return [folder / task.pair / MODEL_FOLDER for task, _ in members(spec)]


def search_one(task: Task | Group, settings: Settings, console: Console) -> Result:
    """Check and run one search.

    Raises:
        BadInput: as `prepare` and `drive`.
    """
    return drive(prepare(task, settings, console), console)


def search_several(tasks: Sequence[Task | Group], settings: Settings, console: Console) -> int:
    """Check all searches, then run them one after another; returns the exit code of the worst.

    Raises:
        BadInput: before the first of them has begun.
    """
    named = settings.name is not None and len(tasks) > 1
    prepared = []
    for task in tasks:
        name = f"{settings.name}-{task.pair}" if named else settings.name
        prepared.append(prepare(task, replace(settings, name=name), console))
    worst = DONE
    for number, one in enumerate(prepared):
        try:
            status = drive(one, console).status
        except BadInput as error:
            if number == 0:
                raise
            console.say(f"{one.task}: {error}")
            status = NO_MODEL
        worst = max(worst, status, key=(DONE, OWED, NO_MODEL, INTERRUPTED).index)
        if status == INTERRUPTED:
            left = " ".join(str(later.task) for later in prepared[number + 1 :])
            if left:
                console.say(f"Not begun: {left}")
            break
    return worst
