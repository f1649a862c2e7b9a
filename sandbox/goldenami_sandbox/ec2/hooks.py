"""What EC2 needs from the rest of the cloud: key pairs, networks, KMS, launch templates, parameters, instance profiles.

The services that keep these implement ``Hooks``. Methods can be called from worker threads, and some with EC2's lock
held: an implementation must not call ``Ec2`` while it holds a lock. Unknown names return None and raise nothing. Only
the KMS calls raise ``KeyRefused``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from goldenami_sandbox.policy import Caller


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An EC2 key pair. ``public_key`` is one OpenSSH line."""

    name: str
    key_pair_id: str
    public_key: str


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    group_id: str
    name: str
    vpc_id: str


@dataclass(frozen=True, slots=True)
class Subnet:
    subnet_id: str
    vpc_id: str
    availability_zone: str
    cidr_block: str
    owner: str
    map_public_ip_on_launch: bool = True


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A KMS key. ``aws_managed``: the account's ``aws/ebs`` key, whose snapshots cannot be shared."""

    arn: str
    account: str
    region: str
    enabled: bool
    spec: str = "SYMMETRIC_DEFAULT"
    usage: str = "ENCRYPT_DECRYPT"
    aws_managed: bool = False

    @property
    def symmetric(self) -> bool:
        return self.spec == "SYMMETRIC_DEFAULT" and self.usage == "ENCRYPT_DECRYPT"


@dataclass(frozen=True, slots=True)
class DataKeyPair:
    """A new 32-byte data key: plain, and as KMS encrypted it."""

    plain: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LaunchTemplate:
    """One version of a launch template. ``data`` has the names of LaunchTemplateData in boto3."""

    template_id: str
    name: str
    version: int
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class InstanceProfile:
    arn: str
    profile_id: str
    name: str


class KeyRefused(Exception):
    """KMS does not let this account use the key: it does not exist, is disabled, or no key policy or grant allows the
    use.

    ``code`` is KMS's error code: NotFoundException, DisabledException, AccessDeniedException, KMSInvalidStateException.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Hooks(Protocol):
    def key_pair(self, account: str, region: str, name: str) -> KeyPair | None: ...

    def security_group(self, account: str, region: str, group: str, vpc_id: str | None = None) -> SecurityGroup | None:
        """Return a group by id (sg-…), or by its name in a VPC (default: the default VPC). Each VPC has a group
        ``default``.
        """

    def subnet(
        self, account: str, region: str, subnet_id: str | None, availability_zone: str | None = None
    ) -> Subnet | None:
        """Return a subnet by id, or a default subnet of the default VPC for None (in the zone, if given)."""

    def kms_resolve(self, account: str, region: str, key: str) -> KeyInfo | None:
        """Return a key, or None if there is none.

        ``key`` is an id, an ARN (possibly of another account), ``alias/name`` or an alias's ARN, seen from an account
        and region. A key that is pending deletion has ``enabled=False``.
        """

    def kms_generate(self, key_arn: str, caller: Caller, source: str | None = None) -> DataKeyPair:
        """Call GenerateDataKey for a caller of EC2. ``source``: the ARN of the key that encrypts the data now, if it is
        encrypted again. Raises KeyRefused.
        """

    def kms_decrypt(self, wrapped: bytes, key_arn: str, caller: Caller) -> bytes:
        """Decrypt a data key for a caller of EC2. Raises KeyRefused unless the key's policy, the caller's policies or a
        grant allow it.
        """

    def spot_role(self, caller: Caller) -> bool:
        """Return whether the account has the service-linked role of Spot. It is created if the caller may do that."""

    def kms_serves_spot(self, key_arn: str, account: str) -> bool:
        """Return whether the service-linked role of Spot in the account may use a key. The key's policy or a grant must
        name the role itself.
        """

    def default_key(self, account: str, region: str) -> KeyInfo:
        """Return the key of alias/aws/ebs. The first use creates it."""

    def launch_template(self, account: str, region: str, template: str, version: str | None) -> LaunchTemplate | None:
        """Return a template version. ``template``: an id (lt-…) or a name.

        ``version``: a number, ``$Latest``, ``$Default`` or None (the default).
        """

    def launch_templates(self, account: str, region: str) -> list[list[LaunchTemplate]]:
        """Return every launch template with all its versions, oldest first."""

    def image_parameters(self, account: str, region: str) -> dict[str, str]:
        """Return the SSM parameters of type aws:ec2:image, with their values."""

    def ssm_image(self, account: str, region: str, parameter: str) -> str | None:
        """Return the image id in an SSM parameter: ``name``, ``name:version`` or ``name:label``. Public ones are
        included.
        """

    def instance_profile(self, account: str, name_or_arn: str) -> InstanceProfile | None: ...
