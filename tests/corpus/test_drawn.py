"""Drawn inputs: nothing that hypothesis finds ends in an error that goldenami does not know."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goldenami import recipe
from goldenami.cli.main import main
from goldenami.errors import GoldenAmiError
from goldenami.recipe.jsonschema import json_schema
from goldenami.recipe.rendering import Namespace, Renderer
from tests.corpus.cases import HEAD, SANDBOX

few = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

NASTY = ("\0", "\x1b[2J", "../x", "/", "\u202e")
WORDS = st.sampled_from(
    ["", "~", "no", "0644", "1:30", "999999999d", "0s", "{{ vars.a }}", "{{", "{% if", *NASTY],
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | WORDS, inner, max_size=3),
    max_leaves=8,
)
KEYS = st.deferred(lambda: st.sampled_from(sorted(json_schema("recipe")["properties"])))  # once it draws: it is slow


@contextlib.contextmanager
def _project(**files: str) -> Iterator[Path]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in {"goldenami": SANDBOX, **files}.items():
            path = root / f"{name}.yaml" if name == "goldenami" else root / "recipes" / f"{name}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="replace")
        os.chdir(root)
        try:
            yield root
        finally:
            os.chdir(before)


def _checked(**files: str) -> None:
    with _project(**files) as root:
        try:
            problems = recipe.check(recipe.load_project(root), ["web"])
        except GoldenAmiError:
            return
        for problem in problems:
            assert problem.message
            assert problem.line >= 0 <= problem.column


@few
@given(st.text(max_size=200))
def test_any_text_is_a_recipe_or_told_as_none(text: str) -> None:
    _checked(web=text)


@few
@given(st.dictionaries(KEYS, VALUES, max_size=3))
def test_any_value_of_a_key_is_used_or_told(changes: dict[str, Any]) -> None:
    lines = [line for line in HEAD.splitlines() if line.partition(":")[0] not in changes]
    _checked(web="\n".join([*lines, *(f"{key}: {json.dumps(value)}" for key, value in changes.items())]))


@few
@given(VALUES)
def test_any_environment_is_used_or_told(value: Any) -> None:
    _checked(goldenami=f"environments: {{production: {json.dumps(value)}}}", web=HEAD)


ATOMS = st.sampled_from(["vars.a", "vars.b", "vars.nothing", "1", "0", "'x'", "[1, 2]", "{}", "none", "range(9)"])
OPERATORS = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "and", "or"])
FILTERS = st.sampled_from(["json", "quote", "list", "join", "sort", "int", "center(99)"])
ATTRIBUTES = st.sampled_from(["x", "__class__", "format", "items()", "join([1])"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: (
        st.builds("({} {} {})".format, inner, OPERATORS, inner)
        | st.builds("({}|{})".format, inner, FILTERS)
        | st.builds("({})[{}]".format, inner, inner)
        | st.builds("({}).{}".format, inner, ATTRIBUTES)
        | st.builds("({} if {} else {})".format, inner, inner, inner)
    ),
    max_leaves=6,
)


@few
@given(EXPRESSIONS)
def test_any_expression_has_a_value_or_a_problem(text: str) -> None:
    problems: list[str] = []
    renderer = Renderer({"vars": Namespace("vars", {"a": "text", "b": [1, {"c": 2}]})})
    value = renderer.expression(text, lambda line, needle, message, hint: problems.append(message))
    assert (value is None) or not problems
    json.dumps(value)


@few
@given(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=20), max_size=3))
def test_any_arguments_end_with_a_code(arguments: list[str]) -> None:
    with _project(web=HEAD):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["validate", *arguments])
        assert status in (0, 2, 3)
        assert "because of a bug" not in err.getvalue()
