"""The kinds of resource that goldenami creates: one class each.

A kind defines how the token is added to its creating call, where the id is in the answer, how a resource is found by
its token, how and in which order it is deleted, and which error codes mean that it exists or is deleted. A new kind is
one class with ``@register``; the ledger, the clean-up and ``clean --expired`` then support it.

A call is safe to repeat if the API has a ClientToken (RunInstances, CopyImage, CreateVolume), or a unique name that
contains the token or the build id (CreateImage, ImportKeyPair, CreateSecurityGroup, CreateGrant, PutParameter): it
returns the first resource, or the error that the resource exists. For other calls (CreateSnapshot, CopySnapshot), only
the tag identifies the resource.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from goldenami.aws import errors, recent, tags
from goldenami.aws.ownership import UNPROVEN, Answer, Owner, Proofs
from goldenami.aws.session import Cloud
from goldenami.errors import CloudError
from goldenami.model import Place

if TYPE_CHECKING:
    from goldenami.aws.ledger import Ledger

Request = Mapping[str, Any]
Prove = Callable[[str, Mapping[str, str], str], str]  # returns the proof for a type, tags and facts

_CLIENT_TOKEN: Final = frozenset({"RunInstances", "CopyImage", "CreateVolume"})


@dataclass(frozen=True, slots=True)
class Build:
    """The build or task whose resources are searched. ``catalog``: the id of its catalog; see ``Header.catalog``."""

    id: str
    catalog: str | None


@dataclass(frozen=True, slots=True)
class Tagged:
    """A resource that was found by a tag. ``item``: the resource as the service returns it."""

    tags: Mapping[str, str]
    item: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OfBuild:
    """A resource with the tags of a build. ``parent``: see ``Kind.parent``. ``proven``: its proof is right, so the
    build created it."""

    id: str
    parent: str | None = None
    proven: bool = True


class Kind:
    """One kind of resource. There is one object of each class; it keeps no state.

    ``service``: botocore's name of the service. ``id_field``: where the answer of the creating call has the id.
    ``delete_operation``, ``delete_parameter``: the call that deletes one resource, and its parameter for the id.
    ``duplicate_codes``: error codes of the creating call for a name that is taken. ``missing_codes``: of the deleting
    call, for a resource that does not exist or is not visible yet. ``uncertain_codes``: of the deleting call, for a
    resource that may or may not exist. ``unknown_codes``: further errors of other calls, for one that is not visible.
    ``visible_within``: seconds after which calls find a new resource.
    ``busy_codes``: of the deleting call, while another resource still uses this one; it is repeated for ``busy_for``
    seconds. ``unready_codes``: while this one is still being created; the same, but it is new, so another call may not
    find it yet. ``repeat_safe``: a name makes repeating the creating call safe.
    ``order``: of deletion, lowest first: what uses another resource goes before it.
    ``everywhere``: builds create it, so a clean-up searches every place for its tag. False: only places where the
    journal has a call for it.
    ``expires``: some are temporary and say so by a tag, for which ``clean --expired`` searches every place.
    ``has_tags``: the resource is found by its tags. ``in_manifest``: a release's manifest names every one it needs.
    False: whatever the release's build created for it stays.
    """

    name: ClassVar[str]
    service: ClassVar[str]
    id_field: ClassVar[str]
    delete_operation: ClassVar[str]
    delete_parameter: ClassVar[str]
    duplicate_codes: ClassVar[frozenset[str]] = frozenset()
    missing_codes: ClassVar[frozenset[str]] = frozenset()
    uncertain_codes: ClassVar[frozenset[str]] = frozenset()
    visible_within: ClassVar[float] = recent.LONGEST
    unknown_codes: ClassVar[frozenset[str]] = frozenset()
    busy_codes: ClassVar[frozenset[str]] = frozenset()
    unready_codes: ClassVar[frozenset[str]] = frozenset()
    busy_for: ClassVar[float] = 0.0
    repeat_safe: ClassVar[bool] = False
    order: ClassVar[int]
    everywhere: ClassVar[bool] = True
    expires: ClassVar[bool] = True
    has_tags: ClassVar[bool] = True
    in_manifest: ClassVar[bool] = True

    # --- creating -----------------------------------------------------------------------------------------------------

    def repeatable(self, operation: str) -> bool:
        """Whether sending a creating call again cannot create a second resource."""
        return self.repeat_safe or operation in _CLIENT_TOKEN

    def mark(
        self,
        operation: str,
        request: dict[str, Any],
        token: str,
        build_id: str,
        every: Mapping[str, str],
        prove: Prove,
    ) -> dict[str, Any]:
        """Add the token, and the tags or the name, to the request of the creating call. ``every``: all tags but the
        proof."""
        if operation in _CLIENT_TOKEN:
            request["ClientToken"] = token
        self.add_tags(operation, request, token, build_id, every, prove)
        return request

    def add_tags(
        self,
        operation: str,
        request: dict[str, Any],
        token: str,
        build_id: str,
        every: Mapping[str, str],
        prove: Prove,
    ) -> None:
        """Add the tags in the form that the creating call requires."""
        proof = prove(self.name, every, self.facts(self.name, operation, request))
        request["Tags"] = tags.to_list({**every, tags.PROOF: proof})

    def facts(self, type: str, operation: str, request: Request) -> str:
        """Return what the creating call fixes of a resource of a type, and nothing can change afterwards. The proof
        covers it."""
        raise NotImplementedError

    def id_of(self, operation: str, answer: Mapping[str, Any], request: Request) -> str:
        """Return the id in the answer of the creating call."""
        return str(answer[self.id_field])

    def known_id(self, request: Request) -> str | None:
        """Return the id, if the request contains it (a name); else None."""
        return None

    def parent(self, request: Request) -> str | None:
        """Return the second value that the deleting call needs, from the request of the creating or deleting call."""
        return None

    def codes_while_new(self) -> frozenset[str]:
        """The error codes of any call that names a new resource of this kind before it is visible."""
        return _together(self.missing_codes, self.unknown_codes)

    # --- finding ------------------------------------------------------------------------------------------------------

    def tagged(
        self, cloud: Cloud, place: Place, tag: str, value: str | None, *, without: Collection[str] = ()
    ) -> dict[str, Tagged]:
        """The resources with a tag of that value (None: of any value), by id. ``without``: ids to leave out, which
        saves a call each where tags are read one resource at a time. Only for a kind that ``has_tags``."""
        raise NotImplementedError

    def facts_of(self, cloud: Cloud, place: Place, found: Tagged) -> Iterator[str]:
        """Yield what :meth:`facts` may have returned for a resource: one text for each way to create it."""
        raise NotImplementedError

    def is_proven(self, cloud: Cloud, place: Place, found: Tagged, proofs: Proofs) -> bool:
        """Return whether the proof of a resource is right, so that goldenami created it for this environment."""
        return proofs.check(self.name, place, found.tags, self.facts_of(cloud, place, found))

    def owner_of(self, cloud: Cloud, place: Place, found: Tagged, owner: Owner) -> Answer:
        """Return whose a resource is. It is ours only if its proof is right."""
        answer = owner.of_tags(found.tags)
        if not answer.is_ours or (owner.proofs is not None and self.is_proven(cloud, place, found, owner.proofs)):
            return answer
        return UNPROVEN

    def find(self, cloud: Cloud, place: Place, token: str, request: Request, proofs: Proofs) -> str | None:
        """The id of the resource that carries a token and its proof, or None. ``request``: that of the creating
        call."""
        found = self.tagged(cloud, place, tags.TOKEN, token)
        return min((id for id, one in found.items() if self.is_proven(cloud, place, one, proofs)), default=None)

    def of_build(
        self,
        cloud: Cloud,
        place: Place,
        build: Build,
        calls: Iterable[Request],
        proofs: Proofs,
        *,
        without: Collection[str] = (),
    ) -> Iterator[OfBuild]:
        """Yield the resources of a build in a place. ``calls``: the requests of all calls for this kind and place in
        the build's journal. ``without``: ids to leave out."""
        for id, found in self.tagged(cloud, place, tags.BUILD_ID, build.id, without=without).items():
            if tags.made_by(found.tags, build.id, build.catalog) and not self.is_leaving(cloud, place, id, found):
                yield OfBuild(id, proven=self.is_proven(cloud, place, found, proofs))

    def is_gone(self, cloud: Cloud, place: Place, id: str) -> bool:
        """Return whether a resource that was found is deleted or is being deleted. False if it is not visible."""
        return False

    def is_leaving(self, cloud: Cloud, place: Place, id: str, found: Tagged) -> bool:
        """Return whether a resource that was found by its tags needs no deletion any more."""
        return self.is_gone(cloud, place, id)

    def is_there(self, cloud: Cloud, place: Place, id: str, parent: str | None) -> bool:
        """Return whether reads show a resource that is not deleted."""
        raise NotImplementedError

    # --- deleting -----------------------------------------------------------------------------------------------------

    def delete_request(self, id: str, parent: str | None) -> dict[str, Any]:
        """The parameters of the deleting call."""
        return {self.delete_parameter: id}

    def was_deleted(self, answer: Mapping[str, Any]) -> bool:
        """Return whether the answer of the deleting call means that it found the resource."""
        return True

    def delete(self, ledger: Ledger, place: Place, id: str, parent: str | None = None) -> None:
        """Ensure that a resource is deleted, with all resources that exist only for it."""
        ledger.delete(self.name, place, id, parent=parent)

    def still_ours(self, ledger: Ledger, place: Place, id: str) -> bool:
        """Return whether the ledger's build created the resource that has this id now. An id is never used again, but a
        name may be."""
        return True

    def await_deleted(self, cloud: Cloud, place: Place, ids: Collection[str]) -> None:
        """Wait until deleted resources release what they use. Raises CloudError if that takes too long."""


@cache
def _together(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """Return both, as one object for thousands of resources."""
    return one | other


KINDS: Final[dict[str, Kind]] = {}
_K = TypeVar("_K", bound=type[Kind])


def register(kind: _K) -> _K:
    """Add a kind; used as a decorator of its class. Raises ValueError for a name that is taken."""
    if kind.name in KINDS:
        raise ValueError(f"there are two kinds {kind.name!r}")
    KINDS[kind.name] = kind()
    return kind


def kind_of(name: str) -> Kind:
    """The kind of that name. Raises ValueError for one that does not exist: a bug in the caller."""
    try:
        return KINDS[name]
    except KeyError:
        raise ValueError(f"unknown kind of resource: {name!r}") from None


def in_order() -> tuple[Kind, ...]:
    """All kinds in the order in which resources are deleted."""
    return tuple(sorted(KINDS.values(), key=lambda kind: kind.order))


# --- EC2: tags in the creating call, and describes that filter by them ------------------------------------------------


class Ec2Kind(Kind):
    """``tag_types``: the resource types that the creating call tags (TagSpecifications); a request may name others by
    ``TagTypes``, which is not sent. ``describe``: the operation that lists them; ``result``: its list; ``id_filter``:
    its filter by ids; ``query``: more parameters. ``name_field``: the field of request and result with the name."""

    service = "ec2"
    name_field: ClassVar[str] = "Name"
    tag_types: ClassVar[tuple[str, ...]]
    describe: ClassVar[str]
    result: ClassVar[str]
    id_filter: ClassVar[str]
    query: ClassVar[Request] = {}

    def add_tags(
        self,
        operation: str,
        request: dict[str, Any],
        token: str,
        build_id: str,
        every: Mapping[str, str],
        prove: Prove,
    ) -> None:
        types = request.pop("TagTypes", self.tag_types)
        proofs = {type: prove(type, every, self.facts(type, operation, request)) for type in types}
        request["TagSpecifications"] = [
            {"ResourceType": type, "Tags": tags.to_list({**every, tags.PROOF: proof})} for type, proof in proofs.items()
        ]

    def tagged(
        self, cloud: Cloud, place: Place, tag: str, value: str | None, *, without: Collection[str] = ()
    ) -> dict[str, Tagged]:
        query = {"Filters": [_tag_filter(tag, value)], **self.query}
        found = {str(i[self.id_field]): i for i in self.items(cloud, place, query)}
        return {id: Tagged(tags.from_list(i.get("Tags")), i) for id, i in found.items() if id not in without}

    def facts(self, type: str, operation: str, request: Request) -> str:
        """The name, which is unique and cannot be changed. It is also where the id of a key pair is."""
        return str(request[self.name_field])

    def facts_of(self, cloud: Cloud, place: Place, found: Tagged) -> Iterator[str]:
        yield str(found.item.get(self.name_field, ""))

    def items(self, cloud: Cloud, place: Place, query: Request) -> Iterator[Mapping[str, Any]]:
        """Yield the resources that the describe operation returns."""
        yield from cloud.pages(place, "ec2", self.describe, self.result, query)

    def by_id(self, cloud: Cloud, place: Place, id: str) -> list[Mapping[str, Any]]:
        """Return the resource with this id, if it is visible. A filter raises no error for an id that is not."""
        return list(self.items(cloud, place, {"Filters": [{"Name": self.id_filter, "Values": [id]}], **self.query}))

    def is_there(self, cloud: Cloud, place: Place, id: str, parent: str | None) -> bool:
        return bool(self.by_id(cloud, place, id)) and not self.is_gone(cloud, place, id)


def _tag_filter(tag: str, value: str | None) -> dict[str, Any]:
    if value is None:
        return {"Name": "tag-key", "Values": [tag]}
    return {"Name": f"tag:{tag}", "Values": [value]}


# What EC2 writes into the descriptions of an image's snapshots.
_OF_IMAGE: Final = re.compile(
    r"Created by CreateImage\((?P<instance>i-[0-9a-f]+)\) for ami-[0-9a-f]+"
    r"|Copied for DestinationAmi ami-[0-9a-f]+ from SourceAmi (?P<image>ami-[0-9a-f]+) for SourceSnapshot "
)
_CLOCKS_DIFFER: Final = timedelta(minutes=10)


def _source_of_image(id: str) -> str:
    return f"of an image from {id}"


def _volume_and_description(volume: str, description: str) -> str:
    return f"of {volume}: {description}"


def _snapshot_and_zone(fields: Mapping[str, Any]) -> str:
    return f"of {fields.get('SnapshotId') or 'nothing'} in {fields.get('AvailabilityZone', '')}"


def _is_after_build(found: Tagged, field: str) -> bool:
    """Return whether a resource is not older than its build. True if one of the times is unknown."""
    began, made = tags.start_of_build(found.tags.get(tags.BUILD_ID, "")), found.item.get(field)
    return began is None or not isinstance(made, datetime) or made >= began - _CLOCKS_DIFFER


@register
class Instance(Ec2Kind):
    """Instances stay visible for about an hour after they ended."""

    name = "instance"
    id_field = "InstanceId"
    delete_operation = "TerminateInstances"
    delete_parameter = "InstanceIds"
    missing_codes = frozenset({"InvalidInstanceID.NotFound"})
    tag_types = ("instance", "volume", "network-interface")
    describe = "DescribeInstances"
    result = "Reservations"
    id_filter = "instance-id"
    order = 2

    def items(self, cloud: Cloud, place: Place, query: Request) -> Iterator[Mapping[str, Any]]:
        for reservation in super().items(cloud, place, query):
            yield from reservation["Instances"]

    def id_of(self, operation: str, answer: Mapping[str, Any], request: Request) -> str:
        return str(answer["Instances"][0]["InstanceId"])

    def delete_request(self, id: str, parent: str | None) -> dict[str, Any]:
        return {"InstanceIds": [id]}

    def facts(self, type: str, operation: str, request: Request) -> str:
        """The ClientToken. The volumes that the call creates have it through their instance."""
        return str(request["ClientToken"])

    def facts_of(self, cloud: Cloud, place: Place, found: Tagged) -> Iterator[str]:
        yield str(found.item.get("ClientToken", ""))

    def is_gone(self, cloud: Cloud, place: Place, id: str) -> bool:
        states = [i["State"]["Name"] for i in self.by_id(cloud, place, id)]
        return bool(states) and all(s in ("terminated", "shutting-down") for s in states)

    def await_deleted(self, cloud: Cloud, place: Place, ids: Collection[str]) -> None:
        from goldenami.aws import instances  # that module imports the ledger, which imports this module

        instances.wait_terminated(cloud, place, ids)


@register
class Image(Ec2Kind):
    """An image is deleted with its snapshots."""

    name = "image"
    id_field = "ImageId"
    delete_operation = "DeregisterImage"
    delete_parameter = "ImageId"
    duplicate_codes = frozenset({"InvalidAMIName.Duplicate"})
    missing_codes = frozenset({"InvalidAMIID.NotFound"})
    # "The specified AMI has been deregistered and is no longer available, or is not in a state from which you can
    # launch an instance or modify attributes" (EC2 error codes).
    uncertain_codes = frozenset({"InvalidAMIID.Unavailable"})
    tag_types = ("image", "snapshot")
    describe = "DescribeImages"
    result = "Images"
    id_filter = "image-id"
    query: ClassVar[Request] = {"Owners": ["self"], "IncludeDeprecated": True, "IncludeDisabled": True}
    repeat_safe = True
    order = 3

    def facts(self, type: str, operation: str, request: Request) -> str:
        """The name. For the snapshots of the image, what EC2 writes into their descriptions."""
        if type == "snapshot":
            return _source_of_image(str(request.get("InstanceId") or request.get("SourceImageId") or ""))
        return super().facts(type, operation, request)

    def delete(self, ledger: Ledger, place: Place, id: str, parent: str | None = None) -> None:
        from goldenami.aws import images  # that module imports the ledger, which imports this module

        images.delete(ledger, place, id)


@register
class Snapshot(Ec2Kind):
    name = "snapshot"
    id_field = "SnapshotId"
    delete_operation = "DeleteSnapshot"
    delete_parameter = "SnapshotId"
    missing_codes = frozenset({"InvalidSnapshot.NotFound"})
    busy_codes = frozenset({"InvalidSnapshot.InUse"})
    busy_for = 20.0
    tag_types = ("snapshot",)
    describe = "DescribeSnapshots"
    result = "Snapshots"
    id_filter = "snapshot-id"
    query: ClassVar[Request] = {"OwnerIds": ["self"]}
    order = 4

    def id_of(self, operation: str, answer: Mapping[str, Any], request: Request) -> str:
        if operation == "CreateSnapshots":  # the others are found by the token, which all of them carry
            return str(answer["Snapshots"][0]["SnapshotId"])
        return super().id_of(operation, answer, request)

    def facts(self, type: str, operation: str, request: Request) -> str:
        """The volume, if the call names it, and the description, which cannot be changed."""
        text = request.get("Description", "")
        if operation == "CopySnapshot" and not text:  # EC2 writes one
            text = f"[Copied {request['SourceSnapshotId']} from {request['SourceRegion']}]"
        return _volume_and_description(request.get("VolumeId", ""), text)

    def facts_of(self, cloud: Cloud, place: Place, found: Tagged) -> Iterator[str]:
        if not _is_after_build(found, "StartTime"):
            return
        text = str(found.item.get("Description", ""))
        yield _volume_and_description(found.item.get("VolumeId", ""), text)
        yield _volume_and_description("", text)  # CreateSnapshots, CopySnapshot
        source = _OF_IMAGE.match(text)
        if source is not None:
            yield _source_of_image(source["instance"] or source["image"])


@register
class Volume(Ec2Kind):
    name = "volume"
    id_field = "VolumeId"
    delete_operation = "DeleteVolume"
    delete_parameter = "VolumeId"
    missing_codes = frozenset({"InvalidVolume.NotFound"})
    busy_codes = frozenset({"VolumeInUse"})
    unready_codes = frozenset({"IncorrectState"})  # for example after a kill
    busy_for = 60.0
    tag_types = ("volume",)
    describe = "DescribeVolumes"
    result = "Volumes"
    id_filter = "volume-id"
    order = 5

    def is_leaving(self, cloud: Cloud, place: Place, id: str, found: Tagged) -> bool:
        """EC2 deletes it with the instance that is being terminated (DeleteOnTermination)."""
        attached = found.item.get("Attachments") or ()
        ends_with = [str(one["InstanceId"]) for one in attached if one.get("DeleteOnTermination")]
        return len(ends_with) == len(attached) > 0 and all(Instance().is_gone(cloud, place, i) for i in ends_with)

    def facts(self, type: str, operation: str, request: Request) -> str:
        """The snapshot and the zone."""
        return _snapshot_and_zone(request)

    def facts_of(self, cloud: Cloud, place: Place, found: Tagged) -> Iterator[str]:
        if not _is_after_build(found, "CreateTime"):
            return
        yield _snapshot_and_zone(found.item)
        for attachment in found.item.get("Attachments") or ():
            for instance in Instance().by_id(cloud, place, str(attachment["InstanceId"])):
                yield str(instance.get("ClientToken", ""))


@register
class SecurityGroup(Ec2Kind):
    """A security group is busy as long as the network interface of a terminated instance exists."""

    name = "security-group"
    id_field = "GroupId"
    delete_operation = "DeleteSecurityGroup"
    delete_parameter = "GroupId"
    duplicate_codes = frozenset({"InvalidGroup.Duplicate"})
    missing_codes = frozenset({"InvalidGroup.NotFound", "InvalidGroupId.NotFound"})
    busy_codes = frozenset({"DependencyViolation", "InvalidGroup.InUse"})
    busy_for = 300.0
    tag_types = ("security-group",)
    describe = "DescribeSecurityGroups"
    result = "SecurityGroups"
    id_filter = "group-id"
    name_field = "GroupName"
    repeat_safe = True
    order = 6

    def facts(self, type: str, operation: str, request: Request) -> str:
        """The name, and the network, because another network may have a group of the same name."""
        return f"{request['GroupName']} in {request.get('VpcId', '')}"

    def facts_of(self, cloud: Cloud, place: Place, found: Tagged) -> Iterator[str]:
        for network in (found.item.get("VpcId", ""), ""):
            yield self.facts(self.name, "", {**found.item, "VpcId": network})


@register
class KeyPair(Ec2Kind):
    """A key pair. Its id is its name, which a launch needs, and which is another one for each attempt
    (``Ledger.next_name``). DeleteKeyPair succeeds if there is no key pair of that name; its answer names the key pair
    that it deleted."""

    name = "key-pair"
    id_field = "KeyName"
    delete_operation = "DeleteKeyPair"
    delete_parameter = "KeyName"
    duplicate_codes = frozenset({"InvalidKeyPair.Duplicate"})
    missing_codes = frozenset({"InvalidKeyPair.NotFound"})
    tag_types = ("key-pair",)
    describe = "DescribeKeyPairs"
    result = "KeyPairs"
    id_filter = "key-name"
    name_field = "KeyName"
    repeat_safe = True
    order = 7

    def was_deleted(self, answer: Mapping[str, Any]) -> bool:
        return bool(answer.get("KeyPairId"))


@register
class LaunchTemplate(Ec2Kind):
    """A launch template. Its id is its name (``Ledger.next_name``)."""

    name = "launch-template"
    id_field = "LaunchTemplateName"
    delete_operation = "DeleteLaunchTemplate"
    delete_parameter = "LaunchTemplateName"
    duplicate_codes = frozenset({"InvalidLaunchTemplateName.AlreadyExistsException"})
    missing_codes = frozenset({"InvalidLaunchTemplateName.NotFoundException", "InvalidLaunchTemplateId.NotFound"})
    tag_types = ("launch-template",)
    describe = "DescribeLaunchTemplates"
    result = "LaunchTemplates"
    id_filter = "launch-template-name"
    name_field = "LaunchTemplateName"
    repeat_safe = True
    everywhere = False
    in_manifest = False
    order = 5

    def id_of(self, operation: str, answer: Mapping[str, Any], request: Request) -> str:
        return str(request["LaunchTemplateName"])


# --- other services ---------------------------------------------------------------------------------------------------


@register
class AutoScalingGroup(Kind):
    """An Auto Scaling group. Its id is its name (``Ledger.next_name``). It is deleted with its instances."""

    name = "auto-scaling-group"
    service = "autoscaling"
    id_field = "AutoScalingGroupName"
    delete_operation = "DeleteAutoScalingGroup"
    delete_parameter = "AutoScalingGroupName"
    duplicate_codes = frozenset({"AlreadyExists", "AlreadyExistsFault"})
    uncertain_codes = frozenset({"ValidationError"})  # also for a group that does not exist
    busy_codes = frozenset({"ResourceInUse", "ScalingActivityInProgress"})
    busy_for = 300.0
    repeat_safe = True
    everywhere = False
    in_manifest = False
    order = 1

    def add_tags(
        self,
        operation: str,
        request: dict[str, Any],
        token: str,
        build_id: str,
        every: Mapping[str, str],
        prove: Prove,
    ) -> None:
        proof = prove(self.name, every, self.facts(self.name, operation, request))
        own = tags.to_list({**every, tags.PROOF: proof})
        # The instances do not get them: the proof is of the group.
        request["Tags"] = [{**tag, "PropagateAtLaunch": False} for tag in own]

    def facts(self, type: str, operation: str, request: Request) -> str:
        return str(request["AutoScalingGroupName"])

    def facts_of(self, cloud: Cloud, place: Place, found: Tagged) -> Iterator[str]:
        yield str(found.item.get("AutoScalingGroupName", ""))

    def id_of(self, operation: str, answer: Mapping[str, Any], request: Request) -> str:
        return str(request["AutoScalingGroupName"])

    def delete_request(self, id: str, parent: str | None) -> dict[str, Any]:
        return {"AutoScalingGroupName": id, "ForceDelete": True}

    def tagged(
        self, cloud: Cloud, place: Place, tag: str, value: str | None, *, without: Collection[str] = ()
    ) -> dict[str, Tagged]:
        query = {"Filters": [_tag_filter(tag, value)]}
        found = {str(one["AutoScalingGroupName"]): one for one in _groups(cloud, place, query)}
        return {id: Tagged(tags.from_list(one.get("Tags")), one) for id, one in found.items() if id not in without}

    def is_there(self, cloud: Cloud, place: Place, id: str, parent: str | None) -> bool:
        return any(not _is_leaving(one) for one in _groups(cloud, place, {"AutoScalingGroupNames": [id]}))

    def is_gone(self, cloud: Cloud, place: Place, id: str) -> bool:
        return any(_is_leaving(one) for one in _groups(cloud, place, {"AutoScalingGroupNames": [id]}))


def _groups(cloud: Cloud, place: Place, query: Request) -> Iterator[Mapping[str, Any]]:
    yield from cloud.pages(place, "autoscaling", "DescribeAutoScalingGroups", "AutoScalingGroups", query)


def _is_leaving(group: Mapping[str, Any]) -> bool:
    """Return whether a group is being deleted; it stays visible until its instances have ended."""
    return str(group.get("Status") or "").startswith("Delete")


@register
class Parameter(Kind):
    """An SSM parameter. Its id is its name, which another parameter may have later."""

    name = "parameter"
    service = "ssm"
    id_field = "Name"
    delete_operation = "DeleteParameter"
    delete_parameter = "Name"
    duplicate_codes = frozenset({"ParameterAlreadyExists"})
    missing_codes = frozenset({"ParameterNotFound"})
    unknown_codes = frozenset({"ParameterNotFound", "InvalidResourceId"})
    visible_within = 60.0  # SSM validates an image id within seconds
    repeat_safe = True
    order = 1
    in_manifest = False
    expires = False  # no tag says that one is temporary: it would have to be removed at each release

    def id_of(self, operation: str, answer: Mapping[str, Any], request: Request) -> str:
        return str(request["Name"])

    def known_id(self, request: Request) -> str | None:
        return str(request["Name"])

    def facts(self, type: str, operation: str, request: Request) -> str:
        return str(request["Name"])

    def facts_of(self, cloud: Cloud, place: Place, found: Tagged) -> Iterator[str]:
        yield str(found.item["Name"])

    def tagged(
        self, cloud: Cloud, place: Place, tag: str, value: str | None, *, without: Collection[str] = ()
    ) -> dict[str, Tagged]:
        """SSM filters by tags, also by a key alone, but returns the tags of one parameter at a time only."""
        query = {"ParameterFilters": [{"Key": f"tag:{tag}"} | ({"Values": [value]} if value is not None else {})]}
        names = [str(p["Name"]) for p in cloud.pages(place, "ssm", "DescribeParameters", "Parameters", query)]
        return {name: _parameter(cloud, place, name) for name in names if name not in without}

    def find(self, cloud: Cloud, place: Place, token: str, request: Request, proofs: Proofs) -> str | None:
        found = _parameter(cloud, place, str(request["Name"]))
        ours = found.tags.get(tags.TOKEN) == token and self.is_proven(cloud, place, found, proofs)
        return str(request["Name"]) if ours else None

    def is_there(self, cloud: Cloud, place: Place, id: str, parent: str | None) -> bool:
        try:
            cloud.call(place, "ssm", "GetParameter", {"Name": id})
        except CloudError as error:
            if errors.is_missing(error):
                return False
            raise
        return True

    def still_ours(self, ledger: Ledger, place: Place, id: str) -> bool:
        """A parameter without tags may be too new to show them; they are read again for as long as that can last."""
        own = ledger.look(self, place, id, lambda: parameter_tags(ledger.cloud, place, id)) or {}
        if not tags.made_by(own, ledger.journal.build_id, ledger.journal.header.catalog):
            return False
        return self.is_proven(ledger.cloud, place, Tagged(own, {"Name": id}), ledger.proofs)


def _parameter(cloud: Cloud, place: Place, name: str) -> Tagged:
    return Tagged(parameter_tags(cloud, place, name), {"Name": name})


def parameter_tags(cloud: Cloud, place: Place, name: str) -> Mapping[str, str]:
    """The tags of an SSM parameter; none if there is no such parameter."""
    query = {"ResourceType": "Parameter", "ResourceId": name}
    try:
        return tags.from_list(cloud.call(place, "ssm", "ListTagsForResource", query).get("TagList"))
    except CloudError as error:
        if errors.is_missing(error) or error.code == "InvalidResourceId":
            return {}
        raise


@register
class LifecyclePolicy(Kind):
    """A policy of Data Lifecycle Manager."""

    name = "lifecycle-policy"
    service = "dlm"
    id_field = "PolicyId"
    delete_operation = "DeleteLifecyclePolicy"
    delete_parameter = "PolicyId"
    missing_codes = frozenset({"ResourceNotFoundException"})
    everywhere = False
    expires = False  # it is kept as long as it is declared
    order = 1

    def add_tags(
        self,
        operation: str,
        request: dict[str, Any],
        token: str,
        build_id: str,
        every: Mapping[str, str],
        prove: Prove,
    ) -> None:
        request["Tags"] = {**every, tags.PROOF: prove(self.name, every, self.facts(self.name, operation, request))}

    def facts(self, type: str, operation: str, request: Request) -> str:
        """Nothing: whatever the call fixes of a policy can be changed."""
        return ""

    def facts_of(self, cloud: Cloud, place: Place, found: Tagged) -> Iterator[str]:
        yield ""

    def is_there(self, cloud: Cloud, place: Place, id: str, parent: str | None) -> bool:
        try:
            found = cloud.call(place, "dlm", "GetLifecyclePolicies", {"PolicyIds": [id]}).get("Policies") or ()
        except CloudError as error:
            if errors.is_missing(error):
                return False
            raise
        return any(policy.get("PolicyId") == id for policy in found)

    def tagged(
        self, cloud: Cloud, place: Place, tag: str, value: str | None, *, without: Collection[str] = ()
    ) -> dict[str, Tagged]:
        """The list of policies has no filter for these tags, and contains all of them."""
        found = cloud.call(place, "dlm", "GetLifecyclePolicies", {}).get("Policies") or ()
        every = {str(p["PolicyId"]): Tagged(p.get("Tags") or {}, p) for p in found}
        return {
            id: one
            for id, one in every.items()
            if tag in one.tags and value in (None, one.tags[tag]) and id not in without
        }


@register
class Grant(Kind):
    """A grant on a KMS key. Grants have no tags; the name identifies catalog, build and attempt. KMS returns the same
    grant for the same name and parameters. ``parent``: the ARN of the key."""

    name = "grant"
    service = "kms"
    id_field = "GrantId"
    delete_operation = "RevokeGrant"
    delete_parameter = "GrantId"
    missing_codes = frozenset({"NotFoundException", "InvalidGrantIdException"})
    repeat_safe = True
    order = 0
    has_tags = False
    in_manifest = False

    def add_tags(
        self,
        operation: str,
        request: dict[str, Any],
        token: str,
        build_id: str,
        every: Mapping[str, str],
        prove: Prove,
    ) -> None:
        request["Name"] = grant_name(build_id, every[tags.CATALOG], token)

    def parent(self, request: Request) -> str | None:
        key = request.get("KeyId")
        return None if key is None else str(key)

    def find(self, cloud: Cloud, place: Place, token: str, request: Request, proofs: Proofs) -> str | None:
        found = self.of_key(cloud, place, str(request["KeyId"]))
        return next((str(g["GrantId"]) for g in found if g.get("Name", "").endswith(token)), None)

    def of_build(
        self,
        cloud: Cloud,
        place: Place,
        build: Build,
        calls: Iterable[Request],
        proofs: Proofs,
        *,
        without: Collection[str] = (),
    ) -> Iterator[OfBuild]:
        """Those on the keys that the build's calls name."""
        for key in sorted({str(request["KeyId"]) for request in calls}):
            for grant in self.of_key(cloud, place, key):
                if grant.get("Name", "").startswith(grant_prefix(build.id, build.catalog)):
                    yield OfBuild(str(grant["GrantId"]), key)

    def is_there(self, cloud: Cloud, place: Place, id: str, parent: str | None) -> bool:
        return parent is not None and any(g.get("GrantId") == id for g in self.of_key(cloud, place, parent))

    def of_key(self, cloud: Cloud, place: Place, key: str) -> Iterator[Mapping[str, Any]]:
        """All grants of a key, as ListGrants returns them."""
        yield from cloud.pages(place, "kms", "ListGrants", "Grants", {"KeyId": key})

    def delete_request(self, id: str, parent: str | None) -> dict[str, Any]:
        if parent is None:
            raise ValueError("a grant is deleted with the ARN of its key as parent")
        return {"KeyId": parent, "GrantId": id}


def grant_prefix(build_id: str, catalog: str | None) -> str:
    """How the names of all grants of a build begin. ``catalog``: None for a build of an earlier version of goldenami,
    whose grants do not name a catalog."""
    return f"goldenami-{build_id}-" if catalog is None else f"goldenami-{catalog}-{build_id}-"


def grant_name(build_id: str, catalog: str, token: str) -> str:
    """The name of one attempt's grant."""
    return grant_prefix(build_id, catalog) + token
