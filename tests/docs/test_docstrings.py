"""Every docstring is valid reStructuredText, which keeps its tables, lists and examples whole in the site."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import docutils.frontend
import docutils.io
import docutils.nodes
import pytest
from docutils.parsers.rst import Parser, roles
from docutils.readers.standalone import Reader

PROJECT = Path(__file__).parents[2]
PACKAGES = (PROJECT / "goldenami", PROJECT / "sandbox" / "goldenami_sandbox")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Only these can be wrong. A text without them is plain paragraphs, and parsing thousands of those takes half a minute.
_MARKUP = re.compile(r"[*|`_]|::|^\s+\S|^\s*[-=]|^\s*\d+\. ", re.MULTILINE)


def docstrings(text: str) -> Iterator[tuple[int, str]]:
    """The line of each docstring that has markup, and its text."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _DOCUMENTED) and (raw := ast.get_docstring(node, clean=False)) and "\n" in raw:
            cleaned = inspect.cleandoc(raw)
            if _MARKUP.search(cleaned):
                yield node.body[0].lineno, cleaned


@cache
def settings() -> Any:
    """Those of docutils' publisher, which reads them anew for each text: that takes longer than the text."""
    found = docutils.frontend.get_default_settings(Parser, Reader)
    vars(found).update(report_level=5, halt_level=6)
    return found


def problems(docstring: str) -> list[str]:
    """What docutils reports about a text, as "line: message" counted from its own first line."""
    source, parser = docutils.io.StringInput(docstring), Parser()
    reader: Any = Reader(parser=parser)
    document = reader.read(source, parser, settings().copy())
    document.transformer.populate_from_components((source, reader, parser))
    document.transformer.apply_transforms()
    messages = {*document.findall(docutils.nodes.system_message), *document.parse_messages}
    return sorted(f"{m.get('line', '?')}: {m.astext().splitlines()[0]}" for m in messages if m["level"] > 1)


@pytest.fixture(scope="module", autouse=True)
def sphinx_roles() -> None:
    for name in ("class", "data", "exc", "func", "meth", "mod"):
        roles.register_generic_role(name, docutils.nodes.literal)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_docstrings_render(package: Path) -> None:
    found = [
        f"{file.relative_to(PROJECT)}:{line}: docstring, line {problem}"
        for file in sorted(package.rglob("*.py"))
        for line, docstring in docstrings(file.read_text(encoding="utf-8"))
        for problem in problems(docstring)
    ]
    assert not found, "\n".join(["Correct these docstrings, see docs/contributing/style.md:", *found])


def test_a_table_that_was_reflowed_is_noticed() -> None:
    assert problems("=====  =====\nhas    does\n=====  =====\na      b c\nunchanged =====\n=====\n")
    assert problems("One line.\n\n    an | example\n       indented\n  less\n")
    assert not problems("One line.\n\n- a list\n  of two lines\n- ``code`` and :func:`name`\n")
