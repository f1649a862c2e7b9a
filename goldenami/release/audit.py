"""Audits a release: its signed statement, and its images as they are now. Reads only.

``verify`` (the module) compares new images with their order; this is for later, when the order is not known any more:
each image is compared with the manifest, and its contents with those of the image that was tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from goldenami.aws import blocks, tags
from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.evidence import contents
from goldenami.evidence.signing import PublicKey
from goldenami.evidence.statement import Claims
from goldenami.model import ImageManifest, ManifestImage, ManifestSnapshot, Place
from goldenami.release import targets as modes
from goldenami.release.attest import Checked, Deviation, check
from goldenami.release.catalog import Catalog
from goldenami.release.verify import Actual, read_images

Compared = Literal["equal", "differ", "unknown"]
_EVERYBODY: Final = "all"


@dataclass(frozen=True, slots=True)
class Seen:
    """One image that was compared. ``contents``: of its volumes, against the tested ones; ``why``: if unknown."""

    row: ManifestImage
    contents: Compared
    why: str = ""


@dataclass(frozen=True, slots=True)
class Audit:
    """The result. ``label``: the release. ``images``: those that were read. ``unreachable``: places that did not
    answer -> reason; nothing is known of their images."""

    label: str
    checked: Checked
    deviations: tuple[Deviation, ...]
    images: tuple[Seen, ...] = ()
    unreachable: Mapping[Place, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which images to read. None: all. ``image_id``: the user has an image of this id, and asks whether it is the
    release's. ``blocks``: whether contents are read."""

    account: str | None = None
    region: str | None = None
    image_id: str | None = None
    blocks: bool = True

    def matches(self, row: ManifestImage) -> bool:
        """Return whether a row is in the account and region that were asked for."""
        return self.account in (None, row.account) and self.region in (None, row.region)


def audit(
    catalog: Catalog,
    name: str,
    version: str,
    trusted: Mapping[str, PublicKey],
    cloud: Cloud | None,
    wanted: Wanted = Wanted(),
) -> Audit:
    """Compare a release with its statement, and its images with both. ``cloud`` None: no image is read.

    Raises NotFound if there is no such release.
    """
    checked = check(catalog, name, version, trusted)
    label, manifest = f"{name} {version}", checked.manifest
    if manifest is None:
        return Audit(label, checked, checked.deviations)
    rows, swapped = _rows(manifest, wanted)
    found = [*checked.deviations, *swapped]
    if cloud is None:
        return Audit(label, checked, tuple(found))
    by_place: dict[Place, list[ManifestImage]] = {}
    for row in rows:
        by_place.setdefault(row.place, []).append(row)
    claims = checked.claims if wanted.blocks else None
    answers = each(by_place, lambda place: _look(cloud, manifest, by_place[place], claims, wanted))
    seen: list[Seen] = []
    for one, wrong in (pair for answer in answers.results.values() for pair in answer):
        seen += [one] if one is not None else []
        found += wrong
    return Audit(label, checked, tuple(found), tuple(seen), answers.reasons)


def _rows(manifest: ImageManifest, wanted: Wanted) -> tuple[list[ManifestImage], list[Deviation]]:
    """Return the rows of the owners of the images to read, and what is wrong with the image that the user named."""
    rows = [row for row in manifest.images if wanted.matches(row)]
    wrong: list[Deviation] = []
    if wanted.image_id is not None:
        there = sorted({f"{row.image_id} ({row.architecture}, {row.place})" for row in rows})
        rows = [row for row in rows if row.image_id == wanted.image_id]
        if not rows:
            where = wanted.region or "any region"
            detail = f"it is no image of {manifest.label} in {where}, which has {', '.join(there) or 'none there'}"
            wrong.append(Deviation("image", detail, wanted.image_id))
    ids = {row.image_id for row in rows}
    owned = [row for row in manifest.images if row.image_id in ids and modes.owns(row)]
    return list({row.image_id: row for row in owned}.values()), wrong


def _look(
    cloud: Cloud, manifest: ImageManifest, rows: Sequence[ManifestImage], claims: Claims | None, wanted: Wanted
) -> list[tuple[Seen | None, list[Deviation]]]:
    """Read the images of one place, as their owner, and compare each."""
    place = rows[0].place
    actual = read_images(cloud, place, [row.image_id for row in rows])
    found: list[tuple[Seen | None, list[Deviation]]] = []
    for row in rows:
        one = actual[row.image_id]
        where = f"{row.image_id} in {place}"
        wrong = [Deviation(what, detail, where) for what, detail in compare(manifest, row, one)]
        if one.image is None:
            found.append((None, wrong))
            continue
        seen, more = _contents(cloud, row, one, claims, wanted)
        found.append((seen, [*wrong, *(Deviation("contents", detail, where) for detail in more)]))
    return found


# --- comparing --------------------------------------------------------------------------------------------------------


def compare(manifest: ImageManifest, row: ManifestImage, actual: Actual) -> Iterable[tuple[str, str]]:
    """Yield what of an image differs from its row in the manifest: a word for it, and the details. Pure."""
    image = actual.image
    if image is None:
        yield "image", "it does not exist, or the account that owns it cannot see it"
        return
    for what, expected, found in (
        ("state", "available", image.get("State")),
        ("name", row.name, image.get("Name")),
        ("owner", row.account, image.get("OwnerId")),
        ("architecture", row.architecture, image.get("Architecture")),
    ):
        if found != expected:
            yield what, f"it is {found or 'not set'}, expected {expected}"
    devices = {
        m["DeviceName"]: m["Ebs"].get("SnapshotId") for m in image.get("BlockDeviceMappings") or () if "Ebs" in m
    }
    expected_devices = {one.device_name: one.snapshot_id for one in row.snapshots}
    if devices != expected_devices:
        yield "snapshots", f"it has {_mapping(devices)}, expected {_mapping(expected_devices)}"
    for one in row.snapshots:
        yield from _snapshot(one, actual)
    yield from _tags(manifest, tags.from_list(image.get("Tags")))
    yield from _permissions(row, actual)


def _snapshot(expected: ManifestSnapshot, actual: Actual) -> Iterable[tuple[str, str]]:
    found = actual.snapshots.get(expected.snapshot_id)
    if found is None:
        yield "snapshots", f"{expected.snapshot_id} does not exist, or cannot be seen"
    elif bool(found.get("Encrypted")) != expected.encrypted:
        yield "key", f"{expected.snapshot_id} is {'' if found.get('Encrypted') else 'not '}encrypted"
    elif found.get("KmsKeyId") != expected.kms_key_id:
        yield "key", f"{expected.snapshot_id} has {found.get('KmsKeyId')}, expected {expected.kms_key_id}"


def _tags(manifest: ImageManifest, found: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Yield the wrong tags. An image that `goldenami distribute` made names the build of the release in another one."""
    build = tags.ADDED_TO if tags.ADDED_TO in found else tags.BUILD_ID
    wanted = {tags.RECIPE: manifest.recipe, tags.VERSION: manifest.version, build: manifest.build_id}
    for key, value in wanted.items():
        if found.get(key) != value:
            yield "tag", f"{key} is {found.get(key, 'missing')}, expected {value}"


def _permissions(row: ManifestImage, actual: Actual) -> Iterable[tuple[str, str]]:
    """Yield the accounts and organizations that may use an image and are not in the manifest, or the other way round.
    Organizations can launch an image, and have no part in its snapshots."""
    expected = frozenset(row.shared_with)
    launchers = actual.launch_permissions
    for who in sorted(launchers - expected):
        yield "permission", f"{_who(who)} may launch it, and the manifest does not say so"
    for who in sorted(expected - launchers):
        yield "permission", f"{who} may not launch it, and the manifest says so"
    for snapshot_id, accounts in sorted(actual.volume_permissions.items()):
        for who in sorted(accounts - expected):
            yield "permission", f"{_who(who)} may use {snapshot_id}, and the manifest does not say so"


def _who(who: str) -> str:
    return "everybody" if who == _EVERYBODY else who


def _mapping(devices: Mapping[str, object]) -> str:
    return ", ".join(f"{device} {snapshot}" for device, snapshot in sorted(devices.items())) or "none"


# --- contents ---------------------------------------------------------------------------------------------------------


def _contents(
    cloud: Cloud, row: ManifestImage, actual: Actual, claims: Claims | None, wanted: Wanted
) -> tuple[Seen, list[str]]:
    """Compare the volumes of an image with those of the image that was tested, as the statement has them."""
    if not wanted.blocks:
        return Seen(row, "unknown", "they were not asked for"), []
    if claims is None:
        return Seen(row, "unknown", "there is no statement to compare them with"), []
    tested = claims.volumes.get(row.architecture)
    if tested is None:
        reason = claims.unread.get(row.architecture, "the build did not read them")
        return Seen(row, "unknown", f"the statement has no content digests: {reason}"), []
    image = actual.image
    assert image is not None
    devices = {
        str(m["DeviceName"]): str(m["Ebs"]["SnapshotId"])
        for m in image.get("BlockDeviceMappings") or ()
        if m.get("Ebs", {}).get("SnapshotId")
    }
    wrong = [f"there is no volume {device}, which was tested" for device in sorted(tested.keys() - devices.keys())]
    wrong += [f"the volume {device} was not tested" for device in sorted(devices.keys() - tested.keys())]
    unread = ""
    for device, expected in sorted(tested.items()):
        if device in devices:
            try:
                found = contents.of_snapshot(cloud, row.place, devices[device]).digest
            except blocks.NotComparable as error:
                unread = unread or f"{devices[device]} cannot be read: {error.detail}"
                continue
            if found != expected:
                wrong.append(f"the volume {device} ({devices[device]}) is not the one that was tested")
    return Seen(row, "differ" if wrong else "unknown" if unread else "equal", unread), wrong
