"""Patches: which updates of installed packages are applied, from which day's archive, when the host reboots for them,
and how instances of the image keep themselves up to date.

The stages of a build::

    patch_stage(spec, os=…)      first: the dated archive takes the place of the distribution's, upgrades, reboot
    closing_stage(spec, os=…)    last: the distribution's own archive is back, and upgrades are on or off as asked
"""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from goldenami.model import Mark
from goldenami.os import MANAGERS, SYSTEMS, Source
from goldenami.provision import openpgp
from goldenami.provision.dated import DatedArchive, OwnArchive
from goldenami.provision.fields import OneLine, Url
from goldenami.provision.operation import BoundOperation, Handler, Operation, Stage
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.unattended import Unattended, UnattendedSpec


def _pattern(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9*?\[\]][A-Za-z0-9+.*?\[\]!_-]*", value):
        raise ValueError('expected the name of a package, or a shell pattern such as "linux-image-*"')
    return value


def _date(value: object) -> object:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return datetime.date.fromisoformat(value)
    raise ValueError("expected a day, such as 2026-11-01")


def _mirror_url(value: str) -> str:
    if "{date}" not in value and "{stamp}" not in value:
        raise ValueError("expected {date} (2026-11-01) or {stamp} (20261101T000000Z) in it, where the day goes")
    return value


DatedUrl = Annotated[Url, AfterValidator(_mirror_url)]
Pattern = Annotated[str, AfterValidator(_pattern)]


class MirrorSpec(BaseModel):
    """A mirror that keeps the archive of every day, in place of the distribution's own snapshots."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: DatedUrl = Field(description="Where the archive of a day is, with {date} or {stamp} where the day goes.")
    security_uri: DatedUrl | None = Field(
        None, description="apt: where the security archive of a day is. Default: in uri, as a suite."
    )
    suites: tuple[OneLine, ...] = Field(
        (), description="apt: suites in uri. Default: the release's, its updates, and its security unless security_uri."
    )
    components: tuple[OneLine, ...] = Field(("main",), description="apt: components.")
    key: str | None = Field(
        None, description="The armored public key that signs it. Default: the distribution's keys (apt only)."
    )

    @model_validator(mode="after")
    def _readable(self) -> MirrorSpec:
        if self.key is not None:
            openpgp.fingerprints(self.key.encode())
        return self


class PatchSpec(BaseModel):
    """The ``patches`` section of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Literal["all", "security", "none"] = Field(
        "all", description="Which updates: all, those of the distribution's security archive only, or none."
    )
    exclude: tuple[Pattern, ...] = Field(
        (), description='Packages that are left as they are: names or shell patterns such as "linux-image-*".'
    )
    reboot: Literal["if-needed", "always", "never"] = Field(
        "if-needed", description="Whether the host reboots after the patches and before anything else is done."
    )
    date: Annotated[datetime.date, BeforeValidator(_date)] | None = Field(
        None,
        description="Day whose archive all packages of the build come from: the same recipe gives the same versions "
        "again. The image itself has the distribution's own archive. Systems without public snapshots need mirror.",
    )
    mirror: MirrorSpec | None = Field(
        None, description="With date: where the archives of former days are. Default: the distribution's snapshots."
    )
    releasever: str | None = Field(
        None,
        pattern=r"^[0-9][0-9A-Za-z.]*$",
        description='dnf: the version of the distribution that packages come from, such as "2023.9.20261105".',
    )
    unattended: UnattendedSpec | Literal[False] | None = Field(
        None,
        description="How instances of the image upgrade themselves; false for not at all. By default that is left as "
        "it is in the base.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> PatchSpec:
        if self.mirror is not None and self.date is None:
            raise ValueError("mirror goes with date")
        if self.date is not None and self.releasever is not None:
            raise ValueError("date and releasever both say which packages there are: one of them will do")
        return self

    @property
    def source(self) -> Source | None:
        """Where packages come from during the build, if not from where the base has them from."""
        if self.date is None:
            return Source(releasever=self.releasever) if self.releasever else None
        given = self.mirror
        if given is None:
            return Source(day=self.date)
        return Source(self.date, given.uri, given.security_uri, given.suites, given.components, given.key)


class Patches(Operation):
    """Upgrades of what is installed; part of the stage ``patches``, and not for recipes to write."""

    level: Literal["all", "security"]
    exclude: tuple[str, ...]
    family: str

    def title(self) -> str:
        return "updates of all packages" if self.level == "all" else "security updates"

    def compile(self, to: Compilation) -> Steps:
        code = MANAGERS[self.family].upgrades(self.level, self.exclude)
        family = sh("family_is @family || return 2", family=self.family)
        # What could not be upgraded (kept back) would be reported again and again; the upgrade itself has succeeded.
        return Steps(lines(family, code.check), code.apply, Script(":"))


class Reboot(Operation):
    """A reboot where one is due; part of the stage ``patches``, and not for recipes to write."""

    when: Literal["if-needed", "always"]

    def title(self) -> str:
        return "reboot" if self.when == "always" else "reboot if one is needed"

    def compile(self, to: Compilation) -> Steps:
        if self.when == "always":
            return Steps(Script("return 1"), Script(":"), Script(":"), reboot=True)
        check = Script(
            """if [ -e /run/reboot-required ]; then detail='/run/reboot-required is there'; return 1; fi
# PID 1 still runs code of a library, or of itself, that an upgrade has replaced.
if grep -q '[.]so.* (deleted)$\\|/systemd (deleted)$' /proc/1/maps 2>/dev/null; then
detail='init runs replaced code'; return 1
fi
# A kernel of the running one's flavour was installed, and is newer. Containers have none in /boot.
_running=$(uname -r)
if [ -e "/boot/vmlinuz-$_running" ] && [ "$family" != none ]; then
_flavour=$(managed flavour "$_running")
_newest=$(find /boot -name "vmlinuz-*$_flavour" | sed 's,^.*/vmlinuz-,,' | sort -V | tail -n 1)
[ "$_newest" = "$_running" ] || { detail="kernel $_running -> $_newest"; return 1; }
fi
# What the distributions' own tools know beyond that, where they are installed.
if command -v needrestart >/dev/null; then
# 2: a newer kernel of the same ABI is installed, 3: of another one (needrestart's README.batch)
case $(needrestart -b -k 2>/dev/null | sed -n 's/^NEEDRESTART-KSTA: //p') in
[23]) detail='needrestart tells of a newer kernel'; return 1 ;;
esac
fi
if [ "$family" != none ] && managed reboot_due; then return 1; fi
return 0"""
        )
        return Steps(check, Script(":"), Script(":"), reboot=True)


def patch_stage(spec: PatchSpec, mark: Mark | None = None, *, os: str) -> Stage:
    """The stage "patches", the first one. ``os``: the ID in the host's /etc/os-release. Without operations for level
    none, unless the recipe wants the host rebooted, or packages of a certain day.
    """
    operations: list[Operation] = []
    family = SYSTEMS[os].manager.name
    if spec.source is not None:
        operations.append(DatedArchive.of(spec.source, os))
    if spec.level != "none":
        operations.append(Patches(level=spec.level, exclude=spec.exclude, family=family))
    if spec.reboot == "always" or (spec.reboot == "if-needed" and spec.level != "none"):
        operations.append(Reboot(when=spec.reboot))
    place = mark or Mark("", 0, 0)
    return Stage("patches", tuple(BoundOperation(o, place) for o in operations))


def closing_stage(spec: PatchSpec, mark: Mark | None = None, *, os: str) -> Stage:
    """The stage "upgrades", the last one, after all software: often without operations. ``os``: as for
    ``patch_stage``.
    """
    family = SYSTEMS[os].manager.name
    bound: list[BoundOperation] = []
    handlers: tuple[Handler, ...] = ()
    place = mark or Mark("", 0, 0)
    if spec.unattended is not None:  # while packages still come from the dated archive
        unattended = Unattended(spec.unattended or None, os)
        bound = [BoundOperation(o, place) for o in unattended.operations()]
        bound += [BoundOperation(o, place, notify=("timer",)) for o in unattended.time()]
        handlers = (Handler("timer", tuple(BoundOperation(o, place) for o in unattended.on_another_time())),)
    if spec.source is not None:
        bound.append(BoundOperation(OwnArchive(family=family), place))
    return Stage("upgrades", tuple(bound), handlers)
