"""What a value must be like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenami.hardening import Expected
from goldenami.hardening.checks import Kind


@pytest.mark.parametrize(
    ("kind", "values", "good", "bad"),
    [
        ("equals", ("no",), ["no"], ["", "No", "no yes"]),
        ("equals", ("",), [""], ["x"]),
        ("one of", ("enabled", "alias"), ["enabled", "alias"], ["disabled", ""]),
        ("matches", ("active\ndeny .*",), ["active\ndeny (incoming)"], ["active", "inactive\ndeny x"]),
        ("at least", ("14",), ["14", "15"], ["13", "", "many", "14.5", "-20"]),
        ("at most", ("4",), ["4", "-1"], ["5", "", "none"]),
        ("contains", ("-e 2", "-w /x"), ["a\n-w  /x\n-e 2"], ["-e 2", ""]),
    ],
)
def test_expectations(kind: Kind, values: tuple[str, ...], good: list[str], bad: list[str]) -> None:
    expected = Expected(kind, values)
    assert [value for value in good if not expected.holds(value)] == []
    assert [value for value in bad if expected.holds(value)] == []
    assert str(expected)


@given(st.lists(st.text(alphabet="ab \t", min_size=1).filter(str.strip)), st.lists(st.text(alphabet="ab \t")))
def test_contains_is_a_set_of_lines(wanted: list[str], there: list[str]) -> None:
    """Whatever the order and the white space: a line that is missing is named, and only then the value fails."""
    expected = Expected("contains", tuple(wanted))
    value = "\n".join(there)
    assert expected.holds(value) == (not expected.missing(value))
    assert expected.holds("\n".join([*there, *wanted]))
