"""The kinds of resource that a build makes, one row each: how a creating call is marked, how its result is read, how a
resource is found again by its token, how it is deleted, and which refusals mean "it exists" and "it is gone".

Where the API has a ClientToken (RunInstances, CopyImage), or a name that must be unique and carries the token or the
build (CreateImage, ImportKeyPair, CreateSecurityGroup, CreateGrant, PutParameter), repeating a call is safe: the answer
is the first one's, or says that it exists. Where there is neither (CreateSnapshot, CopySnapshot), only the tag tells.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from goldenami.aws import errors, tags
from goldenami.aws.session import Cloud
from goldenami.errors import CloudError
from goldenami.model import Place

Request = Mapping[str, Any]


class Tagged(Protocol):
    """The ids that carry a tag with a value, or (None) with any, each with all its tags; but those ``without``. Leaving
    out what need not be asked about spares a call for each parameter."""

    def __call__(
        self, cloud: Cloud, place: Place, tag: str, value: str | None, *, without: Collection[str] = ()
    ) -> dict[str, Mapping[str, str]]: ...


_CLIENT_TOKEN: Final = frozenset({"RunInstances", "CopyImage", "CreateVolume"})


@dataclass(frozen=True, slots=True)
class Kind:
    """One row. ``tagged``: None where there are no tags. ``tag_types``: the resource types that the creating call tags;
    none: another way of marking. ``busy_codes``: refusals of a deletion that pass within ``busy_for`` seconds, when
    what used the resource is really gone. ``repeat_safe``: a name makes repeating the creating call safe. ``order``: of
    deletion, low first. ``everywhere``: builds make it, so a clean-up looks for its tag in every place; anything else
    only where the journal has a call for it.
    """

    name: str
    service: str
    tagged: Tagged | None
    delete_operation: str
    delete_parameter: str
    duplicate_codes: frozenset[str] = frozenset()
    missing_codes: frozenset[str] = frozenset()
    busy_codes: frozenset[str] = frozenset()
    busy_for: float = 0.0
    tag_types: tuple[str, ...] = ()
    repeat_safe: bool = False
    order: int = 0
    everywhere: bool = True

    def repeatable(self, operation: str) -> bool:
        """Whether sending a creating call again cannot make a second resource."""
        return self.repeat_safe or operation in _CLIENT_TOKEN

    def mark(
        self, operation: str, request: dict[str, Any], token: str, build_id: str, every: Mapping[str, str]
    ) -> dict[str, Any]:
        """The request with what ties the resource to its build and attempt."""
        if operation in _CLIENT_TOKEN:
            request["ClientToken"] = token
        if self.tag_types:
            pairs = tags.to_list(every)
            types = request.pop("TagTypes", self.tag_types)
            request["TagSpecifications"] = [{"ResourceType": t, "Tags": pairs} for t in types]
        elif self.name == "lifecycle-policy":
            request["Tags"] = dict(every)
        elif self.name == "parameter":
            request["Tags"] = tags.to_list(every)
        elif self.name == "grant":
            request["Name"] = grant_name(build_id, token)
        return request

    def find(self, cloud: Cloud, place: Place, token: str, request: Request) -> str | None:
        """The id of the resource that carries a token, or None. ``request``: that of the creating call."""
        if self.name == "grant":
            found = cloud.pages(place, "kms", "ListGrants", "Grants", {"KeyId": request["KeyId"]})
            return next((g["GrantId"] for g in found if g.get("Name", "").endswith(token)), None)
        if self.name == "parameter":
            name = str(request["Name"])
            return name if parameter_tags(cloud, place, name).get(tags.TOKEN) == token else None
        if self.tagged is None:
            raise ValueError(f"a {self.name} cannot be found again")
        return min(self.tagged(cloud, place, tags.TOKEN, token), default=None)

    def id_of(self, operation: str, answer: Mapping[str, Any], request: Request) -> str:
        """The id in the answer of the creating call."""
        match operation:
            case "RunInstances":
                return str(answer["Instances"][0]["InstanceId"])
            case "CreateSnapshots":  # the others are found by the token, which all of them carry
                return str(answer["Snapshots"][0]["SnapshotId"])
            case "PutParameter":
                return str(request["Name"])
        return str(answer[_ID_FIELD[self.name]])

    def delete_request(self, id: str, parent: str | None) -> dict[str, Any]:
        """The parameters of the deleting call."""
        if self.name == "instance":
            return {"InstanceIds": [id]}
        if self.name == "grant":
            if parent is None:
                raise ValueError("a grant is deleted with the ARN of its key as parent")
            return {"KeyId": parent, "GrantId": id}
        return {self.delete_parameter: id}

    def is_gone(self, cloud: Cloud, place: Place, id: str) -> bool:
        """Whether a resource that was found is on its way out: instances stay visible for about an hour after they
        ended."""
        if self.name != "instance":
            return False
        found = cloud.pages(place, "ec2", "DescribeInstances", "Reservations", {"InstanceIds": [id]})
        states = [i["State"]["Name"] for r in found for i in r["Instances"]]
        return bool(states) and all(s in ("terminated", "shutting-down") for s in states)


_ID_FIELD: Final = {
    "image": "ImageId",
    "snapshot": "SnapshotId",
    "volume": "VolumeId",
    "key-pair": "KeyName",
    "security-group": "GroupId",
    "grant": "GrantId",
    "lifecycle-policy": "PolicyId",
}


def grant_prefix(build_id: str) -> str:
    return f"goldenami-{build_id}-"


def grant_name(build_id: str, token: str) -> str:
    """Grants take no tags; their name says whose they are. KMS gives the same grant to the same name and parameters."""
    return grant_prefix(build_id) + token


def _by_tag(operation: str, result: str, id_field: str, more: Request | None = None) -> Tagged:
    def tagged(
        cloud: Cloud, place: Place, tag: str, value: str | None, *, without: Collection[str] = ()
    ) -> dict[str, Mapping[str, str]]:
        query = {"Filters": [_tag_filter(tag, value)], **(more or {})}
        found = {i[id_field]: i.get("Tags") for i in cloud.pages(place, "ec2", operation, result, query)}
        return {id: tags.from_list(own) for id, own in found.items() if id not in without}

    return tagged


def _tag_filter(tag: str, value: str | None) -> dict[str, Any]:
    if value is None:
        return {"Name": "tag-key", "Values": [tag]}
    return {"Name": f"tag:{tag}", "Values": [value]}


def _instances(
    cloud: Cloud, place: Place, tag: str, value: str | None, *, without: Collection[str] = ()
) -> dict[str, Mapping[str, str]]:
    query = {"Filters": [_tag_filter(tag, value)]}
    found = cloud.pages(place, "ec2", "DescribeInstances", "Reservations", query)
    every = {i["InstanceId"]: i.get("Tags") for r in found for i in r["Instances"]}
    return {id: tags.from_list(own) for id, own in every.items() if id not in without}


def _parameters(
    cloud: Cloud, place: Place, tag: str, value: str | None, *, without: Collection[str] = ()
) -> dict[str, Mapping[str, str]]:
    """SSM filters by tags, by a key alone too, but tells them of one parameter at a time only."""
    query = {"ParameterFilters": [{"Key": f"tag:{tag}"} | ({"Values": [value]} if value is not None else {})]}
    names = [str(p["Name"]) for p in cloud.pages(place, "ssm", "DescribeParameters", "Parameters", query)]
    return {name: parameter_tags(cloud, place, name) for name in names if name not in without}


def _policies(
    cloud: Cloud, place: Place, tag: str, value: str | None, *, without: Collection[str] = ()
) -> dict[str, Mapping[str, str]]:
    """The list of policies cannot be asked for a tag of theirs, and shows all of them."""
    found = cloud.call(place, "dlm", "GetLifecyclePolicies", {}).get("Policies") or ()
    every = {p["PolicyId"]: p.get("Tags") or {} for p in found}
    return {id: own for id, own in every.items() if tag in own and value in (None, own[tag]) and id not in without}


def parameter_tags(cloud: Cloud, place: Place, name: str) -> Mapping[str, str]:
    """The tags of an SSM parameter; none if there is no such parameter."""
    query = {"ResourceType": "Parameter", "ResourceId": name}
    try:
        return tags.from_list(cloud.call(place, "ssm", "ListTagsForResource", query).get("TagList"))
    except CloudError as error:
        if errors.missing(error) or error.code == "InvalidResourceId":
            return {}
        raise


_OWN: Final[Request] = {"Owners": ["self"], "IncludeDeprecated": True, "IncludeDisabled": True}

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind(
            "grant",
            "kms",
            None,
            "RevokeGrant",
            "GrantId",
            missing_codes=frozenset({"NotFoundException", "InvalidGrantIdException"}),
            repeat_safe=True,
            order=0,
        ),
        Kind(
            "parameter",
            "ssm",
            _parameters,
            "DeleteParameter",
            "Name",
            duplicate_codes=frozenset({"ParameterAlreadyExists"}),
            missing_codes=frozenset({"ParameterNotFound"}),
            repeat_safe=True,
            order=1,
        ),
        Kind(
            "lifecycle-policy",
            "dlm",
            _policies,
            "DeleteLifecyclePolicy",
            "PolicyId",
            missing_codes=frozenset({"ResourceNotFoundException"}),
            everywhere=False,
            order=1,
        ),
        Kind(
            "instance",
            "ec2",
            _instances,
            "TerminateInstances",
            "InstanceIds",
            missing_codes=frozenset({"InvalidInstanceID.NotFound"}),
            tag_types=("instance", "volume", "network-interface"),
            order=2,
        ),
        Kind(
            "image",
            "ec2",
            _by_tag("DescribeImages", "Images", "ImageId", _OWN),
            "DeregisterImage",
            "ImageId",
            duplicate_codes=frozenset({"InvalidAMIName.Duplicate"}),
            missing_codes=frozenset({"InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"}),
            tag_types=("image", "snapshot"),
            repeat_safe=True,
            order=3,
        ),
        Kind(
            "snapshot",
            "ec2",
            _by_tag("DescribeSnapshots", "Snapshots", "SnapshotId", {"OwnerIds": ["self"]}),
            "DeleteSnapshot",
            "SnapshotId",
            missing_codes=frozenset({"InvalidSnapshot.NotFound"}),
            busy_codes=frozenset({"InvalidSnapshot.InUse"}),
            busy_for=20.0,
            tag_types=("snapshot",),
            order=4,
        ),
        Kind(
            "volume",
            "ec2",
            _by_tag("DescribeVolumes", "Volumes", "VolumeId"),
            "DeleteVolume",
            "VolumeId",
            missing_codes=frozenset({"InvalidVolume.NotFound"}),
            busy_codes=frozenset({"VolumeInUse"}),
            busy_for=60.0,
            tag_types=("volume",),
            order=5,
        ),
        Kind(
            "security-group",
            "ec2",
            _by_tag("DescribeSecurityGroups", "SecurityGroups", "GroupId"),
            "DeleteSecurityGroup",
            "GroupId",
            duplicate_codes=frozenset({"InvalidGroup.Duplicate"}),
            missing_codes=frozenset({"InvalidGroup.NotFound", "InvalidGroupId.NotFound"}),
            busy_codes=frozenset({"DependencyViolation", "InvalidGroup.InUse"}),
            busy_for=300.0,
            tag_types=("security-group",),
            repeat_safe=True,
            order=6,
        ),
        Kind(
            "key-pair",
            "ec2",
            # By name, which is unique too, and what a launch asks for.
            _by_tag("DescribeKeyPairs", "KeyPairs", "KeyName"),
            "DeleteKeyPair",
            "KeyName",
            duplicate_codes=frozenset({"InvalidKeyPair.Duplicate"}),
            missing_codes=frozenset({"InvalidKeyPair.NotFound"}),
            tag_types=("key-pair",),
            repeat_safe=True,
            order=7,
        ),
    )
}


def kind_of(name: str) -> Kind:
    """The row of a kind. Raises ValueError for one that does not exist: a bug in the caller."""
    try:
        return KINDS[name]
    except KeyError:
        raise ValueError(f"unknown kind of resource: {name!r}") from None
