"""The modules of goldenami as syntax trees, for tests of rules that the source keeps."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import goldenami

ROOT = Path(goldenami.__file__).parent


def trees(containing: str = "") -> Iterator[tuple[str, ast.Module]]:
    """The path below ``goldenami/`` and the tree of each module whose text contains a text. A module is parsed only
    once: parsing all of them takes seconds, and a worker that only collects the tests needs few of them."""
    for name in _names():
        if containing in _text(name):
            yield name, tree(name)


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(_text(name))


@cache
def _names() -> tuple[str, ...]:
    return tuple(str(path.relative_to(ROOT)) for path in sorted(ROOT.rglob("*.py")))


@cache
def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")
