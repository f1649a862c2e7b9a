"""The initial contents of a cloud: accounts with an administrator and roles, KMS keys, and public images of vendors.

The public images and their SSM parameters have the names that their vendors use, so that recipes resolve as on AWS.
Debian's images for x86_64 have contents, which the node makes at first use. The others can be described but not
launched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goldenami_sandbox.accounts import HOME, REGIONS, admin_key
from goldenami_sandbox.ec2.service import Ec2
from goldenami_sandbox.surface import Surface

ROLES = ("goldenami-builder", "goldenami-publisher")
KEY_ALIAS = "alias/golden-ami"
SPOT_ROLE, SPOT_PATH = "AWSServiceRoleForEC2Spot", "/aws-service-role/spot.amazonaws.com/"

IMAGE_TYPE = "aws:ec2:image"  # of SSM parameters

_DEBIAN, _CANONICAL, _AMAZON = "136693071363", "099720109477", "137112412989"
_REDHAT, _ROCKY, _ALMA = "309956199498", "792107900819", "764336703387"


@dataclass(frozen=True, slots=True)
class PublicParameter:
    """A vendor's SSM parameter in one region. Every account can read it there."""

    region: str
    name: str
    value: str
    data_type: str = IMAGE_TYPE


@dataclass(frozen=True, slots=True)
class _Vendor:
    """A public image. ``parameters``: the SSM names of the image."""

    owner: str
    name: str
    architecture: str
    description: str
    created: str
    parameters: tuple[str, ...]
    default_user: str
    root_device_name: str = "/dev/xvda"
    boot_mode: str = "uefi-preferred"
    release: str | None = None  # of the node's base roots
    owner_alias: str | None = None


def _debian(version: str, serial: str, created: str) -> list[_Vendor]:
    return [
        _Vendor(
            owner=_DEBIAN,
            name=f"debian-{version}-{machine}-{serial}",
            architecture=architecture,
            description=f"Debian {version} ({serial})",
            created=created,
            parameters=(f"/aws/service/debian/release/{version}/latest/{machine}",),
            default_user="admin",
            boot_mode="uefi-preferred" if machine == "amd64" else "uefi",
            release=f"debian-{version}" if machine == "amd64" else None,
        )
        for machine, architecture in (("amd64", "x86_64"), ("arm64", "arm64"))
    ]


def _red_hat(machine: str, architecture: str) -> list[_Vendor]:
    """Red Hat's, Rocky Linux's and AlmaLinux's images of release 9, which have no SSM parameters.

    ``machine``: the architecture in RPM's spelling. ``architecture``: in EC2's and Red Hat's spelling.
    """
    boot_mode = "uefi-preferred" if architecture == "x86_64" else "uefi"
    names = (
        (_REDHAT, f"RHEL-9.7.0_HVM-20261103-{architecture}-0-Hourly2-GP3", "2026-11-03T09:20:11.000Z", "ec2-user"),
        (_ROCKY, f"Rocky-9-EC2-Base-9.7-20261110.0.{machine}", "2026-11-10T17:02:45.000Z", "rocky"),
        (_ALMA, f"AlmaLinux OS 9.7.20261112 {machine}", "2026-11-12T11:31:08.000Z", "ec2-user"),
    )
    return [
        _Vendor(
            owner=owner,
            name=name,
            architecture=architecture,
            description=name,
            created=created,
            parameters=(),
            default_user=user,
            root_device_name="/dev/sda1",
            boot_mode=boot_mode,
        )
        for owner, name, created, user in names
    ]


_PUBLIC: tuple[_Vendor, ...] = (
    *_debian("12", "20261110-2295", "2026-11-10T00:12:41.000Z"),
    *_debian("13", "20261112-2297", "2026-11-12T00:14:03.000Z"),
    *(
        _Vendor(
            owner=_CANONICAL,
            name=f"ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{machine}-server-20261105",
            architecture=architecture,
            description=f"Canonical, Ubuntu, 24.04, {machine} noble image",
            created="2026-11-05T06:44:19.000Z",
            parameters=(f"/aws/service/canonical/ubuntu/server/24.04/stable/current/{machine}/hvm/ebs-gp3/ami-id",),
            default_user="ubuntu",
            root_device_name="/dev/sda1",
            boot_mode="uefi-preferred" if machine == "amd64" else "uefi",
        )
        for machine, architecture in (("amd64", "x86_64"), ("arm64", "arm64"))
    ),
    *(
        _Vendor(
            owner=_AMAZON,
            name=f"al2023-ami-2023.9.20261109.0-kernel-6.1-{architecture}",
            architecture=architecture,
            description=f"Amazon Linux 2023 AMI 2023.9.20261109.0 {architecture} HVM kernel-6.1",
            created="2026-11-09T22:01:57.000Z",
            parameters=(
                f"/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-6.1-{architecture}",
                f"/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{architecture}",
            ),
            default_user="ec2-user",
            boot_mode="uefi-preferred" if architecture == "x86_64" else "uefi",
            owner_alias="amazon",
        )
        for architecture in ("x86_64", "arm64")
    ),
    *(image for pair in (("x86_64", "x86_64"), ("aarch64", "arm64")) for image in _red_hat(*pair)),
)


def public_images(ec2: Ec2, region: str) -> list[PublicParameter]:
    """Publish the vendors' images in a region and return their SSM parameters. A second call changes nothing."""
    parameters = []
    for image in _PUBLIC:
        image_id = ec2.add_public_image(
            region,
            image.owner,
            image.name,
            architecture=image.architecture,
            release=image.release,
            default_user=image.default_user,
            owner_alias=image.owner_alias,
            description=image.description,
            creation_date=image.created,
            root_device_name=image.root_device_name,
            boot_mode=image.boot_mode,
        )
        parameters += [PublicParameter(region, name, image_id) for name in image.parameters]
    return parameters


def accounts(surface: Surface, ids: Mapping[str, str]) -> None:
    """Create administrators, roles that trust the home account, and KMS keys. Existing ones are kept."""
    home = ids.get("home", HOME)
    with surface.active():
        for account in ids.values():
            iam = surface.backend("iam", account, "aws")
            _administrator(iam, account)
            names = {known.name for known in iam.roles.values()}
            for role in ROLES:
                if role not in names:
                    _role(iam, role, home)
            if SPOT_ROLE not in names:
                spot_role(iam)
            for region in REGIONS:
                kms = surface.backend("kms", account, region)
                if not kms.alias_exists(KEY_ALIAS):
                    key = kms.create_key(
                        key_policy(account), "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "Golden images", None
                    )
                    kms.create_alias(key.id, KEY_ALIAS)


_ALL_RIGHTS = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})


def _administrator(iam: Any, account: str) -> None:
    """Create the IAM user of the account's administrator key. It always has all rights."""
    user = iam.users.get("admin") or iam.create_user("us-east-1", "admin")
    user.id = "AIDA" + admin_key(account, "").access_key_id[4:]
    user.policies["all"] = _ALL_RIGHTS


def key_policy(account: str) -> str:
    """Return the default policy of a key, with a statement for spot instances ("Grant access to customer managed keys
    for use with encrypted AMIs and EBS snapshots", EC2 user guide).
    """
    root, spot = f"arn:aws:iam::{account}:root", f"arn:aws:iam::{account}:role{SPOT_PATH}{SPOT_ROLE}"
    own = {"Sid": "Account", "Effect": "Allow", "Principal": {"AWS": root}, "Action": "kms:*", "Resource": "*"}
    actions = ["Decrypt", "Encrypt", "GenerateDataKey*", "CreateGrant", "DescribeKey", "ReEncrypt*"]
    spots = {"Principal": {"AWS": spot}, "Action": [f"kms:{name}" for name in actions], "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [own, {"Sid": "Spot", "Effect": "Allow", **spots}]})


def spot_role(iam: Any) -> None:
    """Create the service-linked role of Spot, which exists in each account that has used spot instances."""
    trust = {"Effect": "Allow", "Principal": {"Service": "spot.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam.create_role(
        role_name=SPOT_ROLE,
        assume_role_policy_document=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        path=SPOT_PATH,
        permissions_boundary=None,
        description="",
        tags=[],
        max_session_duration=3600,
    )


def _role(iam: Any, name: str, home: str) -> None:
    """Create a role with all rights, which count only if the settings enforce policies."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{home}:root"}, "Action": "sts:AssumeRole"}
        ],
    }
    made = iam.create_role(
        role_name=name,
        assume_role_policy_document=json.dumps(trust),
        path="/",
        permissions_boundary=None,
        description="",
        tags=[],
        max_session_duration=43200,
    )
    made.policies["all"] = _ALL_RIGHTS
