"""Bills of materials are valid by the standards' own validators, stable, and of the release that was asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from goldenami.cli.main import main
from goldenami.evidence import licences
from goldenami.evidence.packages import Component, Inventory, UnownedFile, dumps
from goldenami.evidence.sbom import FORMATS, Subject
from goldenami.release.catalog import Catalog
from tests.release.conftest import make_manifest

ONE = "Debian OpenSSL Team <pkg@lists.debian.org>"
INVENTORY = Inventory(
    "debian",
    "12",
    "bookworm",
    (
        Component("deb", "bash", "5.2-2+b13", "amd64", source="bash", source_version="5.2-2", supplier="Matthias (x)",
                  licences=("GPL-3+", "Latex2e or GPL-2+", "Expat or GPL-2"), homepage="https://x.org/bash"),
        Component("deb", "libssl3", "3.0.11-1", "amd64", source="openssl", source_version="3.0.11-1", supplier=ONE,
                  licences=("Apache-2.0 or Expat",), homepage="not a URL"),
        Component("golang", "golang.org/x/net", "v0.17.0", path="/opt/a"),
        Component("golang", "golang.org/x/net", "v0.17.0", path="/opt/b"),
        Component("golang", "example.org/app", "", path="/opt/b"),
        Component("maven", "core", "2.14.1", group="org.a", path="/opt/x.jar"),
        Component("npm", "@s/x", "2.0.0", path="/opt/package.json"),
    ),
    (UnownedFile("/etc/app.conf", 5, "a" * 64), UnownedFile("/srv/large", 1 << 40)),
    4,
)  # fmt: skip
SUBJECT = Subject("debian-12-web", "1.4.20261124.1", "x86_64", "2026-11-24T03:00:00Z", "Debian with nginx")


def cyclonedx(inventory: Inventory = INVENTORY) -> dict[str, Any]:
    return dict(json.loads(FORMATS["cyclonedx"](inventory, SUBJECT)))


def spdx(inventory: Inventory = INVENTORY) -> dict[str, Any]:
    return dict(json.loads(FORMATS["spdx"](inventory, SUBJECT)))


def test_cyclonedx_is_valid_by_the_schema_of_the_standard() -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(cyclonedx())) is None
    assert validator.validate_str(json.dumps(cyclonedx() | {"serialNumber": "1"})) is not None


def test_spdx_is_valid_by_the_validator_of_the_standard() -> None:
    from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    parser: Any = JsonLikeDictParser  # it has no types

    def problems(form: dict[str, Any]) -> list[str]:
        found = validate_full_spdx_document(parser().parse(form))
        return [message.validation_message for message in found]

    assert problems(spdx()) == []
    wrong = spdx()
    wrong["packages"][1]["licenseDeclared"] = "no such licence"
    assert problems(wrong) != []


def test_the_facts_of_a_package() -> None:
    components = {c["bom-ref"]: c for c in cyclonedx()["components"]}
    libssl = components["pkg:deb/debian/libssl3@3.0.11-1?arch=amd64&distro=debian-12"]
    assert libssl["supplier"] == {"name": ONE}
    assert libssl["licenses"] == [{"expression": "Apache-2.0 OR MIT"}]
    assert "externalReferences" not in libssl
    assert {p["name"]: p["value"] for p in libssl["properties"]} == {
        "goldenami:architecture": "amd64",
        "goldenami:source": "openssl",
        "goldenami:source-version": "3.0.11-1",
    }
    bash = next(c for c in components.values() if c["name"] == "bash")
    assert bash["licenses"] == [
        {"license": {"id": "GPL-3.0-or-later"}},
        {"license": {"name": "Expat or GPL-2"}},
        {"license": {"name": "Latex2e or GPL-2+"}},
    ]
    packages = {p["name"]: p for p in spdx()["packages"]}
    assert packages["libssl3"]["sourceInfo"] == "built from the source package openssl 3.0.11-1"
    assert packages["libssl3"]["supplier"] == "Organization: Debian OpenSSL Team"
    declared = packages["bash"]["licenseDeclared"]
    assert declared.startswith("GPL-3.0-or-later AND LicenseRef-")
    assert declared.endswith(" AND (MIT OR GPL-2.0-only)")
    assert packages["/etc/app.conf"]["checksums"] == [{"algorithm": "SHA256", "checksumValue": "a" * 64}]
    assert packages["debian-12-web"]["versionInfo"] == "1.4.20261124.1"


def test_what_is_missing_is_said() -> None:
    cut = replace(INVENTORY, complete=False)
    properties = {p["name"]: p["value"] for p in cyclonedx(cut)["metadata"]["properties"]}
    assert properties == {"goldenami:complete": "false", "goldenami:files-not-listed": "4"}
    assert spdx(cut)["comment"].startswith("The inventory of the host was cut")
    assert "comment" not in spdx(replace(INVENTORY, files_not_listed=0))


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_release_gives_the_same_bytes(form: str) -> None:
    write = FORMATS[form]
    assert write(INVENTORY, SUBJECT) == write(INVENTORY, SUBJECT)
    name = "serialNumber" if form == "cyclonedx" else "documentNamespace"
    others = [
        (INVENTORY, replace(SUBJECT, version="1.4.20261124.2")),
        (replace(INVENTORY, components=INVENTORY.components[1:]), SUBJECT),
        (replace(INVENTORY, files=()), SUBJECT),
    ]
    ids = {json.loads(write(*one))[name] for one in [(INVENTORY, SUBJECT), *others]}
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPLv2+", "GPL-2.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("Expat", "MIT"),
        ("gpl-3.0-or-later", "GPL-3.0-or-later"),
        ("(MIT or GPLv3+) and ASL 2.0", "(MIT OR GPL-3.0-or-later) AND Apache-2.0"),
        ("GPL-2+ with OpenSSL exception", None),
        ("public-domain", None),
        ("BSD", None),
        ("MIT and", None),
        ("MIT)(", None),
        ("(MIT", None),
        ("MIT GPL-2", None),
        ("", None),
    ],
)
def test_only_clear_names_of_licences_are_translated(name: str, expected: str | None) -> None:
    assert licences.expression(name) == expected


def test_identifiers_of_licences_are_in_the_list_of_spdx() -> None:
    text = (files("cyclonedx.schema") / "_res/spdx.SNAPSHOT.schema.json").read_text()
    assert set(json.loads(text)["enum"]) >= licences.IDS


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "goldenami.yaml").write_text("environments:\n  sandbox: {sandbox: true, catalog: catalog}\n")
    monkeypatch.chdir(tmp_path)
    catalog = Catalog(tmp_path / "catalog")
    digest = catalog.keep_inventory(dumps(INVENTORY))
    arm = catalog.keep_inventory(dumps(replace(INVENTORY, components=())))
    manifest = make_manifest()
    catalog.add(manifest)
    catalog.add(replace(make_manifest("1.4.20261124.2"), inventories={"x86_64": digest}))
    catalog.add(replace(make_manifest("1.4.20261124.3"), inventories={"x86_64": digest, "arm64": arm}))
    return tmp_path


def test_the_sbom_of_a_release(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sbom", "debian-12-web@1.4.20261124.2"]) == 0
    form = json.loads(capsys.readouterr().out)
    assert form["metadata"]["timestamp"] == "2026-11-24T03:00:00Z"
    assert form["metadata"]["component"]["version"] == "1.4.20261124.2"
    assert main(["sbom", "debian-12-web@1.4.20261124.2", "--format", "spdx", "-o", "sbom.json"]) == 0
    assert json.loads((project / "sbom.json").read_text())["spdxVersion"] == "SPDX-2.3"


def test_a_release_of_several_architectures_or_of_none(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sbom", "debian-12-web@1.4.20261124.3"]) == 2
    assert "--architecture" in capsys.readouterr().err
    assert main(["sbom", "debian-12-web@1.4.20261124.3", "--architecture", "arm64"]) == 0
    kinds = [c["type"] for c in json.loads(capsys.readouterr().out)["components"]]
    assert kinds == ["operating-system", "file", "file"]
    assert main(["sbom", "debian-12-web@1.4.20261124.1"]) == 3
    assert "build it again" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [lambda data: data[:-2], lambda data: data.replace(b"bash", b"dash"), None])
def test_an_inventory_that_was_changed_is_refused(
    project: Path, damage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (project / "catalog/inventories").iterdir():
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage(file.read_bytes()))
    assert main(["sbom", "debian-12-web@1.4.20261124.2"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "is missing or damaged" in captured.err
