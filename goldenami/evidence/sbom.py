"""Software bills of materials: the inventory of an image as CycloneDX 1.6 and as SPDX 2.3.

The documents are plain JSON, written here: a library for them takes a second for 1,000 packages, and puts random
numbers and the time of the day into them. The tests hold them against the schemas of both standards. The same release
gives the same bytes: lists are sorted, the serial number is a digest of the contents, and the time is the release's.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from goldenami.evidence import licences
from goldenami.evidence.packages import SYSTEM_TYPES, Component, Inventory, purl

_CYCLONEDX: Final = "https://cyclonedx.org/schema/bom-1.6.schema.json"
_MAILBOX: Final = re.compile(r"\s*<[^<>]*>")


@dataclass(frozen=True, slots=True)
class Subject:
    """The image that a document is about. ``created``: when its release was built (ISO 8601, UTC)."""

    name: str
    version: str
    architecture: str
    created: str
    description: str = ""


def _lines(form: Mapping[str, Any]) -> str:
    """Return the text of some keys: a line for each item of a list. json's own indentation takes ten times as long."""
    parts = []
    for key, value in form.items():
        if isinstance(value, list) and value:
            text = "[\n    " + ",\n    ".join(map(_compact, value)) + "\n  ]"
        else:
            text = _compact(value)
        parts.append(f"  {_compact(key)}: {text}")
    return ",\n".join(parts)


_compact: Final = json.JSONEncoder(ensure_ascii=False).encode


def _document(head: Mapping[str, Any], body: str) -> str:
    return f"{{\n{_lines(head)},\n{body}\n}}\n"


def _uuid(text: str) -> uuid.UUID:
    """Return the UUID of the contents of a document."""
    return uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16], version=5)


def _refs(inventory: Inventory) -> list[tuple[str, Component]]:
    """Return the components with a reference for each, which is unique in its document."""
    seen: dict[str, int] = {}
    found = []
    for one in inventory.components:
        name = purl(one, inventory)
        seen[name] = seen.get(name, 0) + 1
        found.append((name if seen[name] == 1 else f"{name}#{seen[name]}", one))
    return found


# --- CycloneDX --------------------------------------------------------------------------------------------------------


def cyclonedx(inventory: Inventory, subject: Subject) -> str:
    """Return an inventory as CycloneDX 1.6 in JSON. It has names of its own in the properties ``goldenami:…``."""
    components = [_cyclonedx_component(ref, one, inventory) for ref, one in _refs(inventory)]
    components += [
        {
            "type": "file",
            "bom-ref": f"file:{file.path}",
            "name": file.path,
            **({"hashes": [{"alg": "SHA-256", "content": file.sha256}]} if file.sha256 else {}),
            "properties": _properties({"size": str(file.size)}),
        }
        for file in inventory.files
    ]
    system = {
        "type": "operating-system",
        "bom-ref": "operating-system",
        "name": inventory.system,
        **({"version": inventory.release} if inventory.release else {}),
    }
    form: dict[str, Any] = {
        "metadata": {
            "timestamp": subject.created,
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": subject.name,
                "version": subject.version,
                **({"description": subject.description} if subject.description else {}),
                "properties": _properties({"architecture": subject.architecture}),
            },
            "properties": _properties(
                {
                    "complete": "true" if inventory.complete else "false",
                    "files-not-listed": str(inventory.files_not_listed),
                }
            ),
        },
        "components": [system, *components],
    }
    body = _lines(form)
    head = {
        "$schema": _CYCLONEDX,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{_uuid(body)}",
        "version": 1,
    }
    return _document(head, body)


def _cyclonedx_component(ref: str, one: Component, inventory: Inventory) -> dict[str, Any]:
    form: dict[str, Any] = {"type": "library", "bom-ref": ref}
    if one.supplier:
        form["supplier"] = {"name": one.supplier}
    if one.group:
        form["group"] = one.group
    form |= {"name": one.name, "version": one.version}
    if one.licences:
        form["licenses"] = _cyclonedx_licences(one.licences)
    form["purl"] = purl(one, inventory)
    if re.fullmatch(r"https?://[!-~]+", one.homepage):
        form["externalReferences"] = [{"type": "website", "url": one.homepage}]
    names = {
        "architecture": one.architecture,
        "source": one.source,
        "source-version": one.source_version,
        "path": one.path,
    }
    properties = _properties({name: value for name, value in names.items() if value})
    return form | ({"properties": properties} if properties else {})


def _cyclonedx_licences(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a list of licences. The standard allows one expression, or any number of single licences."""
    if len(names) == 1:
        found = licences.expression(names[0])
        if found is not None and found not in licences.IDS:
            return [{"expression": found}]
    ids = {found for name in names if (found := licences.expression(name)) in licences.IDS}
    others = sorted(name for name in names if licences.expression(name) not in licences.IDS)
    return [
        *({"license": {"id": id}} for id in sorted(filter(None, ids))),
        *({"license": {"name": name}} for name in others),
    ]


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": f"goldenami:{name}", "value": value} for name, value in sorted(values.items())]


# --- SPDX -------------------------------------------------------------------------------------------------------------


def spdx(inventory: Inventory, subject: Subject) -> str:
    """Return an inventory as SPDX 2.3 in JSON. Files that no package owns are packages of the purpose FILE, because a
    file of SPDX must have a SHA-1."""
    texts: dict[str, str] = {}
    packages: list[dict[str, Any]] = [
        {
            **_spdx_head("SPDXRef-image", subject.name, subject.version),
            "primaryPackagePurpose": "OPERATING-SYSTEM",
            "comment": f"machine image for {subject.architecture} of {inventory.system} {inventory.release}",
        }
    ]
    for number, (_, one) in enumerate(_refs(inventory), 1):
        packages.append(_spdx_package(f"SPDXRef-package-{number}", one, inventory, texts))
    for number, file in enumerate(inventory.files, 1):
        packages.append(
            {
                **_spdx_head(f"SPDXRef-file-{number}", file.path, ""),
                "primaryPackagePurpose": "FILE",
                **({"checksums": [{"algorithm": "SHA256", "checksumValue": file.sha256}]} if file.sha256 else {}),
            }
        )
    relations = [("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image")]
    relations += [("SPDXRef-image", "CONTAINS", str(package["SPDXID"])) for package in packages[1:]]
    form: dict[str, Any] = {
        "packages": packages,
        "relationships": [
            {"spdxElementId": a, "relationshipType": kind, "relatedSpdxElement": b} for a, kind, b in relations
        ],
    }
    if texts:
        form["hasExtractedLicensingInfos"] = [
            {"licenseId": ref, "name": name, "extractedText": f"The package names this licence {name!r}."}
            for ref, name in sorted(texts.items())
        ]
    notes = [] if inventory.complete else ["The inventory of the host was cut: packages are missing."]
    if inventory.files_not_listed:
        notes.append(f"{inventory.files_not_listed} more files that no package owns are not listed.")
    body = _lines(form)
    name = f"{subject.name}-{subject.version}-{subject.architecture}"
    head: dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"urn:uuid:{_uuid(_lines({'created': subject.created, 'name': name}) + body)}",
        "creationInfo": {"created": subject.created, "creators": ["Tool: goldenami"]},
    }
    if notes:
        head["comment"] = " ".join(notes)
    return _document(head, body)


def _spdx_head(id: str, name: str, version: str) -> dict[str, Any]:
    return {
        "SPDXID": id,
        "name": name,
        **({"versionInfo": version} if version else {}),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
    }


def _spdx_package(id: str, one: Component, inventory: Inventory, texts: dict[str, str]) -> dict[str, Any]:
    """Return a package. ``texts``: gets the licences that are not in SPDX's list, by their reference."""
    name = f"{one.group}:{one.name}" if one.group else one.name
    form = _spdx_head(id, name, one.version)
    supplier = _MAILBOX.sub("", one.supplier).strip()
    form["supplier"] = f"Organization: {supplier}" if supplier else "NOASSERTION"
    form |= {
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": _spdx_licence(one.licences, texts),
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl(one, inventory),
            }
        ],
    }
    if one.type in SYSTEM_TYPES:
        form["sourceInfo"] = f"built from the source package {one.source} {one.source_version}"
    elif one.path:
        form["sourceInfo"] = f"found in {one.path}"
    if re.fullmatch(r"https?://[!-~]+", one.homepage):
        form["homepage"] = one.homepage
    return form


def _spdx_licence(names: Sequence[str], texts: dict[str, str]) -> str:
    parts = []
    for name in names:
        known = licences.expression(name)
        if known is None:
            known = f"LicenseRef-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
            texts[known] = name
        parts.append(f"({known})" if " OR " in known and len(names) > 1 else known)
    return " AND ".join(dict.fromkeys(parts)) or "NOASSERTION"


FORMATS: Final[Mapping[str, Callable[[Inventory, Subject], str]]] = {"cyclonedx": cyclonedx, "spdx": spdx}
"""The formats of an SBOM by name."""
