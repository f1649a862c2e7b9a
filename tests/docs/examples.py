"""The examples of the documentation: fenced blocks of a page, to be run as they stand there.

A block of commands (``console``, ``sh``, ``bash``) is run on paper by ``tests/docs/test_commands.py``. A comment in the
line before the block says what is different:

- ``<!-- nightly: WHY -->``: it is run in a sandbox with real instances, at night (``tests/e2e/test_documentation.py``);
- ``<!-- parsed: WHY -->``: it cannot be run here. Its commands are parsed only;
- ``<!-- tested: FILE -->``: this file runs it;
- ``<!-- listed: WHY -->``: a list of commands, each of which is in a block that is run.

In a ``console`` block, a line that begins with ``$`` is a command, and the lines below it are what it prints.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[a-z]+): (?P<why>.+?) -->\n)?"
    r"^```(?P<language>[a-z]+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Example:
    """One block. ``title``: the file that it is, where the block says so. ``line``: of its first line in the page.
    ``mark`` and ``why``: of the comment before it."""

    page: str
    line: int
    language: str
    title: str
    text: str
    mark: str = ""
    why: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def examples(page: str, language: str | None = None) -> list[Example]:
    """The blocks of a page below docs/, in order; only those of a language if it is given."""
    source = (DOCS / page).read_text(encoding="utf-8")
    found = [
        Example(
            page,
            source.count("\n", 0, match.start("text")) + 1,
            match["language"],
            match["title"] or "",
            match["text"],
            match["mark"] or "",
            match["why"] or "",
        )
        for match in _BLOCK.finditer(source)
    ]
    return [example for example in found if language in (None, example.language)]
