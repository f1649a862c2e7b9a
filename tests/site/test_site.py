"""The site: every link leads somewhere, no text of a catalog becomes markup, and a folder of others is not touched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from goldenami.cli.main import main
from goldenami.release.attest import PROVENANCE
from goldenami.release.catalog import Catalog
from goldenami.site.gather import NEWEST
from goldenami.site.scan import read_scan
from goldenami.site.write import MARK
from tests.site import world

ATOM = "{http://www.w3.org/2005/Atom}"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    world.fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(*more: str) -> Path:
    assert main(["site", "build", *more]) == 0
    return Path("public")


class Page(HTMLParser):
    """The links, ids, elements and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.elements: list[str] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            if name == "id" and value:
                self.ids.append(value)
            assert not name.startswith("on"), "no code in attributes"

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def pages(out: Path) -> Iterator[tuple[Path, Page]]:
    for path in sorted(out.rglob("*.html")):
        yield path, Page(path)


def test_links_lead_to_files_of_the_site(project: Path) -> None:
    out = build()
    count = 0
    for path, page in pages(out):
        assert len(set(page.ids)) == len(page.ids), path
        for link in page.links:
            if link == "data:,":
                continue
            assert not re.match(r"[a-z]+:|//", link), f"{path} needs another server: {link}"
            target, _, fragment = link.partition("#")
            assert not target or (path.parent / target).is_file(), f"{path}: {link}"
            if fragment and not target:
                assert fragment in page.ids, f"{path}: {link}"
            count += 1
    assert count > 100
    style = (out / "style.css").read_text() + (out / "site.js").read_text()
    assert "http:" not in style
    assert "https:" not in style.replace("only there for https.", "")


def test_no_text_becomes_markup(project: Path) -> None:
    out = build()
    for path, page in pages(out):
        # site.js is the only script of each page
        assert page.elements.count("script") == 1, path
        assert "\u202e" not in path.name
        # A text that turns the direction does so for itself alone: it ends an element that browsers isolate.
        turned = re.findall(r"\u202e(.{0,20})", re.sub(r'="[^"]*"', "", path.read_text("utf-8")), re.DOTALL)
        open_ended = [rest for rest in turned if not re.match(r"\s*</(bdi|p|li|td|dd|code|text|title)>", rest)]
        assert open_ended == [], path
    assert world.BAD in Page(out / "images/image-0/index.html").text
    for file in out.rglob("*.js"):
        if file.name != "site.js":
            assert json.loads(file.read_text("utf-8").partition(" = ")[2].removesuffix(";\n"))


def test_what_people_look_for(project: Path) -> None:
    """The board, the ids of a channel, what changed, why it was rebuilt, is it still good, who uses it."""
    (project / "fleet.json").write_text(json.dumps(world.FLEET))
    out = build("--fleet", "fleet.json", "--title", "Images of Acme")
    board = Page(out / "index.html").text
    assert "Images of Acme" in board
    assert [word for word in board.split() if word in ("candidate", "stable")][:2] == ["candidate", "stable"]
    name = Page(out / "images/image-0/index.html")
    stable = world.release("image-0", 2)
    for image in stable.images:
        assert image.image_id in name.text
    assert "apps" in name.text, "the name of the account"
    assert name.text.index("1.0.20261104.1") < name.text.index("1.0.20261102.1"), "newest first"
    last = Page(out / "images/image-0/1.0.20261104.1.html").text
    assert "openssl" in last
    assert "3.0.2-1~deb12u1" in last, "what changed since the release before"
    assert "7 instances, 5 running" in " ".join(last.split())
    assert "audit-full: waived until 2027-01-01" in last
    assert "image-1 1.0.20261104.1" in last, "the child"
    first = Page(out / "images/image-0/1.0.20261101.1.html").text
    assert "revoked" in first
    assert "This is the first release." in first
    data = json.loads((out / "catalog.json").read_text())
    assert data["schema"] == "goldenami.site/1"
    assert data["images"][0]["channels"]["stable"]["version"] == stable.version
    assert data["images"][0]["releases"][0]["version"] == "1.0.20261104.1"


def words(path: Path) -> str:
    return " ".join(Page(path).text.split())


NEWEST_PAGE = "images/image-0/1.0.20261104.1.html"
ANSWERS = {  # what an application team asks -> the page with the answer, what it shows, and the clicks from the board
    "which release is stable": ("index.html", "1.0.20261103.1", 0),
    "is it still supported": ("index.html", "deprecated from 2027-02-01", 0),
    "the stable image id in a region": ("images/image-0/index.html", "eu-west-1 ami-00260000000020001", 1),
    "how to use it in Terraform": ("images/image-0/index.html", 'data "aws_ssm_parameter"', 1),
    "which releases there were last week": ("images/image-0/index.html", "1.0.20261102.1 2026-11-02", 1),
    "hear of a new release": ("images/image-0/stable.atom", "image-0@stable is 1.0.20261103.1", 2),
    "what changed since the last release": (NEWEST_PAGE, "What changed since 1.0.20261103.1", 1),
    "is it vulnerable": (NEWEST_PAGE, "CVE-2026-1 high openssl", 1),
    "what is in it": (NEWEST_PAGE, "pypi/requests@2.31.3", 1),
    "which tests it passed": (NEWEST_PAGE, "image x86_64 42", 1),
    "who uses it": (NEWEST_PAGE, "7 instances, 5 running", 1),
    "what it is built on": ("images/image-1/1.0.20261104.1.html", "Built on image-0 1.0.20261104.1", 1),
    "compare it with any other release": ("images/image-0/compare.html", "1.0.20261101.1", 2),
    "which image an instance is from": ("search.js", "ami-00260000000030001", 0),  # typed into the search of each page
}


def test_each_question_takes_two_clicks_at_most(project: Path) -> None:
    out = build(*world.reports(project))
    clicks = {Path("index.html"): 0}
    for _ in range(2):
        for page, before in list(clicks.items()):
            if page.suffix == ".html":
                for link in Page(out / page).links:
                    target = (out / page.parent / link.partition("#")[0]).resolve()
                    if target.is_file():
                        clicks.setdefault(target.relative_to(out.resolve()), before + 1)
    clicks[Path("search.js")] = 0
    for question, (file, shown, most) in ANSWERS.items():
        assert clicks[Path(file)] <= most, question
        assert shown in words(out / file), question


def test_vulnerabilities_have_the_date_of_their_feed_and_none_is_never_guessed(project: Path) -> None:
    newest, stable = "images/image-0/1.0.20261104.1.html", "images/image-0/1.0.20261103.1.html"
    assert "Unknown: this site was built without a report" in words(build() / newest)
    (project / "scan.json").write_text(json.dumps(world.SCAN))
    out = build("--scan", "scan.json")
    shown = words(out / newest)
    assert "CVE-2026-1 high openssl 3.0.2 3.0.3 not accepted" in shown
    assert "2001-01-02 03:04 UTC proves nothing" in shown
    assert "has nothing about this release" in words(out / stable)
    empty = {**world.SCAN, "releases": [{**world.SCAN["releases"][0], "failing": []}]}
    (project / "scan.json").write_text(json.dumps(empty))
    shown = words(build("--scan", "scan.json") / newest)
    assert "but it does not prove that there is none" in shown, "the feed is too old"
    feed = {**world.SCAN["feeds"][0], "updated": f"{datetime.now(UTC):%Y-%m-%d}T00:00:00+00:00"}
    (project / "scan.json").write_text(json.dumps({**empty, "feeds": [feed]}))
    assert "x86_64: the report lists no vulnerability." in words(build("--scan", "scan.json") / newest)
    remark = "no usable feed covers 120 packages of the type pypi"
    partly = {**empty, "feeds": [feed], "releases": [{**empty["releases"][0], "remarks": [remark]}]}
    (project / "scan.json").write_text(json.dumps(partly))
    shown = words(build("--scan", "scan.json") / newest)
    assert f"not covered x86_64: {remark}" in shown
    assert "but it does not prove that there is none" in shown
    (project / "scan.json").write_text('{"schema": "goldenami.scan/1"}')
    assert main(["site", "build", "--scan", "scan.json"]) == 2


def test_releases_in_channels_have_a_bill_of_materials_and_their_signature(project: Path) -> None:
    world.sign(Catalog(project / "catalog"), "image-0", "1.0.20261104.1")
    out = build()
    shown = words(out / "images/image-0/1.0.20261104.1.html")
    assert "libssl3 3.0.2-1 openssl 3.0.2 MIT pkg:deb/debian/libssl3@3.0.2-1" in shown
    assert "It names the key 0123abcd" in shown
    assert "goldenami verify image-0@1.0.20261104.1" in shown
    for form, key in (("cyclonedx", "bomFormat"), ("spdx", "spdxVersion")):
        assert key in json.loads((out / f"images/image-0/sbom/1.0.20261104.1-x86_64.{form}.json").read_text())
    assert "has no signed statement" in words(out / "images/image-0/1.0.20261103.1.html")
    old = words(out / "images/image-0/1.0.20261102.1.html")
    assert "Bill of materials" not in old
    assert "No channel points to this release" in old


def test_the_support_of_a_release_is_what_its_recipe_declares(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = build()
    board = words(out / "index.html")
    assert "1.0.20261104.1 2026-11-04 deprecated from 2027-02-02" in board
    assert "deprecated from 2027-02-01" in words(out / "images/image-0/index.html")
    shown = words(out / "images/image-0/1.0.20261104.1.html")
    assert "deprecated from 2027-02-02, as its recipe declares" in shown
    assert "It is disabled on 2027-03-04 at the earliest: then nobody can launch it." in shown
    assert "It is deleted on 2027-05-03 at the earliest." in shown
    assert "This needs 2 newer releases" in shown
    assert "Unknown: the project of this site has no recipe image-1" in words(
        out / "images/image-1/1.0.20261104.1.html"
    )
    listed = json.loads((out / "catalog.json").read_text())["images"]
    assert listed[0]["releases"][0]["deprecated"] == "2027-02-02T03:00:00Z"
    assert listed[1]["releases"][0]["deprecated"] is None
    assert capsys.readouterr().err == ""
    (project / "recipes/image-0.yaml").write_text("name: 1\n")
    assert "has no recipe image-0 that can be read" in words(build() / "images/image-0/1.0.20261104.1.html")
    assert "left out: dates of image-0: " in capsys.readouterr().err


def test_a_name_has_its_snapshots_in_all_places(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = world.report_of_snapshots()
    (project / "lineage.json").write_text(json.dumps(report))
    shown = words(build("--lineage", "lineage.json") / "images/image-0/index.html")
    for place in ("111111111111/eu-central-1", "111111111111/eu-west-1", "222222222222/eu-west-1"):
        assert f"{place}: 4 snapshots: 2.29 GiB stored, full copies would be 8 GiB, 0.1238 USD a month" in shown
    assert "Snapshots of" not in words(Path("public/images/image-1/index.html"))
    places = [{key: value for key, value in one.items() if key != "rate"} for one in report["lineages"]]
    (project / "lineage.json").write_text(json.dumps({**report, "lineages": places}))
    old = words(build("--lineage", "lineage.json") / "images/image-0/index.html")
    assert "111111111111/eu-west-1: 4 snapshots: 2.29 GiB stored, full copies would be 8 GiB" in old
    assert "0.1238 USD" not in old, "a report of an earlier version has no prices"
    first = report["lineages"][0]
    for wrong in (
        {**report, "subject": "vol-1"},
        {**report, "lineages": [{}]},
        {**report, "lineages": []},
        {**report, "lineages": [{**first, "rate": {"standard": float("inf"), "archive": 1}}]},
        *(
            {**report, "lineages": [{**first, "snapshots": [{**first["snapshots"][0], "full_bytes": size}]}]}
            for size in (float("inf"), float("nan"), -1, 10**400)
        ),
    ):
        (project / "lineage.json").write_text(json.dumps(wrong))
        assert main(["site", "build", "--lineage", "lineage.json"]) == 2
        assert "lineage.json:1:1" in capsys.readouterr().err


def test_any_two_bills_of_materials_can_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of releases in channels and the newest: the data of the page has what no package manager of the system knows."""
    world.fill(tmp_path, names=1, releases=NEWEST + 1, packages=1)
    monkeypatch.chdir(tmp_path)
    out = build()

    def components(number: int) -> Any:
        version = world.release("image-0", number).version
        text = (out / f"images/image-0/data/{version}.js").read_text()
        return json.loads(text.partition(" = ")[2].removesuffix(";\n"))["components"]

    assert components(NEWEST) == {"x86_64": {"npm minimist": f"0.{NEWEST}.0, 1.2.8", "pypi requests": f"2.31.{NEWEST}"}}
    assert components(1)["x86_64"]["pypi requests"] == "2.31.1"
    assert components(0) == {}, "older than the newest five"


def test_a_release_has_the_timeline_of_its_build(project: Path) -> None:
    world.record_build(project, "image-0", 3)
    shown = words(build() / "images/image-0/1.0.20261104.1.html")
    assert "launch (x86_64)" in shown
    assert "Timeline" not in (project / "public/images/image-0/1.0.20261103.1.html").read_text()


def test_the_age_of_a_feed_is_judged_by_its_own_limit() -> None:
    now = datetime(2026, 11, 4, 12, tzinfo=UTC)
    feed = {"address": "feeds/debian.json", "updated": "2026-11-03T09:00:00+00:00", "problem": None}
    data = json.dumps({**world.SCAN, "feeds": [feed]}).encode()
    long, short = timedelta(days=3), timedelta(hours=12)
    (found,) = read_scan(Path("scan.json"), data, now, long).feeds
    assert found.problem == ""
    (found,) = read_scan(Path("scan.json"), data, now, long, {"feeds/debian.json": short}).feeds
    assert found.problem == "it is 27 hours old now, expected 12 hours at most"
    (found,) = read_scan(Path("scan.json"), data, now, short, {"feeds/debian.json": long}).feeds
    assert found.problem == ""


def test_a_damaged_statement_is_no_signature(project: Path) -> None:
    Catalog(project / "catalog").keep_document("image-0", "1.0.20261104.1", PROVENANCE, b"{}")
    shown = words(build() / "images/image-0/1.0.20261104.1.html")
    assert "not signed The file for the signed statement about this release cannot be read" in shown


def test_feeds(project: Path) -> None:
    out = build()
    feeds = sorted(out.rglob("*.atom"))
    assert [str(one.relative_to(out)) for one in feeds][:2] == ["feed.atom", "images/image-0/candidate.atom"]
    for path in feeds:
        feed = ElementTree.parse(path).getroot()
        entries = feed.findall(f"{ATOM}entry")
        ids = [one.findtext(f"{ATOM}id") for one in entries]
        assert len(set(ids)) == len(ids) > 0
        times = [str(one.findtext(f"{ATOM}updated")) for one in entries]
        assert times == sorted(times, reverse=True)
        for entry in entries:
            link = entry.find(f"{ATOM}link")
            assert link is not None
            assert (path.parent / link.attrib["href"]).is_file()


def test_an_earlier_site_is_replaced_and_nothing_else(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = build()
    before = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "images/image-0/old.html").write_text("of a release that is gone")
    build()
    after = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert after.keys() == before.keys()
    assert [p.name for p in project.iterdir() if p.name.startswith(".public")] == []
    (out / MARK).unlink()
    assert main(["site", "build"]) == 2
    assert "other files" in capsys.readouterr().err
    assert (out / "index.html").is_file()
    Path("link").symlink_to("catalog")
    assert main(["site", "build", "--out", "link"]) == 2


def test_a_damaged_catalog_leaves_the_earlier_site(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = build()
    world.damage(project, "image-1", "1.0.20261102.1")
    assert main(["site", "build"]) == 1
    assert "1.0.20261102.1.json" in capsys.readouterr().err
    assert (out / "images/image-1/1.0.20261102.1.html").is_file()


@pytest.mark.parametrize("text", ["{}", "no JSON", '{"schema": "goldenami.fleet/1", "releases": [{}]}'])
def test_a_report_that_is_none_is_refused(project: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "fleet.json").write_text(text)
    assert main(["site", "build", "--fleet", "fleet.json"]) == 2
    assert "fleet.json" in capsys.readouterr().err
    assert not (project / "public").exists()


def test_an_empty_catalog_has_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "goldenami.yaml").write_text(world.PROJECT)
    monkeypatch.chdir(tmp_path)
    assert "no release yet" in Page(build() / "index.html").text
