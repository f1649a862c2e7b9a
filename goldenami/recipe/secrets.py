"""Secrets: referenced by a recipe, never written in it, and not known while it is rendered.

A variable such as ``db_password: {secret: {env: DB_PASSWORD}}`` renders to a placeholder. Everything that is made of
the rendered recipe (the plan, its digest, the journal, what is printed) holds the placeholder; ``read`` gets the
values just before they are needed, ``fill`` puts them into the operations that go to the host, and ``Masker`` keeps
them out of what comes back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from goldenami.errors import InvalidInput, Problem
from goldenami.model import Mark

# Private-use characters: they survive every filter that leaves text alone, and nobody writes them by accident.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_PLACEHOLDER = re.compile(f"{_OPEN}secret:(?P<name>[A-Za-z_][A-Za-z0-9_]*){_CLOSE}")
MASK = "(secret)"


class Secret:
    """What an expression sees of a secret variable. Its text is the placeholder; it has no value yet."""

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
        raise TypeError("the length of a secret is not known when templates are rendered")

    def __bool__(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret comes from: a variable of the process's environment, a file, or an SSM SecureString parameter."""

    name: str
    source: Literal["env", "file", "ssm"]
    key: str
    mark: Mark


def is_mangled(text: str) -> bool:
    """Whether a filter took a placeholder apart, so that it can no longer be filled."""
    rest = _PLACEHOLDER.sub("", text)
    return _OPEN in rest or _CLOSE in rest


def names_in(text: str) -> frozenset[str]:
    """The secrets that a rendered text refers to."""
    return frozenset(match["name"] for match in _PLACEHOLDER.finditer(text))


def display(text: str) -> str:
    """A rendered text for people: each placeholder as ``(secret)``."""
    return _PLACEHOLDER.sub(MASK, text)


def read(refs: Iterable[SecretRef], ssm: Callable[[str], str]) -> dict[str, str]:
    """The values, by the variable's name. ``ssm`` gets a SecureString by its name and raises what it likes.

    Raises InvalidInput with every variable of the environment or file that is missing or empty.
    """
    values: dict[str, str] = {}
    problems: list[Problem] = []
    for ref in refs:
        found: str | None = None
        why = ""
        if ref.source == "ssm":
            found = ssm(ref.key)
        elif ref.source == "env":
            found = os.environ.get(ref.key)
            why = f"the environment variable {ref.key} is not set"
        else:
            try:
                # One newline at the end belongs to the file and not to the secret.
                found = Path(ref.key).read_text(encoding="utf-8").removesuffix("\n")
            except OSError as error:
                why = f"{ref.key} cannot be read: {error.strerror}"
        if not found:
            message = f"the secret {ref.name}: {why or 'it is empty'}"
            problems.append(Problem(ref.mark.file, ref.mark.line, ref.mark.column, message))
        else:
            values[ref.name] = found
    if problems:
        raise InvalidInput(problems)
    return values


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with its placeholders replaced. Raises KeyError for a secret that was not read."""
    return _PLACEHOLDER.sub(lambda match: values[match["name"]], text)


class Masker:
    """Takes secret values, and each line of them, out of text on its way to people or files."""

    def __init__(self, values: Iterable[str]) -> None:
        parts = {line for value in values for line in (value, *value.splitlines()) if line.strip()}
        ordered = sorted(parts, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        return display(self._pattern.sub(MASK, text) if self._pattern else text)
