"""Verification: reads the images of every target from the cloud and compares them with the release order.

Reading, comparing (``compare``, pure) and reporting are separate. The manifest contains the values that were read,
never the requested values. The owner of an image reads it once for all targets, because only the owner sees the tags
and permissions. Each account that will use it then reads it as well, to prove that this account can use it.

The wait for a copy has read the image and its snapshots when it ended. These readings are compared at once
(``Readings``), and such an image is not described again if it is as ordered: only its permissions are read, since
anybody may have changed them. If it is deregistered meanwhile, there is no release: before its manifest is in the
catalog, SSM must have taken the id of the image. The permissions are read as soon as all targets that use an image
have ended, while other copies are under way. But those can take hours longer. So what was read more than some minutes
ago is read again, all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from goldenami.aws import images, kms, snapshots, tags
from goldenami.aws.ledger import Ledger
from goldenami.aws.session import Cloud
from goldenami.each import Failures, each
from goldenami.errors import TargetsFailed
from goldenami.events import Emit, emit, ignore_events
from goldenami.model import Architecture, ManifestImage, ManifestSnapshot, Place, Protection, Target, timestamp
from goldenami.nextstep import step
from goldenami.release import targets as modes
from goldenami.release.distribute import Distributed, Placed, account_root
from goldenami.release.order import ReleaseOrder

Item = Mapping[str, Any]
_Reads = dict[Place | str, Callable[[], Any]]  # what to read of an id, or as a user
NOT_COMPARED: Final = "any"  # a boot mode that is not known
_MINUTE: Final = 60.0  # seconds; EC2 rounds the time of deprecation to the minute
_ROW: Final = ("ImageId", "Name", "Architecture", "BlockDeviceMappings")  # of an image, for ``manifest_row``
_SNAPSHOT_ROW: Final = ("VolumeSize", "Encrypted", "KmsKeyId")
_RECENT: Final = 300.0  # seconds for which a description and the grants in the journal are taken for what is there
_READS: Final = 4  # of one target at a time: many targets are read back at the same time
_MISSING, _NOT_VISIBLE = "missing", "not visible"  # a new resource may cause these values of a mismatch for a while


@dataclass(frozen=True, slots=True)
class Expected:
    """The expected image of one target and architecture.

    ``users``: exactly the accounts that may use the image, its snapshots and their key, without the owner.
    ``optional``: those of ``users`` whose best-effort target failed, so that they may lack a permission. ``tags``: the
    image may have more tags. ``organizations``: ARNs of organizations and organizational units that may launch the
    image.
    """

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
    boot_mode: str | None = NOT_COMPARED
    deprecate_at: datetime | None = None
    optional: frozenset[str] = frozenset()
    organizations: frozenset[str] = frozenset()
    volumes: Mapping[str, bool] = field(default_factory=dict)  # data volumes, as in ReleaseOrder
    protection: Protection | None = None  # from deregistration; ``verify`` is before it, so it does not compare it
    fast_restore: frozenset[str] = frozenset()  # zones; ``verify`` does not compare them either

    def allows(self, accounts: frozenset[str]) -> bool:
        """Return whether these accounts, and no others, may have a permission."""
        return self.users - self.optional <= accounts <= self.users


@dataclass(frozen=True, slots=True)
class Actual:
    """The image as it was read. The owner described ``image`` and ``snapshots``. ``image`` None: it is missing."""

    image: Item | None
    snapshots: Mapping[str, Item] = field(default_factory=dict)
    launch_permissions: frozenset[str] = frozenset()
    volume_permissions: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by snapshot id
    grantees: frozenset[str] = frozenset()  # principals that have a grant on the key with all that a launch takes
    seen_by_user: bool = False  # whether the user's describe shows the image

    @property
    def id(self) -> str:
        """The id of an image that is not missing."""
        assert self.image is not None
        return str(self.image["ImageId"])

    @property
    def behind(self) -> tuple[str, ...]:
        """The ids of the image's snapshots."""
        return snapshots.of_image(self.image) if self.image is not None else ()


@dataclass(frozen=True, slots=True)
class _Owned:
    """An image as its owner sees it, and how it differs from what all its users expect."""

    actual: Actual
    differences: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference. ``what``: the name of the attribute, for the user."""

    label: str
    architecture: Architecture
    what: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"{self.label} ({self.architecture}): {self.what} is {self.actual}, not {self.expected}"


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of a verification.

    ``images``: rows for the manifest, of the targets without a mismatch. ``failures``: label -> reason, for best-effort
    targets, including those that failed before.
    """

    images: tuple[ManifestImage, ...]
    mismatches: tuple[Mismatch, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


# --- expecting (pure) -------------------------------------------------------------------------------------------------


def expect(order: ReleaseOrder, placed: Placed, every_tag: Mapping[str, str], failed: Collection[str] = ()) -> Expected:
    """Return the expected image of an order. ``every_tag``: the tags of all resources of the build. ``failed``: the
    labels of best-effort targets without an image."""
    owner = order.owner(placed.target)
    users = order.users(owner)
    needed = users
    if failed:
        needed = replace(order, targets=tuple(t for t in order.targets if t.label not in failed)).users(owner)
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
        users=frozenset(users),
        optional=frozenset(users) - frozenset(needed),
        organizations=frozenset(order.organizations(owner)),
        tags=tags.checked({**every_tag, **order.image_tags, tags.NAME: name}),
        imds_v2=order.imds_v2,
        boot_mode=order.boot_modes.get(placed.architecture, NOT_COMPARED),
        deprecate_at=order.deprecate_at,
        volumes=order.volumes,
        protection=order.protection,
    )


# --- comparing (pure) -------------------------------------------------------------------------------------------------


def compare(expected: Expected, actual: Actual) -> tuple[Mismatch, ...]:
    """Return all differences, in the order of the attributes; empty if the image is as expected."""
    return _mismatches(expected, [*_owner_differences(expected, actual), *_user_differences(expected, actual)])


_Difference = tuple[str, str, str]


def _mismatches(expected: Expected, differences: Iterable[_Difference]) -> tuple[Mismatch, ...]:
    return tuple(Mismatch(expected.label, expected.architecture, *difference) for difference in differences)


def _owner_differences(expected: Expected, actual: Actual) -> Iterable[_Difference]:
    """Yield the differences that the owner sees. They are the same for all targets that use the image."""
    image = actual.image
    if image is None:
        yield f"image {expected.image_id}", "available", _MISSING
        return
    yield from _image_differences(expected, image)
    yield from _snapshot_differences(expected, actual, image)
    yield from _access_differences(expected, actual, image)


def _user_differences(expected: Expected, actual: Actual) -> Iterable[_Difference]:
    """Yield whether the account that uses an image of another account does not see it. Who may use its snapshots, the
    owner sees."""
    is_others = expected.user.account != expected.owner.account
    if is_others and actual.image is not None and not actual.seen_by_user:
        yield expected.image_id, f"visible to account {expected.user.account}", _NOT_VISIBLE


def _image_differences(expected: Expected, image: Item) -> Iterable[_Difference]:
    wanted = {
        "State": "available",
        "Name": expected.name,
        "OwnerId": expected.owner.account,
        "Architecture": expected.architecture,
        "RootDeviceType": "ebs",
        "VirtualizationType": "hvm",
        **({"ImdsSupport": "v2.0"} if expected.imds_v2 else {}),
        **({"BootMode": expected.boot_mode} if expected.boot_mode != NOT_COMPARED else {}),
    }
    words = {
        "Architecture": "architecture",
        "State": "state",
        "Name": "name",
        "OwnerId": "owner",
        "BootMode": "boot mode",
    }
    for attribute, value in wanted.items():
        if image.get(attribute) != value:
            yield words.get(attribute, attribute), value or "none", str(image.get(attribute) or "not set")
    roots = [m.get("DeviceName") for m in image.get("BlockDeviceMappings") or () if "Ebs" in m]
    if image.get("RootDeviceName") not in roots:
        yield "root device", f"one of {', '.join(map(str, roots)) or 'no devices'}", str(image.get("RootDeviceName"))
    yield from _volume_differences(expected, image)
    yield from _tag_differences("tag", expected.tags, image)
    if expected.deprecate_at is not None and not same_minute(expected.deprecate_at, image.get("DeprecationTime")):
        moment = timestamp(expected.deprecate_at)
        yield "deprecation time", moment, str(image.get("DeprecationTime") or "not set")


def _volume_differences(expected: Expected, image: Item) -> Iterable[_Difference]:
    found = {m.get("DeviceName"): m["Ebs"] for m in image.get("BlockDeviceMappings") or () if "Ebs" in m}
    for device, is_deleted in sorted(expected.volumes.items()):
        ebs = found.get(device, {})
        if not ebs.get("SnapshotId"):
            yield f"volume {device}", "in the image, with a snapshot", "missing"
        elif bool(ebs.get("DeleteOnTermination")) != is_deleted:
            yield f"DeleteOnTermination of {device}", str(is_deleted).lower(), str(not is_deleted).lower()


def _snapshot_differences(expected: Expected, actual: Actual, image: Item) -> Iterable[_Difference]:
    behind = snapshots.of_image(image)
    if not behind:
        yield "snapshots", "at least one", "none"
    for snapshot_id in behind:
        snapshot = actual.snapshots.get(snapshot_id)
        if snapshot is None:
            yield f"snapshot {snapshot_id}", "completed", _MISSING
            continue
        if snapshot.get("State") != "completed":
            yield f"state of {snapshot_id}", "completed", str(snapshot.get("State"))
        if not snapshot.get("Encrypted"):
            yield f"encryption of {snapshot_id}", "on", "off"
        elif snapshot.get("KmsKeyId") != expected.kms_key:
            yield f"key of {snapshot_id}", expected.kms_key, str(snapshot.get("KmsKeyId"))
        yield from _tag_differences(f"{snapshot_id}'s tag", expected.tags, snapshot)


def _access_differences(expected: Expected, actual: Actual, image: Item) -> Iterable[_Difference]:
    """Yield missing accounts, which could not use the image, and additional accounts, which must not use it."""
    launchers = actual.launch_permissions
    if not expected.allows(launchers - expected.organizations) or not expected.organizations <= launchers:
        yield "launch permission", _listed(expected.users | expected.organizations), _listed(launchers)
    for snapshot_id in snapshots.of_image(image):
        allowed = actual.volume_permissions.get(snapshot_id, frozenset())
        if not expected.allows(allowed):
            yield f"volume permission of {snapshot_id}", _listed(expected.users), _listed(allowed)
    for account in sorted(expected.users - expected.optional):
        root = account_root(expected.kms_key, account)
        if root not in actual.grantees:
            yield f"grant on {expected.kms_key}", f"given to {root}", _MISSING


def _tag_differences(what: str, expected: Mapping[str, str], item: Item) -> Iterable[_Difference]:
    actual = tags.from_list(item.get("Tags"))
    for key, value in sorted(expected.items()):
        if actual.get(key) != value:
            yield f"{what} {key}", repr(value), repr(actual[key]) if key in actual else _MISSING


def same_minute(expected: datetime, actual: object) -> bool:
    try:
        moment = datetime.fromisoformat(str(actual))
    except ValueError:
        return False
    return abs((expected.astimezone(UTC) - moment.astimezone(UTC)).total_seconds()) <= _MINUTE


def _listed(accounts: Collection[str]) -> str:
    return ", ".join(sorted(accounts)) or "empty"


# --- reading ----------------------------------------------------------------------------------------------------------


class Readings:
    """The images of an order that were as ordered when their copies ended, some minutes ago, without their permissions.
    Thread-safe.

    A build that an earlier process began has none: that may have been long ago.
    """

    def __init__(self, ledger: Ledger, order: ReleaseOrder) -> None:
        self._ledger = ledger
        self._order = order
        self._known: dict[str, tuple[float, Actual]] = {}  # by the image's id, with the time of the reading
        self._right: dict[str, tuple[float, list[ManifestImage]]] = {}  # by the target's label

    def take(self, placed: Placed, image: Item, behind: Mapping[str, Item]) -> None:
        """Take the description of an available image, and those of its snapshots, by id. The latter are from the time
        of the copy: EC2 makes an image available when its snapshots are completed, and their keys do not change."""
        if self._ledger.is_continued:
            return
        expected = expect(self._order, placed, self._ledger.tags)
        ids = snapshots.of_image(image)
        read: dict[str, Item] = {id: {**behind[id], "State": "completed"} for id in ids if id in behind}
        with Failures[str]().of(placed.image_id):  # an error comes again when all of it is read
            read |= snapshots.describe_many(self._ledger.cloud, expected.owner, [id for id in ids if id not in read])
        actual = Actual(image, read)
        differences = [*_image_differences(expected, image), *_snapshot_differences(expected, actual, image)]
        if not differences:
            self._known[placed.image_id] = (self._ledger.cloud.clock(), _for_the_row(actual))

    def read_back(self, group: Sequence[Placed], failed: Collection[str]) -> None:
        """Read the permissions of the images of one owner, when all targets that use them have ended, and look at them
        as each user. What is not right, and what cannot be read, is left to :func:`verify`.

        ``failed``: the labels of best-effort targets without these images.
        """
        if not all(placed.image_id in self._known for placed in group):
            return
        cloud, expected = self._ledger.cloud, [expect(self._order, one, self._ledger.tags, failed) for one in group]
        owner, since = expected[0].owner, cloud.clock()
        known = {one.image_id: self._known[one.image_id][1] for one in expected}
        users = sorted({one.user for one in expected if one.user.account != owner.account})
        reads: _Reads = {}
        for actual in known.values():
            reads |= _permission_reads(cloud, owner, actual)
        for user in users:
            reads[user] = partial(images.describe_many, cloud, user, list(known))
        answers = each(reads, lambda what: reads[what](), at_once=_READS)
        if answers.errors:
            return
        found = answers.results
        rows: dict[str, list[ManifestImage]] = {}
        grantees = self._grantees(owner, expected)
        for one in expected:
            actual = replace(
                _permitted(known[one.image_id], found),
                grantees=grantees.get(one.kms_key, frozenset()),
                seen_by_user=one.image_id in found.get(one.user, ()),
            )
            assert actual.image is not None
            if any(_access_differences(one, actual, actual.image)) or any(_user_differences(one, actual)):
                return
            rows.setdefault(one.label, []).append(_row(one, actual))
        since = min(since, *(self._known.pop(id)[0] for id in known))
        self._right |= {label: (since, every) for label, every in rows.items()}

    def right(self, label: str, ended: Collection[str]) -> list[ManifestImage] | None:
        """Return the rows of a target that was read back a short time ago, all of it right; None: it must be read.
        ``ended``: images that accounts lost since."""
        since, rows = self._right.get(label, (0.0, []))
        is_recent = since >= self._ledger.cloud.clock() - _RECENT
        return rows if rows and is_recent and not any(row.image_id in ended for row in rows) else None

    def _grantees(self, owner: Place, expected: Iterable[Expected]) -> dict[str, frozenset[str]]:
        """Return to whom this build granted what a launch takes, by key."""
        keys = {e.kms_key for e in expected if e.users}
        made = self._ledger.journal.resources("grant", owner) if keys else ()
        return {key: grantees_of(one.request for one in made if one.request["KeyId"] == key) for key in keys}

    def find(self, owner: Place, expected: Collection[Expected]) -> dict[str, Actual]:
        """Return the images of one place that were read a short time ago, with their permissions, which are read, and
        with the grants that this build created, by id."""
        cloud = self._ledger.cloud
        since = cloud.clock() - _RECENT
        read = {e.image_id: self._known.get(e.image_id) for e in expected}
        known = {id: one[1] for id, one in read.items() if one is not None and one[0] >= since}
        grantees = self._grantees(owner, expected)
        return {
            e.image_id: replace(_with_permissions(cloud, owner, actual), grantees=grantees.get(e.kms_key, frozenset()))
            for e in expected
            if (actual := known.get(e.image_id)) is not None
        }


def verify(
    ledger: Ledger,
    order: ReleaseOrder,
    distributed: Distributed,
    *,
    readings: Readings | None = None,
    ended: Mapping[str, frozenset[str]] = MappingProxyType({}),
    emit: Emit = ignore_events,
) -> Verified:
    """Read all targets in parallel and compare them with the order. Changes nothing.

    ``readings``: what the distribution has read. ``ended``: accounts that have just lost an image, by its id: their
    permissions may be seen for a while.
    A target fails if it has a mismatch or cannot be read. Raises TargetsFailed if a required target fails. Failed
    best-effort targets, and those of ``distributed.failures``, are listed in ``failures`` and have no rows.
    """
    by_target: dict[str, list[Placed]] = {}
    for placed in distributed.placed:
        by_target.setdefault(placed.target.label, []).append(placed)
    targets = {placed.target.label: placed.target for placed in distributed.placed}
    mismatches: list[Mismatch] = []
    rows: list[ManifestImage] = []
    failures = dict(distributed.failures)
    groups: dict[str, list[Expected]] = {
        label: [expect(order, placed, ledger.tags, distributed.failures) for placed in group]
        for label, group in by_target.items()
    }
    for label in list(groups):
        right = readings.right(label, ended) if readings is not None else None
        if right is not None:
            rows += right
            del groups[label]
    by_owner: dict[Place, list[Expected]] = {}
    for expected in groups.values():
        by_owner.setdefault(expected[0].owner, []).extend(expected)
    owned = each(by_owner, lambda owner: _read_owner(ledger.cloud, by_owner[owner], ended, readings))
    failures |= {label: owned.reasons[g[0].owner] for label, g in groups.items() if g[0].owner in owned.errors}
    readable = [label for label in groups if label not in failures]
    answers = each(
        readable, lambda label: _verify_target(ledger.cloud, groups[label], owned.results[groups[label][0].owner])
    )
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
            f"{len(failures)} of {len(order.targets)} targets differ from the release order: {', '.join(failures)}",
            failures=failures,
            hint=f"Nothing was published. Look in CloudTrail for the change of the images; then run {step('resume')}.",
        )
    return Verified(tuple(sorted(rows, key=_row_order)), tuple(mismatches), failures)


def _read_owner(
    cloud: Cloud,
    expected: Sequence[Expected],
    ended: Mapping[str, frozenset[str]],
    readings: Readings | None,
) -> dict[str, _Owned]:
    """Read the images of one place for all targets that use them, and compare them. Returns them by id.

    Of an image that is known by ``readings``, only the permissions are read. If they differ, all of it is read.
    An image from which something is missing, or that the accounts of ``ended`` can still use, and that is right
    otherwise, is read again: what is new may not be visible yet. Another image that differs does not end this.
    """
    unclear = {one.image_id: one for one in expected}
    owner = expected[0].owner
    found: dict[str, _Owned] = {}
    for id, actual in (readings.find(owner, unclear.values()) if readings is not None else {}).items():
        if actual.image is not None and not any(_access_differences(unclear[id], actual, actual.image)):
            found[id] = _Owned(actual, ())
            del unclear[id]
    late: dict[str, Expected] = {}
    for _ in cloud.rounds() if unclear else ():
        read = read_images(cloud, owner, sorted(unclear))
        # ListGrants needs a permission that a publisher without shared images does not need otherwise.
        keys = sorted({one.kms_key for one in unclear.values() if one.users})
        grantees = {key: grantees_of(kms.grants(cloud, owner, key)) for key in keys}
        for id, one in unclear.items():
            actual = replace(read[id], grantees=grantees.get(one.kms_key, frozenset()))
            found[id] = _Owned(_for_the_row(actual), tuple(_owner_differences(one, actual)))
            if found[id].differences and _may_be_late(one, actual, ended.get(id, frozenset())):
                late[id] = one
        unclear, late = late, {}
        if not unclear:
            break
    return found


def _for_the_row(actual: Actual) -> Actual:
    """Return an image with what a row of the manifest needs: thousands of whole descriptions would take most of the
    memory."""
    if actual.image is None:
        return actual
    image = {key: actual.image[key] for key in _ROW if key in actual.image}
    behind = {id: {key: one[key] for key in _SNAPSHOT_ROW if key in one} for id, one in actual.snapshots.items()}
    return replace(actual, image=image, snapshots=behind)


def _may_be_late(expected: Expected, actual: Actual, ended: frozenset[str]) -> bool:
    """Return whether all differences can be those of a new image that is right. ``ended``: accounts that have just
    lost it."""
    meanwhile = replace(expected, users=expected.users | ended, optional=expected.optional | ended)
    return all(found == _MISSING for _, _, found in _owner_differences(meanwhile, actual))


def _verify_target(
    cloud: Cloud, expected: Sequence[Expected], owned: Mapping[str, _Owned]
) -> tuple[list[ManifestImage], list[Mismatch]]:
    """Verify one target. ``owned``: the images of their owner. An account that uses the images of another one looks at
    them itself, again while something is missing."""
    actual = {one.image_id: owned[one.image_id].actual for one in expected}
    owner, user = expected[0].owner, expected[0].user
    wrong = [m for one in expected for m in _mismatches(one, owned[one.image_id].differences)]
    unseen: list[Mismatch] = []
    for _ in cloud.rounds() if user.account != owner.account else ():
        seen = images.describe_many(cloud, user, [id for id, one in actual.items() if one.image])
        unseen = []
        for one in expected:
            looked = replace(actual[one.image_id], seen_by_user=one.image_id in seen)
            unseen += _mismatches(one, _user_differences(one, looked))
        if not unseen:
            break
    wrong += unseen
    return [] if wrong else [_row(one, actual[one.image_id]) for one in expected], wrong


def read_images(cloud: Cloud, owner: Place, image_ids: Collection[str]) -> dict[str, Actual]:
    """Read images and their snapshots as their owner: one describe call for all images and one for all snapshots, and
    one for the permissions of each. Grants are not read."""
    found = images.describe_many(cloud, owner, image_ids)
    behind = {image_id: snapshots.of_image(image) for image_id, image in found.items()}
    read = snapshots.describe_many(cloud, owner, [id for ids in behind.values() for id in ids])
    actual = dict.fromkeys(image_ids, Actual(None))
    for image_id, image in found.items():
        own = {id: read[id] for id in behind[image_id] if id in read}
        actual[image_id] = _with_permissions(cloud, owner, Actual(image, own))
    return actual


def _with_permissions(cloud: Cloud, owner: Place, actual: Actual) -> Actual:
    """Return an image with the permissions on it and on its snapshots that were read, by one call for each."""
    return _permitted(actual, {id: read() for id, read in _permission_reads(cloud, owner, actual).items()})


def _permission_reads(cloud: Cloud, owner: Place, actual: Actual) -> _Reads:
    """Return what reads the permissions on an image and on its snapshots, by their ids: one call for each."""
    return {
        actual.id: partial(images.launch_permissions, cloud, owner, actual.id),
        **{id: partial(snapshots.volume_permissions, cloud, owner, id) for id in actual.snapshots},
    }


def _permitted(actual: Actual, found: Mapping[Place | str, Any]) -> Actual:
    """Return an image with the permissions that were read, by the ids of the image and of its snapshots."""
    return replace(
        actual,
        launch_permissions=found[actual.id],
        volume_permissions={id: found[id] for id in actual.snapshots},
    )


def grantees_of(grants: Iterable[Item]) -> frozenset[str]:
    """Return the principals of those grants of a key that allow all that a launch takes."""
    return frozenset(
        str(grant["GranteePrincipal"])
        for grant in grants
        if set(kms.LAUNCH_OPERATIONS) <= set(grant.get("Operations") or ())
    )


def _row(expected: Expected, actual: Actual) -> ManifestImage:
    image = actual.image
    assert image is not None  # compare() reports a missing image as a mismatch
    return manifest_row(image, actual.snapshots, expected.user, expected.mode, actual.launch_permissions)


def manifest_row(
    image: Mapping[str, Any],
    behind: Mapping[str, Mapping[str, Any]],
    user: Place,
    mode: str,
    launchers: Collection[str] = (),
) -> ManifestImage:
    """Return the row of a manifest for an image and its snapshots, as EC2 describes them.

    ``user``: the place that uses it. ``launchers``: who may launch it besides its owner.
    """
    devices = {m["Ebs"]["SnapshotId"]: m["DeviceName"] for m in image["BlockDeviceMappings"] if "Ebs" in m}
    rows = tuple(
        ManifestSnapshot(
            snapshot_id=id,
            device_name=str(devices[id]),
            volume_size_gib=int(snapshot["VolumeSize"]),
            encrypted=bool(snapshot["Encrypted"]),
            kms_key_id=snapshot.get("KmsKeyId"),
        )
        for id, snapshot in sorted(behind.items(), key=lambda item: (str(devices[item[0]]), item[0]))
    )
    return ManifestImage(
        architecture=image["Architecture"],
        account=user.account,
        region=user.region,
        image_id=str(image["ImageId"]),
        name=str(image["Name"]),
        mode=mode,
        encrypted=all(row.encrypted for row in rows),
        snapshots=rows,
        shared_with=tuple(sorted(launchers)) if modes.get_mode(mode).owns_image else (),
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
