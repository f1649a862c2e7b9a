"""dnf and rpm: the package manager of Fedora and its derivatives."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from goldenami.os.managers.manager import Code, Hint, PackageManager, Place, RepositoryText, Snapshots, Source
from goldenami.os.managers.writing import put_file
from goldenami.os.system import SelfUpgrade, UpgradePolicy
from goldenami.shell import Script, lines, sh

_ASIDE = "/etc/dnf/goldenami-aside"
_DATED_SOURCE = "/etc/yum.repos.d/goldenami-dated.repo"
_DATED_KEY = "/etc/pki/rpm-gpg/goldenami-dated.asc"
_RELEASEVER = "/etc/dnf/vars/releasever"

# dnf itself replaces the variables in the URLs. It reads no index for this.
_REPOSITORIES = """\
import dnf, json
base = dnf.Base()
base.conf.read()
base.conf.substitutions.update_from_etc(base.conf.installroot)
base.read_all_repos()
for repo in base.repos.iter_enabled():
    print(json.dumps({
        "id": repo.id,
        "baseurl": list(repo.baseurl),
        "mirrors": repo.metalink or repo.mirrorlist,
        "priority": repo.priority,
        "only": list(repo.includepkgs),
        "exclude": [*repo.excludepkgs, *base.conf.excludepkgs],
    }))
"""


class Dnf(PackageManager):
    name = "dnf"
    precedence = 1
    detect = Script("command -v dnf >/dev/null")
    inventory = Script(r"rpm -qa --queryformat 'ii |%{NAME}|%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}|%{ARCH}\n'")
    package_type = "rpm"
    # The source package is a file name: NAME-VERSION-RELEASE.src.rpm. The epoch is that of the package.
    details = Script(
        r"""_version='%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}'
_more='%|SOURCERPM?{%{SOURCERPM}}|\t\t%|VENDOR?{%{VENDOR}}|\t%|LICENSE?{%{LICENSE}}|\t%|URL?{%{URL}}|'
rpm -qa --queryformat "package\tii \t%{NAME}\t$_version\t%{ARCH}\t$_more\n"
"""
    )
    owned = Script("rpm -qal")
    sources = Script(
        f"""echo dnf
_python=$(sed -n '1s/^#! *\\([^ ]*\\).*/\\1/p' "$(command -v dnf)")
echo =repositories
"$_python" -c '{_REPOSITORIES}' 2>/dev/null | sed 's/^/ /'
echo =held
[ ! -f /etc/dnf/plugins/versionlock.list ] || sed 's/^/ /' /etc/dnf/plugins/versionlock.list
echo"""
    )
    source_files = ("/etc/yum.repos.d/*.repo",)
    is_installed = Script('rpm -q "$1" >/dev/null 2>&1')
    database = "/var/lib/rpm"
    suffix = ".rpm"
    downloads = ("/var/cache/dnf", "/var/cache/yum")
    caches = ("/var/cache/dnf/*", "/var/cache/yum/*")
    proofs = None
    hints: tuple[Hint, ...] = (
        (
            r"Unable to find a match",
            "No repository of this host has a package of that name: check the name, or add its repository before.",
        ),
        (
            r"this host has no enabled package repository",
            "Enable a repository in the base, or set patches.level to none.",
        ),
        (
            r"has security advisories \(updateinfo\)",
            "Mirror the file updateinfo with the packages, or set patches.level to all.",
        ),
        (
            r"is not signed|GPG check FAILED|Bad PGP signature",
            "The repository's key is missing or wrong: check `key` of the repository.",
        ),
    )
    mirror_needs_key = True
    binary_keys = False

    @cached_property
    def functions(self) -> str:
        return Path(__file__).with_suffix(".sh").read_text(encoding="utf-8")

    # --- repositories -------------------------------------------------------------------------------------------------

    def key_path(self, name: str, *, binary: bool) -> str:
        return f"/etc/pki/rpm-gpg/{name}.asc"

    def repository_files(self, repository: RepositoryText) -> list[tuple[str, str]]:
        fields = {
            "name": repository.name,
            "baseurl": " ".join(repository.uris),
            "enabled": "1",
            "gpgcheck": "1" if repository.key else "0",
            "repo_gpgcheck": "1" if repository.signed_metadata else "0",
            "gpgkey": f"file://{repository.key}" if repository.key else "",
            "priority": "" if repository.priority is None else str(repository.priority),
            "includepkgs": " ".join(repository.only),
        }
        text = "".join(f"{name}={value}\n" for name, value in fields.items() if value)
        return [(f"/etc/yum.repos.d/{repository.name}.repo", f"[{repository.name}]\n{text}")]

    def repository_paths(self, name: str) -> list[str]:
        return [f"/etc/yum.repos.d/{name}.repo", f"/etc/pki/rpm-gpg/{name}.asc"]

    # --- patches ------------------------------------------------------------------------------------------------------

    def upgrades(self, level: str, exclude: tuple[str, ...]) -> Code:
        security = level == "security"
        options = [*(f"--exclude={pattern}" for pattern in exclude), *(["--security"] if security else [])]
        archives = Script(
            """[ "$mode" = check ] || dnf -q --refresh makecache || return 2
_origins=$(dnf -q repolist --enabled 2>/dev/null | awk 'NR > 1 { printf "%s%s", s, $1; s = ", " }')
[ "$mode" = check ] || [ -n "$_origins" ] || {
echo 'this host has no enabled package repository, so no update can be found'
return 2
}
printf '%s\\n' "$_origins" >"$work/origins\""""
        )
        if security:  # --security matches nothing without them, and says nothing
            # The cache of a repository is ID-HASH. Those of repositories that are not enabled any more stay there.
            archives += Script(
                """
_advisories() {
for _id in $(printf '%s' "$_origins" | tr -d ',*!'); do
for _lists in "/var/cache/dnf/$_id"-*/repodata; do
[ "${_lists%-*}" != "/var/cache/dnf/$_id" ] || find "$_lists" -name '*updateinfo*' 2>/dev/null
done
done
}
[ "$mode" = check ] || [ -n "$(_advisories)" ] || {
echo "no repository of this host has security advisories (updateinfo): $_origins"
return 2
}"""
            )
        listing = sh(
            """_count() {
printf '%s\\n' "$1" | awk '/^Obsoleting/ { exit } NF == 3' | wc -l
}
_list() {
_variable=$1
shift
_output=$(dnf -q check-update "$@") || [ $? -eq 100 ] || { printf '%s\\n' "$_output"; return 2; }
eval "$_variable=\\$_output"
}
_list _all || return
_count "$_all" >"$work/due"
@listed
[ "$(_count "$_listed")" -gt 0 ] || { detail="0 of $(cat "$work/due") updates, from $_origins"; return 0; }
detail="$(_count "$_listed") of $(cat "$work/due") updates, from $_origins"
return 1""",
            listed=sh("_list _listed @options || return", options=options) if options else Script("_listed=$_all"),
        )
        apply = sh(
            """_all="rpm -qa --qf %{NAME}.%{ARCH}\\\\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\\\n"
$_all | sort >"$work/before"
dnf_do upgrade @options
$_all | sort >"$work/after"
comm -13 "$work/before" "$work/after" | awk -F '\\t' -v before="$work/before" '
BEGIN { while ((getline line < before) > 0) { split(line, part, "\\t"); old[part[1]] = part[2] } }
$1 in old { print $1 ": " old[$1] " -> " $2 }' >"$work/upgraded"
cat "$work/upgraded"
note "$(wc -l <"$work/upgraded") of $(cat "$work/due") updates installed, from $(cat "$work/origins")\"""",
            options=options,
        )
        return Code(lines(archives, listing), apply)

    def dated(self, source: Source, system: str, snapshots: Snapshots | None, place: Place) -> Code:
        """With a mirror, moves all files in /etc/yum.repos.d to another directory and writes one for the mirror. With a
        release, sets the variable ``releasever``.
        """
        if source.releasever is not None:
            return self._release(source.releasever)
        if source.uri is None or source.key is None:
            return Code(
                Script("echo 'patches.date needs patches.mirror with a key here; or use releasever'\nreturn 2"),
                Script(":"),
            )
        text = (
            f"[goldenami-dated]\nname=packages of {source.day}\nbaseurl={source.dated(source.uri)}\nenabled=1\n"
            f"gpgcheck=1\ngpgkey=file://{_DATED_KEY}\n"
        )
        contents = place(text.encode())
        check = sh(
            """cmp -s @contents @source || { detail='the source file differs'; return 1; }
for _file in /etc/yum.repos.d/*.repo; do
[ "$_file" = @source ] || { detail="$_file is in use"; return 1; }
done""",
            contents=contents,
            source=_DATED_SOURCE,
        )
        apply = sh(
            """mkdir -p @aside/repos
for _file in /etc/yum.repos.d/*.repo; do
[ "$_file" = @source ] || [ ! -e "$_file" ] || mv -f "$_file" @aside/repos/
done
@put""",
            aside=_ASIDE,
            source=_DATED_SOURCE,
            put=put_file(_DATED_SOURCE, contents),
        )
        key = put_file(_DATED_KEY, place((source.key.strip() + "\n").encode()))
        return Code(check, lines(key, apply))

    def _release(self, release: str) -> Code:
        check = sh(
            "[ \"$(cat @file 2>/dev/null)\" = @release ] || { detail='the release differs'; return 1; }",
            file=_RELEASEVER,
            release=release,
        )
        apply = sh(
            """mkdir -p @aside
[ ! -e @file ] || [ -e @aside/releasever ] || cp -p @file @aside/releasever
mkdir -p "$(dirname @file)"
printf '%s\\n' @release >@file""",
            file=_RELEASEVER,
            aside=_ASIDE,
            release=release,
        )
        return Code(check, apply)

    def undated(self) -> Code:
        check = sh("[ ! -d @aside ] || { detail='the dated archive is in use'; return 1; }", aside=_ASIDE)
        apply = sh(
            """rm -f @dated
for _file in @aside/repos/*.repo; do
[ ! -e "$_file" ] || mv -f "$_file" /etc/yum.repos.d/
done
if [ -e @aside/releasever ]; then mv -f @aside/releasever @file
elif [ ! -d @aside/repos ]; then rm -f @file; fi
rm -rf @aside""",
            aside=Script(_ASIDE),
            dated=[_DATED_SOURCE, _DATED_KEY],
            file=_RELEASEVER,
        )
        return Code(check, apply)


DNF = Dnf()


def dnf_automatic(policy: UpgradePolicy | None) -> SelfUpgrade:
    """Return the configuration of the package dnf-automatic."""
    timer, package = "dnf-automatic.timer", "dnf-automatic"
    if policy is None:
        return SelfUpgrade(timer, remove=package)
    settings = {
        "commands": {
            "upgrade_type": "security" if policy.level == "security" else "default",
            "random_sleep": "0",
            "download_updates": "yes",
            "apply_updates": "yes",
            "reboot": "when-needed" if policy.reboot == "if-needed" else "never",
        },
        "emitters": {"emit_via": "stdio"},
        "base": {"exclude": " ".join(policy.exclude)} if policy.exclude else {},
    }
    text = "\n".join(
        f"[{part}]\n" + "".join(f"{key} = {value}\n" for key, value in body.items()) for part, body in settings.items()
    )
    files = {"/etc/dnf/automatic.conf": text}
    return SelfUpgrade(timer, install=package, recommends=True, files=files, started=True)
