"""Values for the variables of recipes that are given outside of them: by an environment, by files, and by ``--var``.

A value is text, as ``--var NAME=VALUE`` gives it, and is converted to the type of the variable's default. A value of a
file is taken as it is written, so ``version: 1.10`` is the text 1.10 for a variable whose default is a text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from goldenami.model import Mark
from goldenami.reading import Files
from goldenami.recipe.document import Document, NodePath, parse, read_text
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project, shown

VARS = "vars"


class Written(str):
    """A value of a file, as text; a list or mapping as JSON. ``key`` and ``value``: the places of both. ``kind``:
    "list" or "mapping", or "" for a single value. ``secret``: the value is a reference to a secret."""

    key: Mark
    value: Mark
    kind: str
    secret: bool

    @classmethod
    def at(cls, document: Document, path: NodePath, value: Any) -> Written:
        """Return the value at a place of a document."""
        composed = isinstance(value, (list, dict))
        text = json.dumps(value, ensure_ascii=False, default=str) if composed else document.text_of(path)
        made = cls(text)
        made.key, made.value = document.key_mark(path), document.mark(path)
        made.kind = ("list" if isinstance(value, list) else "mapping") if composed else ""
        made.secret = isinstance(value, dict) and set(value) == {"secret"}
        return made


def read_files(paths: Iterable[Path]) -> dict[str, str]:
    """Return the variables of YAML or JSON files, by name. A later file wins over an earlier one.

    Raises InvalidInput with every problem of the files.
    """
    problems = Problems()
    found: dict[str, str] = {}
    for path in paths:
        with problems.collected():
            document = _read(path)
            found.update(_values(document, (), document.value, problems))
    problems.refuse_any()
    return found


def _read(path: Path) -> Document:
    name = shown(path)
    text = read_text(Files([path.absolute().parent]), path.absolute(), name)
    if path.suffix == ".json":
        text = text.replace("\t", " ")  # JSON may be indented with tabs, YAML may not; columns stay the same
    return parse(text, path, name)


def environment_values(
    project: Project, environment: str, problems: Problems
) -> tuple[Document | None, dict[str, str]]:
    """Return goldenami.yaml, and the variables that an environment gives in it, by name."""
    document = project.document(project.file, Problems())  # its own check reports its form
    at: NodePath = ("environments", environment, VARS)
    if document is None or at not in document.marks:
        return document, {}
    value = document.value["environments"][environment][VARS]
    return document, _values(document, at, value, problems) if isinstance(value, dict) else {}


def _values(document: Document, at: NodePath, values: Mapping[str, Any], problems: Problems) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in values.items():
        if value is None:
            problems.add_once(document.key_mark((*at, name)), f"{name} has no value", "Add one, or remove the key.")
        else:
            found[name] = Written.at(document, (*at, name), value)
    return found
