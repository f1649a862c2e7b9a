"""Packages of the host's package manager. The installed packages are read once for all packages of a stage, and the
package manager is called only if it has something to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from goldenami.provision.fields import PackageName, Sha256, Url, VersionConstraint, version_parts
from goldenami.provision.operation import Operation, Payload
from goldenami.provision.shell import Batch, Compilation, Script, Steps, lines, sh


class Package(Operation):
    """Installs or removes packages with apt or dnf: from the distribution, from a repository that was added before, or
    from a file at a URL.

    A name that starts with @ is a group of packages: a task of apt ("@ssh-server"), a group of dnf ("@development").
    """

    kind: ClassVar[str] = "package"
    shorthand: ClassVar[str | None] = "name"

    name: PackageName | tuple[PackageName, ...] = Field(
        description="Name of the package, or of a group of packages with @ before it, or a list of names."
    )
    version: VersionConstraint | None = Field(
        None,
        description='Condition for the version: ">=1.22", a range ">=1.22,<2", or an exact "=1.22.1-9". The newest '
        "matching version in the repositories is installed, also if it is older than the installed one.",
    )
    state: Literal["present", "latest", "absent", "purge"] = Field(
        "present",
        description="present: installed. latest: installed in the newest version of the repositories. absent: removed. "
        "purge: removed with its configuration (with dnf the same as absent).",
    )
    hold: bool | None = Field(
        None,
        description="Whether later upgrades keep the package at its version (apt-mark hold, dnf versionlock). Default: "
        "not changed.",
    )
    recommends: bool = Field(True, description="Whether recommended packages are installed too.")
    url: Url | None = Field(
        None,
        description="URL of a package file (.deb, .rpm) to install instead of the package in the repositories. Its "
        "dependencies come from the repositories.",
    )
    sha256: Sha256 | None = Field(
        None, description="With url: SHA-256 of the file, in lower-case hex. Another file is refused."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Package:
        if not self.names:
            raise ValueError("expected at least one name")
        if len(self.names) > 1 and self.version is not None:
            raise ValueError("version needs exactly one package: write one operation for each package")
        gone = self.state in ("absent", "purge")
        if self.state != "present" and self.version is not None:
            raise ValueError(f"version has no effect with state {self.state}: remove one of them")
        if gone and self.hold is not None:
            raise ValueError(f"hold has no effect with state {self.state}: remove one of them")
        if self.groups and (self.version is not None or self.hold is not None or self.state in ("latest", "purge")):
            raise ValueError("a group of packages supports state present and absent only, without version and hold")
        if (self.url is None) != (self.sha256 is None):
            raise ValueError("expected url and sha256 together")
        if self.url is not None:
            if self.state != "present" or len(self.names) > 1 or self.groups:
                raise ValueError("url needs exactly one package, and state present")
            if any(relation != "eq" for relation, _ in self.relations):
                raise ValueError("with url, expected the exact version of the file, or no version")
        return self

    @property
    def given(self) -> tuple[str, ...]:
        return (self.name,) if isinstance(self.name, str) else self.name

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.given))

    @property
    def packages(self) -> tuple[str, ...]:
        return tuple(n for n in self.names if not n.startswith("@"))

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(n[1:] for n in self.names if n.startswith("@"))

    @property
    def relations(self) -> tuple[tuple[str, str], ...]:
        """The parts of ``version`` for compare_versions: (("ge", "1.22"), ("lt", "2"))."""
        return version_parts(self.version) if self.version is not None else ()

    @property
    def exact(self) -> str | None:
        return self.relations[0][1] if [r for r, _ in self.relations] == ["eq"] else None

    def title(self) -> str:
        extra = f" {self.version}" if self.version else "" if self.state == "present" else f" {self.state}"
        return f"package {', '.join(self.names)}{extra}"

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        state = "absent" if self.state in ("absent", "purge") else "present"
        return {f"package {name.partition(':')[0]}": state for name in self.names}

    def compile(self, to: Compilation) -> Steps:
        numbers = [to.package(name) for name in self.packages]
        if self.state in ("absent", "purge"):
            return self._gone(numbers)
        present = (self._check(name, n) for name, n in zip(self.packages, numbers, strict=True))
        check = lines(*self._read(), *present, *(self._check_group(name, "present") for name in self.groups))
        if self.url is not None:
            return Steps(check, lines(self._from_url(self.url), *self._held()))
        apply = lines(*self._read(), self._install(numbers), *self._held())
        if self.state == "latest":
            # The package lists are a cache, so a check may fetch them. Check mode uses the existing lists.
            fresh = Script('[ "$mode" = check ] || refresh_lists || return 2')
            newest = sh("are_newest @names || return", names=self.packages)
            return Steps(lines(check, fresh, newest), apply, check)
        one_call = self.hold is None and not self.groups and (self.exact is not None or len(self.relations) < 2)
        batch = Batch(" ".join(self._specs()), self._options()) if one_call else None
        return Steps(check, apply, batch=batch)

    def _read(self) -> list[Script]:
        return [Script("read_packages")] if self.packages else []

    def _specs(self) -> list[str]:
        """The arguments for install_packages, with the exact version if the recipe gives one."""
        return [f"{n}={self.exact}" if self.exact else n for n in self.packages]

    def _options(self) -> str:
        return "" if self.recommends else "--no-install-recommends"

    # --- checks -------------------------------------------------------------------------------------------------------

    def _check(self, name: str, number: int) -> Script:
        checks = [
            sh('[ -n "$version_@n" ] || { detail=@detail; return 1; }', n=number, detail=f"{name} is not installed")
        ]
        if self.relations:
            code = 'fits "$version_@n" @relations || { detail="$version_@n is installed"; return 1; }'
            checks.append(sh(code, n=number, relations=self._flat()))
        if self.hold is not None:
            code = '[ "$wanted_@n" = @wanted ] || { detail=@detail; return 1; }'
            wanted, detail = ("hi", "is not held") if self.hold else ("ii", "is held")
            checks.append(sh(code, n=number, wanted=wanted, detail=f"{name} {detail}"))
        return lines(*checks)

    def _check_group(self, name: str, state: str) -> Script:
        detail = f"the group {name} is {'not complete' if state == 'present' else 'installed'}"
        return sh("group_is @state @name || { detail=@detail; return 1; }", state=state, name=name, detail=detail)

    def _flat(self) -> list[str]:
        return [word for pair in self.relations for word in pair]

    # --- applies ------------------------------------------------------------------------------------------------------

    def _gone(self, numbers: list[int]) -> Steps:
        each = ['[ -z "$version_@n" ] || { detail="$version_@n is installed"; return 1; }']
        if self.state == "purge":
            each.append('[ "$wanted_@n" != rc ] || { detail="its configuration is there"; return 1; }')
        checks = (sh("\n".join(each), n=n) for n in numbers)
        check = lines(*self._read(), *checks, *(self._check_group(name, "absent") for name in self.groups))
        verb = "purge" if self.state == "purge" else "remove"
        # Missing packages are left out, because a package manager may refuse names that it does not know.
        there = (
            sh('[ -z "$version_@n$wanted_@n" ] || set -- "$@" @name', n=n, name=name)
            for name, n in zip(self.packages, numbers, strict=True)
        )
        remove = lines(
            *self._read(), Script("set --"), *there, sh('[ $# -eq 0 ] || remove_packages @verb "$@"', verb=verb)
        )
        groups = (sh("group_is absent @n || change_group remove @n", n=name) for name in self.groups)
        return Steps(check, lines(remove if self.packages else Script(""), *groups))

    def _install(self, numbers: list[int]) -> Script:
        parts = []
        if self.packages:
            install = self._call()
            if self.hold is not None and self.state != "latest":
                # If only the hold differs, the package must not be upgraded.
                right = [sh('[ -n "$version_@n" ]', n=n).text for n in numbers]
                if self.relations:
                    right.append(sh('fits "$version_@n" @relations', n=numbers[0], relations=self._flat()).text)
                install = sh("{ @right; } || {\n@install\n}", right=Script(" && ".join(right)), install=install)
            parts.append(install)
        if self.state == "latest":
            parts.append(sh("upgrade_packages @names", names=self.packages))
        parts += [sh("group_is present @n || change_group install @n", n=name) for name in self.groups]
        return lines(*parts)

    def _call(self) -> Script:
        options = [self._options()] if self._options() else []
        options.append("--allow-change-held-packages")
        if not self.relations:
            return sh("install_packages @options -- @specs", options=options, specs=self._specs())
        options.append("--allow-downgrades")
        if self.exact:
            return sh("install_packages @options -- @specs", options=options, specs=self._specs())
        return sh(
            'pick_version @name @relations\ninstall_packages @options -- @name="$picked"',
            name=self.packages[0],
            relations=self._flat(),
            options=options,
        )

    def _from_url(self, url: str) -> Script:
        return sh(
            """fetched=$(mktemp -d /var/tmp/goldenami.XXXXXX)
trap 'rm -rf -- "$fetched"' EXIT
chmod 0755 "$fetched"
_file=$fetched/package$suffix
download @url @sum "$_file"
_is=$(managed package_in "$_file")
[ "$_is" = @name ] || die "the file holds the package $_is, and not "@name
managed install_file @options "$_file\"""",
            url=url,
            sum=self.sha256 or "",
            name=self.packages[0],
            options=[self._options()] if self._options() else [],
        )

    def _held(self) -> list[Script]:
        if self.hold is None:
            return []
        return [sh("hold_packages @verb @names", verb="hold" if self.hold else "unhold", names=self.packages)]
