"""The temporary security group of a builder. It allows SSH from one network only."""

from __future__ import annotations

import ipaddress

from goldenami.aws.ledger import Call, Ledger
from goldenami.model import Place

SSH_PORT = 22


def create(ledger: Ledger, key: str, place: Place, *, vpc_id: str, source_cidr: str) -> str:
    """Ensure that the group exists, with its rule. Return its id.

    If the caller's address has changed (a resume from another network), a rule for the new address is added.
    """
    request = {
        # Unique in the VPC, and the same on every try of this build.
        "GroupName": f"goldenami-{ledger.journal.build_id}-{_slug(key)}",
        "Description": "goldenami: SSH to a temporary builder",
        "VpcId": vpc_id,
    }
    group_id = ledger.create(key, "security-group", place, Call("ec2", "CreateSecurityGroup", request), temporary=True)
    network = ipaddress.ip_network(source_cidr, strict=False)
    who = "goldenami: the machine that builds"
    ranges = (
        {"IpRanges": [{"CidrIp": str(network), "Description": who}]}
        if network.version == 4
        else {"Ipv6Ranges": [{"CidrIpv6": str(network), "Description": who}]}
    )
    permission = {"IpProtocol": "tcp", "FromPort": SSH_PORT, "ToPort": SSH_PORT, **ranges}
    rule = Call("ec2", "AuthorizeSecurityGroupIngress", {"GroupId": group_id, "IpPermissions": [permission]})
    ledger.change(
        f"{key}/ingress", place, rule, resource=group_id, kind="rule", already={"InvalidPermission.Duplicate"}
    )
    return group_id


def delete(ledger: Ledger, place: Place, group_id: str) -> None:
    """Ensure that a group is deleted. Raises CloudError (DependencyViolation) if an instance still uses it."""
    ledger.delete("security-group", place, group_id)


def _slug(key: str) -> str:
    return key.replace("/", "-")
