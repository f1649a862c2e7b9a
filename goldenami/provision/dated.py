"""Packages of a certain day: for the time of a build, a dated archive takes the place of the distribution's own.

How that is done, and how the distribution's own archive is put back, is the package manager's (``goldenami.os``).
"""

from __future__ import annotations

import datetime
from dataclasses import asdict

from goldenami.os import MANAGERS, SYSTEMS, Source
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh

_STALE = Script(': >"$flags/stale-lists"\nrm -f "$work/updated"')


class DatedArchive(Operation):
    """The dated archive in place; part of the stage ``patches``, and not for recipes to write. ``os``: the system's id;
    the other fields are those of ``Source``.
    """

    os: str
    day: datetime.date | None
    uri: str | None
    security_uri: str | None
    suites: tuple[str, ...]
    components: tuple[str, ...]
    key: str | None
    releasever: str | None

    @classmethod
    def of(cls, source: Source, os: str) -> DatedArchive:
        return cls(os=os, **asdict(source))

    def title(self) -> str:
        return f"packages of {self.day}" if self.day else f"packages of release {self.releasever}"

    def compile(self, to: Compilation) -> Steps:
        system = SYSTEMS[self.os]
        source = Source(**self.model_dump(exclude={"os"}))
        code = system.manager.dated(source, system.id, system.snapshots, to.place)
        family = sh("family_is @family || return 2", family=system.manager.name)
        return Steps(lines(family, code.check), lines(code.apply, _STALE))


class OwnArchive(Operation):
    """The distribution's own archive in its place again; part of the last stage, and not for recipes to write."""

    family: str

    def title(self) -> str:
        return "packages of the distribution's own archive again"

    def compile(self, to: Compilation) -> Steps:
        code = MANAGERS[self.family].undated()
        return Steps(code.check, lines(code.apply, _STALE))
