"""Scans releases for vulnerabilities: reads the feeds of an environment, and judges what is in the images.

Nothing is built or launched: the inventory of a release never changes, and what is known about it does every day. So a
release that was good can be vulnerable today; ``tell`` sends what it has not sent before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from goldenami import task
from goldenami.aws.session import Cloud
from goldenami.errors import CatalogError, NotFound
from goldenami.evidence import feeds, packages
from goldenami.evidence.packages import Inventory
from goldenami.evidence.vulnerabilities import Feed, Finding, Verdict, judge
from goldenami.model import Architecture, Environment, ImageManifest, VulnerabilityPolicy, timestamp
from goldenami.nextstep import command
from goldenami.notify import delivery as notify
from goldenami.notify.document import EventVulnerability
from goldenami.release.catalog import Catalog
from goldenami.release.inspector import Look
from goldenami.updates.fetch import Downloads, cache_directory

KIND: Final = "scan"  # of the task that tells
_SECONDS: Final = 600.0  # for the downloads of all feeds
_SHOWN: Final = 5  # findings in an error
_SENT: Final = 100  # findings in a notification


@dataclass(frozen=True, slots=True)
class Scanned:
    """An image of a release, and what the policy says about it today."""

    manifest: ImageManifest
    architecture: Architecture
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Scan:
    """The result of a scan. ``feeds``: all that the environment names, also those that could not be read."""

    images: tuple[Scanned, ...]
    feeds: tuple[Feed, ...]

    @property
    def ok(self) -> bool:
        """Whether all images are known to meet the policy."""
        return all(image.verdict.ok for image in self.images)


def scan(
    policy: VulnerabilityPolicy,
    catalog: Catalog,
    releases: Sequence[ImageManifest],
    now: datetime,
    downloads: Downloads | None = None,
    *,
    look: Look | None = None,
) -> Scan:
    """Judge all images of releases. Each feed is read once. A release without an inventory cannot be judged. ``look``:
    asks about one image; what it returns is one more feed for that image."""
    known: dict[tuple[str, Architecture], Inventory] = {}
    missing: dict[tuple[str, Architecture], str] = {}
    images = [(one, architecture) for one in releases for architecture in _architectures(one)]
    for manifest, architecture in images:
        try:
            text = catalog.inventory(manifest, architecture)
            known[manifest.label, architecture] = packages.loads(text, source=f"inventory of {manifest.label}")
        except (NotFound, CatalogError) as error:
            missing[manifest.label, architecture] = error.message
    read = read_feeds(policy, known.values(), now, downloads)
    return Scan(
        tuple(
            Scanned(
                manifest,
                architecture,
                judge(
                    known[manifest.label, architecture],
                    [*read, *([look(manifest, architecture, known[manifest.label, architecture])] if look else ())],
                    policy,
                    now,
                )
                if (manifest.label, architecture) in known
                else Verdict(unknown=(missing[manifest.label, architecture],)),
            )
            for manifest, architecture in images
        ),
        read,
    )


def _architectures(manifest: ImageManifest) -> tuple[Architecture, ...]:
    return tuple(sorted({image.architecture for image in manifest.images} | set(manifest.inventories)))


def read_feeds(
    policy: VulnerabilityPolicy,
    inventories: Iterable[Inventory],
    now: datetime,
    downloads: Downloads | None = None,
) -> tuple[Feed, ...]:
    """Return what the feeds of a policy tell about images."""
    wanted = feeds.Wanted.of(inventories)
    if downloads is None:
        cache = cache_directory()
        downloads = Downloads(cache.with_name("feeds") if cache is not None else None, seconds=_SECONDS)
    return tuple(feeds.read(source, wanted, downloads, now) for source in policy.feeds)


# --- conditions -------------------------------------------------------------------------------------------------------


def unmet_by_release(
    policy: VulnerabilityPolicy, catalog: Catalog, manifest: ImageManifest, now: datetime
) -> list[str]:
    """Return what a policy does not accept in the images of a release, as text."""
    found = scan(policy, catalog, [manifest], now)
    return [
        f"{image.architecture}: {reason}" if len(found.images) > 1 else reason
        for image in found.images
        for reason in reasons_of(image.verdict)
    ]


def unmet(policy: VulnerabilityPolicy, inventory: str, now: datetime) -> list[str]:
    """Return what a policy does not accept in an image, as text. ``inventory``: of ``evidence.packages``; empty if it
    is not known."""
    if not inventory:
        return ["its packages are not known"]
    found = packages.loads(inventory)
    return reasons_of(judge(found, read_feeds(policy, [found], now), policy, now))


def reasons_of(verdict: Verdict) -> list[str]:
    """Return why an image is not accepted, as text; empty if it is. The worst five vulnerabilities are listed."""
    more = len(verdict.failing) - _SHOWN
    return [
        *verdict.unknown,
        *map(text_of, verdict.failing[:_SHOWN]),
        *([f"and {more} more vulnerabilities"] if more > 0 else []),
    ]


def text_of(finding: Finding) -> str:
    """Return a finding in a line: "CVE-2026-1 (high) in curl 7.88.1-10, fixed in 7.88.1-11"."""
    end = f"fixed in {finding.fixed}" if finding.fixed else finding.state
    return f"{finding.id} ({finding.severity}) in {finding.package} {finding.version}, {end}"


# --- notifications ----------------------------------------------------------------------------------------------------


def tell(
    environment: Environment,
    catalog: Catalog,
    found: Scan,
    *,
    cloud: Cloud | None = None,
    known: Cloud | None = None,
) -> Mapping[str, str]:
    """Send the vulnerabilities that the policy does not accept and that were not sent before, and note them in the
    catalog. Returns receivers that did not get one -> reason. ``cloud``, ``known``: as in ``task.run``.

    A vulnerability that was sent, ended (a waiver, a new policy) and counts again is sent again. While an image cannot
    be judged, none has ended.
    """
    unsent: dict[str, str] = {}
    known = known or cloud or Cloud.of(environment)
    releases = {(image.manifest.recipe, image.manifest.version): image.manifest for image in found.images}
    for (name, version), manifest in releases.items():
        verdicts = [image.verdict for image in found.images if image.manifest.label == manifest.label]
        before = catalog.marks.told(name, version)
        failing = {_key(one): one for verdict in verdicts for one in verdict.failing}
        new = [one for key, one in failing.items() if key not in before]
        now_told = {*failing, *(before if any(verdict.unknown for verdict in verdicts) else ())}
        if new or before != now_told:
            known.check_caller()  # the time comes from an answer, and a catalog in a directory makes no call
        failed = _send(environment, manifest, catalog, new, cloud, known) if new else {}
        unsent |= failed
        if before != now_told and not failed:  # otherwise the next scan sends it again
            catalog.marks.note_told(name, version, now_told, known.now())
    return unsent


def _key(finding: Finding) -> str:
    return f"{finding.id} {finding.package}"


def _send(
    environment: Environment,
    manifest: ImageManifest,
    catalog: Catalog,
    new: Sequence[Finding],
    cloud: Cloud | None,
    known: Cloud,
) -> Mapping[str, str]:
    many = f"{len(new)} vulnerabilities that are" if len(new) > 1 else "a vulnerability that is"
    pointers = [one for one in catalog.channels(manifest.recipe) if one.current == manifest.version]
    event = notify.make(
        "vulnerability",
        id=notify.id_of(manifest.label, *map(_key, new)),
        title=f"{manifest.label} has {many} not accepted",
        time=timestamp(known.now()),
        environment=environment.name,
        manifest=manifest,
        channels=tuple(notify.channel(one.channel) for one in pointers),
        vulnerabilities=tuple(
            EventVulnerability(
                id=one.id, package=one.package, version=one.version, severity=one.severity, fixed=one.fixed or None
            )
            for one in new[:_SENT]
        ),
        command=command("scan", f"{manifest.recipe}@{manifest.version}"),
    )
    if not notify.is_wanted(environment, event):
        return {}
    with task.run(environment, KIND, {"release": manifest.label}, cloud=cloud, known=known) as job:
        notify.due(job, event)
    return notify.unsent(job.journal)
