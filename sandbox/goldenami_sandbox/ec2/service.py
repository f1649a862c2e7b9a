"""The entry point of EC2: runs actions, answers requests, and dumps the state as JSON.

    ec2 = Ec2(node, clock=time.time, hooks=hooks, settings=Settings())
    ec2.call(ctx, "DescribeImages", {"Owners": ["self"]})      # names of the API's model (and of boto3)
    ec2.respond(ctx, form)                                     # the same from a request's form, answered as XML

Calls may come from any number of threads. Work on contents (booting, freezing, storing) runs in worker threads, and
describe calls show its progress. ``settle`` waits until all work is done.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import wait
from typing import Any

from goldenami_sandbox.ec2 import (
    account_settings,
    addresses,
    connect_endpoints,
    copies,
    describe_images,
    describe_instances,
    encryption,
    fast_restore,
    image_attributes,
    image_copies,
    image_usage,
    images,
    instance_attributes,
    instances,
    launch,
    protocol,
    recycle_bin,
    rehearsal,
    replace_root,
    restore,
    snapshot_attributes,
    snapshot_locks,
    snapshot_tiers,
    snapshots,
    spot,
    store,
    tags,
    types,
    vendors,
    volume_changes,
    volumes,
)
from goldenami_sandbox.ec2.context import Ctx, Ec2Error, Found
from goldenami_sandbox.ec2.core import Action, Ec2Cloud, Reply
from goldenami_sandbox.ec2.hooks import Hooks
from goldenami_sandbox.ec2.records import BinRule, Image, Snapshot
from goldenami_sandbox.errors import VolumeInUse
from goldenami_sandbox.node.api import BASE, ExitReason, Node
from goldenami_sandbox.policy import Caller
from goldenami_sandbox.settings import Settings

__all__ = ["Ctx", "Ec2", "Ec2Error"]

ACTIONS: Mapping[str, Action] = {
    name: action
    for module in (
        account_settings,
        addresses,
        connect_endpoints,
        copies,
        describe_images,
        describe_instances,
        encryption,
        fast_restore,
        image_attributes,
        image_copies,
        image_usage,
        images,
        instance_attributes,
        instances,
        launch,
        recycle_bin,
        replace_root,
        snapshot_attributes,
        snapshot_locks,
        snapshot_tiers,
        snapshots,
        spot,
        tags,
        types,
        volume_changes,
        volumes,
    )
    for name, action in module.ACTIONS.items()
}
_POINT_IN_TIME_SECONDS = (
    60.0  # seconds that an answer waits for work that must be done first; real nodes need milliseconds
)
_log = logging.getLogger(__name__)


class Ec2:
    """EC2 over a node. The caller starts the node (before ``load``) and closes it (after ``close``)."""

    def __init__(self, node: Node, *, clock: Callable[[], float], hooks: Hooks, settings: Settings) -> None:
        self._cloud = Ec2Cloud(node, clock, hooks, settings)
        node.on_exit(self._guest_exited)

    @property
    def settings(self) -> Settings:
        """The current settings. They can be replaced at any time."""
        return self._cloud.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._cloud.settings = settings

    def note_reference(self, account: str, region: str, image_id: str, kind: str, arn: str) -> None:
        """Note a use of an image by a service that the sandbox does not have; see ``image_usage.note_reference``."""
        with self._cloud.lock:
            image_usage.note_reference(self._cloud, account, region, image_id, kind, arn)

    # --- calls --------------------------------------------------------------------------------------------------------

    def handles(self, action: str) -> bool:
        """Return whether ``call`` implements this action."""
        return action in ACTIONS

    def owns(self, resource_id: str) -> bool:
        """Return whether resources with this form of id, and their tags, are kept here. The resource need not exist."""
        return self._cloud.store.table(resource_id) is not None

    def call(self, ctx: Ctx, action: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Run one action. Raises Ec2Error with the API's errors. A dry run that would have succeeded raises
        DryRunOperation.
        """
        with self._cloud.lock:
            instances.release_ended(self._cloud)
            if params.get("DryRun"):
                rest = {name: value for name, value in params.items() if name != "DryRun"}
                ACTIONS[action](rehearsal.copy_of(self._cloud), ctx, rest)
                raise rehearsal.succeeded()
            reply = ACTIONS[action](self._cloud, ctx, params)
        if isinstance(reply, Reply):
            wait(reply.after, _POINT_IN_TIME_SECONDS)
            return reply.answer
        return reply

    def respond(
        self, ctx: Ctx, form: Mapping[str, str], params: Mapping[str, Any] | None = None, *, as_xml: bool = True
    ) -> tuple[int, bytes | Mapping[str, Any]]:
        """Return the HTTP status and XML body for a request's form (query protocol). Errors are answered too.

        ``params``: the parameters, if the form was parsed before. Without ``as_xml``, a successful answer is the return
        value of :meth:`call`.
        """
        action = form.get("Action", "")
        try:
            params = protocol.parse(action, form) if params is None else params
            if not self.handles(action):
                raise Ec2Error("InvalidAction", f"The action {action} is not valid for this web service.")
            answer = self.call(ctx, action, params)
            return 200, protocol.serialise(action, answer, ctx.request_id) if as_xml else answer
        except Ec2Error as error:
            return error.status, protocol.serialise_error(error, ctx.request_id)
        except Exception:
            _log.exception("%s failed", action)
            internal = Ec2Error("InternalError", "An internal error has occurred", 500)
            return internal.status, protocol.serialise_error(internal, ctx.request_id)

    # --- for the rest of the cloud ------------------------------------------------------------------------------------

    def users_of(self, resource_id: str) -> list[str]:
        """Return the instances that use a security group or a subnet, by its id. It cannot be deleted while there are
        any: an instance that is shutting down still has its network interface.
        """
        with self._cloud.lock:
            now, every = self._cloud.now(), self._cloud.store.instances.values()
            found = [i for i in every if i.state(now) != "terminated"]
            return [i.id for i in found if resource_id in i.groups or resource_id == i.subnet_id]

    def facts(self, account: str, region: str, resource_id: str) -> Found | None:
        """Return what policies of an account can evaluate about a resource; None if the account does not see it."""
        with self._cloud.lock:
            table = self._cloud.store.table(resource_id)
            one = table.get(resource_id) if table is not None else None
            if one is None or one.region != region:
                return None
            own = one.owner == account
            if isinstance(one, Image):
                if not self._cloud.may_see_image(account, one):
                    return None
                return Found(one.owner, dict(one.tags_of(account)), one.owner_alias, one.public)
            if isinstance(one, Snapshot):
                if not self._cloud.may_read_snapshot(account, one):
                    return None
                return Found(one.owner, dict(one.tags_of(account)), one.owner_alias, one.public)
            return Found(one.owner, dict(one.tags)) if own else None

    def reclaim(self, instance_id: str, notice: float) -> None:
        """Interrupt a spot instance, ``notice`` seconds after the interruption notice.

        Raises Ec2Error if it is not a running spot instance.
        """
        spot.reclaim(self._cloud, instance_id, notice)

    def image_exists(self, account: str, region: str, image_id: str) -> bool:
        """Return whether the account sees this image in the region, as for parameters of type aws:ec2:image."""
        with self._cloud.lock:
            image = self._cloud.store.images.get(image_id)
            return image is not None and image.region == region and self._cloud.may_see_image(account, image)

    def contents_of(self, caller: Caller, region: str, resource_id: str) -> tuple[str, bytes | None]:
        """Return the node's snapshot id and the data key of a snapshot, or of an image's root snapshot.

        The caller must be allowed to read it. Raises Ec2Error (not found, not completed, no contents),
        hooks.KeyRefused and SandboxError.
        """
        with self._cloud.lock:
            snapshot = snapshots.for_reading(self._cloud, Ctx(caller.account, region, "", ""), resource_id)
        key = encryption.data_key(self._cloud, snapshot.encryption, caller)
        return snapshots.contents(self._cloud, snapshot), key

    def mark(self, ids: Collection[str], tags: Mapping[str, str]) -> None:
        """Set tags of existing resources, including tags that only services may set (``aws:…``)."""
        with self._cloud.lock:
            for id in ids:
                (self._cloud.store.table(id) or {})[id].tags.update(tags)

    def unmark(self, ids: Collection[str], keys: Collection[str]) -> None:
        """Remove tags of existing resources, including those that only services may set."""
        with self._cloud.lock:
            for id in ids:
                tags = (self._cloud.store.table(id) or {})[id].tags
                for key in keys:
                    tags.pop(key, None)

    def state_of(self, instance_id: str, account: str | None = None, region: str | None = None) -> str:
        """Return the state of an instance (of an account and region); "terminated" if there is none."""
        with self._cloud.lock:
            found = self._cloud.store.instances.get(instance_id)
            if found is None or account not in (None, found.owner) or region not in (None, found.region):
                return "terminated"
            return found.state(self._cloud.now())

    def placement_of(self, instance_id: str) -> dict[str, str]:
        """Return the type and the zone of an existing instance."""
        with self._cloud.lock:
            found = self._cloud.store.instances[instance_id]
            return {"type": found.type, "zone": found.availability_zone}

    def replace_unhealthy(self, instance_id: str) -> None:
        """Terminate an instance as its Auto Scaling group does. Termination protection does not prevent that."""
        with self._cloud.lock:
            instances.end_member(self._cloud, instance_id)

    def snapshot_size(self, snapshot_id: str) -> int:
        """Return the volume size in GiB of an existing snapshot."""
        with self._cloud.lock:
            return self._cloud.store.snapshots[snapshot_id].size

    def related(self, first: str, second: str) -> bool:
        """Return whether two existing snapshots have the same lineage, so that their blocks can be compared."""
        with self._cloud.lock:
            return snapshots.related(self._cloud, first, second)

    def add_public_image(
        self,
        region: str,
        owner: str,
        name: str,
        *,
        architecture: str,
        release: str | None,
        default_user: str,
        creation_date: str,
        owner_alias: str | None = None,
        description: str = "",
        root_device_name: str = "/dev/xvda",
        size_gib: int = 8,
        boot_mode: str | None = None,
        imds_support: str | None = None,
    ) -> str:
        """Publish a vendor's image and return its id, which depends on region, owner and name. A second call changes
        nothing.

        ``release``: the node's base root that it contains ("debian-12"), created at the first launch. None: it can be
        described and copied, but not launched. ``creation_date``: ISO 8601 with a time zone.
        """
        with self._cloud.lock:
            return vendors.publish(
                self._cloud,
                region,
                owner,
                name,
                architecture=architecture,
                release=release,
                default_user=default_user,
                owner_alias=owner_alias,
                description=description,
                creation_date=creation_date,
                root_device_name=root_device_name,
                size_gib=size_gib,
                boot_mode=boot_mode,
                imds_support=imds_support,
            )

    # --- state --------------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Return all state as JSON values."""
        with self._cloud.lock:
            return store.dump(self._cloud.store)

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore dumped state, before the first call and after the start of the node.

        Work in progress continues, and instances that were running are started again. Raises pydantic's ValidationError
        for values that are not a dump.
        """
        loaded = store.load(state)
        with self._cloud.lock:
            self._cloud.store = loaded
            restore.resume(self._cloud)

    @contextlib.contextmanager
    def bin_rules(self) -> Iterator[dict[str, BinRule]]:
        """Give access to the retention rules of the Recycle Bin, by id, to read and change inside the block."""
        with self._cloud.lock:
            yield self._cloud.store.bin_rules

    def empty_bin(self) -> None:
        """Delete resources whose time in the Recycle Bin is over. This is fast if there are none."""
        store = self._cloud.store
        if store.binned_images or store.binned_snapshots:
            with self._cloud.lock:
                recycle_bin.empty(self._cloud)

    def unreachable(self) -> Mapping[str, list[str]]:
        """Return the ids of volumes and snapshots on the node that no record and no running task has, by kind."""
        with self._cloud.lock:  # nobody makes a record meanwhile
            volumes, snapshots = self._cloud.node.stored()
            known = self._cloud.known_contents()
        lost = {one for one in snapshots if not one.startswith(BASE)} - known
        return {"volumes": sorted(volumes - known), "snapshots": sorted(lost)}

    def remove_unreachable(self) -> Mapping[str, list[str]]:
        """Delete these contents, and return what was deleted. A volume that an instance still uses stays."""
        found = self.unreachable()
        deleted = []
        for volume in found["volumes"]:
            with contextlib.suppress(VolumeInUse):
                self._cloud.node.delete_volume(volume)
                deleted.append(volume)
        for snapshot in found["snapshots"]:
            self._cloud.node.delete_snapshot(snapshot)
        return {**found, "volumes": deleted}

    def settle(self, timeout: float = 60.0) -> bool:
        """Wait until no work is in progress. Returns False after ``timeout`` seconds."""
        idle = self._cloud.work.idle(timeout)
        with self._cloud.lock:
            instances.release_ended(self._cloud)
        return idle and self._cloud.work.idle(timeout)

    def close(self) -> None:
        """Accept no more work and wait for running tasks. The caller closes the node."""
        self._cloud.work.close()

    def _guest_exited(self, instance: str, reason: ExitReason) -> None:
        instances.guest_exited(self._cloud, instance, reason)
