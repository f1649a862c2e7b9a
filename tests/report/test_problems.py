"""Printed errors, compared with their expected text at a fixed width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from goldenami.errors import (
    CloudError,
    GoldenAmiError,
    InvalidInput,
    OperationFailed,
    Problem,
    TargetsFailed,
)
from goldenami.report import render_error

SOURCES = {
    "web.yaml": "name: web\nsoftware:\n  - packges: {name: nginx}\n\t\tx: [1]\nlong: " + "x" * 200 + " bad value\n"
    "größe: {{ undefined_name }} end\n日本: oops\n"
}


def shown(error: GoldenAmiError, width: int = 60) -> str:
    output = io.StringIO()
    page = Console(file=output, width=width, color_system=None)
    render_error(error, page, read=SOURCES.get)
    return output.getvalue()


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (
            Problem("web.yaml", 3, 5, "unknown key 'packges'", "did you mean 'package'?"),
            (
                "web.yaml:3:5: error: unknown key 'packges'\n"
                "    3 |   - packges: {name: nginx}\n"
                "      |     ^~~~~~~\n"
                "      = hint: did you mean 'package'?\n"
            ),
        ),
        (
            Problem("web.yaml", 4, 3, "[red]tabs[/red]"),
            "web.yaml:4:3: error: [red]tabs[/red]\n    4 |         x: [1]\n      |         ^\n",
        ),
        (
            Problem("web.yaml", 6, 8, "undefined"),
            (
                "web.yaml:6:8: error: undefined\n"
                "    6 | größe: {{ undefined_name }} end\n"
                "      |        ^~~~~~~~~~~~~~~~~~~~\n"
            ),
        ),
        (
            Problem("web.yaml", 7, 5, "wide letters"),
            "web.yaml:7:5: error: wide letters\n    7 | 日本: oops\n      |       ^~~~\n",
        ),
        (Problem("web.yaml", 99, 1, "past the end"), "web.yaml:99:1: error: past the end\n"),
        (Problem("gone.yaml", 0, 0, "no such file"), "gone.yaml: error: no such file\n"),
    ],
)
def test_a_problem_is_shown_at_its_place(problem: Problem, text: str) -> None:
    assert shown(InvalidInput([problem])) == text + "1 problem found\n"


def test_a_long_line_is_cut_around_the_place() -> None:
    _, source, caret, _ = shown(InvalidInput([Problem("web.yaml", 5, 212, "no value")])).splitlines()
    assert len(source) <= 60
    assert source[caret.index("^") :].startswith("value")


def test_every_problem_is_shown_in_order() -> None:
    text = shown(InvalidInput([Problem("web.yaml", 3, 1, "second"), Problem("web.yaml", 1, 1, "first")]))
    assert text.index("first") < text.index("second") < text.index("2 problems found")


def test_a_failed_operation_is_shown_with_its_place_and_last_lines() -> None:
    output = "".join(f"line {n}\n" for n in range(40)) + "E: Unable to \x1b[31mlocate\n"
    error = OperationFailed(
        "package nginx failed", place="web.yaml:3:5", status=100, output=output, hint="Check the name."
    )
    lines = shown(error).splitlines()
    assert lines[:6] == [
        "error: package nginx failed",
        "  at web.yaml:3:5",
        "    3 |   - packges: {name: nginx}",
        "      |     ^~~~~~~",
        "  exit status 100",
        "  | … 16 lines before",
    ]
    assert lines[-2:] == ["  | E: Unable to �[31mlocate", "hint: Check the name."]
    assert len(lines) == 6 + 25 + 1


def test_cloud_errors_name_their_call_once() -> None:
    error = CloudError(
        "CopyImage: the key is disabled", code="Disabled", action="CopyImage", account="1", region="eu-west-1"
    )
    assert shown(error) == ("error: CopyImage: the key is disabled\n  code Disabled, account 1, region eu-west-1\n")


def test_failed_targets_are_listed() -> None:
    error = TargetsFailed("2 of 6 targets failed", failures={"b/y": "no key", "a/x": "quota"}, hint="Run resume.")
    assert shown(error) == "error: 2 of 6 targets failed\n  a/x: quota\n  b/y: no key\nhint: Run resume.\n"
