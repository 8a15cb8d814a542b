"""Compare a user's copy of a benchmark with its published counts; nothing is decoded."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gsda.data.digits import find_raw, raw_labels
from gsda.data.folders import scan
from gsda.errors import BadInput
from gsda.tasks import Benchmark


@dataclass(frozen=True)
class Finding:
    """What was found of one domain, or of what a partial protocol leaves of it.

    Attributes:
        domain: its short name, and in which role, if only in one.
        place: the folder, list or file that it was found in; "" where it was not.
        counts: images of each class.
        problems: what is missing, or too much; empty for an intact copy.
    """

    domain: str
    place: str
    counts: Mapping[str, int]
    problems: tuple[str, ...]


def check(benchmark: Benchmark, data: Path) -> list[Finding]:
    """A finding for each domain of `benchmark` in the folder `data`, and for each as a target."""
    findings = []
    for domain in benchmark.domains:
        try:
            place, counts = _count(benchmark, data, domain)
        except BadInput as error:
            findings.append(Finding(domain, "", {}, (str(error),)))
            continue
        names = list(benchmark.classes or sorted(counts))
        expected = dict(zip(names, benchmark.class_counts.get(domain, ()), strict=False))
        sources = {task.source for task in benchmark.tasks()}
        targets = {task.target for task in benchmark.tasks()}
        if domain in sources or not benchmark.target_classes:
            problems = _compare(counts, names, expected, benchmark, benchmark.counts.get(domain))
            findings.append(Finding(domain, place, counts, tuple(problems)))
        if domain in targets and benchmark.target_classes:
            kept = [names[k] for k in benchmark.target_classes if k < len(names)]
            findings.append(_as_target(benchmark, domain, place, counts, kept))
    return findings


def _count(benchmark: Benchmark, data: Path, domain: str) -> tuple[str, dict[str, int]]:
    """Where a domain is, and its images by class."""
    kind = benchmark.raw.get(domain)
    raw = find_raw(data, kind) if kind else None
    if kind and raw:
        labels = Counter(raw_labels(data, kind))
        return raw.name, {name: labels[k] for k, name in enumerate(benchmark.classes or ())}
    names = benchmark.domains[domain]
    listing = scan(data, domain, names, benchmark.classes, missing_ok=True)
    labels = Counter(label for _, label in listing.files)
    place = str((listing.source or listing.root).relative_to(data))
    return place, {name: labels[k] for k, name in enumerate(listing.classes)}


def _compare(
    counts: Mapping[str, int],
    names: list[str],
    expected: Mapping[str, int],
    benchmark: Benchmark,
    total: int | None,
) -> Iterator[str]:
    found = sum(counts.values())
    if total is not None and found != total:
        yield f"{_difference(found, total)} of {total} images"
    if len(names) != benchmark.n_classes:
        difference = _difference(len(names), benchmark.n_classes)
        yield f"{difference} of {benchmark.n_classes} classes"
    for name in names:
        if name in expected and counts[name] != expected[name]:
            yield f"{name} has {counts[name]} of {expected[name]} images"
        elif not counts[name]:
            yield f"{name} has no images"


def _difference(found: int, expected: int) -> str:
    return f"{expected - found} missing" if found < expected else f"{found - expected} too many"


def _as_target(
    benchmark: Benchmark, domain: str, place: str, counts: Mapping[str, int], kept: list[str]
) -> Finding:
    left = {name: counts[name] for name in kept}
    total = benchmark.target_counts.get(domain)
    problems = [f"{name} has no images" for name, n in left.items() if not n]
    if total is not None and sum(left.values()) != total:
        problems.insert(0, f"{_difference(sum(left.values()), total)} of {total} images")
    return Finding(f"{domain} as target", place, left, tuple(problems))
