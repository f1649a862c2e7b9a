"""Certificate authorities that the system trusts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and the contents of each block: BEGIN kind … END kind."""
    for part in text.split("-----BEGIN ")[1:]:
        kind, _, rest = part.partition("-----")
        contents, end, _ = rest.partition(f"-----END {kind}-----")
        if end:
            yield kind, contents


def check_certificates(text: str) -> None:
    """Raises ValueError if the text contains no certificate in PEM form, a damaged one, or a private key."""
    blocks = list(_blocks(text))
    if any("PRIVATE KEY" in kind for kind, _ in blocks):
        raise ValueError("the text contains a private key, which must not be in an image: remove it")
    bodies = [body for kind, body in blocks if kind in ("CERTIFICATE", "TRUSTED CERTIFICATE")]
    if not bodies:
        raise ValueError("expected a certificate: -----BEGIN CERTIFICATE----- …")
    for body in bodies:
        try:
            data = base64.b64decode("".join(body.split()), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("the certificate is damaged: its text is not base64") from None
        if data[:1] != b"\x30":  # a DER sequence
            raise ValueError("the text between BEGIN and END is not a certificate")


class CaCertificate(Operation):
    """Adds a certificate authority to those that the system trusts, or removes an added one.

    The package ca-certificates must be installed.
    """

    kind: ClassVar[str] = "ca_certificate"
    brings_units: ClassVar[bool] = False
    sources: ClassVar = {"src": "verbatim"}

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="Name of the file, without a suffix.")
    content: str | None = Field(None, description="The text of the certificate (PEM). Either this or src.")
    src: str | None = Field(None, description="A file beside the recipe with the certificate (PEM).")
    state: Literal["present", "absent"] = Field("present", description="Whether the certificate authority is trusted.")

    @model_validator(mode="after")
    def _given(self) -> CaCertificate:
        given = sum(x is not None for x in (self.content, self.src))
        if given != (1 if self.state == "present" else 0):
            raise ValueError(
                "expected either content or src"
                if self.state == "present"
                else "content and src have no effect with state absent"
            )
        if self.content is not None:
            check_certificates(self.content)
        return self

    def title(self) -> str:
        return f"ca_certificate {self.name}" + (" absent" if self.state == "absent" else "")

    def compile(self, to: Compilation) -> Steps:
        where = sh(
            """if command -v update-ca-certificates >/dev/null; then
_file=/usr/local/share/ca-certificates/@name.crt _link=/etc/ssl/certs/@name.pem
elif command -v update-ca-trust >/dev/null; then _file=/etc/pki/ca-trust/source/anchors/@name.pem _link=''
else _file='' _link=''; fi""",
            name=Script(self.name),
        )
        update = Script('if [ -n "$_link" ]; then update-ca-certificates; else update-ca-trust extract; fi')
        installed = Script(
            "[ -n \"$_file\" ] || die 'ca-certificates is not installed: add that package before this operation'"
        )
        if self.state == "absent":
            return Steps(
                lines(where, Script('[ -z "$_file" ] || [ ! -e "$_file" ] || { detail=\'is trusted\'; return 1; }')),
                lines(where, installed, Script('rm -f -- "$_file"'), update),
            )
        contents = to.payload("src") if self.src is not None else to.place((self.content or "").encode())
        check = lines(
            where,
            sh(
                """[ -n "$_file" ] || { detail='ca-certificates is not installed'; return 1; }
cmp -s -- @contents "$_file" || { detail='is not trusted, or differs'; return 1; }
attributes "$_file" 0644 root root || return 1
[ -z "$_link" ] || [ -e "$_link" ] || { detail='is not in /etc/ssl/certs'; return 1; }""",
                contents=contents,
            ),
        )
        apply = lines(
            where,
            installed,
            sh(
                """! grep -q 'PRIVATE KEY-' @contents || die 'the file has a private key: remove it'
grep -q 'BEGIN.* CERTIFICATE-' @contents || die 'the file is not a certificate in PEM form'
! command -v openssl >/dev/null || openssl x509 -noout -in @contents || die 'the file is not a valid certificate'
beside "$_file"
cat @contents >"$new"
set_attributes "$new" 0644 root root
replace "$_file\"""",
                contents=contents,
            ),
            update,
        )
        return Steps(check, apply)
