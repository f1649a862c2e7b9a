"""apt and dpkg: the package manager of Debian and its derivatives."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from goldenami.os.managers.manager import Code, Hint, PackageManager, Place, Proofs, RepositoryText, Snapshots, Source
from goldenami.os.managers.writing import SHOW_FILES, put_file
from goldenami.os.system import SelfUpgrade, UpgradePolicy
from goldenami.shell import Script, lines, sh

_ASIDE = "/etc/apt/goldenami-aside"
_DATED_SOURCE = "/etc/apt/sources.list.d/goldenami-dated.sources"
_DATED_KEY = "/etc/apt/keyrings/goldenami-dated.asc"
_AT_BOOT = "/run/goldenami/boot"  # apt.sh has it as $flags/boot
_ENVIRONMENT = "DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none"

# Prints a digest of all that decides what an update fetches: sources, keys, mirrors, proxies, preferences.
_CONFIGURATION = "find -L /etc/apt -type f -exec sha256sum {} + 2>/dev/null | sort | sha256sum"
# Ends with 0 if the base's settings let cloud-init use apt.
_CLOUD_INIT_USES_APT = r"""cat /etc/cloud/cloud.cfg /etc/cloud/cloud.cfg.d/*.cfg 2>/dev/null |
grep -E "^[\"']?(packages|(package|apt)_(update|upgrade))[\"']?:" |
grep -qvE ': *(false|no|off|null|\[ *\]) *(#.*)?$'"""
# gzip is larger than xz, but unpacking xz takes longer than fetching it. Repositories without gzip are used as well.
_UPDATE = "-o Acquire::CompressionTypes::Order::=gz -o APT::Update::Error-Mode=any"


class Apt(PackageManager):
    name = "apt"
    precedence = 0
    detect = Script("[ -s /var/lib/dpkg/status ]")
    # The lists are fetched in a unit of its own, because cloud-init waits for the commands of its user data. The limits
    # are for hosts that cannot reach their package sources: the boot does not end before. A base whose own cloud-init
    # uses apt during its boot would find the lock taken.
    at_boot = Script(
        f"""(umask 077 && mkdir -p {_AT_BOOT})
{_CLOUD_INIT_USES_APT} || {{
cat >{_AT_BOOT}/fetch <<'END'
exec >{_AT_BOOT}/log 2>&1
{_CONFIGURATION} >{_AT_BOOT}/configuration
{_ENVIRONMENT} timeout 60 apt-get -q -o Acquire::http::Timeout=10 -o Acquire::https::Timeout=10 \\
-o Acquire::Retries=0 {_UPDATE} -o Acquire::Languages=none update && : >{_AT_BOOT}/fetched
exit 0
END
! command -v systemd-run >/dev/null || systemd-run --quiet --no-block --collect --unit=goldenami-package-lists \\
--property=Type=oneshot /bin/sh {_AT_BOOT}/fetch || :
}}"""
    )
    inventory = Script(r"dpkg-query -W -f '${db:Status-Abbrev}|${Package}|${Version}|${Architecture}\n'")
    package_type = "deb"
    # Licences are in files for people. Some of them have a form for programs, which its first line names:
    # https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
    details = Script(
        r"""_fields='${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}'
dpkg-query -W -f "package\t$_fields\t"'${Maintainer}\t\t${Homepage}\n' || return
for _file in /usr/share/doc/*/copyright; do [ ! -f "$_file" ] || printf '%s\n' "$_file"; done |
xargs -d '\n' -r awk -v OFS='\t' 'FNR == 1 {
known = /^Format:.*copyright-format/; files = 0
count = split(FILENAME, parts, "/"); name = parts[count - 1]
}
!known { next }
/^Files:/ { files = 1 }
/^[ \t]*$/ { files = 0 }
files && /^License:/ {
text = substr($0, 9); gsub(/^[ \t]+|[ \t\r]+$/, "", text)
if (text != "" && !((name, text) in seen)) { seen[name, text] = 1; print "licence", name, substr(text, 1, 200) }
}' || [ $? = 123 ]"""
    )
    owned = Script(
        """cat /var/lib/dpkg/info/*.list && {
[ ! -s /var/lib/dpkg/diversions ] || awk 'NR % 3 == 2' /var/lib/dpkg/diversions
}"""
    )
    sources = Script(
        f"""echo apt
{SHOW_FILES}
show_files /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources \\
/etc/apt/mirrors/* /etc/apt/preferences /etc/apt/preferences.d/*
for _key in /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d/*.gpg /etc/apt/trusted.gpg.d/*.asc $(
cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
sed -n 's/.*[Ss]igned-[Bb]y *[:=] *\\([^]]*\\).*/\\1/p' | tr ', ' '\\n\\n' | grep '^/' | sort -u); do
[ ! -f "$_key" ] || {{ echo "=$_key"; head -c 262144 "$_key" | base64; }}
done | sed 's/^[^=]/ &/'
echo =held
dpkg-query -W -f '${{db:Status-Abbrev}} ${{Package}}\\n' | sed -n 's/^hi */ /p'"""
    )
    source_files = (
        "/etc/apt/sources.list",
        "/etc/apt/sources.list.d/*.list",
        "/etc/apt/sources.list.d/*.sources",
        "/etc/apt/mirrors/*",
    )
    is_installed = Script(
        """case $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) in ?i*) true ;; *) false ;; esac"""
    )
    database = "/var/lib/dpkg"
    suffix = ".deb"
    downloads = ("/var/cache/apt/archives",)
    caches = (
        "/var/cache/apt/archives/*.deb",
        "/var/cache/apt/archives/partial/*",
        "/var/cache/apt/*.bin",
        "/var/lib/apt/lists/*_*",
        "/var/lib/apt/lists/partial/*",
        "/var/cache/debconf/*-old",
        "/var/lib/dpkg/*-old",
    )
    proofs = Proofs(
        # It only reads, so it need not wait for a lock that apt's own timers may hold after a boot. apt refuses it with
        # the words of `apt-get check` if a dependency of any package is broken. What the repositories offer, which no
        # image has, is left out, and no cache is written: on a builder, to read all that again took a second.
        plan="apt-get -o Debug::NoLocking=true -o Dir::State::Lists=/nonexistent -o Dir::Cache::pkgcache= "
        "-o Dir::Cache::srcpkgcache= -s install dpkg",
        unpack_folder="eval $(apt-config shell f APT::ExtractTemplates::TempDir); echo ${f:-/tmp}",
        audit="dpkg --audit",
        # --print-uris downloads nothing. `apt-get indextargets` would need the package lists.
        sources="""apt-get update --print-uris | sed -n "s/^'\\([^']*\\)'.*/\\1/p\"""",
        proxy="apt-config dump Acquire::http::Proxy Acquire::https::Proxy | grep Proxy",
    )
    hints: tuple[Hint, ...] = (
        (
            r"E: Unable to locate package|E: Package '.*' has no installation candidate|find task",
            "No repository of this host has a package of that name: check the name, or add its repository before.",
        ),
        (
            r"E: Version '.*' for '.*' was not found",
            "The repositories do not have that version: `apt-cache policy PACKAGE` on such a host lists theirs.",
        ),
        (
            r"this host has no package source",
            "Add the distribution's archive to the base, or set patches.level to none.",
        ),
        (
            r"this host has no source of security updates",
            "Add the security archive to the base, or set patches.level to all if its mirror has security updates.",
        ),
        (
            r"NO_PUBKEY|is not signed|The following signatures couldn't be verified",
            "The repository's key is missing or wrong: check `key` of the repository.",
        ),
        (
            r"Unable to acquire the dpkg frontend lock",
            "Another program on the host held dpkg's lock for more than 5 minutes: stop it, or wait and try again.",
        ),
    )
    mirror_needs_key = False
    binary_keys = True

    @cached_property
    def functions(self) -> str:
        made = f"""
apt_configuration() {{
  {_CONFIGURATION}
}}

apt_update() {{
  apt_get {_UPDATE} update
}}
"""
        return Path(__file__).with_suffix(".sh").read_text(encoding="utf-8") + made

    # --- repositories -------------------------------------------------------------------------------------------------

    def key_path(self, name: str, *, binary: bool) -> str:
        # apt distinguishes armored and binary keys by the suffix of the file only.
        return f"/etc/apt/keyrings/{name}.{'gpg' if binary else 'asc'}"

    def repository_files(self, repository: RepositoryText) -> list[tuple[str, str]]:
        sources = f"/etc/apt/sources.list.d/{repository.name}.sources"
        preferences = f"/etc/apt/preferences.d/{repository.name}"
        return [(sources, self._deb822(repository)), (preferences, self._preferences(repository))]

    def repository_paths(self, name: str) -> list[str]:
        return [
            f"/etc/apt/sources.list.d/{name}.sources",
            f"/etc/apt/preferences.d/{name}",
            f"/etc/apt/keyrings/{name}.asc",
            f"/etc/apt/keyrings/{name}.gpg",
        ]

    def _deb822(self, repository: RepositoryText) -> str:
        fields = {
            "Types": " ".join(repository.types),
            "URIs": " ".join(repository.uris),
            "Suites": " ".join(repository.suites),
            "Components": " ".join(repository.components),
            "Architectures": " ".join(repository.architectures),
            "Signed-By": repository.key,
            "Trusted": "" if repository.key else "yes",
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)

    def _preferences(self, repository: RepositoryText) -> str:
        pin = repository.pin or f'origin "{urlsplit(repository.uris[0]).hostname or ""}"'
        stanzas = []
        if repository.only:  # the more specific entry wins in any order
            stanzas.append(("*", -1))
            stanzas.append((" ".join(repository.only), 500 if repository.priority is None else repository.priority))
        elif repository.priority is not None:
            stanzas.append(("*", repository.priority))
        return "\n".join(f"Package: {names}\nPin: {pin}\nPin-Priority: {number}\n" for names, number in stanzas)

    # --- patches ------------------------------------------------------------------------------------------------------

    def upgrades(self, level: str, exclude: tuple[str, ...]) -> Code:
        # The check writes three files: the excluded names; lines "name old new" of the packages to upgrade; and lines
        # "label codename" of the package sources that the host has.
        security = level == "security"
        archives = sh(
            """_format='$(LABEL)|$(CODENAME)|$(SUITE)'
_indices=$(apt-get indextargets --format "$_format" 'Created-By: Packages' 2>/dev/null)
_origins=$(printf '%s\\n' "$_indices" | awk -F '|' 'NF && !seen[$1 FS $2]++ { printf "%s%s %s", s, $1, $2; s = ", " }')
if [ "$mode" != check ] && [ -z "$_origins" ]; then
echo 'this host has no package source: apt-get update found no index, so no update can be found'
return 2
fi"""
        )
        if security:
            archives += sh(
                """
case $mode,$_indices in check,*) ;; *-security*) ;; *)
echo "this host has no source of security updates: its package sources are $_origins"
return 2
esac"""
            )
        listing = sh(
            """: >"$work/excluded"
dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' | while read -r _state _name; do
case $_state in ii) ;; *) continue ;; esac
case $_name in @patterns) printf '%s\\n' "$_name" ;; esac
done >"$work/excluded"
apt-get -s -q -o Debug::NoLocking=1 upgrade --with-new-pkgs >"$work/simulated" || { cat "$work/simulated"; return 2; }
# Inst NAME [OLD] (NEW ORIGIN, ORIGIN [ARCHITECTURE]); without [OLD] it is a new package.
awk -v origin=@origin -v excluded="$work/excluded" '
BEGIN { while ((getline name < excluded) > 0) skip[name] = 1 }
$1 == "Inst" && $3 ~ /^\\[/ && !($2 in skip) {
rest = $0; sub(/^[^(]*\\(/, "", rest); sub(/\\[[^]]*\\]\\)?.*$/, "", rest)
if (origin != "" && index(rest, origin) == 0) next
old = $3; gsub(/[][]/, "", old); new = $4; sub(/^\\(/, "", new)
print $2, old, new
}' "$work/simulated" >"$work/upgrades"
# "1 upgraded, 0 newly installed, 0 to remove and 2 not upgraded.": all that the archives have newer.
awk '/^[0-9]+ upgraded, / { print $1 + $(NF - 2) }' "$work/simulated" >"$work/due\"""",
            patterns=Script(" | ".join(exclude) or "''"),
            origin="-security" if security else "",
        )
        check = lines(
            Script('[ "$mode" = check ] || refresh_lists || return 2'),
            archives,
            listing,
            Script('_due=$(cat "$work/due")'),
            Script('printf \'%s\\n\' "$_origins" >"$work/origins"'),
            Script('[ -s "$work/upgrades" ] || { detail="0 of ${_due:-0} updates, from $_origins"; return 0; }'),
            Script('detail="$(wc -l <"$work/upgrades") of $_due updates, from $_origins"\nreturn 1'),
        )
        apply = sh(
            """cp "$work/upgrades" "$work/upgraded"
dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' | awk '$1 == "hi" { print $2 }' >"$work/held"
grep -vxF -f "$work/held" "$work/excluded" >"$work/to-hold" || :
if [ -s "$work/to-hold" ]; then
trap 'xargs apt-mark unhold <"$work/to-hold" >/dev/null' EXIT
xargs apt-mark hold <"$work/to-hold" >/dev/null
fi
awk '{ print $1 "=" $3 }' "$work/upgraded" | xargs sh -c 'exec "$@" </dev/null' sh env @environment \\
apt-get -y -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 \\
-o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-confdef $(apt_temporary) \\
install --only-upgrade --
dpkg-query -W -f '${Package} ${Version}\\n' | sort -u >"$work/now"
awk '{ print $1, $3 }' "$work/upgraded" | sort -u | comm -12 - "$work/now" >"$work/done"
awk '{ print $1 ": " $2 " -> " $3 }' "$work/upgraded"
note "$(wc -l <"$work/done") of $(cat "$work/due") updates installed, from $(cat "$work/origins")\"""",
            environment=_ENVIRONMENT.split(),
        )
        return Code(check, apply)

    def dated(self, source: Source, system: str, snapshots: Snapshots | None, place: Place) -> Code:
        """Moves the distribution's own files (sources.list, SYSTEM.sources) to another directory and writes a file for
        the dated archive. Files of vendors in sources.list.d are kept. The host writes the text of the new file to
        $work/dated, because it contains the host's release.
        """
        own = ["/etc/apt/sources.list", *(f"/etc/apt/sources.list.d/{system}.{end}" for end in ("sources", "list"))]
        if source.uri is not None:
            archive = sh("_components=@given", given=" ".join(source.components))
            uri, security = source.uri, source.security_uri
        elif snapshots is not None:
            archive = sh(
                """# The components of the distribution's own sources.
_components=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources @aside/* 2>/dev/null |
sed -n 's/^Components://p; s/^deb .*[a-z] \\(main .*\\)$/\\1/p' | tr -s ' ' '\\n' | grep . | sort -u | tr '\\n' ' ')
_components=${_components% }""",
                aside=Script(_ASIDE),
            )
            uri, security = snapshots.uri, snapshots.security_uri
        else:
            missing = f"echo 'no archive of past days is known for {system}: give one in patches.mirror'\nreturn 2"
            return Code(Script(missing), Script(":"))
        text = sh(
            """_stanza() {
# The Release file of a past day has expired (its field Valid-Until).
printf 'Types: deb\\nURIs: %s\\nSuites: %s\\nComponents: %s\\nCheck-Valid-Until: no\\nSigned-By: %s\\n\\n' "$@"
}
_id=$(. /etc/os-release; echo "$ID") _release=$(. /etc/os-release; echo "$VERSION_CODENAME")
_security=@security _suites=@suites
@archive
[ -n "$_suites" ] || {
_suites="$_release $_release-updates"
[ -n "$_security" ] || _suites="$_suites $_release-security"
}
_keys=@key
[ -n "$_keys" ] || _keys=/usr/share/keyrings/$_id-archive-keyring.gpg
{
_stanza @uri "$_suites" "${_components:-main}" "$_keys"
[ -z "$_security" ] || _stanza "$_security" "$_release-security" "${_components:-main}" "$_keys"
} >"$work/dated\"""",
            uri=source.dated(uri),
            security=source.dated(security) if security else "",
            suites=" ".join(source.suites),
            archive=archive,
            key=_DATED_KEY if source.key else "",
        )
        check = sh(
            """for _file in @own; do
[ ! -e "$_file" ] || { detail="$_file is in use"; return 1; }
done
cmp -s "$work/dated" @source || { detail='the source file differs'; return 1; }""",
            own=own,
            source=_DATED_SOURCE,
        )
        apply = sh(
            """mkdir -p @aside
for _file in @own; do
[ ! -e "$_file" ] || mv -f "$_file" @aside/
done
@put""",
            aside=_ASIDE,
            own=own,
            put=put_file(_DATED_SOURCE, Script('"$work/dated"')),
        )
        return Code(lines(text, check), lines(_dated_key(source, place), apply))

    def undated(self) -> Code:
        check = sh("[ ! -d @aside ] || { detail='the dated archive is in use'; return 1; }", aside=_ASIDE)
        apply = sh(
            """rm -f @dated
for _file in @aside/*; do
[ -e "$_file" ] || continue
case ${_file##*/} in sources.list) mv -f "$_file" /etc/apt/ ;; *) mv -f "$_file" /etc/apt/sources.list.d/ ;; esac
done
rmdir @aside""",
            aside=Script(_ASIDE),
            dated=[_DATED_SOURCE, _DATED_KEY],
        )
        return Code(check, apply)


APT = Apt()


def _dated_key(source: Source, place: Place) -> Script:
    if source.key is None:
        return Script("")
    return put_file(_DATED_KEY, place((source.key.strip() + "\n").encode()))


_SIGNED = re.compile(
    r"(linux|fwupd)-signed(?:-(?:amd64|arm64|i386)|(-.+))?|(grub2|grub-efi)(?:-(?:amd64|arm64|ia32))?-signed"
)


def signed_source(source: str, version: str) -> tuple[str, str]:
    """Return the source package of a source package that only signs its files, with its version; any other as it is.

    The version has the other's in it, with + for each -: linux-signed-amd64 6.1.128+1 is linux 6.1.128-1; that of
    grub-efi-amd64-signed begins with a number of its own: 1+2.06+13+deb12u1 is grub2 2.06-13+deb12u1.
    """
    found = _SIGNED.fullmatch(source)
    if found is None:
        return source, version
    if found[3] is not None:
        other = version.partition("+")[2] or version
        return "grub2", other if "-" in other else other.replace("+", "-", 1)
    name = f"{found[1]}{found[2] or ''}"
    return name, version if "-" in version else version.replace("+", "-", 1)


def unattended_upgrades(
    policy: UpgradePolicy | None, vendor: str, security: tuple[str, ...], others: tuple[str, ...]
) -> SelfUpgrade:
    """Return the configuration of the package unattended-upgrades. ``security``: its origin patterns for security
    updates. ``others``: those for all other updates.
    """
    switch = 0 if policy is None else 1
    periodic = f'APT::Periodic::Update-Package-Lists "{switch}";\nAPT::Periodic::Unattended-Upgrade "{switch}";\n'
    # The files sort after the distribution's 20auto-upgrades and 50unattended-upgrades, since the last file wins.
    return SelfUpgrade(
        timer="apt-daily-upgrade.timer",
        install=None if policy is None else "unattended-upgrades",
        files={
            "/etc/apt/apt.conf.d/60goldenami-periodic": periodic,
            "/etc/apt/apt.conf.d/60goldenami-unattended": (
                None if policy is None else _settings(policy, vendor, security, others)
            ),
        },
        started=policy is not None,
    )


def _settings(policy: UpgradePolicy, vendor: str, security: tuple[str, ...], others: tuple[str, ...]) -> str:
    origins = [*security, *(others if policy.level == "all" else ())]
    text = [
        f"// What {vendor}'s unattended-upgrades installs on this image.",
        "#clear Unattended-Upgrade::Origins-Pattern;",
        "#clear Unattended-Upgrade::Allowed-Origins;",
        "Unattended-Upgrade::Origins-Pattern {",
        *(f'  "{origin}";' for origin in origins),
        "};",
        "#clear Unattended-Upgrade::Package-Blacklist;",
        "Unattended-Upgrade::Package-Blacklist {",
        *(f'  "{_regex(pattern)}";' for pattern in policy.exclude),
        "};",
        f'Unattended-Upgrade::Automatic-Reboot "{"true" if policy.reboot == "if-needed" else "false"}";',
    ]
    return "\n".join(text) + "\n"


def _regex(pattern: str) -> str:
    """Returns a shell pattern as a Python regular expression, which unattended-upgrades matches from the start."""
    return "".join({"*": ".*", "?": "."}.get(c, re.escape(c).replace("\\-", "-")) for c in pattern) + "$"
