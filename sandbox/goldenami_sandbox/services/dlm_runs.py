"""Runs lifecycle policies: it creates, copies, shares and deletes as the schedules require.

The policy's account does all work, by EC2's actions. Resources of a schedule have two tags by which they are found
again: aws:dlm:lifecycle-policy-id and aws:dlm:lifecycle-schedule-name ("Default policies vs custom policies", EBS user
guide). Retention by count is per volume or instance. Retention by age starts at the start of the snapshot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from goldenami_sandbox.ec2.service import Ctx, Ec2, Ec2Error
from goldenami_sandbox.services.cron import Cron

if TYPE_CHECKING:
    from goldenami_sandbox.services.dlm import Policy

POLICY, SCHEDULE = "aws:dlm:lifecycle-policy-id", "aws:dlm:lifecycle-schedule-name"
_DAY = 86400.0
_UNITS = {"DAYS": _DAY, "WEEKS": 7 * _DAY, "MONTHS": 30 * _DAY, "YEARS": 365 * _DAY}


# Returns why the policy's role may not make a call of EC2, or None: role, action, parameters, region.
Permit = Callable[[str, str, Mapping[str, Any], str], "str | None"]


def run(ec2: Ec2, policy: Policy, now: float, permit: Permit) -> None:
    """Do all work that became due since the last time: runs in order of time, then delayed copies, then retention by
    age.

    A disabled policy does nothing, and skips the runs of that time for good. A policy whose role does not exist, does
    not trust DLM or may not make a call gets the state ERROR.
    """
    after, policy.ran = policy.ran, now
    if policy.state != "ENABLED":
        return
    schedules = policy.details["Schedules"]
    due = sorted((moment, n) for n, schedule in enumerate(schedules) for moment in moments(schedule, after, now))
    try:
        for _, number in due:
            Run(ec2, policy, schedules[number], now, permit).create()
        for schedule in schedules:
            one = Run(ec2, policy, schedule, now, permit)
            one.copy()
            one.retain()
    except NotPermitted as error:
        policy.state, policy.message = "ERROR", str(error)


class NotPermitted(Exception):
    """The policy's role may not do what the policy requires."""


def moments(schedule: Mapping[str, Any], after: float, until: float) -> Iterable[float]:
    """Return the times at which a schedule runs: its cron expression, or every N hours from a time of day (default
    09:00 UTC).
    """
    rule = schedule["CreateRule"]
    if "CronExpression" in rule:
        return Cron.parse(rule["CronExpression"]).between(after, until)
    hour, minute = map(int, (rule.get("Times") or ["09:00"])[0].split(":"))
    hours = frozenset((hour + n) % 24 for n in range(0, 24, rule["Interval"]))
    anything = Cron.parse("cron(0 0 * * ? *)")
    return Cron(frozenset({minute}), hours, anything.days, anything.months, anything.weekdays, anything.years).between(
        after, until
    )


class Run:
    """One run of one schedule of a policy."""

    def __init__(self, ec2: Ec2, policy: Policy, schedule: Mapping[str, Any], now: float, permit: Permit) -> None:
        self.ec2, self.policy, self.schedule, self.now, self.permit = ec2, policy, schedule, now, permit

    # --- creating -----------------------------------------------------------------------------------------------------

    def create(self) -> None:
        images = self.policy.kind == "IMAGE_MANAGEMENT"
        for target in self._targets():
            if images:
                self._image(target)
            elif "InstanceId" in target:
                self._snapshots_of_instance(target)
            else:
                made = self._call("CreateSnapshot", {"VolumeId": target["VolumeId"], **self._tags("snapshot", target)})
                self._share_and_queue_copies([made["SnapshotId"]])

    def _targets(self) -> list[dict[str, Any]]:
        wanted = {(t["Key"], t["Value"]) for t in self.policy.details["TargetTags"]}
        if self.policy.details["ResourceTypes"] == ["VOLUME"]:
            found = self._call("DescribeVolumes", {})["Volumes"]
            usable = ("in-use", "available")
            found = [v for v in found if v["State"] in usable]
        else:
            reservations = self._call("DescribeInstances", {})["Reservations"]
            found = [i for r in reservations for i in r["Instances"] if i["State"]["Name"] in ("running", "stopped")]
        return [t for t in found if wanted & {(tag["Key"], tag["Value"]) for tag in t.get("Tags") or ()}]

    def _snapshots_of_instance(self, instance: Mapping[str, Any]) -> None:
        parameters = self.policy.details.get("Parameters") or {}
        of = {"InstanceId": instance["InstanceId"], "ExcludeBootVolume": bool(parameters.get("ExcludeBootVolume"))}
        made = self._call("CreateSnapshots", {"InstanceSpecification": of, **self._tags("snapshot", instance)})
        self._share_and_queue_copies([s["SnapshotId"] for s in made["Snapshots"]])

    def _image(self, instance: Mapping[str, Any]) -> None:
        moment = datetime.fromtimestamp(self.now, UTC).strftime("%Y-%m-%dT%H.%M.%S.%fZ")
        request = {
            "InstanceId": instance["InstanceId"],
            "Name": f"{self.policy.id}_{instance['InstanceId']}_{self.schedule['Name']}_{moment}",
            "NoReboot": bool((self.policy.details.get("Parameters") or {}).get("NoReboot", True)),
            **self._tags("image", instance),
        }
        id = self._call("CreateImage", request)["ImageId"]
        self._set_dlm_tags([id])
        if rule := self.schedule.get("DeprecateRule"):
            at = datetime.fromtimestamp(self.now + _seconds(rule), UTC) if rule.get("Interval") else None
            if at is not None:
                self._call("EnableImageDeprecation", {"ImageId": id, "DeprecateAt": at.strftime("%Y-%m-%dT%H:%M:%SZ")})

    def _share_and_queue_copies(self, snapshots: list[str]) -> None:
        self._set_dlm_tags(snapshots)
        for id in snapshots:
            for rule in self.schedule.get("ShareRules", ()):
                request = {"SnapshotId": id, "Attribute": "createVolumePermission", "OperationType": "add"}
                self._call("ModifySnapshotAttribute", {**request, "UserIds": rule["TargetAccounts"]})
            self.policy.copies += [
                {"snapshot": id, "schedule": self.schedule["Name"], "rule": dict(rule)}
                for rule in self.schedule.get("CrossRegionCopyRules", ())
            ]

    def _tags(self, kind: str, source: Mapping[str, Any]) -> dict[str, Any]:
        tags = {t["Key"]: t["Value"] for t in self.schedule.get("TagsToAdd", ())} | {"dlm:managed": "true"}
        if self.schedule.get("CopyTags"):
            own = {t["Key"]: t["Value"] for t in source.get("Tags") or ()}
            tags = {k: v for k, v in own.items() if not k.startswith("aws:")} | tags
        given = [{"Key": k, "Value": v} for k, v in tags.items()]
        return {"TagSpecifications": [{"ResourceType": kind, "Tags": given}]}

    def _set_dlm_tags(self, ids: list[str], region: str | None = None) -> None:
        self.ec2.mark(ids, {POLICY: self.policy.id, SCHEDULE: str(self.schedule["Name"])})

    # --- copying ------------------------------------------------------------------------------------------------------

    def copy(self) -> None:
        waiting, self.policy.copies = self.policy.copies, []
        for entry in waiting:
            if entry["schedule"] != self.schedule["Name"] or not self._copy_if_completed(entry):
                self.policy.copies.append(entry)

    def _copy_if_completed(self, entry: Mapping[str, Any]) -> bool:
        """Copy a snapshot once it is completed. Returns whether its entry needs no further attempt."""
        rule = entry["rule"]
        try:
            (source,) = self._call("DescribeSnapshots", {"SnapshotIds": [entry["snapshot"]]})["Snapshots"]
        except Ec2Error:
            return True
        if source["State"] != "completed":
            return bool(source["State"] == "error")
        request = {"SourceSnapshotId": entry["snapshot"], "SourceRegion": self.policy.region}
        if rule["Encrypted"]:
            request |= {"Encrypted": True} | ({"KmsKeyId": rule["CmkArn"]} if rule.get("CmkArn") else {})
        tags = self._tags("snapshot", source if rule.get("CopyTags") else {})
        try:
            made = self._call("CopySnapshot", {**request, **tags}, _region(rule))
        except Ec2Error as error:
            if error.code == "ResourceLimitExceeded":
                return False
            self.policy.state, self.policy.message = "ERROR", f"{error.code}: {error.message}"
            return True
        self._set_dlm_tags([made["SnapshotId"]])
        return True

    # --- deleting -----------------------------------------------------------------------------------------------------

    def retain(self) -> None:
        rule = self.schedule.get("RetainRule") or {}
        if self.policy.kind == "IMAGE_MANAGEMENT":
            for image in self._surplus(self._images(), rule, "SourceInstanceId", "CreationDate"):
                self._call("DeregisterImage", {"ImageId": image["ImageId"]})
                for mapping in image["BlockDeviceMappings"]:
                    if id := mapping.get("Ebs", {}).get("SnapshotId"):
                        self._delete(id, self.policy.region)
            return
        for snapshot in self._surplus(self._snapshots(self.policy.region), rule, "VolumeId", "StartTime"):
            self._delete(snapshot["SnapshotId"], self.policy.region)
        for copy_rule in self.schedule.get("CrossRegionCopyRules", ()):
            region, retain = _region(copy_rule), copy_rule.get("RetainRule") or {}
            if region != self.policy.region:
                for copy in self._surplus(self._snapshots(region), retain, "VolumeId", "StartTime"):
                    self._delete(copy["SnapshotId"], region)

    def _surplus(
        self, found: list[dict[str, Any]], rule: Mapping[str, Any], group: str, moment: str
    ) -> list[dict[str, Any]]:
        """Return the resources that the rule does not retain."""
        if rule.get("Interval"):
            oldest = self.now - _seconds(rule)
            return [item for item in found if _epoch(item[moment]) <= oldest]
        if not rule.get("Count"):
            return []
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for item in sorted(found, key=lambda i: _epoch(i[moment])):
            groups[item.get(group, "")].append(item)
        return [item for items in groups.values() for item in items[: -rule["Count"]]]

    def _snapshots(self, region: str) -> list[dict[str, Any]]:
        return self._ours(self._call("DescribeSnapshots", {"OwnerIds": ["self"]}, region)["Snapshots"])

    def _images(self) -> list[dict[str, Any]]:
        return self._ours(self._call("DescribeImages", {"Owners": ["self"]})["Images"])

    def _ours(self, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        mark = {(POLICY, self.policy.id), (SCHEDULE, self.schedule["Name"])}
        return [i for i in found if mark <= {(t["Key"], t["Value"]) for t in i.get("Tags") or ()}]

    def _delete(self, id: str, region: str) -> None:
        """Delete a snapshot. If an image uses it, it is kept and tried again at the next run."""
        try:
            self._call("DeleteSnapshot", {"SnapshotId": id}, region)
        except Ec2Error as error:
            if error.code != "InvalidSnapshot.InUse":
                raise

    def _call(self, action: str, params: Mapping[str, Any], region: str | None = None) -> dict[str, Any]:
        region = region or self.policy.region
        if reason := self.permit(self.policy.role, action, params, region):
            raise NotPermitted(reason)
        role = self.policy.role.rpartition("/")[2]
        arn = f"arn:aws:sts::{self.policy.account}:assumed-role/{role}/AWSDataLifecycleManager"
        return self.ec2.call(Ctx(self.policy.account, region, arn, "dlm"), action, params)


def _region(rule: Mapping[str, Any]) -> str:
    return str(rule.get("TargetRegion") or rule["Target"])


def _seconds(rule: Mapping[str, Any]) -> float:
    return float(rule["Interval"]) * _UNITS[rule["IntervalUnit"]]


def _epoch(moment: Any) -> float:
    if isinstance(moment, (int, float)):
        return float(moment)
    if isinstance(moment, str):
        return datetime.fromisoformat(moment).timestamp()
    return float(moment.timestamp())
