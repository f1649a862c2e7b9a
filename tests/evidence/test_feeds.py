"""Feeds are a stranger's: whatever is wrong with one is told, and never taken for a feed without vulnerabilities."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from goldenami.evidence import feeds
from goldenami.evidence.packages import Component, Inventory
from goldenami.evidence.vulnerabilities import Ecosystem, Feed, find
from goldenami.model import FeedSource
from goldenami.updates.fetch import Downloads, is_secure

INVENTORY = Inventory("debian", "12", "bookworm", (Component("deb", "x", "1.0-1", source="x", source_version="1.0-1"),))
WANTED = feeds.Wanted.of([INVENTORY])
DEBIAN = Ecosystem("debian", "12")
MODIFIED = "2026-11-24T00:00:00Z"
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def record(number: int = 1, **more: Any) -> dict[str, Any]:
    affected = {
        "package": {"ecosystem": "Debian:12", "name": "x"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
    }
    return {"id": f"CVE-2026-{number:04}", "modified": MODIFIED, "affected": [affected], **more}


def packed(*records: object, name: str = "{}.json") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, one in enumerate(records):
            archive.writestr(name.format(number), one if isinstance(one, str) else json.dumps(one))
    return out.getvalue()


def read(folder: Path, data: bytes | str, form: str = "osv") -> Feed:
    path = folder / "feed"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return feeds.read(FeedSource(str(path), form), WANTED, Downloads(None), NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        json.dumps([record(1), record(2)]),
        json.dumps({"vulns": [record(1), record(2)]}),
        "\n".join(json.dumps(record(number)) for number in (1, 2)),
        gzip.compress(json.dumps([record(1), record(2)]).encode(), mtime=0),
        packed(record(1), record(2), {"id": "GHSA-1", "affected": []}),
    ],
    ids=["list", "answer", "lines", "gzip", "zip"],
)
def test_records_of_osv_in_all_forms(data: bytes | str, tmp_path: Path) -> None:
    found = read(tmp_path, data)
    assert found.problem == ""
    assert [one.id for one in found.statements] == ["CVE-2026-0001", "CVE-2026-0002"]
    assert found.covers == {DEBIAN}
    assert found.updated == datetime(2026, 11, 24, tzinfo=UTC)


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("osv", ""),
        ("osv", "{}"),
        ("osv", "[1]"),
        ("osv", '{"id": 5}'),
        ("osv", DEEP),
        ("osv", "\xff\xfe"),
        ("osv", '{"id": "x", "n": ' + "1" * 5000 + "}"),
        ("osv", b"PK\x03\x04 broken"),
        ("osv", packed(DEEP.replace("[", '["Debian:12",', 1))),
        ("osv", packed("x", name="{}.txt")),
        ("osv", packed('{"id": 1, "x": "Debian:12"}')),
        ("osv", gzip.compress(b"[]", mtime=0)[:-4]),
        ("security-tracker", ""),
        ("security-tracker", "[]"),
        ("security-tracker", '{"x": {}'),
        ("security-tracker", '{"x": {}} more'),
        ("security-tracker", '{"x": []}'),
        ("security-tracker", '{"x": ' + DEEP + "}"),
        ("security-tracker", '{"x" {}}'),
    ],
)
def test_what_cannot_be_read_is_told(form: str, data: bytes | str, tmp_path: Path) -> None:
    found = read(tmp_path, data, form)
    assert found.problem
    assert len(found.problem) < 400
    assert (found.statements, found.covers) == ((), frozenset())


def test_records_with_other_types_are_no_statements(tmp_path: Path) -> None:
    odd: list[dict[str, Any]] = [
        record(1, affected="x"),
        record(2, affected=[{"package": "x"}, 5, {"package": {"ecosystem": 5, "name": "x"}}]),
        record(3, affected=[{"package": {"ecosystem": "Debian:12", "name": "x"}, "ranges": {"events": 5}}]),
        record(4, modified=5, severity=[{"type": 1, "score": 2}], aliases={"a": 1}),
    ]
    found = read(tmp_path, json.dumps(odd))
    assert found.problem == ""
    assert {one.id for one in found.statements if one.ranges} == {"CVE-2026-0004"}


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ([], "it is dated 3 d in the future"),
        ([MODIFIED], "it is 24 h old, expected 8 h at most"),
        ([MODIFIED, "2026-11-25T23:00:00Z"], ""),  # the clock of another machine can be wrong by some hours
    ],
)
def test_a_record_of_the_future_does_not_keep_a_feed_fresh(others: list[str], reason: str, tmp_path: Path) -> None:
    dates = ["2099-01-01T00:00:00Z", "2026-11-28T00:00:00Z", *others]
    found = read(tmp_path, json.dumps([record(number, modified=date) for number, date in enumerate(dates)]))
    assert len(found.statements) == len(dates)
    assert found.why_unusable(NOW, timedelta(hours=8)) == reason


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = json.dumps(record(1, details="0" * 50_000))
    monkeypatch.setattr(feeds, "_RECORD", 40_000)
    assert "too large" in read(tmp_path, packed(zeros)).problem
    monkeypatch.setattr(feeds, "_RECORD", 60_000)
    assert read(tmp_path, packed(zeros)).problem == ""
    monkeypatch.setattr(feeds, "_UNPACKED", 90_000)
    assert "too large" in read(tmp_path, packed(zeros, zeros)).problem
    monkeypatch.setattr(feeds, "_RECORDS", 1)
    assert "2 records" in read(tmp_path, packed("{}", "{}")).problem
    monkeypatch.setattr(feeds, "FEED_BYTES", 10_000)
    assert "more than" in read(tmp_path, gzip.compress(zeros.encode())).problem
    assert "too large" in read(tmp_path, zeros).problem


def test_a_tracker_covers_the_releases_that_it_names(tmp_path: Path) -> None:
    one = {"status": "open", "urgency": "high"}
    form = {"y": {"CVE-2026-0001": {"releases": {"bookworm": one}}}, "x": {"CVE-2026-0002": {"releases": {"sid": one}}}}
    found = read(tmp_path, f" \n{json.dumps(form, indent=1)} \n", "security-tracker")
    assert (found.problem, found.statements, set(found.covers)) == ("", (), {DEBIAN})
    assert read(tmp_path, " { } ", "security-tracker").covers == frozenset()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("/nonexistent/feed.json", "No such file"),
        ("/dev/zero", "is a device"),
        ("http://example.org/feed.json", "https"),
        ("ftp://example.org/feed.json", "https"),
        ("http://127.0.0.1:1/feed.json", "refused"),
    ],
)
def test_an_address_that_does_not_answer_or_is_not_read(address: str, reason: str) -> None:
    found = feeds.read(FeedSource(address, "osv"), WANTED, Downloads(None), NOW)
    assert reason in found.problem
    assert found.covers == frozenset()


@contextmanager
def serving(data: bytes, **headers: str) -> Iterator[tuple[str, list[int]]]:
    """Serve a file. Yields its URL, and the statuses of the answers."""
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = 304 if self.headers.get("If-None-Match") else 200
            statuses.append(status)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(data) if status == 200 else 0))
            self.end_headers()
            self.wfile.write(data if status == 200 else b"")

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/feed", statuses
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_feed_by_url_is_as_old_as_the_server_says_and_is_downloaded_once(tmp_path: Path) -> None:
    tracker = {"x": {"CVE-2026-0001": {"releases": {"bookworm": {"status": "open", "urgency": "high"}}}}}
    with serving(json.dumps(tracker).encode(), ETag='"1"', Last_Modified="Tue, 24 Nov 2026 03:00:00 GMT") as (
        url,
        seen,
    ):
        for _ in range(2):
            found = feeds.read(FeedSource(url, "security-tracker"), WANTED, Downloads(tmp_path), NOW)
            assert found.problem == ""
            assert found.updated == datetime(2026, 11, 24, 3, tzinfo=UTC)
            assert [one.id for one in found.statements] == ["CVE-2026-0001"]
        assert seen == [200, 304]
    with serving(json.dumps(tracker).encode()) as (url, _):
        found = feeds.read(FeedSource(url, "security-tracker"), WANTED, Downloads(None), NOW)
    assert found.updated is None
    assert found.why_unusable(datetime.now(UTC), timedelta(days=365)) == "it does not say how old it is"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.org/x", True),
        ("http://127.0.0.1:5/x", True),
        ("http://localhost/x", True),
        ("http://example.org/x", False),
        ("http://127.0.0.1.example.org/x", False),
        ("file:///etc/passwd", False),
    ],
)
def test_addresses_that_nobody_on_the_way_can_change(url: str, expected: bool) -> None:
    assert is_secure(url) is expected


ADVISORIES = """<?xml version="1.0"?>
<updates>
 <update type="security"><id>ALAS2023-2026-1</id><severity>Important</severity>
  <references><reference id="CVE-2026-0001" type="cve"/><reference id="CVE-2026-0002" type="cve"/></references>
  <pkglist><collection>
   <package name="openssl-libs" epoch="1" version="3.0.8" release="1.amzn2023.0.9" arch="x86_64"/>
   <package name="other" version="1" release="1" arch="x86_64"/>
  </collection></pkglist></update>
 <update type="security"><id>ALAS2023-2026-2</id><severity>medium</severity>
  <pkglist><collection><package name="openssl-libs" epoch="1" version="3.0.8" release="1.amzn2023.0.5"/>
  </collection></pkglist>
 </update>
 <update type="bugfix"><id>ALAS2023-2026-3</id>
  <pkglist><collection><package name="openssl-libs" epoch="9" version="9" release="9"/></collection></pkglist></update>
</updates>
"""
AMAZON = Inventory(
    "amzn",
    "2023",
    "",
    (
        Component("rpm", "openssl-libs", "1:3.0.8-1.amzn2023.0.7", source="openssl", source_version="1:3.0.8-1"),
        Component("rpm", "bash", "5.2-1", source="bash", source_version="5.2-1"),
    ),
)


def advisories(folder: Path, data: bytes | str) -> Feed:
    path = folder / "updateinfo.xml"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    source = FeedSource(str(path), "updateinfo", covers=("amzn", "2023"))
    return feeds.read(source, feeds.Wanted.of([AMAZON]), Downloads(None), NOW)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_advisories_of_dnf(tmp_path: Path, pack: Any) -> None:
    found = advisories(tmp_path, pack(ADVISORIES.encode()))
    assert (found.problem, set(found.covers)) == ("", {Ecosystem("amzn", "2023")})
    assert [(one.id, one.severity, one.fixed, one.aliases) for one in find(AMAZON, [found])] == [
        ("CVE-2026-0001", "high", "1:3.0.8-1.amzn2023.0.9", ("ALAS2023-2026-1",)),
        ("CVE-2026-0002", "high", "1:3.0.8-1.amzn2023.0.9", ("ALAS2023-2026-1",)),
    ]
    assert [one.id for one in found.statements] == ["CVE-2026-0001", "CVE-2026-0002", "ALAS2023-2026-2"]


@pytest.mark.parametrize(
    "data",
    [
        "",
        "<html></html>",
        ADVISORIES.replace("</updates>", ""),
        ADVISORIES.replace("<updates>", '<!DOCTYPE x [<!ENTITY a "aa">]><updates>'),
        "<updates>" + "<a>" * 1000,
        gzip.compress(ADVISORIES.encode(), mtime=0)[:-9],
        lzma.compress(ADVISORIES.encode())[:-9],
        b"\xfd7zXZ broken",
        b"\x28\xb5\x2f\xfd broken",
    ],
)
def test_advisories_that_cannot_be_read_are_told(tmp_path: Path, data: bytes | str) -> None:
    found = advisories(tmp_path, data)
    assert found.problem
    assert found.covers == frozenset()


# Scores of https://www.first.org/cvss/v3.1/examples and of NVD.
@pytest.mark.parametrize(
    ("vector", "score"),
    [
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 7.8),
        ("CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:N/I:N/A:L", 3.7),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 7.5),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", None),
        ("CVSS:3.1/AV:N", None),
        ("AV:N/AC:L/Au:N/C:P/I:P/A:P", None),
    ],
)
def test_scores_of_cvss(vector: str, score: float | None) -> None:
    assert feeds.cvss3(vector) == score


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}]}, "high"),
        ({"severity": [{"type": "Ubuntu", "score": "medium"}]}, "medium"),
        ({"database_specific": {"severity": "MODERATE"}}, "medium"),
        ({"severity": [{"type": "CVSS_V4", "score": "CVSS:4.0/AV:N"}]}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_severities_of_osv(more: dict[str, Any], expected: str, tmp_path: Path) -> None:
    (found,) = read(tmp_path, json.dumps(record(1, **more))).statements
    assert found.severity == expected
