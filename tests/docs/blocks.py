"""The blocks of commands and code in README and pages, as a reader would take them.

Comments in a page, before a block, say what a test needs to know:

<!-- not run: why -->                  it needs what a test does not have
<!-- in tests: OLD => NEW; ... -->     what is replaced, so that it takes seconds
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"(?P<marks>(?:<!--.*?-->\s*)*)^```(?P<language>sh|python)\n(?P<text>.*?)^```$", re.M | re.S
)
_MARK = re.compile(r"<!-- (not run|in tests): (.*?) -->", re.S)


@dataclass(frozen=True)
class Block:
    """One of them.

    Attributes:
        text: as the reader sees it. reason: why it is not run, "" if it is.
        changes: replacements in tests.
    """

    page: str
    language: str
    text: str
    reason: str
    changes: tuple[tuple[str, str], ...]

    @property
    def tested(self) -> str:
        """The text with its replacements.

        Raises:
            ValueError: one of them has nothing to replace.
        """
        text = self.text
        for old, new in self.changes:
            if old not in text:
                raise ValueError(f"{self.page}: {old!r} is not in the block that it changes")
            text = text.replace(old, new)
        return text

    @property
    def commands(self) -> list[str]:
        """Single command lines of a shell block, continued ones joined, comments left out."""
        joined = self.text.replace("\\\n", " ")
        lines = [re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines()]
        parts = [" ".join(part.split()) for line in lines for part in line.split("&&")]
        return [part for part in parts if part]


def pages() -> list[Path]:
    """README, CONTRIBUTING and all pages."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in order."""
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        marks = dict(_MARK.findall(match["marks"]))
        pairs = [part.split(" => ") for part in marks.get("in tests", "").split("; ") if part]
        changes = tuple((old.strip(), new.strip()) for old, new in pairs)
        name = str(page.relative_to(ROOT))
        yield Block(name, match["language"], match["text"], marks.get("not run", ""), changes)


def all_blocks() -> list[Block]:
    """Those of all pages."""
    return [block for page in pages() for block in blocks(page)]
