"""YAML with marks: what was written, where, and as what YAML reads it."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from goldenami.errors import InvalidInput, Problem
from goldenami.recipe.document import Document, find_name, parse, parse_leniently


def read(text: str) -> Document:
    return parse(text, Path("x.yaml"), "x.yaml")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", False),
        ("On", True),
        ("1.10", 1.1),
        ("0x1f", 31),
        ("0b11", 3),
        ("1_000", 1000),
        ("-7", -7),
        ("~", None),
        ("", None),
        ("1e3", "1e3"),
        ("1.0e+3", 1000.0),
        ("2027-03-01", datetime.date(2027, 3, 1)),
        ("2027-03-01 12:00:00", "2027-03-01 12:00:00"),
        ('"no"', "no"),
        ("'0644'", "0644"),
        ("a b", "a b"),
    ],
)
def test_scalars_are_read_as_yaml_does_and_the_text_is_kept(written: str, value: object) -> None:
    document = read(f"key: {written}\n")
    assert document.value == {"key": value}
    assert type(document.value["key"]) is type(value)
    surprise = None if isinstance(value, str) else written
    assert document.surprise(("key",)) == surprise


def test_every_node_and_key_has_its_mark() -> None:
    document = read("a: 1\nb:\n  - c: x\n    d: [y, z]\n")
    assert str(document.mark(("b", 0, "d", 1))) == "x.yaml:4:12"
    assert str(document.key_mark(("b", 0, "d"))) == "x.yaml:4:5"
    assert str(document.mark(("b", 0))) == "x.yaml:3:5"
    assert document.mark(("b", 0, "str", "d", "list[str]", 0)) == document.mark(("b", 0, "d", 0))
    assert document.mark(("b", 5)) == document.mark(("b",))


def test_anchors_and_merges() -> None:
    document = read("base: &base {a: 1, b: 2}\nchild: {<<: *base, b: 3}\nlist: [*base]\n")
    assert document.value["child"] == {"a": 1, "b": 3}
    assert document.value["list"] == [{"a": 1, "b": 2}]


@pytest.mark.parametrize(("written", "value"), [("0644", 420), ("-010", -8), ("1:30", 90)])
def test_numbers_of_other_bases_are_refused(written: str, value: int) -> None:
    document, problems = parse_leniently(f"key: {written}\n", Path("x.yaml"), "x.yaml")
    assert document.value == {"key": value}
    assert [str(problem) for problem in problems] == [f"x.yaml:1:6: YAML reads {written} as the number {value}"]


def test_aliases_cannot_blow_up() -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(InvalidInput) as caught:
        read("\n".join(["l0: &l0 [x]", *levels]))
    assert "more than 20000 values" in caught.value.problems[0].message


@pytest.mark.parametrize(
    ("text", "line", "needle", "place"),
    [
        ('key: "{{ vars.x }}"\n', 1, "vars.x", "1:10"),
        ("key: |\n  one\n  two {{ x }}\n", 2, "x", "3:10"),
        ("key: |\n\n  {{ x }}\n", 2, "x", "3:6"),
        ("key: {{a}}\n".replace("{{a}}", "plain"), 1, "absent", "1:6"),
    ],
)
def test_place_of_a_name_inside_a_scalar(text: str, line: int, needle: str, place: str) -> None:
    assert str(read(text).position(("key",), line, needle)) == f"x.yaml:{place}"


def test_a_name_is_found_as_a_whole_word() -> None:
    assert find_name("index x.y y", "y") == 11
    assert find_name("indexing index", "index") == 10
    assert find_name("a b", "c") == 0


PRINTABLE = st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp", "Cs"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.text(PRINTABLE, max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(PRINTABLE, max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(PRINTABLE, min_size=1, max_size=5), JSON, min_size=1, max_size=4))
def test_any_json_is_read_back(value: dict[str, Any]) -> None:
    assert read(json.dumps(value, ensure_ascii=False)).value == value


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        read(text)
    except InvalidInput as error:
        problems = error.problems
    assert all(problem.file == "x.yaml" and problem.message for problem in problems)


@given(st.text(alphabet="ab:-{}[]&*!|>'\"%@`#,? \n\t01", max_size=40))
def test_what_is_read_is_what_pyyaml_reads(text: str) -> None:
    try:
        mine = read(text).value
    except InvalidInput:
        return
    # By libyaml, as the product reads: the parser in Python refuses a tab before the end of a line, which YAML allows.
    assert mine == yaml.load(text, Loader=yaml.CSafeLoader)
