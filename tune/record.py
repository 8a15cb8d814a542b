"""MLflow as a projection of the journal: a thread replays events to it, exactly once.

One writer, idempotent in each act: a run is looked up by its key before it is made, metrics carry
the journal's own times, and the place reached is kept in a file. So the server may be away, or the
driver be killed, at any moment; what was not delivered is delivered later, in order.
"""

import hashlib
import json
import threading
import time
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from gsda.collapse import describe_collapse
from gsda.files import write_atomically
from gsda.sealed import PREFIX
from gsda.tracking import hide_password
from tune import seal, views
from tune.choice import choose
from tune.findings import STEP_REGRET, step_regrets
from tune.history import COMPLETE, FAILED, FINETUNED, PRUNED, SOURCE_ONLY, History
from tune.journal import Event, encode, iterate_events
from tune.mlstore import ensure_database, ensure_experiment, find_run
from tune.scope import is_group, members, origin_of
from tune.shelf import method_of

TRIAL_TAG, SEARCH_TAG = "gsda.trial", "gsda.search"
BACK_OFF_S = (0.5, 1, 2, 5, 10, 20)
_STATUS = {COMPLETE: "FINISHED", PRUNED: "FINISHED", FAILED: "FAILED"}
# What MLflow says of a request that it will refuse for ever; believed the third time.
_FINAL, _TRIES, _TRY_AGAIN_S = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"), 3, 0.2
_BATCH = 500  # metrics in a request; MLflow takes at most 1000


@dataclass
class Projection:
    """Turns single events into MLflow calls; repeating an event changes nothing.

    Attributes:
        history: the trials as far as events have been applied.
    """

    uri: str

    def __post_init__(self) -> None:
        ensure_database(self.uri)
        self.client = MlflowClient(self.uri, registry_uri=self.uri)
        self.history = History()
        self.experiment = ""
        self.parent = ""
        self._runs: dict[int, str] = {}

    def apply(self, event: Event, deliver: bool) -> None:
        """Take in an event; with `deliver`, write it to MLflow as well."""
        self.history.apply(event)
        if deliver:
            self.write(event)

    def write(self, event: Event) -> None:
        """Write an event that was taken in to MLflow."""
        act = getattr(self, f"_on_{event['event']}", None)
        if act is not None:
            act(event)

    def run_of(self, number: int) -> str:
        """The id of a trial's run, made if need be."""
        if number not in self._runs:
            self._runs[number] = self._find_or_make(number)
        return self._runs[number]

    def _on_search(self, event: Event) -> None:
        spec = self.history.spec
        params = {name: spec[name] for name in ("metric", "seed", "search", "backbone")}
        self._log_params(self._open(), params)
        self._on_extend(event)
        self._show_trials()

    def _show_trials(self) -> None:
        """The view of the trials on the experiment's page, and the note that leads there."""
        spec = self.history.spec
        tags = views.view_of(spec).tag(self.history.began)
        noted = self.client.get_experiment(self.experiment).tags.get(views.NOTE, "")
        if not noted or noted.startswith(views.opening(spec)):  # or it is a user's
            tags[views.NOTE] = views.note(spec, self.experiment)
        for name, value in tags.items():
            self.client.set_experiment_tag(self.experiment, name, value)

    def _on_extend(self, event: Event) -> None:
        # A tag, not a param: it grows.
        self.client.set_tag(self._open(), "trials", str(self.history.total))

    def _open(self) -> str:
        """The search's own run, parent of the trials' runs."""
        if self.parent:
            return self.parent
        spec, uuid = self.history.spec, self.history.uuid
        self.experiment = ensure_experiment(self.client, self.uri, spec["task"])
        found = find_run(self.client, self.experiment, SEARCH_TAG, uuid)
        self.parent = found or self._make_parent(spec, uuid)
        return self.parent

    def _make_parent(self, spec: Mapping[str, Any], uuid: str) -> str:
        tags = {SEARCH_TAG: uuid, "search": spec["name"], "metric": spec["metric"]}
        tags |= self._common_tags() | {"method": method_of(spec)}
        if "warm" in spec:
            tags["warm_started_from"] = ",".join(s["name"] for s in spec["warm"]["searches"])
        began = int(self.history.began * 1000)
        run = self.client.create_run(self.experiment, began, tags, run_name=spec["name"])
        return str(run.info.run_id)

    def _common_tags(self) -> dict[str, str]:
        spec = self.history.spec
        tags = {name: str(spec[name]) for name in ("task", "dataset", "data_title")}
        note = f"{spec['task']}: {spec['data_title']}"
        note += f"; {seal.told(spec)}" if seal.is_unsealed(spec) else ""
        origin = origin_of(spec)
        tags |= {"transferred_from": origin} if origin else {}
        tags |= {"tasks": ",".join(t.pair for t, _ in members(spec))} if is_group(spec) else {}
        return tags | {"mlflow.note.content": note} | seal.tags(spec)

    def _find_or_make(self, number: int) -> str:
        self._open()
        key = self.history.key(number)
        found = find_run(self.client, self.experiment, TRIAL_TAG, key)
        return found or self._make_run(number, key)

    def _make_run(self, number: int, key: str) -> str:
        trial = self.history.trials[number]
        config = trial.config
        method = SOURCE_ONLY if trial.kind == SOURCE_ONLY else config["method"]
        tags = self._common_tags() | {
            TRIAL_TAG: key,
            "mlflow.parentRunId": self._open(),
            "kind": trial.kind,
            "trial": str(number),
            "method": method,
            "seed": str(config["seed"]),
            "search": self.history.spec["name"],
            "state": trial.state,
        }
        if trial.parent is not None:
            tags["setting_of"] = str(trial.parent)
        name = f"{number:04d} {trial.kind}"
        asked = int(trial.asked * 1000)
        run = self.client.create_run(self.experiment, asked, tags, run_name=name)
        return str(run.info.run_id)

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        texts = {
            name: ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            for name, value in params.items()
        }
        entries = [Param(name, text or "none") for name, text in texts.items()]
        self.client.log_batch(run_id, params=entries)

    def _log_scores(
        self, run_id: str, prefix: str, final: Mapping[str, float], when: float
    ) -> None:
        """The scores of another trial, under names of their own."""
        scores = [
            Metric(f"{prefix}/{name}", value, int(when * 1000), 0)
            for name, value in final.items()
            if name.startswith(("val/", PREFIX))
        ]
        self.client.log_batch(run_id, metrics=scores)

    def _on_ask(self, event: Event) -> None:
        # Not where the run is made: a kill between the two would leave it without params.
        run_id = self.run_of(event["trial"])
        self._log_params(run_id, event["config"])
        if event["kind"] == FINETUNED:
            final = self.history.trials[event["parent"]].final
            self._log_scores(run_id, "frozen", final, event["time"])

    def _on_start(self, event: Event) -> None:
        run_id = self.run_of(event["trial"])
        if self.history.trials[event["trial"]].starts > 1:
            self.client.update_run(run_id, status="RUNNING")

    def _on_report(self, event: Event) -> None:
        run_id = self.run_of(event["trial"])
        when = int(event["time"] * 1000)
        metrics = [
            Metric(name, value, when, event["step"]) for name, value in event["metrics"].items()
        ]
        metrics.append(Metric("seconds", event["seconds"], when, event["step"]))
        for start in range(0, len(metrics), _BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    def _on_end(self, event: Event) -> None:
        run_id = self.run_of(event["trial"])
        trial = self.history.trials[event["trial"]]
        collapse = describe_collapse(trial.final, self.history.spec["classes"])
        texts = {"reason": event.get("reason"), "collapse": collapse}
        tags = [RunTag("state", event["state"])]
        tags += [RunTag(name, text[:4000]) for name, text in texts.items() if text]
        when = int(event["time"] * 1000)
        costs = step_regrets(trial) if event["state"] == COMPLETE else {}
        points = [Metric(f"{STEP_REGRET}/{n}", v, when, 0) for n, v in costs.items()]
        self.client.log_batch(run_id, metrics=points, tags=tags)
        self.client.set_terminated(run_id, _STATUS[event["state"]], end_time=when)

    def _on_pause(self, event: Event) -> None:
        when = int(event["time"] * 1000)
        for number in event["trials"]:
            self.client.set_terminated(self.run_of(number), "KILLED", end_time=when)
        self.client.set_terminated(self._open(), "KILLED", end_time=when)

    def _on_resume(self, event: Event) -> None:
        self.client.update_run(self._open(), status="RUNNING")
        self._show_trials()

    def _on_champion(self, event: Event) -> None:
        of_task = f"/{event['task']}" if "task" in event else ""
        tags = [RunTag("best_trial", str(event["trial"]))]
        tags.append(RunTag(f"champion{of_task}", event["outcome"]))
        self.client.log_batch(self._open(), tags=tags)

    def _on_done(self, event: Event) -> None:
        chosen = choose(self.history)
        if chosen is not None:
            self._log_scores(self._open(), "best", chosen.model.final, event["time"])
        self.client.set_terminated(self._open(), "FINISHED", end_time=int(event["time"] * 1000))


class Mirror:
    """The thread that keeps MLflow up with a journal file.

    Attributes:
        trouble: why the last attempt failed, "" if it did not.
        refused: events that MLflow will never take, with what it said.
    """

    def __init__(self, journal: Path, uri: str) -> None:
        self._journal, self._uri = journal, uri
        self._place = journal.with_name("mlflow.place")
        self._offset = 0
        self._delivered = self._load_place()
        self._wake, self._quit = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow-mirror", daemon=True)
        self.trouble = ""
        self.refused: list[str] = []
        self.projection: Projection | None = None

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def nudge(self) -> None:
        """Say that there is something new."""
        self._wake.set()

    @property
    def owed(self) -> int:
        """Bytes of the journal that MLflow has not seen yet."""
        return max(0, self._journal.stat().st_size - self._delivered)

    def what_is_owed(self) -> str:
        """``7 events of 120 (5 report, 2 end)``; "" if MLflow has seen all."""
        events = [(event["event"], end) for event, end in iterate_events(self._journal)]
        owed = Counter(kind for kind, end in events if end > self._delivered)
        kinds = ", ".join(f"{n} {kind}" for kind, n in owed.most_common())
        return f"{owed.total()} events of {len(events)} ({kinds})" if owed else ""

    def settle(self, patience_s: float) -> bool:
        """Wait until all is delivered, but not longer than `patience_s` without headway."""
        last, since = self.owed, time.monotonic()
        while self.owed and time.monotonic() - since < patience_s:
            self.nudge()
            time.sleep(0.05)
            if self.owed != last:
                last, since = self.owed, time.monotonic()
        return not self.owed

    def run_of(self, number: int) -> str:
        """The id of a trial's run; call it when all is settled.

        Raises:
            ConnectionError: the server has not been reached yet.
        """
        if self.projection is None:
            raise ConnectionError(self.trouble or "no answer from the tracking server")
        return self.projection.run_of(number)

    def page(self) -> str:
        """Where a browser finds the trials; "" if the server was not reached."""
        known = self.projection
        if known is None or not known.experiment:
            return ""
        return views.address(known.history.spec, self._uri, known.experiment)

    def stop(self) -> None:
        """End the thread; what is owed stays owed."""
        self._quit.set()
        self._wake.set()
        self._thread.join(timeout=5)

    def _work(self) -> None:
        failures = 0
        while not self._quit.is_set():
            try:
                self._catch_up()
                failures, self.trouble = 0, ""
                self._wake.wait(1.0)
                self._wake.clear()
            except Exception as error:  # whatever MLflow raises, the search goes on
                self.trouble = first_line(error)
                self.projection = None
                self._offset = 0
                self._quit.wait(BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])
                failures += 1

    def _catch_up(self) -> None:
        """Apply new events; those before the place were delivered by an earlier process."""
        if self.projection is None:
            self.projection = Projection(self._uri)
        for event, end in iterate_events(self._journal, self._offset):
            new = end > self._delivered
            self._deliver(self.projection, event, new)
            self._offset = end
            if new:
                self._save_place(event, end)
            if self._quit.is_set():
                return

    def _deliver(self, projection: Projection, event: Event, new: bool) -> None:
        """Hand on an event; one that MLflow will never take is left out, and remembered.

        Such as one of a run that a user deleted. Waiting for it would hold up all that come after.

        Raises:
            MlflowException: what asking again later may mend.
        """
        projection.apply(event, deliver=False)
        if not new:
            return
        for _ in range(_TRIES):
            try:
                projection.write(event)
                return
            except MlflowException as error:
                if error.error_code not in _FINAL:
                    raise
                reason = first_line(error)
            self._quit.wait(_TRY_AGAIN_S)
        of = f" of {event['trial']}" if "trial" in event else ""
        self.refused.append(f"{event['event']}{of}: {reason}")

    def _load_place(self) -> int:
        """Where an earlier process stopped; 0 for another server, or for another journal."""
        try:
            place = json.loads(self._place.read_text())
            start, offset = int(place["start"]), int(place["offset"])
            with self._journal.open("rb") as file:
                file.seek(start)
                line = file.read(offset - start)
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        same = place["uri"] == _fingerprint(self._uri) and place["line"] == zlib.crc32(line)
        return offset if same else 0

    def _save_place(self, event: Event, offset: int) -> None:
        line = encode(event)
        place = {"uri": _fingerprint(self._uri), "offset": offset}
        place |= {"start": offset - len(line), "line": zlib.crc32(line)}
        write_atomically(self._place, json.dumps(place).encode())
        self._delivered = offset


def first_line(error: Exception) -> str:
    """What an error says, short, and without what an address may hold."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    if "Max retries exceeded" in text:
        return "the tracking server does not answer"
    return hide_password(text)[:300]


def _fingerprint(uri: str) -> str:
    """An address may hold a password: what is written down is its hash."""
    return hashlib.sha256(uri.encode()).hexdigest()[:16]
