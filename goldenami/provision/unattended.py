"""Unattended upgrades of instances, by the program that their system has for that."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from goldenami.os import SYSTEMS, SelfUpgrade
from goldenami.provision.command import Command
from goldenami.provision.files import File
from goldenami.provision.operation import Operation
from goldenami.provision.package import Package
from goldenami.provision.services import Service


class UnattendedSpec(BaseModel):
    """How instances of the image upgrade themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Literal["security", "all"] = Field("security", description="Which updates instances install.")
    exclude: tuple[str, ...] = Field(
        (), description='Packages that are not upgraded: names or patterns such as "linux-*".'
    )
    reboot: Literal["never", "if-needed"] = Field(
        "never", description="Whether instances reboot if an update needs it."
    )
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
                raise ValueError(f'{pattern!r} is not the name of a package or a pattern such as "linux-*"')
        return value


@dataclass(frozen=True, slots=True)
class Unattended:
    """The operations that configure unattended upgrades. ``spec`` None: no upgrades. ``os``: the system's id."""

    spec: UnattendedSpec | None
    os: str

    @property
    def _wanted(self) -> SelfUpgrade:
        return SYSTEMS[self.os].self_upgrade(self.spec)

    def operations(self) -> list[Operation]:
        wanted = self._wanted
        found: list[Operation] = []
        if wanted.install is not None:
            found.append(Package.model_validate({"name": wanted.install, "recommends": wanted.recommends}))
        if wanted.remove is not None:
            found.append(Package.model_validate({"name": wanted.remove, "state": "absent"}))
        found += [_file(path, content) for path, content in wanted.files.items()]
        if wanted.started:
            found.append(Service(name=wanted.timer, enabled=True, state="started"))
        return found

    def time(self) -> list[Operation]:
        """The operations that set the time of day. If one of them changes something, run ``on_another_time``."""
        if self.spec is None:
            return []
        path = f"/etc/systemd/system/{self._wanted.timer}.d/60-goldenami.conf"
        at = self.spec.at
        timer = None if at is None else f"[Timer]\nOnCalendar=\nOnCalendar=*-*-* {at}\nRandomizedDelaySec=0\n"
        return [_file(path, timer)]

    def on_another_time(self) -> list[Operation]:
        return [
            Command.model_validate({"argv": ["systemctl", "daemon-reload"]}),
            Service(name=self._wanted.timer, state="restarted"),
        ]


def _file(path: str, content: str | None) -> File:
    if content is None:
        return File.model_validate({"dest": path, "state": "absent"})
    return File.model_validate({"dest": path, "content": content, "mode": "0644"})
