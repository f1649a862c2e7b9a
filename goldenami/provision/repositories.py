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
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.writing import is_gone


def _fingerprint(value: str) -> str:
    plain = re.sub(r"[\s:]", "", value).upper()
    if not re.fullmatch(r"[0-9A-F]{40}|[0-9A-F]{64}", plain):
        raise ValueError("expected the whole fingerprint of a key, 40 (or 64) hexadecimal digits")
    return plain


Fingerprint = Annotated[str, AfterValidator(_fingerprint)]


class Repository(Operation):
    """A repository of apt (with ``suites``: a deb822 file in /etc/apt/sources.list.d) or of dnf (without: a file in
    /etc/yum.repos.d), with the key that signs it and nothing else.
    """

    kind: ClassVar[str] = "repository"
    sources: ClassVar = {"key_src": "verbatim"}

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Name of its files: NAME.sources or NAME.repo, and the key's."
    )
    uris: tuple[Url, ...] = Field((), description="Where the repository is. For dnf: mirrors of each other.")
    suites: tuple[OneLine, ...] = Field(
        (), description='Suites of apt: ["bookworm"], or ["./"] for a flat repository. None: a repository of dnf.'
    )
    components: tuple[OneLine, ...] = Field((), description='Components: ["main"]; none for a flat repository.')
    types: tuple[Literal["deb", "deb-src"], ...] = Field(("deb",), description="Binary packages, sources, or both.")
    architectures: tuple[OneLine, ...] = Field(
        (), description="Architectures, as dpkg names them; by default the host's."
    )
    key: str | None = Field(None, description="The armored public key that signs it, written here.")
    key_src: str | None = Field(
        None, description="A file beside the recipe that holds the key, armored or not (for dnf: armored)."
    )
    key_url: Url | None = Field(
        None, description="Where the key is; the host fetches it, and uses it if its fingerprint is the one given."
    )
    fingerprint: Fingerprint | tuple[Fingerprint, ...] | None = Field(
        None,
        description="Fingerprint of the key, or a list: it must hold these and no others. Needed with key_url.",
    )
    signed_metadata: bool = Field(
        False, description="dnf: whether the repository's metadata is signed by the key too (apt's always is)."
    )
    trusted: bool = Field(
        False, description="Whether it is used without any signature. Only for a source that is safe by itself."
    )
    priority: int | None = Field(
        None,
        description="Its rank among repositories, as the package manager counts: apt's default is 500 and higher wins "
        "(over 1000 also downgrades), dnf's is 99 and lower wins.",
    )
    only: tuple[OneLine, ...] = Field(
        (), description='The only packages that are taken from it, by name or pattern: ["nginx", "nginx-*"].'
    )
    pin: OneLine | None = Field(
        None,
        description="apt: what tells the repository for priority and only, as in apt_preferences(5): "
        '"release o=Docker". By default the host of its first URI.',
    )
    state: Literal["present", "absent"] = Field("present", description="Whether it is there.")

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
            raise ValueError("a key from a URL needs its fingerprint: who serves the key could serve another one")
        if self.trusted and self.fingerprints:
            raise ValueError("a fingerprint means nothing without a key")
        if self.dnf and (self.components or self.architectures or self.pin or self.types != ("deb",)):
            raise ValueError("components, architectures, types and pin are apt's, which takes suites too")
        if not self.dnf and self.signed_metadata:
            raise ValueError("signed_metadata is dnf's")
        if not self.dnf and (self.priority is not None or self.only) and not self.pin and not self._host:
            raise ValueError("priority and only need pin here: the URI names no host")
        if self.priority is not None and not (1 <= self.priority <= 99 if self.dnf else -1 <= self.priority <= 32767):
            raise ValueError("a priority of dnf is 1 to 99" if self.dnf else "a priority of apt is -1 to 32767")
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
        """The name of the package manager that it is for."""
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
        return f"{system.name} has {system.manager.name}, whose repositories have {'no ' * (not self.dnf)}suites"

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
        apply = lines(*verified, *([fetched.apply] if fetched else []), *writes, *removes, _STALE)
        return Steps(lines(family, *checks), apply)

    def _absent(self) -> Steps:
        paths = [path for manager in MANAGERS.values() for path in manager.repository_paths(self.name)]
        return Steps(lines(*map(is_gone, paths)), lines(sh("rm -f -- @paths", paths=paths), _STALE))

    def _key_path(self) -> str:
        binary = self.key_url is not None or (self.key_src is not None and self.key_src.endswith(".gpg"))
        return MANAGERS[self.family].key_path(self.name, binary=binary)

    def _fetched(self, path: str) -> Steps:
        """A key from a URL: known by its fingerprint, so that nothing is fetched where it is already."""
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
        """The files by path; an empty one is not to be there."""
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


_STALE = Script(': >"$flags/stale-lists"\nrm -f "$work/updated"')
