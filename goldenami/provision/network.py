"""The network of a build: a proxy and mirrors that the builder uses while it is provisioned, and the image does not.

A proxy is in environment variables of the program, which package managers, pip, npm, git, curl and wget read. So it
leaves nothing on the disk. Mirrors are replaced in what the operations download, and in the files of the package
manager; the last stage restores those files (``Mirrored``, ``Unmirrored``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from goldenami.os import MANAGERS
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.writing import STALE, awk

NOT_PROXIED: Final = ("localhost", "127.0.0.1", "::1", "169.254.169.254", "fd00:ec2::254")
"""The host itself, and the metadata service of EC2, which no proxy reaches."""
_PYPI: Final = "https://pypi.org/simple"
_NPM: Final = "https://registry.npmjs.org"
_ASIDE: Final = "/var/lib/goldenami-mirrored"


@dataclass(frozen=True, slots=True)
class BuildNetwork:
    """``http``, ``https``: the URL of the proxy for each. ``direct``: hosts and domains without it, in addition to
    ``NOT_PROXIED``. ``mirrors``: by the beginning of a URL, without a slash at the end, what replaces it.
    """

    http: str = ""
    https: str = ""
    direct: tuple[str, ...] = ()
    mirrors: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the program."""
        found: dict[str, str] = {}
        if self.http or self.https:
            # curl reads http_proxy in lower case only, and some programs read only upper case.
            names = {
                "http_proxy": self.http,
                "https_proxy": self.https,
                "no_proxy": ",".join((*NOT_PROXIED, *self.direct)),
            }
            found = {name: value for name, value in names.items() if value}
            found |= {name.upper(): value for name, value in found.items()}
        if _PYPI in self.mirrors:
            found["PIP_INDEX_URL"] = self.mirrors[_PYPI]
            if (url := urlsplit(self.mirrors[_PYPI])).scheme == "http":
                found["PIP_TRUSTED_HOST"] = url.netloc.rpartition("@")[2]
        if _NPM in self.mirrors:
            found["npm_config_registry"] = f"{self.mirrors[_NPM]}/"
        if self.mirrors:
            found["GIT_CONFIG_COUNT"] = str(len(self.mirrors))
        for number, (url_before, url_after) in enumerate(self.mirrors.items()):
            found[f"GIT_CONFIG_KEY_{number}"] = f"url.{url_after}/.insteadOf"
            found[f"GIT_CONFIG_VALUE_{number}"] = f"{url_before}/"
        return found

    def script(self) -> Script:
        """Return code that sets the variables, and defines ``mirrored``, which ``fetch`` calls; empty if nothing is
        set.
        """
        variables = [
            sh("export @name=@value", name=Script(name), value=value) for name, value in self.environment().items()
        ]
        if not self.mirrors:
            return lines(*variables)
        longest_first = sorted(self.mirrors.items(), key=lambda pair: -len(pair[0]))
        cases = [
            sh("@before | @before/*) mirrored=@after${1#@before} ;;", before=before, after=after)
            for before, after in longest_first
        ]
        return lines(*variables, Script("mirrored() {\ncase $1 in"), *cases, Script("*) mirrored=$1 ;;\nesac\n}"))


class Mirrored(Operation):
    """Replaces URLs in the files of the package manager by those of mirrors, until ``Unmirrored``. Recipes cannot use
    it: goldenami adds it for ``builder.mirrors``.
    """

    family: str
    mirrors: Mapping[str, str]
    aside: str = _ASIDE
    files: tuple[str, ...] = ()  # shell patterns; default: those of the package manager

    def title(self) -> str:
        return "mirrors of package sources"

    def compile(self, to: Compilation) -> Steps:
        values = _values(to, self.family, self.mirrors, self.aside, self.files)
        return Steps(
            sh(
                _FILES
                + """for _file in "$@"; do
[ ! -f "$_file" ] || @replaced "$_file" | cmp -s - "$_file" ||
{ detail="$_file names sources that have mirrors"; return 1; }
done""",
                **values,
            ),
            lines(
                sh(
                    _FILES
                    + """for _file in "$@"; do
if [ ! -f "$_file" ] || @replaced "$_file" | cmp -s - "$_file"; then continue; fi
mkdir -p -- "$(dirname -- @aside"$_file")"
[ -e @aside"$_file" ] || cp -a -- "$_file" @aside"$_file"
beside "$_file"
@replaced "$_file" >"$new"
set_attributes "$new" 0644 root root
replace "$_file"
done""",
                    **values,
                ),
                STALE,
            ),
        )


class Unmirrored(Operation):
    """Restores the files that ``Mirrored`` changed. It fails for a file that the recipe changed meanwhile, because
    nobody can tell which of its URLs the image must have.
    """

    family: str
    mirrors: Mapping[str, str]
    aside: str = _ASIDE
    files: tuple[str, ...] = ()

    def title(self) -> str:
        return "restore the package sources"

    def compile(self, to: Compilation) -> Steps:
        values = _values(to, self.family, self.mirrors, self.aside, self.files)
        return Steps(
            sh("[ ! -d @aside ] || { detail='mirrors are in use'; return 1; }", aside=self.aside),
            lines(
                sh(
                    """find @aside -type f >"$work/aside"
while IFS= read -r _old; do
_file=${_old#@aside}
if [ ! -e "$_file" ]; then continue; fi
if @replaced "$_old" | cmp -s - "$_file"; then mv -fT -- "$_old" "$_file"; continue; fi
if @replaced "$_old" | grep -vxF -f "$_old" | grep -qxF -f - "$_file"; then
die "$_file has URLs of builder.mirrors, and the recipe changed it too: write a new file instead"
fi
done <"$work/aside"
rm -rf -- @aside""",
                    **values,
                ),
                STALE,
            ),
        )


_FILES = "set -- @files\n"


def _values(
    to: Compilation, family: str, mirrors: Mapping[str, str], aside: str, files: tuple[str, ...]
) -> dict[str, str | Script]:
    """Returns the values for the code of both operations."""
    longest_first = sorted(mirrors.items(), key=lambda pair: -len(pair[0]))
    pairs = to.place("".join(f"{before}\t{after}\n" for before, after in longest_first).encode())
    return {
        "aside": aside,
        "files": Script(" ".join(files or MANAGERS[family].source_files)),
        "replaced": sh("env PAIRS=@pairs @awk", pairs=pairs, awk=awk(to, "mirrors")),
    }
