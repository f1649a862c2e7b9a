"""`goldenami scan`: vulnerabilities of releases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import completing
from goldenami.cli.context import open_catalog, open_project, print_json, print_table, reach
from goldenami.cli.options import environment_option, json_option
from goldenami.errors import TargetsFailed, TestsFailed, UsageError
from goldenami.model import timestamp, utc_text
from goldenami.printable import escaped

if TYPE_CHECKING:
    from goldenami.evidence.vulnerabilities import Feed, Finding
    from goldenami.model import ImageManifest, VulnerabilityPolicy
    from goldenami.release.catalog import Catalog
    from goldenami.release.scan import Scan, Scanned

SCHEMA = "goldenami.scan/1"


@click.command()
@click.argument("references", metavar="[NAME@CHANNEL|NAME@VERSION]...", nargs=-1, shell_complete=completing.releases)
@click.option("--all", "every", is_flag=True, help="All releases that a channel points to.")
@click.option("--show-accepted", is_flag=True, help="Also list what the policy or a waiver accepts.")
@click.option(
    "--tell", is_flag=True, help="Send what was not sent before to the receivers, and note that in the catalog."
)
@click.option(
    "--inspector", "inspects", is_flag=True, help="Also read what Amazon Inspector found in running instances."
)
@environment_option
@json_option
def scan(
    references: tuple[str, ...],
    every: bool,
    show_accepted: bool,
    tell: bool,
    inspects: bool,
    environment_name: str | None,
    as_json: bool,
) -> int:
    """Look for vulnerabilities of releases, without a build: in what their images contain, and what feeds tell today.

    The feeds and the policy are those of goldenami.yaml (`vulnerabilities`). Packages are compared by their source
    package, and by the distribution's own order of versions. A feed that is missing, older than the policy allows, or
    about another release is told, and the release counts as unknown; so is Inspector that is off, or that has looked at
    no instance of the image. The exit code is 5 if a release has a
    vulnerability that is not accepted, or is unknown.
    """
    from goldenami.release import scan as scans

    _, environment = open_project(environment_name)
    if bool(references) == every:
        raise UsageError("expected releases, or --all", hint="Write NAME@CHANNEL, NAME@VERSION, or --all.")
    policy = environment.vulnerabilities
    if not policy.feeds and not inspects:
        raise UsageError(
            f"the environment {environment.name} names no feed of vulnerabilities",
            hint="Add one to goldenami.yaml: vulnerabilities: {feeds: [{url: https://…, format: osv}]}.",
        )
    catalog = open_catalog(environment).indexed()
    now = datetime.now(UTC)
    releases = in_channels(catalog) if every else _named(catalog, references)
    look = None
    if inspects:
        from goldenami.aws.session import Cloud
        from goldenami.release import inspector

        reach(environment)
        look = inspector.looker(Cloud.of(environment))
    found = scans.scan(policy, catalog, releases, now, look=look)
    unsent: Mapping[str, str] = {}
    if tell:
        from goldenami.aws.session import Cloud
        from goldenami.release.catalog import Catalog

        cloud = Cloud.of(environment)
        unsent = scans.tell(environment, Catalog.of(environment, cloud), found, known=cloud)
    if as_json:
        print_json({**_document(found, catalog, policy, now), "unsent": dict(unsent)})
    else:
        _print(found, catalog, policy, now, show_accepted=show_accepted)
    for receiver, reason in unsent.items():
        click.echo(f"warning: {receiver} did not get its notification: {reason}", err=True)
    if not found.ok:
        return TestsFailed.exit_code
    return TargetsFailed.exit_code if unsent else 0


def in_channels(catalog: Catalog) -> list[ImageManifest]:
    """Return all releases that a channel points to and that can be used, by name and version."""
    found = {
        (pointer.name, pointer.current)
        for name in catalog.names()
        for pointer in catalog.channels(name)
        if catalog.marks.why_unusable(pointer.name, pointer.current) is None
    }
    return [catalog.get(name, version) for name, version in sorted(found)]


def _named(catalog: Catalog, references: Sequence[str]) -> list[ImageManifest]:
    from goldenami.release.versions import Reference

    parsed = [Reference.parse(reference) for reference in references]
    found = {(one.name, catalog.existing_version_of(one)) for one in parsed}
    return [catalog.get(name, version) for name, version in sorted(found)]


# --- text -------------------------------------------------------------------------------------------------------------


def _print(found: Scan, catalog: Catalog, policy: VulnerabilityPolicy, now: datetime, *, show_accepted: bool) -> None:
    rows = []
    for image in found.images:
        name = f"{image.manifest.recipe}@{image.manifest.version} {image.architecture}"
        rows += [_cells(name, one, "not accepted") for one in image.verdict.failing]
        if show_accepted:
            rows += [_cells(name, one, f"waived: {reason}") for one, reason in image.verdict.waived]
            rows += [_cells(name, one, "accepted") for one in image.verdict.accepted]
    if rows:
        print_table(["RELEASE", "ID", "SEVERITY", "PACKAGE", "VERSION", "FIXED", "VERDICT"], rows)
    for feed in found.feeds:
        click.echo(escaped(f"feed {feed.name}: {_age(feed, policy, now)}"), err=True)
    for image in found.images:
        click.echo(escaped(_summary(image, catalog)), err=True)
        for text in (*image.verdict.unknown, *image.verdict.remarks):
            click.echo(escaped(f"  {text}"), err=True)


def _cells(name: str, one: Finding, verdict: str) -> list[str]:
    return [name, one.id, one.severity, one.package, one.version, one.fixed or one.state, verdict]


def _age(feed: Feed, policy: VulnerabilityPolicy, now: datetime) -> str:
    problem = feed.why_unusable(now, policy.max_age)
    if problem:
        return problem
    assert feed.updated is not None
    return f"of {utc_text(feed.updated, seconds=False)}, {len(feed.statements)} statements about packages"


def _summary(image: Scanned, catalog: Catalog) -> str:
    verdict = image.verdict
    what = f"{len(verdict.failing)} not accepted, {len(verdict.waived)} waived, {len(verdict.accepted)} accepted"
    where = " ".join(_channels(image, catalog)) or "no channel"
    end = ": UNKNOWN" if verdict.unknown else ""
    return f"{image.manifest.label} {image.architecture} ({where}): {what}{end}"


def _channels(image: Scanned, catalog: Catalog) -> list[str]:
    pointers = catalog.channels(image.manifest.recipe)
    return [one.channel for one in pointers if one.current == image.manifest.version]


# --- JSON -------------------------------------------------------------------------------------------------------------


def _document(found: Scan, catalog: Catalog, policy: VulnerabilityPolicy, now: datetime) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "ok": found.ok,
        "feeds": [
            {
                "address": feed.name,
                "updated": timestamp(feed.updated) if feed.updated is not None else None,
                "problem": feed.why_unusable(now, policy.max_age) or None,
            }
            for feed in found.feeds
        ],
        "releases": [
            {
                "name": image.manifest.recipe,
                "version": image.manifest.version,
                "architecture": image.architecture,
                "channels": _channels(image, catalog),
                "ok": image.verdict.ok,
                "unknown": list(image.verdict.unknown),
                "remarks": list(image.verdict.remarks),
                "failing": [_json(one) for one in image.verdict.failing],
                "waived": [{**_json(one), "reason": reason} for one, reason in image.verdict.waived],
                "accepted": [_json(one) for one in image.verdict.accepted],
            }
            for image in found.images
        ],
    }


def _json(one: Finding) -> dict[str, Any]:
    return {
        "id": one.id,
        "aliases": list(one.aliases),
        "severity": one.severity,
        "state": one.state,
        "package": one.package,
        "version": one.version,
        "fixed": one.fixed or None,
        "installed": list(one.installed),
        "feeds": list(one.feeds),
    }
