"""The modules of goldenami as syntax trees, for tests of rules that the source keeps."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import goldenami

ROOT = Path(goldenami.__file__).parent


def trees(*words: str) -> Iterator[tuple[str, ast.Module]]:
    """The path below ``goldenami/`` and the tree of each module whose text has one of some words, in any case; without
    words, of each module. To parse a module and to walk its tree takes a hundred times as long as to look for a word.
    """
    for name in _names():
        if not words or any(word.lower() in _lower(name) for word in words):
            yield name, tree(name)


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(_text(name))


@cache
def _names() -> tuple[str, ...]:
    return tuple(str(path.relative_to(ROOT)) for path in sorted(ROOT.rglob("*.py")))


@cache
def _lower(name: str) -> str:
    return _text(name).lower()


@cache
def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")
