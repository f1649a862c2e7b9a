"""The results of tests as one JUnit file and as one page."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from goldenami.model import TestFailure, TestReport
from goldenami.report import testpage

XML = """<?xml version="1.0"?><testsuites><testsuite name="goldenami.image.x86_64" tests="4">
<testcase classname="base" name="test_boots" time="0.1"/>
<testcase classname="tests.web_test" name="test_serves" time="0.2">
<failure message="first line">long</failure></testcase>
<testcase classname="base" name="test_slow" time="0.3"><properties>
<property name="flaky" value="not yet"/></properties></testcase>
<testcase classname="base" name="test_kernel" time="0"><skipped message="a container">x</skipped></testcase>
</testsuite></testsuites>"""


def reports(folder: Path) -> list[TestReport]:
    file = folder / "tests-image-x86_64.xml"
    file.write_text(XML)
    failure = TestFailure("tests/web_test.py::test_serves", "<b>port 80</b> is closed", "tests/web_test.py:7")
    here = TestReport("image", "x86_64", 1, 1, 1, 1, 2.5, (failure,), str(file))
    gone = TestReport("image", "x86_64", 3, 1, 0, 0, 1.0, (failure,), str(folder / "none.xml"), place="apps/eu-west-1")
    return [here, gone]


def test_junit_has_the_suites_of_all_runs(tmp_path: Path) -> None:
    here, gone = reports(tmp_path)
    elsewhere = TestReport("image", "x86_64", 1, 0, 0, 0, 1.0, (), here.junit, place="apps/eu-west-1")
    root = ElementTree.fromstring(testpage.junit([here, elsewhere, gone]))
    assert [suite.get("name") for suite in root] == [
        "goldenami.image.x86_64",
        "goldenami.image.x86_64.apps/eu-west-1",
    ]
    assert len(list(root.iter("testcase"))) == 8


def test_tests_that_were_not_executed_are_counted(tmp_path: Path) -> None:
    here = replace(reports(tmp_path)[0], not_executed=7)
    assert "<p>7 of the skipped tests were not executed" in testpage.page("Tests", [here])
    (suite,) = ElementTree.fromstring(testpage.junit([here]))
    assert [(one.get("name"), one.get("value")) for one in suite.find("properties") or ()] == [
        ("tests not executed", "7")
    ]


def test_the_page_has_every_test_and_needs_no_other_file(tmp_path: Path) -> None:
    text = testpage.page("Tests of web@stable & more", reports(tmp_path))
    assert "<h1>Tests of web@stable &amp; more</h1>" in text
    assert text.index("test_serves") < text.index("test_slow") < text.index("test_kernel") < text.index("test_boots")
    assert "&lt;b&gt;port 80&lt;/b&gt; is closed" in text, "the whole message, escaped"
    assert "at first: not yet" in text
    assert "<td>tests/web_test.py::test_serves <small>tests/web_test.py:7</small><pre>" in text, "as on the terminal"
    assert "Gate image, x86_64 in apps/eu-west-1" in text
    assert text.count("is closed") == 2, "also for a run whose file is missing"

    class Links(HTMLParser):
        found: list[str]

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += [name for name, _ in attrs if name in ("src", "href")]

    links = Links()
    links.found = []
    links.feed(text)
    assert links.found == []
