"""What Amazon Inspector found in the packages of running instances of an image. Reads only.

Inspector that is off, or that has not looked at an instance of the image, has no findings either: that is told, and is
no answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from goldenami.aws.reservations import instances_in
from goldenami.aws.session import Cloud
from goldenami.model import Place

_ON: Final = "ENABLED"
_MOST: Final = 10  # values of one filter of ListCoverage
_NO_FIX: Final = "NotAvailable"


@dataclass(frozen=True, slots=True)
class Vulnerable:
    """A package of an instance with a vulnerability. ``severity``: in Inspector's word. ``fixed``: empty if no fix is
    known."""

    id: str
    aliases: tuple[str, ...]
    severity: str
    package: str
    version: str
    fixed: str


@dataclass(frozen=True, slots=True)
class Inspected:
    """What Inspector knows about an image in a place. ``scanned``: when it looked at an instance last. ``problem``: why
    its findings prove nothing."""

    found: tuple[Vulnerable, ...] = ()
    scanned: datetime | None = None
    problem: str = ""


def inspect(cloud: Cloud, place: Place, image_id: str) -> Inspected:
    """Return what Inspector knows about the running instances of an image in a place."""
    answer = cloud.call(place, "inspector2", "BatchGetAccountStatus", {"accountIds": [place.account]})
    state = next((one["resourceState"]["ec2"]["status"] for one in answer.get("accounts") or ()), "unknown")
    if state != _ON:
        return Inspected(problem=f"it does not scan instances in {place} (its state is {state})")
    running = [
        str(one["InstanceId"])
        for one in instances_in(cloud, place, image_id=[image_id], instance_state_name=["running"])
    ]
    if not running:
        return Inspected(problem=f"no instance of {image_id} runs in {place}")
    criteria = {
        "resourceId": _equal(running[:_MOST]),
        "resourceType": _equal(["AWS_EC2_INSTANCE"]),
        "scanStatusCode": _equal(["ACTIVE"]),
    }
    covered = cloud.pages(place, "inspector2", "ListCoverage", "coveredResources", {"filterCriteria": criteria})
    times = [one["lastScannedAt"] for one in covered if one.get("lastScannedAt") is not None]
    if not times:
        return Inspected(problem=f"it has looked at no instance of {image_id} in {place}: {', '.join(running[:_MOST])}")
    wanted = {
        "ec2InstanceImageId": _equal([image_id]),
        "findingType": _equal(["PACKAGE_VULNERABILITY"]),
        "findingStatus": [{"comparison": "NOT_EQUALS", "value": "CLOSED"}],  # the policy's waivers count, no others
    }
    found = cloud.pages(place, "inspector2", "ListFindings", "findings", {"filterCriteria": wanted})
    return Inspected(tuple(dict.fromkeys(row for one in found for row in _rows(one))), max(times))


def _equal(values: Sequence[str]) -> list[dict[str, str]]:
    return [{"comparison": "EQUALS", "value": value} for value in values]


def _rows(finding: Mapping[str, Any]) -> list[Vulnerable]:
    details = finding.get("packageVulnerabilityDetails") or {}
    return [
        Vulnerable(
            str(details["vulnerabilityId"]),
            tuple(details.get("relatedVulnerabilities") or ()),
            str(finding["severity"]),
            str(package["name"]),
            _version(package),
            "" if package.get("fixedInVersion") in (None, _NO_FIX) else str(package["fixedInVersion"]),
        )
        for package in details.get("vulnerablePackages") or ()
    ]


def _version(package: Mapping[str, Any]) -> str:
    epoch = f"{package['epoch']}:" if package.get("epoch") else ""
    release = f"-{package['release']}" if package.get("release") else ""
    return f"{epoch}{package['version']}{release}"
