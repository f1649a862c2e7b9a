"""Ubuntu."""

from __future__ import annotations

from goldenami.os.managers.apt import APT, signed_source, unattended_upgrades
from goldenami.os.managers.manager import PackageManager, Snapshots
from goldenami.os.system import Pam, SelfUpgrade, System, UpgradePolicy


class Ubuntu(System):
    id = "ubuntu"
    name = "Ubuntu"
    releases = {"24.04": "Ubuntu 24.04 (Noble Numbat)"}  # noqa: RUF012
    like = "debian"
    login_user = "ubuntu"
    words = ("ubuntu",)
    manager: PackageManager = APT
    snapshots = Snapshots("https://snapshot.ubuntu.com/ubuntu/{stamp}/")
    pam: Pam = "pam-auth-update"
    # cloud-init writes it for netplan.
    network_files = ("/etc/netplan/50-cloud-init.yaml",)

    osv = "Ubuntu"

    def advisory_source(self, source: str, version: str) -> tuple[str, str]:
        return signed_source(source, version)

    def locale_package(self, language: str) -> str:
        return "locales"

    def self_upgrade(self, policy: UpgradePolicy | None) -> SelfUpgrade:
        # All suites have the same codename, so the suite identifies the origin.
        security = ("origin=Ubuntu,suite=${distro_codename}-security",)
        others = ("origin=Ubuntu,suite=${distro_codename}", "origin=Ubuntu,suite=${distro_codename}-updates")
        return unattended_upgrades(policy, self.name, security, others)


SYSTEMS = (Ubuntu(),)
