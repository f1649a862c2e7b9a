"""The examples of the documentation: fenced blocks of a page, to be run as they stand there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(
    r"^```(?P<language>[a-z]+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Example:
    """One block. ``title``: the file that it is, where the block says so. ``line``: of its first line in the page."""

    page: str
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def examples(page: str, language: str | None = None) -> list[Example]:
    """The blocks of a page below docs/, in order; only those of a language if it is given."""
    source = (DOCS / page).read_text(encoding="utf-8")
    found = [
        Example(page, source.count("\n", 0, match.start()) + 2, match["language"], match["title"] or "", match["text"])
        for match in _BLOCK.finditer(source)
    ]
    return [example for example in found if language in (None, example.language)]
