"""The results of builds, as a table, as JSON (``goldenami.build/1``) and as JUnit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli.output import write_file
from goldenami.errors import GoldenAmiError, InvalidInput
from goldenami.printable import escaped
from goldenami.report.text import counts, duration, first_line, wrapped

if TYPE_CHECKING:
    from rich.console import Console

    from goldenami.many import Result
    from goldenami.model import Place

SCHEMA = "goldenami.build/1"
ORDER = ("built", "moved", "distributed", "unchanged", "failed", "skipped")
LONGEST_NAME = 40  # a longer name does not move the columns of all others
_SHORTEST_NAME = 12
_STYLES = {"built": "green", "moved": "green", "failed": "bold red", "skipped": "yellow"}


def document(environment: str, results: Sequence[Result], notes: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON document of some builds; docs/pipelines.md describes it."""
    return {
        "schema": SCHEMA,
        "environment": environment,
        "builds": [_build(result) for result in results],
        "notes": list(notes),
        "error": None,
    }


def refusal(environment: str | None, error: GoldenAmiError) -> dict[str, Any]:
    """Return the JSON document of an error before the first build."""
    return {"schema": SCHEMA, "environment": environment, "builds": [], "notes": [], "error": error_json(error)}


def _build(result: Result) -> dict[str, Any]:
    from goldenami import manifest

    outcome = result.outcome
    return {
        "recipe": result.recipe,
        "status": result.status,
        "reason": result.reason,
        "release": outcome.manifest.label if outcome is not None else None,
        "channel": {"name": result.channel, "before": result.before, "after": result.after},
        "seconds": round(result.seconds, 1),
        "failed_targets": dict(outcome.failures) if outcome is not None else {},
        "left": dict(outcome.left) if outcome is not None else {},
        "unsent": dict(outcome.unsent) if outcome is not None else {},
        "manifest": manifest.to_json(outcome.manifest) if outcome is not None else None,
        "error": error_json(result.error) if result.error is not None else None,
    }


def _not_executed(result: Result) -> str:
    """Return how many tests were not executed; "" if all were, or if there was no build."""
    reports = result.outcome.manifest.tests if result.outcome is not None else ()
    number = sum(report.not_executed for report in reports)
    return f"tests not executed: {number}" if number else ""


def error_json(error: GoldenAmiError) -> dict[str, Any]:
    """Return an error as JSON values; docs/pipelines.md describes them."""
    problems = error.problems if isinstance(error, InvalidInput) else ()
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
        "problems": [
            {"file": p.file, "line": p.line, "column": p.column, "message": p.message, "hint": p.hint} for p in problems
        ],
    }


def write_junit(path: Path, results: Sequence[Result]) -> None:
    """Write a JUnit file with one case for each recipe. Raises OutputFailed if it cannot be written."""
    import xml.etree.ElementTree as ET

    numbers = Counter(result.status for result in results)
    suite = ET.Element(
        "testsuite",
        name="builds",
        tests=str(len(results)),
        failures=str(numbers["failed"]),
        errors="0",
        skipped=str(numbers["skipped"] + numbers["unchanged"]),
        time=f"{sum(result.seconds for result in results):.1f}",
    )
    for result in results:
        case = ET.SubElement(suite, "testcase", classname="goldenami", name=result.recipe, time=f"{result.seconds:.1f}")
        reason = escaped(result.reason)
        if result.status == "failed":
            ET.SubElement(case, "failure", message=first_line(reason), type=type(result.error).__name__).text = reason
        elif result.status in ("skipped", "unchanged"):
            ET.SubElement(case, "skipped", message=f"{result.status}: {first_line(reason)}")
        elif result.outcome is not None:
            ET.SubElement(case, "system-out").text = "\n".join(
                text for text in (result.outcome.manifest.label, _not_executed(result)) if text
            )
    root = ET.Element("testsuites")
    root.append(suite)
    write_file(path, ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n", "--junit")


def write_dotenv(path: Path, results: Sequence[Result], home: Place) -> None:
    """Write the variables of each release. Recipes without one have none. Raises OutputFailed if they cannot be
    written."""
    from goldenami.ci import dotenv

    written = [line for one in results if one.outcome is not None for line in dotenv.lines(one.outcome.manifest, home)]
    write_file(path, "".join(f"{line}\n" for line in written), "--dotenv")


def render_table(results: Sequence[Result], console: Console, seconds: float) -> None:
    """Print a line for each recipe, and how many ended in which way. A terminal that is too narrow gets more lines for
    each recipe: versions and ids are never split."""
    from rich.text import Text

    console.print()
    rows = [("RECIPE", "RESULT", "TOOK", "CHANNEL", "")]
    for result in results:
        moved = result.after if result.before == result.after else f"{result.before or 'none'} → {result.after}"
        channel = f"{result.channel} {moved or 'none'}" if result.channel else ""
        took = duration(result.seconds) if result.seconds else ""
        why = _not_executed(result) if result.status == "built" else first_line(result.reason).rstrip(":")
        rows.append((result.recipe, result.status, took, channel, why))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    widths[0] = min(widths[0], LONGEST_NAME)
    fits = not console.is_interactive or all(_width(row, widths) <= console.width for row in rows)
    if not fits:
        widths[0] = min(widths[0], max(_SHORTEST_NAME, console.width - widths[1] - widths[2] - 4))
    for number, row in enumerate(rows):
        line = Text()
        for column, (cell, width) in enumerate(zip(row[: 4 if fits else 3], widths, strict=False)):
            style = "bold" if number == 0 else _STYLES.get(cell, "") if column == 1 else ""
            line.append(f"{cell:<{width}}  ", style=style)
        if fits:
            line.append(row[4])
        line.rstrip()
        console.print(line, soft_wrap=True, highlight=False)
        for cell in row[3:] if not fits and number else ():
            for more in wrapped(f"  {cell}", console.width) if cell else ():
                console.print(Text(more), soft_wrap=True, highlight=False)
    numbers = Counter[str](result.status for result in results)
    total = f"{counts(numbers, ORDER)} · {duration(seconds)}"
    console.print(Text(total), soft_wrap=not console.is_interactive, highlight=False)


def _width(row: Sequence[str], widths: Sequence[int]) -> int:
    """Return the width of a row in one line."""
    cells = sum(max(len(cell), width) + 2 for cell, width in zip(row, widths, strict=False))
    return cells + len(row[4]) if row[4] else cells - 2


def print_notes(notes: Sequence[str]) -> None:
    """Print which recipes were left out."""
    for note in notes:
        click.echo(note, err=True)
