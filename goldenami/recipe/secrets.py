"""Secrets: a recipe has references to them, and their values are not known while it is rendered.

A variable such as ``db_password: {secret: {env: DB_PASSWORD}}`` renders to a placeholder. The plan, its
digest, the journal and all output have the placeholder. ``read`` gets the values immediately before they are needed,
``fill`` inserts them into the operations for the host, and ``Masker`` removes them from the output of the host. Facts
that only a builder knows (``context.fact_names``) have placeholders too. Their names have a dot; nothing masks them.

A filter on a secret, ``{{ vars.db_password | urlencode }}``, cannot work while the template is rendered. It is recorded
in a placeholder of its own, with the text that it is for, and ``fill`` applies it to the value. ``secret_text`` refuses
what cannot be recorded.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from goldenami.errors import InvalidInput, Problem
from goldenami.masking import masked_by
from goldenami.model import Mark
from goldenami.reading import Files, describe, hint_of

# Private-use characters: filters do not change them, and they do not occur in normal text.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_PLACEHOLDER = re.compile(
    f"{_OPEN}(?:secret:(?P<name>[A-Za-z_][A-Za-z0-9_.]*)|filtered:(?P<call>[A-Za-z0-9_=-]+)){_CLOSE}"
)
_LONGEST = 1 << 20  # characters of a recorded filter; each filter on the result of another one makes it a third longer
MASK = "(secret)"


class Secret(str):
    """Text with the placeholder of at least one secret, which has no value yet. ``Secret(NAME)`` is that of a
    variable."""

    __slots__ = ()

    def __new__(cls, name: str) -> Secret:
        return cls.of_text(f"{_OPEN}secret:{name}{_CLOSE}")

    @classmethod
    def of_text(cls, text: str) -> Secret:
        return str.__new__(cls, text)

    @classmethod
    def wrap(cls, text: str) -> str:
        """Return a text as a secret if it has a placeholder, otherwise unchanged."""
        return cls.of_text(text) if _OPEN in text else text

    def __reduce__(self) -> tuple[Any, ...]:
        return Secret.of_text, (str(self),)

    def __str__(self) -> str:
        return str.__str__(self)

    def __repr__(self) -> str:
        return f"Secret({display(self)!r})"

    def __html__(self) -> str:
        return str(self)

    def __add__(self, other: str) -> Secret:
        return Secret.of_text(f"{self}{other}") if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> Secret:
        return Secret.of_text(f"{other}{self}") if isinstance(other, str) else NotImplemented

    def __getitem__(self, key: object) -> str:  # Jinja compiles slices to this
        raise TypeError("a part of a secret cannot be used, because its value is not known yet")


def is_secret(value: object) -> bool:
    """Return whether a value is text with the placeholder of a secret."""
    return isinstance(value, str) and _OPEN in value


def has_secret(value: object) -> bool:
    """Return whether a value, or a value in it, is text with the placeholder of a secret."""
    if isinstance(value, Mapping):
        return any(has_secret(key) or has_secret(item) for key, item in value.items())
    return any(map(has_secret, value)) if isinstance(value, (list, tuple, set)) else is_secret(value)


def _plain(value: Any) -> Any:
    """Return a value of an expression for JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False)


def _urlencode(value: Any) -> str:
    """Encode a secret for any part of a URL, so also the slash, which Jinja's filter keeps. Encode pairs as a query."""
    if isinstance(value, str):
        return quote(value, safe="")
    return urlencode(value, quote_via=quote, safe="")


# The imports are in the functions, because environments are read without templates.
def _escaped(value: str) -> str:
    from markupsafe import escape

    return str(escape(value))


def _indented(value: str, *arguments: Any, **options: Any) -> str:
    from jinja2.filters import do_indent

    return do_indent(value, *arguments, **options)


def _tojson(value: Any, indent: int | None = None) -> str:
    from jinja2.utils import htmlsafe_json_dumps

    return str(htmlsafe_json_dumps(value, indent=indent))


# The filters that work on the value of a secret, with the names and the arguments that they have in templates.
FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "b64encode": lambda value: base64.b64encode(value.encode()).decode(),
    "e": _escaped,
    "escape": _escaped,
    "forceescape": _escaped,
    "indent": _indented,
    "json": _json,
    "lower": str.lower,
    "quote": shlex.quote,
    "replace": lambda s, old, new, count=None: s.replace(old, new, -1 if count is None else count),
    "tojson": _tojson,
    "trim": lambda value, chars=None: value.strip(chars),
    "upper": str.upper,
    "urlencode": _urlencode,
}


def deferred(filter: str, value: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> Secret:
    """Return a placeholder for the result of a filter. Raises TypeError for values and arguments that are not plain,
    and for a chain of filters that is too long."""
    call = {"filter": filter, "value": value, "arguments": list(arguments), "options": dict(options)}
    text = json.dumps(_plain(call), ensure_ascii=False)
    if len(text) > _LONGEST:
        raise TypeError(f"too many filters on a secret: their record has more than {_LONGEST} characters")
    return Secret.of_text(f"{_OPEN}filtered:{base64.urlsafe_b64encode(text.encode()).decode()}{_CLOSE}")


def _call(match: re.Match[str]) -> str:
    """Return the record of a filter, as JSON."""
    return base64.urlsafe_b64decode(match["call"]).decode()


@dataclass(frozen=True, slots=True)
class SecretRef:
    """The source of a secret: an environment variable, a file, or an SSM SecureString parameter. ``files`` reads it if
    it is a file. ``in_image``: the image may contain the value."""

    name: str
    source: Literal["env", "file", "ssm"]
    key: str
    mark: Mark
    files: Files = field(repr=False, compare=False)
    in_image: bool = False


def is_mangled(text: str) -> bool:
    """Return whether a filter damaged a placeholder, so that no value can be inserted."""
    rest = _PLACEHOLDER.sub("", text)
    return _OPEN in rest or _CLOSE in rest


def names_in(text: str) -> frozenset[str]:
    """Return the names of the secrets in a rendered text."""
    found: set[str] = set()
    for match in _PLACEHOLDER.finditer(text):
        found |= {match["name"]} if match["name"] else names_in(_call(match))
    return frozenset(found)


def display(text: str) -> str:
    """Return a rendered text for output: each placeholder becomes ``(secret)``, or the name of the fact."""
    return _PLACEHOLDER.sub(lambda match: f"({called(match[0])})", text)


def called(text: str) -> str:
    """Return what the placeholders of a text stand for: "secret", or the name of a fact such as ``facts.kernel``."""
    names = sorted(names_in(text))
    return names[0] if names and all("." in name for name in names) else "secret"


def read(refs: Iterable[SecretRef], ssm: Callable[[str], str]) -> dict[str, str]:
    """Read the values of secrets, by the name of the variable. ``ssm`` returns a SecureString by its name.

    Raises InvalidInput with every environment variable or file that is missing or empty, and the errors of ``ssm``.
    """
    values, problems = examine(refs, ssm)
    if problems:
        raise InvalidInput(problems)
    return values


def examine(refs: Iterable[SecretRef], ssm: Callable[[str], str | None]) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """Return the values of secrets, by the name of the variable, and why others have none. ``ssm`` returns a parameter
    by its name, None if there is none."""
    values: dict[str, str] = {}
    problems: list[Problem] = []
    for ref in refs:
        found: str | None = None
        why, hint = "", None
        if ref.source == "ssm":
            found = ssm(ref.key)
            why = "" if found is not None else f"the parameter {ref.key} does not exist"
        elif ref.source == "env":
            found = os.environ.get(ref.key)
            why = f"the environment variable {ref.key} is not set"
        else:
            try:
                # A newline at the end is part of the file, not of the secret.
                found = ref.files.read_bytes(Path(ref.key)).decode("utf-8").removesuffix("\n")
            except UnicodeDecodeError:
                why = f"{ref.key} is not UTF-8 text"
            except OSError as error:
                why, hint = describe(error, ref.key), hint_of(error)
        if not found:
            message = f"the secret {ref.name}: {why or 'its value is empty'}"
            problems.append(Problem(ref.mark.file, ref.mark.line, ref.mark.column, message, hint))
        else:
            values[ref.name] = found
    return values, tuple(problems)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its placeholders replaced by values. Raises KeyError for a secret that was not read."""

    def value_of(match: re.Match[str]) -> str:
        if match["name"]:
            return values[match["name"]]
        call = _filled(json.loads(_call(match)), values)
        return FILTERS[call["filter"]](call["value"], *call["arguments"], **call["options"])

    return _PLACEHOLDER.sub(value_of, text)


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {fill(key, values): _filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    return fill(value, values) if isinstance(value, str) else value


class Masker:
    """Replaces secret values, each line of them, and their encoded forms, in output and logs."""

    def __init__(self, values: Iterable[str]) -> None:
        self._mask = masked_by(values, MASK)

    def __call__(self, text: str) -> str:
        return display(self._mask(text))
