"""Package repositories beside the distribution's own, for apt and for dnf."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from goldenami.os import MANAGERS, SYSTEMS, RepositoryText
from goldenami.provision import openpgp
from goldenami.provision.fields import OneLine, Url
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Steps, lines, sh
from goldenami.provision.writing import STALE, is_gone


def _fingerprint(value: str) -> str:
    plain = re.sub(r"[\s:]", "", value).upper()
    if not re.fullmatch(r"[0-9A-F]{40}|[0-9A-F]{64}", plain):
        raise ValueError("expected the full fingerprint of a key: 40 or 64 hexadecimal digits")
    return plain


Fingerprint = Annotated[str, AfterValidator(_fingerprint)]


class Repository(Operation):
    """Adds a repository for apt (with ``suites``: a deb822 file in /etc/apt/sources.list.d) or for dnf (without
    ``suites``: a file in /etc/yum.repos.d). Its key is accepted for this repository only.
    """

    kind: ClassVar[str] = "repository"
    brings_units: ClassVar[bool] = False
    sources: ClassVar = {"key_src": "verbatim"}

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Name of the files: NAME.sources or NAME.repo, and the key."
    )
    uris: tuple[Url, ...] = Field((), description="URLs of the repository. For dnf: several mirrors.")
    suites: tuple[OneLine, ...] = Field(
        (), description='apt: suites, such as ["bookworm"], or ["./"] for a flat repository. Default: none, for dnf.'
    )
    components: tuple[OneLine, ...] = Field(
        (), description='apt: components, such as ["main"]; none for a flat repository.'
    )
    types: tuple[Literal["deb", "deb-src"], ...] = Field(
        ("deb",), description="apt: binary packages, sources, or both."
    )
    architectures: tuple[OneLine, ...] = Field(
        (), description="apt: architectures in dpkg's names. Default: the host's."
    )
    key: str | None = Field(None, description="The text of the armored public key that signs the repository.")
    key_src: str | None = Field(
        None, description="A file beside the recipe with the key, armored or binary (for dnf: armored)."
    )
    key_url: Url | None = Field(
        None, description="URL of the key. The host downloads it, and uses it only if it has the given fingerprint."
    )
    fingerprint: Fingerprint | tuple[Fingerprint, ...] | None = Field(
        None,
        description="Fingerprint of the key, or a list: the file must contain no other keys. Needed with key_url.",
    )
    signed_metadata: bool = Field(
        False, description="dnf: whether the key also signs the repository's metadata (always so with apt)."
    )
    trusted: bool = Field(
        False, description="Whether the repository is used without signatures. Use it only for a source that is safe."
    )
    priority: int | None = Field(
        None,
        description="Priority of the repository. apt: default 500, the higher number wins (over 1000 also downgrades). "
        "dnf: default 99, the lower number wins.",
    )
    only: tuple[OneLine, ...] = Field(
        (), description='Names or patterns of the only packages to install from it: ["nginx", "nginx-*"].'
    )
    pin: OneLine | None = Field(
        None,
        description="apt: the pin that identifies the repository for priority and only, as in apt_preferences(5): "
        '"release o=Docker". Default: the host of the first URI.',
    )
    state: Literal["present", "absent"] = Field("present", description="Whether the repository exists.")

    @model_validator(mode="after")
    def _complete(self) -> Repository:
        if self.state == "absent":
            return self
        if not self.uris:
            raise ValueError("expected uris (and suites for apt)")
        given = (self.key is not None, self.key_src is not None, self.key_url is not None, self.trusted)
        if sum(given) != 1:
            raise ValueError("expected one of key, key_src, key_url and trusted")
        if self.key_url is not None and not self.fingerprints:
            raise ValueError("key_url needs fingerprint, because the server could send another key")
        if self.trusted and self.fingerprints:
            raise ValueError("fingerprint has no effect with trusted: remove one of them")
        if self.dnf and (self.components or self.architectures or self.pin or self.types != ("deb",)):
            raise ValueError("components, architectures, types and pin are for apt, which also needs suites")
        if not self.dnf and self.signed_metadata:
            raise ValueError("signed_metadata is for dnf: remove it, or remove suites")
        if not self.dnf and (self.priority is not None or self.only) and not self.pin and not self._host:
            raise ValueError("priority and only need pin, because the URI contains no host")
        if self.priority is not None and not (1 <= self.priority <= 99 if self.dnf else -1 <= self.priority <= 32767):
            limits = "1 to 99 for dnf" if self.dnf else "-1 to 32767 for apt"
            raise ValueError(f"priority is {self.priority}, expected {limits}")
        if self.key is not None:
            found = openpgp.fingerprints(self.key.encode())
            wrong = [f for f in found if f not in self.fingerprints] if self.fingerprints else []
            if wrong:
                raise ValueError(f"key has the fingerprint {wrong[0]}, and not {', '.join(self.fingerprints)}")
        return self

    @property
    def dnf(self) -> bool:
        return not self.suites

    @property
    def family(self) -> str:
        """The name of the package manager of the repository."""
        return "dnf" if self.dnf else "apt"

    @property
    def fingerprints(self) -> tuple[str, ...]:
        return (self.fingerprint,) if isinstance(self.fingerprint, str) else self.fingerprint or ()

    @property
    def _host(self) -> str:
        return urlsplit(self.uris[0]).hostname or ""

    def title(self) -> str:
        return f"repository {self.name}" + (" absent" if self.state == "absent" else "")

    def unfit(self, os: str) -> str | None:
        if self.state == "absent":
            return None
        system = SYSTEMS.get(os)
        if system is None or system.manager.name == self.family:
            return None
        needed = "a repository for apt needs suites" if self.dnf else "a repository for dnf has no suites"
        return f"{system.name} uses {system.manager.name}: {needed}"

    def compile(self, to: Compilation) -> Steps:
        if self.state == "absent":
            return self._absent()
        key, fetched = self._key_path(), None
        files = [(path, to.place(text.encode())) for path, text in self._texts(key) if text]
        unwanted = [path for path, text in self._texts(key) if not text]
        if self.key is not None:
            files.insert(0, (key, to.place((self.key.strip() + "\n").encode())))
        elif self.key_src is not None:
            files.insert(0, (key, to.payload("key_src")))
        elif self.key_url is not None:
            fetched = self._fetched(key)
        family = sh("family_is @family || return 2", family=self.family)
        checks = [
            *([fetched.check] if fetched else []),
            *(
                sh(
                    "cmp -s -- @contents @path && attributes @path 0644 root root || { detail='differs'; return 1; }",
                    path=p,
                    contents=c,
                )
                for p, c in files
            ),
            *(sh("[ ! -e @path ] || { detail='differs'; return 1; }", path=path) for path in unwanted),
        ]
        verified = [
            sh('key_is @contents @prints || die "$detail"', contents=contents, prints=self.fingerprints)
            for path, contents in files
            if path == key and self.key_src is not None and self.fingerprints
        ]
        writes = (
            sh(
                'beside @path\ncat @contents >"$new"\nset_attributes "$new" 0644 root root\nreplace @path',
                path=p,
                contents=c,
            )
            for p, c in files
        )
        removes = [sh("rm -f -- @unwanted", unwanted=unwanted)] if unwanted else []
        apply = lines(*verified, *([fetched.apply] if fetched else []), *writes, *removes, STALE)
        return Steps(lines(family, *checks), apply)

    def _absent(self) -> Steps:
        paths = [path for manager in MANAGERS.values() for path in manager.repository_paths(self.name)]
        return Steps(lines(*map(is_gone, paths)), lines(sh("rm -f -- @paths", paths=paths), STALE))

    def _key_path(self) -> str:
        binary = self.key_url is not None or (self.key_src is not None and self.key_src.endswith(".gpg"))
        return MANAGERS[self.family].key_path(self.name, binary=binary)

    def _fetched(self, path: str) -> Steps:
        """Returns the code for a key from a URL. Its fingerprint identifies it, so that an existing key is not
        downloaded again.
        """
        check = sh(
            "[ -f @path ] && key_is @path @prints && attributes @path 0644 root root || "
            "{ detail=${detail:-'the key is not there'}; return 1; }",
            path=path,
            prints=self.fingerprints,
        )
        binary = MANAGERS[self.family].binary_keys
        put = 'dearmor "$work/fetched" >"$new"' if binary else 'cat "$work/fetched" >"$new"'
        apply = sh(
            f"""fetch @url "$work/fetched"
key_is "$work/fetched" @prints || die "$detail"
beside @path
{put}
set_attributes "$new" 0644 root root
replace @path""",
            url=self.key_url or "",
            path=path,
            prints=self.fingerprints,
        )
        return Steps(check, apply)

    def _texts(self, key: str) -> list[tuple[str, str]]:
        """Returns paths and contents of the files. Empty contents mean that the file must not exist."""
        described = RepositoryText(
            name=self.name,
            uris=self.uris,
            key="" if self.trusted else key,
            suites=self.suites,
            components=self.components,
            types=self.types,
            architectures=self.architectures,
            signed_metadata=self.signed_metadata,
            priority=self.priority,
            only=self.only,
            pin=self.pin or "",
        )
        return MANAGERS[self.family].repository_files(described)
