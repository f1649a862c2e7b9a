"""Sphinx extension: fills the pages of the site that are made from the program itself.

A page contains a comment ``<!-- generated: NAME -->`` (Markdown) or ``.. generated: NAME`` (reStructuredText). While
the page is read, the output of a function below replaces the comment, so the repository holds no generated file. Such
pages are read again in every build, because Sphinx cannot know what their content depends on.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import layers
from docutils import nodes
from sphinx.errors import ExtensionError

import goldenami
from goldenami.recipe import reference

PROJECT = Path(__file__).parents[2]
_FOREIGN = re.compile(r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//[^>]*>|<link[^>]+href=\"(?:https?:)?//[^>]*>")
_COMMENT = re.compile(r"^(?:<!-- generated: ([a-z-]+) -->|\.\. generated: ([a-z-]+))$", re.MULTILINE)


def module_map() -> str:
    """The docstring of every module, one section for each module or package directly under goldenami/."""
    return "\n".join(line for name in sorted(layers.names()) for line in _modules(name))


def _modules(name: str) -> Iterator[str]:
    package = PROJECT / "goldenami" / name
    files = sorted(package.rglob("*.py")) if package.is_dir() else [package.with_suffix(".py")]
    files.sort(key=lambda file: (file.name != "__init__.py", file))
    for file in files:
        path = file.relative_to(PROJECT).as_posix()
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        is_top = file.parent == package.parent or file == package / "__init__.py"
        title = path.removeprefix("goldenami/").removesuffix("__init__.py")
        if is_top or docstring:
            yield from (title, ("=" if is_top else "-") * len(title), "")
        if docstring:
            yield from (docstring, "")


def python_api() -> str:
    """One entry for each name of ``goldenami.__all__``: functions first, then classes, under their public names."""
    names = [name for name in goldenami.__all__ if not name.startswith("_")]
    kinds = {name: getattr(goldenami, name) for name in names}
    functions = [name for name, value in kinds.items() if inspect.isfunction(value)]
    classes = [name for name, value in kinds.items() if inspect.isclass(value) and not issubclass(value, BaseException)]
    return "\n".join(
        [
            *_entries("Functions", "autofunction", functions),
            *_entries("Classes", "autoclass", classes),
            *("Errors", "------", "", ".. automodule:: goldenami.errors", "   :exclude-members: EXIT_OK", ""),
            *("Events", "------", "", ".. automodule:: goldenami.events", ""),
        ]
    )


def _entries(title: str, directive: str, names: list[str]) -> Iterator[str]:
    yield from (title, "-" * len(title), "", ".. currentmodule:: goldenami", "")
    for name in names:
        yield from (f".. {directive}:: {name}", "")


PAGES: dict[str, Callable[[], str]] = {
    "recipe": reference.recipe_reference,
    "environment": reference.environment_reference,
    "agent": reference.agent_reference,
    "event": reference.event_reference,
    "layers": layers.page,
    "modules": module_map,
    "python": python_api,
}


def fill(_app: Any, _docname: str, source: list[str]) -> None:
    """Replace the comments of one page. Raises KeyError for a name that no function has."""
    source[0] = _COMMENT.sub(lambda comment: PAGES[comment[1] or comment[2]](), source[0])


def outdated(_app: Any, env: Any, _added: set[str], _changed: set[str], _removed: set[str]) -> list[str]:
    """The pages that have such a comment, or that other extensions make from the program."""
    texts = {name: Path(env.doc2path(name)).read_text(encoding="utf-8") for name in env.found_docs}
    return [name for name, text in texts.items() if _COMMENT.search(text) or ".. click::" in text]


def unlink_addresses(_app: Any, doctree: Any) -> None:
    """Make text of the links to mail addresses: docutils takes NAME@CHANNEL for one."""
    for link in list(doctree.findall(nodes.reference)):
        if link.get("refuri", "").startswith("mailto:"):
            link.replace_self(nodes.Text(link.astext()))


def refuse_other_hosts(app: Any, exception: Exception | None) -> None:
    """Raise ExtensionError if a page loads a script, style, font or picture from another host."""
    pages = [] if exception else sorted(Path(app.outdir).rglob("*.html"))
    found = [f"{page.name}: {tag}" for page in pages for tag in _FOREIGN.findall(page.read_text(encoding="utf-8"))]
    if found:
        raise ExtensionError("these pages load something from another host: " + "; ".join(found))


def setup(app: Any) -> dict[str, Any]:
    app.connect("source-read", fill)
    app.connect("env-get-outdated", outdated)
    app.connect("doctree-read", unlink_addresses)
    app.connect("build-finished", refuse_other_hosts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
