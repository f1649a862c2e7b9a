"""``Filters`` of the describe calls: names, wildcards, and the combination of several filters.

A filter searches the answer of the describe call, so both always agree. A name maps to a path in the answer
(``BlockDeviceMappings.Ebs.SnapshotId``; all items of lists on the way are searched), or to a function for values that
the answer does not contain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from goldenami_sandbox.ec2.context import Ec2Error
from goldenami_sandbox.ec2.protocol import timestamp

Answer = Mapping[str, Any]
Source = str | Callable[[Answer], Iterable[object]]
_MAX_VALUES = 200  # per request, as EC2 limits them
_SPECIAL = frozenset("*?\\")
_MOMENTS = frozenset({"StartTime", "LaunchTime", "AttachTime", "CreateTime"})


def select(
    answers: Iterable[dict[str, Any]], filters: Sequence[Mapping[str, Any]] | None, known: Mapping[str, Source]
) -> list[dict[str, Any]]:
    """Return the answers that every filter accepts. A filter accepts an answer that matches one of its values.

    Raises Ec2Error InvalidParameterValue for a filter that this describe call does not have.
    """
    tests = [_test(item, known) for item in filters or ()]
    if sum(len(item.get("Values", ())) for item in filters or ()) > _MAX_VALUES:
        raise Ec2Error("FilterLimitExceeded", f"The maximum number of filter values is {_MAX_VALUES}.")
    return [answer for answer in answers if all(test(answer) for test in tests)]


def _test(item: Mapping[str, Any], known: Mapping[str, Source]) -> Callable[[Answer], bool]:
    name, values = str(item.get("Name", "")), [str(v) for v in item.get("Values", ())]
    plain = {v for v in values if not _SPECIAL & set(v)}
    patterns = [_pattern(v) for v in values if v not in plain]
    source = _source(name, known)
    path = source.split(".") if isinstance(source, str) else []

    def accepts(answer: Answer) -> bool:
        found = _at(answer, path) if isinstance(source, str) else source(answer)
        texts = [_as_text(v) for v in found if v is not None]
        return any(text in plain or any(p.fullmatch(text) for p in patterns) for text in texts)

    return accepts


def _source(name: str, known: Mapping[str, Source]) -> Source:
    if name.startswith("tag:"):
        key = name[4:]
        return lambda answer: [t["Value"] for t in _tags(answer) if t["Key"] == key]
    if name == "tag-key":
        return lambda answer: [t["Key"] for t in _tags(answer)]
    if name == "tag-value":
        return lambda answer: [t["Value"] for t in _tags(answer)]
    if name not in known:
        raise Ec2Error("InvalidParameterValue", f"The filter '{name}' is invalid")
    return known[name]


def _tags(answer: Answer) -> list[dict[str, str]]:
    return list(answer.get("Tags") or answer.get("TagSet") or ())


def _at(value: Any, path: Sequence[str]) -> Iterator[object]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _at(item, path)
    elif not path:
        yield value
    elif isinstance(value, Mapping) and path[0] in value:
        found = value[path[0]]
        if len(path) == 1 and path[0] in _MOMENTS and isinstance(found, float):
            yield timestamp(found)
        else:
            yield from _at(found, path[1:])


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    """Return the regular expression of a value. ``*`` is any text, ``?`` any character; a backslash escapes the next
    one.
    """
    out, characters = [], iter(text)
    for c in characters:
        if c == "\\":
            out.append(re.escape(next(characters, "\\")))
        else:
            out.append({"*": ".*", "?": "."}.get(c) or re.escape(c))
    return re.compile("".join(out), re.DOTALL)
