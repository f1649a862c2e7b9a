"""Finds the places where two states of a file differ: values of a YAML file, and lines of any other file. Pure.

The places of YAML values do not depend on formatting, comments and the order of keys, as the digest of a plan. No
contents are in the result, only places: a file can have what must not be printed.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from goldenami.model import Mark
from goldenami.recipe.document import Document, NodePath

Sign = Literal["+", "~", "-"]
_LONGEST: Final = 500  # lines or items of the part that differs: the search takes more than quadratic time


@dataclass(frozen=True, slots=True)
class Place:
    """A difference. ``sign`` "+": it is new; "~": it has changed; "-": it is gone, and ``mark`` is where it was before.
    ``end``: the last line. ``what``: the path of the value: "software[2].template.mode"; or words."""

    sign: Sign
    mark: Mark
    end: int
    what: str = ""

    def __str__(self) -> str:
        lines = f"-{self.end}" if self.end > self.mark.line else ""
        column = f":{self.mark.column}" if self.mark.column and not lines else ""
        where = f"{self.mark.file}:{self.mark.line}{lines}{column}" if self.mark.line else self.mark.file
        return f"{where} {self.what}".rstrip()


def of_values(
    before: Document, after: Document, at: NodePath = (), *, wanted: Callable[[NodePath], bool] = lambda _: True
) -> list[tuple[NodePath, Place]]:
    """Return the values that differ below a path of two states of a YAML file, with their paths, in the order of the
    file. ``wanted``: which paths to look at, of those directly below ``at`` and all below them."""
    return [
        (path, place)
        for path, place in _differences(_at(before.value, at), _at(after.value, at), at, at, before, after)
        if wanted(path)
    ]


def of_lines(before: str, after: str, file: str, old_file: str) -> list[Place]:
    """Return the lines that differ between two states of a text. ``file``, ``old_file``: their names in messages."""
    old, new = before.splitlines(), after.splitlines()
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    old_part, new_part = old[start : len(old) - end], new[start : len(new) - end]
    if max(len(old_part), len(new_part)) > _LONGEST:
        return [Place("~", Mark(file, start + 1, 0), start + max(len(new_part), 1))]
    found = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old_part, new_part, autojunk=False).get_opcodes():
        if tag == "delete":
            found.append(Place("-", Mark(old_file, start + a + 1, 0), start + b))
        elif tag != "equal":
            found.append(Place("+" if tag == "insert" else "~", Mark(file, start + c + 1, 0), start + d))
    if not found:  # only the ends of lines differ
        found.append(Place("~", Mark(file, 0, 0), 0, "ends of lines"))
    return found


def named(path: NodePath) -> str:
    """Return a path as text: "software[2].template.mode"."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


_GONE: Final = object()


def _at(value: Any, path: NodePath) -> Any:
    for part in path:
        if not isinstance(value, dict) or part not in value:
            return _GONE
        value = value[part]
    return value


def _differences(
    old: Any, new: Any, old_path: NodePath, path: NodePath, before: Document, after: Document
) -> Iterator[tuple[NodePath, Place]]:
    if old is _GONE or new is _GONE:
        if new is not _GONE:
            yield path, Place("+", after.key_mark(path), _end(after, path), named(path))
        elif old is not _GONE:
            yield path, Place("-", before.key_mark(old_path), _end(before, old_path), named(old_path))
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(key for key in old if key not in new)]:
            yield from _differences(
                old.get(key, _GONE), new.get(key, _GONE), (*old_path, key), (*path, key), before, after
            )
    elif isinstance(old, list) and isinstance(new, list):
        for a, b in _pairs(old, new):
            yield from _differences(
                _GONE if a is None else old[a],
                _GONE if b is None else new[b],
                (*old_path, a if a is not None else len(old)),
                (*path, b if b is not None else len(new)),
                before,
                after,
            )
    elif _text(old) != _text(new):
        yield path, Place("~", after.mark(path), _end(after, path), named(path))


def _pairs(old: Sequence[Any], new: Sequence[Any]) -> Iterator[tuple[int | None, int | None]]:
    """Yield the items of two lists that differ: the index of the one and of the other, None if an item has no pair."""
    if max(len(old), len(new)) > _LONGEST:
        shared = min(len(old), len(new))
        yield from ((index, index) for index in range(shared))
        yield from ((index, None) for index in range(shared, len(old)))
        yield from ((None, index) for index in range(shared, len(new)))
        return
    texts = [_text(item) for item in old], [_text(item) for item in new]
    for tag, a, b, c, d in difflib.SequenceMatcher(None, *texts, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        pairs: dict[int, int] = {}
        for alike in (_same, _of_one_kind):
            for index in range(a, b):
                free = (other for other in range(c, d) if other not in pairs.values() and index not in pairs)
                pair = next((other for other in free if alike(old[index], new[other])), None)
                if pair is not None:
                    pairs[index] = pair
        yield from ((index, pairs.get(index)) for index in range(a, b))
        yield from ((None, index) for index in range(c, d) if index not in pairs.values())


def _same(old: Any, new: Any) -> bool:
    """Whether an item of a list is another state of an item: the same control, or an operation with the same name."""
    return isinstance(old, dict) and isinstance(new, dict) and _identity(old) == _identity(new)


def _of_one_kind(old: Any, new: Any) -> bool:
    """Whether two items are operations of the same kind, or single values."""
    if isinstance(old, dict) and isinstance(new, dict):
        return "id" not in old and next(iter(old), "") == next(iter(new), "")
    return type(old) is type(new)


def _identity(item: dict[str, Any]) -> tuple[str, ...]:
    if isinstance(item.get("id"), str):
        return ("id", item["id"])
    kind = next(iter(item), "")
    body = item.get(kind)
    body = body if isinstance(body, dict) else {"name": body}
    known = next((name for name in ("name", "dest", "path", "key") if isinstance(body.get(name), str)), "")
    return kind, known, body.get(known, "")


def _end(document: Document, path: NodePath) -> int:
    """Return the last line of a value, as far as its values show it."""
    if isinstance(_value(document.value, path), (dict, list)):
        depth = len(path)
        return max(line for other, (line, _) in document.marks.items() if other[:depth] == path)
    return document.mark(path).line


def _value(value: Any, path: NodePath) -> Any:
    for part in path:
        value = value[part]
    return value


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many items at the start of two lists are equal."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
