"""goldenami images list|show and goldenami resolve: data on stdout, talk on stderr, and the promised exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from goldenami import manifest as codec
from goldenami.cli.images import _is_deprecated
from goldenami.cli.main import main
from goldenami.model import BaseImage, PackageChange
from goldenami.release.catalog import Catalog
from goldenami.release.index import IndexedImage
from goldenami.release.presence import Presence
from goldenami.release.versions import Reference

from .conftest import ManifestFactory

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings = "{sandbox: true, catalog: .goldenami/sandbox/catalog}"
    (tmp_path / "goldenami.yaml").write_text(f"environments:\n  sandbox: {settings}\n")
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path / "recipes")  # goldenami.yaml is found above
    return tmp_path


@pytest.fixture
def filled(project: Path, manifest: ManifestFactory) -> Catalog:
    catalog = Catalog(project / ".goldenami" / "sandbox" / "catalog")
    catalog.add(manifest("1.4.20261124.1"))
    catalog.add(manifest("1.4.20261124.2", architectures=("x86_64", "arm64")))
    catalog.add(manifest("1.0.20261101.1", name="debian-12-base"))
    catalog.move("debian-12-web", "stable", "1.4.20261124.1", now=NOW)
    catalog.move("debian-12-web", "candidate", "1.4.20261124.2", now=NOW)
    return catalog


def test_resolve_prints_the_bare_id(filled: Catalog, capsys: Capture) -> None:
    assert main(["resolve", "debian-12-web@stable", "--region", "eu-west-1"]) == 0
    assert capsys.readouterr() == ("ami-111-eu-west-1-x86_64\n", "")
    for account in ("apps", "222222222222"):
        assert main(["resolve", "debian-12-web@stable", "--region", "us-east-1", "--account", account]) == 0
        assert capsys.readouterr().out == "ami-222-us-east-1-x86_64\n"
    arm = ["resolve", "debian-12-web@1.4.20261124.2", "--region", "us-east-1", "--architecture", "arm64"]
    assert main(arm) == 0
    assert capsys.readouterr().out == "ami-111-us-east-1-arm64\n"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["debian-12-wev@stable", "--region", "eu-west-1"], 3, "debian-12-web"),
        (["debian-12-web@stabel", "--region", "eu-west-1"], 3, "stable"),
        (["debian-12-web@stable", "--region", "eu-west-9"], 3, "eu-west-1"),
        (["debian-12-web@stable", "--region", "eu-west-1", "--account", "app"], 3, "apps (222222222222)"),
        (["debian-12-web@stable", "--region", "eu-west-1", "--account", "333333333333"], 3, "333333333333"),
        (["debian-12-web@candidate", "--region", "eu-west-1"], 2, "--architecture"),
        (["../etc@stable", "--region", "eu-west-1"], 2, "../etc"),
        (["debian-12-web@stable"], 2, "--region"),
        (["debian-12-web@stable", "--region", "eu-west-1", "-e", "production"], 3, "production"),
    ],
)
def test_resolve_says_what_is_wrong(
    filled: Catalog, capsys: Capture, arguments: list[str], code: int, told: str
) -> None:
    assert main(["resolve", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err


def test_export_prints_a_snippet_or_writes_a_file(filled: Catalog, tmp_path: Path, capsys: Capture) -> None:
    assert main(["export", "env", "debian-12-web@stable", "--pinned", "--account", "apps"]) == 0
    assert "AMI_DEBIAN_12_WEB_X86_64_EU_WEST_1=ami-222-eu-west-1-x86_64\n" in capsys.readouterr().out
    file = tmp_path / "ami.json"
    assert main(["export", "json", "debian-12-web@candidate", "-o", str(file)]) == 0
    assert capsys.readouterr() == ("", f"wrote {file}\n")
    names = [one["name"] for one in json.loads(file.read_text())["parameters"]]
    assert names == [f"/golden-ami/debian-12-web/{a}/candidate/image-id" for a in ("arm64", "x86_64")]
    assert main(["export", "env", "debian-12-web@1.4.20261124.1", "--following"]) == 2
    assert main(["export", "env", "debian-12-web@other"]) == 3


def test_resolve_takes_the_newest_good_release_of_a_line(filled: Catalog, capsys: Capture) -> None:
    arguments = ["resolve", "debian-12-web@1.4.x", "--region", "eu-west-1", "--architecture", "x86_64", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema": "goldenami.resolve/1",
        "image_id": "ami-111-eu-west-1-x86_64",
        "name": "debian-12-web",
        "version": "1.4.20261124.2",
        "created": "2026-11-24T03:00:00Z",
        "architecture": "x86_64",
        "account": "111111111111",
        "region": "eu-west-1",
        "channels": ["candidate"],
    }
    filled.marks.revoke("debian-12-web", "1.4.20261124.2", "it leaks", "arn:aws:iam::111111111111:user/ann", NOW)
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["version"] == "1.4.20261124.1"
    assert main(["resolve", "debian-12-web@candidate", "--region", "eu-west-1", "--architecture", "x86_64"]) == 3
    err = capsys.readouterr().err
    assert "revoked since 2026-11-24T03:00:00Z: it leaks" in err
    assert "debian-12-web@1.4.20261124.1" in err
    assert main(["resolve", "debian-12-web@1.5.x", "--region", "eu-west-1"]) == 3
    assert "It has 1.4.x." in capsys.readouterr().err


def test_the_environment_can_come_from_a_variable(
    filled: Catalog, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOLDENAMI_ENVIRONMENT", "production")
    assert main(["resolve", "debian-12-web@stable", "--region", "eu-west-1"]) == 3
    assert "production" in capsys.readouterr().err
    assert main(["resolve", "debian-12-web@stable", "--region", "eu-west-1", "-e", "sandbox"]) == 0


def test_the_release_of_an_image(filled: Catalog, capsys: Capture) -> None:
    assert main(["images", "of", "ami-111-eu-west-1-x86_64", "--json"]) == 0
    form = json.loads(capsys.readouterr().out)
    assert form.pop("age_days") >= 0
    assert form == {
        "schema": "goldenami.image-of/1",
        "image_id": "ami-111-eu-west-1-x86_64",
        "instance": None,
        "name": "debian-12-base",
        "version": "1.0.20261101.1",
        "channels": [],
        "was_in": [],
        "created": "2026-11-24T03:00:00Z",
        "newer_releases": 0,
        "newest": "1.0.20261101.1",
        "behind": {},
        "unusable": None,
    }
    filled.marks.revoke("debian-12-base", "1.0.20261101.1", "it leaks", "arn:aws:iam::111111111111:user/ann", NOW)
    assert main(["images", "of", "ami-111-eu-west-1-arm64"]) == 0
    out = capsys.readouterr().out
    assert "debian-12-web" in out
    assert "candidate" in out
    filled.move("debian-12-web", "stable", "1.4.20261124.2", now=NOW)
    filled.move("debian-12-web", "stable", "1.4.20261124.1", now=NOW)
    filled.move("debian-12-web", "candidate", "1.4.20261124.1", now=NOW)
    assert main(["images", "of", "ami-111-eu-west-1-arm64", "--json"]) == 0
    behind = {"current": "1.4.20261124.1", "releases": -1}
    assert json.loads(capsys.readouterr().out)["behind"] == {"candidate": behind, "stable": behind}
    assert main(["images", "of", "ami-0123456789abcdef0"]) == 3
    assert main(["images", "of", "vol-0123456789abcdef0"]) == 2


def test_list(filled: Catalog, capsys: Capture) -> None:
    assert main(["images", "list"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split() for line in out.splitlines()] == [
        ["NAME", "VERSION", "CHANNELS", "CREATED", "ARCHITECTURES", "IMAGES"],
        ["debian-12-base", "1.0.20261101.1", "-", "2026-11-24T03:00:00Z", "x86_64", "6"],
        ["debian-12-web", "1.4.20261124.2", "candidate", "2026-11-24T03:00:00Z", "arm64", "x86_64", "12"],
        ["debian-12-web", "1.4.20261124.1", "stable", "2026-11-24T03:00:00Z", "x86_64", "6"],
    ]
    assert main(["images", "list", "--json", "--name", "debian-12-base"]) == 0
    form = json.loads(capsys.readouterr().out)
    assert form["schema"] == "goldenami.releases/1"
    assert [(r["name"], r["version"], r["channels"]) for r in form["releases"]] == [
        ("debian-12-base", "1.0.20261101.1", [])
    ]
    assert main(["images", "list", "--json", "--name", "debian-*", "--channel", "stable", "--since", "2026-11-01"]) == 0
    form = json.loads(capsys.readouterr().out)
    assert [r["version"] for r in form["releases"]] == ["1.4.20261124.1"]
    assert (
        main(["images", "list", "--json", "--region", "us-east-1", "--account", "apps", "--before", "2026-12-01"]) == 0
    )
    assert [r["images"] for r in json.loads(capsys.readouterr().out)["releases"]] == [1, 2, 1]
    assert main(["images", "list", "--name", "x*"]) == 0
    assert capsys.readouterr() == ("", "No release matches.\n")
    assert main(["images", "list", "--since", "soon"]) == 2
    assert main(["images", "list", "--state", "deprecated", "--no-check"]) == 2
    capsys.readouterr()
    assert main(["images", "list", "--name", "debian-12-bass"]) == 3
    assert "debian-12-base" in capsys.readouterr().err


@pytest.mark.parametrize(("year", "is_deprecated"), [(2020, True), (2999, False)])
def test_deprecated_is_what_has_been_deprecated(filled: Catalog, year: int, is_deprecated: bool) -> None:
    released = filled.find(Reference.parse("debian-12-web@stable")).images
    (image, *others) = [IndexedImage(one.architecture, one.place, one.image_id) for one in released]
    presence = Presence({}, {(image.place, image.image_id): f"{year}-01-01T00:00:00.000Z"})
    assert _is_deprecated([image], presence) is is_deprecated
    assert not _is_deprecated(others, presence)


def test_an_empty_catalog(project: Path, capsys: Capture) -> None:
    assert main(["images", "list"]) == 0
    out, err = capsys.readouterr()
    assert (out, "no releases yet" in err) == ("", True)
    assert main(["images", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": "goldenami.releases/1", "releases": []}
    assert main(["images", "show", "web"]) == 3


def test_a_damaged_release_does_not_hide_the_others(filled: Catalog, project: Path, capsys: Capture) -> None:
    path = project / ".goldenami/sandbox/catalog/releases/debian-12-web/1.4.20261124.2.json"
    path.write_text("{")
    assert main(["images", "list"]) == 1
    out, err = capsys.readouterr()
    assert "1.4.20261124.1" in out
    assert str(path) in err
    assert main(["images", "show", "debian-12-web@candidate"]) == 1


def test_show(filled: Catalog, manifest: ManifestFactory, capsys: Capture) -> None:
    assert main(["images", "show", "debian-12-web@stable", "--json"]) == 0
    assert capsys.readouterr().out == codec.dumps(manifest("1.4.20261124.1"))
    assert main(["images", "show", "debian-12-web"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("debian-12-web 1.4.20261124.2\n")
    assert "candidate" in out
    assert "ami-222-us-east-1-arm64" in out


def test_the_lineage_of_a_release(filled: Catalog, manifest: ManifestFactory, capsys: Capture) -> None:
    base = BaseImage(
        "ami-1", "base", "self", "x86_64", "/dev/xvda", 8, "2026-11-01", "x", "debian-12-base 1.0.20261101.1"
    )
    filled.add(replace(manifest("1.0.20261124.1", name="child"), base={"x86_64": base}))
    assert main(["images", "lineage", "debian-12-base", "--json"]) == 0
    form = json.loads(capsys.readouterr().out)
    assert [(r["name"], r["distance"]) for r in form["releases"]] == [("debian-12-base", 0), ("child", 1)]
    assert main(["images", "lineage", "child@1.0.20261124.1"]) == 0
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["parent", "debian-12-base", "1.0.20261101.1"],
        ["this", "release", "child"],
    ]
    assert main(["images", "lineage", "child@1.0.20261124.2"]) == 3
    capsys.readouterr()
    assert main(["images", "history", "debian-12-web"]) == 0
    history = capsys.readouterr().out
    assert main(["history", "debian-12-web"]) == 0
    assert capsys.readouterr().out == history


def test_the_index_is_written_again(filled: Catalog, project: Path, capsys: Capture) -> None:
    index = project / ".goldenami/sandbox/catalog/index/catalog.json"
    index.unlink()
    assert main(["catalog", "reindex", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["releases"] == 3
    assert index.exists()


def test_resolving_loads_no_aws_library(filled: Catalog, project: Path) -> None:
    program = (
        "import sys; from goldenami.cli.main import main; "
        "code = main(['resolve', 'debian-12-web@stable', '--region', 'eu-west-1']); "
        "sys.exit(code or ('botocore' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=project, check=False).returncode == 0


def test_show_lists_what_changed_from_which_version_to_which(
    project: Path, manifest: ManifestFactory, capsys: Capture
) -> None:
    changes = (
        PackageChange("curl", "7.88.1-10", "7.88.1-11"),
        PackageChange("nano", "7.2-1", None),
        PackageChange("nginx-light", None, "1.22.1-9"),
    )
    changed = replace(manifest("1.4.20261124.1"), changes={"x86_64": changes})
    Catalog(project / ".goldenami" / "sandbox" / "catalog").add(changed)
    assert main(["images", "show", "debian-12-web"]) == 0
    assert "against the base 1 new, 1 updated, 1 removed" in capsys.readouterr().out
    assert main(["images", "show", "debian-12-web", "--changes"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["ARCHITECTURE", "PACKAGE", "BASE", "IMAGE"],
        ["x86_64", "curl", "7.88.1-10", "7.88.1-11"],
        ["x86_64", "nano", "7.2-1", "-"],
        ["x86_64", "nginx-light", "-", "1.22.1-9"],
    ]
