"""Amazon Inspector: whether it scans instances, what it covers, and its findings about packages of running instances.

The settings say in which places it scans, and what it finds in the instances of an image. It has scanned a running
instance just now. Filters are those that compare for equality. (Amazon Inspector API reference, "ListFindings",
"ListCoverage", "BatchGetAccountStatus".)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from goldenami_sandbox.ec2.context import Ctx
from goldenami_sandbox.protocol import Call, new_request_id
from goldenami_sandbox.services import service
from goldenami_sandbox.services.modelled import Action, Modelled, Refused
from goldenami_sandbox.settings import InspectorFinding

_OTHERS: Final = ("ecr", "lambda", "lambdaCode")  # what it can scan besides instances


@service("inspector2")
class Inspector(Modelled):
    def actions(self) -> Mapping[str, Action]:
        return {
            "BatchGetAccountStatus": self._status,
            "ListCoverage": self._coverage,
            "ListFindings": self._findings,
        }

    def _planted(self, call: Call) -> tuple[InspectorFinding, ...] | None:
        """Return what it finds in a place; None if it does not scan instances there."""
        return self.world.settings().inspector.get(f"{call.account}/{call.region}")

    def _status(self, call: Call, params: dict[str, Any]) -> Mapping[str, Any]:
        own = _state("ENABLED" if self._planted(call) is not None else "DISABLED")
        found, failed = [], []
        for account in params.get("accountIds") or [call.account]:
            if account == call.account:  # only a delegated administrator sees other accounts
                states = {"ec2": own, **{name: _state("DISABLED") for name in _OTHERS}}
                found.append({"accountId": account, "state": own, "resourceState": states})
            else:
                failed.append({"accountId": account, "errorCode": "ACCESS_DENIED", "errorMessage": "Access denied"})
        return {"accounts": found, "failedAccounts": failed}

    def _coverage(self, call: Call, params: dict[str, Any]) -> Mapping[str, Any]:
        rows = []
        for instance in self._running(call) if self._planted(call) is not None else ():
            facts = {"resourceId": instance["InstanceId"], "resourceType": "AWS_EC2_INSTANCE"}
            if _fits(params, {**facts, "scanStatusCode": "ACTIVE"}):
                scanned = {
                    "accountId": call.account,
                    "scanType": "PACKAGE",
                    "scanStatus": {"statusCode": "ACTIVE", "reason": "SUCCESSFUL"},
                    "lastScannedAt": self.world.clock(),
                }
                rows.append({**facts, **scanned})
        return {"coveredResources": rows}

    def _findings(self, call: Call, params: dict[str, Any]) -> Mapping[str, Any]:
        planted = self._planted(call) or ()
        rows = []
        for instance in self._running(call):
            for one in planted:
                facts = {"ec2InstanceImageId": one.image, "findingStatus": one.status}
                facts |= {"findingType": "PACKAGE_VULNERABILITY"}
                if one.image == instance["ImageId"] and _fits(params, facts):
                    rows.append(self._finding(call, one, instance))
        return {"findings": rows}

    def _finding(self, call: Call, one: InspectorFinding, instance: Mapping[str, Any]) -> dict[str, Any]:
        now, id = self.world.clock(), instance["InstanceId"]
        digest = hashlib.sha256(f"{id} {sorted(asdict(one).items())}".encode()).hexdigest()[:32]
        package = {"name": one.package, "version": one.version, "fixedInVersion": one.fixed or "NotAvailable"}
        return {
            "findingArn": f"arn:aws:inspector2:{call.region}:{call.account}:finding/{digest}",
            "awsAccountId": call.account,
            "type": "PACKAGE_VULNERABILITY",
            "description": f"{one.id} in {one.package}",
            "severity": one.severity,
            "status": one.status,
            "firstObservedAt": now,
            "lastObservedAt": now,
            "remediation": {},
            "fixAvailable": "YES" if one.fixed else "NO",
            "resources": [
                {
                    "type": "AWS_EC2_INSTANCE",
                    "id": id,
                    "details": {"awsEc2Instance": {"imageId": one.image}},
                }
            ],
            "packageVulnerabilityDetails": {
                "vulnerabilityId": one.id,
                "source": "SANDBOX",
                "vulnerablePackages": [package],
            },
        }

    def _running(self, call: Call) -> Iterator[Mapping[str, Any]]:
        ctx = Ctx(call.account, call.region, call.principal, new_request_id())
        running = [{"Name": "instance-state-name", "Values": ["running"]}]
        for reservation in self.world.ec2.call(ctx, "DescribeInstances", {"Filters": running})["Reservations"]:
            yield from reservation["Instances"]


def _state(status: str) -> dict[str, str]:
    return {"status": status, "errorCode": "", "errorMessage": ""}


def _fits(params: Mapping[str, Any], facts: Mapping[str, str]) -> bool:
    """Return whether a row meets all filters. Raises Refused for one that the sandbox does not have."""
    for name, conditions in (params.get("filterCriteria") or {}).items():
        if name not in facts:
            raise Refused("ValidationException", f"the sandbox does not have the filter {name}")
        same = [one["value"] for one in conditions if one["comparison"] == "EQUALS"]
        other = [one["value"] for one in conditions if one["comparison"] == "NOT_EQUALS"]
        if len(same) + len(other) != len(conditions):
            raise Refused("ValidationException", "the sandbox compares for equality only")
        if (same and facts[name] not in same) or facts[name] in other:
            return False
    return True
