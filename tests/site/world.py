"""A catalog with everything that a site shows, and with words that would break a page."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from goldenami.events import Event
from goldenami.evidence import signing
from goldenami.evidence.packages import Component, Inventory, dumps
from goldenami.journal import Storage
from goldenami.model import (
    MANIFEST_SCHEMA,
    BaseImage,
    ControlResult,
    ImageManifest,
    ManifestImage,
    ManifestSnapshot,
    Package,
    TestReport,
)
from goldenami.recipe import environment, load_project
from goldenami.release.attest import PROVENANCE
from goldenami.release.catalog import Catalog

HOME, APPS = "111111111111", "222222222222"
BAD = "<script>alert('x')</script> & \"quotes\" \u202e"
FIRST = datetime(2026, 11, 1, 3, tzinfo=UTC)
PROJECT = f"""\
environments:
  production:
    home: {{account: "{HOME}", region: eu-central-1}}
    accounts: {{apps: {{id: "{APPS}"}}}}
    targets:
      - {{account: home, regions: [eu-central-1, eu-west-1], kms_key: alias/golden-ami}}
      - {{account: apps, regions: [eu-west-1], kms_key: alias/golden-ami}}
    catalog: catalog
"""


# The recipe of image-0: the others have none in the project.
RECIPE = """\
name: image-0
version: "1.0"
description: An image
owner: platform
base: {filter: "debian-12-amd64-*", owners: ["136693071363"]}
retention: {keep: 2, deprecate_after: 90d, disable_after: 120d, delete_after: 180d}
"""


def release(name: str, number: int, *, parent: str | None = None, packages: int = 30) -> ImageManifest:
    """Return the ``number``-th release of a recipe: each has a newer openssl than the one before."""
    day = FIRST + timedelta(days=number)
    version = f"1.0.{day:%Y%m%d}.1"
    snapshot = ManifestSnapshot(f"snap-{number:017x}", "/dev/xvda", 8 + number // 2, True, "arn:aws:kms:x:1:key/1")
    images = tuple(
        ManifestImage(
            "x86_64",
            account,
            region,
            f"ami-{abs(hash_of(name)):05x}{number:08x}{at:04x}",
            name,
            "copy",
            True,
            (snapshot,),
        )
        for at, (account, region) in enumerate(((HOME, "eu-central-1"), (HOME, "eu-west-1"), (APPS, "eu-west-1")))
    )
    base = BaseImage(
        "ami-0abc", f"debian-12 {BAD}", "136693071363", "x86_64", "/dev/xvda", 8, "", "filter debian", parent
    )
    controls = (
        ControlResult("ssh-root", "passed"),
        ControlResult("audit-full", "waived", f"because {BAD}", "2027-01-01"),
    )
    return ImageManifest(
        schema=MANIFEST_SCHEMA,
        recipe=name,
        version=version,
        build_id=f"20261101-030000-{number:08x}",
        digest="0" * 64,
        environment="production",
        created=day.isoformat(),
        base={"x86_64": base},
        images=images,
        tests=(
            TestReport("builder", "x86_64", 40, 0, 1, 1, 1.25),
            TestReport("image", "x86_64", 42, 0, 0, 0, 1.5, (), None, controls),
        ),
        packages={
            "x86_64": (
                Package("openssl", f"3.0.{number}-1~deb12u1", "amd64"),
                *(Package(f"package-{n}", "1.2.3-4", "amd64") for n in range(packages)),
            )
        },
        changes={},
        description=f"An image {BAD}",
        owner="platform",
        git_commit="0123456789abcdef",
        variables={"greeting": BAD},
    )


def inventory(number: int) -> Inventory:
    """Return what is in the ``number``-th release of each recipe."""
    ssl = Component("deb", "libssl3", "3.0.2-1", "amd64", source="openssl", source_version="3.0.2", licences=("MIT",))
    modules = (
        Component("npm", "minimist", "1.2.8", path="/opt/app"),
        Component("npm", "minimist", f"0.{number}.0", path="/opt/old"),
        Component("pypi", "requests", f"2.31.{number}", licences=(BAD,), path="/opt/app"),
    )
    return Inventory("debian", "12", "bookworm", (ssl, *modules))


def report_of_snapshots() -> dict[str, Any]:
    """Return what `goldenami snapshot lineage image-0@stable --json` prints."""
    members: list[dict[str, Any]] = []
    for number in range(4):
        members.append(
            {
                "snapshot_id": f"snap-{number:017x}",
                "name": f"image-0-1.0.2026110{number + 1}.1",
                "volume_id": "vol-ffffffff",
                "started": f"2026-11-0{number + 1}T03:00:00Z",
                "tier": "standard",
                "encrypted": True,
                "parent": members[-1]["snapshot_id"] if members else None,
                "not_comparable": None,
                "full_bytes": 2 << 30,
                "stored_bytes": 100 << 20 if members else 2 << 30,
                "refers": {members[0]["snapshot_id"]: 1948 << 20} if members else {},
                "freed_bytes": 50 << 20,
            }
        )
    cost = {"amount": 0.125, "currency": "USD", "certain": True}
    rate = {"standard": 0.054, "archive": 0.0135}
    places = ((HOME, "eu-central-1"), (HOME, "eu-west-1"), (APPS, "eu-west-1"))
    rows = [
        {"account": account, "region": region, "monthly_cost": cost, "rate": rate, "snapshots": members}
        for account, region in places
    ]
    return {"schema": "goldenami.lineage/1", "subject": "image-0@stable", "lineages": rows}


SCAN: dict[str, Any] = {
    "schema": "goldenami.scan/1",
    "ok": False,
    "feeds": [{"address": "feeds/debian.json", "updated": "2001-01-02T03:04:00+00:00", "problem": None}],
    "releases": [
        {
            "name": "image-0",
            "version": "1.0.20261104.1",
            "architecture": "x86_64",
            "unknown": [],
            "remarks": [],
            "failing": [
                {"id": "CVE-2026-1", "severity": "high", "package": "openssl", "version": "3.0.2", "fixed": "3.0.3"}
            ],
            "waived": [],
            "accepted": [],
        }
    ],
}
FLEET: dict[str, Any] = {
    "schema": "goldenami.fleet/1",
    "releases": [
        {
            "name": "image-0",
            "version": "1.0.20261104.1",
            "instances": 7,
            "running": 5,
            "places": [{"account": APPS, "region": "eu-west-1", "instances": 7}],
        }
    ],
}


def reports(folder: Path) -> list[str]:
    """Write all reports that a site can have, and return the options that name them."""
    options = []
    for option, document in (("fleet", FLEET), ("scan", SCAN), ("lineage", report_of_snapshots())):
        (folder / f"{option}.json").write_text(json.dumps(document), encoding="utf-8")
        options += [f"--{option}", f"{option}.json"]
    return options


def record_build(folder: Path, name: str, number: int) -> None:
    """Write the log of the build of a release."""
    found = environment(load_project(folder), "production")
    now = FIRST + timedelta(days=number)
    storage = Storage.in_directory(Path(found.builds), now=lambda: now)
    with storage.events(release(name, number).build_id).recording(lambda _: None) as emit:
        for stage in (
            "launch",
            "provision",
            "validate",
            "capture",
            "distribute to a place with a very long name",
            "verify",
        ):
            emit(Event("stage.started", {"stage": stage, "architecture": "x86_64"}))
            now += timedelta(seconds=40)
            emit(Event("stage.finished", {"stage": stage, "architecture": "x86_64", "status": "ok"}))


def sign(catalog: Catalog, name: str, version: str) -> None:
    """Add an envelope with a signature that nobody made."""
    envelope = signing.Envelope(b"{}", signing.IN_TOTO, (signing.Signature("0123abcd", b"no signature"),))
    catalog.keep_document(name, version, PROVENANCE, json.dumps(envelope.to_json()).encode())


def hash_of(name: str) -> int:
    return sum(map(ord, name)) % 0xFFFFF


def fill(folder: Path, *, names: int = 2, releases: int = 4, packages: int = 30) -> Catalog:
    """Write goldenami.yaml and a catalog: recipes image-0 (in two channels) and others that are built on it."""
    (folder / "goldenami.yaml").write_text(PROJECT, encoding="utf-8")
    (folder / "recipes").mkdir()
    (folder / "recipes/image-0.yaml").write_text(RECIPE, encoding="utf-8")
    catalog = Catalog(folder / "catalog")
    with catalog.writing_many():
        for at in range(names):
            name = f"image-{at}"
            for number in range(releases):
                parent = release("image-0", number).label if at else None
                made = release(name, number, parent=parent, packages=packages)
                kept = catalog.keep_inventory(dumps(inventory(number)))
                made = replace(made, inventories={"x86_64": kept})
                catalog.add(made)
                catalog.move(
                    name, "candidate", made.version, now=FIRST + timedelta(days=number), build_id=made.build_id
                )
            stable = release(name, max(0, releases - 2)).version
            catalog.move(name, "stable", stable, now=FIRST + timedelta(days=releases), reason=BAD, action="promote")
    catalog.marks.revoke("image-0", release("image-0", 0).version, f"broken {BAD}", "arn:aws:iam::1:user/x", FIRST)
    catalog.marks.pin("image-0", release("image-0", 1).version, "kept", FIRST)
    return catalog


def damage(folder: Path, name: str, version: str) -> None:
    (path,) = (folder / "catalog").rglob(f"{name}/{version}.json")
    path.write_text(path.read_text()[:-30])
