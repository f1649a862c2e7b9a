"""How instances of an image upgrade themselves: unattended-upgrades on Debian and Ubuntu, dnf-automatic on others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from goldenami.provision.command import Command
from goldenami.provision.files import File
from goldenami.provision.operation import Operation
from goldenami.provision.package import Package
from goldenami.provision.services import Service


class UnattendedSpec(BaseModel):
    """How instances of the image upgrade themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Literal["security", "all"] = Field("security", description="Which updates they install by themselves.")
    exclude: tuple[str, ...] = Field(
        (), description='Packages that are left as they are: names or patterns, "linux-*".'
    )
    reboot: Literal["never", "if-needed"] = Field("never", description="Whether they reboot when an update needs it.")
    at: str | None = Field(
        None, description="Time of day, in the instance's time zone, such as \"03:30\". Default: the distribution's."
    )

    @field_validator("at")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", value):
            raise ValueError('expected a time of day in quotes, such as "03:30"')
        return value

    @field_validator("exclude")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not re.fullmatch(r"[A-Za-z0-9*?][A-Za-z0-9+.*?_-]*", pattern):
                raise ValueError(f'{pattern!r} is no name of a package, nor a pattern such as "linux-*"')
        return value


@dataclass(frozen=True, slots=True)
class Unattended:
    """What configures it on a host. ``spec`` None is for no upgrades at all. ``os``: the ID in /etc/os-release."""

    spec: UnattendedSpec | None
    os: str

    @property
    def unit(self) -> str:
        return "dnf-automatic.timer" if self.os == "amzn" else "apt-daily-upgrade.timer"

    def operations(self) -> list[Operation]:
        return _dnf(self.spec) if self.os == "amzn" else _apt(self.spec, self.os)

    def time(self) -> list[Operation]:
        """The time of day; where that changes something, ``on_another_time`` follows."""
        if self.spec is None:
            return []
        path = f"/etc/systemd/system/{self.unit}.d/60-goldenami.conf"
        if self.spec.at is None:
            return [File.model_validate({"dest": path, "state": "absent"})]
        return [_file(path, f"[Timer]\nOnCalendar=\nOnCalendar=*-*-* {self.spec.at}\nRandomizedDelaySec=0\n")]

    def on_another_time(self) -> list[Operation]:
        return [
            Command.model_validate({"argv": ["systemctl", "daemon-reload"]}),
            Service(name=self.unit, state="restarted"),
        ]


# --- apt --------------------------------------------------------------------------------------------------------------


def _apt(spec: UnattendedSpec | None, os: str) -> list[Operation]:
    switch = 0 if spec is None else 1
    periodic = f'APT::Periodic::Update-Package-Lists "{switch}";\nAPT::Periodic::Unattended-Upgrade "{switch}";\n'
    # After the distribution's own 20auto-upgrades and 50unattended-upgrades: the last one wins.
    switched = _file("/etc/apt/apt.conf.d/60goldenami-periodic", periodic)
    settings = "/etc/apt/apt.conf.d/60goldenami-unattended"
    if spec is None:
        return [switched, File.model_validate({"dest": settings, "state": "absent"})]
    return [
        Package.model_validate({"name": "unattended-upgrades", "recommends": False}),
        switched,
        _file(settings, _unattended(spec, os)),
        Service(name="apt-daily-upgrade.timer", enabled=True, state="started"),
    ]


def _unattended(spec: UnattendedSpec, os: str) -> str:
    vendor = "Ubuntu" if os == "ubuntu" else "Debian"
    if os == "ubuntu":  # one codename for all its suites
        security = ["origin=Ubuntu,suite=${distro_codename}-security"]
        rest = ["origin=Ubuntu,suite=${distro_codename}", "origin=Ubuntu,suite=${distro_codename}-updates"]
    else:
        security = [
            "origin=Debian,codename=${distro_codename}-security,label=Debian-Security",
            "origin=Debian,codename=${distro_codename},label=Debian-Security",
        ]
        rest = [
            "origin=Debian,codename=${distro_codename},label=Debian",
            "origin=Debian,codename=${distro_codename}-updates",
        ]
    origins = [*security, *(rest if spec.level == "all" else [])]
    lines = [
        f"// What {vendor}'s unattended-upgrades installs on this image.",
        "#clear Unattended-Upgrade::Origins-Pattern;",
        "#clear Unattended-Upgrade::Allowed-Origins;",
        "Unattended-Upgrade::Origins-Pattern {",
        *(f'  "{origin}";' for origin in origins),
        "};",
        "#clear Unattended-Upgrade::Package-Blacklist;",
        "Unattended-Upgrade::Package-Blacklist {",
        *(f'  "{_regex(pattern)}";' for pattern in spec.exclude),
        "};",
        f'Unattended-Upgrade::Automatic-Reboot "{"true" if spec.reboot == "if-needed" else "false"}";',
    ]
    return "\n".join(lines) + "\n"


def _regex(pattern: str) -> str:
    """A shell pattern as unattended-upgrades takes it: a regular expression of Python, from the name's start."""
    return "".join({"*": ".*", "?": "."}.get(c, re.escape(c).replace("\\-", "-")) for c in pattern) + "$"


# --- dnf --------------------------------------------------------------------------------------------------------------


def _dnf(spec: UnattendedSpec | None) -> list[Operation]:
    if spec is None:
        return [Package.model_validate({"name": "dnf-automatic", "state": "absent"})]
    settings = {
        "commands": {
            "upgrade_type": "security" if spec.level == "security" else "default",
            "random_sleep": "0",
            "download_updates": "yes",
            "apply_updates": "yes",
            "reboot": "when-needed" if spec.reboot == "if-needed" else "never",
        },
        "emitters": {"emit_via": "stdio"},
        "base": {"exclude": " ".join(spec.exclude)} if spec.exclude else {},
    }
    text = "\n".join(
        f"[{part}]\n" + "".join(f"{k} = {v}\n" for k, v in body.items()) for part, body in settings.items()
    )
    return [
        Package.model_validate({"name": "dnf-automatic"}),
        _file("/etc/dnf/automatic.conf", text),
        Service(name="dnf-automatic.timer", enabled=True, state="started"),
    ]


def _file(path: str, content: str) -> File:
    return File.model_validate({"dest": path, "content": content, "mode": "0644"})
