"""Copies of snapshots between regions and accounts, encrypted with another key if requested. CopyImage uses
them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.ec2 import encryption, snapshots, tags
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.encryption import KeyProblem
from goldenami_sandbox.ec2.records import Encryption, Snapshot
from goldenami_sandbox.ec2.store import new_id
from goldenami_sandbox.node.api import BLOCK_SIZE
from goldenami_sandbox.policy import Caller


def copy_snapshot(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """CopySnapshot. It is called in the destination region."""
    source = cloud.readable_snapshot(ctx, params["SourceSnapshotId"], params["SourceRegion"])
    given = tags.from_specifications(params, "snapshot")["snapshot"]
    encryption.check_parameters(params, source_encrypted=source.encryption is not None)
    snapshots.check_usable(cloud, source)
    _check_quota(cloud, ctx)
    description = params.get("Description", f"[Copied {source.id} from {source.region}]")
    copy = new_copy(
        cloud, ctx, source, description, given, encrypted=params.get("Encrypted"), key=params.get("KmsKeyId")
    )
    return {"SnapshotId": copy.id, "Tags": tags.rendered(copy)}


def _check_quota(cloud: Ec2Cloud, ctx: Ctx) -> None:
    now, limit = cloud.now(), cloud.settings.concurrent_snapshot_copies
    running = sum(
        s.is_copy and not s.for_image and s.progress.condition(now) == "pending"
        for s in cloud.owned_resources(cloud.store.snapshots, ctx).values()
    )
    if running >= limit:
        raise Ec2Error(
            "ResourceLimitExceeded",
            f"Too many snapshot copies in progress. The limit is {limit} for this destination Region.",
        )


def new_copy(
    cloud: Ec2Cloud,
    ctx: Ctx,
    source: Snapshot,
    description: str,
    given: Mapping[str, str],
    *,
    encrypted: bool | None,
    key: str | None,
    for_image: bool = False,
) -> Snapshot:
    """Create a pending copy in the caller's account and region. An error of the key appears in the copy's state."""
    if not source.hollow:
        cloud.require_room(source.full_bytes if encrypted or source.encryption is not None else 0)
    copy = Snapshot(
        id=new_id("snap"),
        **cloud.birth(ctx, given),
        volume_id=snapshots.COPY_VOLUME_ID,
        size=source.size,
        description=description,
        progress=cloud.progress(cloud.settings.pending.copy),
        hollow=source.hollow,
        release=None,
        default_user=source.default_user,
        source_id=source.id,
        for_image=for_image,
    )
    cloud.store.snapshots[copy.id] = copy
    target = _encryption_of_copy(cloud, ctx, source, encrypted=encrypted, key=key)
    if isinstance(target, KeyProblem):
        copy.progress.fail(target.message, target.code)
        return copy
    copy.encryption = target
    problem = encryption.readable(cloud, source.encryption, ctx.caller)
    if problem is not None:
        copy.progress.fail(problem.message, problem.code)
        return copy
    if copy.hollow:
        snapshots.finish(cloud, copy, source.full_bytes // BLOCK_SIZE, 0)
        return copy
    queue_copying(cloud, source, copy)
    return copy


def _encryption_of_copy(
    cloud: Ec2Cloud, ctx: Ctx, source: Snapshot, *, encrypted: bool | None, key: str | None
) -> Encryption | KeyProblem | None:
    by_default = encryption.defaults(cloud, ctx.account, ctx.region).enabled
    if source.encryption is None and not encrypted and not by_default:
        return None
    return encryption.new_encryption(cloud, ctx, key, source.encryption)


def queue_copying(cloud: Ec2Cloud, source: Snapshot, copy: Snapshot) -> None:
    cloud.pin([source.id])
    cloud.work.submit(copy.id, lambda: _copy(cloud, source, copy))


def _copy(cloud: Ec2Cloud, source: Snapshot, copy: Snapshot) -> None:
    try:
        with cloud.recording(copy.progress):
            source_key = encryption.data_key(cloud, source.encryption, Caller(copy.owner))
            key = encryption.data_key(cloud, copy.encryption, Caller(copy.owner))
            facts = cloud.node.copy_snapshot(snapshots.contents(cloud, source), source_key, copy.id, key)
        with cloud.lock:
            copy.frozen = True
            snapshots.finish(cloud, copy, facts.full_blocks, facts.stored_bytes)
    finally:
        cloud.unpin([source.id])


ACTIONS: dict[str, Action] = {"CopySnapshot": copy_snapshot}
