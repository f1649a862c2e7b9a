"""Reads YAML files as plain values, with the place of each value in the file.

``parse`` returns a ``Document``: the value (dicts, lists, scalars) and, for every node and key, its ``Mark``. A node is
named by its path, a tuple of keys and indexes as pydantic reports them, so that every later problem finds its line.

Stricter than YAML: duplicate keys are problems, keys are strings, tags (``!x``) and recursive anchors are refused, and
a file has one document. Anchors, aliases and ``<<`` are allowed. Scalars are read as YAML 1.1 does (PyYAML): ``no`` is
false, ``1.10`` is a number,
``0644`` is 420. The written text is kept, for the hint of users who meant a string: see ``Document.surprise``.
"""

from __future__ import annotations

import datetime
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml

from goldenami.errors import InvalidInput, Problem
from goldenami.model import Mark
from goldenami.reading import Files, describe, hint_of

NodePath = tuple[str | int, ...]

_SCALAR: Final = yaml.ScalarNode  # looked up once, because it is compared for each node
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML without libyaml: the same grammar, slower
_RESOLVER: Any = yaml.resolver.Resolver()


class _Loader(_BASE):  # type: ignore[misc]
    """PyYAML's loader, which looks at a short text only once: the same keys and values come in many files."""

    # PyYAML calls both for each node, for the tags of paths, which nobody has declared here. These do nothing, faster.
    descend_resolver = staticmethod(operator.is_)
    ascend_resolver = staticmethod(tuple)

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is _SCALAR:
            if not implicit[0]:
                return _TEXT
            return _plain_tag(value) if len(value) <= _SHORT else _plain_tag.__wrapped__(value)
        return _SEQUENCE if kind is yaml.SequenceNode else _MAPPING


@lru_cache(maxsize=4096)
def _plain_tag(text: str) -> Any:
    """Return the tag of a plain scalar, as PyYAML resolves it."""
    return _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))


# Aliases and << multiply what a small file holds ("billion laughs"); a real recipe has far less.
MAXIMUM_NODES = 20_000
MAXIMUM_TEXT = 8 << 20  # characters of all scalars
MAXIMUM_DEPTH = 50
LARGEST = 1 << 63  # whole numbers are less than this
OUT_OF_RANGE = "the number is out of range: expected less than 2 to the power of 63"
_FIND = 2000  # characters of a line that are searched for a name
_SHORT = 64  # characters of a scalar that is remembered

_TAG = "tag:yaml.org,2002:"
_TEXT, _SEQUENCE, _MAPPING, _MERGE = _TAG + "str", _TAG + "seq", _TAG + "map", _TAG + "merge"
_SURPRISING = re.compile(r"[-+]?(0[0-7_]+$|[0-9][0-9_]*:)")  # numbers of base 8 and base 60
_SCALARS = frozenset({"str", "int", "float", "bool", "null", "timestamp", "value", "merge"})


@dataclass(frozen=True, slots=True)
class Scalar:
    """How a scalar was written. ``text``: without quotes. ``style``: None for a plain scalar, else one of ' " | >."""

    text: str
    style: str | None


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed file. ``file``: its name in messages. ``path``: where it was read.

    ``marks`` and ``keys``: line and column, from 1, of each node, and of its key if it has one. ``scalars``: those
    that are not simply the text that was written.
    """

    file: str
    path: Path
    value: Any
    text: str
    marks: dict[NodePath, tuple[int, int]] = field(default_factory=dict)
    keys: dict[NodePath, tuple[int, int]] = field(default_factory=dict)
    scalars: dict[NodePath, Scalar] = field(default_factory=dict)
    broken: set[NodePath] = field(
        default_factory=set
    )  # what has a mistake of form; further problems about it would not help

    def known(self, path: NodePath) -> NodePath:
        """Return the longest part of ``path`` that is in the file. Entries that pydantic inserted are skipped."""
        if path in self.marks:
            return path
        found: NodePath = ()
        for entry in path:
            if (*found, entry) in self.marks:
                found = (*found, entry)
        return found

    def mark(self, path: NodePath) -> Mark:
        """Return the start of a node, or of its nearest parent if the node is not in the file."""
        return Mark(self.file, *self.marks[self.known(path)])

    def key_mark(self, path: NodePath) -> Mark:
        """Return the place of the node's key, or the start of the node if it has no key (list items, the document)."""
        found = self.known(path)
        return Mark(self.file, *(self.keys.get(found) or self.marks[found]))

    def text_of(self, path: NodePath) -> str:
        """Return the text of a scalar as it was written, without quotes."""
        scalar = self.scalars.get(path)
        return str(_at(self.value, path)) if scalar is None else scalar.text

    def surprise(self, path: NodePath) -> str | None:
        """Return the written text of a plain scalar that YAML did not read as a string, else None."""
        scalar = self.scalars.get(path)
        if scalar is None or scalar.style is not None or isinstance(_at(self.value, path), str):
            return None
        return scalar.text

    def position(self, path: NodePath, line: int, needle: str = "") -> Mark:
        """Return the place of line ``line`` (from 1) of a scalar's text, at ``needle`` if that line has it."""
        start = self.mark(path)
        scalar = self.scalars.get(path)
        block = scalar is not None and scalar.style in ("|", ">")
        number = start.line + line - 1 + (1 if block else 0)
        lines = lines_of(self.text)
        if not 0 < number <= len(lines):
            return start
        source = lines[number - 1]
        begin = start.column - 1 if number == start.line else len(source) - len(source.lstrip())
        return Mark(self.file, number, find_name(source, needle, begin) or begin + 1)


@lru_cache(maxsize=8)
def lines_of(text: str) -> list[str]:
    """Return the lines of a text: split once, because each problem of a file has a line of it."""
    return text.splitlines()


def unusable(text: str) -> str | None:
    """Return what a text has that no file name, argument or program can have, or None."""
    if "\0" in text:
        return "a NUL character"
    return None if text.isascii() or not _SURROGATE.search(text) else "a character that cannot be written as UTF-8"


_SURROGATE = re.compile("[\ud800-\udfff]")


def find_name(source: str, name: str, begin: int = 0) -> int:
    """Return the column, from 1, of a dotted name in a line, or of its last part. 0: the line has neither."""
    for needle in (name, name.rpartition(".")[2]) if name else ():
        match = re.compile(rf"(?<![\w.]){re.escape(needle)}(?!\w)").search(source, begin, begin + _FIND)
        match = match or re.compile(rf"(?<!\w){re.escape(needle)}(?!\w)").search(source, begin, begin + _FIND)
        if match:
            return match.start() + 1
    return 0


def _at(value: Any, path: NodePath) -> Any:
    for entry in path:
        value = value[entry]
    return value


def read_text(files: Files, path: Path, file: str) -> str:
    """Return the text of a file. Raises InvalidInput if it cannot be read or is not UTF-8."""
    try:
        return files.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            [Problem(file, 0, 0, f"is not UTF-8 text (byte {error.start})", "Save the file as UTF-8.")]
        ) from None
    except OSError as error:
        raise InvalidInput([Problem(file, 0, 0, describe(error, "the file"), hint_of(error))]) from None


def parse(text: str, path: Path, file: str) -> Document:
    """Parse YAML text.

    Raises InvalidInput with every tag, duplicate key and key that is not a string, or with the first syntax error.
    """
    document, problems = parse_leniently(text, path, file)
    if problems:
        raise InvalidInput(problems)
    return document


def parse_leniently(text: str, path: Path, file: str) -> tuple[Document, list[Problem]]:
    """Parse as ``parse`` does, but return the problems with the document, so that the rest can still be checked.

    Raises InvalidInput only for a syntax error.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise InvalidInput([_syntax_problem(error, file, text)]) from None
    except yaml.reader.ReaderError as error:
        # libyaml counts bytes. ``error.character`` is a number from libyaml, and a string from the Python reader.
        line = text.encode("utf-8", "surrogatepass")[: error.position].count(b"\n") + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        message = f"found a character that YAML does not allow (U+{code:04X})"
        raise InvalidInput([Problem(file, line, 0, message)]) from None
    if root is None:
        raise InvalidInput([Problem(file, 1, 1, "the file is empty")])
    builder = _Builder(Document(file, path, None, text), file)
    value = builder.build(root, ())
    document = Document(
        file,
        path,
        value,
        text,
        builder.document.marks,
        builder.document.keys,
        builder.document.scalars,
        builder.document.broken,
    )
    if not isinstance(value, dict):
        raise InvalidInput([Problem(file, 1, 1, "expected a mapping of keys at the top of the file")])
    return document, builder.problems


class _Builder:
    """Turns YAML nodes into values, records their marks, and collects all problems."""

    def __init__(self, document: Document, file: str) -> None:
        self.document = document
        self._marks, self._keys = document.marks, document.keys
        self.file = file
        self.problems: list[Problem] = []
        self._count = 0
        self._characters = 0
        self._open: set[int] = set()

    def mark(self, node: yaml.Node) -> Mark:
        return Mark(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def problem(self, node: yaml.Node, message: str, hint: str | None = None) -> None:
        mark = self.mark(node)
        self.problems.append(Problem(mark.file, mark.line, mark.column, message, hint))

    def build(self, node: yaml.Node, path: NodePath) -> Any:
        self._expand(node)
        if len(path) > MAXIMUM_DEPTH:
            self._stop(node, f"the values are nested more than {MAXIMUM_DEPTH} levels deep, which is the limit")
        start = node.start_mark
        if type(node) is _SCALAR:
            self._marks[path] = start.line + 1, start.column + 1
            text: str = node.value
            if node.tag == _TEXT and node.style not in ("|", ">") and text.isascii() and "\0" not in text:
                return text  # as nearly every value
            return self._scalar(node, path)
        if id(node) in self._open:
            self.problem(node, "an anchor contains itself")
            return None
        self._marks[path] = start.line + 1, start.column + 1
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                if node.tag != _SEQUENCE:
                    self.problem(node, f"the tag {_short(node.tag)} is not supported", "Remove the tag.")
                return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
            assert isinstance(node, yaml.MappingNode)
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _expand(self, node: yaml.Node) -> None:
        """Count a node, each time that an alias or << refers to it."""
        self._count += 1
        if type(node) is _SCALAR:
            self._characters += len(node.value)
        if self._count <= MAXIMUM_NODES and self._characters <= MAXIMUM_TEXT:
            return
        most = f"{MAXIMUM_NODES} values" if self._count > MAXIMUM_NODES else f"{MAXIMUM_TEXT >> 20} MiB of text"
        self._stop(node, f"found more than {most} after the aliases were expanded, which is the limit")

    def _stop(self, node: yaml.Node, message: str) -> NoReturn:
        mark = self.mark(node)
        raise InvalidInput([*self.problems, Problem(self.file, mark.line, mark.column, message)])

    def _scalar(self, node: yaml.ScalarNode, path: NodePath) -> Any:
        text: str = node.value
        style = node.style or None  # libyaml returns "" for a plain scalar
        if node.tag == _TEXT and text.isascii() and "\0" not in text:
            if style in ("|", ">"):
                self.document.scalars[path] = Scalar(text, style)
            return text
        self.document.scalars[path] = Scalar(text, style)
        if node.tag.removeprefix(_TAG) not in _SCALARS:
            self.problem(node, f"the tag {_short(node.tag)} is not supported", "Remove the tag.")
            return node.value
        wrong = unusable(node.value)
        if wrong:
            self.problem(node, f"the value has {wrong}", "Remove it.")
            return ""
        try:
            value = _value(node)
            if isinstance(value, int) and _SURPRISING.match(node.value):
                self.document.broken.add(path)
                self.problem(
                    node,
                    f"YAML reads {node.value} as the number {value}",
                    f'Write "{node.value}" for a text, or {value} for the number.',
                )
            return value
        except ValueError as error:
            short = node.value if len(node.value) <= 60 else f"{node.value[:57]}…"
            self.problem(node, f"{short!r} cannot be read: {error}", f'If it is a string, write "{short}".')
            return node.value

    def _mapping(self, node: yaml.MappingNode, path: NodePath) -> dict[str, Any]:
        if node.flow_style and any(isinstance(key, yaml.MappingNode) for key, _ in node.value):
            # {{ name }} is a mapping with a mapping as its key.
            self.document.broken.add(path)
            self.problem(node, "an expression must be in quotes", 'Write "{{ … }}": a bare { starts a mapping in YAML.')
            return {}
        if node.tag != _MAPPING:
            self.problem(node, f"the tag {_short(node.tag)} is not supported", "Remove the tag.")
        value: dict[str, Any] = {}
        merged: list[tuple[str, yaml.Node, yaml.Node]] = []
        for key_node, value_node in node.value:
            if key_node.tag == _TEXT and type(key_node) is _SCALAR:  # as nearly every key
                key = key_node.value
            elif key_node.tag == _MERGE:
                merged.extend(self._merge(value_node))
                continue
            else:
                key = self._key(key_node, path)
            if key in value:
                first, _ = self._keys[(*path, key)]
                self.problem(
                    key_node,
                    f"the key {key!r} is given twice",
                    f"It is given first in line {first}. Remove one of the two.",
                )
                continue
            start, below = key_node.start_mark, (*path, key)
            self._keys[below] = start.line + 1, start.column + 1
            value[key] = self.build(value_node, below)
        for key, key_node, value_node in merged:
            if key not in value:
                start, below = key_node.start_mark, (*path, key)
                self._keys[below] = start.line + 1, start.column + 1
                value[key] = self.build(value_node, below)
        return value

    def _key(self, node: yaml.Node, path: NodePath = ()) -> str:
        if type(node) is yaml.ScalarNode and node.tag == _TEXT:
            return str(node.value)
        if not isinstance(node, yaml.ScalarNode):
            self.problem(node, "a key must be a string", 'Quote a value that starts with {{ or [: "{{ name }}".')
            return f"<{self.mark(node)}>"
        # The key "on" of receivers is a text in YAML 1.2, which editors use, and a truth value in YAML 1.1.
        if not node.style and node.tag != _TAG + "str" and not (node.value == "on" and path[-2:-1] == ("notify",)):
            self.problem(
                node, f"the key {node.value} must be a string, but YAML reads {_kind(node)}", f'Write "{node.value}":'
            )
        return str(node.value)

    def _merge(self, node: yaml.Node) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                self.problem(source, "<< must have a mapping, or a list of mappings")
                continue
            if id(source) in self._open:
                self.problem(source, "an anchor contains itself")
                continue
            for key_node, value_node in source.value:
                self._expand(key_node)
                if key_node.tag == _MERGE:
                    self._open.add(id(source))
                    yield from self._merge(value_node)
                    self._open.discard(id(source))
                else:
                    yield self._key(key_node), key_node, value_node


def _value(node: yaml.ScalarNode) -> Any:
    text = node.value
    kind = node.tag.removeprefix(_TAG)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in ("yes", "true", "on")
    if kind == "int":
        return _integer(text)
    if kind == "float":
        return _float(text)
    if kind == "timestamp":
        return _date(text)
    return text


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    if len(digits) > 100:
        raise ValueError(OUT_OF_RANGE)
    if ":" in digits:  # YAML 1.1 counts in sixties: 1:30 is 90
        number = 0
        for part in digits.split(":"):
            number = number * 60 + int(part)
    elif digits.startswith(("0x", "0b")):
        number = int(digits, 0)
    else:
        number = int(digits, 8 if len(digits) > 1 and digits.startswith("0") else 10)
    if number >= LARGEST:
        raise ValueError(OUT_OF_RANGE)
    return sign * number


def _float(text: str) -> float:
    digits = text.replace("_", "").lower()
    if digits.endswith(".inf"):
        return float("-inf") if digits.startswith("-") else float("inf")
    if digits == ".nan":
        return float("nan")
    if ":" in digits:
        total = 0.0
        for part in digits.lstrip("+-").split(":"):
            total = total * 60 + float(part)
        return -total if digits.startswith("-") else total
    return float(digits)


def _date(text: str) -> datetime.date | str:
    return datetime.date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text


def _kind(node: yaml.ScalarNode) -> str:
    kinds = {"bool": "a truth value", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}
    return kinds.get(node.tag.removeprefix(_TAG), node.tag)


def _short(tag: str) -> str:
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag


def _syntax_problem(error: yaml.MarkedYAMLError, file: str, text: str) -> Problem:
    """Return PyYAML's syntax error as a problem for the author of the file."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    said = error.problem or ""
    lines = text.splitlines()
    source = lines[line - 1] if 0 < line <= len(lines) else ""
    indentation = source[: len(source) - len(source.lstrip())]
    if "\t" in indentation or "'\\t'" in said:
        return Problem(file, line, max(column, 1), "found a tab in the indentation", "Indent YAML with spaces only.")
    if "undefined alias" in said:
        return Problem(file, line, column, f"{said.replace('found ', '')}", "Define the anchor first, with &name.")
    if "expected a single document" in (error.context or "") or "single document" in said:
        return Problem(file, line, column, "found a second document (---)", "Write one document per file.")
    if "mapping values are not allowed" in said:
        return Problem(
            file,
            line,
            column,
            "found a colon where YAML allows no key",
            "Quote a value that contains ': ', or check the indentation.",
        )
    if "could not find expected ':'" in said:
        begin = error.context_mark.line + 1 if error.context_mark else line
        return Problem(
            file,
            begin,
            (error.context_mark.column + 1) if error.context_mark else column,
            "found a key without a colon after it",
        )
    if "cannot start any token" in said:
        return Problem(
            file, line, column, f"a value cannot start with {source[column - 1 : column]}", "Put the value in quotes."
        )
    context = f" ({error.context})" if error.context else ""
    words = {
        "did not find expected key": "the indentation does not match the other keys of the mapping",
        "did not find expected '-' indicator": "the indentation does not match the other items of the list",
        "did not find expected ',' or '}'": "expected , or } here",
        "did not find expected ',' or ']'": "expected , or ] here",
        "found unexpected end of stream": "the file ends inside a quoted string",
    }
    hints = {
        "did not find expected key": "Check the indentation, and quote a value that has text after a quoted part.",
        "did not find expected '-' indicator": "Check the indentation.",
        "did not find expected ',' or '}'": 'Quote a value that has { or : or a comma, such as "{{ name }}".',
        "did not find expected ',' or ']'": "Quote a value that has [ or : or a comma.",
        "found unexpected end of stream": f"The quote starts in line {error.context_mark.line + 1}."
        if error.context_mark
        else "",
    }
    return Problem(file, line, column, words.get(said, f"not YAML: {said}{context}"), hints.get(said) or None)
