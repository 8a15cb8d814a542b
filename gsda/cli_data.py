"""`python -m gsda data`: the benchmarks, a user's copies of them, and preparing images ahead."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gsda.errors import BadInput
from gsda.naming import find_benchmark
from gsda.tasks import BENCHMARKS, Benchmark, Task, own_task

MISSING = 1


def add_data_commands(commands: Any) -> None:
    """Add `data list`, `check`, `prepare` and `draw` to a parser's commands."""
    data = commands.add_parser("data", help="benchmarks, checks, and preparing images ahead")
    actions = data.add_subparsers(title="actions", required=True)
    listing = actions.add_parser("list", help="the benchmarks, their tasks, and where to get them")
    listing.set_defaults(run=_list)
    check = actions.add_parser("check", help="compare a copy of a benchmark with what is published")
    check.add_argument("folder", metavar="DIR", type=Path, help="the folder of the domains")
    check.add_argument("--dataset", required=True, help="a name that `data list` prints")
    check.set_defaults(run=_check)
    _add_prepare(actions)
    draw = actions.add_parser("draw", help="write the built-in letters as PNG files")
    draw.add_argument("folder", metavar="DIR", type=Path, help="gets DIR/<domain>/<class>/*.png")
    draw.add_argument("--dataset", default="glyph31", help="glyph31 (default), or glyph31-hard")
    draw.add_argument("--domain", nargs="+", help="such as D; default: all")
    draw.set_defaults(run=_draw)


def _add_prepare(actions: Any) -> None:
    prepare = actions.add_parser("prepare", help="decode and resize images once, ahead of runs")
    prepare.add_argument("folder", metavar="DIR", type=Path, nargs="?", help="of the domains")
    prepare.add_argument("--dataset", help="a name that `data list` prints, or an id for own data")
    prepare.add_argument("--task", nargs="+", help="bare ids such as A2D; default: all tasks")
    prepare.add_argument("--source", help="of own data: the subfolder of the labelled domain")
    prepare.add_argument("--target", help="of own data: the subfolder of the other domain")
    prepare.add_argument("--backbone", help="which the images are for; default: the dataset's")
    prepare.add_argument("--skip-bad-images", action="store_true", help="leave unreadable ones out")
    prepare.set_defaults(run=_prepare)


def _list(_: Any) -> int:
    for benchmark in BENCHMARKS.values():
        print("\n".join(_described(benchmark)))
    return 0


def _described(benchmark: Benchmark) -> Iterator[str]:
    yield f"{benchmark.name}: {benchmark.title}"
    counts = (
        f"{domain} {benchmark.counts.get(domain, '')}".strip() for domain in benchmark.domains
    )
    yield f"  domains  {', '.join(counts)}; {benchmark.n_classes} classes"
    if benchmark.target_classes:
        counts = (f"{domain} {n}" for domain, n in benchmark.target_counts.items())
        yield f"  targets  {', '.join(counts)}; {len(benchmark.target_classes)} classes"
    yield f"  tasks    {' '.join(task.pair for task in benchmark.tasks())}"
    setting = f"alpha {benchmark.alpha:g}, beta {benchmark.beta:g}, {benchmark.n_groups} groups"
    yield f"  setting  {setting}"
    yield f"  data     {benchmark.origin}"


def _check(options: Any) -> int:
    from gsda.data.check import check

    benchmark = find_benchmark(options.dataset)
    if benchmark.built_in:
        raise BadInput(f"{benchmark.name} is built in: there is nothing to check.")
    findings = check(benchmark, options.folder)
    print(f"{benchmark.name}: {benchmark.title}")
    for finding in findings:
        print("\n".join(_reported(finding)))
    bad = sum(bool(finding.problems) for finding in findings)
    print(f"{len(findings) - bad} of {len(findings)} as published" if bad else "as published")
    return MISSING if bad else 0


def _reported(finding: Any) -> Iterator[str]:
    if finding.place:
        n, classes = sum(finding.counts.values()), len(finding.counts)
        of = "" if finding.total is None else f" of {finding.total}"
        yield f"{finding.domain}: {n}{of} images, {classes} classes, in {finding.place}"
        each = (_counted(name, n, finding.expected) for name, n in finding.counts.items())
        text = ", ".join(each).replace(" ", "\0")
        filled = textwrap.fill(
            text.replace(",\0", ", "), 98, initial_indent="  ", subsequent_indent="  "
        )
        yield filled.replace("\0", " ")
    else:
        yield f"{finding.domain}: missing"
    for problem in finding.problems:
        yield f"  ! {problem}"


def _counted(name: str, n: int, expected: Any) -> str:
    return f"{name} {n}" if expected.get(name, n) == n else f"{name} {n} of {expected[name]}"


def _draw(options: Any) -> int:
    from gsda.data.letters import write_letters

    for domain in options.domain or find_benchmark(options.dataset).domains:
        count = write_letters(options.folder, options.dataset, domain)
        print(f"{options.dataset}/{domain}: {count} images in {options.folder / domain}")
    return 0


def _prepare(options: Any) -> int:
    from gsda.backbones import find_backbone
    from gsda.data.load import DataSpec, default_cache, load_domains
    from gsda.recipes import default_backbone

    own = {"source_folder": options.source or "", "target_folder": options.target or ""}
    for task in _tasks(options):
        size = find_backbone(options.backbone or default_backbone(task)).size
        spec = DataSpec(
            options.folder, default_cache(), size, skip_bad=options.skip_bad_images, **own
        )
        source, target = load_domains(task, spec, _tell)
        counts = f"{len(source)} source and {len(target)} target images"
        print(f"{task}: {counts} of {size} x {size} pixels are ready in {spec.cache}")
    return 0


def _tasks(options: Any) -> list[Task]:
    """The tasks to prepare, by the options alone."""
    if options.source or options.target:
        if not (options.source and options.target and options.folder) or options.task:
            raise BadInput("Own data needs DIR, --source and --target, and no --task: give these.")
        return [own_task(options.folder, options.source, options.target, options.dataset)]
    if options.dataset is None:
        raise BadInput("No data is named: give --dataset, or --source and --target of own data.")
    if options.task:
        return [Task.parse(f"{options.dataset}/{pair}") for pair in options.task]
    return find_benchmark(options.dataset).tasks()


def _tell(done: int, total: int) -> None:
    """One line, rewritten; nothing where nobody watches."""
    if not sys.stderr.isatty() or (done < total and done % max(1, total // 200)):
        return
    end = "\n" if done == total else ""
    print(f"\rdecoded {done} of {total} images", end=end, file=sys.stderr, flush=True)
