"""EC2 Auto Scaling: which instances are members of a group, and a temporary group with one instance.

A group launches with its service-linked role, which needs the key of the image itself: an image that a role of the
account can launch may still be useless for a group.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from goldenami.aws import instances, tags
from goldenami.aws.instances import Instance, LaunchSpec
from goldenami.aws.ledger import Call, Ledger
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item, state_of
from goldenami.errors import BuilderError, HostLost
from goldenami.journal import Secret
from goldenami.model import Place

# Auto Scaling sets it on each member, also on an attached one. Users cannot set tags that begin with "aws:".
_GROUP: Final = "aws:autoscaling:groupName"
STANDBY: Final = "Standby"
_LAUNCHED_WITHIN: Final = 140.0  # seconds; a group launches within some seconds, or tells in its activities why not
_SIZE: Final = "size"
# With these suspended, a group neither replaces its member nor ends it: the work on the member decides.
_SUSPENDED: Final = ("Launch", "HealthCheck", "ReplaceUnhealthy", "AZRebalance")
_ENDED: Final = ("shutting-down", "terminated")


def group_of(instance: Item) -> str | None:
    """Return the name of the group that an instance is a member of. ``instance``: as DescribeInstances returns it."""
    return tags.from_list(instance.get("Tags")).get(_GROUP)


def lifecycle_state(cloud: Cloud, place: Place, instance_id: str) -> str | None:
    """Return the lifecycle state of a member in its group ("InService", "Standby"), or None if it is no member."""
    request = {"InstanceIds": [instance_id]}
    answer = cloud.call(place, "autoscaling", "DescribeAutoScalingInstances", request)
    found = answer.get("AutoScalingInstances") or ()
    return str(found[0]["LifecycleState"]) if found else None


# --- a temporary group ------------------------------------------------------------------------------------------------


def launch_running(
    ledger: Ledger, key: str, place: Place, spec: LaunchSpec, *, more: Mapping[str, str] | None = None
) -> Instance:
    """Launch an instance through a temporary Auto Scaling group, and wait until it runs.

    ``more``: tags of the instance. The group is deleted with ``key``, and terminates its instance. The instance has no
    tags of the build, because their proof would be that of another call. It launches no second instance: another one
    needs another group, after the deletion of ``key``. Raises BuilderError, with the reason, if the group launches
    nothing or its instance does not start; HostLost if another instance may start.
    """
    # The keys, and so the names, of the group and its template differ: the journal distinguishes resources of a place
    # by their ids.
    # That of a lost instance has its user data, with its deadline.
    ledger.delete_key(f"{key}-template")
    data = {"LaunchTemplateName": ledger.next_name(f"{key}-template"), "LaunchTemplateData": _data(spec, more or {})}
    made = Call("ec2", "CreateLaunchTemplate", data)
    template = ledger.create(f"{key}-template", "launch-template", place, made, temporary=True)
    group = {
        "AutoScalingGroupName": ledger.next_name(key),
        "LaunchTemplate": {"LaunchTemplateName": template, "Version": "$Latest"},
        "MinSize": 0,
        "MaxSize": 1,
        "DesiredCapacity": 0,
        "VPCZoneIdentifier": ",".join(subnet.id for subnet in spec.subnets),
    }
    name = ledger.create(
        key, "auto-scaling-group", place, Call("autoscaling", "CreateAutoScalingGroup", group), temporary=True
    )
    size = {"AutoScalingGroupName": name, "DesiredCapacity": 1}
    ledger.change(f"{key}/{_SIZE}", place, Call("autoscaling", "SetDesiredCapacity", size), resource=name, kind=_SIZE)
    cloud = ledger.cloud
    query = {"Filters": [{"Name": f"tag:{_GROUP}", "Values": [name]}]}

    def member() -> str | None:
        found = cloud.pages(place, "ec2", "DescribeInstances", "Reservations", query)
        every = [one for reservation in found for one in reservation["Instances"]]
        # One that has ended tells why, if the group has not replaced it yet.
        every.sort(key=lambda one: state_of(one) in _ENDED)
        return str(every[0]["InstanceId"]) if every else None

    instance_id = cloud.look(member, _LAUNCHED_WITHIN)
    if instance_id is None:
        raise BuilderError(
            f"the Auto Scaling group {name} launched no instance in {place}: {_last_activity(cloud, place, name)}",
            hint="The service-linked role AWSServiceRoleForAutoScaling launches it. Name it in `consumers:` of the "
            "environment.",
        )
    # If this machine is lost, the instance ends itself at its deadline, and the group must not launch the next one.
    halt = {"AutoScalingGroupName": name, "ScalingProcesses": [*_SUSPENDED]}
    ledger.change(f"{key}/halt", place, Call("autoscaling", "SuspendProcesses", halt), resource=name, kind="halt")
    try:
        return instances.wait_running(ledger, place, [instance_id])[instance_id]
    except HostLost:
        raise
    except BuilderError as error:
        raise BuilderError(
            f"the Auto Scaling group {name} in {place}: {error.message}",
            hint="Probably its role AWSServiceRoleForAutoScaling may not use the key of the image. Name the account in "
            "`consumers:` of the environment, and distribute the release again.",
        ) from error


def _data(spec: LaunchSpec, more: Mapping[str, str]) -> dict[str, Any]:
    """Return the data of the launch template. Unlike RunInstances, it takes user data in base64 only, and a group
    chooses the subnet."""
    data = instances.request_of(spec)
    for field in ("MinCount", "MaxCount", "SubnetId"):
        data.pop(field, None)
    for interface in data.get("NetworkInterfaces", ()):
        del interface["SubnetId"]
    if spec.user_data:
        data["UserData"] = Secret(base64.b64encode(spec.user_data.encode()).decode())
    named = tags.to_list({**more, "Name": spec.name}) if spec.name else []
    data["TagSpecifications"] = [{"ResourceType": kind, "Tags": named} for kind in ("instance", "volume") if named]
    return data


def _last_activity(cloud: Cloud, place: Place, group: str) -> str:
    """Return why the last launch of a group failed, as Auto Scaling tells it."""
    answer = cloud.call(place, "autoscaling", "DescribeScalingActivities", {"AutoScalingGroupName": group})
    every = answer.get("Activities") or ()
    return next((str(one.get("StatusMessage") or one.get("Description")) for one in every), "it has no activity yet")
