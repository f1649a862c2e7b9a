"""KMS keys that encrypt snapshots, and the grants that allow other accounts to use them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from goldenami.aws import errors
from goldenami.aws.ledger import Call, Ledger
from goldenami.aws.session import Cloud
from goldenami.errors import AccessError, CloudError, NotFound, Throttled, Unreachable
from goldenami.model import Place

# The operations that are needed to launch or copy an encrypted image of another account ("Share encrypted AMIs", EC2
# user guide): EBS decrypts or re-encrypts the data key, and creates another grant for the attached volume.
LAUNCH_OPERATIONS: Final = (
    "CreateGrant",
    "Decrypt",
    "DescribeKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
)


# The operations of a service that launches and attaches volumes for an account ("Required AWS KMS key policy for use
# with encrypted volumes", EC2 Auto Scaling user guide). A grant can allow only what its creator's own grant allows.
CONSUMER_OPERATIONS: Final = (*LAUNCH_OPERATIONS, "Encrypt", "GenerateDataKey")


# What is asked to find out whether a role may encrypt with a key.
_DATA_KEY: Final = {"KeySpec": "AES_256"}


@dataclass(frozen=True, slots=True)
class Key:
    """A key as DescribeKey returns it, or as its use proves it."""

    arn: str
    key_id: str
    account: str
    enabled: bool
    state: str
    manager: str  # "CUSTOMER" or "AWS"
    alias: str  # the id, ARN or alias that the caller gave

    @property
    def aws_managed(self) -> bool:
        """Whether AWS manages the key (``alias/aws/ebs``). No other account can use what it encrypts."""
        return self.manager == "AWS"


def resolve(cloud: Cloud, place: Place, key: str, *, by_use: bool = False) -> Key:
    """Return the key with this id, ARN or alias, after checking that EBS can encrypt with it in the place.

    ``by_use``: the account's role needs the key for encryption, so it makes a data key, which is never used. If KMS
    makes one, the key is in the place, enabled, symmetric and for encryption. Otherwise the key is described as well,
    which tells why. If KMS refused the key to the role, or made one, :func:`denied_use` needs no call.

    Raises NotFound if the key does not exist there, is in another region, is disabled or being deleted, or is not a
    symmetric encryption key. EC2 would accept all of these, and the copy would fail later.
    """
    used = _use(cloud, place, key) if by_use else ""
    if isinstance(used, Key):
        cloud.key_uses[place, used.arn] = ""
        return used
    try:
        found: dict[str, Any] = cloud.call(place, "kms", "DescribeKey", {"KeyId": key})["KeyMetadata"]
    except CloudError as error:
        if errors.is_missing(error) or error.code == "InvalidArnException":
            raise NotFound(
                f"KMS key {key} does not exist in region {place.region} of account {place.account}",
                hint="Create the key (or the alias) in that region and account, or set `kms_key` to another key.",
            ) from error
        raise
    except AccessError as error:
        if error.ends_everything:
            raise  # the credentials failed, and the key may be right
        hint = "The key policy must allow kms:DescribeKey to the caller. A key of another account is named by its ARN."
        raise AccessError(f"KMS key {key} in {place}: {error.message}", hint=hint) from error
    arn = str(found["Arn"])
    # What was found out about its use before may not be so any more.
    cloud.key_uses.pop((place, arn), None)
    if used:
        cloud.key_uses[place, arn] = used
    metadata = Key(
        arn=arn,
        key_id=found["KeyId"],
        account=found.get("AWSAccountId", place.account),
        enabled=bool(found.get("Enabled", True)),
        state=found.get("KeyState", "Enabled"),
        manager=found.get("KeyManager", "CUSTOMER"),
        alias=key,
    )
    where = f"KMS key {key} ({arn}) in {place}"
    if arn.split(":")[3] != place.region:
        raise NotFound(
            f"{where} is in region {arn.split(':')[3]}, expected {place.region}, the region of the image",
            hint=f"Set `kms_key` to a key in {place.region}.",
        )
    if not metadata.enabled or metadata.state != "Enabled":
        hint = "Enable the key, or set `kms_key` to another key."
        raise NotFound(f"{where} has the state {metadata.state}, expected Enabled", hint=hint)
    spec = found.get("KeySpec") or found.get("CustomerMasterKeySpec") or "SYMMETRIC_DEFAULT"
    if found.get("KeyUsage", "ENCRYPT_DECRYPT") != "ENCRYPT_DECRYPT" or spec != "SYMMETRIC_DEFAULT":
        usage = found.get("KeyUsage")
        raise NotFound(
            f"{where} has spec {spec} and usage {usage}, expected SYMMETRIC_DEFAULT and ENCRYPT_DECRYPT",
            hint="EBS needs a symmetric encryption key. Set `kms_key` to another key.",
        )
    return metadata


def _use(cloud: Cloud, place: Place, key: str) -> Key | str:
    """Return a key with which KMS made a data key for the account's role. Otherwise return why the role may not use it;
    an empty text if that is not known.

    No such key is an AWS managed one: its policy allows its use only through the service that it is for.
    """
    if f":{key}".rpartition(":")[2].startswith("alias/aws/"):
        return ""
    try:
        arn = str(cloud.call(place, "kms", "GenerateDataKeyWithoutPlaintext", {"KeyId": key, **_DATA_KEY})["KeyId"])
    except (Throttled, Unreachable):
        raise
    except (AccessError, CloudError) as error:
        if error.ends_everything:
            raise
        return error.message if isinstance(error, AccessError) else ""
    parts = arn.split(":", 5)
    if parts[3] != place.region:
        return ""
    return Key(arn, parts[5].partition("/")[2], parts[4], enabled=True, state="Enabled", manager="CUSTOMER", alias=key)


def manager(cloud: Cloud, place: Place, key: str) -> str:
    """Return who manages a key: "CUSTOMER" or "AWS". Raises CloudError or AccessError if it cannot be described."""
    metadata = cloud.call(place, "kms", "DescribeKey", {"KeyId": key})["KeyMetadata"]
    return str(metadata.get("KeyManager", "CUSTOMER"))


def denied_use(cloud: Cloud, place: Place, arn: str) -> str:
    """Return why the account's role may not encrypt with a key, or an empty text if it may.

    KMS evaluates the request without doing it ("Testing your permissions", KMS developer guide). It is not asked about
    a key that :func:`resolve` has used or was refused.
    """
    known = cloud.key_uses.get((place, arn))
    if known is not None:
        return known
    return _denied(cloud, place, "GenerateDataKeyWithoutPlaintext", {"KeyId": arn, **_DATA_KEY})


def _denied(cloud: Cloud, place: Place, operation: str, request: dict[str, Any]) -> str:
    """Return why KMS would refuse a request to the account's role, or an empty text."""
    try:
        cloud.call(place, "kms", operation, {**request, "DryRun": True})
    except CloudError as error:
        if error.code != "DryRunOperationException":
            raise
    except AccessError as error:
        if error.ends_everything:
            raise
        return error.message
    return ""


def create_grant(
    ledger: Ledger,
    key: str,
    place: Place,
    *,
    kms_key_arn: str,
    grantee: str,
    operations: Collection[str] = LAUNCH_OPERATIONS,
) -> str:
    """Ensure that a principal may use a key. Return the grant's id.

    ``grantee``: the ARN of an account's root (``Cloud.account_root``), a role, or a service-linked role. A
    grant can take up to five minutes to become effective ("Grants in KMS", eventual consistency).
    """
    request = {"KeyId": kms_key_arn, "GranteePrincipal": grantee, "Operations": sorted(operations)}
    return ledger.create(key, "grant", place, Call("kms", "CreateGrant", request))


def revoke_grant(ledger: Ledger, place: Place, *, kms_key_arn: str, grant_id: str) -> None:
    """Ensure that a grant is revoked. It ends at once. Instances that were launched with it keep running, because EBS
    has another grant for their volumes."""
    ledger.delete("grant", place, grant_id, parent=kms_key_arn)


def grants(cloud: Cloud, place: Place, kms_key_arn: str) -> list[dict[str, Any]]:
    """Return all grants of a key, as ListGrants returns them."""
    return list(cloud.pages(place, "kms", "ListGrants", "Grants", {"KeyId": kms_key_arn}))


# --- signatures -------------------------------------------------------------------------------------------------------

SIGNING_SPEC: Final = "ECC_NIST_P256"
_NO_SIGNING_KEY: Final = frozenset(
    {"InvalidArnException", "UnsupportedOperationException", "DisabledException", "KMSInvalidStateException"}
)
_SIGNING: Final = {"SigningAlgorithm": "ECDSA_SHA_256", "MessageType": "DIGEST"}


def public_key(cloud: Cloud, place: Place, key: str) -> bytes:
    """Return the public half of a key for signatures, as a SubjectPublicKeyInfo (DER).

    Raises NotFound for a key that does not exist, is disabled, or is of another kind.
    """
    hint = f"Create a key with the spec {SIGNING_SPEC} and the usage SIGN_VERIFY, or set signing.key to another one."
    try:
        found = cloud.call(place, "kms", "GetPublicKey", {"KeyId": key})
    except CloudError as error:
        if errors.is_missing(error) or error.code in _NO_SIGNING_KEY:
            raise NotFound(f"KMS key {key} in {place} cannot sign: {error.message}", hint=hint) from error
        raise
    spec = found.get("KeySpec") or found.get("CustomerMasterKeySpec")
    if spec != SIGNING_SPEC or found.get("KeyUsage") != "SIGN_VERIFY":
        usage = found.get("KeyUsage")
        raise NotFound(
            f"KMS key {key} in {place} has spec {spec} and usage {usage}, expected {SIGNING_SPEC} and SIGN_VERIFY",
            hint=hint,
        )
    return bytes(found["PublicKey"])


def sign(cloud: Cloud, place: Place, key: str, digest: bytes) -> bytes:
    """Return the ECDSA signature (DER) of a SHA-256 digest. KMS takes at most 4 KiB of a message, so it gets the
    digest."""
    answer = cloud.call(place, "kms", "Sign", {"KeyId": key, "Message": digest, **_SIGNING})
    return bytes(answer["Signature"])


def denied_signing(cloud: Cloud, place: Place, key: str) -> str:
    """Return why the account's role may not sign with a key, or an empty text if it may. KMS makes no signature."""
    return _denied(cloud, place, "Sign", {"KeyId": key, "Message": bytes(32), **_SIGNING})
