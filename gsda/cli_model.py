"""`python -m gsda predict`, `evaluate` and `export`: what one does with a model."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsda.console import Bar
from gsda.errors import BadInput
from gsda.files import is_file, is_there
from gsda.tracking import check_database, choose_tracking_uri

if TYPE_CHECKING:
    from gsda.bundle import Predictor
    from gsda.data.domain import UInt8

DONE, UNREADABLE, DIFFERS = 0, 1, 1
_MODEL = "models:/NAME@champion, or a folder with a manifest.json"
_SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".txt": "table"}
# Images on which an export is compared.
_COMPARED = 64


def add_model_commands(commands: Any) -> None:
    """Add `predict`, `evaluate` and `export` to a parser's commands."""
    _add_predict(commands)
    _add_evaluate(commands)
    _add_export(commands)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="classes of images, as CSV, Parquet or a table",
        epilog="Files that cannot be read are named at the end. Exit codes: 0 done, 1 some files "
        "could not be read (and --skip-bad-images was not given), 2 bad use.",
    )
    _add_common(predict)
    predict.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="images, or folders")
    predict.add_argument("--output", type=Path, help="file; default: standard output")
    predict.add_argument(
        "--format",
        choices=("csv", "parquet", "table"),
        help="default: by the end of --output's name; csv on standard output",
    )
    predict.add_argument(
        "--skip-bad-images", action="store_true", help="unreadable files are no failure (exit 0)"
    )
    predict.set_defaults(run=_predict)


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="accuracy on labelled images, by class, and a picture of the confusion",
        description="How right a model is on labelled images. This is the one command that reads "
        "labels on purpose: choose nothing by what it says, or the choice is not label-free.",
    )
    _add_common(evaluate)
    evaluate.add_argument("--data", type=Path, metavar="DIR", help="labelled images: DIR/<class>/*")
    evaluate.add_argument(
        "--domain",
        help="of built-in data, such as glyph31/D; default: the target that the model is for",
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON in place of a table")
    evaluate.add_argument("--picture", type=Path, metavar="FILE", help="PNG of the confusion")
    evaluate.add_argument("--cache", type=Path, help="folder for decoded images")
    evaluate.add_argument(
        "--skip-bad-images", action="store_true", help="leave out what is no image"
    )
    evaluate.set_defaults(run=_evaluate)


def _add_export(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        help="the model for other programs, as safetensors or ONNX",
        description="Write a model for other programs, with a manifest.json that says how to use "
        "it; read it again, and compare its predictions with the model's.",
    )
    _add_common(export, device=False)
    export.add_argument("output", metavar="OUT", type=Path, help="folder to make")
    export.add_argument("--format", required=True, choices=("safetensors", "onnx"))
    export.add_argument(
        "--images",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="images, or folders, to compare on; default: built-in drawn letters",
    )
    export.set_defaults(run=_export)


def _add_common(command: Any, device: bool = True) -> None:
    command.add_argument("model", metavar="MODEL", help=_MODEL)
    command.add_argument("--tracking-uri", help="of MLflow; default: ./mlflow.db")
    if device:
        command.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
        command.add_argument("--batch-size", type=int, metavar="N", help="images at once")


def _check_common(options: Any) -> None:
    """What a look at options and disk tells, before the seconds that torch takes to load."""
    batch = getattr(options, "batch_size", None)
    if batch is not None and batch < 1:
        raise BadInput(f"--batch-size is {batch}, but must be at least 1.")
    if options.model.startswith("models:/"):
        check_database(choose_tracking_uri(options.tracking_uri))
    elif not is_file(Path(options.model, "manifest.json")):
        raise BadInput(
            f"{options.model} is no model: it needs manifest.json, as a search, `gsda train` or "
            "`gsda export` leaves it; a registered one is models:/NAME@champion."
        )


def _check_paths(paths: list[Path]) -> None:
    for path in paths:
        if not is_there(path):
            raise BadInput(f"{path} does not exist: name an image file or a folder of them.")


def _load(options: Any) -> "Predictor":
    from gsda.device import choose_device
    from gsda.predict import find_model

    device = choose_device(getattr(options, "device", "cpu"))
    return find_model(options.model, options.tracking_uri).to(device)


def _predict(options: Any) -> int:
    form = _form(options)
    _check_common(options)
    _check_paths(options.paths)
    from gsda.data.load import iterate_files
    from gsda.predict import predict_files, table_writer

    files = iterate_files(options.paths)
    predictor = _load(options)
    bad: list[str] = []
    bar = Bar("predicting", len(files))
    with table_writer(options.output, form, max(map(len, predictor.classes))) as write:
        for rows in predict_files(predictor, files, bad, options.batch_size, bar.tell):
            bar.clear()
            write(rows)
    bar.clear()
    for sentence in bad:
        print(f"gsda: skipped: {sentence}", file=sys.stderr)
    return UNREADABLE if bad and not options.skip_bad_images else DONE


def _form(options: Any) -> str:
    """The form of the table, by the options alone."""
    output, said = options.output, options.format
    if output is None and said == "parquet":
        raise BadInput("--format parquet needs a file: name it with --output.")
    if output is None or said is not None:
        return str(said or "csv")
    if output.suffix not in _SUFFIXES:
        raise BadInput(
            f"--output is {output}: name a .csv, a .parquet or a .txt file, or give its --format."
        )
    return _SUFFIXES[output.suffix]


def _evaluate(options: Any) -> int:
    _check_common(options)
    if options.data is not None and options.domain is not None:
        raise BadInput("--data and --domain both name images: leave one out.")
    if options.data is not None and not options.data.is_dir():
        raise BadInput(f"{options.data} is no folder: name one of labelled images, DIR/<class>/*.")
    if options.picture is not None and not options.picture.resolve().parent.is_dir():
        raise BadInput(f"There is no folder {options.picture.parent}: choose another --picture.")
    from gsda.evaluate import draw, evaluate, find_domain

    if options.domain is not None:
        find_domain(options.domain)
    predictor = _load(options)
    domain = _labelled(options, predictor)
    bar = Bar("evaluating", len(domain))
    found = evaluate(predictor, domain, options.batch_size, bar.tell)
    bar.clear()
    if options.picture is not None:
        draw(found, options.picture, f"{options.model} on {options.data or domain.name}")
    if options.json:
        print(json.dumps({"model": options.model} | found.to_dict(), ensure_ascii=False))
    else:
        print("\n".join(found.table()))
        print("Labels were read for this: choose nothing by it, or the choice is not label-free.")
    for name in found.skipped:
        print(f"gsda: skipped, as it cannot be read: {name}", file=sys.stderr)
    return DONE


def _labelled(options: Any, predictor: "Predictor") -> Any:
    from gsda.data.load import default_cache
    from gsda.evaluate import built_in_domain, default_domain, labelled_folder

    cache = options.cache or default_cache()
    preparing: list[Bar] = []

    def tell(done: int, total: int) -> None:
        if not preparing:
            preparing.append(Bar("preparing images", total))
        preparing[0].show(done)
        if done >= total:
            preparing.pop().clear()

    if options.data is not None:
        return labelled_folder(predictor, options.data, cache, options.skip_bad_images, tell)
    return built_in_domain(options.domain or default_domain(predictor.manifest), cache, tell)


def _export(options: Any) -> int:
    _check_common(options)
    _check_paths(options.images or [])
    if options.output.exists():
        raise BadInput(f"{options.output} is there already: name another place, or remove it.")
    from gsda.export import Differs, check_format, export

    check_format(options.format)
    predictor = _load(options)
    images, of = _to_compare(options, predictor)
    try:
        done = export(predictor, options.output, options.format, images)
    except Differs as error:
        print(f"gsda: {error}", file=sys.stderr)
        return DIFFERS
    print(f"{done.file} ({done.file.stat().st_size / 1e6:.1f} MB), with manifest.json beside it")
    print(f"Read again and compared on {done.images} {of}:")
    print(f"its probabilities differ from the model's by {done.difference:.1e} at most.")
    return DONE


def _to_compare(options: Any, predictor: "Predictor") -> tuple["UInt8", str]:
    """Images (N, size, size, 3), and what they are."""
    import numpy as np

    from gsda.data.decoding import decode
    from gsda.data.load import default_cache, iterate_files
    from gsda.evaluate import built_in_domain

    if options.images:
        files = iterate_files(options.images)
        chosen = np.unique(np.linspace(0, len(files) - 1, _COMPARED).astype(int))
        images = [decode(files[index], predictor.size) for index in chosen]
        # One image alone would be no batch.
        return np.stack(images * 2 if len(images) == 1 else images), "images"
    letters = built_in_domain("glyph31/D", default_cache()).images
    chosen = np.linspace(0, len(letters) - 1, _COMPARED).astype(np.int64)
    drawn = letters.gather(chosen).astype(np.uint8)
    return np.stack([predictor.resize(image) for image in drawn]), "drawn letters"
