"""Debian."""

from __future__ import annotations

from goldenami.os.managers.apt import APT, signed_source, unattended_upgrades
from goldenami.os.managers.manager import PackageManager, Snapshots
from goldenami.os.system import Pam, SelfUpgrade, System, UpgradePolicy


class Debian(System):
    id = "debian"
    name = "Debian"
    releases = {"12": "Debian 12 (bookworm)", "13": "Debian 13 (trixie)"}  # noqa: RUF012
    login_user = "admin"
    words = ("debian",)
    manager: PackageManager = APT
    snapshots = Snapshots(
        "https://snapshot.debian.org/archive/debian/{stamp}/",
        "https://snapshot.debian.org/archive/debian-security/{stamp}/",
    )
    pam: Pam = "pam-auth-update"
    # cloud-init writes it for ifupdown.
    network_files = ("/etc/network/interfaces.d/50-cloud-init*",)

    osv = "Debian"
    has_tracker = True

    def advisory_source(self, source: str, version: str) -> tuple[str, str]:
        return signed_source(source, version)

    def locale_package(self, language: str) -> str:
        return "locales"

    def self_upgrade(self, policy: UpgradePolicy | None) -> SelfUpgrade:
        security = (
            "origin=Debian,codename=${distro_codename}-security,label=Debian-Security",
            "origin=Debian,codename=${distro_codename},label=Debian-Security",
        )
        others = (
            "origin=Debian,codename=${distro_codename},label=Debian",
            "origin=Debian,codename=${distro_codename}-updates",
        )
        return unattended_upgrades(policy, self.name, security, others)


SYSTEMS = (Debian(),)
