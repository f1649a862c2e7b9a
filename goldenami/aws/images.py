"""Images: find a base, create, copy, share, and delete them with their snapshots.

A copied image does not have the launch permissions and tags of its source ("Copy an AMI", EC2 user guide), so each
image gets both here. For CreateImage, names must be unique in an account and region.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from goldenami.aws import parameters, snapshots, waiters
from goldenami.aws import tags as tagging
from goldenami.aws.kinds import kind_of
from goldenami.aws.ledger import Call, Ledger, OnWait
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Interval, Item, Observation, OnProgress
from goldenami.each import all_of
from goldenami.errors import CloudError, NameTaken, NotFound, UsageError
from goldenami.model import LONGEST_DESCRIPTION, Architecture, BaseDevice, BaseImage, Place, timestamp

_NAME_CHARACTERS: Final = re.compile(r"[^A-Za-z0-9()\[\] ./\-'@_]")
_NAME_LIMITS: Final = (3, 128)
_DUPLICATE: Final = "InvalidAMIName.Duplicate"
_TELLING: Final = (tagging.CATALOG, tagging.ENVIRONMENT, tagging.RECIPE, tagging.VERSION, tagging.BUILD_ID)
_TAGS_SHOWN: Final = 5


def valid_name(name: str) -> str:
    """Return a similar name that EC2 accepts: 3 to 128 letters, digits, spaces and ``()[]./-'@_`` (CreateImage).

    A long name is cut at its start, because the end contains the version. Raises UsageError if the name is too short.
    """
    shortest, longest = _NAME_LIMITS
    usable = _NAME_CHARACTERS.sub("-", name)[-longest:]
    if len(usable) < shortest:
        raise UsageError(f"image name {name!r} is too short, expected at least {shortest} characters")
    return usable


VISIBLE: Final = replace(waiters.IMAGES, classify=lambda _: ("ready", ""), kind="visible")

# --- reading ----------------------------------------------------------------------------------------------------------


def describe_many(cloud: Cloud, place: Place, ids: Collection[str]) -> dict[str, Item]:
    """Return the images of ``ids`` that are visible, as DescribeImages returns them. One call for up to 200 ids."""
    return waiters.describe(cloud, place, waiters.IMAGES, ids) if ids else {}


def own(cloud: Cloud, place: Place, filters: Mapping[str, Sequence[str]] | None = None) -> list[Item]:
    """Return the account's own images that match the filters, or all of them; deprecated and disabled ones too."""
    request: dict[str, Any] = {"Owners": ["self"], "IncludeDeprecated": True, "IncludeDisabled": True}
    if filters:
        request["Filters"] = [{"Name": k, "Values": list(v)} for k, v in filters.items()]
    return list(cloud.pages(place, "ec2", "DescribeImages", "Images", request))


def find_base(
    cloud: Cloud,
    place: Place,
    *,
    architecture: Architecture,
    filters: Mapping[str, Sequence[str]],
    owners: Sequence[str],
    include_deprecated: bool = False,
) -> BaseImage:
    """Return the newest available image that matches the filters of DescribeImages (``{"name": ["debian-12-*"]}``).

    Owners are account ids, "self", or AWS's aliases ("amazon"). The newest image has the latest creation date; among
    equal dates, the highest id. Raises NotFound, with the filters, if there is none.
    """
    query = {"state": ["available"], "architecture": [architecture], **{k: list(v) for k, v in filters.items()}}
    request: dict[str, Any] = {"Owners": list(owners), "Filters": [{"Name": k, "Values": v} for k, v in query.items()]}
    if include_deprecated:
        request["IncludeDeprecated"] = True
    found = sorted(
        cloud.pages(place, "ec2", "DescribeImages", "Images", request),
        key=lambda i: (i.get("CreationDate", ""), i["ImageId"]),
    )
    text = ", ".join(f"{k} {' or '.join(v)}" for k, v in filters.items()) or "any name"
    if not found:
        raise NotFound(
            f"no {architecture} image owned by {', '.join(owners)} in {place} matches {text}",
            hint="Run `aws ec2 describe-images` with the same filter and owner to check them.",
        )
    return base_image(found[-1], f"filter {text}")


def base_by_id(
    cloud: Cloud,
    place: Place,
    image_id: str,
    *,
    architecture: Architecture | None = None,
    source: str | None = None,
    hint: str = "Image ids differ in each region. Use a filter or an SSM parameter, which work in every region.",
) -> BaseImage:
    """Return a base by its id. Raises NotFound if it does not exist, is not available, or has another architecture.
    ``architecture``: None is any. ``hint``: for an image that does not exist."""
    image = describe_many(cloud, place, [image_id]).get(image_id)
    if image is None:
        raise NotFound(
            f"image {image_id} does not exist in {place}, or is not shared with it",
            hint=hint,
        )
    if image.get("State") != "available":
        raise NotFound(f"image {image_id} in {place} has the state {image.get('State')}, expected available")
    if architecture is not None and image.get("Architecture") != architecture:
        found = image.get("Architecture")
        raise NotFound(f"image {image_id} in {place} has the architecture {found}, expected {architecture}")
    return base_image(image, source or f"id {image_id}")


def base_by_parameter(cloud: Cloud, place: Place, name: str, *, architecture: Architecture) -> BaseImage:
    """Return the base whose id is in an SSM parameter, as vendors publish them. Raises NotFound."""
    image_id = parameters.get(cloud, place, name)
    return base_by_id(cloud, place, image_id, architecture=architecture, source=f"parameter {name}")


def base_image(image: Item, source: str) -> BaseImage:
    """Convert an entry of DescribeImages into a base. ``source``: how it was found, as text."""
    root = image.get("RootDeviceName") or "/dev/xvda"
    sizes = {m.get("DeviceName"): m["Ebs"].get("VolumeSize", 0) for m in image["BlockDeviceMappings"] if "Ebs" in m}
    return BaseImage(
        image_id=image["ImageId"],
        name=image.get("Name", ""),
        owner=image.get("OwnerId", ""),
        architecture=image["Architecture"],
        root_device_name=root,
        root_volume_gib=int(sizes.get(root) or next(iter(sizes.values()), 0)),
        creation_date=str(image.get("CreationDate", "")),
        source=source,
        platform_details=image.get("PlatformDetails") or "Linux/UNIX",
        boot_mode=image.get("BootMode"),
        devices=tuple(
            BaseDevice(
                m["DeviceName"],
                m["Ebs"].get("SnapshotId"),
                bool(m["Ebs"].get("Encrypted")),
                int(m["Ebs"].get("VolumeSize") or 0),
                bool(m["Ebs"].get("DeleteOnTermination", True)),
            )
            for m in image["BlockDeviceMappings"]
            if "Ebs" in m
        ),
    )


def launch_permissions(cloud: Cloud, place: Place, image_id: str) -> frozenset[str]:
    """Return who may launch an image besides its owner: account ids, ARNs of organizations and units, "all" for all
    accounts."""
    request = {"ImageId": image_id, "Attribute": "launchPermission"}
    answer = cloud.call(place, "ec2", "DescribeImageAttribute", request)
    fields = ("UserId", "Group", "OrganizationArn", "OrganizationalUnitArn")
    return frozenset(p[f] for p in answer.get("LaunchPermissions") or () for f in fields if p.get(f))


# --- creating ---------------------------------------------------------------------------------------------------------


def create(
    ledger: Ledger,
    key: str,
    place: Place,
    *,
    instance_id: str,
    name: str,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    no_reboot: bool = False,
    boot_mode: str | None = None,
    kept_devices: Sequence[str] = (),
    temporary: bool = False,
) -> str:
    """Ensure that an instance was captured. Return the image's id at once, while the image is pending.

    EC2 shuts a running instance down first, unless ``no_reboot``. ``name`` must be unique in the account and region.
    ``boot_mode``: "uefi" is the only override that EC2 has, and only for an instance that booted by UEFI.
    ``kept_devices``: the devices whose volumes outlive the instances of the image.
    """
    request: dict[str, Any] = {"InstanceId": instance_id, "Name": valid_name(name), "NoReboot": no_reboot}
    if description:
        request["Description"] = description[:LONGEST_DESCRIPTION]
    if boot_mode is not None:
        request["BootModeOverride"] = boot_mode
    if kept_devices:
        kept = {"DeleteOnTermination": False}
        request["BlockDeviceMappings"] = [{"DeviceName": device, "Ebs": kept} for device in kept_devices]
    call = Call("ec2", "CreateImage", request)
    _make_room(ledger, key)
    with name_refused(ledger, place, request["Name"]):
        return ledger.create(key, "image", place, call, name=name, tags=tags, temporary=temporary)


def copy(
    ledger: Ledger,
    key: str,
    place: Place,
    *,
    source_image_id: str,
    source_region: str,
    name: str,
    kms_key: str,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    temporary: bool = False,
    on_wait: OnWait | None = None,
) -> str:
    """Ensure that a place has its own encrypted copy. Return the image's id at once, while the image is pending.

    ``kms_key``: the ARN of a key in the destination (``kms.resolve``). It is always sent: without it EC2 uses the
    default key without a warning, and its snapshots cannot be shared. With a wrong key the copy fails later, in
    ``wait``. To copy into another account, first share the source and its snapshots with that account. If too many
    copies run in the place, this waits, maybe for hours; ``on_wait`` is called then (see ``ledger.OnWait``).
    """
    request: dict[str, Any] = {
        "SourceImageId": source_image_id,
        "SourceRegion": source_region,
        "Name": valid_name(name),
        "Encrypted": True,
        "KmsKeyId": kms_key,
    }
    if description:
        request["Description"] = description[:LONGEST_DESCRIPTION]
    call = Call("ec2", "CopyImage", request)
    _make_room(ledger, key)
    with name_refused(ledger, place, request["Name"]):
        return ledger.create(key, "image", place, call, name=name, tags=tags, temporary=temporary, on_wait=on_wait)


@contextmanager
def name_refused(ledger: Ledger, place: Place, name: str) -> Iterator[None]:
    """Raise NameTaken if EC2 refuses a name because another image has it.

    If no image has the name any more, or only one that this build deletes, the error of EC2 stays: the name of a
    deregistered image is free after some time ("InvalidAMIName.Duplicate", error codes of EC2), so another try may
    succeed.
    """
    try:
        yield
    except CloudError as error:
        if error.code != _DUPLICATE:
            raise
        mine = ledger.journal.build_id
        held = own(ledger.cloud, place, {"name": [name]})
        others = [image for image in held if tagging.from_list(image.get("Tags")).get(tagging.BUILD_ID) != mine]
        if not others:
            raise
        raise NameTaken(
            f"{error.action} in {place}: the name {name} is taken by {describe_holder(others[0])}",
            code=error.code,
            action=error.action,
            account=place.account,
            region=place.region,
            hint="A repeated call is refused, too. A new build looks for free names before it launches anything.",
        ) from error


def describe_holder(image: Item) -> str:
    """Describe the image that has a name, as text: id, owner, time of creation, and the tags that tell who made it."""
    every = tagging.from_list(image.get("Tags"))
    ours = {key.removeprefix(tagging.PREFIX): value for key, value in every.items() if key in _TELLING}
    shown = ours or dict(sorted(every.items())[:_TAGS_SHOWN])
    listed = ", ".join(f"{key} {value}" for key, value in shown.items()) or "none"
    kind = "tags" if ours else "not made by goldenami; tags"
    return (
        f"image {image['ImageId']} of account {image.get('OwnerId')}, created {str(image.get('CreationDate'))[:10]} "
        f"({kind}: {listed})"
    )


def _make_room(ledger: Ledger, key: str) -> None:
    """Delete the failed image of an earlier attempt, because it still has the name."""
    failed = ledger.spoiled_resource(key)
    if failed is not None:
        delete(ledger, failed.place, failed.id)


def wait(
    ledger: Ledger,
    place: Place,
    ids: Collection[str],
    *,
    on_progress: OnProgress | None = None,
    timeout: float | None = None,
    interval: Interval = waiters.STANDARD,
    check: Callable[[], None] | None = None,
    is_new: bool = False,
) -> dict[str, Observation]:
    """Wait until every image is available or has failed. Return the last observation of each. Each round makes one
    describe call for up to 200 images.

    A failed image is marked as spoiled in the journal: the next ``create`` or ``copy`` of its key tries again, and the
    clean-up deletes the failed image. ``on_progress`` gets percentages from the images' snapshots. ``timeout``,
    ``check`` and ``is_new``: see ``waiters.Watch``.
    """
    seen = waiters.Watch(
        ledger.cloud,
        place,
        waiters.IMAGES,
        ids,
        on_progress=on_progress,
        percent=_percentages(ledger.cloud, place),
        timeout=timeout,
        interval=interval,
        is_new=is_new,
    ).until_ready(check)
    note(ledger, place, seen.values())
    return seen


def watch_copies(
    ledger: Ledger,
    place: Place,
    ids: Collection[str],
    *,
    on_progress: OnProgress,
    is_new: bool,
    behind: dict[str, Item] | None = None,
    forecast: waiters.Forecast | None = None,
) -> waiters.Watch:
    """Return the wait for copies, for a caller that looks itself, and then calls :func:`note`. ``is_new``: all of them
    were created just now. ``behind``: gets the snapshots behind them that the wait reads, by id. ``forecast``: of the
    copies of the same images into the region."""
    percent = _percentages(ledger.cloud, place, behind)
    return waiters.Watch(
        ledger.cloud,
        place,
        waiters.COPIES,
        ids,
        on_progress=on_progress,
        percent=percent,
        is_new=is_new,
        forecast=forecast,
    )


def note(ledger: Ledger, place: Place, seen: Iterable[Observation]) -> None:
    """Record what a wait for images has found: their snapshots, which are new, and the images that failed."""
    for one in seen:
        if one.item:  # empty if it is not visible
            _learn_snapshots(ledger, place, one.item)
        if one.readiness == "failed":
            ledger.spoil("image", place, one.id, one.reason)


def _percentages(cloud: Cloud, place: Place, read: dict[str, Item] | None = None) -> waiters.Percentages:
    def percentages(ids: Collection[str], waiting: Sequence[Item]) -> dict[str, float]:
        """Return the progress of the snapshots behind each image. One that is not in progress is left out."""
        listed = dict.fromkeys(ids, ()) | {str(image["ImageId"]): snapshots.of_image(image) for image in waiting}
        found = snapshots.describe_many(cloud, place, {s for every in listed.values() for s in every})
        behind = {image: [found[s] for s in every if s in found] for image, every in listed.items() if every}
        unlisted = [image for image, every in listed.items() if not every]
        behind |= snapshots.of_pending(cloud, place, unlisted) if unlisted else {}
        if read is not None:
            read.update((str(item["SnapshotId"]), item) for every in behind.values() for item in every)
        known = {
            image: [waiters.progress_percent(item.get("Progress")) or 0.0 for item in every]
            for image, every in behind.items()
            if all(waiters.state_of(item) != "error" for item in every)
        }
        return {image: sum(values) / len(values) for image, values in known.items() if values}

    return percentages


# --- changing ---------------------------------------------------------------------------------------------------------


def share(
    ledger: Ledger,
    key: str,
    place: Place,
    image_id: str,
    *,
    accounts: Collection[str] = (),
    organizations: Collection[str] = (),
    image: Item | None = None,
) -> None:
    """Ensure that consumers may launch an image, and that accounts may create volumes of its snapshots, which they need
    to copy it. ``image``: its description with its snapshots, if the caller has it.

    ``organizations``: ARNs of organizations and organizational units; snapshots cannot be shared with them. For an
    encrypted image the accounts also need a grant on the key (``kms.create_grant``).
    """
    image = image or _look(ledger, place, image_id)
    if image is None:
        raise NotFound(f"image {image_id} does not exist in {place}")
    works: list[Callable[[], None]] = []
    if accounts or organizations:
        launchers = (*accounts, *organizations)
        works.append(partial(change_launchers, ledger, f"{key}/launch", place, image_id, add=launchers))
    for snapshot_id in snapshots.of_image(image) if accounts else ():
        works.append(partial(snapshots.share, ledger, f"{key}/{snapshot_id}", place, snapshot_id, accounts))
    all_of(works, lambda work: work())


def change_launchers(
    ledger: Ledger, key: str, place: Place, image_id: str, *, add: Collection[str] = (), remove: Collection[str] = ()
) -> None:
    """Ensure that some may launch an image, and that others may not: account ids, ARNs of organizations and units,
    "all" for all accounts. The permissions on its snapshots stay."""
    changes = {"Add": [_permission(one) for one in sorted(add)], "Remove": [_permission(one) for one in sorted(remove)]}
    request = {"ImageId": image_id, "LaunchPermission": {name: found for name, found in changes.items() if found}}
    call = Call("ec2", "ModifyImageAttribute", request)
    ledger.change(key, place, call, resource=image_id, kind="permission")


def _permission(who: str) -> dict[str, str]:
    """Return a launch permission in the form of API calls."""
    if who == "all":
        return {"Group": who}
    if not who.startswith("arn:"):
        return {"UserId": who}
    return {"OrganizationalUnitArn" if is_unit(who) else "OrganizationArn": who}


def is_unit(arn: str) -> bool:
    """Return whether an ARN names an organizational unit, and not an organization."""
    return arn.split(":", 5)[-1].startswith("ou/")


def unshare(ledger: Ledger, key: str, place: Place, image_id: str, accounts: Collection[str]) -> None:
    """Ensure that accounts may no longer launch an image or create volumes of its snapshots."""
    change_launchers(ledger, f"{key}/launch", place, image_id, remove=accounts)
    image = _look(ledger, place, image_id)
    for snapshot_id in snapshots.of_image(image) if image is not None else ():
        snapshots.unshare(ledger, f"{key}/{snapshot_id}", place, snapshot_id, accounts)


def require_imds_v2(ledger: Ledger, key: str, place: Place, image_id: str) -> None:
    """Ensure that instances of an image use IMDSv2 only, unless their launch sets another value. This cannot be
    undone."""
    request = {"ImageId": image_id, "ImdsSupport": {"Value": "v2.0"}}
    ledger.change(key, place, Call("ec2", "ModifyImageAttribute", request), resource=image_id, kind="attribute")


def deprecate(ledger: Ledger, key: str, place: Place, image_id: str, at: datetime) -> None:
    """Ensure that an image is deprecated from a time on. EC2 rounds it to the minute, and allows ten years at most."""
    request = {"ImageId": image_id, "DeprecateAt": timestamp(at)}
    ledger.change(key, place, Call("ec2", "EnableImageDeprecation", request), resource=image_id, kind="attribute")


def undeprecate(ledger: Ledger, key: str, place: Place, image_id: str) -> None:
    """Ensure that an image is not deprecated, now and later."""
    call = Call("ec2", "DisableImageDeprecation", {"ImageId": image_id})
    ledger.change(key, place, call, resource=image_id, kind="attribute")


def protect(ledger: Ledger, key: str, place: Place, image_id: str, *, cooldown: bool) -> None:
    """Ensure that EC2 refuses to deregister an image; with a ``cooldown``, also for 24 hours after ``unprotect``."""
    call = Call("ec2", "EnableImageDeregistrationProtection", {"ImageId": image_id, "WithCooldown": cooldown})
    ledger.change(key, place, call, resource=image_id, kind="attribute")


def unprotect(ledger: Ledger, key: str, place: Place, image_id: str) -> None:
    """Ensure that an image is not protected from deregistration. A cooldown starts now, if the image has one."""
    call = Call("ec2", "DisableImageDeregistrationProtection", {"ImageId": image_id})
    ledger.change(key, place, call, resource=image_id, kind="attribute")


# --- deleting ---------------------------------------------------------------------------------------------------------


def delete(ledger: Ledger, place: Place, image_id: str) -> None:
    """Ensure that an image and its snapshots are deleted.

    The ids of the snapshots are first written to the journal, so that a later run finds them if this process is killed.
    Then the image is deregistered, and the snapshots are deleted one by one. If the image is not visible, this waits as
    long as a new image may be invisible, since only the image has the ids of its snapshots.
    """
    if ledger.is_deleted(place, image_id):
        behind = _noted(ledger, place, image_id)
    else:
        behind = _noted(ledger, place, image_id)
        image = None if behind else _look(ledger, place, image_id, also_unknown=True)
        if image is not None and (behind := snapshots.of_images(ledger.cloud, place, [image])[image_id]):
            ledger.journal.note(
                "image.delete", account=place.account, region=place.region, image=image_id, snapshots=list(behind)
            )
        ledger.delete("image", place, image_id)
    # A describe may not show new snapshots, so each one is deleted without a check before.
    for snapshot_id in behind:
        if not ledger.is_deleted(place, snapshot_id):
            snapshots.delete(ledger, place, snapshot_id)


def _look(ledger: Ledger, place: Place, image_id: str, *, also_unknown: bool = False) -> Item | None:
    """Return an image. Waits while it may be too new to be visible; its snapshots are as new. ``also_unknown``: waits
    also if it is not known when it was created."""

    def find() -> Item | None:
        return describe_many(ledger.cloud, place, [image_id]).get(image_id)

    image = ledger.look(kind_of("image"), place, image_id, find, also_unknown=also_unknown)
    if image is not None and ledger.cloud.recent.seconds_left(place, image_id):
        _learn_snapshots(ledger, place, image)
    return image


def _learn_snapshots(ledger: Ledger, place: Place, image: Item) -> None:
    """Record that the snapshots of an image are new: the call that created the image returned only its id."""
    for snapshot_id in snapshots.of_images(ledger.cloud, place, [image])[str(image["ImageId"])]:
        ledger.cloud.recent.created(
            place, snapshot_id, kind_of("snapshot").codes_while_new(), within=ledger.cloud.patience.known
        )


def _noted(ledger: Ledger, place: Place, image_id: str) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    for note in ledger.journal.notes:
        data = note["data"]
        if note["name"] == "image.delete" and (data["account"], data["region"], data["image"]) == (
            place.account,
            place.region,
            image_id,
        ):
            found = tuple(data["snapshots"])
    return found
