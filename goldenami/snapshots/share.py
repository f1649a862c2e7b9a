"""``snapshot share``, ``unshare``, ``make-public`` and ``make-private``: who may make volumes of a snapshot."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from goldenami.aws import kms, snapshots
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.errors import UsageError
from goldenami.model import Place
from goldenami.task import Task


def check_shareable(cloud: Cloud, place: Place, items: Sequence[Item]) -> None:
    """Raises UsageError, naming all that cannot be shared, and why."""
    problems: dict[str, str] = {}
    for key in {str(s["KmsKeyId"]) for s in items if s.get("Encrypted")}:
        if kms.resolve(cloud, place, key).manager == "AWS":
            for item in items:
                if item.get("KmsKeyId") == key:
                    problems[item["SnapshotId"]] = "it is encrypted under the account's default key, aws/ebs"
    for item in items:
        if item.get("StorageTier") == "archive":
            problems[item["SnapshotId"]] = "it is archived"
    if problems:
        raise UsageError(
            "these cannot be shared: " + "; ".join(f"{id}: {why}" for id, why in sorted(problems.items())),
            hint="A copy under a customer managed key can be: goldenami snapshot copy SNAPSHOT --kms-key alias/KEY.",
        )


def share(job: Task, place: Place, items: Sequence[Item], accounts: Collection[str]) -> None:
    """Let accounts make volumes of snapshots. For encrypted ones they get a grant on the key, too, without which the
    permission would be of no use."""
    check_shareable(job.cloud, place, items)
    for item in items:
        id = item["SnapshotId"]
        snapshots.share(job.ledger, f"share/{id}", place, id, accounts)
    for key in sorted({str(s["KmsKeyId"]) for s in items if s.get("Encrypted")}):
        for account in sorted(accounts):
            grantee = f"arn:aws:iam::{account}:root"
            kms.create_grant(job.ledger, f"grant/{account}/{key}", place, kms_key_arn=key, grantee=grantee)


def unshare(job: Task, place: Place, items: Sequence[Item], accounts: Collection[str]) -> None:
    """Take the permission away. Grants on keys stay, since other snapshots and images may need them; volumes that were
    made meanwhile stay too, and are their owner's."""
    for item in items:
        id = item["SnapshotId"]
        snapshots.unshare(job.ledger, f"unshare/{id}", place, id, accounts)


def make_public(job: Task, place: Place, items: Sequence[Item]) -> None:
    """Let everybody in the world read snapshots. Raises UsageError for encrypted ones, and where the account blocks
    it."""
    check_publishable(job.cloud, place, items)
    for item in items:
        snapshots.make_public(job.ledger, f"public/{item['SnapshotId']}", place, item["SnapshotId"], public=True)


def check_publishable(cloud: Cloud, place: Place, items: Sequence[Item]) -> None:
    encrypted = [s["SnapshotId"] for s in items if s.get("Encrypted")]
    if encrypted:
        raise UsageError(
            f"{', '.join(encrypted)}: an encrypted snapshot cannot be public",
            hint="Share it with accounts: goldenami snapshot share SNAPSHOT --with ACCOUNT.",
        )
    archived = [s["SnapshotId"] for s in items if s.get("StorageTier") == "archive"]
    if archived:
        raise UsageError(f"{', '.join(archived)}: an archived snapshot cannot be public")
    state = snapshots.public_access(cloud, place)
    if state != "unblocked":
        raise UsageError(
            f"{place} blocks public snapshots ({state})",
            hint="Whoever runs the account decided that; it is lifted with `aws ec2 "
            "disable-snapshot-block-public-access`.",
        )


def make_private(job: Task, place: Place, items: Sequence[Item]) -> None:
    """Take the permission of everybody away; accounts that a snapshot is shared with keep theirs."""
    for item in items:
        snapshots.make_public(job.ledger, f"private/{item['SnapshotId']}", place, item["SnapshotId"], public=False)
