"""Reads XML that anybody may have written: in pieces, with a limit for each text, and without document types.

A document type could declare entities that expand to any size. No index has one, so a file with one is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from xml.parsers import expat

_TEXT = 1 << 20  # characters of one element
_DEPTH = 64

Start = Callable[[str, Mapping[str, str]], None]
End = Callable[[str, str], None]


def read(chunks: Iterable[bytes], start: Start, end: End) -> Iterator[None]:
    """Call ``start(name, attributes)`` and ``end(name, text)`` for each element; names have no prefix. Yields after
    each piece, so that the caller can take what it has found. Raises ValueError for XML that is refused or wrong."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    texts: list[list[str]] = []
    size = 0

    def refuse(*_: object) -> None:
        raise ValueError("it has a document type, which no index needs")

    def on_start(name: str, attributes: dict[str, str]) -> None:
        nonlocal size
        if len(texts) >= _DEPTH:
            raise ValueError(f"its elements are nested more than {_DEPTH} deep")
        texts.append([])
        size = 0
        start(name.rpartition(":")[2], attributes)

    def on_text(data: str) -> None:
        nonlocal size
        size += len(data)
        if size > _TEXT:
            raise ValueError(f"an element has more than {_TEXT} characters")
        if texts:
            texts[-1].append(data)

    def on_end(name: str) -> None:
        end(name.rpartition(":")[2], "".join(texts.pop()).strip())

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = on_start
    parser.CharacterDataHandler = on_text
    parser.EndElementHandler = on_end
    try:
        for chunk in chunks:
            parser.Parse(chunk, False)
            yield
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise ValueError(f"it is not XML: {error}") from error
    yield
