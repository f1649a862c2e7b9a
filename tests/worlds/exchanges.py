"""Volumes of an instance that are exchanged, and snapshots that are copied: the work itself, without a command."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from goldenami import task
from goldenami.aws import volumes
from goldenami.snapshots import copy, encrypt, exchange, names, points, restore
from tests.worlds.builds import World
from tests.worlds.volumes import APPS_PLACE, HOME_PLACE, WEST, Estate


def fresh(world: World) -> Estate:
    world.fresh()
    return Estate(world)


def encrypting(estate: Estate) -> None:
    world = estate.world
    cloud = world.cloud
    instance = names.instance(cloud, HOME_PLACE, estate.instance)
    chosen = volumes.of_instance(cloud, HOME_PLACE, estate.instance)
    with task.run(world.environment, "volume encrypt", {}, cloud=cloud, undo=exchange.put_back) as job:
        encrypt.encrypt(job, HOME_PLACE, instance, chosen, kms_key=estate.key())


def restoring(estate: Estate) -> None:
    world = estate.world
    cloud = world.cloud
    instance = names.instance(cloud, HOME_PLACE, estate.instance)
    chosen = points.choose(cloud, HOME_PLACE, estate.instance, datetime.now(UTC) + timedelta(days=400))
    with task.run(world.environment, "snapshot restore", {}, cloud=cloud, undo=exchange.put_back) as job:
        restore.restore(job, HOME_PLACE, instance, chosen)


WORK = {"encrypt": encrypting, "restore": restoring}


def prepared(estate: Estate, name: str) -> tuple[Estate, set[str]]:
    """An estate in which the work can begin, in a new process; and the snapshots that it is to keep."""
    kept = {estate.snapshot(estate.root), estate.snapshot(estate.data)} if name == "restore" else set()
    estate.key()  # so that the work itself is all that is called
    estate.world.cloud.check_caller()  # the cloud of a world keeps the answer, and may have it from an earlier test
    estate.world.cloud.start_process()
    return estate, kept


def copying(estate: Estate, sources: list[str]) -> None:
    """Encrypted ones, into another account and another region."""
    cloud = estate.world.cloud
    items = names.many(cloud, HOME_PLACE, sources)
    targets = [copy.destination(cloud, p, items, "alias/golden-ami") for p in (APPS_PLACE, WEST)]
    with task.run(estate.world.environment, "snapshot copy", {}, cloud=cloud, undo=copy.take_back) as job:
        copy.copy(job, HOME_PLACE, items, targets)


def sealed(estate: Estate) -> list[str]:
    made = []
    for volume in (estate.root, estate.data):
        source = estate.snapshot(volume)
        request = {"SourceSnapshotId": source, "SourceRegion": "eu-central-1", "Encrypted": True}
        made.append(estate.ec2().copy_snapshot(**request, KmsKeyId=estate.key())["SnapshotId"])
    estate.settle()
    return made
