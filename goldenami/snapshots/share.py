"""``snapshot share``, ``unshare``, ``make-public`` and ``make-private``."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from goldenami.aws import kms, snapshots
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.errors import UsageError
from goldenami.model import Place
from goldenami.nextstep import command, step
from goldenami.task import Task


def check_shareable(cloud: Cloud, place: Place, items: Sequence[Item]) -> None:
    """Check that snapshots can be shared. Raises UsageError with each that cannot be, and the reason."""
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
            "snapshots cannot be shared: " + "; ".join(f"{id}: {why}" for id, why in sorted(problems.items())),
            hint=f"Restore archived snapshots with {step('snapshot restore-archive', 'SNAPSHOT', '--permanent')}. Copy "
            f"snapshots under the default key with {step('snapshot copy', 'SNAPSHOT', '--kms-key', 'alias/KEY')}, then "
            "share the copies.",
        )


def share(job: Task, place: Place, items: Sequence[Item], accounts: Collection[str]) -> None:
    """Share snapshots with accounts.

    For encrypted snapshots, the accounts also get a grant on the key. Without it they cannot read the blocks.
    """
    check_shareable(job.cloud, place, items)
    for item in items:
        id = item["SnapshotId"]
        snapshots.share(job.ledger, f"share/{id}", place, id, accounts)
    for key in sorted({str(s["KmsKeyId"]) for s in items if s.get("Encrypted")}):
        for account in sorted(accounts):
            grantee = job.cloud.account_root(account, place.region)
            kms.create_grant(job.ledger, f"grant/{account}/{key}", place, kms_key_arn=key, grantee=grantee)


def unshare(job: Task, place: Place, items: Sequence[Item], accounts: Collection[str]) -> None:
    """Stop sharing snapshots with accounts.

    Grants on keys are kept, since other snapshots and images can need them. Volumes that the accounts have created are
    not changed.
    """
    for item in items:
        id = item["SnapshotId"]
        snapshots.unshare(job.ledger, f"unshare/{id}", place, id, accounts)


def make_public(job: Task, place: Place, items: Sequence[Item]) -> None:
    """Make snapshots public. Raises UsageError for encrypted ones, and if the account blocks public access."""
    check_publishable(job.cloud, place, items)
    for item in items:
        snapshots.make_public(job.ledger, f"public/{item['SnapshotId']}", place, item["SnapshotId"], public=True)


def check_publishable(cloud: Cloud, place: Place, items: Sequence[Item]) -> None:
    """Check that snapshots can be made public. Raises UsageError if they cannot be."""
    encrypted = [s["SnapshotId"] for s in items if s.get("Encrypted")]
    if encrypted:
        raise UsageError(
            f"{', '.join(encrypted)}: an encrypted snapshot cannot be public",
            hint=f"Share it with single accounts: {command('snapshot share', 'SNAPSHOT', '--with', 'ACCOUNT')}",
        )
    archived = [s["SnapshotId"] for s in items if s.get("StorageTier") == "archive"]
    if archived:
        raise UsageError(
            f"{', '.join(archived)}: an archived snapshot cannot be public",
            hint=f"Restore it first: {command('snapshot restore-archive', 'SNAPSHOT', '--permanent')}",
        )
    state = snapshots.public_access(cloud, place)
    if state != "unblocked":
        raise UsageError(
            f"{place} blocks public snapshots ({state})",
            hint="An administrator of the account can allow them with `aws ec2 disable-snapshot-block-public-access`.",
        )


def make_private(job: Task, place: Place, items: Sequence[Item]) -> None:
    """Make public snapshots private. Accounts that a snapshot is shared with keep their access."""
    for item in items:
        snapshots.make_public(job.ledger, f"private/{item['SnapshotId']}", place, item["SnapshotId"], public=False)
