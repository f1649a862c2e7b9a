"""Read every target back: is what is there what was ordered?

Reading (``_read``), judging (``compare``, pure) and reporting are apart. What the manifest says about images comes from
here, that is, from what was read, and never from what was asked for. Each image is read twice: by its owner, who alone
sees tags and permissions, and by the account that is going to use it, which shows that it can.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from goldenami.aws import images, kms, snapshots, tags
from goldenami.aws.ledger import Ledger
from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.errors import TargetsFailed
from goldenami.events import Emit, emit, ignore_events
from goldenami.model import Architecture, ManifestImage, ManifestSnapshot, Place, Target
from goldenami.release.distribute import Distributed, Placed, account_root
from goldenami.release.order import ReleaseOrder

Item = Mapping[str, Any]
_MINUTE: Final = 60.0  # seconds; EC2 rounds the time of deprecation to the minute
_UNSEEN: Final = ("missing", "not visible")  # what a mismatch says of something that may show yet


@dataclass(frozen=True, slots=True)
class Expected:
    """What one target's image of one architecture has to be. ``users``: the accounts, and only those, that may use the
    image, its snapshots and their key besides the owner. ``tags``: at least these."""

    label: str
    architecture: Architecture
    image_id: str
    name: str
    owner: Place
    user: Place
    mode: str
    kms_key: str
    users: frozenset[str]
    tags: Mapping[str, str]
    imds_v2: bool = True
    deprecate_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Actual:
    """What was read. ``image`` and ``snapshots`` are entries of describes by the owner, None where there is none."""

    image: Item | None
    snapshots: Mapping[str, Item] = field(default_factory=dict)
    launch_permissions: frozenset[str] = frozenset()
    volume_permissions: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by snapshot id
    grantees: frozenset[str] = frozenset()  # principals that have a grant on the key with all that a launch takes
    seen_by_user: frozenset[str] = frozenset()  # of the image and its snapshots: the ids that the user's describes show


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference. ``what``: the attribute, as people name it."""

    label: str
    architecture: Architecture
    what: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"{self.label} ({self.architecture}): {self.what} is {self.actual}, not {self.expected}"


@dataclass(frozen=True, slots=True)
class Verified:
    """``images``: rows for the manifest, of the targets that are right. ``failures``: reason by label, for best-effort
    targets, those that failed before included."""

    images: tuple[ManifestImage, ...]
    mismatches: tuple[Mismatch, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


# --- expecting (pure) -------------------------------------------------------------------------------------------------


def expect(order: ReleaseOrder, placed: Placed, every_tag: Mapping[str, str]) -> Expected:
    """What an order says about one image. ``every_tag``: the tags that everything of the build carries."""
    owner = order.owner(placed.target)
    name = order.image_name(placed.architecture)
    return Expected(
        label=placed.target.label,
        architecture=placed.architecture,
        image_id=placed.image_id,
        name=images.valid_name(name),
        owner=owner.place,
        user=placed.target.place,
        mode=placed.target.mode,
        kms_key=order.keys[owner.label],
        users=frozenset(order.users(owner)),
        tags=tags.checked({**every_tag, **order.tags, tags.NAME: name}),
        imds_v2=order.imds_v2,
        deprecate_at=order.deprecate_at,
    )


# --- comparing (pure) -------------------------------------------------------------------------------------------------


def compare(expected: Expected, actual: Actual) -> tuple[Mismatch, ...]:
    """Every difference, in the order of the attributes; empty if the image is what it has to be."""
    image = actual.image
    if image is None:
        return (Mismatch(expected.label, expected.architecture, f"image {expected.image_id}", "available", "missing"),)
    found = [*_image_differences(expected, image), *_snapshot_differences(expected, actual, image)]
    found += _access_differences(expected, actual, image)
    return tuple(Mismatch(expected.label, expected.architecture, *difference) for difference in found)


_Difference = tuple[str, str, str]


def _image_differences(expected: Expected, image: Item) -> Iterable[_Difference]:
    wanted = {
        "State": "available",
        "Name": expected.name,
        "OwnerId": expected.owner.account,
        "Architecture": expected.architecture,
        "RootDeviceType": "ebs",
        "VirtualizationType": "hvm",
        **({"ImdsSupport": "v2.0"} if expected.imds_v2 else {}),
    }
    words = {"Architecture": "architecture", "State": "state", "Name": "name", "OwnerId": "owner"}
    for attribute, value in wanted.items():
        if image.get(attribute) != value:
            yield words.get(attribute, attribute), value, str(image.get(attribute) or "not set")
    roots = [m.get("DeviceName") for m in image.get("BlockDeviceMappings") or () if "Ebs" in m]
    if image.get("RootDeviceName") not in roots:
        yield "root device", f"one of {', '.join(map(str, roots)) or 'no devices'}", str(image.get("RootDeviceName"))
    yield from _tag_differences("tag", expected.tags, image)
    if expected.deprecate_at is not None and not _same_minute(expected.deprecate_at, image.get("DeprecationTime")):
        moment = tags.timestamp(expected.deprecate_at)
        yield "deprecation time", moment, str(image.get("DeprecationTime") or "not set")


def _snapshot_differences(expected: Expected, actual: Actual, image: Item) -> Iterable[_Difference]:
    behind = snapshots.of_image(image)
    if not behind:
        yield "snapshots", "at least one", "none"
    for snapshot_id in behind:
        snapshot = actual.snapshots.get(snapshot_id)
        if snapshot is None:
            yield f"snapshot {snapshot_id}", "completed", "missing"
            continue
        if snapshot.get("State") != "completed":
            yield f"state of {snapshot_id}", "completed", str(snapshot.get("State"))
        if not snapshot.get("Encrypted"):
            yield f"encryption of {snapshot_id}", "on", "off"
        elif snapshot.get("KmsKeyId") != expected.kms_key:
            yield f"key of {snapshot_id}", expected.kms_key, str(snapshot.get("KmsKeyId"))
        yield from _tag_differences(f"{snapshot_id}'s tag", expected.tags, snapshot)


def _access_differences(expected: Expected, actual: Actual, image: Item) -> Iterable[_Difference]:
    """Too few may use it: the target is of no use. Too many: worse."""
    if actual.launch_permissions != expected.users:
        yield "launch permission", _listed(expected.users), _listed(actual.launch_permissions)
    for snapshot_id in snapshots.of_image(image):
        allowed = actual.volume_permissions.get(snapshot_id, frozenset())
        if allowed != expected.users:
            yield f"volume permission of {snapshot_id}", _listed(expected.users), _listed(allowed)
    for account in sorted(expected.users):
        root = account_root(expected.kms_key, account)
        if root not in actual.grantees:
            yield f"grant on {expected.kms_key}", f"given to {root}", "missing"
    if expected.user.account != expected.owner.account:
        for id in (str(image["ImageId"]), *snapshots.of_image(image)):
            if id not in actual.seen_by_user:
                yield id, f"visible to account {expected.user.account}", "not visible"


def _tag_differences(what: str, expected: Mapping[str, str], item: Item) -> Iterable[_Difference]:
    actual = tags.from_list(item.get("Tags"))
    for key, value in sorted(expected.items()):
        if actual.get(key) != value:
            yield f"{what} {key}", repr(value), repr(actual[key]) if key in actual else "missing"


def _same_minute(expected: datetime, actual: object) -> bool:
    try:
        moment = datetime.fromisoformat(str(actual))
    except ValueError:
        return False
    return abs((expected.astimezone(UTC) - moment.astimezone(UTC)).total_seconds()) <= _MINUTE


def _listed(accounts: Collection[str]) -> str:
    return ", ".join(sorted(accounts)) or "nobody"


# --- reading ----------------------------------------------------------------------------------------------------------


def verify(ledger: Ledger, order: ReleaseOrder, distributed: Distributed, *, emit: Emit = ignore_events) -> Verified:
    """Read all targets back at once, and compare. Changes nothing.

    A target with a mismatch, or that cannot be read, has failed. Raises TargetsFailed if a required one has; the
    others, and those of ``distributed.failures``, are told in ``failures`` and have no rows.
    """
    by_target: dict[str, list[Placed]] = {}
    for placed in distributed.placed:
        by_target.setdefault(placed.target.label, []).append(placed)
    targets = {placed.target.label: placed.target for placed in distributed.placed}
    mismatches: list[Mismatch] = []
    rows: list[ManifestImage] = []
    failures = dict(distributed.failures)
    answers = each(by_target, lambda label: _verify_target(ledger, order, by_target[label]))
    failures |= answers.reasons
    for label, (found, wrong) in answers.results.items():
        mismatches += wrong
        if wrong:
            failures[label] = "; ".join(map(str, wrong))
        else:
            rows += found
    for label, group in by_target.items():
        _tell(emit, targets[label], group, "failed" if label in failures else "verified", failures.get(label))
    if any(targets[label].required for label in failures if label in targets):
        raise TargetsFailed(
            f"{len(failures)} of {len(order.targets)} targets are not as ordered: {', '.join(failures)}",
            failures=failures,
            hint="Nothing was published. Find out who or what changed the images; then `goldenami resume`.",
        )
    return Verified(tuple(sorted(rows, key=_row_order)), tuple(mismatches), failures)


def _verify_target(
    ledger: Ledger, order: ReleaseOrder, group: Sequence[Placed]
) -> tuple[list[ManifestImage], list[Mismatch]]:
    """What is missing may be too new to be seen, and is looked for again for as long as that can be."""
    expected = [expect(order, placed, ledger.tags) for placed in group]
    cloud, patience = ledger.cloud, ledger.patience
    actual: dict[str, Actual] = {}
    wrong: list[Mismatch] = []
    for _ in patience.rounds(cloud):
        actual = _read(cloud, expected)
        wrong = [mismatch for one in expected for mismatch in compare(one, actual[one.image_id])]
        if not wrong or not all(m.actual in _UNSEEN for m in wrong):
            break
    return [] if wrong else [_row(one, actual[one.image_id]) for one in expected], wrong


def _read(cloud: Cloud, expected: Sequence[Expected]) -> dict[str, Actual]:
    """Of one target, all architectures: one describe for all images and one for all snapshots."""
    owner, user, key = expected[0].owner, expected[0].user, expected[0].kms_key
    found = images.describe_many(cloud, owner, [one.image_id for one in expected])
    behind = {image_id: snapshots.of_image(image) for image_id, image in found.items()}
    every = [snapshot_id for ids in behind.values() for snapshot_id in ids]
    read = snapshots.describe_many(cloud, owner, every)
    seen: frozenset[str] = frozenset()
    if user.account != owner.account:
        seen = frozenset(images.describe_many(cloud, user, list(found)))
        seen |= frozenset(snapshots.describe_many(cloud, user, every))
    # Reading grants takes a permission that a publisher of copies for itself has no other need of.
    grantees = _grantees(cloud, owner, key) if expected[0].users else frozenset()
    return {
        one.image_id: Actual(
            image=found.get(one.image_id),
            snapshots={id: read[id] for id in behind.get(one.image_id, ()) if id in read},
            launch_permissions=images.launch_permissions(cloud, owner, one.image_id)
            if one.image_id in found
            else frozenset(),
            volume_permissions={
                id: snapshots.volume_permissions(cloud, owner, id) for id in behind.get(one.image_id, ()) if id in read
            },
            grantees=grantees,
            seen_by_user=seen,
        )
        for one in expected
    }


def _grantees(cloud: Cloud, place: Place, key: str) -> frozenset[str]:
    return frozenset(
        str(grant["GranteePrincipal"])
        for grant in kms.grants(cloud, place, key)
        if set(kms.LAUNCH_OPERATIONS) <= set(grant.get("Operations") or ())
    )


def _row(expected: Expected, actual: Actual) -> ManifestImage:
    image = actual.image
    assert image is not None  # compare() says so before
    devices = {m["Ebs"]["SnapshotId"]: m["DeviceName"] for m in image["BlockDeviceMappings"] if "Ebs" in m}
    rows = tuple(
        ManifestSnapshot(
            snapshot_id=id,
            device_name=str(devices[id]),
            volume_size_gib=int(snapshot["VolumeSize"]),
            encrypted=bool(snapshot["Encrypted"]),
            kms_key_id=snapshot.get("KmsKeyId"),
        )
        for id, snapshot in sorted(actual.snapshots.items(), key=lambda item: (str(devices[item[0]]), item[0]))
    )
    return ManifestImage(
        architecture=image["Architecture"],
        account=expected.user.account,
        region=expected.user.region,
        image_id=str(image["ImageId"]),
        name=str(image["Name"]),
        mode=expected.mode,
        encrypted=all(row.encrypted for row in rows),
        snapshots=rows,
    )


def _row_order(row: ManifestImage) -> tuple[str, str, str]:
    return row.architecture, row.account, row.region


def _tell(to: Emit, target: Target, group: Sequence[Placed], state: str, detail: str | None) -> None:
    for placed in group:
        emit(
            to,
            "target.progress",
            target=target.label,
            architecture=placed.architecture,
            state=state,
            percent=None if detail else 100.0,
            image_id=placed.image_id,
            detail=detail,
        )
