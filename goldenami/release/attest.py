"""Signs the statement about a release, keeps it in the catalog, and checks it. Makes no call except of KMS.

The statement is written before the manifest, so that no release is without one where builds sign. A killed build writes
it again only if its manifest is another one than that of the statement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from goldenami import manifest as codec
from goldenami.aws.session import Cloud
from goldenami.errors import CatalogError, ManifestError
from goldenami.evidence import signing_keys, statement
from goldenami.evidence.signing import IN_TOTO, NotAnEnvelope, PublicKey, Signer, read_envelope, sign
from goldenami.evidence.statement import Claims, Made, NotAStatement
from goldenami.model import ImageManifest, ManifestImage, Signing
from goldenami.release.catalog import Catalog

PROVENANCE: Final = "provenance.json"
_REVISION: Final = "revision-"
_SHOWN: Final = 16  # characters of a digest or of the id of a key in a message


@dataclass(frozen=True, slots=True)
class Deviation:
    """One thing that is not as it was signed. ``what``: a word for it. ``where``: the image and its place, or empty."""

    what: str
    detail: str
    where: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.what, self.detail) if part)


@dataclass(frozen=True, slots=True)
class Checked:
    """The documents of one release, compared with the signed statement.

    ``signers``: names of the trusted keys that signed it. ``claims``: what the statement says, also if nobody trusted
    signed it; None if it cannot be read. ``manifest``: as it is now; None if it cannot be read. ``notes``: what is no
    deviation, and what the signature does not cover.
    """

    deviations: tuple[Deviation, ...]
    signers: tuple[str, ...] = ()
    claims: Claims | None = None
    manifest: ImageManifest | None = None
    notes: tuple[str, ...] = ()


def attest(catalog: Catalog, manifest: ImageManifest, made: Made, signer: Signer) -> None:
    """Sign the statement about a release, and keep it. Call it before ``Catalog.add``. A second call keeps the
    statement if it is about the same manifest, signed with the same key."""
    name, version = manifest.recipe, manifest.version
    before = catalog.document(name, version, PROVENANCE)
    if before is not None and version in catalog.versions(name):
        return  # `goldenami distribute` may have revised the manifest since
    digest = hashlib.sha256(codec.dumps(manifest).encode()).hexdigest()
    if before is not None and _is_about(before, digest, signer.public):
        return
    payload = statement.make(manifest, digest, _digests(catalog, name, version), made)
    text = json.dumps(sign(payload, signer).to_json(), indent=2) + "\n"
    catalog.keep_document(name, version, PROVENANCE, text.encode())


def attest_revision(
    catalog: Catalog, signing: Signing, cloud: Cloud, before: ImageManifest, revised: ImageManifest
) -> str:
    """Sign a revised manifest, and keep the statement. Call it before ``Catalog.revise``.

    Returns why it was not signed; empty if it was, or if the release never was. A release that is not as signed stays
    so: its next revision must not make it look signed.
    """
    name, version = revised.recipe, revised.version
    signer = signing_keys.open_signer(signing, cloud)
    if catalog.document(name, version, PROVENANCE) is None:
        return ""
    if signer is None:
        return f"the change of {revised.label} is not signed, because the environment has no key (signing.key)"
    trusted = {**signing_keys.trusted_keys(signing, cloud), "signing.key": signer.public}
    wrong = check(catalog, name, version, trusted)
    if wrong.deviations or wrong.manifest != before:
        reason = wrong.deviations[0] if wrong.deviations else "it was changed meanwhile"
        return f"the change of {revised.label} is not signed, because the release is not as it was signed: {reason}"
    original, _ = catalog.manifest_files(name, version)
    digests = (hashlib.sha256(data).hexdigest() for data in (codec.dumps(revised).encode(), original))
    text = json.dumps(sign(statement.make_revision(revised, *digests), signer).to_json(), indent=2) + "\n"
    catalog.keep_document(name, version, revision_file(revised), text.encode(), final=False)
    return ""


def revision_file(manifest: ImageManifest) -> str:
    """Return the name of the document about the last revision of a manifest."""
    return f"{_REVISION}{len(manifest.revisions)}.json"


def _is_about(data: bytes, digest: str, key: PublicKey) -> bool:
    try:
        envelope = read_envelope(data)
        return bool(envelope.signers([key])) and statement.read(envelope.payload).manifest == digest
    except (NotAnEnvelope, NotAStatement):
        return False


def _digests(catalog: Catalog, name: str, version: str) -> dict[str, str]:
    """Return the SHA-256 of every other document about a release, by name."""
    every = ((file, catalog.document(name, version, file)) for file in catalog.documents(name, version))
    return {
        file: hashlib.sha256(data).hexdigest()
        for file, data in every
        if data is not None and file != PROVENANCE and not file.startswith(_REVISION)
    }


# --- checking ---------------------------------------------------------------------------------------------------------


def check(catalog: Catalog, name: str, version: str, trusted: Mapping[str, PublicKey]) -> Checked:
    """Compare the manifest and the documents of a release with its signed statement. Raises NotFound if there is no
    such release."""
    original, now = catalog.manifest_files(name, version)
    found: list[Deviation] = []
    manifest = _decode(now, "the manifest", found)
    data = catalog.document(name, version, PROVENANCE)
    if data is None:
        found.append(Deviation("signature", "the release has no signed statement"))
        return Checked(tuple(found), manifest=manifest)
    try:
        envelope = read_envelope(data)
    except NotAnEnvelope as error:
        found.append(Deviation("signature", f"{PROVENANCE}: {error}"))
        return Checked(tuple(found), manifest=manifest)
    keys = set(envelope.signers(trusted.values()))
    signers = tuple(key_name for key_name, key in trusted.items() if key in keys)
    if envelope.payload_type != IN_TOTO:
        found.append(Deviation("signature", f"the payload is {envelope.payload_type!r}, expected {IN_TOTO!r}"))
    if not signers:
        found.append(Deviation("signature", _unsigned([one.key_id for one in envelope.signatures], trusted)))
    try:
        claims = statement.read(envelope.payload)
    except NotAStatement as error:
        found.append(Deviation("statement", str(error)))
        return Checked(tuple(found), signers, manifest=manifest)
    if (claims.recipe, claims.version) != (name, version):
        found.append(Deviation("statement", f"it is about {claims.recipe} {claims.version}, expected {name} {version}"))
    _compare("manifest", "the manifest", claims.manifest, hashlib.sha256(original).hexdigest(), found)
    own = _digests(catalog, name, version)
    for file, expected in claims.documents.items():
        if file in own:
            _compare("evidence", file, expected, own[file], found)
        else:
            found.append(Deviation("evidence", f"{file} is missing"))
    found += _inventories(catalog, manifest)
    notes = [f"{file} is not covered by the signature" for file in sorted(own.keys() - claims.documents.keys())]
    if now != original and manifest is not None:
        first = _decode(original, "the manifest as the build wrote it", found)
        if first is not None:
            found += _revised(first, manifest)
        found += _unsigned_revision(catalog, manifest, claims.manifest, hashlib.sha256(now).hexdigest(), trusted)
    return Checked(tuple(found), signers, claims, manifest, tuple(notes))


def _inventories(catalog: Catalog, manifest: ImageManifest | None) -> list[Deviation]:
    """Return the inventories that were changed. The manifest, which is signed, names them by their SHA-256."""
    found: list[Deviation] = []
    if manifest is None:
        return found
    for architecture in manifest.inventories:
        try:
            catalog.inventory(manifest, architecture)
        except CatalogError as error:
            found.append(Deviation("evidence", f"the inventory behind the SBOM ({architecture}): {error.message}"))
    return found


def _decode(data: bytes, what: str, found: list[Deviation]) -> ImageManifest | None:
    try:
        return codec.loads(data, source=what)
    except ManifestError as error:
        found.append(Deviation("manifest", f"it cannot be read: {error.message}"))
        return None


def _unsigned(ids: list[str], trusted: Mapping[str, PublicKey]) -> str:
    """Return why no trusted key signed an envelope. The ids are hints of whoever wrote it."""
    named = [key_name for key_name, key in trusted.items() if key.id in ids]
    if named:
        return f"the statement or its signature was changed after it was signed with {', '.join(named)}"
    if not ids:
        return "the statement has no signature"
    listed = ", ".join(f"{one[:_SHOWN]}…" if one else "an unnamed key" for one in ids)
    return f"it was signed with {listed}, expected one of the trusted keys: {_listed(trusted)}"


def _listed(trusted: Mapping[str, PublicKey]) -> str:
    return ", ".join(f"{key_name} ({key.id[:_SHOWN]}…)" for key_name, key in trusted.items()) or "there are none"


def _compare(what: str, subject: str, expected: str, actual: str, found: list[Deviation]) -> None:
    if expected != actual:
        digests = f"its SHA-256 is {actual[:_SHOWN]}…, the statement has {expected[:_SHOWN]}…"
        found.append(Deviation(what, f"{subject} was changed after it was signed: {digests}"))


def _revised(first: ImageManifest, now: ImageManifest) -> list[Deviation]:
    """Return what differs from the signed manifest and is no entry of ``revisions``."""
    found = []
    if replace(now, images=first.images, revisions=first.revisions) != first:
        found.append(Deviation("manifest", "other parts than images and revisions differ from the signed manifest"))
    noted = {text for revision in now.revisions for text in revision.added}
    removed = {row.image_id for revision in now.revisions for row in revision.removed}
    before, after = _rows(first), _rows(now)
    for key in sorted(after.keys() - before.keys()):
        if " ".join(key) not in noted:
            found.append(Deviation("manifest", f"{key[2]} in {key[0]} was added, and no revision says so"))
    for key in sorted(before.keys() - after.keys()):
        if key[2] not in removed:
            found.append(Deviation("manifest", f"{key[2]} in {key[0]} was removed, and no revision says so"))
    for key in sorted(before.keys() & after.keys()):
        if replace(before[key], shared_with=()) != replace(after[key], shared_with=()):
            found.append(Deviation("manifest", f"the row of {key[2]} in {key[0]} was changed"))
    return found


def _unsigned_revision(
    catalog: Catalog, manifest: ImageManifest, original: str, digest: str, trusted: Mapping[str, PublicKey]
) -> list[Deviation]:
    """Return what is wrong with the signature of a manifest that `goldenami distribute` revised."""
    file = revision_file(manifest)
    data = catalog.document(manifest.recipe, manifest.version, file)
    if data is None:
        return [Deviation("manifest", f"its revision {len(manifest.revisions)} has no signed statement")]
    try:
        envelope = read_envelope(data)
        claims = statement.read_revision(envelope.payload)
    except (NotAnEnvelope, NotAStatement) as error:
        return [Deviation("manifest", f"{file}: {error}")]
    if envelope.payload_type != IN_TOTO or not envelope.signers(trusted.values()):
        return [Deviation("signature", f"{file}: {_unsigned([one.key_id for one in envelope.signatures], trusted)}")]
    if claims != statement.RevisionClaims(manifest.recipe, manifest.version, digest, original):
        return [Deviation("manifest", f"the revised manifest is not the one that {file} is about")]
    return []


def _rows(manifest: ImageManifest) -> dict[tuple[str, str, str], ManifestImage]:
    return {(str(row.place), row.architecture, row.image_id): row for row in manifest.images}
