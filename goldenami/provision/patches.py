"""Patches: which updates of installed packages are applied, from the archive of which day, when the host reboots for
them, and how instances of the image upgrade themselves.

The stages of a build::

    patch_stage(spec, os=…)      first: use the dated archive, upgrade, reboot
    closing_stage(spec, os=…)    last: configure unattended upgrades, restore the distribution's archive
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from goldenami.model import Mark
from goldenami.os import MANAGERS, SYSTEMS, Source
from goldenami.provision import openpgp
from goldenami.provision.boot import BootEnded, Reboot
from goldenami.provision.dated import DatedArchive, OwnArchive
from goldenami.provision.fields import OneLine, Url
from goldenami.provision.network import BuildNetwork, Mirrored, Unmirrored
from goldenami.provision.operation import BoundOperation, Handler, Operation, Stage, all_operations
from goldenami.provision.package import Package
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
        raise ValueError("expected {date} (2026-11-01) or {stamp} (20261101T000000Z) as a placeholder for the day")
    return value


DatedUrl = Annotated[Url, AfterValidator(_mirror_url)]
Pattern = Annotated[str, AfterValidator(_pattern)]


class MirrorSpec(BaseModel):
    """A mirror that keeps the archive of every day. It is used instead of the distribution's snapshots."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: DatedUrl = Field(description="URL of the archive of a day, with {date} or {stamp} for the day.")
    security_uri: DatedUrl | None = Field(
        None, description="apt: URL of the security archive of a day. Default: a suite in uri."
    )
    suites: tuple[OneLine, ...] = Field(
        (),
        description="apt: suites in uri. Default: the release's suite, its updates, and its security suite if "
        "security_uri is not given.",
    )
    components: tuple[OneLine, ...] = Field(("main",), description="apt: components.")
    key: str | None = Field(
        None, description="The armored public key that signs the archive. Default: the distribution's keys (apt only)."
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
        "all", description="Which updates are installed: all, only those of the security archive, or none."
    )
    exclude: tuple[Pattern, ...] = Field(
        (), description='Packages that are not updated: names or shell patterns such as "linux-image-*".'
    )
    reboot: Literal["if-needed", "always", "never"] = Field(
        "if-needed", description="Whether the host reboots after the patches, before all other stages."
    )
    date: Annotated[datetime.date, BeforeValidator(_date)] | None = Field(
        None,
        description="Day of the archive for all packages of the build, so that the same recipe gives the same versions "
        "again. The image itself uses the distribution's own archive. Systems without public snapshots need mirror.",
    )
    mirror: MirrorSpec | None = Field(
        None,
        description="With date: the mirror that has the archive of that day. Default: the distribution's snapshots.",
    )
    releasever: str | None = Field(
        None,
        pattern=r"^(latest|[0-9][0-9A-Za-z.]*)$",
        description='dnf: the version of the distribution for all packages, such as "2023.9.20261105". Amazon Linux '
        'stays at the version of the base otherwise; "latest" takes its newest one.',
    )
    unattended: UnattendedSpec | Literal[False] | None = Field(
        None,
        description="How instances of the image upgrade themselves; false: not at all. Default: not changed from the "
        "base.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> PatchSpec:
        if self.mirror is not None and self.date is None:
            raise ValueError("mirror needs date: add the date, or remove mirror")
        if self.date is not None and self.releasever is not None:
            raise ValueError("date and releasever both select the packages: remove one of them")
        return self

    @property
    def source(self) -> Source | None:
        """The source of packages during the build. None: the sources of the base."""
        if self.date is None:
            return Source(releasever=self.releasever) if self.releasever else None
        given = self.mirror
        if given is None:
            return Source(day=self.date)
        return Source(self.date, given.uri, given.security_uri, given.suites, given.components, given.key)


class Patches(Operation):
    """Upgrades installed packages. The stage ``patches`` contains it; recipes cannot use it."""

    level: Literal["all", "security"]
    exclude: tuple[str, ...]
    family: str

    def title(self) -> str:
        return "updates of all packages" if self.level == "all" else "security updates"

    def compile(self, to: Compilation) -> Steps:
        code = MANAGERS[self.family].upgrades(self.level, self.exclude)
        family = sh("family_is @family || return 2", family=self.family)
        # No verification: packages that apt keeps back would fail it although the upgrade succeeded.
        return Steps(lines(family, code.check), code.apply, Script(":"))


SETUP: Final = "setup"
"""The name of the stage before the patches."""


def after_boot(stage: Stage, *, os: str, mirrors: Mapping[str, str]) -> Stage:
    """Return a stage that begins when the host has booted, as the stage "patches" does, and uses the mirrors."""
    first: list[Operation] = [BootEnded()]
    if mirrors:
        first.append(Mirrored(family=SYSTEMS[os].manager.name, mirrors=mirrors))
    mark = stage.operations[0].mark
    return replace(stage, operations=(*(BoundOperation(o, mark) for o in first), *stage.operations))


def patch_stage(
    spec: PatchSpec, mark: Mark | None = None, *, os: str, mirrors: Mapping[str, str] = MappingProxyType({})
) -> Stage:
    """Return the first stage, "patches". ``os``: the ID in the host's /etc/os-release. ``mirrors``: of the build's
    network. It begins when the host has booted. With level "none" it has no other operations, unless the recipe
    requires a reboot or packages of a certain day.
    """
    operations: list[Operation] = [BootEnded()]
    family = SYSTEMS[os].manager.name
    if spec.source is not None:
        operations.append(DatedArchive.of(spec.source, os))
    if mirrors:  # also of the dated archive
        operations.append(Mirrored(family=family, mirrors=mirrors))
    if spec.level != "none":
        operations.append(Patches(level=spec.level, exclude=spec.exclude, family=family))
    if spec.reboot == "always" or (spec.reboot == "if-needed" and spec.level != "none"):
        operations.append(Reboot(when=spec.reboot))
    place = mark or Mark("", 0, 0)
    return Stage("patches", tuple(BoundOperation(o, place) for o in operations))


def boot_command(stages: Iterable[Stage], spec: PatchSpec, *, os: str, network: BuildNetwork) -> str:
    """Return the shell program with which a builder starts to fetch package lists while it boots. It is empty if the
    stages need no lists, or if the stage "patches" first changes where they come from. It fetches none if all packages
    are there that a recipe without patches wants: then the stages would not.
    """
    operations = (bound.operation for stage in stages for bound in all_operations(stage))
    wanted = [one for one in operations if isinstance(one, Package) and one.state not in ("absent", "purge")]
    uses = spec.level != "none" or wanted
    manager = SYSTEMS[os].manager
    if not uses or not manager.at_boot.text or spec.source is not None or network.mirrors or network.environment():
        return ""
    if spec.level != "none" or any(one.state == "latest" or one.version or one.groups for one in wanted):
        return manager.at_boot.text
    return sh(
        """is_missing() {
for _name in @names; do
set -- "$_name"
@is_installed || return 0
done
return 1
}
if is_missing; then
@fetch
fi""",
        names=sorted({name for one in wanted for name in one.packages}),
        is_installed=manager.is_installed,
        fetch=manager.at_boot,
    ).text


def closing_stage(
    spec: PatchSpec, mark: Mark | None = None, *, os: str, mirrors: Mapping[str, str] = MappingProxyType({})
) -> Stage:
    """Return the last stage, "upgrades", which follows all software. It often has no operations. ``os``, ``mirrors``:
    as for ``patch_stage``.
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
    if mirrors:
        bound.append(BoundOperation(Unmirrored(family=family, mirrors=mirrors), place))
    if spec.source is not None:
        bound.append(BoundOperation(OwnArchive(family=family), place))
    return Stage("upgrades", tuple(bound), handlers)
