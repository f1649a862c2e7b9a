"""The matcher against a table that was checked by hand: ``matching.yaml``."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from goldenami.evidence import feeds
from goldenami.evidence.packages import Component, Inventory
from goldenami.evidence.vulnerabilities import Feed, Finding, find
from goldenami.model import FeedSource
from goldenami.updates.fetch import Downloads

CASES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("matching.yaml").read_text())
ID = "CVE-2026-0001"
MODIFIED = "2026-11-24T00:00:00Z"
RPM = ("amzn", "rhel", "rocky", "almalinux")


def inventory_of(case: dict[str, Any]) -> Inventory:
    system, release, codename = case.get("system", "debian 12 bookworm").split()
    has = case["has"]
    if isinstance(has, dict):
        components = [Component(**has)]
    else:
        name, version, source, source_version = map(str, (*has, *has[: 4 - len(has)]))
        kind = "rpm" if system in RPM else "deb"
        components = [Component(kind, name, version, source=source, source_version=source_version)]
    return Inventory(system, release, codename, tuple(components))


def document_of(case: dict[str, Any]) -> tuple[str, Any]:
    """Return the format and the contents of the feed of a case."""
    if "tracker" in case:
        package, status, fixed, urgency = case["tracker"]
        release = {"status": status, "urgency": urgency, **({"fixed_version": fixed} if fixed else {})}
        return "security-tracker", {package: {ID: {"scope": "local", "releases": {"bookworm": release}}}}
    given = case["osv"]
    if isinstance(given, list):
        ecosystem, package, introduced, fixed = given
        given = {"ecosystem": ecosystem, "package": package, "events": [{"introduced": introduced}, {"fixed": fixed}]}
    affected: dict[str, Any] = {"package": {"ecosystem": given["ecosystem"], "name": given["package"]}}
    if "events" in given:
        affected["ranges"] = [{"type": given.get("type", "ECOSYSTEM"), "events": given["events"]}]
    affected |= {key: given[key] for key in ("versions",) if key in given}
    if "urgency" in given:
        affected["ecosystem_specific"] = {"urgency": given["urgency"]}
    record = {"id": f"X-{ID}", "upstream": [ID], "modified": MODIFIED, "affected": [affected]}
    return "osv", record | {key: given[key] for key in ("withdrawn",) if key in given}


def read(folder: Path, form: str, document: Any, *inventories: Inventory) -> Feed:
    path = folder / "feed.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    source = FeedSource(str(path), form)  # type: ignore[arg-type]
    found = feeds.read(source, feeds.Wanted.of(inventories), Downloads(None), datetime.now(UTC))
    assert found.problem == ""
    return found


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_the_matcher_agrees_with_the_table(case: dict[str, Any], tmp_path: Path) -> None:
    inventory = inventory_of(case)
    found = find(inventory, [read(tmp_path, *document_of(case), inventory)])
    if case["finds"] == "none":
        assert found == ()
        return
    state, fixed = case["finds"] if isinstance(case["finds"], list) else (case["finds"], "")
    assert [(one.id, one.state, one.fixed) for one in found] == [(ID, state, fixed)]
    assert found[0].installed == (inventory.components[0].name,)
    if "severity" in case:
        assert found[0].severity == case["severity"]


def test_the_table_is_large_and_has_no_case_twice() -> None:
    assert len(CASES) >= 60
    assert len({case["case"] for case in CASES}) == len(CASES)
    assert all(set(case) <= {"case", "system", "has", "tracker", "osv", "finds", "severity"} for case in CASES)


def test_one_finding_for_a_source_with_the_best_that_any_feed_knows(tmp_path: Path) -> None:
    inventory = Inventory(
        "debian",
        "12",
        "bookworm",
        tuple(Component("deb", name, "1.0-1", source="curl", source_version="1.0-1") for name in ("curl", "libcurl4")),
    )
    tracker = {"curl": {ID: {"releases": {"bookworm": {"status": "open", "urgency": "low"}}}}}
    record = {
        "id": "DSA-1-1",
        "upstream": [ID, "CVE-2026-0002"],
        "modified": MODIFIED,
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [
            {
                "package": {"ecosystem": "Debian:12", "name": "curl"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.0-1+deb12u1"}]}],
            }
        ],
    }
    one = read(tmp_path, "security-tracker", tracker, inventory)
    other = read(tmp_path, "osv", [record], inventory)
    names = (one.name,)
    assert other.updated == datetime(2026, 11, 24, tzinfo=UTC)
    assert one.updated is not None
    assert datetime.now(UTC) - one.updated < timedelta(days=1)
    fixed = "1.0-1+deb12u1"
    both = ("curl", "libcurl4")
    assert find(inventory, [one, other]) == (
        Finding(ID, "curl", "1.0-1", "critical", "fixable", fixed, both, ("DSA-1-1",), names),
        Finding("CVE-2026-0002", "curl", "1.0-1", "critical", "fixable", fixed, both, ("DSA-1-1",), names),
    )
    assert find(inventory, [one])[0].state == "no fix"
