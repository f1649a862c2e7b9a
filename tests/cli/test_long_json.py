"""Documents with very many items: printed one item after the other, with the text that the whole document has."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from goldenami.cli.context import print_json, print_long_json

FRAME = {"schema": "x/1", "plans": [], "notes": ['text with "plans": [] in it', "ü"], "error": None}
Capture = pytest.CaptureFixture[str]


def items(count: int, made: list[int]) -> Iterator[dict[str, object]]:
    for number in range(count):
        made.append(number)
        yield {"number": number, "text": "x" * 1000}


@pytest.mark.parametrize("count", [0, 1, 3, 600])
def test_the_text_is_that_of_the_whole_document(count: int, capsys: Capture) -> None:
    whole = {**FRAME, "plans": list(items(count, []))}
    print_json(whole)
    expected = capsys.readouterr().out
    print_long_json(FRAME, "plans", items(count, []))
    assert capsys.readouterr().out == expected
    assert json.loads(expected) == whole


def test_an_item_is_printed_before_the_last_ones_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    seen: list[int] = []
    monkeypatch.setattr("sys.stdout.write", lambda _: seen.append(len(made)))
    print_long_json(FRAME, "plans", items(2000, made))
    assert seen[0] < 300, "the first items decide whether the document is indented"
    assert len(set(seen)) > 1000
