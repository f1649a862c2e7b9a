"""Locale, time zone, host name and environment variables of a system."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from goldenami.os import SYSTEMS, described
from goldenami.provision.fields import OneLine
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.text import Line
from goldenami.provision.writing import place_file, same_file


class Locale(Operation):
    """Sets the system's language and formats. A missing locale is generated.

    All locales except C.UTF-8 and POSIX need a package first: `locales` with apt, `glibc-langpack-XX` with dnf.
    """

    kind: ClassVar[str] = "locale"
    brings_units: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "lang"

    lang: str = Field(pattern=r"^[A-Za-z0-9_.@-]+$", description='Value of LANG: "en_US.UTF-8", "C.UTF-8".')
    generate: tuple[str, ...] = Field((), description="More locales to make available beside the default.")

    @model_validator(mode="after")
    def _names(self) -> Locale:
        for name in self.generate:
            if not re.fullmatch(r"[A-Za-z0-9_.@-]+", name):
                raise ValueError(f'{name!r} is not the name of a locale: expected a name such as "en_US.UTF-8"')
        return self

    def title(self) -> str:
        return " ".join(["locale", self.lang, *self.generate])

    def compile(self, to: Compilation) -> Steps:
        wanted = tuple(dict.fromkeys((self.lang, *self.generate)))
        known = [
            sh("@have || { detail=@why; return 1; }", have=_has_locale(name), why=f"{name} is not generated")
            for name in wanted
        ]
        check = lines(
            Script(_LOCALE_FILE),
            *known,
            sh(
                """_lang=$(sed -n 's/^LANG=//p' "$_file" 2>/dev/null | tail -n 1 | tr -d '\\042\\047')
[ "$_lang" = @lang ] || { detail="is ${_lang:-not set}"; return 1; }""",
                lang=self.lang,
            ),
        )
        made = [
            sh(
                """@have || {
command -v locale-gen >/dev/null || die @why
grep -qxF -e @entry /etc/locale.gen 2>/dev/null || printf '%s\\n' @entry >>/etc/locale.gen
_generate=1
}""",
                have=_has_locale(name),
                why=f"the locale {name} is missing: install its package first: {_locale_packages(name)}",
                entry=f"{name} {_charset(name)}",
            )
            for name in wanted
        ]
        apply = lines(
            Script(_LOCALE_FILE),
            Script("_generate=''"),
            *made,
            Script('[ -z "$_generate" ] || locale-gen'),
            sh(
                """_file=$(readlink -m -- "$_file")
beside "$_file"
{ if [ -e "$_file" ]; then grep -v '^LANG=' "$_file" || :; fi; printf 'LANG=%s\\n' @lang; } >"$new"
set_attributes "$new" 0644 root root
replace "$_file\"""",
                lang=self.lang,
            ),
        )
        return Steps(check, apply)


# Newer systems have locale.conf. On those, /etc/default/locale is a link to it or is missing.
_LOCALE_FILE = """_file=/etc/locale.conf
if [ -e /etc/default/locale ] && [ ! -L /etc/default/locale ] && [ ! -e /etc/locale.conf ]; then
_file=/etc/default/locale; fi"""


def _locale_packages(name: str) -> str:
    language = name.partition("_")[0]
    return described((system.locale_package(language), system) for system in SYSTEMS.values())


def _charset(name: str) -> str:
    return name.partition(".")[2].partition("@")[0] or "ISO-8859-1"


def _has_locale(name: str) -> Script:
    """Returns a condition: the locale exists. `locale -a` prints "en_US.utf8" for "en_US.UTF-8"."""
    base, dot, charset = name.partition(".")
    charset, at, modifier = charset.partition("@")
    pattern = base + (f".{charset.lower().replace('-', '')}" if dot else "") + at + modifier
    return sh("locale -a 2>/dev/null | grep -qixF -e @a -e @b", a=pattern, b=name)


class TimeZone(Operation):
    """Sets the time zone."""

    kind: ClassVar[str] = "timezone"
    brings_units: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "name"

    name: str = Field(
        pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$", description='Name of the zone: "Etc/UTC", "Europe/Berlin".'
    )

    def title(self) -> str:
        return f"timezone {self.name}"

    def compile(self, to: Compilation) -> Steps:
        zone = f"/usr/share/zoneinfo/{self.name}"
        # Some programs read the name in /etc/timezone, if that file exists.
        check = sh(
            """_now=$(readlink /etc/localtime) || _now='not set'
[ "${_now##*zoneinfo/}" = @name ] || { detail="is ${_now##*zoneinfo/}"; return 1; }
[ ! -e /etc/timezone ] || [ "$(cat /etc/timezone)" = @name ] || { detail='/etc/timezone differs'; return 1; }""",
            name=self.name,
        )
        apply = sh(
            """[ -f @zone ] || die @why
beside /etc/localtime
rm -f -- "$new"
ln -s -- @zone "$new"
replace /etc/localtime
[ ! -e /etc/timezone ] || printf '%s\\n' @name >/etc/timezone""",
            zone=zone,
            name=self.name,
            why=f"{zone} does not exist: correct the name, or install the package tzdata first",
        )
        return Steps(check, apply)


class HostName(Operation):
    """Sets the source of the host name: the instance's metadata, or a fixed name.

    By default each instance gets its name from its metadata. The name of the running builder does not change.
    """

    kind: ClassVar[str] = "hostname"
    brings_units: ClassVar[bool] = False

    source: Literal["cloud", "fixed"] = Field(
        "cloud", description="cloud: cloud-init sets the name. fixed: `name` is used."
    )
    name: str | None = Field(
        None,
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$",
        description="The fixed name.",
    )
    fqdn: bool = Field(False, description="Whether cloud-init uses the name with its domain.")

    @model_validator(mode="after")
    def _consistent(self) -> HostName:
        if (self.source == "fixed") != (self.name is not None):
            raise ValueError(
                "expected a name with source fixed" if self.source == "fixed" else "name needs source fixed"
            )
        return self

    def title(self) -> str:
        return f"hostname {self.name or 'from the cloud'}"

    def compile(self, to: Compilation) -> Steps:
        kept = str(self.source == "fixed").lower()
        text = f"# Whether the host keeps the name that it has.\npreserve_hostname: {kept}\n"
        text += f"prefer_fqdn_over_hostname: {str(self.fqdn).lower()}\n"
        path = "/etc/cloud/cloud.cfg.d/90-hostname.cfg"
        contents = to.place(text.encode())
        check, apply = [same_file(path, contents)], [place_file(path, contents)]
        if self.name is not None:
            name = to.place(f"{self.name}\n".encode())
            check.append(same_file("/etc/hostname", name))
            apply.append(place_file("/etc/hostname", name))
        return Steps(lines(*check), lines(*apply))


class EnvironmentVariable(Operation):
    """Sets an environment variable for all logins, in /etc/environment, which PAM reads. Services do not get it: use
    Environment= in their units.
    """

    kind: ClassVar[str] = "environment_variable"
    brings_units: ClassVar[bool] = False

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Name of the variable.")
    value: OneLine | None = Field(None, description="Value of the variable.")
    state: Literal["present", "absent"] = Field("present", description="Whether it is set.")

    @model_validator(mode="after")
    def _value(self) -> EnvironmentVariable:
        if (self.state == "present") != (self.value is not None):
            raise ValueError("expected a value" if self.state == "present" else "an absent variable has no value")
        if self.value is not None and re.search(r'["\\#]', self.value):
            raise ValueError('the value contains ", \\ or #, which PAM cannot read in /etc/environment')
        return self

    def title(self) -> str:
        return f"environment_variable {self.name}" + (" absent" if self.state == "absent" else "")

    def compile(self, to: Compilation) -> Steps:
        mine = rf"^[[:space:]]*(export[[:space:]]+)?{self.name}="
        fields: dict[str, object] = {"path": "/etc/environment", "regexp": mine, "state": self.state}
        if self.value is not None:
            quote = "" if re.fullmatch(r"\S*", self.value) else '"'
            fields |= {"line": f"{self.name}={quote}{self.value}{quote}", "create": True}
        return Line.model_validate(fields).compile(to)
