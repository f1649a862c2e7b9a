"""What can be launched in a place: instance types, their zones, and the quotas of vCPUs. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from goldenami.aws import tags
from goldenami.aws.instances import Market
from goldenami.aws.reservations import instances_in
from goldenami.aws.session import Cloud
from goldenami.model import Place

Types = Mapping[str, "InstanceType"]
Offered = Mapping[str, frozenset[str]]  # instance type -> availability zones

# Service Quotas: vCPUs of Standard instances (A, C, D, H, I, M, R, T, Z), running on demand and requested as spot.
QUOTAS: Final[Mapping[Market, str]] = {"on-demand": "L-1216C47A", "spot": "L-34B43A08"}
_STANDARD: Final = frozenset("acdhimrtz")
_IN_USE: Final = ("pending", "running")


@dataclass(frozen=True, slots=True)
class InstanceType:
    """An instance type as DescribeInstanceTypes returns it. ``standard``: its vCPUs count for ``QUOTAS``."""

    name: str
    architectures: frozenset[str]
    vcpus: int

    @property
    def standard(self) -> bool:
        return is_standard(self.name)


def is_standard(name: str) -> bool:
    """Return whether an instance type is of a Standard family ("t3.small", not "g5.xlarge" or "inf2.xlarge")."""
    family = name.partition(".")[0]
    return family[0] in _STANDARD and not family.startswith(("inf", "trn", "dl", "hpc", "mac"))


def instance_types(cloud: Cloud, place: Place, names: Collection[str]) -> Types:
    """Return the instance types of these names by name. A type that the region does not have is missing."""
    request = {"Filters": [{"Name": "instance-type", "Values": sorted(set(names))}]}
    return {
        one["InstanceType"]: InstanceType(
            one["InstanceType"],
            frozenset(one["ProcessorInfo"]["SupportedArchitectures"]),
            int(one["VCpuInfo"]["DefaultVCpus"]),
        )
        for one in cloud.pages(place, "ec2", "DescribeInstanceTypes", "InstanceTypes", request)
    }


def zones(cloud: Cloud, place: Place, names: Collection[str]) -> Offered:
    """Return the availability zones that offer each instance type. A type without a zone is missing."""
    filters = [{"Name": "instance-type", "Values": sorted(set(names))}]
    request = {"LocationType": "availability-zone", "Filters": filters}
    found: dict[str, set[str]] = {}
    for one in cloud.pages(place, "ec2", "DescribeInstanceTypeOfferings", "InstanceTypeOfferings", request):
        found.setdefault(one["InstanceType"], set()).add(one["Location"])
    return {name: frozenset(locations) for name, locations in found.items()}


def quota(cloud: Cloud, place: Place, market: Market) -> float:
    """Return the vCPUs that Standard instances of a market may have in a place."""
    request = {"ServiceCode": "ec2", "QuotaCode": QUOTAS[market]}
    return float(cloud.call(place, "service-quotas", "GetServiceQuota", request)["Quota"]["Value"])


def used_vcpus(cloud: Cloud, place: Place) -> Mapping[Market, int]:
    """Return the vCPUs of the Standard instances that run or start in a place, by market. Instances of builds are left
    out: a launch waits for their end (``room``)."""
    running = [
        instance
        for instance in instances_in(cloud, place, instance_state_name=_IN_USE)
        if is_standard(instance["InstanceType"])
        and not any(tag["Key"] == tags.BUILD_ID for tag in instance.get("Tags", ()))
    ]
    unknown = {one["InstanceType"] for one in running if not one.get("CpuOptions")}
    types = instance_types(cloud, place, unknown) if unknown else {}
    used: Counter[Market] = Counter()
    for one in running:
        options = one.get("CpuOptions")
        kind = types.get(one["InstanceType"])
        vcpus = options["CoreCount"] * options["ThreadsPerCore"] if options else kind.vcpus if kind else 0
        used["spot" if one.get("InstanceLifecycle") == "spot" else "on-demand"] += int(vcpus)
    return used
