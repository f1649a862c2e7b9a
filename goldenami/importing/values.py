"""Values of a template: plain Python values, and text in which variables and unknown expressions are parts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MARKS: Final = re.compile(r"\{\{|\{%|\{#")  # what begins an expression of Jinja


@dataclass(frozen=True, slots=True)
class Reference:
    """A variable of the template, by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Code:
    """An expression that has no value before the other tool runs it. ``source``: as it is written."""

    source: str


@dataclass(frozen=True, slots=True)
class Text:
    """Text with parts that are not known yet. One reference alone stands for the variable's value, of any type."""

    parts: tuple[str | Reference | Code, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """The value of one setting. ``given``: None, a bool, number or str, a Text, a list or a dict of those."""

    given: Any
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Block:
    """A block of settings: a source, a provisioner, a nested block. ``blocks``: nested ones by their type."""

    type: str
    name: str
    file: str
    line: int
    settings: Mapping[str, Value]
    blocks: Mapping[str, tuple[Block, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a template. ``default``: None if a value must be given. ``env``: the environment variable that the
    default reads."""

    name: str
    default: Any
    sensitive: bool
    file: str
    line: int
    env: str | None = None


class UnknownValue(Exception):
    """A value depends on an expression, or on a variable without a default. Its text says which."""


def plain(value: Any, variables: Mapping[str, Variable], seen: tuple[str, ...] = ()) -> Any:
    """Return a value with the defaults of variables in their places. Raises UnknownValue."""
    if isinstance(value, dict):
        return {key: plain(one, variables, seen) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one, variables, seen) for one in value]
    if not isinstance(value, Text):
        return value
    found = [_resolved(part, variables, seen) for part in value.parts]
    return found[0] if len(found) == 1 else "".join(as_text(one) for one in found)


def _resolved(part: str | Reference | Code, variables: Mapping[str, Variable], seen: tuple[str, ...]) -> Any:
    if isinstance(part, str):
        return part
    if isinstance(part, Code):
        raise UnknownValue(f"{part.source} is known only to Packer")
    variable = variables.get(part.name)
    if variable is None:
        raise UnknownValue(f"there is no variable {part.name}")
    if variable.default is None or variable.sensitive:
        raise UnknownValue(f"the variable {part.name} has no default")
    if part.name in seen:
        raise UnknownValue(f"the variable {part.name} depends on itself")
    return plain(variable.default, variables, (*seen, part.name))


def as_text(value: Any) -> str:
    """Return a scalar as the other tools write it into text."""
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def expression(value: Any, used: set[str]) -> Any:
    """Return a value as a recipe writes it: variables as ``{{ vars.NAME }}``, and what would begin an expression of
    Jinja escaped. Adds the names of the variables to ``used``. Raises UnknownValue."""
    if isinstance(value, dict):
        return {key: expression(one, used) for key, one in value.items()}
    if isinstance(value, list):
        return [expression(one, used) for one in value]
    if isinstance(value, str):
        return MARKS.sub(lambda mark: "{{ '" + mark[0] + "' }}", value)
    if not isinstance(value, Text):
        return value
    parts = []
    for part in value.parts:
        if isinstance(part, Code):
            raise UnknownValue(f"{part.source} is known only to Packer")
        if isinstance(part, Reference):
            used.add(part.name)
            parts.append("{{ vars." + identifier(part.name) + " }}")
        else:
            parts.append(expression(part, used))
    return "".join(parts)


def identifier(name: str) -> str:
    """Return the name of a variable as a recipe can have it: variables of Packer can have hyphens."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def joined(parts: list[Any]) -> Any:
    """Return parts as one value: a str if all are str, else a Text. Adjacent text is one part."""
    flat: list[str | Reference | Code] = []
    for part in parts:
        for one in part.parts if isinstance(part, Text) else (part if isinstance(part, str) else as_text(part),):
            if isinstance(one, str) and flat and isinstance(flat[-1], str):
                flat[-1] += one
            else:
                flat.append(one)
    if not flat:
        return ""
    return flat[0] if len(flat) == 1 and isinstance(flat[0], str) else Text(tuple(flat))
