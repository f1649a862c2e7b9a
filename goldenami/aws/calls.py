"""The API calls that goldenami makes: one table.

Each row has a call, what it is for, the tasks it belongs to, the roles that make it, and the permissions that it needs.
``policies`` makes IAM policies of the table, and tests play whole runs with exactly these policies. A row that no run
of the tests needs says why.

The permissions are those of the Service Authorization Reference ("Actions, resources, and condition keys").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """Who makes a call.

    BUILDER: the caller or role in the home account. PUBLISHER: the role in another account. PLANNER: whoever only
    validates, plans and lists. CALLER: the identity that assumes these roles. CONSUMER: a principal that launches
    released images; its calls are not goldenami's.
    """

    BUILDER = "builder"
    PUBLISHER = "publisher"
    CONSUMER = "consumer"
    PLANNER = "planner"
    CALLER = "caller"


class Job(StrEnum):
    """What a call is for. BUILD: plan, build, resume, clean, verify. RETIRE: retire, orphans, clean --expired.
    SNAPSHOTS: the commands of ``snapshot``. VOLUMES: those of ``volume``, and ``snapshot restore``. SCHEDULES: schedule
    run. DLM: dlm plan, apply, import. PROVE: boot images in other accounts (distribution.prove: each-region or
    each-target, test --account)."""

    BUILD = "build"
    PROVE = "prove"
    RETIRE = "retire"
    SNAPSHOTS = "snapshots"
    VOLUMES = "volumes"
    SCHEDULES = "schedules"
    DLM = "dlm"


@dataclass(frozen=True, slots=True)
class Permission:
    """An IAM action on a kind of resource. ``resource`` and ``condition`` are names in ``policies``; "" is none."""

    action: str
    resource: str
    condition: str = ""


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A row. ``service``, ``operation``: as botocore names them. ``unrecorded``: why no run of the test makes it."""

    service: str
    operation: str
    purpose: str
    jobs: frozenset[Job]
    roles: frozenset[Role]
    permissions: tuple[Permission, ...]
    unrecorded: str = ""

    @property
    def name(self) -> str:
        return f"{self.service}:{self.operation}"


_EVERY = frozenset(Job)
_B, _P, _L, _C, _K = Role.BUILDER, Role.PUBLISHER, Role.PLANNER, Role.CONSUMER, Role.CALLER
_BUILD, _PROVE, _RETIRE, _SNAPSHOTS, _VOLUMES, _SCHEDULES, _DLM = Job


def _row(
    name: str,
    purpose: str,
    jobs: Iterable[Job],
    roles: Iterable[Role],
    *needs: str,
    unrecorded: str = "",
) -> ApiCall:
    """Return a row. ``needs``: "RESOURCE [CONDITION]" of the call's own action, or "ACTION RESOURCE [CONDITION]"."""
    service, _, operation = name.partition(":")
    permissions = []
    for need in needs:
        parts = need.split()
        action = parts.pop(0) if ":" in parts[0] else name
        permissions.append(Permission(action, *parts))
    return ApiCall(service, operation, purpose, frozenset(jobs), frozenset(roles), tuple(permissions), unrecorded)


def _creating(operation: str, *types: str) -> tuple[str, ...]:
    """Return the permissions to tag what a call creates, and the tags that it must have."""
    return tuple(f"ec2:CreateTags {kind} creating-{operation}" for kind in types)


# What EBS needs of a key, as the caller ("Permissions for Amazon EBS encryption", EBS user guide).
_READ_KEY = ("kms:DescribeKey key ebs", "kms:Decrypt key ebs", "kms:CreateGrant key ebs-grant")
_WRITE_KEY = ("kms:GenerateDataKeyWithoutPlaintext key ebs",)
_CHANGE_KEY = (*_READ_KEY, *_WRITE_KEY, "kms:ReEncryptFrom key ebs", "kms:ReEncryptTo key ebs")

# What RunInstances uses and makes, and the tags of that.
_LAUNCHED = (
    "image",
    "snapshot",
    "instance new",
    "network-interface new",
    "volume new",
    "spot-instances-request new",
    "security-group",
    "subnet",
    "key-pair",
)
_LAUNCH_TAGS = _creating("RunInstances", "instance", "volume", "network-interface", "spot-instances-request")

_ALL_READERS = (_B, _P, _L)
_NO_INSPECTOR = "tests/evidence/test_inspector.py makes the call"
_NO_GROUP = "tests/release/test_consumer_launch.py makes the call"

TABLE: Final[tuple[ApiCall, ...]] = (
    # --- identity -----------------------------------------------------------------------------------------------------
    _row("sts:GetCallerIdentity", "compare the caller's account with the environment", _EVERY, (_B, _L, _K)),
    _row("sts:AssumeRole", "work in the accounts of the environment", _EVERY, (_K,), "role"),
    # --- reading EC2 --------------------------------------------------------------------------------------------------
    _row("ec2:DescribeRegions", "check that the regions of the targets are enabled", (_BUILD,), _ALL_READERS, "any"),
    _row("ec2:DescribeImages", "find the base, read images back, list releases", _EVERY, _ALL_READERS, "any"),
    _row(
        "ec2:DescribeImageAttribute",
        "read who may launch an image",
        (_BUILD, _RETIRE),
        _ALL_READERS,
        "image",
    ),
    _row("ec2:DescribeSnapshots", "read snapshots", _EVERY, _ALL_READERS, "any"),
    _row(
        "ec2:DescribeSnapshotAttribute",
        "read who may use a snapshot",
        (_BUILD, _SNAPSHOTS, _SCHEDULES),
        _ALL_READERS,
        "snapshot",
    ),
    _row("ec2:DescribeInstances", "wait for instances, find what uses an image", _EVERY, _ALL_READERS, "any"),
    _row("ec2:DescribeVolumes", "read volumes", _EVERY, _ALL_READERS, "any"),
    _row("ec2:DescribeSubnets", "choose the builder's subnet", (_BUILD,), (_B, _L), "any"),
    _row("ec2:DescribeKeyPairs", "find what a build left", (_BUILD, _RETIRE), _ALL_READERS, "any"),
    _row(
        "ec2:DescribeSecurityGroups",
        "find what a build left, and the default group of a VPC",
        (_BUILD, _RETIRE),
        _ALL_READERS,
        "any",
    ),
    _row("ec2:DescribeNetworkInterfaces", "see what uses a security group", (_RETIRE,), _ALL_READERS, "any"),
    _row(
        "ec2:GetEbsEncryptionByDefault",
        "choose the key of the builder's root volume",
        (_BUILD,),
        (_B, _L),
        "any",
    ),
    _row("ec2:GetEbsDefaultKmsKeyId", "choose the key of the builder's root volume", (_BUILD,), (_B, _L), "any"),
    _row(
        "ec2:GetConsoleOutput",
        "show why a host cannot be reached; read its host key",
        (_BUILD, _SNAPSHOTS),
        (_B, _P),
        "instance",
        unrecorded="the runs have no hosts that could be unreachable: tests/snapshots/test_real.py makes the call",
    ),
    _row(
        "ec2:DescribeInstanceAttribute",
        "see whether an instance may be stopped",
        (_VOLUMES, _SNAPSHOTS),
        (_B, _P),
        "instance",
    ),
    _row(
        "ec2:DescribeInstanceTypes",
        "see whether a stop loses an instance store",
        (_VOLUMES, _SNAPSHOTS),
        (_B, _P),
        "any",
    ),
    _row(
        "autoscaling:DescribeAutoScalingInstances",
        "see whether a group would replace a stopped instance",
        (_VOLUMES, _SNAPSHOTS),
        (_B, _P),
        "any",
    ),
    _row("ec2:DescribeInstanceStatus", "wait until a restored instance is healthy", (_VOLUMES,), (_B, _P), "any"),
    _row("ec2:DescribeLaunchTemplates", "find what uses an image", (_RETIRE, _PROVE), _ALL_READERS, "any"),
    _row(
        "ec2:DescribeLaunchTemplateVersions",
        "find what uses an image, read the templates that follow a channel",
        (_BUILD, _RETIRE),
        _ALL_READERS,
        "any",
    ),
    _row("ec2:DescribeImageReferences", "find what uses an image", (_RETIRE,), _ALL_READERS, "any"),
    _row("ec2:DescribeImageUsageReports", "find which accounts use a shared image", (_RETIRE,), _ALL_READERS, "any"),
    _row(
        "ec2:DescribeImageUsageReportEntries",
        "find which accounts use a shared image",
        (_RETIRE,),
        _ALL_READERS,
        "any",
    ),
    _row("autoscaling:DescribeAutoScalingGroups", "find what uses an image", (_RETIRE, _PROVE), _ALL_READERS, "any"),
    _row("autoscaling:DescribeLaunchConfigurations", "find what uses an image", (_RETIRE,), _ALL_READERS, "any"),
    _row("ec2:DescribeFleets", "find what uses an image", (_RETIRE,), _ALL_READERS, "any"),
    _row("ec2:DescribeSpotFleetRequests", "find what uses an image", (_RETIRE,), _ALL_READERS, "any"),
    _row("ec2:DescribeSpotInstanceRequests", "find what uses an image", (_RETIRE,), _ALL_READERS, "any"),
    _row("batch:DescribeComputeEnvironments", "find what uses an image", (_RETIRE,), _ALL_READERS, "any"),
    _row("eks:ListClusters", "find what uses an image", (_RETIRE,), _ALL_READERS, "any"),
    _row(
        "eks:ListNodegroups",
        "find what uses an image",
        (_RETIRE,),
        _ALL_READERS,
        "any",
        unrecorded="the accounts of the runs have no clusters: tests/lifecycle/test_retire.py makes the call",
    ),
    _row(
        "eks:DescribeNodegroup",
        "find what uses an image",
        (_RETIRE,),
        _ALL_READERS,
        "any",
        unrecorded="the accounts of the runs have no clusters: tests/lifecycle/test_retire.py makes the call",
    ),
    _row("ec2:DescribeLockedSnapshots", "show locks", (_SNAPSHOTS, _SCHEDULES), _ALL_READERS, "any"),
    _row("ec2:DescribeSnapshotTierStatus", "show tiers", (_SNAPSHOTS, _SCHEDULES), _ALL_READERS, "any"),
    _row("ec2:DescribeFastSnapshotRestores", "keep the quota", (_SCHEDULES,), (_B, _P), "any"),
    _row("ec2:DescribeFastSnapshotRestores", "see which releases have it", (_BUILD,), _ALL_READERS, "any"),
    _row(
        "ec2:GetSnapshotBlockPublicAccessState",
        "explain why a snapshot cannot be public",
        (_SNAPSHOTS,),
        (_B, _P),
        "any",
    ),
    _row(
        "ec2:DescribeReplaceRootVolumeTasks",
        "wait for a new root volume",
        (_VOLUMES,),
        (_B, _P),
        "any",
    ),
    # --- findings of Amazon Inspector: scan --inspector ---------------------------------------------------------------
    _row(
        "inspector2:BatchGetAccountStatus",
        "see whether Inspector scans instances",
        (_BUILD,),
        (_B, _P),
        "any",
        unrecorded=_NO_INSPECTOR,
    ),
    _row(
        "inspector2:ListCoverage",
        "see whether Inspector looked at an instance",
        (_BUILD,),
        (_B, _P),
        "any",
        unrecorded=_NO_INSPECTOR,
    ),
    _row(
        "inspector2:ListFindings",
        "read vulnerabilities of instances",
        (_BUILD,),
        (_B, _P),
        "any",
        unrecorded=_NO_INSPECTOR,
    ),
    # --- checks before a build ----------------------------------------------------------------------------------------
    _row(
        "iam:SimulatePrincipalPolicy",
        "find permissions that a role lacks (doctor)",
        (_BUILD,),
        (_B, _P),
        "own-identity",
    ),
    _row("ec2:DescribeInstanceTypeOfferings", "find zones that offer the type", (_BUILD,), (_B, _L), "any"),
    _row("ec2:DescribeRouteTables", "see whether builders reach package archives", (_BUILD,), (_B, _L), "any"),
    _row("ec2:GetAllowedImagesSettings", "see whether an image may be launched", (_BUILD,), _ALL_READERS, "any"),
    _row(
        "ec2:GetImageBlockPublicAccessState",
        "see whether images can become public by mistake",
        (_BUILD,),
        _ALL_READERS,
        "any",
    ),
    _row(
        "service-quotas:GetServiceQuota",
        "see whether there is room for builders",
        (_BUILD,),
        (_B, _L),
        "servicequotas:GetServiceQuota any",
    ),
    _row(
        "kms:GenerateDataKeyWithoutPlaintext",
        "see whether a role may use a key",
        (_BUILD,),
        (_B, _P),
        "key",
    ),
    # --- building -----------------------------------------------------------------------------------------------------
    _row(
        "ec2:RunInstances",
        "launch builders and test instances",
        (_BUILD,),
        (_B,),
        *_LAUNCHED,
        "iam:PassRole profile-role pass-to-ec2",
        *_LAUNCH_TAGS,
        *_CHANGE_KEY,
    ),
    _row("ec2:TerminateInstances", "end builders and test instances", (_BUILD, _RETIRE), (_B,), "instance ours"),
    _row(
        "ec2:ImportKeyPair",
        "give the builder a login key",
        (_BUILD,),
        (_B,),
        "key-pair new",
        *_creating("ImportKeyPair", "key-pair"),
    ),
    _row("ec2:DeleteKeyPair", "delete the login key", (_BUILD, _RETIRE), (_B,), "key-pair ours"),
    _row(
        "ec2:CreateSecurityGroup",
        "let this machine connect to the builder",
        (_BUILD,),
        (_B,),
        "security-group new",
        "vpc",
        *_creating("CreateSecurityGroup", "security-group"),
    ),
    _row(
        "ec2:AuthorizeSecurityGroupIngress",
        "let this machine connect to the builder",
        (_BUILD,),
        (_B,),
        "security-group ours",
    ),
    _row(
        "ec2:ModifyInstanceAttribute",
        "take the instance of the last test out of the security group",
        (_BUILD,),
        (_B,),
        "instance ours",
        "security-group",
    ),
    _row("ec2:DeleteSecurityGroup", "delete the security group", (_BUILD, _RETIRE), (_B,), "security-group ours"),
    _row(
        "ec2:CreateImage",
        "capture the builder",
        (_BUILD,),
        (_B,),
        "instance ours",
        "image new",
        "snapshot new",
        *_creating("CreateImage", "image", "snapshot"),
    ),
    # --- reaching the builder -----------------------------------------------------------------------------------------
    _row(
        "ec2:DescribeInstanceConnectEndpoints",
        "find the endpoint (transport instance-connect), and open a tunnel",
        (_BUILD,),
        (_B,),
        "connect-endpoints",
        "ec2-instance-connect:OpenTunnel instance-connect-endpoint",
        unrecorded="the sandbox has no such endpoint: tests/ssh/test_aws_transports.py tests the calls",
    ),
    _row(
        "ssm:StartSession",
        "connect through Session Manager (transport ssm)",
        (_BUILD,),
        (_B,),
        "ssm-instance",
        "ssm-document",
        unrecorded="the sandbox has no Session Manager: tests/ssh/test_aws_transports.py tests the calls",
    ),
    _row(
        "ssm:TerminateSession",
        "end a session (transport ssm)",
        (_BUILD,),
        (_B,),
        "ssm-session",
        unrecorded="the sandbox has no Session Manager: tests/ssh/test_aws_transports.py tests the calls",
    ),
    # --- releasing ----------------------------------------------------------------------------------------------------
    _row(
        "ec2:CopyImage",
        "give a target its own image",
        (_BUILD,),
        (_B, _P),
        "image",
        "snapshot",
        *_creating("CopyImage", "image", "snapshot"),
        *_CHANGE_KEY,
    ),
    _row(
        "ec2:ModifyImageAttribute",
        "share an image, require IMDSv2, end the sharing",
        (_BUILD,),
        (_B, _P),
        "image ours",
    ),
    _row(
        "ec2:EnableImageDeprecation",
        "set when an image is deprecated",
        (_BUILD, _RETIRE),
        (_B, _P),
        "image ours",
    ),
    _row(
        "ec2:DisableImageDeprecation",
        "end the deprecation of an image that its recipe does not declare any more",
        (_BUILD,),
        (_B, _P),
        "image ours",
    ),
    _row(
        "ec2:EnableImageDeregistrationProtection",
        "protect released images, if their recipe declares it",
        (_BUILD, _RETIRE),
        (_B, _P),
        "image ours",
    ),
    _row(
        "ec2:DisableImageDeregistrationProtection",
        "end the protection that goldenami gave an image",
        (_BUILD, _RETIRE),
        (_B, _P),
        "image ours",
    ),
    _row(
        "ec2:EnableFastSnapshotRestores",
        "make the snapshots of a release fast, if its recipe declares it",
        (_BUILD,),
        (_B, _P),
        "snapshot ours",
    ),
    _row("ec2:DisableFastSnapshotRestores", "end that of former releases", (_BUILD,), (_B, _P), "snapshot ours"),
    _row(
        "ec2:CreateTags",
        "give the images and snapshots of a release their declared tags",
        (_BUILD, _RETIRE),
        (_B, _P),
        "image ours",
        "snapshot ours",
    ),
    _row(
        "ec2:DeleteTags",
        "remove the expiry tag of what is released",
        (_BUILD,),
        (_B, _P),
        "image ours",
        "snapshot ours",
    ),
    _row(
        "ec2:CreateTags",
        "tag the home account's images in an account that uses them",
        (_BUILD,),
        (_P,),
        "image lent",
        "snapshot lent",
    ),
    _row(
        "ec2:DeleteTags",
        "remove the tags in an account that uses the home account's images",
        (_BUILD,),
        (_P,),
        "image lent",
        "snapshot lent",
    ),
    _row("ec2:DeregisterImage", "delete images", (_BUILD, _RETIRE), (_B, _P), "image ours"),
    _row("ec2:DisableImage", "withdraw a release", (_RETIRE,), (_B, _P), "image ours"),
    _row(
        "ec2:EnableImage",
        "give back an image that could not be deleted",
        (_RETIRE,),
        (_B, _P),
        "image ours",
    ),
    # --- keys ---------------------------------------------------------------------------------------------------------
    _row(
        "kms:DescribeKey",
        "check a key before it is used",
        (_BUILD, _RETIRE, _SNAPSHOTS, _VOLUMES, _SCHEDULES, _DLM),
        _ALL_READERS,
        "any-key",
    ),
    _row(
        "kms:CreateGrant",
        "let an account use a shared image or snapshot",
        (_BUILD, _SNAPSHOTS, _SCHEDULES),
        (_B, _P),
        "key launch-grant",
    ),
    _row(
        "kms:ListGrants",
        "find the grants of a build",
        (_BUILD, _RETIRE, _SNAPSHOTS, _SCHEDULES),
        _ALL_READERS,
        "key",
    ),
    _row(
        "kms:RevokeGrant",
        "end the use of a key",
        (_BUILD, _RETIRE, _SNAPSHOTS, _SCHEDULES),
        (_B, _P),
        "key",
    ),
    _row("kms:GetPublicKey", "see who signs", (_BUILD,), (_B,), "signing-key"),
    _row("kms:Sign", "sign the statement about a release", (_BUILD,), (_B,), "signing-key"),
    _row("kms:GenerateDataKey", "seal secrets in a bucket", _EVERY, (_B,), "bucket-key secret"),
    _row("kms:Decrypt", "open secrets in a bucket", _EVERY, (_B,), "bucket-key secret"),
    _row("kms:Decrypt", "check journals in a bucket", _EVERY, (_L,), "bucket-key journals"),
    # --- parameters ---------------------------------------------------------------------------------------------------
    _row(
        "ssm:GetParameter",
        "find the base, read parameters back",
        (_BUILD, _RETIRE),
        _ALL_READERS,
        "parameter",
        "public-parameter",
    ),
    _row(
        "ssm:GetParameters",
        "see whether parameters are free before anything is launched, and read them back",
        (_BUILD, _RETIRE),
        _ALL_READERS,
        "parameter",
    ),
    _row("ssm:GetParametersByPath", "rebuild a catalog from what is in the cloud", (_RETIRE,), (_B, _P), "parameters"),
    _row(
        "ssm:GetParameterHistory",
        "find the previous image of a channel",
        (_BUILD,),
        (_B, _P),
        "parameter",
    ),
    _row(
        "ssm:PutParameter",
        "publish image ids",
        (_BUILD,),
        (_B, _P),
        "parameter",
        "ssm:AddTagsToResource parameter",
        "ec2:DescribeImages any",
    ),
    _row("ssm:DeleteParameter", "delete parameters", (_BUILD, _RETIRE), (_B, _P), "parameter"),
    _row("ssm:DescribeParameters", "find parameters by their tags", (_BUILD, _RETIRE), _ALL_READERS, "any"),
    _row(
        "ssm:ListTagsForResource",
        "find out who created a parameter",
        (_BUILD, _RETIRE),
        _ALL_READERS,
        "any-parameter",
    ),
    _row("ssm:GetParameters", "find what uses an image", (_RETIRE,), _ALL_READERS, "any-parameter"),
    # --- launch templates that follow a channel -----------------------------------------------------------------------
    _row("ec2:CreateLaunchTemplateVersion", "give templates a new image", (_BUILD,), (_B, _P), "launch-template"),
    _row("ec2:ModifyLaunchTemplate", "set the default version of templates", (_BUILD,), (_B, _P), "launch-template"),
    _row("ec2:DeleteLaunchTemplateVersions", "undo a move of a channel", (_BUILD,), (_B, _P), "launch-template"),
    # --- notifications ------------------------------------------------------------------------------------------------
    _row("events:PutEvents", "tell a bus what happened (notify)", (_BUILD, _RETIRE), (_B,), "event-bus"),
    _row("events:DescribeEventBus", "see whether a bus exists (notify)", (_BUILD, _RETIRE), (_B,), "event-bus"),
    _row("sns:Publish", "tell a topic what happened (notify)", (_BUILD, _RETIRE), (_B,), "topic"),
    # --- the bucket of catalog and journals ---------------------------------------------------------------------------
    _row("s3:GetObject", "read the catalog and journals", _EVERY, (_B, _L), "object"),
    _row("s3:PutObject", "write the catalog and journals", _EVERY, (_B,), "object"),
    _row("s3:DeleteObject", "end leases, delete secrets", _EVERY, (_B,), "object"),
    _row(
        "s3:ListObjectsV2",
        "list releases and builds",
        _EVERY,
        (_B, _L),
        "s3:ListBucket bucket",
    ),
    # --- snapshots ----------------------------------------------------------------------------------------------------
    _row(
        "ec2:CreateSnapshot",
        "take a snapshot of a volume",
        (_SNAPSHOTS, _VOLUMES, _SCHEDULES),
        (_B, _P),
        "volume",
        "snapshot new",
        *_creating("CreateSnapshot", "snapshot"),
    ),
    _row(
        "ec2:CreateSnapshots",
        "take snapshots of an instance at one moment",
        (_SNAPSHOTS, _VOLUMES, _SCHEDULES),
        (_B, _P),
        "instance",
        "volume",
        "snapshot new",
        *_creating("CreateSnapshots", "snapshot"),
    ),
    _row(
        "ec2:CopySnapshot",
        "copy snapshots, encrypt them",
        (_SNAPSHOTS, _VOLUMES, _SCHEDULES),
        (_B, _P),
        "snapshot",
        *_creating("CopySnapshot", "snapshot"),
        *_CHANGE_KEY,
    ),
    _row(
        "ec2:DeleteSnapshot",
        "delete snapshots",
        (_BUILD, _RETIRE),
        (_B, _P),
        "snapshot ours",
    ),
    _row(
        "ec2:DeleteSnapshot",
        "delete snapshots",
        (_SNAPSHOTS, _SCHEDULES),
        (_B, _P),
        "snapshot",
    ),
    _row(
        "ec2:DeleteSnapshot",
        "delete temporary snapshots",
        (_VOLUMES,),
        (_B, _P),
        "snapshot ours",
    ),
    _row(
        "ec2:ModifySnapshotAttribute",
        "share the snapshots of an image",
        (_BUILD,),
        (_B, _P),
        "snapshot ours",
    ),
    _row(
        "ec2:ModifySnapshotAttribute",
        "share snapshots, make them public or private",
        (_SNAPSHOTS, _SCHEDULES),
        (_B, _P),
        "snapshot",
    ),
    _row("ec2:ModifySnapshotTier", "archive snapshots", (_SNAPSHOTS, _SCHEDULES), (_B, _P), "snapshot", *_READ_KEY),
    _row("ec2:RestoreSnapshotTier", "restore archived snapshots", (_SNAPSHOTS,), (_B, _P), "snapshot", *_READ_KEY),
    _row("ec2:LockSnapshot", "lock snapshots", (_SNAPSHOTS,), (_B, _P), "snapshot"),
    _row("ec2:UnlockSnapshot", "unlock snapshots", (_SNAPSHOTS,), (_B, _P), "snapshot"),
    _row("ec2:EnableFastSnapshotRestores", "make the newest snapshots fast", (_SCHEDULES,), (_B, _P), "snapshot"),
    _row("ec2:DisableFastSnapshotRestores", "keep the quota", (_SCHEDULES,), (_B, _P), "snapshot"),
    _row(
        "ec2:CreateImage",
        "create an image of an instance with all its volumes",
        (_SNAPSHOTS, _SCHEDULES),
        (_B, _P),
        "instance",
        "image new",
        "snapshot new",
        *_creating("CreateImage", "image", "snapshot"),
    ),
    _row(
        "ec2:RegisterImage",
        "register an image with a snapshot as its root volume",
        (_SNAPSHOTS,),
        (_B, _P),
        "image new",
        "snapshot",
        *_creating("RegisterImage", "image"),
    ),
    _row("ec2:DeregisterImage", "delete images of schedules", (_SNAPSHOTS, _SCHEDULES), (_B, _P), "image ours"),
    _row(
        "ec2:CopyImage",
        "copy images of schedules",
        (_SCHEDULES,),
        (_B, _P),
        "image",
        "snapshot",
        *_creating("CopyImage", "image", "snapshot"),
        *_CHANGE_KEY,
    ),
    _row(
        "ec2:ModifyImageAttribute",
        "share images of schedules",
        (_SCHEDULES,),
        (_B, _P),
        "image ours",
    ),
    _row("ebs:ListSnapshotBlocks", "show what snapshots store", (_SNAPSHOTS, _VOLUMES), (_B, _P), "snapshot"),
    _row("ebs:ListChangedBlocks", "show what snapshots store", (_SNAPSHOTS, _VOLUMES), (_B, _P), "snapshot"),
    _row(
        "ebs:GetSnapshotBlock",
        "compare contents",
        (_SNAPSHOTS, _VOLUMES),
        (_B, _P),
        "snapshot",
        "kms:Decrypt key",
    ),
    _row("ebs:ListSnapshotBlocks", "read the contents of released images", (_BUILD,), (_B, _P), "signed-snapshot"),
    _row(
        "ebs:GetSnapshotBlock",
        "read the contents of released images",
        (_BUILD,),
        (_B, _P),
        "signed-snapshot",
        "kms:Decrypt signed-key",
    ),
    _row("rbin:ListRules", "show what can be restored", (_RETIRE, _SNAPSHOTS), _ALL_READERS, "any"),
    _row("rbin:GetRule", "show what can be restored", (_RETIRE, _SNAPSHOTS), _ALL_READERS, "rule"),
    # --- volumes ------------------------------------------------------------------------------------------------------
    _row(
        "ec2:CreateVolume",
        "create a volume from a snapshot",
        (_SNAPSHOTS, _VOLUMES),
        (_B, _P),
        "volume new",
        "snapshot",
        *_creating("CreateVolume", "volume"),
        *_CHANGE_KEY,
    ),
    _row("ec2:AttachVolume", "attach the new volume", (_SNAPSHOTS, _VOLUMES), (_B, _P), "instance", "volume"),
    _row("ec2:DetachVolume", "detach the old volume", (_SNAPSHOTS, _VOLUMES), (_B, _P), "instance", "volume"),
    _row(
        "ec2:DeleteVolume",
        "delete volumes of an unfinished command, and kept ones",
        (_SNAPSHOTS, _VOLUMES, _RETIRE),
        (_B, _P),
        "volume ours",
        "volume kept",
    ),
    _row("ec2:StopInstances", "stop the instance for the exchange", (_VOLUMES, _SNAPSHOTS), (_B, _P), "instance"),
    _row(
        "ec2:StartInstances",
        "start the instance after the exchange",
        (_VOLUMES,),
        (_B, _P),
        "instance",
        *_READ_KEY,
    ),
    _row(
        "ec2:ModifyInstanceAttribute",
        "keep DeleteOnTermination of a device",
        (_VOLUMES,),
        (_B, _P),
        "instance",
    ),
    _row(
        "ec2:CreateTags",
        "mark a kept volume, copy its tags",
        (_VOLUMES,),
        (_B, _P),
        "volume",
    ),
    _row("ec2:DeleteTags", "mark a kept volume", (_VOLUMES,), (_B, _P), "volume"),
    _row(
        "ec2:CreateReplaceRootVolumeTask",
        "replace the root volume of a running instance",
        (_VOLUMES,),
        (_B, _P),
        "instance",
        "image",
        "replace-root-volume-task new",
        "volume",
        "snapshot",
        *_creating("CreateReplaceRootVolumeTask", "replace-root-volume-task", "volume"),
        *_CHANGE_KEY,
    ),
    # --- Data Lifecycle Manager ---------------------------------------------------------------------------------------
    _row("dlm:GetLifecyclePolicies", "compare policies with schedules", (_DLM,), _ALL_READERS, "any"),
    _row("dlm:GetLifecyclePolicy", "compare policies with schedules", (_DLM,), _ALL_READERS, "lifecycle-policy"),
    _row(
        "dlm:CreateLifecyclePolicy",
        "create a policy",
        (_DLM,),
        (_B, _P),
        "any new",
        "iam:PassRole dlm-role pass-to-dlm",
    ),
    _row(
        "dlm:UpdateLifecyclePolicy",
        "change a policy",
        (_DLM,),
        (_B, _P),
        "lifecycle-policy",
        "iam:PassRole dlm-role pass-to-dlm",
    ),
    _row("dlm:DeleteLifecyclePolicy", "delete a policy", (_DLM,), (_B, _P), "lifecycle-policy"),
    _row("dlm:TagResource", "adopt a policy", (_DLM,), (_B, _P), "lifecycle-policy"),
    # --- booting images in other accounts -----------------------------------------------------------------------------
    _row("ec2:DescribeSubnets", "choose the subnet of a test instance", (_PROVE,), (_P,), "any"),
    _row("ec2:DescribeInstanceTypes", "see whether the place has the type", (_PROVE,), (_P,), "any"),
    _row("ec2:DescribeInstanceTypeOfferings", "find zones that offer the type", (_PROVE,), (_P,), "any"),
    _row(
        "service-quotas:GetServiceQuota",
        "see whether there is room for test instances",
        (_PROVE,),
        (_P,),
        "servicequotas:GetServiceQuota any",
    ),
    _row(
        "ec2:RunInstances",
        "launch test instances",
        (_PROVE,),
        (_P,),
        *_LAUNCHED,
        *_LAUNCH_TAGS,
        *_CHANGE_KEY,
    ),
    _row("ec2:TerminateInstances", "end test instances", (_PROVE, _RETIRE), (_P,), "instance ours"),
    _row(
        "ec2:ImportKeyPair",
        "give a test instance a login key",
        (_PROVE,),
        (_P,),
        "key-pair new",
        *_creating("ImportKeyPair", "key-pair"),
    ),
    _row("ec2:DeleteKeyPair", "delete the login key", (_PROVE, _RETIRE), (_P,), "key-pair ours"),
    _row(
        "ec2:CreateSecurityGroup",
        "let this machine connect to a test instance",
        (_PROVE,),
        (_P,),
        "security-group new",
        "vpc",
        *_creating("CreateSecurityGroup", "security-group"),
    ),
    _row(
        "ec2:AuthorizeSecurityGroupIngress",
        "let this machine connect to a test instance",
        (_PROVE,),
        (_P,),
        "security-group ours",
    ),
    _row(
        "ec2:ModifyInstanceAttribute",
        "take a test instance out of the security group",
        (_PROVE,),
        (_P,),
        "instance ours",
        "security-group",
    ),
    _row("ec2:DeleteSecurityGroup", "delete the security group", (_PROVE, _RETIRE), (_P,), "security-group ours"),
    # --- launching as application teams do: test --through autoscaling ------------------------------------------------
    _row(
        "ec2:CreateLaunchTemplate",
        "launch a test instance in a group",
        (_PROVE,),
        (_B, _P),
        "test-template new",
        *_creating("CreateLaunchTemplate", "test-template"),
        unrecorded=_NO_GROUP,
    ),
    _row(
        "ec2:DeleteLaunchTemplate",
        "delete the launch template of the group",
        (_PROVE, _RETIRE),
        (_B, _P),
        "test-template ours",
        unrecorded=_NO_GROUP,
    ),
    _row(
        "autoscaling:CreateAutoScalingGroup",
        "launch a test instance in a group",
        (_PROVE,),
        (_B, _P),
        "test-group new",
        "autoscaling:CreateOrUpdateTags test-group new",
        "ec2:RunInstances test-template",
        unrecorded=_NO_GROUP,
    ),
    _row(
        "autoscaling:SetDesiredCapacity",
        "launch a test instance in a group",
        (_PROVE,),
        (_B, _P),
        "test-group ours",
        unrecorded=_NO_GROUP,
    ),
    _row(
        "autoscaling:SuspendProcesses",
        "let a group launch one test instance only",
        (_PROVE,),
        (_B, _P),
        "test-group ours",
        unrecorded=_NO_GROUP,
    ),
    _row(
        "autoscaling:DescribeScalingActivities",
        "tell why a group launched nothing",
        (_PROVE,),
        (_B, _P),
        "any",
        unrecorded=_NO_GROUP,
    ),
    _row(
        "autoscaling:DeleteAutoScalingGroup",
        "delete the group with its instance",
        (_PROVE, _RETIRE),
        (_B, _P),
        "test-group ours",
        unrecorded=_NO_GROUP,
    ),
    # --- consumers ----------------------------------------------------------------------------------------------------
    _row(
        "ec2:RunInstances",
        "launch released images",
        (_BUILD,),
        (_C,),
        "image released",
        "instance",
        "network-interface",
        "volume",
        "security-group",
        "subnet",
        "key-pair",
        *_READ_KEY,
        *_WRITE_KEY,
        "kms:ReEncryptFrom key ebs",
        "kms:ReEncryptTo key ebs",
    ),
    _row("ec2:DescribeImages", "look at released images", (_BUILD,), (_C,), "any"),
    _row("ssm:GetParameter", "look up released images", (_BUILD,), (_C,), "parameter"),
    _row("ssm:GetParameters", "launch from an SSM parameter", (_BUILD,), (_C,), "parameter"),
)

# What a consumer calls is the consumer's own affair: the rows only describe what it may do.
_BY_NAME: Final[dict[tuple[str, str], tuple[ApiCall, ...]]] = {}
for _one in TABLE:
    _key = (_one.service, _one.operation)
    _BY_NAME[_key] = (*_BY_NAME.get(_key, ()), _one)


def rows_of(service: str, operation: str) -> tuple[ApiCall, ...]:
    """Return the rows of a call; none if goldenami does not make it."""
    return _BY_NAME.get((service, operation), ())


def rows_for(role: Role, jobs: Iterable[Job]) -> Iterator[ApiCall]:
    """Yield the rows of a role for some jobs, in the order of the table."""
    wanted = frozenset(jobs)
    return (row for row in TABLE if role in row.roles and wanted & row.jobs)
