"""The base of all actions: the store and its lock, the clock, the node, the rest of the cloud, and lookups.

An action is a function ``(cloud, ctx, params) -> answer``, called with ``cloud.lock`` held. It checks the request,
changes the store and answers at once. It gives slow work to ``cloud.work``, whose tasks take the lock only to read and
record. An action that must wait for such a task (for example until a point in time is taken) returns ``Reply``.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from goldenami_sandbox import organizations
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.hooks import Hooks
from goldenami_sandbox.ec2.records import Image, ImageCriterion, Instance, Progress, Resource, Snapshot, Token, Volume
from goldenami_sandbox.ec2.store import Store
from goldenami_sandbox.ec2.work import Work
from goldenami_sandbox.node.api import Node
from goldenami_sandbox.settings import Settings

R = TypeVar("R", bound=Resource)
_DAY = 86400.0


@dataclass(slots=True)
class Reply:
    """An answer that is sent after the tasks of ``after`` have ended."""

    answer: dict[str, Any]
    after: list[Future[None]] = field(default_factory=list)


Action = Callable[["Ec2Cloud", Ctx, Mapping[str, Any]], "dict[str, Any] | Reply"]


class Ec2Cloud:
    def __init__(self, node: Node, clock: Callable[[], float], hooks: Hooks, settings: Settings) -> None:
        self.node = node
        self.clock = clock
        self.hooks = hooks
        self.settings = settings
        self.store = Store()
        self.lock = threading.RLock()
        self.work = Work()
        self.ending: list[Instance] = []  # gone from the node; they keep their volumes until they are terminated
        self._readers: Counter[str] = Counter()
        self._to_delete: set[str] = set()
        self._lent: dict[tuple[str, str], float] = {}  # (image or snapshot, account or "all") -> effective from

    # --- time ---------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self.clock()

    def require_room(self, size: int = 0) -> None:
        """Raise Ec2Error if the storage of this machine has no room for ``size`` more bytes."""
        free = self.node.space().free
        if size > free or not free:
            raise Ec2Error(
                "InsufficientVolumeCapacity",
                "There is not enough capacity to fulfill your EBS volume provision request: the sandbox needs "
                f"{size >> 20} MiB, and its disk has {free >> 20} MiB left.",
                500,
            )

    def progress(self, seconds: float, *, done: bool = False) -> Progress:
        now = self.now()
        return Progress(now, now + seconds, done=done)

    def birth(self, ctx: Ctx, tags: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the fields that every new resource of the caller has, without the id."""
        now = self.now()
        return {
            "owner": ctx.account,
            "region": ctx.region,
            "created": now,
            "visible_from": now + self.settings.visibility_delay,
            "tags": dict(tags or {}),
            "others_tags": {},
        }

    # --- lookups ------------------------------------------------------------------------------------------------------

    def is_visible(self, resource: Resource, ctx: Ctx) -> bool:
        """Return whether describe calls in this region contain the resource already."""
        return self.is_known(resource, ctx.region)

    def visible_resources(self, table: Mapping[str, R], ctx: Ctx) -> list[R]:
        """Return the caller's resources in this region that describe calls contain."""
        return [r for r in table.values() if r.owner == ctx.account and self.is_visible(r, ctx)]

    def select(self, prefix: str, table: Mapping[str, R], ctx: Ctx, ids: Iterable[str] | None) -> list[R]:
        """Return the caller's resources with these ids, or all without ids. Raises Malformed or NotFound."""
        mine = self.known_resources(table, ctx)
        return select_resources(prefix, ids, mine) if ids else list(mine.values())

    def known_resources(self, table: Mapping[str, R], ctx: Ctx) -> dict[str, R]:
        """Return the caller's resources in this region by id, as calls that name their ids find them."""
        return {r.id: r for r in self.visible_resources(table, ctx)}

    def owned_resources(self, table: Mapping[str, R], ctx: Ctx) -> dict[str, R]:
        """Return the caller's resources in this region by id, also those that describe calls do not contain yet."""
        return {r.id: r for r in table.values() if r.owner == ctx.account and r.region == ctx.region}

    def is_known(self, resource: Resource, region: str) -> bool:
        """Return whether calls of this region that name the resource find it already, changes included (EC2 developer
        guide, "Eventual consistency")."""
        return resource.region == region and resource.visible_from <= self.now()

    def image(self, ctx: Ctx, image_id: str, region: str | None = None) -> Image:
        """Return an image that the caller may use, in any state. Raises InvalidAMIID.*, and AuthFailure for an image of
        another account that is not shared with the caller.
        """
        check_id("ami", image_id)
        image = self.store.images.get(image_id)
        if image is None or not self.is_known(image, region or ctx.region):
            raise not_found("ami", [image_id])
        if image.owner != ctx.account and not self.is_shared(ctx.account, image):
            raise Ec2Error("AuthFailure", f"Not authorized for images: [{image_id}]", 403)
        if not self.may_see_image(ctx.account, image):
            raise not_found("ami", [image_id])
        return image

    def own_image(self, ctx: Ctx, image_id: str) -> Image:
        """Return an image of the caller. Raises AuthFailure for another account's image."""
        check_id("ami", image_id)
        image = self.store.images.get(image_id)
        if image is None or not self.is_known(image, ctx.region):
            raise not_found("ami", [image_id])
        if image.owner != ctx.account:
            raise Ec2Error("AuthFailure", f"Not authorized for image:{image_id}", 403)
        return image

    def may_see_image(self, account: str, image: Image) -> bool:
        """Return whether the account owns or may launch the image."""
        return image.owner == account or (self.is_shared(account, image) and self._allows_image(account, image))

    def is_shared(self, account: str, image: Image) -> bool:
        """Return whether the account may launch the image of another account, if its own settings allow it."""
        permitted = self._admits(image.id, account, public=image.public, users=image.users)
        return not image.disabled and (permitted or self.shared_with_organization(account, image))

    def lend(self, resource_id: str, user: str) -> None:
        """Record that an image or snapshot was shared now. ``user``: an account, the ARN of an organization or unit, or
        "all". It takes effect as late as a new resource becomes visible.
        """
        self._lent[resource_id, user] = self.now() + self.settings.visibility_delay

    def _admits(self, resource_id: str, account: str, *, public: bool, users: Iterable[str]) -> bool:
        shared = [user for user, is_shared in (("all", public), (account, account in users)) if is_shared]
        return any(self._is_effective(resource_id, user) for user in shared)

    def _is_effective(self, resource_id: str, user: str) -> bool:
        now = self.now()
        return self._lent.get((resource_id, user), now) <= now

    def _allows_image(self, account: str, image: Image) -> bool:
        """Return whether the account's Allowed AMIs settings let it see and launch an image of another account."""
        settings = self.store.allowed_images.get(f"{account}/{image.region}")
        return settings is None or settings.state != "enabled" or self.matches_criteria(account, image)

    def matches_criteria(self, account: str, image: Image) -> bool:
        """Return whether the account owns an image, or its criteria for images match it, even if not enabled."""
        settings = self.store.allowed_images.get(f"{account}/{image.region}")
        if image.owner == account or settings is None or not settings.criteria:
            return True
        return any(_matches(one, image, self.now()) for one in settings.criteria)

    def shared_with_organization(self, account: str, image: Image) -> bool:
        """Return whether the account may launch the image by its organization or one of its organizational units."""
        arns = (*image.organizations, *image.organizational_units)
        return any(
            organizations.admits(self.settings.organizations, arn, account) and self._is_effective(image.id, arn)
            for arn in arns
        )

    def own_snapshot(self, ctx: Ctx, snapshot_id: str) -> Snapshot:
        snapshot = self.readable_snapshot(ctx, snapshot_id)
        if snapshot.owner != ctx.account:
            raise Ec2Error("AuthFailure", f"Not authorized for snapshot:{snapshot_id}", 403)
        return snapshot

    def readable_snapshot(self, ctx: Ctx, snapshot_id: str, region: str | None = None) -> Snapshot:
        """Return a snapshot, in any state, from which the caller may create volumes."""
        check_id("snap", snapshot_id)
        snapshot = self.store.snapshots.get(snapshot_id)
        if snapshot is None or not self.is_known(snapshot, region or ctx.region):
            raise not_found("snap", [snapshot_id])
        if not self.may_read_snapshot(ctx.account, snapshot):
            raise not_found("snap", [snapshot_id])
        return snapshot

    def may_read_snapshot(self, account: str, snapshot: Snapshot) -> bool:
        if snapshot.owner == account:
            return True
        public = snapshot.public and self.public_access(snapshot.owner, snapshot.region) != "block-all-sharing"
        return self._admits(snapshot.id, account, public=public, users=snapshot.users)

    def volume(self, ctx: Ctx, volume_id: str) -> Volume:
        return self._own("vol", self.store.volumes, ctx, volume_id)

    def instance(self, ctx: Ctx, instance_id: str) -> Instance:
        return self._own("i", self.store.instances, ctx, instance_id)

    def _own(self, prefix: str, table: Mapping[str, R], ctx: Ctx, resource_id: str) -> R:
        check_id(prefix, resource_id)
        found = table.get(resource_id)
        if found is None or found.owner != ctx.account or not self.is_known(found, ctx.region):
            raise not_found(prefix, [resource_id])
        return found

    def volumes_of(self, instance: Instance) -> list[Volume]:
        """Return attached volumes, the root volume first."""
        attached = [v for v in self.store.volumes.values() if v.attachment and v.attachment.instance_id == instance.id]
        return sorted(attached, key=lambda v: (_device(v) != instance.root_device_name, _device(v)))

    def root_volume(self, instance: Instance) -> Volume | None:
        return next((v for v in self.volumes_of(instance) if _device(v) == instance.root_device_name), None)

    def public_access(self, account: str, region: str) -> str:
        """Return the account's block on public snapshots in a region. The default is "unblocked"."""
        return self.store.public_access.get(f"{account}/{region}", "unblocked")

    def images_block(self, account: str, region: str) -> str:
        """Return the account's block on public images in a region. New accounts have it (EC2 User Guide)."""
        return self.store.images_block.get(f"{account}/{region}", "block-new-sharing")

    def images_using(self, snapshot_id: str) -> list[Image]:
        return [image for image in self.store.images.values() if snapshot_id in image.snapshot_ids]

    # --- idempotency --------------------------------------------------------------------------------------------------

    def token_key(self, ctx: Ctx, action: str, token: str) -> str:
        return f"{ctx.account}/{ctx.region}/{action}/{token}"

    def earlier_ids(self, ctx: Ctx, action: str, params: Mapping[str, Any]) -> list[str] | None:
        """Return the ids that an earlier request with this ClientToken created, or None for the first request.

        Raises IdempotentParameterMismatch if the earlier request had other parameters.
        """
        token = params.get("ClientToken")
        if not token:
            return None
        if len(token) > 64:
            raise Ec2Error("InvalidParameterValue", "ClientToken is limited to 64 characters.")
        known = self.store.tokens.get(self.token_key(ctx, action, token))
        if known is None:
            return None
        if known.digest != digest(params):
            raise Ec2Error(
                "IdempotentParameterMismatch",
                f"Arguments on this idempotent request are inconsistent with arguments used in previous request(s) "
                f"with the same client token ({token}).",
            )
        return known.ids

    def remember(self, ctx: Ctx, action: str, params: Mapping[str, Any], ids: Iterable[str]) -> None:
        token = params.get("ClientToken")
        if token:
            self.store.tokens[self.token_key(ctx, action, token)] = Token(digest(params), list(ids))

    # --- snapshots that are being read --------------------------------------------------------------------------------

    def pin(self, snapshot_ids: Iterable[str]) -> None:
        """Keep the contents of snapshots until ``unpin``, even if they are deleted meanwhile (as on AWS)."""
        with self.lock:
            self._readers.update(snapshot_ids)

    def unpin(self, snapshot_ids: Iterable[str]) -> None:
        with self.lock:
            ids = list(snapshot_ids)
            self._readers.subtract(ids)
            for snapshot_id in {i for i in ids if self._readers[i] <= 0}:
                del self._readers[snapshot_id]
                if snapshot_id in self._to_delete:
                    self._to_delete.discard(snapshot_id)
                    self._drop(snapshot_id)

    def known_contents(self) -> set[str]:
        """Return the ids of volumes and snapshots whose contents are needed. Call it with the lock held."""
        kept = self.store
        return {*kept.volumes, *kept.snapshots, *kept.binned_snapshots, *self._readers, *self._to_delete}

    def drop_contents(self, snapshot_id: str) -> None:
        """Delete a snapshot's contents as soon as no task reads them."""
        with self.lock:
            if self._readers.get(snapshot_id):
                self._to_delete.add(snapshot_id)
            else:
                self._drop(snapshot_id)

    def _drop(self, snapshot_id: str) -> None:
        self.work.submit(snapshot_id, lambda: self.node.delete_snapshot(snapshot_id))

    @contextmanager
    def recording(self, *progresses: Progress) -> Iterator[None]:
        """Record any error of the block as the failure of ``progresses``, and raise it again."""
        try:
            yield
        except Exception as error:
            with self.lock:
                for progress in progresses:
                    progress.fail(str(error) or type(error).__name__)
            raise


def _matches(one: ImageCriterion, image: Image, now: float) -> bool:
    if one.providers and not {image.owner, image.owner_alias} & set(one.providers):
        return False
    if one.names and not any(fnmatchcase(image.name, pattern) for pattern in one.names):
        return False
    if one.created_within_days is not None and now - image.created > one.created_within_days * _DAY:
        return False
    if one.deprecated_within_days is not None and image.deprecation is not None:
        return now - image.deprecation <= one.deprecated_within_days * _DAY
    return True


def _device(volume: Volume) -> str:
    return volume.attachment.device if volume.attachment else ""


def digest(params: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(params, sort_keys=True, default=str).encode()).hexdigest()


# --- ids --------------------------------------------------------------------------------------------------------------

_ID = re.compile(r"(?:[0-9a-f]{8}|[0-9a-f]{17})")
# The two error codes of each kind, which follow no pattern, and the name of its ids in messages.
_CODES = {
    "ami": ("InvalidAMIID.Malformed", "InvalidAMIID.NotFound", "image id"),
    "snap": ("InvalidSnapshotID.Malformed", "InvalidSnapshot.NotFound", "snapshot"),
    "vol": ("InvalidVolumeID.Malformed", "InvalidVolume.NotFound", "volume"),
    "i": ("InvalidInstanceID.Malformed", "InvalidInstanceID.NotFound", "instance ID"),
    "replacevol": (
        "InvalidReplaceRootVolumeTaskId.Malformed",
        "InvalidReplaceRootVolumeTaskId.NotFound",
        "replace root volume task ID",
    ),
    "eipalloc": ("InvalidAllocationID.Malformed", "InvalidAllocationID.NotFound", "allocation ID"),
    "eice": (
        "InvalidInstanceConnectEndpointId.Malformed",
        "InvalidInstanceConnectEndpointId.NotFound",
        "instance connect endpoint ID",
    ),
    "eni": ("InvalidNetworkInterfaceId.Malformed", "InvalidNetworkInterfaceID.NotFound", "networkInterface ID"),
    "sir": (
        "InvalidSpotInstanceRequestID.Malformed",
        "InvalidSpotInstanceRequestID.NotFound",
        "spot instance request ID",
    ),
}


def check_id(prefix: str, resource_id: str) -> None:
    """Check the form of an id. Raises the kind's Malformed error."""
    head, _, tail = resource_id.partition("-")
    if head != prefix or not _ID.fullmatch(tail):
        raise Ec2Error(_CODES[prefix][0], f'Invalid id: "{resource_id}" (expecting "{prefix}-...")')


def not_found(prefix: str, ids: list[str]) -> Ec2Error:
    _, code, name = _CODES[prefix]
    if prefix == "ami":
        listed = ", ".join(ids)
        plural = len(ids) != 1
        return Ec2Error(code, f"The image id{'s' if plural else ''} '[{listed}]' do{'' if plural else 'es'} not exist")
    if len(ids) == 1:
        return Ec2Error(code, f"The {name} '{ids[0]}' does not exist{'.' if prefix in ('snap', 'vol') else ''}")
    return Ec2Error(code, f"The {name}s '{', '.join(ids)}' do not exist")


def select_resources(
    prefix: str, ids: Iterable[str], known: Mapping[str, R], allowed: Callable[[R], bool] = lambda _: True
) -> list[R]:
    """Return the resources with these ids, each once. Raises Malformed, or NotFound with all missing ids."""
    wanted = list(dict.fromkeys(ids))
    for resource_id in wanted:
        check_id(prefix, resource_id)
    missing = [i for i in wanted if i not in known or not allowed(known[i])]
    if missing:
        raise not_found(prefix, missing)
    return [known[i] for i in wanted]
