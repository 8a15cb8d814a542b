"""From trained cells to a page: loads models, looks at them, draws; MLflow gets the pictures."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient

from experiments.filling import device_here
from experiments.looks import Course, Look, look
from experiments.page import COVERAGE, build_page
from experiments.pictures import (
    draw_classes,
    draw_courses,
    draw_features,
    draw_magnitudes,
    to_png,
)
from experiments.report import pick_rows
from gsda.bundle import load_bundle
from gsda.config import Config
from gsda.data.load import DataSpec, load_domains
from gsda.errors import BadInput
from gsda.sealed import ACCURACY, PRECISION
from gsda.tasks import BENCHMARKS
from gsda.tracking import choose_tracking_uri
from tune.settings import Settings
from tune.sweep import Cell, Sweep, Swept

FOLDER = "report"  # among a run's artifacts
COURSES = {
    ACCURACY: "accuracy on the target, %",
    COVERAGE: "coverage: images with a pseudo label, %",
    PRECISION: "precision: pseudo labels that are right, %",
}


def show_task(
    sweep: Sweep,
    swept: Swept,
    titles: Sequence[str],
    settings: Settings,
    folder: Path,
    command: str,
) -> Path:
    """Write the page of a task, and attach it to the runs of its models; returns the page's path.

    Raises:
        BadInput: a model failed, or the folder cannot be written.
    """
    looks = look_at_all(sweep, swept, titles, settings)
    pictures = draw_all(looks)
    title = f"{sweep.task}: what adapting did"
    page = build_page(title, describe(sweep), looks, pictures, command)
    path = folder / f"{sweep.task.slug}.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{folder} cannot be written ({error}): choose another --output.") from error
    attach(looks, pictures, path, choose_tracking_uri(settings.tracking_uri))
    return path


def look_at_all(
    sweep: Sweep, swept: Swept, titles: Sequence[str], settings: Settings
) -> list[Look]:
    """Each model, on all images of both domains.

    Raises:
        BadInput: a model is not there, because its training failed.
    """
    source, target = load_domains(sweep.task, DataSpec.from_dict(sweep.spec["data"]))
    device = device_here(settings)
    looks = []
    base, every = Config.from_dict(sweep.spec["base"]), settings.overrides.get("evaluate_every")
    for title, config in pick_rows(titles, base, every).items():
        trial = swept.trial(Cell(title, config))
        if trial is None:
            raise BadInput(f"{title} could not be trained on {sweep.task}: leave it out of --rows.")
        predictor = load_bundle(sweep.model_of(trial)).to(device)
        run = swept.runs.get(trial.number, "")
        course = Course(trial.reports)
        looks.append(look(title, predictor, source, target, course, run, swept.link(run)))
    return looks


def draw_all(looks: Sequence[Look]) -> dict[str, bytes]:
    """The files of a page's pictures, by name."""
    figures = {f"features-{n}": draw_features(one) for n, one in enumerate(looks)}
    before, after = looks[0], looks[-1]
    if len(looks) > 1 and after.accuracy:
        figures["classes"] = draw_classes(before, after)
    levelled = [one for one in looks if one.course.line("magnitude/D_dom")[0]]
    if levelled:
        figures["magnitudes"] = draw_magnitudes(levelled)
    shown = {m: t for m, t in COURSES.items() if any(one.course.line(m)[0] for one in looks)}
    figures["courses"] = draw_courses(looks, shown)
    return {name: to_png(figure) for name, figure in figures.items()}


def describe(sweep: Sweep) -> list[str]:
    """What was trained on what."""
    spec = sweep.spec
    base, (n_s, n_t) = spec["base"], spec["images"]
    known = BENCHMARKS.get(sweep.task.dataset)
    return [
        f"{known.title if known else spec['data_title']}.",
        f"{n_s} labelled images of {sweep.task.source}, {n_t} unlabelled ones of "
        f"{sweep.task.target}, {spec['classes']} classes.",
        f"Backbone {base['backbone']} ({base['features']}), {base['steps']} steps of "
        f"{base['batch_size']} + {base['batch_size']} images, seed 0, settings untuned "
        f"(alpha {base['alpha']:g}, beta {base['beta']:g}, {base['n_groups']} groups, "
        f"tau {base['tau']:g}).",
    ]


def attach(looks: Sequence[Look], pictures: Mapping[str, bytes], page: Path, uri: str) -> None:
    """Give each model's run its own picture, and what the page has for all."""
    client = MlflowClient(uri, registry_uri=uri)
    for number, one in enumerate(looks):
        if not one.run:
            print(f"  {one.title}: no MLflow run was reached; the page has all", file=sys.stderr)
            continue
        files = {"features.png": pictures[f"features-{number}"]}
        files |= {
            f"{name}.png": png for name, png in pictures.items() if not name.startswith("features")
        }
        _log(client, one.run, files, page)


def _log(client: MlflowClient, run: str, files: Mapping[str, bytes], page: Path) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        client.log_artifacts(run, folder, FOLDER)
    client.log_artifact(run, str(page), FOLDER)
