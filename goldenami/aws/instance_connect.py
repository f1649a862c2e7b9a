"""EC2 Instance Connect Endpoints, through which the AWS CLI reaches the SSH server of an instance.

The tunnel is a WebSocket to the endpoint with a signed URL. ``aws ec2-instance-connect open-tunnel`` opens it; proxies
and FIPS endpoints are its concern. A tunnel lasts at most one hour ("Considerations", EC2 User Guide), after which
goldenami connects again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any, Final

from goldenami.aws.network import Subnet
from goldenami.aws.session import Cloud
from goldenami.errors import BuilderError, NotFound
from goldenami.model import Place, SshEndpoint

PROGRAM: Final = "aws"
# A changed endpoint works while and after it is changed.
_USABLE: Final = ["create-complete", "update-in-progress", "update-failed", "update-complete"]


@dataclass(frozen=True, slots=True)
class ConnectEndpoint:
    """An endpoint as DescribeInstanceConnectEndpoints returns it. ``preserves_client_address``: instances see the
    address of the client, and otherwise that of the endpoint, which has ``security_groups``."""

    id: str
    subnet_id: str
    preserves_client_address: bool
    security_groups: tuple[str, ...]


def require_cli() -> str:
    """Return the path of the AWS CLI. Raises BuilderError if it is not installed."""
    path = shutil.which(PROGRAM)
    if path is None:
        raise BuilderError(
            "network.transport instance-connect: the AWS CLI (aws) is not on the PATH of this machine",
            hint="Install AWS CLI version 2.12 or later.",
        )
    return path


def find(cloud: Cloud, place: Place, subnet: Subnet, endpoint_id: str | None) -> ConnectEndpoint:
    """Return the endpoint with an id; without one, the endpoint in a subnet, or another one in its VPC.

    Raises NotFound if there is none that can be used.
    """
    request: dict[str, Any] = {"Filters": [{"Name": "state", "Values": _USABLE}]}
    if endpoint_id is not None:
        request["InstanceConnectEndpointIds"] = [endpoint_id]
    else:
        request["Filters"].append({"Name": "vpc-id", "Values": [subnet.vpc_id]})
    answer = cloud.pages(place, "ec2", "DescribeInstanceConnectEndpoints", "InstanceConnectEndpoints", request)
    found = [
        ConnectEndpoint(
            item["InstanceConnectEndpointId"],
            item.get("SubnetId", ""),
            bool(item.get("PreserveClientIp")),
            tuple(item.get("SecurityGroupIds") or ()),
        )
        for item in answer
    ]
    if not found:
        what = endpoint_id or f"in VPC {subnet.vpc_id}"
        raise NotFound(
            f"{place} has no usable EC2 Instance Connect Endpoint {what}",
            hint="Create one (`aws ec2 create-instance-connect-endpoint`), or choose another network.transport.",
        )
    return min(found, key=lambda one: (one.subnet_id != subnet.id, one.id))


def command(endpoint_id: str, endpoint: SshEndpoint, region: str) -> list[str]:
    """Return the command whose standard input and output are the tunnel to an instance's private address."""
    return [
        require_cli(),
        "ec2-instance-connect",
        "open-tunnel",
        *("--region", region),
        *("--instance-connect-endpoint-id", endpoint_id),
        *("--private-ip-address", endpoint.address),
        *("--remote-port", str(endpoint.port)),
    ]
