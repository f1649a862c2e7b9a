"""The temporary security group of a builder. It allows SSH from one source only."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from goldenami.aws.ledger import Call, Ledger
from goldenami.aws.session import Cloud
from goldenami.each import Failures
from goldenami.model import Place

SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class Source:
    """The source of connections to a builder: networks, security groups, or none if no connection comes in.

    With Session Manager, the builder's agent connects to AWS, so there is no inbound connection.
    """

    cidrs: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def create(ledger: Ledger, key: str, place: Place, *, vpc_id: str) -> str:
    """Ensure that the group exists, without a rule. Return its id."""
    request = {
        "GroupName": ledger.next_name(key),
        "Description": "goldenami: SSH to a temporary builder",
        "VpcId": vpc_id,
    }
    return ledger.create(key, "security-group", place, Call("ec2", "CreateSecurityGroup", request), temporary=True)


def allow(
    ledger: Ledger, key: str, place: Place, group_id: str, *, source: Source, ports: Sequence[int] = (SSH_PORT,)
) -> None:
    """Ensure that the group of ``key`` lets connections from a source in. ``ports``: of the SSH servers. An instance
    may have the group already: EC2 applies a change of its rules to it.

    If the source has changed (a resume from another network), a rule for the new source is added.
    """
    sources = _sources(source)
    if sources:
        permissions = [{"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **sources} for port in ports]
        rule = Call("ec2", "AuthorizeSecurityGroupIngress", {"GroupId": group_id, "IpPermissions": permissions})
        ledger.change(
            f"{key}/ingress", place, rule, resource=group_id, kind="rule", already={"InvalidPermission.Duplicate"}
        )


def _sources(source: Source) -> dict[str, Any]:
    """Return the source in the form of a permission; empty if there is none."""
    if source.groups:
        why = "goldenami: the endpoint that connects"
        return {"UserIdGroupPairs": [{"GroupId": group, "Description": why} for group in source.groups]}
    found: dict[str, Any] = {}
    for cidr in source.cidrs:
        network = ipaddress.ip_network(cidr, strict=False)
        ranges, key = ("IpRanges", "CidrIp") if network.version == 4 else ("Ipv6Ranges", "CidrIpv6")
        found.setdefault(ranges, []).append({key: str(network), "Description": "goldenami: the machine that builds"})
    return found


def default_of(cloud: Cloud, place: Place, vpc_id: str) -> str | None:
    """Return the id of a VPC's default group; None if it is not found, or may not be read. Nobody can delete it
    ("Default security groups for your VPCs", VPC user guide)."""
    filters = {"vpc-id": [vpc_id], "group-name": ["default"]}
    query = {"Filters": [{"Name": name, "Values": values} for name, values in filters.items()]}
    failures, found = Failures[str](), list[str]()
    with failures.of(vpc_id):
        found += [
            str(g["GroupId"]) for g in cloud.pages(place, "ec2", "DescribeSecurityGroups", "SecurityGroups", query)
        ]
    return found[0] if found else None


def leave(ledger: Ledger, place: Place, instance_id: str, default: str) -> None:
    """Move an instance that is going to be terminated into the default group of its VPC, so that its own group can be
    deleted before the instance has ended. If that is refused, deleting the group waits for the end of the instance."""
    call = Call("ec2", "ModifyInstanceAttribute", {"InstanceId": instance_id, "Groups": [default]})
    with Failures[str]().of(instance_id):
        ledger.change(f"leave-group/{instance_id}", place, call, resource=instance_id, kind="attribute")


def delete(ledger: Ledger, place: Place, group_id: str) -> None:
    """Ensure that a group is deleted. Raises CloudError (DependencyViolation) if an instance still uses it."""
    ledger.delete("security-group", place, group_id)
