"""``volume encrypt``: encrypts the volumes of an instance under a key, with their contents.

EC2 cannot encrypt an existing volume, so an encrypted volume replaces it::

    snapshot → encrypted copy → compare block by block                                      while the instance runs
    record → stop → snapshot → encrypted copy → compare what changed → encrypted volume → exchange → start

A snapshot stores what changed since the last one of its volume, and so does a copy under the same key. So the stop
lasts as long as it takes to copy what changed since the first copy, which is not used otherwise. If a step fails, the
old volumes are attached again and the instance is started (``exchange.put_back``). The old volumes are always kept.
``replace_root`` replaces the root volume of a running instance with CreateReplaceRootVolumeTask: this needs a reboot
instead of a stop, and loses writes after the snapshot.
"""

from __future__ import annotations

import random
import threading
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
from goldenami.events import Emit, emit
from goldenami.model import Place
from goldenami.polling import Clock
from goldenami.snapshots import exchange, names
from goldenami.snapshots.exchange import Exchange
from goldenami.snapshots.history import How
from goldenami.snapshots.progress import completed
from goldenami.task import TEMPORARY, Task

Verify = Literal["changed", "all", "sample", "none"]
_AHEAD: Final = "ahead/"  # in keys: what is made while the instance runs
_PERCENT: Final = 5  # between two reports of a comparison
_SECONDS: Final = 60.0  # or so long after the last one
_SAMPLE: Final = 1000  # blocks of 512 KiB
_READERS: Final = 8


@dataclass(frozen=True, slots=True)
class Encrypted:
    """An encrypted volume. ``blocks``: the number of its blocks. ``compared``: how many of them were compared."""

    device: str
    old: str
    new: str
    blocks: int
    compared: int


def choose(
    attached: Sequence[Volume], root: str, devices: Sequence[str], *, every: bool, kms_key: str
) -> tuple[list[Volume], dict[str, str]]:
    """Return the volumes to encrypt, and the devices that are skipped, with the reason.

    Without ``devices`` and ``every``, only the root volume is selected. Raises UsageError for a device without volume.
    """
    by_device = {str(v.device): v for v in attached}
    unknown = [d for d in devices if d not in by_device]
    if unknown:
        raise UsageError(
            f"--device: no volume is attached at {', '.join(unknown)}",
            hint=f"The instance has volumes at {', '.join(by_device)}.",
        )
    wanted = list(by_device) if every else list(dict.fromkeys(devices)) or [root]
    skipped = {
        d: f"{by_device[d].id} is encrypted under {kms_key} already"
        for d in wanted
        if d in by_device and by_device[d].encrypted and by_device[d].kms_key == kms_key
    }
    return [by_device[d] for d in wanted if d in by_device and d not in skipped], skipped


def encrypt(
    job: Task, place: Place, instance: Item, chosen: Sequence[Volume], *, kms_key: str, verify: Verify = "changed"
) -> list[Encrypted]:
    """Encrypt volumes of an instance under a key (an ARN). The instance is stopped during the exchange.

    ``verify`` "changed": every block is compared, most of them before the stop, and those that changed since after it.
    """
    exchange.check(job.cloud, place, instance, chosen)
    with exchange.alone(job, instance["InstanceId"]):
        ahead: dict[str, str] = {}
        if instance["State"]["Name"] == "running":
            ahead = _copy_ahead(job, place, chosen, kms_key, verify)
            instance = _again(job, place, instance, chosen)
        exchange.note(job, place, instance, chosen)
        exchange.stop(job)
        plain = snapshots_of(job, place, chosen)
        sealed = copies_of(job, place, plain, kms_key)
        results = [
            compared(job, place, volume, plain[volume.id], sealed[volume.id], verify, ahead.get(volume.id))
            for volume in chosen
        ]
        new = {v.id: volume_like(job, place, v, sealed[v.id], "copied") for v in chosen}
        volumes.wait_available(job.ledger, place, list(new.values()))
        _check_encrypted(job.cloud, place, list(new.values()), kms_key)
        exchange.swap(job, [Exchange(v, new[v.id]) for v in chosen])
    return [
        Encrypted(str(v.device), v.id, new[v.id], count, read) for v, (count, read) in zip(chosen, results, strict=True)
    ]


def _copy_ahead(job: Task, place: Place, chosen: Sequence[Volume], kms_key: str, verify: Verify) -> dict[str, str]:
    """Copy the volumes while the instance runs, so that less is left for the time of the stop. Returns the snapshots by
    volume; with "changed", each is compared with its copy."""
    for volume in chosen:
        exchange.check_tags(job, volume)
    plain = snapshots_of(job, place, chosen, _AHEAD)
    sealed = copies_of(job, place, plain, kms_key, _AHEAD)
    if verify == "changed":
        for volume in chosen:
            compared(job, place, volume, plain[volume.id], sealed[volume.id], "all")
    return plain


def _again(job: Task, place: Place, instance: Item, chosen: Sequence[Volume]) -> Item:
    """Return the instance as it is now. Raises UsageError if its volumes cannot be exchanged any more."""
    id = instance["InstanceId"]
    now = names.instance(job.cloud, place, id)
    exchange.check(job.cloud, place, now, chosen)
    attached = {v.id: v.device for v in volumes.of_instance(job.cloud, place, id)}
    for volume in chosen:
        if attached.get(volume.id) != volume.device:
            raise UsageError(
                f"{volume.id} is not attached to {id} at {volume.device} any more. It was detached while it was copied",
                hint="Run the command again.",
            )
    return now


def snapshots_of(job: Task, place: Place, chosen: Sequence[Volume], when: str = "") -> dict[str, str]:
    """Create a temporary snapshot of each volume and wait until all are completed. Returns the ids by volume. ``when``:
    a part of the keys."""
    made = {
        v.id: snapshots.create(
            job.ledger,
            f"{TEMPORARY}{when}snapshot/{v.id}",
            place,
            volume_id=v.id,
            name=f"{v.id} before encryption",
            temporary=True,
        )
        for v in chosen
    }
    completed(job, place, list(made.values()))
    return made


def copies_of(job: Task, place: Place, plain: dict[str, str], kms_key: str, when: str = "") -> dict[str, str]:
    """Create a temporary copy of each snapshot under the key and wait for it. Returns the ids by volume. ``when``: a
    part of the keys."""
    made = {
        volume: snapshots.copy(
            job.ledger,
            f"{TEMPORARY}{when}copy/{volume}",
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


def volume_like(job: Task, place: Place, old: Volume, snapshot_id: str, how: How, kms_key: str | None = None) -> str:
    """Create a volume from a snapshot, with the type, size, zone, name and tags of the old volume. Returns its id.
    ``how``: what the snapshot has: the contents of the old volume (``copied``), or others."""
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
        tags=exchange.new_tags(old, exchange.noted_at(job), how),
    )


def _check_encrypted(cloud: Cloud, place: Place, ids: Sequence[str], kms_key: str) -> None:
    """Check the key of new volumes: the encryption defaults of the account could have changed it. Raises CloudError."""
    found = volumes.describe_many(cloud, place, ids)
    for id in ids:
        volume = found.get(id)
        if volume is None:
            raise CloudError(f"volume {id} in {place} is not visible, so its encryption is unknown")
        if not volume.encrypted or volume.kms_key != kms_key:
            raise CloudError(
                f"{volume.id}: expected encryption under {kms_key}, found {volume.kms_key or 'no encryption'}"
            )


# --- verifying --------------------------------------------------------------------------------------------------------


def compared(
    job: Task, place: Place, volume: Volume, plain: str, sealed: str, verify: Verify, ahead: str | None = None
) -> tuple[int, int]:
    """Compare the blocks of both snapshots over the EBS direct APIs. ``ahead``: an earlier snapshot of the volume whose
    copy had every block; with "changed", only blocks that differ from it are compared.

    Returns the number of blocks, and how many were compared, with those of the earlier copy. Raises CloudError for the
    first difference, or if the blocks cannot be read.
    """
    if verify == "none":
        job.note(f"{volume.device}: the encrypted copy was not compared with its source", "warning")
        return 0, 0
    try:
        ours, theirs = blocks.list_tokens(job.cloud, place, plain), blocks.list_tokens(job.cloud, place, sealed)
        every = sorted(set(ours) | set(theirs))
        indices = every
        if verify == "changed" and ahead is not None:
            changes = blocks.list_changes(job.cloud, place, ahead, plain)
            indices = sorted(changes.written | changes.emptied)
    except NotComparable as error:
        raise CloudError(
            f"{sealed} cannot be compared with its source: {error.detail}",
            hint="The role needs ebs:ListSnapshotBlocks, ebs:ListChangedBlocks and ebs:GetSnapshotBlock. --verify none "
            "skips the comparison.",
        ) from error
    if verify == "sample" and len(every) > _SAMPLE:
        indices = sorted(random.sample(every, _SAMPLE))
    told = Told(job.emit, job.cloud.clock, f"{place.region}/{sealed}", len(indices))

    def compare(index: int) -> None:
        one = blocks.read(job.cloud, place, plain, index, ours.get(index))
        if one != blocks.read(job.cloud, place, sealed, index, theirs.get(index)):
            raise CloudError(f"{sealed} differs from its source {plain} in block {index} of {volume.device}")
        told.one_more()

    all_of(indices, compare, at_once=_READERS)
    since = " that changed since the first copy" if indices is not every and verify == "changed" else ""
    job.note(
        f"{volume.device}: {len(indices)} of {len(every)} blocks{since} read and compared over the EBS direct APIs"
    )
    return len(every), len(every) if verify == "changed" else len(indices)


class Told:
    """Tells the progress of a comparison, which can take hours, as that of the encrypted copy: each 5 percent, and at
    the first block that is compared a minute after the last report."""

    def __init__(self, emit_to: Emit, clock: Clock, target: str, total: int) -> None:
        self._emit, self._clock, self._target, self._total = emit_to, clock, target, total
        self._done = self._said = 0
        self._when = clock()
        self._mutex = threading.Lock()

    def one_more(self) -> None:
        """Count one more block."""
        with self._mutex:
            self._done += 1
            percent, now = 100 * self._done // self._total, self._clock()
            if percent < self._said + _PERCENT and now - self._when < _SECONDS:
                return
            self._said, self._when = percent, now
            detail = f"{self._done} of {self._total} blocks"
        emit(self._emit, "target.progress", target=self._target, state="comparing", percent=percent, detail=detail)
