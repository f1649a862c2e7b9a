"""What an instance would lose if it were stopped, or if its root volume were replaced during a reboot.

``check`` refuses instances that would be destroyed or lose data. ``changing_address`` returns a public address that the
instance would lose; the user decides about that.
"""

from __future__ import annotations

from typing import Final

from goldenami.aws import autoscaling, instances
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.errors import UsageError
from goldenami.model import Place

# StateReason of an instance that was stopped by hibernation (EC2 user guide, "Hibernate your Amazon EC2 instance").
_HIBERNATED: Final = "Client.UserInitiatedHibernate"


def check(cloud: Cloud, place: Place, instance: Item, *, reboots: bool = False) -> None:
    """Raise UsageError for an instance whose volumes must not be exchanged. Changes nothing.

    ``instance``: as DescribeInstances returns it. ``reboots``: the instance is only rebooted (replacement of the root
    volume); then data in an instance store is kept, and protection against stopping does not matter.
    """
    id, state = instance["InstanceId"], instance["State"]["Name"]
    if state not in ("running", "stopped"):
        raise UsageError(f"{id} is {state}, expected running or stopped")
    if instance.get("InstanceLifecycle") == "spot":
        raise UsageError(
            f"{id} is a spot instance. Expected an on-demand instance, since a spot instance of a one-time request "
            "cannot be stopped and started again"
        )
    if instance.get("RootDeviceType", "ebs") != "ebs":
        raise UsageError(
            f"{id} has its root volume in an instance store, so it cannot be stopped. Expected an EBS root volume"
        )
    _check_group(cloud, place, instance)
    if state == "stopped":
        if (instance.get("StateReason") or {}).get("Code") == _HIBERNATED:
            raise UsageError(
                f"{id} is hibernated: its memory is on its root volume and belongs to the attached volumes",
                hint="Start it, stop it without hibernation, and run the command again.",
            )
    elif not reboots:
        _check_stop(cloud, place, instance)


def _check_group(cloud: Cloud, place: Place, instance: Item) -> None:
    """Refuse a member of an Auto Scaling group. A group terminates a member that does not run, with its volumes."""
    id, group = instance["InstanceId"], autoscaling.group_of(instance)
    if group is None:
        return
    lifecycle = autoscaling.lifecycle_state(cloud, place, id)
    if lifecycle == autoscaling.STANDBY:
        return
    raise UsageError(
        f"{id} is a member of the Auto Scaling group {group} ({lifecycle or 'unknown state'}), which terminates "
        "members that stop or are unhealthy. Expected an instance without a group, or a member in Standby",
        hint="Build an image with encrypted volumes and refresh the group; or set the member to standby first: "
        f"aws autoscaling enter-standby --auto-scaling-group-name {group} --instance-ids {id} "
        "--should-decrement-desired-capacity",
    )


def _check_stop(cloud: Cloud, place: Place, instance: Item) -> None:
    """Refuse an instance that loses data when it stops, or that must not be stopped."""
    id, type = instance["InstanceId"], instance.get("InstanceType", "")
    if instances.has_store(cloud, place, type):
        raise UsageError(
            f"{id} is a {type} with an instance store, whose data is lost when it stops. Expected an instance type "
            "without an instance store",
            hint="Copy the data to an EBS volume and change the instance type first. `volume encrypt --replace-root` "
            "only reboots the instance, and keeps the data of its instance store.",
        )
    if instances.is_stop_protected(cloud, place, id):
        raise UsageError(
            f"{id} is protected against stopping (disableApiStop is true)",
            hint=f"Run `aws ec2 modify-instance-attribute --instance-id {id} --no-disable-api-stop`, and protect it "
            "again afterwards.",
        )


def changing_address(instance: Item) -> str | None:
    """Return the public address that an instance loses when it stops; None if it has none, or an Elastic IP address.

    EC2 assigns another address at the next start ("Amazon EC2 instance IP addressing", EC2 user guide).
    """
    if instance["State"]["Name"] != "running":
        return None
    for interface in instance.get("NetworkInterfaces") or ():
        association = interface.get("Association") or {}
        if association.get("IpOwnerId") == "amazon" and association.get("PublicIp"):
            return str(association["PublicIp"])
    return None
