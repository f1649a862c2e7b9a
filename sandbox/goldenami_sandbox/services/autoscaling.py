"""EC2 Auto Scaling: the members of groups, and what a group does to a member that does not run.

moto keeps the groups, launch configurations and suspended processes. This service keeps which instances are members: it
attaches, detaches, sets to standby, and launches or terminates members for SetDesiredCapacity, with the service-linked
role of Auto Scaling. Other changes of a group's size launch nothing, and DescribeAutoScalingGroups does not list
members. A group with members is deleted only by force, which terminates them. DescribeScalingActivities has the last
launch of a group that EC2 refused. As on AWS, a group terminates a member in service that is stopped,
with the volumes that are deleted on termination ("Health checks for instances in an Auto Scaling group").
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

from goldenami_sandbox.credentials import Identity
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call, xml_response
from goldenami_sandbox.services import Service, World, service

ROLE: Final = "AWSServiceRoleForAutoScaling"
GROUP_TAG: Final = "aws:autoscaling:groupName"
_NAMESPACE: Final = "http://autoscaling.amazonaws.com/doc/2011-01-01/"
_IN_SERVICE, _STANDBY = "InService", "Standby"
# With one of these suspended, a group does not replace a member that does not run ("Suspend and resume processes").
_REPLACING: Final = frozenset({"HealthCheck", "ReplaceUnhealthy", "Terminate"})
_PROCESSES: Final = _REPLACING | {
    "AZRebalance",
    "AddToLoadBalancer",
    "AlarmNotification",
    "InstanceRefresh",
    "Launch",
    "ScheduledActions",
}
_MOST_PER_CALL: Final = 20


@dataclass(slots=True)
class Member:
    instance: str
    group: str
    account: str
    region: str
    lifecycle: str = _IN_SERVICE


class _Refusal(Exception):
    def __init__(self, message: str, code: str = "ValidationError") -> None:
        super().__init__(message)
        self.code, self.message = code, message


@service("autoscaling")
class AutoScaling(Service):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._guard = threading.RLock()
        self._members: dict[str, Member] = {}  # by instance
        self._refused: dict[tuple[str, str, str], str] = {}  # account, region and group -> why the last launch failed

    def dump(self) -> Any:
        return [asdict(member) for member in self._members.values()]

    def load(self, state: Any) -> None:
        self._members = {one["instance"]: Member(**one) for one in state}

    def settle(self) -> None:
        """Terminate members in service that do not run."""
        if not self._members:
            return
        with self._guard:
            for member in list(self._members.values()):
                state = self.world.ec2.state_of(member.instance)
                if state in ("terminated", "shutting-down"):
                    del self._members[member.instance]
                elif state not in ("stopping", "stopped") or member.lifecycle != _IN_SERVICE:
                    continue
                elif not _REPLACING & self._suspended(member):
                    self.world.ec2.replace_unhealthy(member.instance)

    def serve(self, call: Call, identity: Identity) -> Response | None:
        """Return the answer, or None for the actions that moto answers."""
        actions = {
            "AttachInstances": self._attach,
            "DetachInstances": self._detach,
            "EnterStandby": self._enter_standby,
            "ExitStandby": self._exit_standby,
            "SetDesiredCapacity": self._resize,
            "DescribeScalingActivities": self._activities,
            "DescribeAutoScalingInstances": self._describe,
        }
        action = actions.get(call.action)
        try:
            with self._guard:
                if call.action == "DeleteAutoScalingGroup":
                    self._end_members(call)
                elif call.action in ("SuspendProcesses", "ResumeProcesses"):
                    self._check_processes(call)
                if action is None:
                    return None
                result = action(call)
        except _Refusal as refusal:
            return call.error(refusal.code, refusal.message)
        return xml_response(call.action, _NAMESPACE, result, call.request_id)

    # --- the actions --------------------------------------------------------------------------------------------------

    def _attach(self, call: Call) -> str:
        group = self._group(call)
        ids = _listed(call.form, "InstanceIds")
        for id in ids:
            if self.world.ec2.state_of(id, call.account, call.region) != "running":
                raise _Refusal(f"Invalid Instance ID(s): [{id}] specified. The instance is not running.")
            if id in self._members:
                raise _Refusal(f"Instance {id} is already attached to an AutoScaling group.")
        for id in ids:
            self._members[id] = Member(id, group.name, call.account, call.region)
        self.world.ec2.mark(ids, {GROUP_TAG: group.name})
        return ""

    def _detach(self, call: Call) -> str:
        members = self._chosen(call)
        for member in members:
            del self._members[member.instance]
        self.world.ec2.unmark([m.instance for m in members], [GROUP_TAG])
        return "<Activities/>"

    def _enter_standby(self, call: Call) -> str:
        for member in self._chosen(call):
            member.lifecycle = _STANDBY
        return "<Activities/>"

    def _exit_standby(self, call: Call) -> str:
        for member in self._chosen(call):
            if self.world.ec2.state_of(member.instance) != "running":
                raise _Refusal(f"The instance {member.instance} is not in the 'running' state.")
            member.lifecycle = _IN_SERVICE
        return "<Activities/>"

    def _resize(self, call: Call) -> str:
        """Launch or terminate members until the group has the desired capacity. A launch that EC2 refuses, or that ends
        in the state terminated, does not fail the call.
        """
        group, wanted = self._group(call), int(call.form.get("DesiredCapacity", ""))
        if not group.min_size <= wanted <= group.max_size:
            raise _Refusal(f"New SetDesiredCapacity value {wanted} is outside of the limits of the group.")
        members = [
            m
            for m in self._members.values()
            if (m.group, m.account, m.region) == (group.name, call.account, call.region)
        ]
        for member in members[wanted:]:
            del self._members[member.instance]
            self.world.ec2.replace_unhealthy(member.instance)
        role = f"arn:aws:sts::{call.account}:assumed-role/{ROLE}/AutoScaling"
        ctx = Ctx(call.account, call.region, role, call.request_id)
        missing = 0 if "Launch" in _suspended(group) else wanted - len(members)
        for _ in range(missing):
            try:
                launched = self.world.ec2.call(ctx, "RunInstances", {**_source(group), "MinCount": 1, "MaxCount": 1})
                id = launched["Instances"][0]["InstanceId"]
            except Ec2Error as error:
                self._refused[call.account, call.region, group.name] = f"{error.message} Launching EC2 instance failed."
            else:
                self._members[id] = Member(id, group.name, call.account, call.region)
                self.world.ec2.mark([id], {GROUP_TAG: group.name})
        with self.world.surface.active():
            group.desired_capacity = wanted
        return ""

    def _describe(self, call: Call) -> str:
        wanted = _listed(call.form, "InstanceIds")
        size = int(call.form.get("MaxRecords", "50"))
        if not 1 <= size <= 50:
            raise _Refusal("The maximum page size is 50.")
        own = sorted(m.instance for m in self._members.values() if (m.account, m.region) == (call.account, call.region))
        found = [id for id in own if not wanted or id in wanted]
        start = found.index(call.form["NextToken"]) if call.form.get("NextToken") in found else 0
        shown = "".join(f"<member>{self._rendered(self._members[id])}</member>" for id in found[start : start + size])
        more = f"<NextToken>{found[start + size]}</NextToken>" if len(found) > start + size else ""
        return f"<AutoScalingInstances>{shown}</AutoScalingInstances>{more}"

    def _end_members(self, call: Call) -> None:
        """Terminate the members of a group that is deleted by force. Refuses another deletion of a group with members,
        in AWS's words."""
        group = self._group(call)
        members = [m for m in self._members.values() if (m.group, m.account, m.region) == _key(call, group.name)]
        if members and call.form.get("ForceDelete", "").lower() != "true":
            message = (
                "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s)"
            )
            raise _Refusal(f"{message} still in the group.", "ResourceInUse")
        for member in members:
            del self._members[member.instance]
            self.world.ec2.replace_unhealthy(member.instance)

    def _check_processes(self, call: Call) -> None:
        """Refuse what moto does not: a group that does not exist, and names that are no processes."""
        self._group(call)
        unknown = sorted({*_listed(call.form, "ScalingProcesses")} - _PROCESSES)
        if unknown:
            raise _Refusal(f"Invalid scaling process: {', '.join(unknown)}")

    def _activities(self, call: Call) -> str:
        group = self._group(call)
        reason = self._refused.get((call.account, call.region, group.name))
        if reason is None:
            return "<Activities/>"
        values = {
            "ActivityId": "00000000-0000-0000-0000-000000000000",
            "AutoScalingGroupName": group.name,
            "Cause": "a user request explicitly set group desired capacity",
            "StartTime": "2026-01-01T00:00:00Z",
            "StatusCode": "Failed",
            "StatusMessage": reason,
        }
        shown = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in values.items())
        return f"<Activities><member>{shown}</member></Activities>"

    # --- lookups ------------------------------------------------------------------------------------------------------

    def _group(self, call: Call) -> Any:
        name = call.form.get("AutoScalingGroupName", "")
        with self.world.surface.active():
            group = self.world.surface.backend("autoscaling", call.account, call.region).autoscaling_groups.get(name)
        if group is None:
            raise _Refusal("AutoScalingGroup name not found - null")
        return group

    def _suspended(self, member: Member) -> frozenset[str]:
        with self.world.surface.active():
            backend = self.world.surface.backend("autoscaling", member.account, member.region)
            group = backend.autoscaling_groups.get(member.group)
            return _suspended(group) if group is not None else frozenset()

    def _chosen(self, call: Call) -> list[Member]:
        group = self._group(call)
        ids = _listed(call.form, "InstanceIds")
        for id in ids:
            if id not in self._members or self._members[id].group != group.name:
                raise _Refusal(f"The instance {id} is not part of Auto Scaling group {group.name}.")
        return [self._members[id] for id in ids]

    def _rendered(self, member: Member) -> str:
        facts = self.world.ec2.placement_of(member.instance)
        values = {
            "InstanceId": member.instance,
            "InstanceType": facts["type"],
            "AutoScalingGroupName": member.group,
            "AvailabilityZone": facts["zone"],
            "LifecycleState": member.lifecycle,
            "HealthStatus": "HEALTHY",
            "ProtectedFromScaleIn": "false",
        }
        return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in values.items())


def _suspended(group: Any) -> frozenset[str]:
    """Return the suspended processes of a group, as moto keeps them."""
    return frozenset(p["ProcessName"] for p in group.suspended_processes)


def _source(group: Any) -> dict[str, Any]:
    """Return the parameters of RunInstances for a group's launch template or launch configuration."""
    template = group.launch_template
    if template is not None:
        version = {"Version": template["Version"]} if template.get("Version") else {}
        return {"LaunchTemplate": {"LaunchTemplateId": template["LaunchTemplateId"], **version}, **_subnet(group)}
    return {
        **_subnet(group),
        "ImageId": group.launch_config.image_id,
        "InstanceType": group.launch_config.instance_type,
    }


def _subnet(group: Any) -> dict[str, str]:
    """Return the first subnet of a group; nothing for a group with zones only."""
    subnets = (group.vpc_zone_identifier or "").split(",")
    return {"SubnetId": subnets[0]} if subnets[0] else {}


def _key(call: Call, group: str) -> tuple[str, str, str]:
    return group, call.account, call.region


def _listed(form: Mapping[str, str], name: str) -> list[str]:
    """Return the values of NAME.member.1, NAME.member.2, … Raises a refusal for too many."""
    found = [value for key, value in form.items() if key.startswith(f"{name}.member.")]
    if len(found) > _MOST_PER_CALL:
        raise _Refusal(f"At most {_MOST_PER_CALL} values may be given.")
    return found
