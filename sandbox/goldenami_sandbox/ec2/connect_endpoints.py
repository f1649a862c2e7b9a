"""EC2 Instance Connect Endpoints: created, described and deleted. They carry no data.

("EC2 Instance Connect Endpoint", EC2 User Guide: a quota of one in a subnet and one in a VPC; without security groups,
the default group of the VPC is used.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from goldenami_sandbox.ec2 import launch_request, tags
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described
from goldenami_sandbox.ec2.records import ConnectEndpoint
from goldenami_sandbox.ec2.store import new_id

_KIND: Final = "instance-connect-endpoint"


def create(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    earlier = cloud.earlier_ids(ctx, "CreateInstanceConnectEndpoint", params)
    if earlier is not None:
        known = [cloud.store.connect_endpoints[i] for i in earlier if i in cloud.store.connect_endpoints]
        if known:
            return {"InstanceConnectEndpoint": _describe_one(cloud, known[0])}
    given = tags.from_specifications(params, _KIND)
    subnet = cloud.hooks.subnet(ctx.account, ctx.region, params["SubnetId"])
    if subnet is None:
        raise Ec2Error("InvalidSubnetID.NotFound", f"The subnet ID '{params['SubnetId']}' does not exist")
    wanted = params.get("SecurityGroupIds") or ["default"]
    groups = [launch_request.group(cloud, ctx, group, subnet.vpc_id).group_id for group in wanted]
    for other in cloud.owned_resources(cloud.store.connect_endpoints, ctx).values():
        if other.vpc_id == subnet.vpc_id:
            raise Ec2Error(
                "InstanceConnectEndpointLimitExceeded",
                "The maximum number of EC2 Instance Connect Endpoints for this VPC has been reached.",
            )
    made = ConnectEndpoint(
        id=new_id("eice"),
        **cloud.birth(ctx, given[_KIND]),
        subnet_id=subnet.subnet_id,
        vpc_id=subnet.vpc_id,
        availability_zone=subnet.availability_zone,
        security_groups=groups,
        preserve_client_ip=bool(params.get("PreserveClientIp")),
        ready_at=cloud.now() + cloud.settings.pending.instance,
    )
    cloud.store.connect_endpoints[made.id] = made
    cloud.remember(ctx, "CreateInstanceConnectEndpoint", params, [made.id])
    return {"InstanceConnectEndpoint": _describe_one(cloud, made)}


def describe(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    found = cloud.select("eice", cloud.store.connect_endpoints, ctx, params.get("InstanceConnectEndpointIds"))
    answers = [_describe_one(cloud, endpoint) for endpoint in found]
    return described("InstanceConnectEndpoints", answers, params, FILTERS, ["InstanceConnectEndpointId"])


def delete(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    [found] = cloud.select("eice", cloud.store.connect_endpoints, ctx, [params["InstanceConnectEndpointId"]])
    del cloud.store.connect_endpoints[found.id]
    return {"InstanceConnectEndpoint": {**_describe_one(cloud, found), "State": "delete-in-progress"}}


FILTERS: dict[str, Source] = {
    "instance-connect-endpoint-id": "InstanceConnectEndpointId",
    "state": "State",
    "subnet-id": "SubnetId",
    "vpc-id": "VpcId",
}


def _describe_one(cloud: Ec2Cloud, endpoint: ConnectEndpoint) -> dict[str, Any]:
    name = f"{endpoint.id}.{endpoint.owner}.ec2-instance-connect-endpoint.{endpoint.region}.amazonaws.com"
    return {
        "OwnerId": endpoint.owner,
        "InstanceConnectEndpointId": endpoint.id,
        "State": "create-complete" if endpoint.ready_at <= cloud.now() else "create-in-progress",
        "DnsName": name,
        "VpcId": endpoint.vpc_id,
        "SubnetId": endpoint.subnet_id,
        "AvailabilityZone": endpoint.availability_zone,
        "CreatedAt": endpoint.created,
        "PreserveClientIp": endpoint.preserve_client_ip,
        "SecurityGroupIds": list(endpoint.security_groups),
        "Tags": [{"Key": key, "Value": value} for key, value in endpoint.tags.items()],
    }


ACTIONS: dict[str, Action] = {
    "CreateInstanceConnectEndpoint": create,
    "DescribeInstanceConnectEndpoints": describe,
    "DeleteInstanceConnectEndpoint": delete,
}
