"""Packages of a certain day: for the time of a build, a dated archive takes the place of the distribution's own.

apt: the distribution's own files (sources.list, debian.sources, ubuntu.sources) are put aside, and one for the dated
archive is written; what vendors have in sources.list.d stays. dnf: with a mirror, all files in /etc/yum.repos.d are
put aside for one; with a version of the distribution, the variable ``releasever`` is set. At the end all is put back.
"""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass
from typing import Literal

from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh


@dataclass(frozen=True, slots=True)
class Source:
    """``uri``, ``security_uri``: with {date} or {stamp}; None for the distribution's snapshots. ``key``: armored."""

    day: datetime.date | None = None
    uri: str | None = None
    security_uri: str | None = None
    suites: tuple[str, ...] = ()
    components: tuple[str, ...] = ("main",)
    key: str | None = None
    releasever: str | None = None


_APT_ASIDE = "/etc/apt/goldenami-aside"
_DNF_ASIDE = "/etc/dnf/goldenami-aside"
_APT_SOURCE = "/etc/apt/sources.list.d/goldenami-dated.sources"
_APT_KEY = "/etc/apt/keyrings/goldenami-dated.asc"
_DNF_SOURCE = "/etc/yum.repos.d/goldenami-dated.repo"
_DNF_KEY = "/etc/pki/rpm-gpg/goldenami-dated.asc"
_RELEASEVER = "/etc/dnf/vars/releasever"
_OWN_FILES = ("sources.list", *(f"sources.list.d/{n}.{s}" for n in ("debian", "ubuntu") for s in ("sources", "list")))
_STALE = Script(': >"$flags/stale-lists"\nrm -f "$work/updated"')


class DatedArchive(Operation):
    """The dated archive in place; part of the stage ``patches``, and not for recipes to write."""

    family: Literal["apt", "dnf"]
    day: datetime.date | None
    uri: str | None
    security_uri: str | None
    suites: tuple[str, ...]
    components: tuple[str, ...]
    key: str | None
    releasever: str | None

    @classmethod
    def of(cls, source: Source, family: Literal["apt", "dnf"]) -> DatedArchive:
        return cls(family=family, **asdict(source))

    def title(self) -> str:
        return f"packages of {self.day}" if self.day else f"packages of release {self.releasever}"

    def compile(self, to: Compilation) -> Steps:
        family = sh("family_is @family || return 2", family=self.family)
        if self.family == "apt":
            check, apply = self._apt(to)
        elif self.releasever is not None:
            check, apply = self._release(self.releasever)
        else:
            check, apply = self._dnf(to)
        return Steps(lines(family, check), lines(apply, _STALE))

    def _dated(self, uri: str) -> str:
        assert self.day is not None
        return uri.replace("{date}", self.day.isoformat()).replace("{stamp}", f"{self.day:%Y%m%d}T000000Z")

    def _apt(self, to: Compilation) -> tuple[Script, Script]:
        """The text is made on the host, which knows its release: into $work/dated."""
        snapshots = {
            "debian": "https://snapshot.debian.org/archive/debian/{stamp}/",
            "security": "https://snapshot.debian.org/archive/debian-security/{stamp}/",
            "ubuntu": "https://snapshot.ubuntu.com/ubuntu/{stamp}/",
        }
        text = sh(
            """_stanza() {
# A Release file of a former day is out of date by its own word.
printf 'Types: deb\\nURIs: %s\\nSuites: %s\\nComponents: %s\\nCheck-Valid-Until: no\\nSigned-By: %s\\n\\n' "$@"
}
_id=$(. /etc/os-release; echo "$ID") _release=$(. /etc/os-release; echo "$VERSION_CODENAME")
_uri=@uri _security=@security _suites=@suites _components=@components
case $_id in debian) _own=@debian ;; ubuntu) _own=@ubuntu ;; *) _own='' ;; esac
if [ -z "$_uri" ]; then
[ -n "$_own" ] || { echo "no archive of former days is known for $_id: name one in patches.mirror"; return 2; }
_uri=$_own
# Whatever components the distribution's own sources have.
_components=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources @aside/* 2>/dev/null |
sed -n 's/^Components://p; s/^deb .*[a-z] \\(main .*\\)$/\\1/p' | tr -s ' ' '\\n' | grep . | sort -u | tr '\\n' ' ')
_components=${_components% }
[ "$_id" != debian ] || _security=@snapshot_security
fi
[ -n "$_suites" ] || {
_suites="$_release $_release-updates"
[ -n "$_security" ] || _suites="$_suites $_release-security"
}
_keys=@key
[ -n "$_keys" ] || _keys=/usr/share/keyrings/$_id-archive-keyring.gpg
{
_stanza "$_uri" "$_suites" "${_components:-main}" "$_keys"
[ -z "$_security" ] || _stanza "$_security" "$_release-security" "${_components:-main}" "$_keys"
} >"$work/dated\"""",
            uri=self._dated(self.uri) if self.uri else "",
            security=self._dated(self.security_uri) if self.security_uri else "",
            suites=" ".join(self.suites),
            components=" ".join(self.components),
            debian=self._dated(snapshots["debian"]),
            ubuntu=self._dated(snapshots["ubuntu"]),
            snapshot_security=self._dated(snapshots["security"]),
            key=_APT_KEY if self.key else "",
            aside=Script(_APT_ASIDE),
        )
        own = [f"/etc/apt/{name}" for name in _OWN_FILES]
        check = sh(
            """for _file in @own; do
[ ! -e "$_file" ] || { detail="$_file is in use"; return 1; }
done
cmp -s "$work/dated" @source || { detail='it is not the source'; return 1; }""",
            own=own,
            source=_APT_SOURCE,
        )
        apply = sh(
            """mkdir -p @aside
for _file in @own; do
[ ! -e "$_file" ] || mv -f "$_file" @aside/
done
beside @source
cat "$work/dated" >"$new"
set_attributes "$new" 0644 root root
replace @source""",
            aside=_APT_ASIDE,
            own=own,
            source=_APT_SOURCE,
        )
        return lines(text, check), lines(self._key(to, _APT_KEY), apply)

    def _dnf(self, to: Compilation) -> tuple[Script, Script]:
        if self.uri is None or self.key is None:
            return Script("echo 'a day needs patches.mirror with a key here, or releasever'\nreturn 2"), Script(":")
        text = (
            f"[goldenami-dated]\nname=packages of {self.day}\nbaseurl={self._dated(self.uri)}\nenabled=1\ngpgcheck=1\n"
            f"gpgkey=file://{_DNF_KEY}\n"
        )
        values: dict[str, str | Script] = {
            "contents": to.place(text.encode()),
            "source": _DNF_SOURCE,
            "aside": _DNF_ASIDE,
        }
        check = sh(
            """cmp -s @contents @source || { detail='it is not the source'; return 1; }
for _file in /etc/yum.repos.d/*.repo; do
[ "$_file" = @source ] || { detail="$_file is in use"; return 1; }
done""",
            **values,
        )
        apply = sh(
            """mkdir -p @aside/repos
for _file in /etc/yum.repos.d/*.repo; do
[ "$_file" = @source ] || [ ! -e "$_file" ] || mv -f "$_file" @aside/repos/
done
beside @source
cat @contents >"$new"
set_attributes "$new" 0644 root root
replace @source""",
            **values,
        )
        return check, lines(self._key(to, _DNF_KEY), apply)

    def _release(self, release: str) -> tuple[Script, Script]:
        values = {"file": _RELEASEVER, "aside": _DNF_ASIDE, "release": release}
        check = sh("[ \"$(cat @file 2>/dev/null)\" = @release ] || { detail='it is another one'; return 1; }", **values)
        apply = sh(
            """mkdir -p @aside
[ ! -e @file ] || [ -e @aside/releasever ] || cp -p @file @aside/releasever
mkdir -p "$(dirname @file)"
printf '%s\\n' @release >@file""",
            **values,
        )
        return check, apply

    def _key(self, to: Compilation, path: str) -> Script:
        if self.key is None:
            return Script("")
        code = 'beside @path\ncat @contents >"$new"\nset_attributes "$new" 0644 root root\nreplace @path'
        return sh(code, path=path, contents=to.place((self.key.strip() + "\n").encode()))


class OwnArchive(Operation):
    """The distribution's own archive in its place again; part of the last stage, and not for recipes to write."""

    family: Literal["apt", "dnf"]

    def title(self) -> str:
        return "packages of the distribution's own archive again"

    def compile(self, to: Compilation) -> Steps:
        aside = _APT_ASIDE if self.family == "apt" else _DNF_ASIDE
        check = sh("[ ! -d @aside ] || { detail='the dated one is in its place'; return 1; }", aside=aside)
        if self.family == "apt":
            apply = sh(
                """rm -f @dated
for _file in @aside/*; do
[ -e "$_file" ] || continue
case ${_file##*/} in sources.list) mv -f "$_file" /etc/apt/ ;; *) mv -f "$_file" /etc/apt/sources.list.d/ ;; esac
done
rmdir @aside""",
                aside=Script(_APT_ASIDE),
                dated=[_APT_SOURCE, _APT_KEY],
            )
        else:
            apply = sh(
                """rm -f @dated
for _file in @aside/repos/*.repo; do
[ ! -e "$_file" ] || mv -f "$_file" /etc/yum.repos.d/
done
if [ -e @aside/releasever ]; then mv -f @aside/releasever @file
elif [ ! -d @aside/repos ]; then rm -f @file; fi
rm -rf @aside""",
                aside=Script(_DNF_ASIDE),
                dated=[_DNF_SOURCE, _DNF_KEY],
                file=_RELEASEVER,
            )
        return Steps(check, lines(apply, _STALE))
