"""Files of testinfra tests that recipes and agents name."""

from __future__ import annotations

import ast
import hashlib
import os

from goldenami.model import Mark
from goldenami.recipe.complaints import Complaints
from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.lookup import AGENT_FILE
from goldenami.recipe.project import shown
from goldenami.recipe.recipe import TestRef


def read_test(name: str, document: Document, at: NodePath, complaints: Complaints, origin: str = "") -> TestRef | None:
    """One entry of ``tests``. The file is parsed, so that a mistake in it is known before an instance is paid for."""
    mark = document.mark(at)
    if name == "base":
        return TestRef(name, None, "", mark)
    path = document.path.parent / name
    try:
        source = path.read_bytes()
    except OSError as error:
        hint = f"Write base for the built-in suite, or a path relative to {document.file}."
        complaints.at(mark, f"tests: {name}: {error.strerror}", hint)
        return None
    try:
        tree = ast.parse(source, str(path))
    except SyntaxError as error:
        complaints.at(Mark(shown(path), error.lineno or 0, error.offset or 0), f"not Python: {error.msg}")
        return None
    if not any(_is_test(node) for node in ast.walk(tree)):
        complaints.at(mark, f"tests: {name} has no test", "A test is a function whose name starts with test.")
        return None
    if origin:  # named from the recipes' directory, as those of recipes are; the same for a shipped and a copied agent
        folder = f"agents/{origin}" if document.path.name == AGENT_FILE else document.path.parent.name
        name = os.path.normpath(f"{folder}/{name}")
    return TestRef(name, path, hashlib.sha256(source).hexdigest(), mark, origin)


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test")
