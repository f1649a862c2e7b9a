"""EC2 Auto Scaling: which instances are members of a group."""

from __future__ import annotations

from typing import Final

from goldenami.aws import tags
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.model import Place

# Auto Scaling sets it on each member, also on an attached one. Users cannot set tags that begin with "aws:".
_GROUP: Final = "aws:autoscaling:groupName"
STANDBY: Final = "Standby"


def group_of(instance: Item) -> str | None:
    """Return the name of the group that an instance is a member of. ``instance``: as DescribeInstances returns it."""
    return tags.from_list(instance.get("Tags")).get(_GROUP)


def lifecycle_state(cloud: Cloud, place: Place, instance_id: str) -> str | None:
    """Return the lifecycle state of a member in its group ("InService", "Standby"), or None if it is no member."""
    request = {"InstanceIds": [instance_id]}
    answer = cloud.call(place, "autoscaling", "DescribeAutoScalingInstances", request)
    found = answer.get("AutoScalingInstances") or ()
    return str(found[0]["LifecycleState"]) if found else None
