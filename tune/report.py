"""The report of a search, running or over: `python -m tune.report NAME`.

A projection of the journal, made at the end of each search and at any time again: a page and
pictures in the search's folder, the same as artifacts of its run in MLflow, and a few lines. A
report that cannot be made is one sentence, and never the end of a search.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from gsda.errors import BadInput
from gsda.files import write_atomically
from gsda.sealed import ACCURACY, CLASS_MEAN, PREFIX
from gsda.stopping import stoppable
from gsda.tracking import check_database
from tune.findings import STEP_REGRET, Findings, as_json, find, setting, step_regrets, way_kept
from tune.history import History
from tune.journal import read_events
from tune.kind import check_search
from tune.page import number, of_tasks, page, percent, rough, scores_of
from tune.plots import draw
from tune.remote import find_there, put_files
from tune.settings import BAD_USE, DEFAULT_STORAGE, storage_words
from tune.shelf import JOURNAL, find_named
from tune.tracked import choose_again
from tune.uri import locate

FOLDER, PAGE, DATA = "report", "report.html", "report.json"
REGRET, CLASS_REGRET = f"{PREFIX}regret_points", f"{PREFIX}class_mean_regret_points"


def write(folder: Path, findings: Findings) -> Path:
    """Leave page, pictures and data below the search's `folder`; gives the page."""
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    pictures = draw(findings)
    for old in place.glob("*.png"):
        if old.stem not in pictures:
            old.unlink()
    for name, content in pictures.items():
        write_atomically(place / f"{name}.png", content)
    data = json.dumps(as_json(findings), indent=1, ensure_ascii=False)
    write_atomically(place / DATA, data.encode())
    write_atomically(place / PAGE, page(findings, pictures).encode())
    return place / PAGE


def attach(folder: Path, findings: Findings, uri: str) -> None:
    """Put a written report at the search's run in MLflow, and its regrets among its metrics.

    Raises:
        LookupError: MLflow has no run of the search.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from tune.mlstore import find_run
    from tune.record import SEARCH_TAG

    history = findings.history
    client = MlflowClient(uri, registry_uri=uri)
    experiment = client.get_experiment_by_name(history.spec["task"])
    run = experiment and find_run(client, experiment.experiment_id, SEARCH_TAG, history.uuid)
    if not run:
        raise LookupError("MLflow has no run of this search")
    client.log_artifacts(run, str(folder / FOLDER), FOLDER)
    when, step = int(history.heard * 1000), len(history.ended)
    points = [Metric(name, value, when, step) for name, value in regrets(findings).items()]
    if points:
        client.log_batch(run, metrics=points)


def regrets(findings: Findings) -> dict[str, float]:
    """What the choices of a search cost, in points of accuracy; empty without labels."""
    choice = findings.choice
    own = {} if choice is None else step_regrets(choice.model)
    select = "" if choice is None else way_kept(choice.model)
    known = {
        REGRET: findings.regret,
        CLASS_REGRET: findings.class_regret,
        STEP_REGRET: own.get(select),
    }
    return {name: value for name, value in known.items() if value is not None}


def comparison(findings: Findings) -> list[str]:
    """The trials worth a look, a column each."""
    rows = findings.rows
    trials = [row.trial for row in rows]
    table = [["", *(row.title for row in rows)], ["trial", *(str(t.number) for t in trials)]]
    for name in findings.fields:
        table.append([name, *(number(setting(t, name)) for t in trials)])
    for name in scores_of(trials):
        table.append([name, *(number(t.value(name), ".4f") for t in trials)])
    if findings.has_labels:
        for name, title in ((ACCURACY, "target accuracy"), (CLASS_MEAN, "mean per class")):
            table.append([title, *(percent(t.value(name)) for t in trials)])
    for name, cells in of_tasks(findings):
        table.append([name, *(cells or [""] * len(rows))])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        ).rstrip()
        for line in table
    ]


def summary(findings: Findings) -> list[str]:
    """What the choice cost and which settings mattered, in a few lines."""
    return [*_cost(findings), *_mattered(findings)]


def _cost(findings: Findings) -> list[str]:
    """Regret of the trial, and of the step within it."""
    choice = findings.choice
    if findings.regret is None or choice is None:
        return []
    best = next(row.trial for row in findings.rows if row.role == "oracle")
    picked = choice.picked
    chose = "which had a part in choosing" if findings.is_unsealed else "which chose nothing here"
    lines = [f"By the target's labels, {chose} and which a user does not have:"]
    of_class = "" if findings.class_regret is None else f" ({findings.class_regret:.1f} by class)"
    lines.append(
        f"  trial {picked.number} has {percent(picked.value(ACCURACY))}, the best finished "
        f"trial ({best.number}) {percent(best.value(ACCURACY))}: "
        f"regret {findings.regret:.1f} points{of_class}"
    )
    return [*lines, f"  {_steps(findings)}"]


def _steps(findings: Findings) -> str:
    """``regret of its step: last step (160) 0.4, best by val/bnm (120) 0.0; the best is 120``."""
    *ways, top = findings.steps
    costs = ", ".join(f"{way.title} ({way.step}) {way.regret:.1f}" for way in ways)
    return f"regret of its step: {costs}; the best is {top.step}"


def _mattered(findings: Findings) -> list[str]:
    found = findings.importance
    if found.reason:
        return [f"Importance of the settings: {found.reason}"]
    shares = ", ".join(f"{name} {100 * share:.0f}%" for name, share in found.shares.items())
    return [
        f"Importance for {findings.metric}: {shares} "
        f"(fANOVA, {found.trials} settings{rough(findings)})"
    ]


def after_search(folder: Path, history: History, uri: str, remote: str = "") -> list[str]:
    """Make the report of a search that has just come to its end; gives lines to print.

    Whatever goes wrong is one of the lines: the search is done, and stays done.

    Args:
        remote: the URI that `folder` is a working copy below, if it is one.
    """
    usual = folder.parent == DEFAULT_STORAGE.resolve()
    storage = storage_words(remote or (DEFAULT_STORAGE if usual else folder.parent))
    again = shlex.join(["python", "-m", "tune.report", history.spec["name"], *storage])
    try:
        findings = find(history)
        path = write(folder, findings)
        lines = [f"  Report:   {_short(path)}", *summary(findings)]
    except Exception as error:  # whatever matplotlib or Optuna raises
        return [f"There is no report ({_reason(error)}). Make it with: {again}"]
    try:
        attach(folder, findings, uri)
    except Exception as error:  # whatever MLflow raises
        lines.append(f"MLflow has not got the report ({_reason(error)}). --flush delivers it.")
    return lines


def deliver(folder: Path, history: History, uri: str) -> str:
    """Make the report and put it at the search's run; gives why that failed, or ""."""
    try:
        findings = find(history)
        write(folder, findings)
        attach(folder, findings, uri)
    except Exception as error:  # whatever Optuna, matplotlib or MLflow raises
        return _reason(error)
    return ""


def _reason(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:200]


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


@stoppable
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tune.report",
        description="Write the report of a search, running or over, into its folder.",
    )
    parser.add_argument("name", help="of the search")
    parser.add_argument("--storage", default=DEFAULT_STORAGE, help="of all searches, or a URI")
    parser.add_argument(
        "--attach", action="store_true", help="put it at the search's run in MLflow, too"
    )
    parser.add_argument("--tracking-uri", help="MLflow's address; default: ./mlflow.db")
    options = parser.parse_args(arguments)
    try:
        return _make(options)
    except BadInput as error:
        print(f"report: {error}", file=sys.stderr)
        return BAD_USE


def _make(options: argparse.Namespace) -> int:
    storage, remote = locate(options.storage)
    folder = find_there(remote, storage, lambda: find_named(storage, options.name))
    read = History.of(read_events(folder / JOURNAL)[0])
    check_search(read.spec, "A report")
    uri = choose_again(options.tracking_uri, read.spec) if options.attach else ""
    check_database(uri)
    findings = find(read)
    spec, history = findings.history.spec, findings.history
    try:
        path = write(folder, findings)
    except OSError as error:
        raise BadInput(
            f"{folder / FOLDER} cannot be written ({error.strerror}): make it writable."
        ) from error
    put_files(remote, folder, [FOLDER])
    print(f"Search {spec['name']}: {spec['task']}, {spec['data_title']}")
    print(f"  {len(history.ended)} of {history.total} trials are done")
    print()
    for line in comparison(findings) if findings.rows else ["No trial has finished yet."]:
        print(f"  {line}")
    print()
    for line in summary(findings):
        print(line)
    print(f"Report: {_short(path)}")
    if options.attach:
        _attach(folder, findings, uri)
    return 0


def _attach(folder: Path, findings: Findings, uri: str) -> None:
    try:
        attach(folder, findings, uri)
    except Exception as error:  # whatever MLflow raises
        raise BadInput(f"MLflow did not take it: {_reason(error)}.") from error


if __name__ == "__main__":
    sys.exit(main())
