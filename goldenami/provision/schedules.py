"""cron jobs, and alternatives (the choice between several programs for one name)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from goldenami.provision import demands
from goldenami.provision.fields import AbsolutePath, Account, Mode, OneLine
from goldenami.provision.operation import Operation, Payload
from goldenami.provision.shell import Compilation, Steps, lines, sh
from goldenami.provision.writing import no_file, place_file, same_file
from goldenami.schedules.timing import check_crontab


class Cron(Operation):
    """Creates a cron job in a separate file in /etc/cron.d. Its package must be installed: cron with apt, cronie with
    dnf.
    """

    kind: ClassVar[str] = "cron"
    brings_units: ClassVar[bool] = False

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="Name of the file. cron ignores names with a dot.")
    schedule: OneLine | None = Field(None, description='Times of the job, as in crontab(5): "30 3 * * mon", "@daily".')
    command: OneLine | None = Field(None, description="The command for sh. % needs no escape.")
    user: Account = Field("root", description="The user that runs the job.")
    environment: Mapping[str, OneLine] = Field(default_factory=dict, description="Environment variables of the job.")
    mode: Mode = Field("0644", description='Permissions of the file, as a string: "0600".')
    state: Literal["present", "absent"] = Field("present", description="Whether the job exists.")

    @field_validator("schedule")
    @classmethod
    def _schedule(cls, value: str | None) -> str | None:
        return None if value is None else check_crontab(value)

    @model_validator(mode="after")
    def _whole(self) -> Cron:
        if self.state == "present" and (self.schedule is None or not self.command):
            raise ValueError("expected schedule and command")
        if self.state == "absent" and (self.schedule is not None or self.command is not None):
            raise ValueError("schedule and command have no effect with state absent: remove them")
        for name in self.environment:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(
                    f"{name!r} is not the name of an environment variable: expected letters, digits and _, "
                    "with no digit first"
                )
        return self

    def title(self) -> str:
        return f"cron {self.name} " + ("absent" if self.state == "absent" else f"{self.schedule}")

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return demands.shell_programs(self.command or "")

    def compile(self, to: Compilation) -> Steps:
        path = f"/etc/cron.d/{self.name}"
        if self.state == "absent":
            return no_file(path)
        variables = "".join(f'{name}="{value}"\n' for name, value in self.environment.items())
        command = (self.command or "").replace("%", "\\%")
        contents = to.place(f"{variables}{self.schedule} {self.user} {command}\n".encode())
        apply = lines(
            sh(
                "command -v cron >/dev/null || command -v crond >/dev/null || die @why",
                why="cron is not installed: add the package cron (apt) or cronie (dnf) before this operation",
            ),
            place_file(path, contents, self.mode),
        )
        return Steps(same_file(path, contents, self.mode), apply)


class Alternative(Operation):
    """Chooses the program for a name among several ones (update-alternatives with apt, alternatives with dnf). The
    choice is manual, so that packages which are installed later do not change it.
    """

    kind: ClassVar[str] = "alternative"

    name: str = Field(pattern=r"^[A-Za-z0-9_.+-]+$", description='Name of the group: "editor", "java".')
    path: AbsolutePath = Field(description="Path of the chosen program.")
    link: AbsolutePath | None = Field(
        None, description="Path of the group's link. If given, the program is added to the group if necessary."
    )
    priority: int = Field(50, ge=0, description="Priority of the program in the group, with link.")

    def title(self) -> str:
        return f"alternative {self.name} = {self.path}"

    def compile(self, to: Compilation) -> Steps:
        tool = "_tool=update-alternatives\ncommand -v $_tool >/dev/null || _tool=alternatives"
        known = sh("cat /var/lib/dpkg/alternatives/@n /var/lib/alternatives/@n 2>/dev/null", n=self.name)
        check = sh(
            """_now=$(readlink -- /etc/alternatives/@name) || _now='not there'
[ "$_now" = @path ] || { detail="is $_now"; return 1; }
case $(@known | head -n 1) in auto) detail='is chosen by its priority only'; return 1 ;; esac""",
            name=self.name,
            path=self.path,
            known=known,
        )
        install = (
            sh(
                "@known | grep -qxF -e @path || $_tool --install @link @name @path @priority",
                known=known,
                link=self.link,
                name=self.name,
                path=self.path,
                priority=self.priority,
            )
            if self.link is not None
            else sh("")
        )
        apply = lines(
            sh("[ -e @path ] || die @why", path=self.path, why=f"{self.path} is not there"),
            sh(tool),
            install,
            sh("$_tool --set @name @path", name=self.name, path=self.path),
        )
        return Steps(check, apply)
