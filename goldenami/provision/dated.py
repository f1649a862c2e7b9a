"""Packages of a certain day: during a build, a dated archive replaces the distribution's own archive.

The package manager has the code that replaces and restores the archive (``goldenami.os``).
"""

from __future__ import annotations

import datetime
from dataclasses import asdict

from goldenami.os import MANAGERS, SYSTEMS, Source
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Steps, lines, sh
from goldenami.provision.writing import STALE


class DatedArchive(Operation):
    """Replaces the distribution's archive by the dated one. The stage ``patches`` contains it; recipes cannot use it.
    ``os``: the system's id. The other fields are those of ``Source``.
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
        if self.day:
            return f"packages of {self.day}"
        return f"packages of {'the newest release' if self.releasever == 'latest' else f'release {self.releasever}'}"

    def compile(self, to: Compilation) -> Steps:
        system = SYSTEMS[self.os]
        source = Source(**self.model_dump(exclude={"os"}))
        code = system.manager.dated(source, system.id, system.snapshots, to.place)
        family = sh("family_is @family || return 2", family=system.manager.name)
        return Steps(lines(family, code.check), lines(code.apply, STALE))


class OwnArchive(Operation):
    """Restores the distribution's own archive. The last stage contains it; recipes cannot use it."""

    family: str

    def title(self) -> str:
        return "restore the distribution's own archive"

    def compile(self, to: Compilation) -> Steps:
        code = MANAGERS[self.family].undated()
        return Steps(code.check, lines(code.apply, STALE))
