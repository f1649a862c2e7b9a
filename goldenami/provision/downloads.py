"""Archives, files and packages from URLs, and archives from beside the recipe. The host downloads from URLs with curl,
wget or apt-helper, and refuses data with another checksum or a wrong signature.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from goldenami.os import SYSTEMS
from goldenami.provision import openpgp
from goldenami.provision.fields import AbsolutePath, Account, Mode, PackageName, Sha256, Url
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh

_SCRATCH = """fetched=$(mktemp -d /var/tmp/goldenami.XXXXXX)
trap 'rm -rf -- "$fetched"' EXIT
"""
_FETCH = _SCRATCH + 'download @url @sum "$fetched/@name"'
_SUM = "SHA-256 of the data at the URL, in lower-case hex. Other data is refused."


class Archive(Operation):
    """Unpacks an archive from a URL or from beside the recipe. Formats: tar with the compressions that the host's tar
    supports (gzip, bzip2, xz, zstd), and zip if unzip is installed.

    The archive counts as unpacked if the path ``creates`` exists. Without ``creates``, a file ``.goldenami-archive`` in
    ``dest`` records the checksum of each archive that was unpacked there; a new checksum unpacks the archive again.
    """

    kind: ClassVar[str] = "archive"
    sources: ClassVar = {"src": "verbatim"}

    url: Url | None = Field(None, description="URL of the archive. Either this or src.")
    sha256: Sha256 | None = Field(None, description=f"With url: {_SUM}")
    src: str | None = Field(None, description="An archive beside the recipe.")
    dest: AbsolutePath = Field(description="The directory for the contents; created if it is missing.")
    creates: AbsolutePath | None = Field(
        None, description="A path that the archive contains. If it exists, nothing is downloaded."
    )
    strip_components: int = Field(
        0, ge=0, le=20, description="Number of leading directories to remove from the names in the archive."
    )
    owner: Account = Field("root", description="Owner of the unpacked files.")
    group: Account = Field("root", description="Group of the unpacked files.")

    @model_validator(mode="after")
    def _one(self) -> Archive:
        if (self.url is None) == (self.src is None):
            raise ValueError("expected either url (with sha256) or src")
        if (self.url is None) != (self.sha256 is None):
            raise ValueError("expected url and sha256 together")
        return self

    def title(self) -> str:
        return f"archive {self.url or self.src} in {self.dest}"

    def compile(self, to: Compilation) -> Steps:
        stamp = f"{self.dest}/.goldenami-archive"
        source = self.url or self.src or ""
        if self.url is not None:
            digest = self.sha256 or ""
            fetch = sh(_FETCH, url=self.url, sum=digest, name=Script("archive"))
        else:
            digest = to.digest("src")
            fetch = sh(_SCRATCH + 'ln -s @contents "$fetched/archive"', contents=to.payload("src"))
        if self.creates is not None:
            check = sh("[ -e @path ] || { detail='is not there'; return 1; }", path=self.creates)
        else:
            check = sh(
                "grep -qxF @line @stamp 2>/dev/null || { detail='is not unpacked'; return 1; }",
                stamp=stamp,
                line=f"{digest}  {source}",
            )
        unpack = sh(
            """mkdir "$fetched/new"
case $(head -c 2 "$fetched/archive") in
PK)
command -v unzip >/dev/null || die 'this host has no unzip: a package of that name must come before'
unzip -q "$fetched/archive" -d "$fetched/new"
_strip=@strip
while [ "$_strip" -gt 0 ]; do
mv "$fetched/new" "$fetched/old"
mkdir "$fetched/new"
find "$fetched/old" -mindepth 2 -maxdepth 2 -exec mv -t "$fetched/new" -- {} +
rm -rf "$fetched/old"
_strip=$((_strip - 1))
done
;;
*) tar -xf "$fetched/archive" -C "$fetched/new" --no-same-owner --strip-components=@strip ;;
esac
[ -n "$(ls -A "$fetched/new")" ] || die 'the archive is empty, or strip_components removes all of its names'
chown -R -h -- @owner "$fetched/new"
mkdir -p -- @dest
cp -a -- "$fetched/new/." @dest/""",
            strip=self.strip_components,
            owner=f"{self.owner}:{self.group}",
            dest=self.dest,
        )
        done = sh(
            """{ [ ! -e @stamp ] || awk -v source=@source 'substr($0, 67) != source' @stamp
printf '%s\\n' @line; } >"$fetched/stamp"
cat "$fetched/stamp" >@stamp""",
            line=f"{digest}  {source}",
            source=source,
            stamp=stamp,
        )
        return Steps(check, lines(fetch, unpack, *([done] if self.creates is None else [])))


class Download(Operation):
    """Downloads a file from a URL. A checksum, a detached OpenPGP signature, or both prove that it is the right file.

    With a signature alone, the host downloads the signature in each run, and the file only if the signature does not
    match the existing file.
    """

    kind: ClassVar[str] = "download"
    sources: ClassVar = {"key_src": "verbatim"}

    url: Url = Field(description="URL of the file.")
    sha256: Sha256 | None = Field(None, description=_SUM)
    signature: Url | None = Field(
        None, description="URL of a detached signature of the file (.asc, .sig). Needs key or key_src."
    )
    key: str | None = Field(None, description="The text of the armored public key that signs the file.")
    key_src: str | None = Field(None, description="A file beside the recipe that holds the key, armored or not.")
    dest: AbsolutePath = Field(description="Path of the file on the host.")
    mode: Mode = Field("0644", description='Permissions, as a string: "0755".')
    owner: Account = Field("root", description="Name or number of the owner.")
    group: Account = Field("root", description="Name or number of the group.")

    @model_validator(mode="after")
    def _known(self) -> Download:
        if self.sha256 is None and self.signature is None:
            raise ValueError("expected sha256, or signature with key or key_src")
        if (self.signature is not None) != ((self.key is not None) + (self.key_src is not None) == 1):
            raise ValueError("expected signature together with either key or key_src")
        if self.key is not None:
            openpgp.fingerprints(self.key.encode())
        return self

    def title(self) -> str:
        return f"download {self.url} to {self.dest}"

    def compile(self, to: Compilation) -> Steps:
        values: dict[str, Any] = {
            "dest": self.dest,
            "mode": self.mode,
            "owner": self.owner,
            "group": self.group,
            "sum": self.sha256 or "",
            "url": self.url,
            "signature": self.signature or "",
        }
        if self.signature is not None:
            values["key"] = to.payload("key_src") if self.key is None else to.place(self.key.encode())
        check = [sh("[ -f @dest ] || { detail='is not there'; return 1; }", **values)]
        fetch = 'download @url @sum "$new"' if self.sha256 is not None else 'fetch @url "$new"'
        apply = [sh(f"beside @dest\n{fetch}", **values)]
        if self.sha256 is not None:
            check.append(
                sh(
                    """_sum=$(sha256sum <@dest)
[ "${_sum%% *}" = @sum ] || { detail='contents differ'; return 1; }""",
                    **values,
                )
            )
        elif self.signature is not None:
            check.append(
                sh(
                    """(fetch @signature "$work/signature") || return 2
(verify_signature @dest "$work/signature" @key) >/dev/null || { detail='the signature does not match'; return 1; }""",
                    **values,
                )
            )
        if self.signature is not None:
            apply.append(
                sh('fetch @signature "$work/signature"\nverify_signature "$new" "$work/signature" @key', **values)
            )
        check.append(sh("attributes @dest @mode @owner @group", **values))
        apply.append(sh('set_attributes "$new" @mode @owner @group\nreplace @dest', **values))
        return Steps(lines(*check), lines(*apply))


class Deb(Operation):
    """Installs a Debian package from a URL. Its dependencies come from the repositories."""

    kind: ClassVar[str] = "deb"

    name: PackageName = Field(description="Name of the package in the file.")
    url: Url = Field(description="URL of the .deb file.")
    sha256: Sha256 = Field(description=_SUM)
    version: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.+:~-]*$",
        description="Version of the package. Default: any installed version is accepted.",
    )

    def title(self) -> str:
        return f"deb {self.name}" + (f" {self.version}" if self.version else "")

    def unfit(self, os: str) -> str | None:
        system = SYSTEMS.get(os)
        if system is None or system.manager.name == "apt":
            return None
        return f"{system.name} has no .deb packages: use package with url"

    def compile(self, to: Compilation) -> Steps:
        number = to.package(self.name)
        check = sh('read_packages\n[ -n "$version_@n" ] || { detail="is not installed"; return 1; }', n=number)
        if self.version is not None:
            check += sh(
                '\n[ "$version_@n" = @version ] || { detail="$version_@n is installed"; return 1; }',
                n=number,
                version=self.version,
            )
        apply = lines(
            sh(_FETCH, url=self.url, sum=self.sha256, name=Script("package.deb")),
            sh(
                """_is=$(dpkg-deb -f "$fetched/package.deb" Package)
[ "$_is" = @name ] || die "the file holds the package $_is, and not @plain"
chmod 0755 "$fetched"
apt_install --allow-downgrades -- "$fetched"/package.deb""",
                name=self.name,
                plain=Script(self.name),
            ),
        )
        return Steps(check, apply)
