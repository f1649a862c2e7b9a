"""Secrets: a recipe has references to them, and their values are not known while it is rendered.

A variable such as ``db_password: {secret: {env: DB_PASSWORD}}`` renders to a placeholder. The plan, its
digest, the journal and all output have the placeholder. ``read`` gets the values immediately before they are needed,
``fill`` inserts them into the operations for the host, and ``Masker`` removes them from the output of the host.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from goldenami.errors import InvalidInput, Problem
from goldenami.model import Mark
from goldenami.reading import Files, describe, hint_of

# Private-use characters: filters do not change them, and they do not occur in normal text.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_PLACEHOLDER = re.compile(f"{_OPEN}secret:(?P<name>[A-Za-z_][A-Za-z0-9_]*){_CLOSE}")
MASK = "(secret)"


class Secret:
    """A secret variable in expressions. Its text is a placeholder; it has no value yet."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return f"{_OPEN}secret:{self._name}{_CLOSE}"

    def __repr__(self) -> str:
        return f"Secret({self._name!r})"

    def __html__(self) -> str:
        return str(self)

    def __len__(self) -> int:
        raise TypeError("the length of a secret is not known yet when templates are rendered")

    def __bool__(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class SecretRef:
    """The source of a secret: an environment variable, a file, or an SSM SecureString parameter. ``files`` reads it if
    it is a file."""

    name: str
    source: Literal["env", "file", "ssm"]
    key: str
    mark: Mark
    files: Files = field(repr=False, compare=False)


def is_mangled(text: str) -> bool:
    """Return whether a filter damaged a placeholder, so that no value can be inserted."""
    rest = _PLACEHOLDER.sub("", text)
    return _OPEN in rest or _CLOSE in rest


def names_in(text: str) -> frozenset[str]:
    """Return the names of the secrets in a rendered text."""
    return frozenset(match["name"] for match in _PLACEHOLDER.finditer(text))


def display(text: str) -> str:
    """Return a rendered text for output: each placeholder becomes ``(secret)``."""
    return _PLACEHOLDER.sub(MASK, text)


def read(refs: Iterable[SecretRef], ssm: Callable[[str], str]) -> dict[str, str]:
    """Read the values of secrets, by the name of the variable. ``ssm`` returns a SecureString by its name.

    Raises InvalidInput with every environment variable or file that is missing or empty, and the errors of ``ssm``.
    """
    values: dict[str, str] = {}
    problems: list[Problem] = []
    for ref in refs:
        found: str | None = None
        why, hint = "", None
        if ref.source == "ssm":
            found = ssm(ref.key)
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
    if problems:
        raise InvalidInput(problems)
    return values


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its placeholders replaced by values. Raises KeyError for a secret that was not read."""
    return _PLACEHOLDER.sub(lambda match: values[match["name"]], text)


class Masker:
    """Replaces secret values, and each line of them, in output and logs."""

    def __init__(self, values: Iterable[str]) -> None:
        parts = {line for value in values for line in (value, *value.splitlines()) if line.strip()}
        ordered = sorted(parts, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        return display(self._pattern.sub(MASK, text) if self._pattern else text)
