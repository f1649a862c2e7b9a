"""A catalog with everything that a site shows, and with words that would break a page."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from goldenami.evidence import signing
from goldenami.evidence.packages import Component, Inventory, dumps
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


INVENTORY = Inventory(
    "debian",
    "12",
    "bookworm",
    (
        Component("deb", "libssl3", "3.0.2-1", "amd64", source="openssl", source_version="3.0.2", licences=("MIT",)),
        Component("pypi", "requests", "2.31.0", licences=(BAD,), path="/opt/app"),
    ),
)


def sign(catalog: Catalog, name: str, version: str) -> None:
    """Add an envelope with a signature that nobody made."""
    envelope = signing.Envelope(b"{}", signing.IN_TOTO, (signing.Signature("0123abcd", b"no signature"),))
    catalog.keep_document(name, version, PROVENANCE, json.dumps(envelope.to_json()).encode())


def hash_of(name: str) -> int:
    return sum(map(ord, name)) % 0xFFFFF


def fill(folder: Path, *, names: int = 2, releases: int = 4, packages: int = 30) -> Catalog:
    """Write goldenami.yaml and a catalog: recipes image-0 (in two channels) and others that are built on it."""
    (folder / "goldenami.yaml").write_text(PROJECT, encoding="utf-8")
    catalog = Catalog(folder / "catalog")
    with catalog.writing_many():
        for at in range(names):
            name = f"image-{at}"
            for number in range(releases):
                parent = release("image-0", number).label if at else None
                made = release(name, number, parent=parent, packages=packages)
                made = replace(made, inventories={"x86_64": catalog.keep_inventory(dumps(INVENTORY))})
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


__all__ = ["APPS", "BAD", "HOME", "damage", "fill", "release", "sign"]
