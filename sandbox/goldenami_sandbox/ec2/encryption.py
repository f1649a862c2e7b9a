"""The encryption of new volumes and copies, and the effects of an unusable key.

EC2 accepts any KmsKeyId and validates it later: the call succeeds, and the new resource fails with a reason. So a key
is resolved to an ``Encryption`` or to a ``KeyProblem``, which callers record as the failure of the new resource.
"""

# ruff: noqa: ARG001  (all actions have the same signature)
from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.hooks import KeyInfo, KeyRefused
from goldenami_sandbox.ec2.records import EbsDefaults, Encryption, Snapshot
from goldenami_sandbox.node.api import DataKey
from goldenami_sandbox.policy import Caller

_INACCESSIBLE = "Given key ID is not accessible"


@dataclass(frozen=True, slots=True)
class KeyProblem:
    """The reason why a key cannot be used: EC2's StateReason code of an instance, and a message."""

    code: str
    message: str


def defaults(cloud: Ec2Cloud, account: str, region: str) -> EbsDefaults:
    return cloud.store.ebs_defaults.setdefault(f"{account}/{region}", EbsDefaults())


def check_parameters(params: Mapping[str, Any], *, source_encrypted: bool) -> None:
    """Check the parameters of an encryption.

    Raises Ec2Error for a key without encryption, and for an unencrypted copy of an encrypted resource.
    """
    if params.get("KmsKeyId") and not params.get("Encrypted") and not (source_encrypted and "Encrypted" not in params):
        raise Ec2Error(
            "InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set."
        )
    if source_encrypted and params.get("Encrypted") is False:
        raise Ec2Error(
            "InvalidParameterCombination", "An encrypted snapshot cannot be copied or restored without encryption."
        )


def default_key(cloud: Ec2Cloud, account: str, region: str) -> KeyInfo | KeyProblem:
    """Return the key that is used if the request has none."""
    key_arn = defaults(cloud, account, region).key_arn
    return cloud.hooks.default_key(account, region) if key_arn is None else usable(cloud, account, region, key_arn)


def usable(cloud: Ec2Cloud, account: str, region: str, key: str) -> KeyInfo | KeyProblem:
    """Return the key if EBS can encrypt with it in this region, else the problem."""
    info = cloud.hooks.kms_resolve(account, region, key)
    if info is None:
        return KeyProblem("Client.InvalidKMSKey.NotFound", _INACCESSIBLE)
    if info.region != region:
        return KeyProblem(
            "Client.InvalidKMSKey.NotFound", f"{_INACCESSIBLE}: it is in region {info.region}, not {region}"
        )
    if not info.symmetric:
        return KeyProblem("Client.InvalidKMSKey.InvalidState", f"{_INACCESSIBLE}: EBS needs a symmetric encryption key")
    if not info.enabled:
        return KeyProblem("Client.InvalidKMSKey.InvalidState", f"{_INACCESSIBLE}: the KMS key is not enabled")
    return info


def new_encryption(cloud: Ec2Cloud, ctx: Ctx, key: str | None, source: Encryption | None) -> Encryption | KeyProblem:
    """Return a new data key under the given key, or under the default key. ``source``: the data's encryption now."""
    info = usable(cloud, ctx.account, ctx.region, key) if key else default_key(cloud, ctx.account, ctx.region)
    if isinstance(info, KeyProblem):
        return info
    try:
        pair = cloud.hooks.kms_generate(info.arn, ctx.caller, source.key_arn if source is not None else None)
    except KeyRefused as refusal:
        return KeyProblem("Client.InternalError", f"{_INACCESSIBLE}: {refusal.message}")
    return Encryption(info.arn, base64.b64encode(pair.wrapped).decode(), info.aws_managed)


def data_key(cloud: Ec2Cloud, encryption: Encryption | None, caller: Caller) -> DataKey | None:
    """Return the plain data key for a caller. Tasks use it as the account, by the grants that EBS has. Raises
    KeyRefused.
    """
    if encryption is None:
        return None
    return DataKey(cloud.hooks.kms_decrypt(base64.b64decode(encryption.wrapped), encryption.key_arn, caller))


def readable(cloud: Ec2Cloud, encryption: Encryption | None, caller: Caller) -> KeyProblem | None:
    """Return None if the caller may decrypt the data key, else the problem."""
    try:
        data_key(cloud, encryption, caller)
    except KeyRefused as refusal:
        disabled = refusal.code in ("DisabledException", "KMSInvalidStateException")
        code = "Client.InvalidKMSKey.InvalidState" if disabled else "Client.InternalError"
        return KeyProblem(code, f"{_INACCESSIBLE}: {refusal.message}")
    return None


def for_volume(
    cloud: Ec2Cloud, ctx: Ctx, source: Snapshot | None, *, encrypted: bool | None, key: str | None
) -> Encryption | KeyProblem | None:
    """Return the encryption of a new volume, or None if it is not encrypted.

    By default a volume keeps its snapshot's data key, so that its snapshots stay in the same lineage. A snapshot of
    another account is encrypted again under a key of this account.
    """
    inherited = source.encryption if source is not None else None
    if inherited is not None and (problem := readable(cloud, inherited, ctx.caller)):
        return problem
    if inherited is not None and source is not None and key is None and source.owner == ctx.account:
        return inherited
    if inherited is None and not encrypted and not defaults(cloud, ctx.account, ctx.region).enabled:
        return None
    return new_encryption(cloud, ctx, key, inherited)


# --- encryption by default --------------------------------------------------------------------------------------------


def _get(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"EbsEncryptionByDefault": defaults(cloud, ctx.account, ctx.region).enabled, "SseType": "sse-ebs"}


def _enable(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    defaults(cloud, ctx.account, ctx.region).enabled = True
    return {"EbsEncryptionByDefault": True}


def _disable(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    defaults(cloud, ctx.account, ctx.region).enabled = False
    return {"EbsEncryptionByDefault": False}


def _get_key(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"KmsKeyId": defaults(cloud, ctx.account, ctx.region).key_arn or "alias/aws/ebs"}


def _modify_key(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """Set the default key. Unlike the key of a copy, this one is validated at once."""
    info = cloud.hooks.kms_resolve(ctx.account, ctx.region, params["KmsKeyId"])
    if info is None:
        raise Ec2Error("InvalidKmsKey.NotFound", f"The specified KMS key '{params['KmsKeyId']}' does not exist")
    if not info.symmetric or not info.enabled or info.region != ctx.region:
        raise Ec2Error("InvalidKmsKey.InvalidState", "The KMS key must be enabled, symmetric and in this Region.")
    defaults(cloud, ctx.account, ctx.region).key_arn = info.arn
    return {"KmsKeyId": info.arn}


def _reset_key(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    defaults(cloud, ctx.account, ctx.region).key_arn = None
    return {"KmsKeyId": "alias/aws/ebs"}


ACTIONS: dict[str, Action] = {
    "GetEbsEncryptionByDefault": _get,
    "EnableEbsEncryptionByDefault": _enable,
    "DisableEbsEncryptionByDefault": _disable,
    "GetEbsDefaultKmsKeyId": _get_key,
    "ModifyEbsDefaultKmsKeyId": _modify_key,
    "ResetEbsDefaultKmsKeyId": _reset_key,
}
