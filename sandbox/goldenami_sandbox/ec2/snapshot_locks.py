"""Locked snapshots, which cannot be deleted, and the account's block on public snapshots."""

# ruff: noqa: ARG001  (all actions have the same signature)
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.ec2 import snapshots
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described
from goldenami_sandbox.ec2.records import Snapshot, SnapshotLock

_DAY, _HOUR = 86400.0, 3600.0
_LONGEST_DAYS, _LONGEST_COOL_OFF = 36500, 72


def lock_snapshot(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    snapshot = cloud.own_snapshot(ctx, params["SnapshotId"])
    now = cloud.now()
    wanted = _requested_lock(params, now)
    current = snapshots.lock_state(cloud, snapshot)
    before = snapshot.lock
    if current == "compliance" and before is not None:
        if wanted.mode != "compliance" or wanted.expires < before.expires:
            raise Ec2Error(
                "OperationNotPermitted",
                f"The snapshot '{snapshot.id}' is locked in compliance mode: its lock can only be extended.",
            )
        if params.get("CoolOffPeriod"):
            raise Ec2Error("InvalidParameterCombination", "The cooling-off period is over and cannot begin again.")
        wanted.cool_off_hours, wanted.cool_off_until = before.cool_off_hours, before.cool_off_until
    elif current is not None and before is not None:
        wanted.created = before.created
    snapshot.lock = wanted
    answer = _rendered(cloud, snapshot)
    del answer["OwnerId"]  # only the describe call returns it
    return answer


def _requested_lock(params: Mapping[str, Any], now: float) -> SnapshotLock:
    mode, hours = params.get("LockMode"), params.get("CoolOffPeriod")
    days, date = params.get("LockDuration"), params.get("ExpirationDate")
    if mode not in ("governance", "compliance"):
        raise Ec2Error("InvalidParameterValue", f"Value ({mode}) for parameter LockMode is invalid.")
    if hours is not None and mode != "compliance":
        raise Ec2Error("InvalidParameterCombination", "CoolOffPeriod is for LockMode compliance only.")
    if hours is not None and not 1 <= hours <= _LONGEST_COOL_OFF:
        raise Ec2Error("InvalidParameterValue", "CoolOffPeriod must be between 1 and 72 hours.")
    if (days is None) == (date is None):
        raise Ec2Error("InvalidParameterCombination", "Either LockDuration or ExpirationDate must be given.")
    if days is not None and not 1 <= days <= _LONGEST_DAYS:
        raise Ec2Error("InvalidParameterValue", "LockDuration must be between 1 and 36500 days.")
    if date is not None and date.timestamp() < now + _DAY:
        raise Ec2Error("InvalidParameterValue", "ExpirationDate must be at least one day in the future.")
    expires = now + days * _DAY if days is not None else (date.timestamp() if date is not None else now)
    return SnapshotLock(mode, now, expires, hours, now + hours * _HOUR if hours is not None else None)


def unlock_snapshot(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    snapshot = cloud.own_snapshot(ctx, params["SnapshotId"])
    current = snapshots.lock_state(cloud, snapshot)
    if current in (None, "expired"):
        raise Ec2Error("IncorrectState", f"The snapshot '{snapshot.id}' is not locked.")
    if current == "compliance":
        raise Ec2Error(
            "OperationNotPermitted",
            f"The snapshot '{snapshot.id}' is locked in compliance mode and its cooling-off period is over.",
        )
    snapshot.lock = None
    return {"SnapshotId": snapshot.id}


FILTERS: dict[str, Source] = {"lock-state": "LockState"}


def describe_locked_snapshots(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    found = cloud.select("snap", cloud.store.snapshots, ctx, params.get("SnapshotIds"))
    answers = [_rendered(cloud, s) for s in found if s.lock is not None]
    return described("Snapshots", answers, params, FILTERS, ["SnapshotId"])


def _rendered(cloud: Ec2Cloud, snapshot: Snapshot) -> dict[str, Any]:
    lock = snapshot.lock
    assert lock is not None
    return {
        "OwnerId": snapshot.owner,
        "SnapshotId": snapshot.id,
        "LockState": snapshots.lock_state(cloud, snapshot),
        "LockDuration": round((lock.expires - lock.created) / _DAY),
        "CoolOffPeriod": lock.cool_off_hours,
        "CoolOffPeriodExpiresOn": lock.cool_off_until,
        "LockCreatedOn": lock.created,
        "LockDurationStartTime": lock.created,
        "LockExpiresOn": lock.expires,
    }


# --- block public access ----------------------------------------------------------------------------------------------


def enable_block(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    if params["State"] not in ("block-all-sharing", "block-new-sharing"):
        raise Ec2Error("InvalidParameterValue", f"Value ({params['State']}) for parameter State is invalid.")
    cloud.store.public_access[f"{ctx.account}/{ctx.region}"] = params["State"]
    return {"State": params["State"]}


def disable_block(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    cloud.store.public_access.pop(f"{ctx.account}/{ctx.region}", None)
    return {"State": "unblocked"}


def block_state(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"State": cloud.public_access(ctx.account, ctx.region), "ManagedBy": "account"}


ACTIONS: dict[str, Action] = {
    "LockSnapshot": lock_snapshot,
    "UnlockSnapshot": unlock_snapshot,
    "DescribeLockedSnapshots": describe_locked_snapshots,
    "EnableSnapshotBlockPublicAccess": enable_block,
    "DisableSnapshotBlockPublicAccess": disable_block,
    "GetSnapshotBlockPublicAccessState": block_state,
}
