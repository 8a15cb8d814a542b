"""The report as one HTML file that needs nothing beside it."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from experiments.looks import Look
from experiments.pictures import LEVELS, data_uri
from gsda.sealed import ACCURACY, CLASS_MEAN, PRECISION
from gsda.validators import DEFAULT_METRIC

COVERAGE = "coverage/all"

_STYLE = """
:root { --ink: #1d2430; --soft: #5b6675; --line: #e3e6ea; --accent: #00664b; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f8; color: var(--ink);
  font: 17px/1.6 Georgia, "Source Serif 4", "Noto Serif", serif; }
main { max-width: 62rem; margin: 0 auto; padding: 3rem 1.5rem 5rem; }
h1 { font-size: 2.1rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.35rem; margin: 3rem 0 .4rem; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 0; }
p { max-width: 44rem; margin: .5rem 0 1rem; }
.lead { font-size: 1.15rem; color: var(--soft); }
.facts { color: var(--soft); font-size: .9rem; }
figure { margin: 1.2rem 0 1.8rem; background: #fff; border: 1px solid var(--line);
  border-radius: 10px; padding: 1rem 1rem .6rem; }
figure img { width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .9rem; padding: .5rem .2rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; background: #fff; width: 100%; font-size: .95rem;
  border: 1px solid var(--line); border-radius: 10px; overflow: hidden;
  font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .8rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; font-size: .85rem; color: var(--soft); vertical-align: bottom; }
tr:last-child td { border-bottom: 0; }
td.best { color: var(--accent); font-weight: 700; }
a { color: var(--accent); }
details { margin: 0 0 1.5rem; } summary { cursor: pointer; color: var(--accent); }
code { font-size: .85em; background: #eceff1; padding: .1em .3em; border-radius: 4px; }
"""

Pictures = Mapping[str, bytes]


def build_page(
    title: str, facts: Sequence[str], looks: Sequence[Look], pictures: Pictures, command: str
) -> str:
    """The page.

    Args:
        facts: sentences on data and training. looks: the first is what came before adapting, the
            last the method in full.
        pictures: files by name: "features-0" and so on, "classes", "magnitudes", "courses".
    """
    body = "\n".join(_sections(title, facts, looks, pictures, command))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def _sections(
    title: str, facts: Sequence[str], looks: Sequence[Look], pictures: Pictures, command: str
) -> Iterator[str]:
    before, after = looks[0], looks[-1]
    yield f"<h1>{escape(title)}</h1>"
    yield f'<p class="lead">{escape(headline(before, after))}</p>'
    yield f'<p class="facts">{escape(" ".join(facts))}</p>'
    yield _table(looks)
    yield (
        "<p>Accuracies, A-distances of classes and the precision of pseudo labels are counted on "
        "the target's true labels, which no model saw and by which nothing was chosen.</p>"
    )
    yield "<h2>Where the images lie</h2>"
    yield (
        "<p>Each point is an image, placed by the features that the classifier reads. Where source "
        "and target share their heaps, a border drawn for the one serves the other.</p>"
    )
    for number, look in enumerate(looks):
        yield f"<h3>{escape(look.title)}</h3>"
        yield _figure(pictures[f"features-{number}"], look.title, describe_distance(look))
    if "classes" in pictures:
        yield "<h2>Class by class</h2>"
        yield f"<p>{escape(describe_classes(before, after))}</p>"
        caption = "One row for each class, the largest gain in accuracy on top."
        yield _figure(pictures["classes"], "A-distance and accuracy by class", caption)
        yield _class_table(before, after)
    if "magnitudes" in pictures:
        yield "<h2>Do the three levels keep step?</h2>"
        yield f"<p>{escape(describe_magnitudes(looks))}</p>"
        caption = (
            "Sums over the batch of the norms of dL/df that each level sends to the features, "
            "means since the last evaluation. Synchronised levels lie on one another."
        )
        yield _figure(pictures["magnitudes"], "Gradient magnitudes over training", caption)
    yield "<h2>Pseudo labels on the way</h2>"
    yield f"<p>{escape(describe_pseudo(after))}</p>"
    yield _figure(pictures["courses"], "Accuracy, coverage and precision over training", "")
    yield "<h2>How this was made</h2>"
    yield f"<p><code>{escape(command)}</code></p>"
    yield (
        "<p>A-distance: twice (1 - 2 err) of a linear classifier that tells the domains apart, err "
        "measured on images that it was not fitted to. PCA and t-SNE show at most 600 images of "
        "each domain. One seed: small differences are chance.</p>"
    )


def headline(before: Look, after: Look) -> str:
    """The outcome in one sentence."""
    old, new = before.course.last.get(ACCURACY), after.course.last.get(ACCURACY)
    if old is None or new is None:
        return f"{after.title} beside {before.title}; the target has no labels to count by."
    gain = 100 * (new - old)
    verb = "lifts" if gain >= 0.05 else "lowers" if gain <= -0.05 else "leaves"
    where = (
        f"from {100 * old:.1f}% to {100 * new:.1f}%" if verb != "leaves" else f"at {100 * old:.1f}%"
    )
    return f"{after.title} {verb} the accuracy on the target {where}."


def describe_distance(look: Look) -> str:
    """A caption."""
    parts = []
    if look.distance is not None:
        parts.append(f"of the domains {look.distance:.2f}")
    if look.mean_of_classes is not None:
        parts.append(f"of their classes {look.mean_of_classes:.2f} on the mean")
    return f"A-distance {', '.join(parts)}." if parts else ""


def describe_classes(before: Look, after: Look) -> str:
    """How many classes came closer, and which gained and lost most."""
    both = [n for n in before.of_class if n in after.of_class]
    closer = sum(after.of_class[n] < before.of_class[n] for n in both)
    gains = {n: after.accuracy[n] - before.accuracy[n] for n in after.accuracy}
    up, down = max(gains, key=lambda n: gains[n]), min(gains, key=lambda n: gains[n])
    text = (
        f"The domains' classes came closer in {closer} of {len(both)} cases. "
        f"{up} gained most ({100 * gains[up]:+.0f} points)"
    )
    lost = f", {down} lost most ({100 * gains[down]:+.0f})." if gains[down] < 0 else "; none lost."
    return text + lost


def describe_magnitudes(looks: Sequence[Look]) -> str:
    """How far apart the levels are at the end."""
    parts = []
    for look in looks:
        ends = {
            name: values[-1]
            for level, name in LEVELS.items()
            if (values := look.course.line(f"magnitude/D_{level}")[1])
        }
        if len(ends) > 1:
            spread = max(ends.values()) / max(min(ends.values()), 1e-12)
            who = look.title[:1].upper() + look.title[1:]
            parts.append(f"{who}: at the end the largest level is {spread:.2f} times the smallest.")
    return (
        "GSDA asks that the gradients of domain, groups and classes be of one size "
        "(Eq. 10 and 11). " + " ".join(parts)
    )


def describe_pseudo(look: Look) -> str:
    """Coverage and precision, first and last."""
    said = []
    for metric, what in ((COVERAGE, "are sure enough"), (PRECISION, "of these are right")):
        _, values = look.course.line(metric)
        if values:
            said.append(
                f"{100 * values[-1]:.0f}% {what} at the end, {100 * values[0]:.0f}% at first"
            )
    if not said:
        return "No pseudo labels were recorded."
    return f"{look.title}: of the target's images {'; '.join(said)}."


def _table(looks: Sequence[Look]) -> str:
    columns: list[tuple[str, Any]] = [
        ("accuracy, %", [_percent(look, ACCURACY) for look in looks]),
        ("mean over classes, %", [_percent(look, CLASS_MEAN) for look in looks]),
        (DEFAULT_METRIC, [look.course.last.get(DEFAULT_METRIC) for look in looks]),
        ("A-distance", [look.distance for look in looks]),
        ("A-distance of classes", [look.mean_of_classes for look in looks]),
        ("coverage, %", [_percent(look, COVERAGE) for look in looks]),
        ("precision, %", [_percent(look, PRECISION) for look in looks]),
    ]
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in columns)
    rows = []
    for number, look in enumerate(looks):
        name = escape(look.title)
        shown = f'<a href="{escape(look.link)}">{name}</a>' if look.link else name
        cells = "".join(_cell(name, values, number) for name, values in columns)
        rows.append(f"<tr><td>{shown}</td>{cells}</tr>")
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def _percent(look: Look, metric: str) -> float | None:
    value = look.course.last.get(metric)
    return None if value is None else 100 * value


def _cell(name: str, values: Sequence[float | None], number: int) -> str:
    value = values[number]
    if value is None:
        return "<td></td>"
    digits = 1 if "%" in name else 3 if "/" in name else 2
    known = [v for v in values if v is not None]
    best = value == max(known) and name.startswith(("accuracy", "mean")) and len(set(known)) > 1
    mark = ' class="best"' if best else ""
    return f"<td{mark}>{value:.{digits}f}</td>"


def _figure(png: bytes, alt: str, caption: str) -> str:
    told = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img alt="{escape(alt)}" src="{data_uri(png)}">{told}</figure>'


def _class_table(before: Look, after: Look) -> str:
    def cell(values: Mapping[str, float], name: str, scale: float, digits: int) -> str:
        return f"<td>{scale * values[name]:.{digits}f}</td>" if name in values else "<td></td>"

    rows = "".join(
        f"<tr><td>{escape(name)}</td>"
        f"{cell(before.accuracy, name, 100, 0)}{cell(after.accuracy, name, 100, 0)}"
        f"{cell(before.of_class, name, 1, 2)}{cell(after.of_class, name, 1, 2)}</tr>"
        for name in after.accuracy
    )
    head = "<tr><th>class</th><th>accuracy before, %</th><th>after, %</th>"
    head += "<th>A-distance before</th><th>after</th></tr>"
    return (
        "<details><summary>The same in figures</summary>"
        f'<div class="scroll"><table>{head}{rows}</table></div></details>'
    )
