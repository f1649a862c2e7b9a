"""Encodes JSON documents of many items that have large parts in common, each part once.

The plans of 1,000 recipes for 1,500 targets are 450 MB of JSON, and nearly all of it is the same list of targets.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from goldenami.printable import Clean, escaped

_LARGE: Final = 64  # elements from which a value is looked for among the earlier ones
_MOST: Final = 16  # texts that are kept


class Parts(Mapping[str, str]):
    """A mapping that is several dicts, one after the other. Others may have some of them in common."""

    __slots__ = ()

    @abstractmethod
    def parts(self) -> tuple[dict[str, str], ...]:
        """Return the dicts. No key is in two of them."""


def plain(value: object) -> dict[Any, Any]:
    """Return a mapping that json does not know as a dict, for its argument ``default``."""
    if isinstance(value, Mapping):
        return dict(value.items())
    raise TypeError(f"{type(value).__name__} is no value of JSON")


class Encoder:
    """Encodes items as ``encode`` does. A large value that comes again, as the very same object, is encoded once.

    ``encode``: json.dumps with the options of the document. Nobody may change a value that was encoded.
    """

    def __init__(self, encode: Callable[[object], str]) -> None:
        self._encode = encode
        self._known: dict[int, tuple[object, Clean]] = {}  # with the value, so that its id is not given again

    def texts(self, item: Mapping[str, object]) -> Iterator[str]:
        """Yield the JSON text of an item, piece by piece."""
        yield "{"
        for number, (key, value) in enumerate(item.items()):
            yield f"{', ' if number else ''}{self._encode(key)}: "
            if isinstance(value, Parts):
                yield "{"
                for place, part in enumerate(filter(None, value.parts())):
                    if place:
                        yield ", "
                    yield self._inside(part)
                yield "}"
            elif isinstance(value, list | dict) and len(value) >= _LARGE:
                yield "[" if isinstance(value, list) else "{"
                yield self._inside(value)
                yield "]" if isinstance(value, list) else "}"
            else:
                yield self._encode(value)
        yield "}"

    def _inside(self, value: list[Any] | dict[Any, Any]) -> str:
        """Return the text between the brackets."""
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        text = self._encode(value)[1:-1]
        if len(value) < _LARGE:
            return text
        if len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[id(value)] = value, Clean(escaped(text))
        return self._known[id(value)][1]
