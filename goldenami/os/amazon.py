"""Amazon Linux 2023."""

from __future__ import annotations

from typing import Literal

from goldenami.os.managers.dnf import DNF, dnf_automatic
from goldenami.os.managers.manager import PackageManager
from goldenami.os.system import Pam, SelfUpgrade, System, UpgradePolicy


class AmazonLinux(System):
    id = "amzn"
    name = "Amazon Linux"
    releases = {"2023": "Amazon Linux 2023"}  # noqa: RUF012
    login_user = "ec2-user"
    words = ("al2023", "amazon-linux", "amzn")
    manager: PackageManager = DNF
    # https://docs.aws.amazon.com/linux/al2023/ug/deterministic-upgrades.html
    versioned = True
    follows_latest = True
    pam: Pam = "authselect"
    advisories_name: Literal["source", "binary"] = "binary"

    def locale_package(self, language: str) -> str:
        return f"glibc-langpack-{language}"

    def self_upgrade(self, policy: UpgradePolicy | None) -> SelfUpgrade:
        return dnf_automatic(policy)


SYSTEMS = (AmazonLinux(),)
