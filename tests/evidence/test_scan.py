"""Scans of releases: the command, the conditions of builds and channels, and what is told."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from goldenami.cli.main import main
from goldenami.errors import ConditionsUnmet
from goldenami.evidence.packages import Component, Inventory, dumps
from goldenami.model import ChannelRules, FeedSource, VulnerabilityPolicy
from goldenami.release import scan as scans
from goldenami.release.catalog import Catalog
from goldenami.release.versions import Reference
from tests.release.conftest import make_manifest

if TYPE_CHECKING:
    from goldenami.release.channels import Moved
    from tests.notify.receiving import Hook
    from tests.worlds.builds import World

INVENTORY = Inventory(
    "debian",
    "12",
    "bookworm",
    (
        Component("deb", "libssl3", "3.0.11-1", "amd64", source="openssl", source_version="3.0.11-1"),
        Component("npm", "left-pad", "1.3.0", path="/opt/package.json"),
    ),
)
VULNERABLE = {"status": "resolved", "fixed_version": "3.0.13-1", "urgency": "high"}
MINOR = {"status": "open", "urgency": "low"}


def write(path: Path, age: timedelta = timedelta(), /, **vulnerabilities: dict[str, str]) -> None:
    """Write a feed of the form security-tracker, with vulnerabilities of openssl: "n1" is CVE-2026-0001."""
    told = {f"CVE-2026-{name[1:]:0>4}": {"releases": {"bookworm": one}} for name, one in vulnerabilities.items()}
    path.write_text(json.dumps({"openssl": told, "other": {"CVE-2026-9999": {"releases": {"bookworm": MINOR}}}}))
    then = time.time() - age.total_seconds()
    os.utime(path, (then, then))


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "goldenami.yaml").write_text(
        """environments:
  sandbox:
    sandbox: true
    catalog: catalog
    vulnerabilities:
      feeds: [{file: tracker.json, format: security-tracker}]
      waivers: {CVE-2026-0003: {reason: not reachable, expires: 2999-01-01}}
  bare: {sandbox: true, catalog: catalog, parameter_prefix: /bare}
"""
    )
    monkeypatch.chdir(tmp_path)
    catalog = Catalog(tmp_path / "catalog")
    digest = catalog.keep_inventory(dumps(INVENTORY))
    for number in (1, 2):
        catalog.add(replace(make_manifest(f"1.4.20261124.{number}"), inventories={"x86_64": digest}))
    catalog.add(make_manifest("1.4.20261124.3"))
    catalog.move("debian-12-web", "stable", "1.4.20261124.2", now=datetime.now(UTC), build_id="b-1")
    return tmp_path / "tracker.json"


def scanned(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["scan", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_release_becomes_vulnerable_without_a_build(feed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(feed, n2=MINOR)
    code, found = scanned(capsys, "--all")
    assert (code, found["ok"], found["schema"]) == (0, True, "goldenami.scan/1")
    (release,) = found["releases"]
    assert (release["name"], release["version"], release["channels"]) == ("debian-12-web", "1.4.20261124.2", ["stable"])
    assert [one["id"] for one in release["accepted"]] == ["CVE-2026-0002"]
    assert release["remarks"] == ["no usable feed covers 1 package of the type npm"]
    write(feed, n1=VULNERABLE, n2=MINOR, n3=VULNERABLE)
    code, found = scanned(capsys, "--all")
    (release,) = found["releases"]
    assert (code, found["ok"]) == (5, False)
    (failing,) = release["failing"]
    assert failing == {
        "id": "CVE-2026-0001",
        "aliases": [],
        "severity": "high",
        "state": "fixable",
        "package": "openssl",
        "version": "3.0.11-1",
        "fixed": "3.0.13-1",
        "installed": ["libssl3"],
        "feeds": [str(feed)],
    }
    assert [(one["id"], one["reason"]) for one in release["waived"]] == [("CVE-2026-0003", "not reachable")]


def test_the_table(feed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(feed, n1=VULNERABLE, n2=MINOR, n3=VULNERABLE)
    assert main(["scan", "debian-12-web@stable", "debian-12-web@1.4.20261124.1", "--show-accepted"]) == 5
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines()]
    assert ["debian-12-web@1.4.20261124.1", "x86_64", "CVE-2026-0001", "high"] in [row[:4] for row in rows]
    assert len(rows) == 7
    assert "debian-12-web 1.4.20261124.2 x86_64 (stable): 1 not accepted, 1 waived, 1 accepted" in captured.err


def test_what_is_unknown_is_never_good(feed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = scanned(capsys, "--all")
    assert (code, found["ok"]) == (5, False)
    assert "No such file" in found["feeds"][0]["problem"]
    write(feed, timedelta(days=4))
    code, found = scanned(capsys, "--all")
    assert code == 5
    assert found["releases"][0]["unknown"] == [
        f"feed {feed}: it is 4 d old, expected 3 d at most",
        "no usable feed covers debian 12",
    ]
    write(feed)
    code, found = scanned(capsys, "debian-12-web@1.4.20261124.3")
    assert code == 5
    assert "has no inventory" in found["releases"][0]["unknown"][0]
    for file in (feed.parent / "catalog/inventories").iterdir():
        file.write_text("{}")
    code, found = scanned(capsys, "--all")
    assert code == 5
    assert "missing or damaged" in found["releases"][0]["unknown"][0]


def test_arguments(feed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(feed)
    assert main(["scan"]) == 2
    assert main(["scan", "--all", "debian-12-web@stable"]) == 2
    assert main(["scan", "--all", "--environment", "bare"]) == 2
    assert "names no feed" in capsys.readouterr().err
    assert main(["scan", "debian-12-wed@stable"]) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vulnerabilities: {builds: true}", "vulnerabilities.builds needs a feed"),
        ("channels: {stable: {vulnerabilities: true}}", "channels.stable.vulnerabilities needs a feed"),
        ("vulnerabilities: {feeds: [{file: a, url: 'https://x.org'}]}", "exactly one of url and file"),
        ("vulnerabilities: {feeds: [{url: 'ftp://x.org'}]}", "url"),
        ("vulnerabilities: {waivers: {CVE-1: {reason: x}}}", "expires"),
        ("vulnerabilities: {severity: severe}", "severity"),
        ("vulnerabilities: {feeds: [{file: a, format: updateinfo}]}", "covers is needed"),
        ("vulnerabilities: {feeds: [{file: a, covers: amzn 2023}]}", "covers is needed"),
    ],
)
def test_mistakes_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tmp_path / "goldenami.yaml").write_text(f"environments:\n  sandbox:\n    sandbox: true\n    {text}\n")
    monkeypatch.chdir(tmp_path)
    assert main(["scan", "--all"]) == 2
    assert message in capsys.readouterr().err


# --- builds and channels ----------------------------------------------------------------------------------------------


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    build_world.host_work.inventory["x86_64"] = dumps(INVENTORY)
    return build_world


def policy(world: World, **more: Any) -> Path:
    path = world.path / "tracker.json"
    source = FeedSource(str(path), "security-tracker")
    made = VulnerabilityPolicy((source,), max_age=timedelta(days=3650), **more)
    world.environment = replace(world.environment, vulnerabilities=made)
    return path


def test_a_build_ends_before_its_capture(world: World) -> None:
    path = policy(world, builds=True)
    write(path, n1=VULNERABLE)
    with pytest.raises(
        ConditionsUnmet, match=r"CVE-2026-0001 \(high\) in openssl 3.0.11-1, fixed in 3.0.13-1"
    ) as error:
        world.build()
    assert error.value.exit_code == 5
    ec2 = world.client("ec2", world.environment.home_place)
    assert ec2.describe_images(Owners=["self"])["Images"] == []
    assert Catalog.of(world.environment, world.cloud).names() == ()
    path.unlink()
    world.cloud.start_process()
    with pytest.raises(ConditionsUnmet, match="No such file"):
        world.build()
    write(path, n2=MINOR)
    world.cloud.start_process()
    made = world.build().manifest
    assert json.loads(Catalog.of(world.environment, world.cloud).inventory(made, "x86_64"))["system"] == "debian"


def test_a_builder_whose_packages_are_not_known_is_not_captured(world: World) -> None:
    write(policy(world, builds=True))
    world.host_work.inventory.clear()
    with pytest.raises(ConditionsUnmet, match="its packages are not known"):
        world.build()


def test_a_channel_gets_no_vulnerable_release(world: World) -> None:
    from goldenami.release import channels

    path = policy(world)
    made = world.build().manifest
    world.environment = replace(world.environment, channels={"live": ChannelRules(vulnerabilities=True)})

    def promote() -> Moved:
        world.cloud.start_process()
        reference = Reference(made.recipe, version=made.version)
        return channels.promote(world.environment, reference, "live", cloud=world.cloud)

    write(path, n1=VULNERABLE)
    with pytest.raises(ConditionsUnmet, match="CVE-2026-0001"):
        promote()
    path.unlink()
    with pytest.raises(ConditionsUnmet, match="No such file"):
        promote()
    write(path, n2=MINOR)
    assert promote().changed


def test_a_build_moves_no_channel_back_to_a_vulnerable_release(world: World) -> None:
    from goldenami import recipe
    from tests.worlds.retiring import releases

    path = policy(world, builds=True)
    write(path, n2=MINOR)
    file = world.path / "recipes" / "web.yaml"
    original = file.read_text()
    first, second = releases(world, 2)
    file.write_text(original)
    world.project = recipe.load_project(world.path)
    write(path, n1=VULNERABLE)
    world.cloud.start_process()
    with pytest.raises(ConditionsUnmet, match="CVE-2026-0001"):
        world.build()
    pointer = world.catalog.channel(first.recipe, "stable")
    assert pointer is not None
    assert pointer.current == second.version
    write(path, n2=MINOR)
    world.cloud.start_process()
    outcome = world.build()
    assert (outcome.status, outcome.manifest.version) == ("moved", first.version)


# --- notifications ----------------------------------------------------------------------------------------------------


@pytest.fixture
def hook() -> Iterator[Hook]:
    from tests.notify.receiving import serving

    with serving() as hook:
        yield hook


def test_a_released_image_that_became_vulnerable_is_told_once(world: World, hook: Hook) -> None:
    from tests.notify.receiving import notify

    notify(world, f"team: {{webhook: {{url: '{hook.url}'}}, on: [vulnerability]}}")
    path = policy(world)
    made = world.build().manifest
    catalog = Catalog.of(world.environment, world.cloud)

    def night(**vulnerabilities: dict[str, str]) -> list[list[str]]:
        write(path, **vulnerabilities)
        hook.got.clear()
        world.cloud.start_process()
        found = scans.scan(world.environment.vulnerabilities, catalog, [made], world.cloud.now())
        scans.tell(world.environment, catalog, found, cloud=world.cloud)
        return [[one["id"] for one in event["vulnerabilities"]] for event in hook.events()]

    assert night(n2=MINOR) == []
    assert night(n1=VULNERABLE, n2=MINOR) == [["CVE-2026-0001"]]
    (event,) = hook.events()
    assert event["event"] == "vulnerability"
    assert (event["name"], event["version"]) == (made.recipe, made.version)
    assert "CVE-2026-0001 high: openssl 3.0.11-1, fixed in 3.0.13-1" in event["text"]
    assert [one["name"] for one in event["channels"]] == ["stable"]
    assert night(n1=VULNERABLE) == []
    assert night(n1=VULNERABLE, n4=VULNERABLE) == [["CVE-2026-0004"]]
    hook.answers[:] = [400]
    assert night(n5=VULNERABLE) == [["CVE-2026-0005"]]
    assert night(n5=VULNERABLE) == [["CVE-2026-0005"]], "nobody got the first one"
    assert night() == []
    assert night(n1=VULNERABLE) == [["CVE-2026-0001"]], "it was mended, and is back"
    path.unlink()
    world.cloud.start_process()
    unknown = scans.scan(world.environment.vulnerabilities, catalog, [made], world.cloud.now())
    assert unknown.images[0].verdict.unknown
    scans.tell(world.environment, catalog, unknown, cloud=world.cloud)
    assert night(n1=VULNERABLE) == [], "the feed was away for a night, and nothing ended"
    # What is told about one release does not depend on the delivery of what is told about another.
    assert night() == []
    write(path, n4=VULNERABLE)
    world.cloud.start_process()
    one = scans.scan(world.environment.vulnerabilities, catalog, [made], world.cloud.now())
    other = replace(made, version="1.0.20200101.1")
    both = replace(one, images=(*one.images, *(replace(image, manifest=other) for image in one.images)))
    hook.answers[:] = [400]
    assert scans.tell(world.environment, catalog, both, cloud=world.cloud)
    assert catalog.marks.told(made.recipe, made.version) == frozenset()
    assert catalog.marks.told(other.recipe, other.version) == {"CVE-2026-0004 openssl"}
