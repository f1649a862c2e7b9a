"""Secrets in templates: filters work on the value when it is filled in; what cannot work is refused at its place."""

from __future__ import annotations

import base64
import configparser
import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml

from goldenami import recipe
from goldenami.errors import InvalidInput
from goldenami.masking import forms, masked_by
from goldenami.recipe.rendering import Namespace, Renderer
from goldenami.recipe.secrets import Masker, Secret, display, fill, is_mangled, names_in
from goldenami.stages.filling import fill_stage
from tests.provision.local import run_here

Write = Callable[[dict[str, str]], Path]
RECIPE = """\
name: web
version: "1.0"
os: debian
base: {id: ami-0123456789abcdef0}
builder: {instance_types: [t3.small], ssh_user: admin}
"""

PASSWORD = "p@ss'w\"o\\rd $x%&`/é <b>"
LINES = "-----BEGIN KEY-----\nMIIE/+=\n-----END KEY-----"


def render(source: str, key: Any = None, *, expression: bool = False) -> tuple[Any, list[tuple[int, str]]]:
    problems: list[tuple[int, str]] = []
    values = {"key": Secret("key") if key is None else key, "other": Secret("other"), "name": "db", "list": ["a", "b"]}
    renderer = Renderer({"vars": Namespace("vars", values)})
    work = renderer.value if expression else renderer.text
    return work(source, lambda line, needle, message, hint: problems.append((line, message))), problems


def filled(source: str, value: str = PASSWORD) -> str:
    text, problems = render(source)
    assert problems == []
    assert value not in text
    assert not is_mangled(text)
    return fill(text, {"key": value, "other": "other"})


# --- what works -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [PASSWORD, LINES, "plain", " spaces ", "ünïcödé"])
@pytest.mark.parametrize(
    "source",
    [
        "{{ vars.key }}",
        "{{ vars.key | string | quote }}",
        "{{ vars.key | quote }}",
        "{{ ('u:' ~ vars.key) | quote }}",
        "{{ ('u:' + vars.key + ':x') | quote }}",
        "{{ vars.key | json }}",
        "{{ vars.key | tojson }}",
        "{{ {'user': vars.name, 'password': vars.key, 'all': [vars.key, 1, None, true]} | json(indent=2) }}",
        "{{ {'password': vars.key} | tojson }}",
        "{{ [vars.key] | json }}",
        "{{ [vars.name, vars.key] | join(':') | b64encode }}",
        "{{ vars.key | b64encode }}",
        "{{ (vars.name ~ ':' ~ vars.key) | b64encode | quote }}",
        "{{ vars.key | e }}",
        "{{ vars.key | escape | forceescape }}",
        "{{ vars.key | upper | lower | trim }}",
        "{{ vars.key | replace('p', 'q') }}",
        "{{ 'x-y' | replace('y', vars.key) }}",
        "{{ vars.key | indent(4) }}",
        "{{ vars.key | indent(width=2, first=true) }}",
        "{{ vars.missing | default(vars.key) | quote }}",
        "{{ vars.key | default('x') | quote }}",
        "{% set url = 'a ' ~ vars.key %}{{ url | quote }}",
        "{% set url %}a {{ vars.key }}{% endset %}{{ url | quote }}",
        "{% filter quote %}a {{ vars.key }}{% endfilter %}",
        "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(vars.key) | json }}",
        "{% for item in [vars.key, 'x'] %}{{ item | quote }} {% endfor %}",
        "{{ [vars.key, 'x'] | map('quote') | join(' ') }}",
        "{% if vars.key is defined %}{{ vars.key }}{% endif %}",
        "{{ {'a': vars.key}.a | quote }}",
        "{{ ([vars.key] + vars.list) | first | quote }}",
    ],
)
def test_the_result_is_that_of_the_value(source: str, value: str) -> None:
    plain, problems = render(source, value)
    assert problems == []
    assert filled(source, value) == plain


def test_a_database_url_comes_out_right_everywhere() -> None:
    url = "{% set url = 'postgres://app:' ~ (vars.key | urlencode) ~ '@db.internal/' ~ vars.name %}"

    def check(found: str) -> None:
        parts = urlsplit(found)
        assert unquote(parts.password or "") == PASSWORD
        assert (parts.scheme, parts.username, parts.hostname, parts.path) == ("postgres", "app", "db.internal", "/db")

    check(filled(url + "{{ url }}"))
    shell = subprocess.run(["sh", "-c", filled(url + "printf %s {{ url | quote }}")], capture_output=True, check=True)
    check(shell.stdout.decode())
    check(yaml.safe_load(filled(url + "database:\n  url: {{ url | json }}\n"))["database"]["url"])
    check(json.loads(filled(url + '{"url": {{ url | json }}, "x": {{ {"url": url} | tojson }}}'))["x"]["url"])
    ini = configparser.ConfigParser(interpolation=None)
    ini.read_string(filled(url + "[database]\nurl = {{ url }}\npassword = {{ vars.key }}\n"))
    check(ini["database"]["url"])
    assert ini["database"]["password"] == PASSWORD
    query = filled("https://x/?{{ {'token': vars.key, 'n': 'a b'} | urlencode }}")
    assert parse_qs(urlsplit(query).query) == {"token": [PASSWORD], "n": ["a b"]}


@pytest.mark.parametrize("value", [PASSWORD, LINES])
def test_a_password_comes_out_right_everywhere(value: str) -> None:
    shell = subprocess.run(
        ["sh", "-c", filled("printf %s {{ vars.key | quote }}", value)], capture_output=True, check=True
    )
    assert shell.stdout.decode() == value
    assert shlex.split(filled("export A={{ vars.key | quote }}", value)) == ["export", f"A={value}"]
    assert yaml.safe_load(filled("a: {{ vars.key | json }}", value)) == {"a": value}
    block = filled("a: |-\n  {{ vars.key | indent(2) }}\n", value)
    assert yaml.safe_load(block) == {"a": value}
    assert json.loads(filled('{"a": {{ vars.key | tojson }}}', value)) == {"a": value}
    assert base64.b64decode(filled("{{ vars.key | b64encode }}", value)).decode() == value


def test_a_record_shows_its_secrets_and_nothing_of_them() -> None:
    text, _ = render("a {{ (vars.key ~ vars.other) | quote | json }} b")
    assert names_in(text) == {"key", "other"}
    assert display(text) == "a (secret) b"
    with pytest.raises(KeyError):
        fill(text, {"key": "x"})
    assert render("a {{ (vars.key ~ vars.other) | quote | json }} b")[0] == text, "the digest of a plan does not change"
    assert render("{{ vars.key }}", expression=True)[0] == str(Secret("key"))


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED = [
    "vars.key == 'x'",
    "'x' != vars.key",
    "vars.key in ['x']",
    "vars.key in 'xyz'",
    "'x' in vars.key",
    "vars.key < 'x'",
    "[vars.key] == ['x']",
    "(vars.key | quote) == 'x'",
    "('a' ~ vars.key) == 'ax'",
    "vars.key | length",
    "vars.key | count",
    "vars.key | list",
    "vars.key | first",
    "vars.key | reverse",
    "vars.key | truncate(5, True, '')",
    "vars.key | int",
    "vars.key | title",
    "vars.key | wordwrap(5)",
    "vars.key | pprint",
    "[vars.key] | sort",
    "[vars.key, 'x'] | unique | list",
    "[vars.key] | select('eq', 'x') | list",
    "'%s' | format(vars.key)",
    "vars.key[0:3]",
    "vars.key[0]",
    "vars.key.upper()",
    "'{}'.format(vars.key)",
    "'{:>40}'.format(vars.key)",
    "'-'.join([vars.key])",
    "vars.key * 2",
    "vars.key % 1",
    "'%s' % vars.key",
    "vars.key is eq('x')",
    "vars.key is upper",
    "vars.key is in ['x']",
    "'a' if vars.key else 'b'",
    "not vars.key",
    "vars.key and 'x'",
    "vars.key or 'x'",
    "{'a': 1}[vars.key]",
]


@pytest.mark.parametrize("source", REFUSED)
def test_what_needs_the_value_is_refused_at_its_line(source: str) -> None:
    for text in (f"one\n{{{{ {source} }}}}", f"one\n{{% set x = {source} %}}"):
        value, problems = render(text)
        assert value is None, text
        ((line, message),) = problems
        assert line == 2
        assert "secret" in message


@pytest.mark.parametrize(
    "source",
    [
        "{% if vars.key %}x{% endif %}",
        "{% if vars.name == 'x' %}{% elif vars.key %}x{% endif %}",
        "{% for c in vars.key %}x{% endfor %}",
        "{% set url %}a {{ vars.key }}{% endset %}{% if url == 'a' %}x{% endif %}",
        "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(vars.key) == 'x' }}",
        "{% for c in [vars.key] if c == 'x' %}x{% endfor %}",
    ],
)
def test_a_condition_or_loop_over_a_secret_is_refused(source: str) -> None:
    value, problems = render(source)
    assert value is None
    assert "secret" in problems[0][1]


def test_a_chain_of_filters_is_bounded() -> None:
    value, problems = render("{{ vars.key" + " | json" * 60 + " }}")
    assert value is None
    assert "too many filters on a secret" in problems[0][1]


# --- in a project -----------------------------------------------------------------------------------------------------


def test_validate_names_the_place_and_the_filters_that_work(write_project: Write) -> None:
    software = 'software: [{template: {src: a.j2, dest: /etc/a}}, {command: {shell: "x {{ vars.key | title }}"}}]\n'
    root = write_project(
        {
            "recipes/web.yaml": f"{RECIPE}vars: {{key: {{secret: {{env: KEY}}}}}}\n{software}",
            "recipes/a.j2": "one\n{% if vars.key == 'x' %}{% endif %}\n",
        }
    )
    project = recipe.load_project(root)
    with pytest.raises(InvalidInput) as caught:
        recipe.load(project, "web", recipe.environment(project))
    texts = sorted(map(str, caught.value.problems))
    assert len(texts) == 2, texts
    assert texts[0].startswith("recipes/a.j2:2:")
    assert "a secret cannot be compared" in texts[0]
    assert "recipes/web.yaml:" in texts[1]
    assert "These filters can: b64encode, e, escape, " in texts[1]


def test_a_host_gets_the_values(write_project: Write, tmp_path: Path) -> None:
    """A recipe is loaded, its secrets are filled in, and its program writes the files."""
    out = tmp_path / "out"
    template = "url=postgres://app:{{ vars.key | urlencode }}@db/x\\npassword={{ vars.key }}\\n"
    root = write_project(
        {
            "recipes/web.yaml": f"{RECIPE}vars: {{key: {{secret: {{env: KEY}}}}}}\nsoftware:\n"
            f"  - template: {{src: a.ini, dest: {out}/a.ini}}\n"
            f"  - file: {{dest: {out}/a.json, content: '{{{{ {{\"a\": vars.key}} | json }}}}'}}\n"
            f"  - command: {{shell: 'printf %s {{{{ vars.key | quote }}}} >{out}/a.txt', creates: {out}/a.txt}}\n",
            "recipes/a.ini": template.replace("\\n", "\n"),
        }
    )
    project = recipe.load_project(root)
    loaded = recipe.load(project, "web", recipe.environment(project))
    (stage,) = [one for one in loaded.provisioning["x86_64"] if one.name == "software"]
    out.mkdir()
    here = run_here(*fill_stage(stage, {"key": PASSWORD}).operations)
    assert set(here.statuses) <= {"ok", "changed"}, here
    assert (out / "a.txt").read_text() == PASSWORD
    assert json.loads((out / "a.json").read_text()) == {"a": PASSWORD}
    url, password = (out / "a.ini").read_text().splitlines()
    assert unquote(urlsplit(url.removeprefix("url=")).password or "") == PASSWORD
    assert password == f"password={PASSWORD}"


# --- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [PASSWORD, LINES, "hunter2"])
@pytest.mark.parametrize(
    "change",
    [
        "string", "quote", "json", "tojson", "urlencode", "e", "b64encode",
    ],
)  # fmt: skip
def test_what_a_filter_writes_is_masked(value: str, change: str) -> None:
    text = filled(f"before {{{{ vars.key | {change} }}}} after", value)
    masked = Masker([value])(text)
    assert masked.strip("()") != text
    for form in forms(value):
        assert form not in masked
    assert "(secret)" in masked
    rest = masked.removeprefix("before ").removesuffix(" after").replace("(secret)", "").strip("'\"=")
    assert len(rest) <= 2, f"{rest} is left"


@pytest.mark.parametrize("before", ["", "u:", "us:", "use:", "user:"])
def test_base64_of_a_longer_text_is_masked(before: str) -> None:
    text = base64.b64encode(f"{before}{PASSWORD}:after".encode()).decode()
    masked = Masker([PASSWORD])(f"Authorization: Basic {text}")
    assert "(secret)" in masked
    assert len(masked.replace("(secret)", "")) < len("Authorization: Basic ") + len(before) * 2 + 16


def test_a_text_without_a_secret_needs_no_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    """To compile the one of a private key takes longer than to look at all names of tests of a gate."""
    key = "-----BEGIN KEY-----\nline one of a key\nline two of a key\n-----END KEY-----\n"
    masked = masked_by([key, "s3cret/word"], "***")
    with monkeypatch.context() as patched:
        patched.setattr("goldenami.masking.re.compile", lambda _: pytest.fail("a pattern was compiled"))
        assert masked("base::test_boot_is_complete") == "base::test_boot_is_complete"
    assert masked("a s3cret%2Fword and line two of a key.") == "a *** and ***."
