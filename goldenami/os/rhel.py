"""Red Hat Enterprise Linux 9 and its rebuilds: Rocky Linux 9 and AlmaLinux 9."""

from __future__ import annotations

from typing import Literal

from goldenami.os.managers.dnf import DNF, dnf_automatic
from goldenami.os.managers.manager import Hint, PackageManager
from goldenami.os.system import Pam, SelfUpgrade, System, Trace, UpgradePolicy


class RedHat(System):
    id = "rhel"
    name = "Red Hat Enterprise Linux"
    releases = {"9": "Red Hat Enterprise Linux 9"}  # noqa: RUF012
    # https://access.redhat.com/solutions/15356: Red Hat's images, and their default user.
    login_user = "ec2-user"
    words = ("rhel",)
    manager: PackageManager = DNF
    # The URLs of its repositories contain the minor release, such as 9.6.
    versioned = True
    pam: Pam = "authselect"
    osv = "Red Hat:enterprise_linux"
    advisories_name: Literal["source", "binary"] = "binary"
    # cloud-init writes them for NetworkManager, in its format or in that of the older scripts (cloud-init's network
    # renderers "network-manager" and "sysconfig").
    network_files: tuple[str, ...] = (
        "/etc/NetworkManager/system-connections/cloud-init-*.nmconnection",
        "/etc/sysconfig/network-scripts/ifcfg-eth*",
        "/etc/sysconfig/network-scripts/ifcfg-en*",
    )
    traces: tuple[Trace, ...] = (
        Trace(
            "subscription",
            "the registration with Red Hat",
            (
                "/etc/pki/consumer/*.pem",
                "/etc/pki/entitlement/*.pem",
                "/var/lib/rhsm/facts/*",
                "/var/lib/rhsm/cache/*",
                "/etc/insights-client/machine-id",
                "/etc/insights-client/.registered",
            ),
        ),
    )
    hints: tuple[Hint, ...] = (
        (
            r"This system is not registered with an entitlement server",
            "Red Hat's repositories need a registered host or Red Hat's image: change the base, or add a repository.",
        ),
    )

    def locale_package(self, language: str) -> str:
        return f"glibc-langpack-{language}"

    def self_upgrade(self, policy: UpgradePolicy | None) -> SelfUpgrade:
        return dnf_automatic(policy)


class Rocky(RedHat):
    id = "rocky"
    osv = "Rocky Linux"
    name = "Rocky Linux"
    releases = {"9": "Rocky Linux 9"}  # noqa: RUF012
    like = "rhel"
    login_user = "rocky"
    words = ("rocky",)
    traces = ()
    hints = ()
    network_files = ()


class Alma(Rocky):
    id = "almalinux"
    osv = "AlmaLinux"
    name = "AlmaLinux"
    releases = {"9": "AlmaLinux 9"}  # noqa: RUF012
    login_user = "ec2-user"
    words = ("almalinux",)


SYSTEMS = (RedHat(), Rocky(), Alma())
