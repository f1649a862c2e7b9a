"""Instance types: the families that general-purpose builders use, as in DescribeInstanceTypes."""

# ruff: noqa: ARG001  (all actions have the same signature)
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described


@dataclass(frozen=True, slots=True)
class InstanceType:
    name: str
    architectures: tuple[str, ...]
    vcpus: int
    memory_mib: int
    hypervisor: str = "nitro"
    burstable: bool = False
    current: bool = True
    store_gb: int = 0  # the instance store: one disk of this size

    @property
    def nitro(self) -> bool:
        return self.hypervisor == "nitro"


_BURSTABLE = {  # size: vCPUs, memory (MiB)
    "nano": (2, 512),
    "micro": (2, 1024),
    "small": (2, 2048),
    "medium": (2, 4096),
    "large": (2, 8192),
    "xlarge": (4, 16384),
    "2xlarge": (8, 32768),
}
_T2 = {**_BURSTABLE, "nano": (1, 512), "micro": (1, 1024), "small": (1, 2048)}
_SIZES = {
    "medium": 1,
    "large": 2,
    "xlarge": 4,
    "2xlarge": 8,
    "4xlarge": 16,
    "8xlarge": 32,
    "12xlarge": 48,
    "16xlarge": 64,
}
_MEMORY_PER_VCPU = {"c": 2048, "m": 4096, "r": 8192}
_X86_FAMILIES = (
    "c5",
    "c5a",
    "c6i",
    "c6a",
    "c7i",
    "c7a",
    "m5",
    "m5a",
    "m6i",
    "m6a",
    "m7i",
    "m7a",
    "r5",
    "r5a",
    "r6i",
    "r6a",
    "r7i",
)
_STORE_FAMILIES = ("c5d", "m5d", "m6id", "r5d")
_STORE_GB_PER_VCPU = 37  # m5d.large has 75 GB
_ARM_FAMILIES = ("c6g", "c7g", "c8g", "m6g", "m7g", "m8g", "r6g", "r7g", "r8g")


@cache
def catalogue() -> Mapping[str, InstanceType]:
    """Return all instance types by name."""
    both, x86, arm = ("i386", "x86_64"), ("x86_64",), ("arm64",)
    found = [InstanceType("m1.small", both, 1, 1740, hypervisor="xen", current=False)]
    for size, (vcpus, memory) in _T2.items():
        found.append(InstanceType(f"t2.{size}", both, vcpus, memory, hypervisor="xen", burstable=True))
    for family, architectures in (("t3", x86), ("t3a", x86), ("t4g", arm)):
        for size, (vcpus, memory) in _BURSTABLE.items():
            found.append(InstanceType(f"{family}.{size}", architectures, vcpus, memory, burstable=True))
    for families, architectures in ((_X86_FAMILIES, x86), (_STORE_FAMILIES, x86), (_ARM_FAMILIES, arm)):
        for family in families:
            for size, vcpus in _SIZES.items():
                if size == "medium" and architectures is x86:
                    continue
                memory = vcpus * _MEMORY_PER_VCPU[family[0]]
                store = vcpus * _STORE_GB_PER_VCPU if families is _STORE_FAMILIES else 0
                found.append(InstanceType(f"{family}.{size}", architectures, vcpus, memory, store_gb=store))
    return {t.name: t for t in found}


def find(name: str) -> InstanceType:
    """Return an instance type. Raises Ec2Error for an unknown type, as RunInstances does."""
    if name not in catalogue():
        raise Ec2Error("InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")
    return catalogue()[name]


@cache
def rendered(kind: InstanceType) -> dict[str, Any]:
    """Return the answer about a type. All answers share it, so nobody may change it."""
    disks = {"SizeInGB": kind.store_gb, "Count": 1, "Type": "ssd"}
    store = {
        "TotalSizeInGB": kind.store_gb,
        "Disks": [disks],
        "NvmeSupport": "required",
        "EncryptionSupport": "required",
    }
    return {
        **({"InstanceStorageInfo": store} if kind.store_gb else {}),
        "InstanceType": kind.name,
        "CurrentGeneration": kind.current,
        "FreeTierEligible": kind.name in ("t2.micro", "t3.micro"),
        "SupportedUsageClasses": ["on-demand", "spot"],
        "SupportedRootDeviceTypes": ["ebs"],
        "SupportedVirtualizationTypes": ["hvm"],
        "BareMetal": False,
        "Hypervisor": kind.hypervisor,
        "ProcessorInfo": {"SupportedArchitectures": list(kind.architectures), "SustainedClockSpeedInGhz": 2.5},
        "VCpuInfo": {
            "DefaultVCpus": kind.vcpus,
            "DefaultCores": max(1, kind.vcpus // (1 if "arm64" in kind.architectures else 2)),
            "DefaultThreadsPerCore": 1 if "arm64" in kind.architectures or kind.vcpus == 1 else 2,
        },
        "MemoryInfo": {"SizeInMiB": kind.memory_mib},
        "InstanceStorageSupported": kind.store_gb > 0,
        "EbsInfo": {
            "EbsOptimizedSupport": "default" if kind.nitro else "unsupported",
            "EncryptionSupport": "supported",
            "NvmeSupport": "required" if kind.nitro else "unsupported",
        },
        "NetworkInfo": {
            "NetworkPerformance": "Up to 5 Gigabit",
            "MaximumNetworkInterfaces": 3,
            "MaximumNetworkCards": 1,
            "DefaultNetworkCardIndex": 0,
            "Ipv4AddressesPerInterface": 4,
            "Ipv6AddressesPerInterface": 4,
            "Ipv6Supported": True,
            "EnaSupport": "required" if kind.nitro else "unsupported",
            "EfaSupported": False,
        },
        "PlacementGroupInfo": {"SupportedStrategies": ["partition", "spread"]},
        "HibernationSupported": kind.nitro and "x86_64" in kind.architectures,
        "BurstablePerformanceSupported": kind.burstable,
        "DedicatedHostsSupported": False,
        "AutoRecoverySupported": True,
        "SupportedBootModes": boot_modes(kind),
        "NitroEnclavesSupport": "unsupported",
        "NitroTpmSupport": "supported" if kind.nitro and "x86_64" in kind.architectures else "unsupported",
    }


def boot_modes(kind: InstanceType) -> list[str]:
    if "arm64" in kind.architectures:
        return ["uefi"]
    return ["legacy-bios", "uefi"] if kind.nitro else ["legacy-bios"]


def current_boot_mode(kind: InstanceType, boot_mode: str | None) -> str:
    """Return the boot mode with which an instance of this type boots an image of this boot mode.

    Without one, the default of the type is used: legacy-bios for Intel and AMD, uefi for Graviton ("Determine the boot
    mode parameter of an AMI", EC2 user guide).
    """
    supported = boot_modes(kind)
    if boot_mode == "uefi-preferred":
        return "uefi" if "uefi" in supported else "legacy-bios"
    return boot_mode or supported[0]


FILTERS: dict[str, Source] = {
    "bare-metal": "BareMetal",
    "burstable-performance-supported": "BurstablePerformanceSupported",
    "current-generation": "CurrentGeneration",
    "ebs-info.ebs-optimized-support": "EbsInfo.EbsOptimizedSupport",
    "ebs-info.encryption-support": "EbsInfo.EncryptionSupport",
    "ebs-info.nvme-support": "EbsInfo.NvmeSupport",
    "free-tier-eligible": "FreeTierEligible",
    "hibernation-supported": "HibernationSupported",
    "hypervisor": "Hypervisor",
    "instance-storage-supported": "InstanceStorageSupported",
    "instance-type": "InstanceType",
    "memory-info.size-in-mib": "MemoryInfo.SizeInMiB",
    "network-info.ena-support": "NetworkInfo.EnaSupport",
    "nitro-tpm-support": "NitroTpmSupport",
    "processor-info.supported-architecture": "ProcessorInfo.SupportedArchitectures",
    "supported-boot-mode": "SupportedBootModes",
    "supported-root-device-type": "SupportedRootDeviceTypes",
    "supported-usage-class": "SupportedUsageClasses",
    "supported-virtualization-type": "SupportedVirtualizationTypes",
    "vcpu-info.default-cores": "VCpuInfo.DefaultCores",
    "vcpu-info.default-vcpus": "VCpuInfo.DefaultVCpus",
}


def describe_instance_types(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    wanted = params.get("InstanceTypes") or list(catalogue())
    missing = [name for name in wanted if name not in catalogue()]
    if missing:
        raise Ec2Error(
            "InvalidInstanceType", f"The following supplied instance types do not exist: [{', '.join(missing)}]"
        )
    answers = [rendered(catalogue()[name]) for name in wanted]
    return described("InstanceTypes", answers, params, FILTERS, ["InstanceType"], most=100, whole=100)


def describe_instance_type_offerings(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """DescribeInstanceTypeOfferings. Every type is offered in every zone."""
    answers = _offerings(params.get("LocationType") or "region", ctx.region)
    filters = {"instance-type": "InstanceType", "location": "Location"}
    return described("InstanceTypeOfferings", answers, params, filters, ["InstanceType", "Location"])


@cache
def _offerings(kind: str, region: str) -> tuple[dict[str, Any], ...]:
    zones = [region + letter for letter in "abc"]
    places = {
        "region": [region],
        "availability-zone": zones,
        "availability-zone-id": [f"{_zone_prefix(region)}-az{n}" for n in (1, 2, 3)],
    }.get(kind)
    if places is None:
        raise Ec2Error("InvalidParameterValue", f"Value ({kind}) for parameter locationType is invalid.")
    return tuple({"InstanceType": n, "LocationType": kind, "Location": p} for n in catalogue() for p in places)


def _zone_prefix(region: str) -> str:
    """Return the prefix of zone ids: eu-central-1 has the zones euc1-az1, …"""
    area, direction, number = region.rsplit("-", 2)
    short = "".join(part[0] for part in direction.replace("north", "n-").replace("south", "s-").split("-") if part)
    return f"{area.replace('-', '')}{short}{number}"


ACTIONS: dict[str, Action] = {
    "DescribeInstanceTypes": describe_instance_types,
    "DescribeInstanceTypeOfferings": describe_instance_type_offerings,
}
