"""The section ``signing`` of an environment: the key that signs, and the keys that are trusted, as model.Signing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from goldenami.model import KmsSigningKey, SecretSource, Signing
from goldenami.reading import describe, hint_of
from goldenami.recipe import secretspec
from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project
from goldenami.recipe.words import IDENTIFIER, KMS_KEY, Spec


class KeySpec(Spec):
    """A private key; exactly one of these."""

    file: str | None = Field(None, description="Path of a key file, relative to goldenami.yaml.", min_length=1)
    env: str | None = Field(None, description="Name of an environment variable with the key.", pattern=IDENTIFIER)
    ssm: str | None = Field(None, description="Name of an SSM SecureString parameter in the home region.", min_length=1)
    kms: str | None = Field(
        None,
        description="Alias, id or ARN of a KMS key of the home account: ECC_NIST_P256, for SIGN_VERIFY.",
        pattern=KMS_KEY,
    )

    @model_validator(mode="after")
    def _one_source(self) -> KeySpec:
        if sum(value is not None for value in (self.file, self.env, self.ssm, self.kms)) != 1:
            raise ValueError("expected exactly one of file, env, ssm and kms")
        return self


class SigningSpec(Spec):
    """Signatures of the statements about releases."""

    key: KeySpec | None = Field(
        None,
        description="Private key that signs: Ed25519 or ECDSA P-256, in PEM, OpenSSH or cosign's form. Without it, "
        "builds sign nothing, and the environment only verifies.",
    )
    password: secretspec.SecretSource | None = Field(None, description="Where the password of an encrypted key is.")
    trusted: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        (),
        description="Files of trusted public keys, relative to goldenami.yaml, in PEM or OpenSSH. Default: the public "
        "half of key.",
    )
    required: bool = Field(
        False, description="Whether channels move only to releases with a trusted signature, also those without rules."
    )
    contents: bool = Field(
        True,
        description="Whether a build reads all blocks of the volumes of the tested image, for content digests. They "
        "are read beside the copies.",
    )

    @model_validator(mode="after")
    def _usable(self) -> SigningSpec:
        if self.key is None and not self.trusted:
            raise ValueError("expected key, trusted, or both")
        if self.password is not None and (self.key is None or self.key.kms is not None):
            raise ValueError("password: allowed only with a key in a file, a variable or a parameter")
        return self


def read_signing(
    spec: SigningSpec | None, at: NodePath, document: Document, project: Project, home_region: str, problems: Problems
) -> Signing | None:
    """Return the settings, or None without them. Adds a problem for each public key that cannot be used. The private
    key is not read."""
    if spec is None:
        return None
    key: SecretSource | KmsSigningKey | None = None
    if spec.key is not None and spec.key.kms is not None:
        parts = spec.key.kms.split(":")
        key = KmsSigningKey(spec.key.kms, parts[3] if len(parts) > 3 else home_region)
    elif spec.key is not None:
        key = _source(secretspec.SecretSource(**spec.key.model_dump(exclude={"kms"})), project)
    return Signing(
        key,
        _source(spec.password, project) if spec.password is not None else None,
        _trusted(spec.trusted, (*at, "trusted"), document, project, problems),
        spec.required,
        spec.contents,
    )


def _source(spec: secretspec.SecretSource, project: Project) -> SecretSource:
    source, key = spec.place
    if source == "file":
        key = str(project.root / Path(key).expanduser())
    return SecretSource(source, key, project.files)


def _trusted(
    files: tuple[str, ...], at: NodePath, document: Document, project: Project, problems: Problems
) -> dict[str, str]:
    from goldenami.evidence.signing import read_public_key  # here, because few environments need cryptography

    found: dict[str, str] = {}
    for number, name in enumerate(files):
        path = project.root / Path(name).expanduser()
        mark = document.mark((*at, number))
        try:
            text = project.files.read_bytes(path).decode()
            read_public_key(text)
        except OSError as error:
            problems.add(mark, f"trusted: {describe(error, name)}", hint_of(error, "Name a file with a public key."))
        except ValueError as error:
            problems.add(mark, f"trusted: {name}: {error}", "Name a file that begins with -----BEGIN PUBLIC KEY-----.")
        else:
            found[name] = text
    return found
