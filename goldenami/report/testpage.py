"""The results of tests as one JUnit file, and as one HTML page without other files.

Both are made of the JUnit files that each run of tests wrote. They contain no secret, because the runs mask them.
"""

from __future__ import annotations

import html
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from goldenami.model import TestFailure, TestReport

_STYLE = """body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em;
background: Canvas; color: CanvasText }
table { border-collapse: collapse; width: 100% } td, th { border-bottom: 1px solid #8884; padding: .3em .6em;
text-align: left; vertical-align: top; overflow-wrap: anywhere }
:is(td, th):is(:first-child, :last-child) { white-space: nowrap }
td:first-child { font-weight: 600 } :is(td, th):last-child { text-align: right }
pre { margin: .3em 0 0; white-space: pre-wrap } small { color: var(--skipped) }
.failed { color: var(--failed) } .passed { color: var(--passed) }
.flaky { color: var(--flaky) } .skipped { color: var(--skipped) }
:root { color-scheme: light dark; --failed: #b00020; --passed: #0b6b0b; --flaky: #8a4b00; --skipped: #595959 }
@media (prefers-color-scheme: dark) {
:root { --failed: #ff8a80; --passed: #81c784; --flaky: #ffb74d; --skipped: #b0b0b0 } }"""


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    outcome: str
    seconds: str
    message: str
    place: str = ""


def junit(reports: Sequence[TestReport]) -> bytes:
    """Return one JUnit document with a suite for each run. A run whose file is missing is left out."""
    root = ElementTree.Element("testsuites")
    for report in reports:
        for suite in _suites(report):
            if report.place:
                suite.set("name", f"{suite.get('name')}.{report.place}")
            if report.not_executed:
                properties = ElementTree.Element("properties")
                ElementTree.SubElement(
                    properties, "property", name="tests not executed", value=str(report.not_executed)
                )
                suite.insert(0, properties)
            root.append(suite)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def page(title: str, reports: Sequence[TestReport]) -> str:
    """Return the HTML page: a table for each run, with what failed first."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    for report in reports:
        where = f" in {report.place}" if report.place else ""
        words = ", ".join(
            f'<span class="{outcome}">{number} {outcome}</span>'
            for outcome in ("failed", "flaky", "passed", "skipped")
            if (number := getattr(report, outcome))
        )
        heading = html.escape(f"Gate {report.gate}, {report.architecture}{where}")
        body.append(f"<h2>{heading}</h2><p>{words} in {report.seconds:.1f} s</p>")
        if report.not_executed:
            body.append(
                f"<p>{report.not_executed} of the skipped tests were not executed, because the instance has no systemd "
                "or no network of its own. They prove nothing.</p>"
            )
        body.append("<table>")
        body.append('<tr><th scope="col">Result</th><th scope="col">Test</th><th scope="col">Seconds</th></tr>')
        order = {"failed": 0, "flaky": 1, "skipped": 2, "passed": 3}
        for case in sorted(_cases(report), key=lambda case: order[case.outcome]):  # stable
            place = f" <small>{html.escape(case.place)}</small>" if case.place else ""
            message = f"<pre>{html.escape(case.message)}</pre>" if case.message else ""
            body.append(
                f'<tr><td class="{case.outcome}">{case.outcome}</td>'
                f"<td>{html.escape(case.name)}{place}{message}</td><td>{html.escape(case.seconds)}</td></tr>"
            )
        body.append("</table>")
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n<main>\n" + "\n".join(body) + "\n</main></html>\n"
    )


def _suites(report: TestReport) -> Iterator[ElementTree.Element]:
    if report.junit is not None and Path(report.junit).is_file():
        yield from ElementTree.parse(report.junit).getroot().iter("testsuite")


def _cases(report: TestReport) -> Iterator[_Case]:
    """Yield the tests of a run; without its file, the failed ones."""
    failures = {failure.name: failure for failure in report.failures}
    found = False
    for suite in _suites(report):
        for case in suite.iter("testcase"):
            found = True
            name = f"{case.get('classname', '')}::{case.get('name', '')}".removeprefix("::")
            yield _case(case, name, failures)
    if not found:
        for name, failure in failures.items():
            yield _Case(name, "failed", "", failure.message, failure.place)


def _case(case: ElementTree.Element, name: str, failures: Mapping[str, TestFailure]) -> _Case:
    failed = next((one for tag in ("failure", "error") for one in case.iter(tag)), None)
    skipped = next(case.iter("skipped"), None)
    flaky = next((one for one in case.iter("property") if one.get("name") == "flaky"), None)
    seconds = case.get("time", "")
    if failed is not None:
        ours = next((one for full, one in failures.items() if _same(full, name)), None)
        if ours is not None:
            return _Case(ours.name, "failed", seconds, ours.message, ours.place)
        return _Case(name, "failed", seconds, failed.get("message", ""))
    if skipped is not None:
        return _Case(name, "skipped", seconds, skipped.get("message", ""))
    if flaky is not None:
        return _Case(name, "flaky", seconds, f"at first: {flaky.get('value', '')}")
    return _Case(name, "passed", seconds, "")


def _same(full: str, name: str) -> bool:
    """Return whether a node id and the name in a JUnit file are of the same test: folders have other separators."""
    plain = full.replace("/", ".").replace(".py::", "::").replace("::", ".")
    return plain == name.replace("/", ".").replace("::", ".")
