"""Keeps the parsed recipes of a project with many of them in the user's cache, and its parsed files of controls.

A parsed recipe depends on its text and on the code of the parser alone, so both find it: a recipe that was changed is
parsed. Recipes with problems, and with dates, are not kept. A project has one table (``kepttable``) for its recipes,
and one for its controls.
"""

from __future__ import annotations

import hashlib
import marshal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml

import goldenami
from goldenami import onecommand, usercache
from goldenami.kepttable import Table
from goldenami.recipe import document as parsing
from goldenami.recipe.document import Document, Scalar
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import PARSED, Project, parsed_here

_FORM: Final = 1  # of the file
_LEAST: Final = 50  # recipes: fewer are parsed in the time that it takes to load this
_MOST: Final = 16  # projects in the cache
_CONTROLS: Final = 64  # files of profiles and controls
_LONGEST: Final = 64 << 10  # characters of a recipe
_LARGEST: Final = 32 << 20  # bytes of a file


class KeptDocuments:
    """The recipes of a project that were parsed before, in a table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def get(self, text: str, path: Path, file: str) -> Document | None:
        """Return the parsed form of a text, if it was kept. ``path``, ``file``: as of the document."""
        content = self._table.find(_key(text))
        if content is None:
            return None
        value, marks, keys, scalars, broken = marshal.loads(content)  # only this user has written it
        return Document(file, path, value, text, marks, keys, {at: Scalar(*one) for at, one in scalars.items()}, broken)

    def add(self, document: Document) -> None:
        """Keep a document without problems. Nobody has changed it yet."""
        if len(document.text) > _LONGEST:
            return
        scalars = {at: (one.text, one.style) for at, one in document.scalars.items()}
        form = (document.value, document.marks, document.keys, scalars, document.broken)
        try:
            self._table.used[_key(document.text)] = marshal.dumps(form)
        except ValueError:  # it has a date
            return


def read_all(project: Project, names: Collection[str]) -> None:
    """Read recipes of a project, for code that asks for each of them afterwards. Their problems are reported then.

    If there are many, those that were parsed before come from the cache, and the others are added to it.
    """
    if len(names) < _LEAST or PARSED in project.kept:
        return
    project.kept[PARSED] = None  # it was done; files that are read later are not kept
    with _keeping(project, "", 2 * len(project.recipe_names())):  # no more texts of the past than recipes
        for name in names:
            project.document(project.recipe_path(name), Problems())


@contextmanager
def keeping_controls(project: Project) -> Iterator[None]:
    """Keep the files of profiles and controls that are read meanwhile, in a process that runs one command."""
    if not onecommand.here():
        yield
        return
    with _keeping(project, "controls", _CONTROLS):
        yield


@contextmanager
def _keeping(project: Project, what: str, most: int) -> Iterator[None]:
    """Take the documents that this thread reads meanwhile from the cache, and keep them there. ``most``: documents, of
    which those that were not asked for may be older texts."""
    path = _entry(project, what)
    if path is None:
        yield
        return
    here = parsed_here()
    before = project.kept.get(here)
    table = Table(path)
    project.kept[here] = KeptDocuments(table)
    try:
        yield
    finally:
        if before is None:
            del project.kept[here]
        else:
            project.kept[here] = before
    table.write(most=most, largest=_LARGEST, files=_MOST)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _entry(project: Project, what: str = "") -> Path | None:
    """Return the file of the cache for a project and for the code of this program; None if nothing can be kept.
    ``what``: is in it, if not recipes."""
    folder = usercache.folder("recipes")
    if folder is None:
        return None
    code = usercache.states([Path(parsing.__file__)])
    if code is None:
        return None
    decides = [
        _FORM,
        str(project.root),
        goldenami.__version__,
        code,
        (yaml.__version__, yaml.__with_libyaml__),  # the two parsers may differ
        sys.version,
        what,
    ]
    return folder / hashlib.sha256(repr(decides).encode()).hexdigest()
