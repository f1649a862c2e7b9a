"""Problems of an input, and the translation of pydantic's errors into problems with a place and a next step."""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from goldenami.bounded import Budget
from goldenami.errors import InvalidInput, Problem
from goldenami.model import Mark
from goldenami.recipe import words
from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.secrets import display
from goldenami.recipe.similar import nearest, suggestion

_MOST = 1000  # problems of one value: more do not help, and each takes time

_PATTERNS = {
    words.NAME: "made of lower-case letters and digits, with single dashes or dots between them",
    words.ACCOUNT_ID: "12 digits",
    words.REGION: "a region, such as eu-central-1",
    words.IMAGE_ID: "an AMI id, such as ami-0123456789abcdef0",
    words.SNAPSHOT_ID: "a snapshot id, such as snap-0123456789abcdef0",
    words.DEVICE: "a device name, such as /dev/sdf",
    words.LABEL: "a label of at most 12 letters, digits and . _ -",
    words.MOUNT_OPTION: "one mount option, such as noatime",
    words.INSTANCE_TYPE: "an instance type, such as t3.small",
    words.USER: "the name of a user",
    words.PARAMETER: "the name of an SSM parameter",
    words.PARAMETER_PREFIX: "a path, such as /golden-ami or /golden-ami/{{ environment.name }}",
    words.ROLE: "the ARN of a role, such as arn:aws:iam::111111111111:role/goldenami-builder",
    words.ENDPOINT: "the id of an EC2 Instance Connect Endpoint, such as eice-0123456789abcdef0",
    words.PROFILE: "the name or the ARN of an instance profile",
    words.EXTERNAL_ID: "an external id: 2 to 1224 letters, digits and _ + = , . @ : / -",
    words.SUBNET: "a subnet id, such as subnet-0123456789abcdef0",
    words.BUS: "the name or the ARN of an event bus",
    words.TOPIC: "the ARN of a topic, such as arn:aws:sns:eu-central-1:111111111111:golden-images",
    words.HEADER: "the name of an HTTP header",
    words.CIDR: "an address range, such as 192.0.2.0/24",
    words.IDENTIFIER: "made of letters, digits and underscores, without a digit at the start",
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


class Problems:
    """The problems of one input, collected while it is read. ``budget``: what its expressions may still take."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.warnings: list[Problem] = []
        self._once: set[Problem] = set()
        self.budget = Budget()

    def add(self, mark: Mark, message: str, hint: str | None = None) -> None:
        """Add a problem. A second call with the same arguments adds it again."""
        self.found.append(_problem(mark, message, hint))

    def add_once(self, mark: Mark, message: str, hint: str | None = None) -> None:
        """Add a problem, unless it was added before in this way: for parts that are read once per architecture."""
        problem = _problem(mark, message, hint)
        if problem not in self._once:
            self._once.add(problem)
            self.found.append(problem)

    def warn(self, mark: Mark, message: str, hint: str | None = None) -> None:
        """Add a warning: it is told, and nothing is refused."""
        self.warnings.append(_problem(mark, message, hint))

    def extend(self, problems: Iterable[Problem]) -> None:
        """Add several problems."""
        self.found.extend(problems)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Add the problems of an InvalidInput that the block of code raises (``with``), and go on after it."""
        try:
            yield
        except InvalidInput as error:
            self.extend(error.problems)

    def refuse_any(self) -> None:
        """Raise InvalidInput with all problems, if there are any."""
        if self.found:
            raise InvalidInput(self.found)


def translate(
    error: ValidationError,
    document: Document,
    prefix: NodePath,
    model: type[BaseModel],
    *,
    what: str = "",
    known: Collection[NodePath] = (),
) -> list[Problem]:
    """Return the errors of validating the value at ``prefix`` of the document, as one problem per place.

    ``what`` names the owner of the keys if the place alone does not show it, for example "package". ``known``: places
    whose problem was already reported.
    """
    groups: dict[NodePath, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        path = _path(details, document, prefix)
        groups.setdefault(path, []).append(details)
    problems = []
    above = {path[:length] for path in groups for length in range(len(path))}
    unknown: dict[NodePath, list[NodePath]] = {}
    for path, group in groups.items():
        if group[0]["type"] == "extra_forbidden":
            unknown.setdefault(path[:-1], []).append(path)
    for path, group in groups.items():
        # pydantic reports an error for each alternative of a union. If one alternative has an error in an inner value,
        # the value was meant as that alternative, and the errors about the whole value do not help.
        # The same is true for a list that is too short because its items are wrong.
        if path in above and (group[0]["type"] == "too_short" or any(_passes_union(d, path, prefix) for d in group)):
            continue
        if path in known or path in document.broken:
            continue
        # A misspelt key gives two errors, unknown and missing. Only the first is reported.
        if group[0]["type"] == "missing" and any(_means(other, path) for other in unknown.get(path[:-1], ())):
            continue
        problems.extend(_one(group, path, document, model, what))
        if len(problems) >= _MOST:
            break
    return problems


def _path(details: ErrorDetails, document: Document, prefix: NodePath) -> NodePath:
    loc = tuple(entry for entry in details["loc"] if entry != "[key]")
    if details["type"] == "missing":
        return (*document.known((*prefix, *loc[:-1])), loc[-1])
    return document.known((*prefix, *loc))


def _means(written: NodePath, missing: NodePath) -> bool:
    return nearest(str(written[-1]), [str(missing[-1])]) is not None


def _passes_union(details: ErrorDetails, path: NodePath, prefix: NodePath) -> bool:
    """Return whether the location of the error names an alternative of a union (str, …) in addition to the keys."""
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
        owner = f" of {what}" if what and len(loc) == 1 else ""
        near = suggestion(str(loc[-1]), list(known), f"Known keys: {', '.join(known)}.")
        return [_problem(mark, f"unknown key {str(loc[-1])!r}{owner}", near)]
    if kind == "missing":
        mark = document.key_mark(path[:-1])
        field = fields_at(model, loc[:-1]).get(str(loc[-1]))
        owner = f"{what}: " if what else ""
        return [_problem(mark, f"{owner}the key {str(loc[-1])!r} is missing", field)]
    if "[key]" in loc:
        return [_problem(document.key_mark(path), f"the key {str(path[-1])!r} is not allowed: {_describe(first)}")]
    mark = document.mark(path)
    name = next((str(entry) for entry in reversed(path) if isinstance(entry, str)), what)
    surprise = document.surprise(path)
    messages = list(dict.fromkeys(_describe(details) for details in group))
    expected = [_EXPECTED[d["type"]] for d in group if d["type"] in _EXPECTED]
    if first["input"] is None and expected:
        return [
            _problem(
                document.key_mark(path),
                f"{name} has no value, expected {_or(expected)}",
                "Add a value, or remove the key.",
            )
        ]
    if surprise is not None and "a string" in expected:
        return [
            _problem(
                mark,
                f"{name}: expected a string, but YAML reads {_reads(surprise, first['input'])}",
                f'Write "{surprise}".',
            )
        ]
    if expected and len(expected) == len(group):
        given = _given(first["input"])
        return [_problem(mark, f"{name}: expected {_or(expected)}, not {given}")]
    hint: str | None = None
    if kind == "literal_error" and isinstance(first["input"], str):
        choices = _choices(first)
        hint = suggestion(first["input"], choices)
    prefix_text = f"{name}: " if name and not (kind == "value_error" and messages[0].startswith(name)) else ""
    return [_problem(mark, prefix_text + "; or ".join(messages), hint)]


def _describe(details: ErrorDetails) -> str:
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


def _or(alternatives: Sequence[str]) -> str:
    return " or ".join(dict.fromkeys(alternatives))


def _problem(mark: Mark, message: str, hint: str | None = None) -> Problem:
    return Problem(mark.file, mark.line, mark.column, message, hint)


def fields_at(model: type[BaseModel], loc: Sequence[int | str]) -> dict[str, str | None]:
    """Return the keys of a model at a place inside it, with their descriptions; empty if any key is allowed there."""
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
        # The tag of a union is not a key, so it leads to no inner model.
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
