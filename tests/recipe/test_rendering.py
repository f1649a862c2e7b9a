"""Expressions and templates: types are kept, every undefined name is found, nothing reaches out of the sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from goldenami.recipe import rendering
from goldenami.recipe.rendering import Namespace, Renderer
from goldenami.recipe.secrets import Masker, Secret, display, fill, names_in

CONTEXT = {
    "vars": Namespace(
        "vars", {"n": 3, "text": "a b", "list": [1, 2], "flag": False, "items": "mine", "key": Secret("key")}
    ),
    "architecture": "x86_64",
}


def render(source: str) -> tuple[Any, list[tuple[int, str]]]:
    problems: list[tuple[int, str]] = []
    value = Renderer(CONTEXT).value(source, lambda line, needle, message, hint: problems.append((line, message)))
    return value, problems


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("plain", "plain"),
        ("{{ vars.n }}", 3),
        (" {{ vars.n + 1 }} ", 4),
        ("{{ vars.list }}", [1, 2]),
        ("{{ vars.flag }}", False),
        ("{{ vars.flag }}{{ vars.n }}", "False3"),
        ("n={{ vars.n }}", "n=3"),
        ("{{ vars.items }}", "mine"),
        ("{{ vars['items'] }}", "mine"),
        ("{{ vars.nope | default(7) }}", 7),
        ("{{ vars.nope is defined }}", False),
        ("{{ nope is defined and nope.deeper }}", False),
        ("{% if vars.n > 2 %}big{% endif %}\n", "big"),
        ("{% for i in vars.list %}\n{{ i }}\n{% endfor %}\n", "1\n2\n"),
        ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
        ("{{ vars.text | quote }}", "'a b'"),
        ("{{ {'a': vars.list} | json }}", '{"a": [1, 2]}'),
        ("{% raw %}{{ untouched }}{% endraw %}", "{{ untouched }}"),
    ],
)
def test_values(source: str, value: object) -> None:
    assert render(source) == (value, [])


def test_every_undefined_name_is_reported_at_its_line() -> None:
    value, problems = render(
        "{{ a }}\n\n{{ vars.b }} {{ vars.n }}\n{% for c in d %}{{ c }}{% endfor %}\n{% if e.f %}x{% endif %}\n"
    )
    assert value is None
    assert sorted(set(problems)) == [
        (1, "a is not defined"),
        (3, "vars.b is not defined"),
        (4, "d is not defined"),
        (5, "e is not defined"),
    ]


@pytest.mark.parametrize(
    "source",
    [
        "{{ nope }}",
        "{{ nope.deeper }}",
        "{{ nope() }}",
        "{{ nope + 1 }}",
        "{{ 1 + nope }}",
        "{{ nope > 1 }}",
        "{{ nope | upper }}",
        "{{ nope | length }}",
        "{{ nope | int }}",
        "{{ nope[0] }}",
        "{{ not nope }}",
        "{{ 'x' if nope }}",
        "{{ 'a' in nope }}",
        "{{ nope == 1 }}",
        "{{ nope ~ 'x' }}",
        "{{ nope | join(',') }}",
        "{{ vars.list[5] }}",
        "{{ vars.n.deeper }}",
        "{{ [nope] | first }}",
    ],
)
def test_no_use_of_an_undefined_name_passes(source: str) -> None:
    value, problems = render(source)
    assert value is None
    assert problems


@pytest.mark.parametrize(
    "source",
    [
        "{{ vars.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ vars.list.append(3) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ range(10000000) | list }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ vars.n / 0 }}",
        "{{ vars.n + vars.text }}",
        "{{ vars.n + }}",
        "{% if vars.n %}",
        "{{ vars.n | nofilter }}",
    ],
)
def test_what_is_not_allowed_or_fails_is_a_problem_and_not_an_exception(source: str) -> None:
    value, problems = render(source)
    assert value is None
    assert len(problems) == 1


def test_a_secret_is_a_placeholder_until_it_is_filled() -> None:
    whole, problems = render("{{ vars.key }}")
    part, more = render("password={{ vars.key }};")
    assert problems == more == []
    assert names_in(part) == {"key"}
    assert display(part) == "password=(secret);"
    assert fill(whole, {"key": "hunter2"}) == "hunter2"
    assert fill(part, {"key": "hunter2"}) == "password=hunter2;"
    with pytest.raises(KeyError):
        fill(part, {})


def test_masker_takes_values_and_their_lines_out() -> None:
    mask = Masker(["hunter2", "line one\nline two"])
    assert mask("password hunter2, again hunter2") == "password (secret), again (secret)"
    assert mask("got line two here") == "got (secret) here"
    assert Masker([])("hunter2") == "hunter2"


@pytest.mark.parametrize("form", ["vars.{}", " vars.{} ", "vars.{}|string", "vars.{} | string "])
def test_the_name_of_a_value_is_looked_up_as_jinja_does(form: str) -> None:
    """Without Jinja, where that is the same: what is found, what is reported, and the names that were used."""
    values = {
        "text": "a {{ b }}",
        "number": 7,
        "yes": True,
        "ratio": 0.5,
        "nothing": None,
        "items": ["a", {"b": [1]}],
        "mapping": {"a": 1},
        "keys": "declared",
        "odd": "a\0b",
        "large": 1 << 70,
        "secret": Secret("vault"),
    }
    context = {"vars": Namespace("vars", values)}
    seen = set()
    for name in (*values, "missing"):
        expression = form.format(name)
        found = rendering._looked_up(expression, context)
        if found is not None:
            seen.add(name)
            assert found == rendering._render_named("{{ (" + expression + ") | _keep }}", context, True), name
            assert type(found[0]) is type(rendering._render("{{ (" + expression + ") | _keep }}", context, True)[0])
    texts = {"text", "number", "keys", "odd", "large"}
    assert seen == (texts if "string" in form else texts | {"yes", "ratio", "items"})


@pytest.mark.parametrize(
    "source", ["vars", "vars.a.b", "vars.a()", "other.a", "vars['a']", "vars.a + 1", "loop.a", "-vars.a"]
)
def test_other_expressions_are_jinjas(source: str) -> None:
    assert rendering._looked_up(source, {"vars": Namespace("vars", {"a": "b"}), "other": {"a": 1}}) is None
