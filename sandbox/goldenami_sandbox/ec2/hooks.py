"""What EC2 must ask the rest of the cloud: key pairs, networks, KMS, launch templates, parameters, instance profiles.

``Hooks`` is implemented over the services that hold these things. Methods may be called from worker threads, and some
with EC2's lock held: an implementation must not call back into ``Ec2`` while it holds a lock of its own.
Unknown things are answered with None, never with an exception; only the KMS calls refuse, with ``KeyRefused``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


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
    """A KMS key. ``aws_managed``: the account's own ``aws/ebs`` key, whose snapshots cannot be shared."""

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
    """A fresh 32-byte data key: as it is, and as KMS wrapped it."""

    plain: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LaunchTemplate:
    """One version of a launch template. ``data`` has the names of LaunchTemplateData as boto3 gives them."""

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
    """KMS does not let this account use the key: no such key, disabled, or neither key policy nor grant allow it.

    ``code`` is KMS's own error code: NotFoundException, DisabledException, AccessDeniedException,
    KMSInvalidStateException.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Hooks(Protocol):
    def key_pair(self, account: str, region: str, name: str) -> KeyPair | None: ...

    def security_group(self, account: str, region: str, group: str, vpc_id: str | None = None) -> SecurityGroup | None:
        """By id (sg-…) or, within a VPC (default: the default VPC), by name. ``default`` names each VPC's own."""

    def subnet(
        self, account: str, region: str, subnet_id: str | None, availability_zone: str | None = None
    ) -> Subnet | None:
        """By id; with None, a default subnet of the default VPC (in the zone, if one is given)."""

    def kms_resolve(self, account: str, region: str, key: str) -> KeyInfo | None:
        """``key`` is an id, an ARN (possibly of another account), ``alias/name`` or an alias's ARN, seen from account
        and region. None where there is no such key. A key pending deletion is answered with ``enabled=False``."""

    def kms_generate(self, key_arn: str, account: str) -> DataKeyPair:
        """GenerateDataKey as a principal of ``account``. Raises KeyRefused."""

    def kms_decrypt(self, wrapped: bytes, key_arn: str, account: str) -> bytes:
        """Unwrap a data key as a principal of ``account``: its own key, or allowed by key policy or grant. Raises
        KeyRefused."""

    def default_key(self, account: str, region: str) -> KeyInfo:
        """The key behind alias/aws/ebs, made when first asked for."""

    def launch_template(self, account: str, region: str, template: str, version: str | None) -> LaunchTemplate | None:
        """``template`` is an id (lt-…) or a name; ``version`` a number, ``$Latest``, ``$Default`` or None (the
        default)."""

    def launch_templates(self, account: str, region: str) -> list[list[LaunchTemplate]]:
        """Every launch template, with all its versions, oldest first."""

    def image_parameters(self, account: str, region: str) -> dict[str, str]:
        """The SSM parameters of type aws:ec2:image, with their values."""

    def ssm_image(self, account: str, region: str, parameter: str) -> str | None:
        """The image id in an SSM parameter: ``name``, ``name:version`` or ``name:label``; public ones included."""

    def instance_profile(self, account: str, name_or_arn: str) -> InstanceProfile | None: ...
