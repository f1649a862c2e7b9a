"""Resource limits of login sessions, and the PAM configuration of logins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from goldenami.os import SYSTEMS, Pam
from goldenami.provision.fields import OneLine
from goldenami.provision.operation import Operation, Payload
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.writing import is_gone, place_file, same_file

_ITEMS = (
    "core data fsize memlock nofile rss stack cpu nproc as maxlogins maxsyslogins priority locks sigpending msgqueue "
    "nice rtprio"
)
_NO_TOOL = "pam-auth-update is not installed. Only these systems have it: " + ", ".join(
    system.name for system in SYSTEMS.values() if system.pam == "pam-auth-update"
)


def _without(program: Pam, os: str, instead: str) -> str | None:
    """Return the reason why a system cannot run an operation that needs this program. None if it can, or if the system
    is unknown.
    """
    system = SYSTEMS.get(os)
    if system is None or system.pam == program:
        return None
    return f"{system.name} has no {program}: use {instead}"


class Limit(Operation):
    """Limits a resource of login sessions, in a separate file in /etc/security/limits.d (limits.conf(5)).

    The limit does not apply to system services, which do not log in: use LimitNOFILE= and similar settings in their
    units.
    """

    kind: ClassVar[str] = "limit"
    brings_units: ClassVar[bool] = False

    domain: str = Field(
        pattern=r"^[^\s#]+$",
        description='Who gets the limit: a user, "@group", "*" (all except root), or "%group" (for maxlogins).',
    )
    item: str = Field(description=f"The limited resource: {', '.join(_ITEMS.split())}.")
    value: str = Field(pattern=r"^(-?[0-9]+|unlimited|infinity)$", description='The limit: "0", "65536", "unlimited".')
    type: Literal["soft", "hard", "both"] = Field(
        "both", description="The user can raise a soft limit up to the hard limit."
    )

    @model_validator(mode="after")
    def _require_known_item(self) -> Limit:
        if self.item not in _ITEMS.split():
            raise ValueError(
                f"{self.item!r} is not an item of limits.conf: expected one of {', '.join(_ITEMS.split())}"
            )
        return self

    def title(self) -> str:
        return f"limit {self.domain} {self.item} {self.value}" + (f" ({self.type})" if self.type != "both" else "")

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return {f"the limit {self.item} ({self.type}) of {self.domain}": self.value}

    def compile(self, to: Compilation) -> Steps:
        kind = "-" if self.type == "both" else self.type
        domain = {"*": "all"}.get(self.domain, re.sub(r"[^A-Za-z0-9]+", "-", self.domain).strip("-"))
        path = f"/etc/security/limits.d/90-{domain}-{self.item}-{self.type}.conf"
        contents = to.place(f"{self.domain} {kind} {self.item} {self.value}\n".encode())
        return Steps(same_file(path, contents), place_file(path, contents))


class PamProfile(Operation):
    """Enables or disables a profile of pam-auth-update (systems with apt): PAM modules in `/etc/pam.d/common-*`, which
    all services use.

    The profile is a file in /usr/share/pam-configs, from `content` or from a package. pam-auth-update does not change
    common files that were edited by hand: then the operation fails, unless `force` permits to rewrite them.
    """

    kind: ClassVar[str] = "pam_profile"
    brings_units: ClassVar[bool] = False

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="Name of the profile's file in /usr/share/pam-configs.")
    content: str | None = Field(
        None, description="The profile, as in pam-auth-update(8). Default: a package contains the file."
    )
    enabled: bool = Field(True, description="Whether the modules of the profile are used.")
    force: bool = Field(False, description="Whether common files that were edited by hand are rewritten.")
    state: Literal["present", "absent"] = Field(
        "present", description="Absent disables the profile and removes its file."
    )

    @model_validator(mode="after")
    def _consistent(self) -> PamProfile:
        if self.state == "absent" and (self.content is not None or self.name == "unix"):
            raise ValueError(
                "the profile unix cannot be removed: logins need it"
                if self.name == "unix"
                else "content has no effect with state absent: remove one of them"
            )
        if self.content is not None:
            fields = {line.partition(":")[0] for line in self.content.splitlines() if re.match(r"[A-Za-z-]+:", line)}
            if missing := {"Name", "Default", "Priority"} - fields:
                raise ValueError(f"the field {sorted(missing)[0]} is missing in content: pam-auth-update needs it")
            if not fields & {f"{kind}-Type" for kind in ("Auth", "Account", "Password", "Session")}:
                raise ValueError("expected one of Auth-Type, Account-Type, Password-Type and Session-Type in content")
        return self

    def title(self) -> str:
        ending = "absent" if self.state == "absent" else "enabled" if self.enabled else "disabled"
        return f"pam_profile {self.name} {ending}"

    def unfit(self, os: str) -> str | None:
        return _without("pam-auth-update", os, "authselect")

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        state = "absent" if self.state == "absent" else "used" if self.enabled else "not used"
        return {f"the PAM profile {self.name}": state}

    def compile(self, to: Compilation) -> Steps:
        path = f"/usr/share/pam-configs/{self.name}"
        tool = sh("command -v pam-auth-update >/dev/null || die @why", why=_NO_TOOL)
        on = sh("cat /var/lib/pam/* 2>/dev/null | grep -qxF -e @line", line=f"Module: {self.name}")
        force = ["--force"] if self.force else []
        if self.state == "absent":
            remove = "pam-auth-update --package @force --remove @name\nrm -f -- @path"
            return Steps(
                lines(is_gone(path), sh("! { @on; } || { detail='is enabled'; return 1; }", on=on)),
                lines(tool, sh(remove, force=force, name=self.name, path=path)),
            )
        check, apply = [], [tool]
        if self.content is not None:
            contents = to.place((self.content.rstrip("\n") + "\n").encode())
            check.append(same_file(path, contents))
            apply.append(place_file(path, contents))
        else:
            check.append(sh("[ -e @path ] || { detail='is not installed'; return 1; }", path=path))
            apply.append(
                sh(
                    "[ -e @path ] || die @why",
                    path=path,
                    why=f"{path} is missing: add the package that contains it before, or give content",
                )
            )
        if self.enabled:
            check.append(sh("@on || { detail='is not enabled'; return 1; }", on=on))
            if self.content is not None:
                check += [self._in_use(kind) for kind in ("Auth", "Account", "Password", "Session")]
            apply.append(sh("pam-auth-update --package @force --enable @name", force=force, name=self.name))
        else:
            check.append(sh("! { @on; } || { detail='is enabled'; return 1; }", on=on))
            apply.append(sh("pam-auth-update --package @force --disable @name", force=force, name=self.name))
        return Steps(lines(*check), lines(*apply))

    def _in_use(self, kind: str) -> Script:
        """Code of a check: the common file has every module line of the profile, with its module and arguments."""
        wanted = [" ".join(line.split()) for line in self.module_lines(kind)]
        if not wanted:
            return Script("")
        tests = [
            sh(
                "tr -s '\\t ' '  ' </etc/pam.d/@file | grep -qF -e @line || { detail=@why; return 1; }",
                file=Script(f"common-{kind.lower()}"),
                line=line,
                why=f"/etc/pam.d/common-{kind.lower()} has no line: {line}",
            )
            for line in wanted
        ]
        return lines(*tests)

    def module_lines(self, kind: str) -> list[str]:
        """The module lines of a section, without the control field, which pam-auth-update can change."""
        found, inside = [], False
        for line in (self.content or "").splitlines():
            if re.match(r"[A-Za-z-]+:", line):
                inside = line.partition(":")[0] == kind
            elif inside and (match := re.search(r"\bpam_\w+\.so.*", line)):
                found.append(match[0])
        return found


class Authselect(Operation):
    """Selects the authselect profile and its features (systems with dnf), which configure PAM and nsswitch."""

    kind: ClassVar[str] = "authselect"
    brings_units: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "profile"

    profile: str = Field(pattern=r"^[A-Za-z0-9_/.-]+$", description='The profile: "minimal", "sssd", "custom/site".')
    features: tuple[OneLine, ...] = Field((), description='The complete list of features: "with-faillock".')

    @model_validator(mode="after")
    def _words(self) -> Authselect:
        for feature in self.features:
            if not re.fullmatch(r"[a-z0-9-]+", feature):
                raise ValueError(f'{feature!r} is not the name of a feature: expected a name such as "with-faillock"')
        return self

    def title(self) -> str:
        return " ".join(["authselect", self.profile, *self.features])

    def unfit(self, os: str) -> str | None:
        return _without("authselect", os, "pam_profile")

    def compile(self, to: Compilation) -> Steps:
        wanted = " ".join([self.profile, *sorted(self.features)])
        check = sh(
            """command -v authselect >/dev/null || { echo 'authselect is not installed'; return 2; }
_now=$(authselect current --raw 2>/dev/null) || _now='not chosen'
_profile=${_now%% *}
_now=$(printf '%s\\n' "$_now" | tr ' ' '\\n' | tail -n +2 | sort | tr '\\n' ' ')
_now="$_profile${_now:+ }${_now% }"
[ "$_now" = @wanted ] || { detail="is $_now"; return 1; }
authselect check >/dev/null 2>&1 || { detail='its files were edited by hand'; return 1; }""",
            wanted=wanted,
        )
        return Steps(
            check, sh("authselect select @profile @features --force", profile=self.profile, features=self.features)
        )
