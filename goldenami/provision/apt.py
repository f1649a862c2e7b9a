"""Packages of Debian's package manager. dpkg's status is read once for all packages of a stage, and apt-get is called
only if it has something to do.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from goldenami.provision.fields import PackageName, VersionConstraint
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Batch, Compilation, Script, Steps, lines, sh

_RELATIONS = {">=": "ge", "<=": "le", "=": "eq", "<": "lt", ">": "gt"}


class Package(Operation):
    """A package of the distribution, or of a repository that was added before."""

    kind: ClassVar[str] = "package"
    shorthand: ClassVar[str | None] = "name"

    name: PackageName | tuple[PackageName, ...] = Field(description="Name of the package, or a list of names.")
    version: VersionConstraint | None = Field(
        None, description='What its version must satisfy: ">=1.22", or an exact "=1.22.1-9".'
    )
    state: Literal["present", "latest", "absent"] = Field(
        "present",
        description="present: installed. latest: and as new as the repositories have it. absent: removed, with its "
        "configuration.",
    )
    hold: bool | None = Field(
        None,
        description="Whether the package is kept at its version by later upgrades. By default that is left as it is.",
    )
    recommends: bool = Field(True, description="Whether packages that it recommends are installed with it.")

    @model_validator(mode="after")
    def _consistent(self) -> Package:
        if not self.names:
            raise ValueError("expected at least one name")
        if len(self.names) > 1 and self.version is not None:
            raise ValueError("a version is one package's: write an operation for each")
        if self.state != "present" and self.version is not None:
            raise ValueError(f"a version means nothing with state {self.state}")
        if self.state == "absent" and self.hold is not None:
            raise ValueError("hold means nothing with state absent")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,) if isinstance(self.name, str) else self.name

    @property
    def relation(self) -> tuple[str, str] | None:
        """("ge", "1.22"): as dpkg --compare-versions takes it."""
        if self.version is None:
            return None
        match = re.match(r"(>=|<=|=|<|>)?\s*(.*)", self.version)
        assert match is not None
        return _RELATIONS[match[1] or "="], match[2]

    def title(self) -> str:
        extra = {"absent": " absent", "latest": " latest", "present": f" {self.version}" if self.version else ""}
        return f"package {', '.join(self.names)}{extra[self.state]}"

    def compile(self, to: Compilation) -> Steps:
        numbers = [to.package(name) for name in self.names]
        if self.state == "absent":
            each = (
                sh('[ -z "$version_@n" ] || { detail="$version_@n is installed"; return 1; }', n=n) for n in numbers
            )
            return Steps(lines(_READ, *each), sh("apt_get purge -- @names", names=self.names))
        check = lines(_READ, *(self._check(name, n) for name, n in zip(self.names, numbers, strict=True)))
        apply = lines(_READ, self._install(numbers), *self._explained(), *self._held())
        if self.state == "latest":
            return Steps(self._check_latest(check, numbers), apply, check)
        batch = Batch(" ".join(self._specs()), self._options()) if self.hold is None else None
        return Steps(check, apply, batch=batch)

    def _specs(self) -> list[str]:
        """As apt-get takes them: the exact version where there is one."""
        relation = self.relation
        return [f"{n}={relation[1]}" if relation and relation[0] == "eq" else n for n in self.names]

    def _options(self) -> str:
        return "" if self.recommends else "--no-install-recommends"

    def _check(self, name: str, number: int) -> Script:
        checks = [
            sh('[ -n "$version_@n" ] || { detail=@detail; return 1; }', n=number, detail=f"{name} is not installed")
        ]
        if self.relation is not None:
            relation, version = self.relation
            checks.append(
                sh(
                    """dpkg --compare-versions "$version_@n" @relation @version || {
detail="$version_@n is installed"; return 1
}""",
                    n=number,
                    relation=relation,
                    version=version,
                )
            )
        if self.hold is not None:
            code = '[ "$wanted_@n" = @wanted ] || { detail=@detail; return 1; }'
            wanted, detail = ("hi", "is not held") if self.hold else ("ii", "is held")
            checks.append(sh(code, n=number, wanted=wanted, detail=f"{name} {detail}"))
        return lines(*checks)

    def _check_latest(self, check: Script, numbers: list[int]) -> Script:
        candidates = (
            sh(
                """_candidate=$(apt-cache policy -- @name | sed -n 's/^  Candidate: //p')
[ "$version_@n" = "$_candidate" ] || { detail="$version_@n -> $_candidate"; return 1; }""",
                name=name,
                n=n,
            )
            for name, n in zip(self.names, numbers, strict=True)
        )
        # The lists are a cache: fetching them changes nothing that was asked for. Check mode makes do with those there
        # are.
        return lines(check, Script('[ "$mode" = check ] || apt_update || return 2'), *candidates)

    def _install(self, numbers: list[int]) -> Script:
        options = [self._options()] if self._options() else []
        options.append("--allow-change-held-packages")
        if self.relation is not None and self.relation[0] == "eq":
            options.append("--allow-downgrades")
        install = sh("apt_install @options -- @specs", options=options, specs=self._specs())
        if self.hold is None or self.state == "latest":
            return install
        # It may be that only the hold differs, and then nothing is upgraded on the way.
        right = [sh('[ -n "$version_@n" ]', n=n).text for n in numbers]
        if self.relation is not None:
            relation, version = self.relation
            right.append(sh('dpkg --compare-versions "$version_@n" @r @v', n=numbers[0], r=relation, v=version).text)
        return sh("{ @right; } || @install", right=Script(" && ".join(right)), install=install)

    def _explained(self) -> list[Script]:
        """apt-get knows no ranges: say which version there is, instead of just failing at the verification."""
        if self.relation is None or self.relation[0] == "eq":
            return []
        relation, version = self.relation
        code = """_got=$(dpkg-query -W -f '${Version}' @name)
dpkg --compare-versions "$_got" @relation @version || die "the repositories offer $_got, and not @asked"
"""
        asked = Script(f"{self.names[0]} {self.version}")  # both are made of harmless characters only: see fields.py
        return [sh(code, name=self.names[0], relation=relation, version=version, asked=asked)]

    def _held(self) -> list[Script]:
        if self.hold is None:
            return []
        return [sh("apt-mark @verb @names", verb="hold" if self.hold else "unhold", names=self.names)]


_READ = Script("read_packages")
