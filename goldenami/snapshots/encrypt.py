"""``volume encrypt``: the volumes of an instance, encrypted under a key, with everything that is on them.

A volume cannot be encrypted in place, so another one takes its place:

    note → stop → snapshot → encrypted copy → compare both block by block → encrypted volume → exchange → start

Whatever fails on the way, the instance gets its old volumes back and is started again (``exchange.put_back``); the old
ones are kept in any case. ``replace_root`` does the root of a running instance by EC2's CreateReplaceRootVolumeTask
instead: with a reboot in place of a stop, and without what was written after the snapshot.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from goldenami.aws import blocks, snapshots, volumes
from goldenami.aws.blocks import NotComparable
from goldenami.aws.session import Cloud
from goldenami.aws.volumes import Volume
from goldenami.aws.waiters import Item
from goldenami.each import all_of
from goldenami.errors import CloudError, UsageError
from goldenami.model import Place
from goldenami.snapshots import exchange
from goldenami.snapshots.exchange import Exchange
from goldenami.snapshots.progress import completed
from goldenami.task import TEMPORARY, Task

Verify = Literal["all", "sample", "none"]
_SAMPLE: Final = 1000  # blocks of 512 KiB
_READERS: Final = 8


@dataclass(frozen=True, slots=True)
class Encrypted:
    """``compared``: how many blocks were read on both sides; ``blocks``: how many there are."""

    device: str
    old: str
    new: str
    blocks: int
    compared: int


def choose(
    attached: Sequence[Volume], root: str, devices: Sequence[str], *, every: bool, kms_key: str
) -> tuple[list[Volume], dict[str, str]]:
    """The volumes to encrypt, and those that need not be, with the reason. By default the root volume alone. Raises
    UsageError for a device that is not there."""
    by_device = {str(v.device): v for v in attached}
    unknown = [d for d in devices if d not in by_device]
    if unknown:
        raise UsageError(f"nothing is attached at {', '.join(unknown)}", hint=f"There are: {', '.join(by_device)}.")
    wanted = list(by_device) if every else list(dict.fromkeys(devices)) or [root]
    skipped = {
        d: f"{by_device[d].id} is encrypted under {kms_key} already"
        for d in wanted
        if d in by_device and by_device[d].encrypted and by_device[d].kms_key == kms_key
    }
    return [by_device[d] for d in wanted if d in by_device and d not in skipped], skipped


def encrypt(
    job: Task, place: Place, instance: Item, chosen: Sequence[Volume], *, kms_key: str, verify: Verify = "all"
) -> list[Encrypted]:
    """Encrypt volumes under a key (an ARN). The instance is stopped meanwhile."""
    exchange.check(instance, chosen)
    with exchange.alone(job, instance["InstanceId"]):
        exchange.note(job, place, instance, chosen)
        exchange.stop(job)
        plain = snapshots_of(job, place, chosen)
        sealed = copies_of(job, place, plain, kms_key)
        results = [compared(job, place, volume, plain[volume.id], sealed[volume.id], verify) for volume in chosen]
        new = {v.id: volume_like(job, place, v, sealed[v.id]) for v in chosen}
        volumes.wait_available(job.ledger, place, list(new.values()))
        _check_encrypted(job.cloud, place, list(new.values()), kms_key)
        exchange.swap(job, [Exchange(v, new[v.id]) for v in chosen])
    return [
        Encrypted(str(v.device), v.id, new[v.id], count, read) for v, (count, read) in zip(chosen, results, strict=True)
    ]


def snapshots_of(job: Task, place: Place, chosen: Sequence[Volume]) -> dict[str, str]:
    """A temporary snapshot of each volume, completed; by volume."""
    made = {
        v.id: snapshots.create(
            job.ledger,
            f"{TEMPORARY}snapshot/{v.id}",
            place,
            volume_id=v.id,
            name=f"{v.id} before encryption",
            temporary=True,
        )
        for v in chosen
    }
    completed(job, place, list(made.values()))
    return made


def copies_of(job: Task, place: Place, plain: dict[str, str], kms_key: str) -> dict[str, str]:
    """A temporary copy of each of the snapshots under the key; by volume."""
    made = {
        volume: snapshots.copy(
            job.ledger,
            f"{TEMPORARY}copy/{volume}",
            place,
            source=snapshot,
            source_region=place.region,
            name=f"{volume} encrypted",
            kms_key=kms_key,
            temporary=True,
        )
        for volume, snapshot in plain.items()
    }
    completed(job, place, list(made.values()))
    return made


def volume_like(job: Task, place: Place, old: Volume, snapshot_id: str, kms_key: str | None = None) -> str:
    """A volume with a snapshot's contents, and otherwise as the old one is."""
    return volumes.create(
        job.ledger,
        f"volume/{old.id}",
        place,
        snapshot_id=snapshot_id,
        zone=old.zone,
        name=old.name or f"for {old.id}",
        type=old.type,
        size_gib=old.size_gib,
        iops=old.iops,
        throughput=old.throughput,
        kms_key=kms_key,
        tags=exchange.tags_for(old),
    )


def _check_encrypted(cloud: Cloud, place: Place, ids: Sequence[str], kms_key: str) -> None:
    """Read back: an account's defaults and a wrong key show here, and not in an audit next year."""
    for volume in volumes.describe_many(cloud, place, ids).values():
        if not volume.encrypted or volume.kms_key != kms_key:
            raise CloudError(f"{volume.id} is {volume.kms_key or 'not encrypted'}, where {kms_key} was asked for")


# --- verifying --------------------------------------------------------------------------------------------------------


def compared(job: Task, place: Place, volume: Volume, plain: str, sealed: str, verify: Verify) -> tuple[int, int]:
    """Read the same blocks of both snapshots over the EBS direct APIs, and compare them: how many blocks there are, and
    how many were read. Raises CloudError for the first difference, or if they cannot be read."""
    if verify == "none":
        job.note(f"{volume.device}: the encrypted copy was not compared with its source", "warning")
        return 0, 0
    try:
        ours, theirs = blocks.list_tokens(job.cloud, place, plain), blocks.list_tokens(job.cloud, place, sealed)
    except NotComparable as error:
        raise CloudError(
            f"{sealed} cannot be compared with its source: {error.detail}",
            hint="It takes ebs:ListSnapshotBlocks and ebs:GetSnapshotBlock; --verify none does without.",
        ) from error
    every = sorted(set(ours) | set(theirs))
    indices = every if verify == "all" or len(every) <= _SAMPLE else sorted(random.sample(every, _SAMPLE))

    def compare(index: int) -> None:
        one = blocks.read(job.cloud, place, plain, index, ours.get(index))
        if one != blocks.read(job.cloud, place, sealed, index, theirs.get(index)):
            raise CloudError(f"{sealed} differs from its source {plain} in block {index} of {volume.device}")

    all_of(indices, compare, at_once=_READERS)
    job.note(f"{volume.device}: {len(indices)} of {len(every)} blocks read and compared over the EBS direct APIs")
    return len(every), len(indices)
