"""What a call needs: the actions and resources that IAM evaluates for it, with their condition keys.

The source is the Service Authorization Reference ("Actions, resources, and condition keys"). An action of EC2 can need
several resources, and each one must be allowed. A resource that the call creates has an ARN that ends with ``/*`` and
the tags of the request. A call that tags what it creates needs ec2:CreateTags, with the key ec2:CreateAction. A call
that passes a role to a service needs iam:PassRole.

An action that is not in the tables needs itself on "*". A policy that names resources for it does not allow it, as on
AWS for actions without resource-level permissions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote

from goldenami_sandbox import models
from goldenami_sandbox.ec2 import protocol as ec2
from goldenami_sandbox.ec2.context import Ec2Error, Found
from goldenami_sandbox.policy import Access
from goldenami_sandbox.protocol import Call

PARTITION: Final = "aws"


@dataclass(frozen=True, slots=True)
class Need:
    """An access that a call needs. ``missing``: the call names a resource that does not exist."""

    access: Access
    missing: bool = False


Look = Callable[[str, str, str], Found | None]  # the region, the type and the id of a resource of EC2
RoleOf = Callable[[str], str | None]  # the ARN of the role in an instance profile, by its name or ARN


def needs(call: Call, look: Look, role_of: RoleOf) -> list[Need]:
    """Return everything that a call needs. Services that evaluate a call by their own rules (sts:AssumeRole, calls for
    a KMS key) need nothing here.
    """
    match call.service:
        case "ec2":
            try:
                params = ec2.parse(call.action, call.form)
            except Ec2Error:
                params = {}  # EC2 answers with the error
            return ec2_needs(call.action, params, call.account, call.region, look, role_of)
        case "ssm":
            found = _ssm(call)
        case "s3":
            found = _s3(call)
        case "ebs":
            return list(_ebs(call, look))
        case "dlm":
            found = _dlm(call)
        case "rbin":
            found = _rbin(call)
        case "kms":
            found = [] if _names_key(call) else [Access(f"kms:{call.action}")]
        case "sts":
            found = [Access("sts:DecodeAuthorizationMessage")] if call.action == "DecodeAuthorizationMessage" else []
        case "iam":
            found = _iam(call)
        case "events" if call.action == "PutEvents":
            found = [Access("events:PutEvents", arn) for arn in _buses(call)]
        case "events" if call.action == "DescribeEventBus":
            found = [Access("events:DescribeEventBus", _bus(call, str(call.json.get("Name") or "default")))]
        case "sns" if call.action in ("Publish", "GetTopicAttributes"):
            found = [Access(f"sns:{call.action}", call.form.get("TopicArn") or call.form.get("TargetArn") or "*")]
        case service:
            found = [Access(f"{service}:{call.action}")]
    everywhere = {"aws:requestedregion": call.region}
    return [Need(replace(access, facts={**everywhere, **access.facts})) for access in found]


# --- EC2 --------------------------------------------------------------------------------------------------------------

# For each action: the types of its resources, each with "=" and the parameter that names existing ones, or with "+" if
# the call creates them. "-" instead of "=": the tags of the resource are not among the condition keys. "@": the
# parameter with the region of the resource. Parameters in brackets are lists.
_EC2: Final[Mapping[str, str]] = {
    "AttachVolume": "instance=InstanceId volume=VolumeId",
    "AuthorizeSecurityGroupIngress": "security-group=GroupId",
    "CancelSpotInstanceRequests": "spot-instances-request=[SpotInstanceRequestIds]",
    "CopyImage": "image-SourceImageId@SourceRegion image+ snapshot+",
    "CopySnapshot": "snapshot-SourceSnapshotId@SourceRegion snapshot+",
    "CreateImage": "instance=InstanceId image+ snapshot+",
    "CreateLaunchTemplateVersion": "launch-template=LaunchTemplateId",
    "CreateReplaceRootVolumeTask": (
        "instance=InstanceId replace-root-volume-task+ volume+ image=ImageId snapshot=SnapshotId"
    ),
    "CreateSecurityGroup": "security-group+ vpc=VpcId",
    "CreateSnapshot": "volume=VolumeId snapshot+",
    "CreateSnapshots": "instance=InstanceSpecification.InstanceId snapshot+ volume*",
    "CreateVolume": "volume+ snapshot=SnapshotId",
    "DeleteKeyPair": "key-pair=KeyName key-pair=KeyPairId",
    "DeleteLaunchTemplateVersions": "launch-template=LaunchTemplateId",
    "DeleteSecurityGroup": "security-group=GroupId",
    "DeleteSnapshot": "snapshot=SnapshotId",
    "DeleteVolume": "volume=VolumeId",
    "DeregisterImage": "image=ImageId",
    "DescribeImageAttribute": "image=ImageId",
    "DescribeInstanceAttribute": "instance=InstanceId",
    "DescribeSnapshotAttribute": "snapshot=SnapshotId",
    "DescribeVolumeAttribute": "volume=VolumeId",
    "DetachVolume": "volume=VolumeId instance=InstanceId",
    "DisableFastSnapshotRestores": "snapshot=[SourceSnapshotIds]",
    "DisableImage": "image=ImageId",
    "DisableImageDeprecation": "image=ImageId",
    "DisableImageDeregistrationProtection": "image=ImageId",
    "EnableFastSnapshotRestores": "snapshot=[SourceSnapshotIds]",
    "EnableImage": "image=ImageId",
    "EnableImageDeprecation": "image=ImageId",
    "EnableImageDeregistrationProtection": "image=ImageId",
    "GetConsoleOutput": "instance=InstanceId",
    "ImportKeyPair": "key-pair+",
    "LockSnapshot": "snapshot=SnapshotId",
    "ModifyImageAttribute": "image=ImageId",
    "ModifyInstanceAttribute": "instance=InstanceId security-group=[Groups]",
    "ModifyLaunchTemplate": "launch-template=LaunchTemplateId",
    "ModifySnapshotAttribute": "snapshot=SnapshotId",
    "ModifySnapshotTier": "snapshot=SnapshotId",
    "RebootInstances": "instance=[InstanceIds]",
    "RegisterImage": "image+ snapshot=[BlockDeviceMappings].Ebs.SnapshotId",
    "ResetImageAttribute": "image=ImageId",
    "ResetSnapshotAttribute": "snapshot=SnapshotId",
    "RestoreImageFromRecycleBin": "image-ImageId",
    "RestoreSnapshotFromRecycleBin": "snapshot-SnapshotId",
    "RestoreSnapshotTier": "snapshot=SnapshotId",
    "RevokeSecurityGroupIngress": "security-group=GroupId",
    "RunInstances": (
        "image=ImageId instance+ network-interface+ volume+ security-group=[SecurityGroupIds] subnet=SubnetId "
        "security-group=[NetworkInterfaces].[Groups] subnet=[NetworkInterfaces].SubnetId key-pair=KeyName "
        "snapshot=[BlockDeviceMappings].Ebs.SnapshotId launch-template=LaunchTemplate.LaunchTemplateId"
    ),
    "StartInstances": "instance=[InstanceIds]",
    "StopInstances": "instance=[InstanceIds]",
    "TerminateInstances": "instance=[InstanceIds]",
    "UnlockSnapshot": "snapshot=SnapshotId",
}
_RESOURCE = re.compile(r"([a-z-]+?)(?:([=-])(\[?[A-Z][\w.\[\]]*)(?:@(\w+))?|(\+)|(\*))")
_TYPES: Final[Mapping[str, str]] = {
    "ami": "image",
    "eni": "network-interface",
    "i": "instance",
    "key": "key-pair",
    "lt": "launch-template",
    "replacevol": "replace-root-volume-task",
    "sg": "security-group",
    "sir": "spot-instances-request",
    "snap": "snapshot",
    "subnet": "subnet",
    "vol": "volume",
    "vpc": "vpc",
}
# The ARNs of these have no account, because several accounts can use them.
_WITHOUT_ACCOUNT: Final = frozenset({"image", "snapshot"})


def ec2_needs(
    action: str, params: Mapping[str, Any], account: str, region: str, look: Look, role_of: RoleOf
) -> list[Need]:
    """Return what a call of EC2 needs. ``params``: with the names of boto3."""
    return list(_Ec2Needs(action, params, account, region, look, role_of).all())


class _Ec2Needs:
    def __init__(
        self, action: str, params: Mapping[str, Any], account: str, region: str, look: Look, role_of: RoleOf
    ) -> None:
        self.action = action
        self.params = params
        self.account = account
        self.region = region
        self.look = look
        self.role_of = role_of
        self.facts = {"aws:requestedregion": region, "ec2:region": region}
        self.tags = _tag_specifications(params)

    def all(self) -> Iterator[Need]:
        action = self.action
        if action in ("CreateTags", "DeleteTags"):
            yield from self._tagging()
            return
        resources = _EC2.get(action)
        if resources is None:
            yield Need(Access(f"ec2:{action}", "*", self.facts))
            return
        for kind, sign, parameter, region, new, every in _RESOURCE.findall(resources):
            if new:
                yield self._new(kind)
            elif every:
                yield self._need(kind, "*", {})
            else:
                for id in _values(self.params, parameter):
                    yield self._existing(kind, id, self.params.get(region) if region else None, tags=sign == "=")
        if action == "RunInstances":
            yield from self._for_launch()
        for kind, tags in self.tags.items():
            facts = {**_request_tags(tags), "ec2:createaction": action}
            yield self._need(kind, "*", facts, "CreateTags")

    def _new(self, kind: str) -> Need:
        facts: dict[str, Any] = _request_tags(self.tags.get(kind, {}))
        if self.action == "RunInstances" and kind == "instance":
            market = self.params.get("InstanceMarketOptions", {}).get("MarketType", "on-demand")
            tokens = self.params.get("MetadataOptions", {}).get("HttpTokens", "optional")
            facts |= {"ec2:instancemarkettype": market, "ec2:metadatahttptokens": tokens}
            if "InstanceType" in self.params:
                facts["ec2:instancetype"] = self.params["InstanceType"]
        return self._need(kind, self.params.get("KeyName", "*") if kind == "key-pair" else "*", facts)

    def _existing(self, kind: str, id: str, region: str | None = None, *, tags: bool = True, action: str = "") -> Need:
        if id.startswith("resolve:ssm:"):
            return self._need(kind, "*", {}, action)
        found = self.look(region or self.region, kind, id)
        facts: dict[str, Any] = {}
        if found is not None:
            if tags:
                facts |= _resource_tags(found.tags)
            if kind in _WITHOUT_ACCOUNT:
                facts |= {"ec2:owner": found.alias or found.owner, "ec2:public": str(found.public).lower()}
        return self._need(kind, id, facts, action, region=region, missing=found is None)

    def _need(
        self,
        kind: str,
        id: str,
        facts: Mapping[str, Any],
        action: str = "",
        *,
        region: str | None = None,
        missing: bool = False,
    ) -> Need:
        account = "" if kind in _WITHOUT_ACCOUNT else self.account
        arn = f"arn:{PARTITION}:ec2:{region or self.region}:{account}:{kind}/{id}"
        return Need(Access(f"ec2:{action or self.action}", arn, {**self.facts, **facts}), missing)

    def _for_launch(self) -> Iterator[Need]:
        """Yield what a launch needs beyond the resources that it names."""
        if "SecurityGroupIds" not in self.params and "NetworkInterfaces" not in self.params:
            yield self._need("security-group", "*", {})
        if "SubnetId" not in self.params and "NetworkInterfaces" not in self.params:
            yield self._need("subnet", "*", {})
        parameter = str(self.params.get("ImageId", ""))
        if parameter.startswith("resolve:ssm:"):
            name = parameter.removeprefix("resolve:ssm:").partition(":")[0]
            yield Need(Access("ssm:GetParameters", _parameter(self.account, self.region, name), self.facts))
        profile = self.params.get("IamInstanceProfile", {})
        if profile:
            role = self.role_of(str(profile.get("Arn") or profile.get("Name")))
            passed = {**self.facts, "iam:passedtoservice": "ec2.amazonaws.com"}
            yield Need(Access("iam:PassRole", role or "*", passed), missing=role is None)

    def _tagging(self) -> Iterator[Need]:
        tags = {tag.get("Key", ""): tag.get("Value", "") for tag in self.params.get("Tags", ())}
        request = _request_tags(tags) if self.action == "CreateTags" else {"aws:tagkeys": sorted(tags)}
        for id in self.params.get("Resources", ()):
            kind = _TYPES.get(str(id).rpartition("-")[0])
            if kind is not None:
                need = self._existing(kind, id)
                yield replace(need, access=replace(need.access, facts={**need.access.facts, **request}))
            else:
                yield Need(Access(f"ec2:{self.action}", "*", {**self.facts, **request}))


def _tag_specifications(params: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the tags that a creating call gives, by resource type."""
    return {
        one["ResourceType"]: {tag["Key"]: tag.get("Value", "") for tag in one.get("Tags", ())}
        for one in params.get("TagSpecifications", ())
        if "ResourceType" in one
    }


def _values(params: Any, path: str) -> Iterator[str]:
    """Yield the values at a path of parameters ("[BlockDeviceMappings].Ebs.SnapshotId")."""
    head, _, rest = path.partition(".")
    listed = head.startswith("[")
    value = params.get(head.strip("[]")) if isinstance(params, Mapping) else None
    for one in (value or ()) if listed else (() if value is None else (value,)):
        if rest:
            yield from _values(one, rest)
        else:
            yield str(one)


def _request_tags(tags: Mapping[str, str]) -> dict[str, Any]:
    return {**{f"aws:requesttag/{key.lower()}": value for key, value in tags.items()}, "aws:tagkeys": sorted(tags)}


def _resource_tags(tags: Mapping[str, str]) -> dict[str, Any]:
    return {f"{prefix}:resourcetag/{key.lower()}": value for prefix in ("aws", "ec2") for key, value in tags.items()}


# --- other services ---------------------------------------------------------------------------------------------------


def _parameter(account: str, region: str, name: str) -> str:
    """Return the ARN of an SSM parameter. Public parameters belong to no account."""
    if name.startswith("arn:"):
        return name
    owner = "" if name.startswith("/aws/") else account
    return f"arn:{PARTITION}:ssm:{region}:{owner}:parameter/{name.lstrip('/')}"


def _ssm(call: Call) -> list[Access]:
    params, action, where = call.json, f"ssm:{call.action}", (call.account, call.region)
    tags = {str(tag.get("Key")): str(tag.get("Value", "")) for tag in params.get("Tags") or ()}
    match call.action:
        case "PutParameter":
            arn = _parameter(*where, str(params.get("Name", "")))
            overwrite = str(bool(params.get("Overwrite"))).lower()
            found = [Access(action, arn, {**_request_tags(tags), "ssm:overwrite": overwrite})]
            if tags:
                found.append(Access("ssm:AddTagsToResource", arn, _request_tags(tags)))
            if params.get("DataType") == "aws:ec2:image":
                found.append(Access("ec2:DescribeImages"))  # SSM validates the image with the caller's rights
            return found
        case "GetParameters" | "DeleteParameters":
            return [Access(action, _parameter(*where, str(name).split(":")[0])) for name in params.get("Names") or ()]
        case "GetParametersByPath":
            return [Access(action, _parameter(*where, str(params.get("Path", "")).rstrip("/")))]
        case "GetParameter":
            return [Access(action, _parameter(*where, _without_selector(str(params.get("Name", "")))))]
        case "GetParameterHistory" | "DeleteParameter" | "LabelParameterVersion" | "UnlabelParameterVersion":
            return [Access(action, _parameter(*where, str(params.get("Name", ""))))]
        case "AddTagsToResource" | "RemoveTagsFromResource" | "ListTagsForResource" if (
            params.get("ResourceType") == "Parameter"
        ):
            return [Access(action, _parameter(*where, str(params.get("ResourceId", ""))), _request_tags(tags))]
    return [Access(action)]


def _without_selector(name: str) -> str:
    """Remove the version or label from the name of a parameter ("/path/name:3")."""
    return name if name.startswith("arn:") else name.partition(":")[0]


_S3_OF_OBJECTS: Final = ("GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts")
_S3_NAMES: Final[Mapping[str, str]] = {
    "HeadObject": "GetObject",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "HeadBucket": "ListBucket",
    "ListBuckets": "ListAllMyBuckets",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
}


def _s3(call: Call) -> list[Access]:
    bucket, _, key = unquote(call.request.path).lstrip("/").partition("/")
    name = _S3_NAMES.get(call.action, call.action)
    if not bucket:
        return [Access(f"s3:{name}")]
    arn = f"arn:{PARTITION}:s3:::{bucket}"
    if key or name in _S3_OF_OBJECTS:
        return [Access(f"s3:{name}", f"{arn}/{key or '*'}")]
    facts = {"s3:prefix": call.form.get("prefix", "")} if name == "ListBucket" else {}
    return [Access(f"s3:{name}", arn, facts)]


def list_bucket(call: Call) -> Access:
    """Return the access to the list of a call's bucket. Without it, S3 reports a missing object as forbidden."""
    bucket = unquote(call.request.path).lstrip("/").partition("/")[0]
    return Access("s3:ListBucket", f"arn:{PARTITION}:s3:::{bucket}")


def _ebs(call: Call, look: Look) -> Iterator[Need]:
    params = models.parameters("ebs", call.action, call.request) if not call.action.startswith(("GET", "PUT")) else {}
    ids = [str(params[name]) for name in ("SnapshotId", "FirstSnapshotId", "SecondSnapshotId") if name in params]
    for id in ids or ["*"]:
        found = look(call.region, "snapshot", id)
        facts = {"aws:requestedregion": call.region, **(_resource_tags(found.tags) if found is not None else {})}
        arn = f"arn:{PARTITION}:ec2:{call.region}::snapshot/{id}"
        yield Need(Access(f"ebs:{call.action}", arn, facts), missing=found is None and id != "*")


def _dlm(call: Call) -> list[Access]:
    action = f"dlm:{call.action}"
    try:
        params = models.parameters("dlm", call.action, call.request)
    except AssertionError:
        params = {}
    found = [Access(action, "*", _request_tags(params.get("Tags") or {}))]
    if "PolicyId" in params:
        found = [Access(action, f"arn:{PARTITION}:dlm:{call.region}:{call.account}:policy/{params['PolicyId']}")]
    elif "ResourceArn" in params:
        found = [Access(action, str(params["ResourceArn"]), _request_tags(params.get("Tags") or {}))]
    if role := params.get("ExecutionRoleArn"):
        found.append(Access("iam:PassRole", str(role), {"iam:passedtoservice": "dlm.amazonaws.com"}))
    return found


def _rbin(call: Call) -> list[Access]:
    id = unquote(call.request.path).rstrip("/").rpartition("/")[2]
    if call.action in ("GetRule", "UpdateRule", "DeleteRule", "LockRule", "UnlockRule"):
        return [Access(f"rbin:{call.action}", f"arn:{PARTITION}:rbin:{call.region}:{call.account}:rule/{id}")]
    return [Access(f"rbin:{call.action}")]


def _buses(call: Call) -> list[str]:
    names = dict.fromkeys(str(entry.get("EventBusName") or "default") for entry in call.json.get("Entries") or ())
    return [_bus(call, name) for name in names]


def _bus(call: Call, name: str) -> str:
    return name if name.startswith("arn:") else f"arn:{PARTITION}:events:{call.region}:{call.account}:event-bus/{name}"


def _names_key(call: Call) -> bool:
    """Return whether a call is about a key. KMS evaluates it by the key's policy and grants."""
    return any(name in call.json for name in ("KeyId", "TargetKeyId", "DestinationKeyId", "CiphertextBlob"))


def _iam(call: Call) -> list[Access]:
    for parameter, kind in (("RoleName", "role"), ("UserName", "user"), ("InstanceProfileName", "instance-profile")):
        if parameter in call.form:
            arn = f"arn:{PARTITION}:iam::{call.account}:{kind}/{call.form[parameter]}"
            return [Access(f"iam:{call.action}", arn)]
    if "PolicySourceArn" in call.form:
        return [Access(f"iam:{call.action}", call.form["PolicySourceArn"])]
    return [Access(f"iam:{call.action}", call.form.get("PolicyArn", "*"))]
