"""Compare a user's copy of a benchmark with its published counts; nothing is decoded."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gsda.data.digits import find_raw, raw_labels
from gsda.data.folders import scan
from gsda.data.listing import some
from gsda.errors import BadInput
from gsda.tasks import Benchmark


@dataclass(frozen=True)
class Finding:
    """What was found of one domain, or of what a partial protocol leaves of it.

    Attributes:
        domain: its short name, and in which role, if only in one.
        place: the folder, list or file that it was found in; "" where it was not.
        counts: images of each class.
        expected: what is published of them, class by class, as far as it is.
        total: images published of the domain, None where nothing is.
        problems: what is missing, or too much; empty for an intact copy.
    """

    domain: str
    place: str
    counts: Mapping[str, int]
    expected: Mapping[str, int]
    total: int | None
    problems: tuple[str, ...]


def check(benchmark: Benchmark, data: Path) -> list[Finding]:
    """A finding for each domain of `benchmark` in the folder `data`, and for each as a target."""
    findings: list[Finding] = []
    for domain in benchmark.domains:
        try:
            place, counts = _count(benchmark, data, domain)
        except BadInput as error:
            findings.append(Finding(domain, "", {}, {}, None, (str(error),)))
            continue
        names = list(benchmark.classes or sorted(counts))
        expected = dict(zip(names, benchmark.class_counts.get(domain, ()), strict=False))
        total = benchmark.counts.get(domain)
        findings.append(_compare(domain, place, counts, expected, total, benchmark.n_classes))
        if benchmark.target_classes:
            kept = [names[k] for k in benchmark.target_classes if k < len(names)]
            left = {name: counts[name] for name in kept}
            expected = {name: expected[name] for name in kept if name in expected}
            total, role = benchmark.target_counts.get(domain), f"{domain} as target"
            n = len(benchmark.target_classes)
            findings.append(_compare(role, place, left, expected, total, n))
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
    domain: str,
    place: str,
    counts: Mapping[str, int],
    expected: Mapping[str, int],
    total: int | None,
    n_classes: int,
) -> Finding:
    found, there = sum(counts.values()), sum(n > 0 for n in counts.values())
    problems = []
    if total is not None and found != total:
        problems.append(f"{_difference(found, total)} of {total} images")
    if there != n_classes:
        problems.append(f"{_difference(there, n_classes)} of {n_classes} classes")
    wrong = [name for name, n in counts.items() if n != expected.get(name, n or -1)]
    if wrong:
        problems.append(f"other counts in {some(wrong)}")
    return Finding(domain, place, counts, expected, total, tuple(problems))


def _difference(found: int, expected: int) -> str:
    return f"{expected - found} missing" if found < expected else f"{found - expected} too many"
