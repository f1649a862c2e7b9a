"""Reads the files of tests that recipes and agents name: testinfra tests, and shell checks."""

from __future__ import annotations

import ast
import hashlib
import os
from importlib.util import find_spec
from pathlib import Path

from goldenami import extensions, shellchecks
from goldenami.model import Mark
from goldenami.reading import Files, describe, hint_of
from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.lookup import AGENT_FILE
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project, shown
from goldenami.recipe.recipe import TestRef

SUITES = ("base", "hygiene", "performance", "reboot")  # the built-in suites that a recipe may name


def read_test(
    name: str, project: Project, document: Document, at: NodePath, problems: Problems, origin: str = ""
) -> TestRef | None:
    """Read one entry of ``tests``. The file is parsed, to find syntax errors before an instance costs money."""
    mark = document.mark(at)
    if name in SUITES:
        return TestRef(name, None, "", mark)
    suite = _installed(name, project, mark, problems)
    path = suite or document.path.parent / name
    try:
        files = Files([path.parent]) if suite else project.files
        digest = project.of_file("tests", path, lambda path: _digest(path, files))
    except OSError as error:
        suites = ", ".join((*SUITES, *extensions.installed(extensions.CHECKS)))
        hint = f"Write the name of a suite ({suites}), or a path relative to {document.file}."
        problems.add(mark, f"tests: {describe(error, name)}", hint_of(error, hint))
        return None
    except SyntaxError as error:
        problems.add(Mark(shown(path), error.lineno or 0, error.offset or 0), f"not valid Python: {error.msg}")
        return None
    except shellchecks.InvalidCheckError as error:
        problems.add(Mark(shown(path), error.line, 1), f"{error}", error.hint)
        return None
    if digest is None:
        is_shell = path.suffix == shellchecks.SUFFIX
        hint = "a function whose name starts with test." if not is_shell else '@test "NAME" {, lines for sh, and }.'
        problems.add(mark, f"tests: {name} has no test", f"Add a test: {hint}")
        return None
    if suite is not None:
        return TestRef(name, path, digest, mark, origin, installed=True)
    if origin:  # relative to the directory of recipes: the name is the same for a shipped agent and its copy
        folder = f"agents/{origin}" if document.path.name == AGENT_FILE else document.path.parent.name
        name = os.path.normpath(f"{folder}/{name}")
    return TestRef(name, path, digest, mark, origin)


def _digest(path: Path, files: Files) -> str | None:
    """Return the digest of a file of tests; None if it has no test. Raises OSError, SyntaxError, InvalidCheckError."""
    source = files.read_bytes(path)
    if path.suffix == shellchecks.SUFFIX:
        return hashlib.sha256(source).hexdigest() if shellchecks.parse(source.decode(errors="replace")) else None
    tree = ast.parse(source, str(path))
    return hashlib.sha256(source).hexdigest() if any(_is_test(node) for node in ast.walk(tree)) else None


def _installed(name: str, project: Project, mark: Mark, problems: Problems) -> Path | None:
    """Return the file of a suite of an installed package; None if no package has a suite of this name."""
    if extensions.CHECKS not in project.kept:
        project.kept[extensions.CHECKS] = extensions.installed(extensions.CHECKS)
    entry = project.kept[extensions.CHECKS].get(name) if "/" not in name else None
    if entry is None:
        return None
    try:
        spec = find_spec(entry.module)
    except Exception as error:  # find_spec imports the parent packages, which may raise anything
        spec, reason = None, f"{type(error).__name__}: {error}"
    else:
        reason = f"there is no module {entry.module}"
    if spec is None or spec.origin is None:
        problems.add(
            mark,
            f"tests: {name} of {entry.origin} cannot be found: {reason}",
            "Repair or uninstall the package.",
        )
        return None
    return Path(spec.origin)


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test")
