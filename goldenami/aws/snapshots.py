"""EBS snapshots: read, create, copy, share, lock, archive and delete them.

Each mutating function is an "ensure" over the journal: see ``ledger``. All of them return at once, while snapshots are
pending; ``wait`` waits for several snapshots.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from goldenami.aws import tags, waiters
from goldenami.aws.ledger import Call, Ledger
from goldenami.aws.limits import FILTER_VALUES
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Interval, Item, Observation, OnProgress
from goldenami.each import parts
from goldenami.errors import CloudError
from goldenami.model import LONGEST_DESCRIPTION, Place, timestamp


def describe_many(cloud: Cloud, place: Place, ids: Collection[str]) -> dict[str, Item]:
    """Return the snapshots of ``ids`` that are visible, as DescribeSnapshots returns them. One call for up to 200
    ids."""
    return waiters.describe(cloud, place, waiters.SNAPSHOTS, ids) if ids else {}


def of_image(image: Item) -> tuple[str, ...]:
    """Return the ids of an image's snapshots, from its block device mappings, sorted."""
    mappings: Iterable[Any] = image.get("BlockDeviceMappings") or ()
    return tuple(sorted({m["Ebs"]["SnapshotId"] for m in mappings if m.get("Ebs", {}).get("SnapshotId")}))


COPIED: Final = "vol-ffffffff"  # what EC2 shows as the volume of a copy

# The descriptions that EC2 gives to the snapshots of CreateImage and CopyImage.
_OF_IMAGE = re.compile(r"(?:Created by CreateImage\(\S+\) for|Copied for DestinationAmi) (ami-[0-9a-f]+)(?:\s|$)")


def of_images(cloud: Cloud, place: Place, images: Iterable[Item]) -> dict[str, tuple[str, ...]]:
    """Return the ids of the snapshots of the caller's images, by image, sorted; also those of pending images."""
    found = {str(image["ImageId"]): of_image(image) for image in images}
    unlisted = of_pending(cloud, place, [id for id, shown in found.items() if not shown])
    return found | {id: tuple(sorted(str(s["SnapshotId"]) for s in behind)) for id, behind in unlisted.items()}


def of_pending(cloud: Cloud, place: Place, image_ids: Sequence[str]) -> dict[str, list[Item]]:
    """Return the snapshots of pending images, whose describe lists none. They are found by EC2's description of them.

    An image without snapshots is left out.
    """
    wanted = [text for id in image_ids for text in (f"Created by CreateImage(*) for {id}*", f"*DestinationAmi {id} *")]
    behind: dict[str, list[Item]] = {}
    for part in parts(wanted, FILTER_VALUES):
        for snapshot in find(cloud, place, {"description": part}):
            made_for = _OF_IMAGE.match(snapshot.get("Description") or "")
            if made_for is not None:
                behind.setdefault(made_for[1], []).append(snapshot)
    return behind


def find(
    cloud: Cloud, place: Place, filters: Mapping[str, Sequence[str]], *, owners: Sequence[str] = ("self",)
) -> list[Item]:
    """Return the snapshots that match the filters of DescribeSnapshots (``{"tag:Name": ["backup"]}``), oldest first.
    ``owners``: empty for all snapshots that the caller may use; then filter by ids, since public ones are many."""
    request: dict[str, Any] = {"OwnerIds": list(owners)} if owners else {}
    if filters:
        request["Filters"] = [{"Name": k, "Values": list(v)} for k, v in filters.items()]
    found = cloud.pages(place, "ec2", "DescribeSnapshots", "Snapshots", request)
    return sorted(found, key=lambda s: (s["StartTime"], s["SnapshotId"]))


def of_volumes(
    cloud: Cloud, place: Place, ids: Collection[str], filters: Mapping[str, Sequence[str]] | None = None
) -> list[Item]:
    """Return the caller's snapshots of volumes, which may be deleted, the oldest first. ``filters``: as of ``find``."""
    most = max(1, FILTER_VALUES - sum(len(values) for values in (filters or {}).values()))
    found = [
        item for part in parts(sorted(ids), most) for item in find(cloud, place, {**(filters or {}), "volume-id": part})
    ]
    return sorted(found, key=lambda s: (s["StartTime"], s["SnapshotId"]))


def images_using(cloud: Cloud, place: Place, snapshot_ids: Collection[str]) -> dict[str, list[str]]:
    """Return the ids of the caller's images that use these snapshots, by snapshot; deprecated and disabled ones too."""
    using: dict[str, list[str]] = {}
    ids = sorted(snapshot_ids)
    for part in parts(ids, FILTER_VALUES):
        names = {"Name": "block-device-mapping.snapshot-id", "Values": part}
        request = {"Owners": ["self"], "Filters": [names], "IncludeDeprecated": True, "IncludeDisabled": True}
        for image in cloud.pages(place, "ec2", "DescribeImages", "Images", request):
            for snapshot in of_image(image):
                using.setdefault(snapshot, []).append(image["ImageId"])
    return {s: sorted(set(using[s])) for s in ids if s in using}


def locks(cloud: Cloud, place: Place, snapshot_ids: Collection[str]) -> dict[str, Item]:
    """Return the locks of these snapshots of the caller, also past ones, as DescribeLockedSnapshots returns them."""
    return {
        s["SnapshotId"]: s
        for ids in parts(sorted(snapshot_ids), FILTER_VALUES)
        for s in cloud.pages(place, "ec2", "DescribeLockedSnapshots", "Snapshots", {"SnapshotIds": ids})
    }


def tiering(cloud: Cloud, place: Place, snapshot_ids: Collection[str]) -> dict[str, Item]:
    """Return the progress of moves to the archive tier and back, as DescribeSnapshotTierStatus returns it."""
    found: dict[str, Item] = {}
    for ids in parts(sorted(snapshot_ids), FILTER_VALUES):
        request = {"Filters": [{"Name": "snapshot-id", "Values": ids}]}
        for one in cloud.pages(place, "ec2", "DescribeSnapshotTierStatus", "SnapshotTierStatuses", request):
            found[one["SnapshotId"]] = one
    return found


def public_access(cloud: Cloud, place: Place) -> str:
    """Return the account's block on public snapshots: "unblocked", "block-new-sharing" or "block-all-sharing"."""
    return str(cloud.call(place, "ec2", "GetSnapshotBlockPublicAccessState").get("State", "unblocked"))


# --- making -----------------------------------------------------------------------------------------------------------


def create(
    ledger: Ledger,
    key: str,
    place: Place,
    *,
    volume_id: str,
    name: str,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    temporary: bool = False,
) -> str:
    """Ensure that a snapshot of a volume was created. It has the contents at the time of the answer; the blocks are
    copied afterwards."""
    request: dict[str, Any] = {"VolumeId": volume_id}
    if description:
        request["Description"] = description[:LONGEST_DESCRIPTION]
    call = Call("ec2", "CreateSnapshot", request)
    return ledger.create(key, "snapshot", place, call, name=name, tags=tags, temporary=temporary)


def create_all(
    ledger: Ledger,
    key: str,
    place: Place,
    *,
    instance_id: str,
    name: str,
    description: str = "",
    exclude: Collection[str] = (),
    exclude_root: bool = False,
    tags: Mapping[str, str] | None = None,
) -> list[Item]:
    """Ensure that snapshots of all volumes of an instance were created at the same time. Return all of them.

    ``exclude``: ids of data volumes to leave out. One call with one token creates them; all have the token as a tag, by
    which the whole set is found.
    """
    instance: dict[str, Any] = {"InstanceId": instance_id, "ExcludeBootVolume": exclude_root}
    if exclude:
        instance["ExcludeDataVolumeIds"] = sorted(exclude)
    request: dict[str, Any] = {"InstanceSpecification": instance}
    if description:
        request["Description"] = description[:LONGEST_DESCRIPTION]
    first = ledger.create(key, "snapshot", place, Call("ec2", "CreateSnapshots", request), name=name, tags=tags)
    return set_of(ledger, key, place, first)


def set_of(ledger: Ledger, key: str, place: Place, first: str) -> list[Item]:
    """Return the snapshots that one CreateSnapshots call created. ``first``: the id of one of them; waits until it is
    visible."""
    waiters.Watch(ledger.cloud, place, VISIBLE, [first]).until_ready()
    latest = ledger.journal.latest(key)
    if latest is None:
        return []
    return find(ledger.cloud, place, {f"tag:{tags.TOKEN}": [latest[0].token]})


VISIBLE = waiters.Watched(
    "DescribeSnapshots", "Snapshots", "snapshot-id", "SnapshotId", lambda _: ("ready", ""), kind="visible"
)


def copy(
    ledger: Ledger,
    key: str,
    place: Place,
    *,
    source: str,
    source_region: str,
    name: str,
    kms_key: str | None = None,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    temporary: bool = False,
) -> str:
    """Ensure that a place has its own copy of a snapshot. Return its id at once, while it is pending.

    ``kms_key``: the ARN of the key in the destination. None: not encrypted, so the source must not be encrypted either
    (for an encrypted source, EC2 would use the default key aws/ebs without a warning). By default EC2 runs 20 copies
    into a region at once; further copies wait and are sent again.
    """
    request: dict[str, Any] = {"SourceSnapshotId": source, "SourceRegion": source_region}
    if kms_key is not None:
        request |= {"Encrypted": True, "KmsKeyId": kms_key}
    if description:
        request["Description"] = description[:LONGEST_DESCRIPTION]
    call = Call("ec2", "CopySnapshot", request)
    return ledger.create(key, "snapshot", place, call, name=name, tags=tags, temporary=temporary)


def wait(
    ledger: Ledger,
    place: Place,
    ids: Collection[str],
    *,
    on_progress: OnProgress | None = None,
    timeout: float | None = None,
    interval: Interval = waiters.STANDARD,
) -> dict[str, Observation]:
    """Wait until every snapshot is completed or has failed. Return the last observation of each. A failed one is marked
    as spoiled in the journal."""
    seen = waiters.Watch(
        ledger.cloud, place, waiters.SNAPSHOTS, ids, on_progress=on_progress, timeout=timeout, interval=interval
    ).until_ready()
    for one in seen.values():
        if one.readiness == "failed":
            ledger.spoil("snapshot", place, one.id, one.reason)
    return seen


# --- who may use them -------------------------------------------------------------------------------------------------


def volume_permissions(cloud: Cloud, place: Place, snapshot_id: str) -> frozenset[str]:
    """Return the accounts that may create volumes of a snapshot; "all" for all accounts."""
    request = {"SnapshotId": snapshot_id, "Attribute": "createVolumePermission"}
    answer = cloud.call(place, "ec2", "DescribeSnapshotAttribute", request)
    return frozenset(p.get("UserId") or p.get("Group") for p in answer.get("CreateVolumePermissions") or ())


def share(ledger: Ledger, key: str, place: Place, snapshot_id: str, accounts: Collection[str]) -> None:
    """Ensure that accounts may create volumes of a snapshot, and so copy it and launch from its image.

    For an encrypted snapshot the accounts also need a grant on its key (``kms.create_grant``). EC2 refuses to share a
    snapshot under the default key aws/ebs.
    """
    permission = {"Add": [{"UserId": a} for a in sorted(accounts)]}
    request = {"SnapshotId": snapshot_id, "Attribute": "createVolumePermission", "CreateVolumePermission": permission}
    ledger.change(key, place, Call("ec2", "ModifySnapshotAttribute", request), resource=snapshot_id, kind="permission")


def unshare(ledger: Ledger, key: str, place: Place, snapshot_id: str, accounts: Collection[str]) -> None:
    """Ensure that accounts may no longer create volumes of a snapshot."""
    permission = {"Remove": [{"UserId": a} for a in sorted(accounts)]}
    request = {"SnapshotId": snapshot_id, "Attribute": "createVolumePermission", "CreateVolumePermission": permission}
    ledger.change(key, place, Call("ec2", "ModifySnapshotAttribute", request), resource=snapshot_id, kind="permission")


def make_public(ledger: Ledger, key: str, place: Place, snapshot_id: str, *, public: bool) -> None:
    """Ensure that all accounts may, or may not, create volumes of a snapshot. EC2 refuses it for encrypted snapshots,
    and if the account blocks public snapshots."""
    permission = {"Add" if public else "Remove": [{"Group": "all"}]}
    request = {"SnapshotId": snapshot_id, "Attribute": "createVolumePermission", "CreateVolumePermission": permission}
    ledger.change(key, place, Call("ec2", "ModifySnapshotAttribute", request), resource=snapshot_id, kind="permission")


# --- tiers and locks --------------------------------------------------------------------------------------------------


def archive(ledger: Ledger, key: str, place: Place, snapshot_id: str) -> None:
    """Start moving a snapshot to the archive tier, which takes up to three days. Its sharing ends."""
    request = {"SnapshotId": snapshot_id, "StorageTier": "archive"}
    ledger.change(key, place, Call("ec2", "ModifySnapshotTier", request), resource=snapshot_id, kind="tier")


def restore_from_archive(ledger: Ledger, key: str, place: Place, snapshot_id: str, *, days: int | None) -> None:
    """Start restoring a snapshot from the archive tier, which takes up to three days. ``days``: 1 to 180; None:
    permanently."""
    how: dict[str, Any] = {"PermanentRestore": True} if days is None else {"TemporaryRestoreDays": days}
    call = Call("ec2", "RestoreSnapshotTier", {"SnapshotId": snapshot_id, **how})
    ledger.change(key, place, call, resource=snapshot_id, kind="tier")


def lock(
    ledger: Ledger,
    key: str,
    place: Place,
    snapshot_id: str,
    *,
    mode: Literal["governance", "compliance"],
    days: int | None = None,
    until: datetime | None = None,
    cool_off_hours: int | None = None,
) -> Mapping[str, Any]:
    """Ensure that a snapshot cannot be deleted, for some days or until a time. Return the answer of LockSnapshot.

    A "governance" lock can be removed by a caller with the permission. A "compliance" lock cannot be removed after its
    cool-off period.
    """
    request: dict[str, Any] = {"SnapshotId": snapshot_id, "LockMode": mode}
    if days is not None:
        request["LockDuration"] = days
    if until is not None:
        request["ExpirationDate"] = timestamp(until)
    if cool_off_hours is not None:
        request["CoolOffPeriod"] = cool_off_hours
    return ledger.change(key, place, Call("ec2", "LockSnapshot", request), resource=snapshot_id, kind="lock")


def unlock(ledger: Ledger, key: str, place: Place, snapshot_id: str) -> None:
    """Ensure that a lock is removed. Possible in governance mode, and in compliance mode during the cool-off period."""
    call = Call("ec2", "UnlockSnapshot", {"SnapshotId": snapshot_id})
    ledger.change(key, place, call, resource=snapshot_id, kind="lock")


def delete(ledger: Ledger, place: Place, snapshot_id: str) -> None:
    """Ensure that a snapshot is deleted. Raises CloudError (InvalidSnapshot.InUse) if an image uses it."""
    ledger.delete("snapshot", place, snapshot_id)


# --- fast restore -----------------------------------------------------------------------------------------------------


def fast_restores(cloud: Cloud, place: Place, snapshot_ids: Collection[str]) -> list[Item]:
    """Return where fast snapshot restore is enabled or being enabled: an entry for each snapshot and Availability
    Zone."""
    found: list[Item] = []
    for ids in parts(sorted(snapshot_ids), FILTER_VALUES):
        request = {"Filters": [{"Name": "snapshot-id", "Values": ids}]}
        found += cloud.pages(place, "ec2", "DescribeFastSnapshotRestores", "FastSnapshotRestores", request)
    return [one for one in found if one.get("State") not in ("disabling", "disabled")]


def fast_restore(
    ledger: Ledger, key: str, place: Place, snapshot_id: str, zones: Collection[str], *, on: bool = True
) -> None:
    """Ensure that fast snapshot restore is enabled, or disabled, in these Availability Zones. Raises CloudError if a
    zone refused it: EC2 answers the call with success in that case."""
    operation = "EnableFastSnapshotRestores" if on else "DisableFastSnapshotRestores"
    request = {"AvailabilityZones": sorted(zones), "SourceSnapshotIds": [snapshot_id]}
    ledger.change(key, place, Call("ec2", operation, request), resource=snapshot_id, kind="fast-restore")
    there = {str(one["AvailabilityZone"]) for one in fast_restores(ledger.cloud, place, [snapshot_id])}
    missing = sorted(set(zones) - there) if on else []
    if missing:
        raise CloudError(
            f"fast snapshot restore of {snapshot_id} was not enabled in {', '.join(missing)}",
            code="goldenami.NotEnabled",
            action=operation,
            account=place.account,
            region=place.region,
            hint="Each zone has a quota of snapshots. See `aws service-quotas list-service-quotas`.",
        )
