"""Documents of many items: what the items have in common is encoded once, and the text is that of json.dumps."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from goldenami.cli import context
from goldenami.printable import Clean, escaped
from goldenami.sharedjson import Encoder, Parts

FEW, MANY = 3, 100


class Joined(Parts):
    def __init__(self, *parts: dict[str, str]) -> None:
        self._parts = parts

    def parts(self) -> tuple[dict[str, str], ...]:
        return self._parts

    def __getitem__(self, key: str) -> str:
        return self._whole()[key]

    def __iter__(self) -> Any:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())

    def _whole(self) -> dict[str, str]:
        return {key: value for part in self._parts for key, value in part.items()}


ROWS = [{"label": f"n{number}"} for number in range(MANY)]
HASHES = {f"target {number}": "ab" * 4 for number in range(MANY)}


@pytest.mark.parametrize(
    "item",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"a": list[str](), "b": dict[str, str](), "c": Joined()}, id="empty"),
        pytest.param({"a": 1, "rows": ROWS, "one": {"x": [ROWS]}}, id="a large list"),
        pytest.param({"inputs": Joined({"a": "1"}, HASHES, {"z": "2"}), "last": None}, id="parts"),
        pytest.param({"inputs": Joined({}, HASHES)}, id="an empty part"),
        pytest.param({"few": dict.fromkeys("abc", 1), "many": HASHES, "text": 'é"\x7f'}, id="mappings"),
    ],
)
def test_the_text_is_that_of_json(item: Mapping[str, object]) -> None:
    encoder = Encoder(lambda value: json.dumps(value, ensure_ascii=False))
    wanted = json.dumps({k: dict(v) if isinstance(v, Joined) else v for k, v in item.items()}, ensure_ascii=False)
    for _ in range(2):  # the second time from what is known
        assert "".join(encoder.texts(item)) == wanted


def test_what_items_have_in_common_is_encoded_once() -> None:
    encoded: list[object] = []

    def encode(value: object) -> str:
        encoded.append(value)
        return json.dumps(value)

    encoder = Encoder(encode)
    for number in range(FEW):
        list(encoder.texts({"number": number, "rows": ROWS, "inputs": Joined({"a": str(number)}, HASHES)}))
    assert sum(value is ROWS for value in encoded) == 1
    assert sum(value is HASHES for value in encoded) == 1
    equal = [dict(row) for row in ROWS]  # equal is not the same
    list(encoder.texts({"rows": equal}))
    assert encoded[-1] is equal


def test_many_values_do_not_stay_in_memory() -> None:
    encoder = Encoder(json.dumps)
    for number in range(MANY):
        rows = [number] * MANY
        assert "".join(encoder.texts({"rows": rows})) == json.dumps({"rows": rows})
    assert len(vars(encoder)["_known"]) < MANY / 2


def test_control_characters_of_common_parts_are_escaped() -> None:
    rows = ["a\x9bb"] * MANY
    pieces = list(Encoder(lambda value: json.dumps(value, ensure_ascii=False)).texts({"rows": rows}))
    assert [type(piece) for piece in pieces].count(Clean) == 1
    assert "\x9b" not in "".join(map(escaped, pieces))
    assert json.loads("".join(map(escaped, pieces)).replace("\\x9b", "?")) == {"rows": ["a?b"] * MANY}


@pytest.mark.parametrize("count", [FEW, MANY])
def test_a_document_is_the_same_in_pieces(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def items() -> Iterator[dict[str, Any]]:
        for number in range(count):
            yield {"n": number, "rows": ROWS, "inputs": Joined({"a": "b"}, HASHES)}

    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    context.print_long_json({"schema": "x", "items": [], "error": None}, "items", items())
    wanted = [{**one, "inputs": dict(one["inputs"])} for one in items()]
    assert json.loads(out.getvalue()) == {"schema": "x", "items": wanted, "error": None}
