"""What comes from a URL. The host fetches it itself, with curl, wget or apt's own helper, and uses nothing whose
checksum is another one.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from goldenami.provision.fields import AbsolutePath, Account, Mode, PackageName, Sha256, Url
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh

_FETCH = """fetched=$(mktemp -d /var/tmp/goldenami.XXXXXX)
trap 'rm -rf -- "$fetched"' EXIT
download @url @sum "$fetched/@name\""""
_SUM = "SHA-256 of what is at the URL, in hex; anything else is refused."


class Archive(Operation):
    """An archive (tar, gzip, bzip2, xz, zstd as the host's tar can; zip where unzip is installed) that is unpacked.

    What was unpacked is known by ``creates``, or else by a file ``.goldenami-archive`` in ``dest`` that holds the
    checksum: a new checksum unpacks again.
    """

    kind: ClassVar[str] = "archive"

    url: Url = Field(description="Where the archive is.")
    sha256: Sha256 = Field(description=_SUM)
    dest: AbsolutePath = Field(description="The directory that it is unpacked into; made if it is missing.")
    creates: AbsolutePath | None = Field(
        None, description="A path that it brings: where it exists, nothing is fetched."
    )
    strip_components: int = Field(
        0, ge=0, le=20, description="Leading parts of the names in it that are left out (tar)."
    )
    owner: Account = Field("root", description="Owner of what is unpacked.")
    group: Account = Field("root", description="Group of what is unpacked.")

    def title(self) -> str:
        return f"archive {self.url} in {self.dest}"

    def compile(self, to: Compilation) -> Steps:
        stamp = f"{self.dest}/.goldenami-archive"
        if self.creates is not None:
            check = sh("[ -e @path ] || { detail='is not there'; return 1; }", path=self.creates)
        else:
            check = sh(
                "[ -e @stamp ] && [ \"$(cat @stamp)\" = @sum ] || { detail='is not unpacked'; return 1; }",
                stamp=stamp,
                sum=self.sha256,
            )
        owner = f"{self.owner}:{self.group}"
        unpack = sh(
            """mkdir "$fetched/new"
case $(head -c 2 "$fetched/archive") in
PK) unzip -q "$fetched/archive" -d "$fetched/new" ;;
*) tar -xf "$fetched/archive" -C "$fetched/new" --no-same-owner --strip-components=@strip ;;
esac
chown -R -h -- @owner "$fetched/new"
mkdir -p -- @dest
cp -a -- "$fetched/new/." @dest/""",
            strip=self.strip_components,
            owner=owner,
            dest=self.dest,
        )
        done = (
            Script("") if self.creates is not None else sh("printf '%s\\n' @sum >@stamp", sum=self.sha256, stamp=stamp)
        )
        return Steps(check, lines(sh(_FETCH, url=self.url, sum=self.sha256, name=Script("archive")), unpack, done))


class Download(Operation):
    """A file from a URL."""

    kind: ClassVar[str] = "download"

    url: Url = Field(description="Where the file is.")
    sha256: Sha256 = Field(description=_SUM)
    dest: AbsolutePath = Field(description="Path of the file on the host.")
    mode: Mode = Field("0644", description='Permissions, as a string: "0755".')
    owner: Account = Field("root", description="Name or number of the owner.")
    group: Account = Field("root", description="Name or number of the group.")

    def title(self) -> str:
        return f"download {self.url} to {self.dest}"

    def compile(self, to: Compilation) -> Steps:
        values = {"dest": self.dest, "mode": self.mode, "owner": self.owner, "group": self.group, "sum": self.sha256}
        check = sh(
            """[ -f @dest ] || { detail='is not there'; return 1; }
_sum=$(sha256sum <@dest)
[ "${_sum%% *}" = @sum ] || { detail='contents differ'; return 1; }
attributes @dest @mode @owner @group""",
            **values,
        )
        apply = sh(
            'beside @dest\ndownload @url @sum "$new"\nset_attributes "$new" @mode @owner @group\nreplace @dest',
            url=self.url,
            **values,
        )
        return Steps(check, apply)


class Deb(Operation):
    """A Debian package from a URL. Its dependencies come from the repositories."""

    kind: ClassVar[str] = "deb"

    name: PackageName = Field(description="Name of the package that the file holds.")
    url: Url = Field(description="Where the .deb file is.")
    sha256: Sha256 = Field(description=_SUM)
    version: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.+:~-]*$",
        description="Its version. Without it, any installed version will do.",
    )

    def title(self) -> str:
        return f"deb {self.name}" + (f" {self.version}" if self.version else "")

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
