"""Package repositories beside the distribution's own."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from goldenami.provision.fields import OneLine, Url
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh


class Repository(Operation):
    """A repository of apt, as a deb822 file in /etc/apt/sources.list.d, with the key that signs it and nothing else."""

    kind: ClassVar[str] = "repository"
    sources: ClassVar = {"key_src": "verbatim"}

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Name of its files: NAME.sources and NAME.asc.")
    uris: tuple[Url, ...] = Field((), description="Where the repository is.")
    suites: tuple[OneLine, ...] = Field((), description='Suites: ["bookworm"], or ["./"] for a flat repository.')
    components: tuple[OneLine, ...] = Field((), description='Components: ["main"]; none for a flat repository.')
    types: tuple[Literal["deb", "deb-src"], ...] = Field(("deb",), description="Binary packages, sources, or both.")
    architectures: tuple[OneLine, ...] = Field(
        (), description="Architectures, as dpkg names them; by default the host's."
    )
    key: str | None = Field(None, description="The armored public key that signs it, written here.")
    key_src: str | None = Field(None, description="A file beside the recipe that holds the key, armored or not.")
    trusted: bool = Field(
        False, description="Whether it is used without any signature. Only for a source that is safe by itself."
    )
    state: Literal["present", "absent"] = Field("present", description="Whether it is there.")

    @model_validator(mode="after")
    def _complete(self) -> Repository:
        if self.state == "absent":
            return self
        if not self.uris or not self.suites:
            raise ValueError("expected uris and suites")
        if sum((self.key is not None, self.key_src is not None, self.trusted)) != 1:
            raise ValueError("expected one of key, key_src and trusted")
        return self

    def title(self) -> str:
        return f"repository {self.name}" + (" absent" if self.state == "absent" else "")

    def compile(self, to: Compilation) -> Steps:
        source = f"/etc/apt/sources.list.d/{self.name}.sources"
        armored, binary = (f"/etc/apt/keyrings/{self.name}.{suffix}" for suffix in ("asc", "gpg"))
        stale = Script(': >"$flags/stale-lists"\nrm -f "$work/updated"')
        if self.state == "absent":
            paths = [source, armored, binary]
            check = lines(*(sh("[ ! -e @path ] || { detail='is there'; return 1; }", path=path) for path in paths))
            return Steps(check, lines(sh("rm -f -- @paths", paths=paths), stale))
        files = []
        signed_by = None
        if self.key is not None:
            signed_by = armored
            files.append((armored, to.place((self.key.strip() + "\n").encode())))
        elif self.key_src is not None:
            # apt tells armored keys from binary ones by the name of the file alone.
            signed_by = binary if self.key_src.endswith(".gpg") else armored
            files.append((signed_by, to.payload("key_src")))
        files.append((source, to.place(self._text(signed_by).encode())))
        check = lines(
            *(
                sh(
                    "cmp -s -- @contents @path && attributes @path 0644 root root || { detail='differs'; return 1; }",
                    path=p,
                    contents=c,
                )
                for p, c in files
            )
        )
        apply = lines(
            *(
                sh(
                    'beside @path\ncat @contents >"$new"\nset_attributes "$new" 0644 root root\nreplace @path',
                    path=p,
                    contents=c,
                )
                for p, c in files
            ),
            stale,
        )
        return Steps(check, apply)

    def _text(self, signed_by: str | None) -> str:
        fields = {
            "Types": " ".join(self.types),
            "URIs": " ".join(self.uris),
            "Suites": " ".join(self.suites),
            "Components": " ".join(self.components),
            "Architectures": " ".join(self.architectures),
            "Signed-By": signed_by or "",
            "Trusted": "yes" if self.trusted else "",
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)
