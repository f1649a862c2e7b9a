"""Pydantic's errors as problems with a place and a next step, in the words of the person who wrote the file."""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from goldenami.errors import Problem
from goldenami.model import Mark
from goldenami.recipe import words
from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.rendering import nearest
from goldenami.recipe.secrets import display

_PATTERNS = {
    words.NAME: "made of lower-case letters and digits, with single dashes or dots between them",
    words.ACCOUNT_ID: "12 digits",
    words.REGION: "a region, such as eu-central-1",
    words.IMAGE_ID: "an AMI id, such as ami-0123456789abcdef0",
    words.INSTANCE_TYPE: "an instance type, such as t3.small",
    words.USER: "the name of a user",
    words.PARAMETER: "the name of an SSM parameter",
    words.PARAMETER_PREFIX: "a path, such as /golden-ami",
    words.ROLE: "the ARN of a role, such as arn:aws:iam::111111111111:role/goldenami-builder",
    words.SUBNET: "a subnet id, such as subnet-0123456789abcdef0",
    words.CIDR: "an address range, such as 192.0.2.0/24",
    words.IDENTIFIER: "made of letters, digits and underscores, not starting with a digit",
}

_EXPECTED = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "nothing",
}


class Complaints:
    """The problems of one input, collected while it is read."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def at(self, mark: Mark, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(mark.file, mark.line, mark.column, message, hint))

    def once(self, mark: Mark, message: str, hint: str | None = None) -> None:
        """As ``at``; what was said already is not said again, as of what each architecture has."""
        problem = Problem(mark.file, mark.line, mark.column, message, hint)
        if problem not in self.problems:
            self.problems.append(problem)

    def extend(self, problems: Iterable[Problem]) -> None:
        self.problems.extend(problems)


def translate(
    error: ValidationError,
    document: Document,
    prefix: NodePath,
    model: type[BaseModel],
    *,
    what: str = "",
    known: Collection[NodePath] = (),
) -> list[Problem]:
    """Every error of validating the value at ``prefix`` of the document, one problem a place.

    ``what`` says which thing the keys belong to where that is not plain, such as "package". ``known``: places that
    have their problem already.
    """
    groups: dict[NodePath, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        path = _path(details, document, prefix)
        groups.setdefault(path, []).append(details)
    problems = []
    for path, group in groups.items():
        # Each alternative of a union complains for itself. Where one alternative fits so far that its complaint is
        # about something inside, the complaints about the whole are noise.
        # The same goes for a list that is too short because its items are wrong.
        inner = any(other[: len(path)] == path and other != path for other in groups)
        if inner and (group[0]["type"] == "too_short" or any(_passes_union(d, path, prefix) for d in group)):
            continue
        if path in known or path in document.broken:
            continue
        # A key that is missing because it is misspelt is one mistake.
        unknown = (other for other, details in groups.items() if details[0]["type"] == "extra_forbidden")
        if group[0]["type"] == "missing" and any(_means(other, path) for other in unknown):
            continue
        problems.extend(_one(group, path, document, model, what))
    return problems


def _path(details: ErrorDetails, document: Document, prefix: NodePath) -> NodePath:
    loc = tuple(entry for entry in details["loc"] if entry != "[key]")
    if details["type"] == "missing":
        return (*document.known((*prefix, *loc[:-1])), loc[-1])
    return document.known((*prefix, *loc))


def _means(written: NodePath, missing: NodePath) -> bool:
    return written[:-1] == missing[:-1] and nearest(str(written[-1]), [str(missing[-1])]) is not None


def _passes_union(details: ErrorDetails, path: NodePath, prefix: NodePath) -> bool:
    """Whether pydantic names an alternative of a union (str, …) on the way, which is no key of the document."""
    return len(prefix) + len(details["loc"]) > len(path)


def _one(
    group: Sequence[ErrorDetails],
    path: NodePath,
    document: Document,
    model: type[BaseModel],
    what: str,
) -> list[Problem]:
    first = group[0]
    kind = first["type"]
    loc = first["loc"]
    if kind == "extra_forbidden":
        mark = document.key_mark(path)
        known = fields_at(model, loc[:-1])
        near = nearest(str(loc[-1]), list(known))
        owner = f" of {what}" if what and len(loc) == 1 else ""
        suggestion = f"Did you mean {near}?" if near else f"Known keys: {', '.join(known)}."
        return [_problem(mark, f"unknown key {str(loc[-1])!r}{owner}", suggestion)]
    if kind == "missing":
        mark = document.key_mark(path[:-1])
        field = fields_at(model, loc[:-1]).get(str(loc[-1]))
        owner = f"{what}: " if what else ""
        return [_problem(mark, f"{owner}the key {str(loc[-1])!r} is missing", field)]
    if "[key]" in loc:
        return [_problem(document.key_mark(path), f"the key {str(path[-1])!r} is not allowed: {_words(first)}")]
    mark = document.mark(path)
    name = next((str(entry) for entry in reversed(path) if isinstance(entry, str)), what)
    surprise = document.surprise(path)
    messages = list(dict.fromkeys(_words(details) for details in group))
    expected = [_EXPECTED[d["type"]] for d in group if d["type"] in _EXPECTED]
    if first["input"] is None and expected:
        return [
            _problem(
                document.key_mark(path),
                f"{name}: no value is given",
                f"Expected {_or(expected)}; remove the key if not needed.",
            )
        ]
    if surprise is not None and "a string" in expected:
        return [
            _problem(
                mark,
                f"{name}: a string is meant, but YAML reads {_reads(surprise, first['input'])}",
                f'Write "{surprise}".',
            )
        ]
    if expected and len(expected) == len(group):
        given = _given(first["input"])
        return [_problem(mark, f"{name}: expected {_or(expected)}, not {given}")]
    hint: str | None = None
    if kind == "literal_error" and isinstance(first["input"], str):
        choices = _choices(first)
        near = nearest(first["input"], choices)
        hint = f"Did you mean {near}?" if near else None
    prefix_text = f"{name}: " if name and not (kind == "value_error" and messages[0].startswith(name)) else ""
    return [_problem(mark, prefix_text + "; or ".join(messages), hint)]


def _words(details: ErrorDetails) -> str:
    kind, context, given = details["type"], details.get("ctx", {}), details["input"]
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"{_given(given)} is not one of {', '.join(_choices(details))}"
    if kind == "string_pattern_mismatch":
        form = _PATTERNS.get(context["pattern"], f"of the form {context['pattern']}")
        return f"{_given(given)} is not {form}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}"
    if kind == "too_short" or kind == "string_too_short":
        return "it is empty" if not given else details["msg"]
    if kind == "greater_than_equal":
        return f"{_given(given)} is less than {context['ge']}"
    if kind == "less_than_equal":
        return f"{_given(given)} is more than {context['le']}"
    text = details["msg"]
    return text[0].lower() + text[1:]


def _choices(details: ErrorDetails) -> list[str]:
    text = str(details.get("ctx", {}).get("expected", ""))
    return [part.strip().strip("'") for part in text.replace(" or ", ", ").split(", ") if part]


def _given(value: Any) -> str:
    if isinstance(value, str):
        shown = display(value)
        return repr(shown if len(shown) <= 60 else shown[:57] + "…")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "nothing" if value is None else str(value)


def _reads(text: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"{text} as {'true' if value else 'false'}"
    kind = "number" if isinstance(value, (int, float)) else "date"
    return f"{text} as a {kind}" if text == str(value) else f"{text} as the {kind} {value}"


def _or(words: Sequence[str]) -> str:
    return " or ".join(dict.fromkeys(words))


def _problem(mark: Mark, message: str, hint: str | None = None) -> Problem:
    return Problem(mark.file, mark.line, mark.column, message, hint)


def fields_at(model: type[BaseModel], loc: Sequence[int | str]) -> dict[str, str | None]:
    """The keys (with their descriptions) that a model knows at a place inside it; empty where any key goes."""
    current: list[Any] = [model]
    for entry in loc:
        following: list[Any] = []
        for candidate in current:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                for name, field in candidate.model_fields.items():
                    if entry in (name, field.alias):
                        following.append(field.annotation)
            else:
                following.extend(typing.get_args(candidate))
        # A union's tag is no step down: stay where we are.
        current = [leaf for item in following for leaf in _leaves(item)] or current
    found: dict[str, str | None] = {}
    for candidate in current:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            for name, field in candidate.model_fields.items():
                found[field.alias or name] = field.description
    return found


def _leaves(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _leaves(typing.get_args(annotation)[0])
    if origin is typing.Union or origin is types.UnionType:
        return [leaf for part in typing.get_args(annotation) for leaf in _leaves(part)]
    return [annotation]
