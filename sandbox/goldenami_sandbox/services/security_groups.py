"""Rules of security groups that moto does not have (CreateSecurityGroup and IpRange, EC2 API reference)."""

from __future__ import annotations

import re
from typing import Any

from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

RULES = frozenset(
    {
        "AuthorizeSecurityGroupIngress",
        "AuthorizeSecurityGroupEgress",
        "UpdateSecurityGroupRuleDescriptionsIngress",
        "UpdateSecurityGroupRuleDescriptionsEgress",
        "ModifySecurityGroupRules",
    }
)
_CHARACTERS = r"a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*"
_TEXT = re.compile(rf"[{_CHARACTERS}]{{0,255}}")
_ALLOWED = "strings less than 256 characters from the following set: a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*"


def refuse(call: Call, backend: Any) -> Response | None:
    """Return the error for a new group with a name, a description or a VPC that is not valid, or None."""
    # Packer sends an empty VpcId if its template names no VPC: EC2 takes that as no VPC named.
    name, vpc = call.form.get("GroupName", ""), call.form.get("VpcId") or None
    if not name or not _TEXT.fullmatch(name):
        return call.error("InvalidParameterValue", f"Invalid security group name. Valid names are {_ALLOWED}.")
    if name.lower().startswith("sg-"):
        return call.error("InvalidParameterValue", "Group names may not be in the format sg-*.")
    if name.lower() == "default":
        return call.error("InvalidParameterValue", "Cannot use reserved security group name: default")
    if not _TEXT.fullmatch(call.form.get("GroupDescription", "")):
        return call.error(
            "InvalidParameterValue", f"Invalid security group description. Valid descriptions are {_ALLOWED}."
        )
    if vpc is not None and vpc not in backend.vpcs:
        return call.error("InvalidVpcID.NotFound", f"The vpc ID '{vpc}' does not exist")
    if vpc is None and backend.get_default_vpc() is None:
        return call.error("VPCIdNotSpecified", "No default VPC for this user.")
    # Names are case-insensitive within a VPC.
    vpc = vpc or backend.get_default_vpc().id
    if any(group.name.lower() == name.lower() for group in backend.groups.get(vpc, {}).values()):
        return call.error("InvalidGroup.Duplicate", f"The security group '{name}' already exists for VPC '{vpc}'")
    return None


def refuse_rules(call: Call) -> Response | None:
    """Return the error for rules with a description that is not valid, or None."""
    for key, value in call.form.items():
        if key.endswith(".Description") and not _TEXT.fullmatch(value):
            return call.error("InvalidParameterValue", f"Invalid rule description. Valid descriptions are {_ALLOWED}.")
    return None
