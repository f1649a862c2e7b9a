"""Spot requests. There is always capacity, so RunInstances and RequestSpotInstances fulfill a request at once.

Only ``reclaim`` interrupts an instance.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.ec2 import describe_instances, instance_attributes, instances, launch, tags
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud, select_resources
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described
from goldenami_sandbox.ec2.records import SpotRequest


def request_spot_instances(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """RequestSpotInstances: the older way to a spot instance. It does the same as RunInstances and returns the
    requests.
    """
    earlier = cloud.earlier_ids(ctx, "RequestSpotInstances", params)
    if earlier is not None:
        known = [cloud.store.spot_requests[i] for i in earlier if i in cloud.store.spot_requests]
        return {"SpotInstanceRequests": [rendered(r) for r in known]}
    options = {
        "SpotInstanceType": params.get("Type"),
        "MaxPrice": params.get("SpotPrice"),
        "InstanceInterruptionBehavior": params.get("InstanceInterruptionBehavior"),
        "ValidUntil": params.get("ValidUntil"),
    }
    specification = dict(params.get("LaunchSpecification") or {})
    specification.pop("AddressingType", None)
    count = params.get("InstanceCount") or 1
    before = set(cloud.store.spot_requests)
    launch.run_instances(
        cloud,
        ctx,
        {
            **specification,
            "MinCount": count,
            "MaxCount": count,
            "TagSpecifications": params.get("TagSpecifications") or [],
            "InstanceMarketOptions": {
                "MarketType": "spot",
                "SpotOptions": {k: v for k, v in options.items() if v is not None},
            },
        },
    )
    made = [r for r in cloud.store.spot_requests.values() if r.id not in before]
    cloud.remember(ctx, "RequestSpotInstances", params, [r.id for r in made])
    return {"SpotInstanceRequests": [rendered(r) for r in made]}


def rendered(request: SpotRequest) -> dict[str, Any]:
    return {
        "SpotInstanceRequestId": request.id,
        "CreateTime": request.created,
        "InstanceId": request.instance_id,
        "InstanceInterruptionBehavior": request.interruption_behavior,
        "LaunchSpecification": {
            "ImageId": request.image_id,
            "InstanceType": request.instance_type,
            "KeyName": request.key_name,
            "SubnetId": request.subnet_id,
            "SecurityGroups": describe_instances.groups(request.groups),
            "Placement": {"AvailabilityZone": request.availability_zone},
        },
        "LaunchedAvailabilityZone": request.availability_zone,
        "ProductDescription": "Linux/UNIX",
        "SpotPrice": request.price or None,
        "State": request.state,
        "Status": {
            "Code": request.status_code,
            "Message": request.status_message,
            "UpdateTime": request.status_updated,
        },
        "Tags": tags.rendered(request),
        "Type": request.type,
        "ValidUntil": request.valid_until,
    }


_FILTERS: dict[str, Source] = {
    "instance-id": "InstanceId",
    "launch.image-id": "LaunchSpecification.ImageId",
    "launch.instance-type": "LaunchSpecification.InstanceType",
    "launch.key-name": "LaunchSpecification.KeyName",
    "launched-availability-zone": "LaunchedAvailabilityZone",
    "spot-instance-request-id": "SpotInstanceRequestId",
    "spot-price": "SpotPrice",
    "state": "State",
    "status-code": "Status.Code",
    "type": "Type",
}


def describe_spot_instance_requests(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    found = cloud.select("sir", cloud.store.spot_requests, ctx, params.get("SpotInstanceRequestIds"))
    answers = [rendered(r) for r in found]
    return described("SpotInstanceRequests", answers, params, _FILTERS, ["CreateTime", "SpotInstanceRequestId"])


def cancel_spot_instance_requests(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """CancelSpotInstanceRequests. The instance of a canceled request keeps running."""
    found = select_resources(
        "sir", params["SpotInstanceRequestIds"], cloud.known_resources(cloud.store.spot_requests, ctx)
    )
    for request in found:
        if request.state in ("open", "active"):
            running = request.state == "active" and request.instance_id is not None
            request.status_code = "request-canceled-and-instance-running" if running else "canceled-before-fulfillment"
            request.status_message, request.status_updated = "The request was canceled.", cloud.now()
            request.state = "cancelled"
    return {"CancelledSpotInstanceRequests": [{"SpotInstanceRequestId": r.id, "State": r.state} for r in found]}


# --- interruptions ----------------------------------------------------------------------------------------------------


def reclaim(cloud: Ec2Cloud, instance_id: str, notice: float) -> None:
    """Interrupt a spot instance as EC2 does, ``notice`` seconds after the interruption notice.

    The notice is in the request's status and in the instance metadata at spot/instance-action ("Spot Instance
    interruption notices"; EC2 gives two minutes). Raises Ec2Error if it is not a running spot instance. A restart of
    the sandbox in this time cancels the interruption.
    """
    with cloud.lock:
        instance = cloud.store.instances.get(instance_id)
        if instance is None:
            raise Ec2Error("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")
        request = cloud.store.spot_requests.get(instance.spot_request_id or "")
        if request is None or instance.state(cloud.now()) != "running":
            raise Ec2Error("IncorrectInstanceState", f"The instance '{instance_id}' is not a running Spot Instance.")
        request.status_code = "marked-for-termination"
        request.status_message = "Spot Instance is marked for termination."
        request.status_updated = cloud.now()
        request.interrupted_at = cloud.now() + notice
        instance_attributes.configure_guest(cloud, instance)
    if notice <= 0:
        _take_back(cloud, instance_id)
        return
    timer = threading.Timer(notice, _take_back, (cloud, instance_id))
    timer.daemon = True
    timer.start()


def _take_back(cloud: Ec2Cloud, instance_id: str) -> None:
    with cloud.lock:
        instance = cloud.store.instances.get(instance_id)
        if instance is None or instance.goal == "terminated":
            return
        request = cloud.store.spot_requests[instance.spot_request_id or ""]
        request.state, request.status_code = "closed", "instance-terminated-no-capacity"
        request.status_message = (
            "Your Spot Instance was terminated because there is no longer any Spot capacity available."
        )
        request.status_updated = cloud.now()
        code = "Server.SpotInstanceTermination"
        instance.reason_code, instance.reason_message = code, f"{code}: Spot instance termination"
        instance.reason = ""
        instances.begin_terminate(cloud, instance)


ACTIONS: dict[str, Action] = {
    "RequestSpotInstances": request_spot_instances,
    "DescribeSpotInstanceRequests": describe_spot_instance_requests,
    "CancelSpotInstanceRequests": cancel_spot_instance_requests,
}
