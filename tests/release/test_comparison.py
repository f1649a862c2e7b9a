"""What differs between two releases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goldenami.cli.main import main
from goldenami.evidence.state import File, State
from goldenami.model import (
    BaseImage,
    ControlResult,
    ImageManifest,
    Package,
    PackageSources,
    PackageUpdate,
    TestReport,
)
from goldenami.release.catalog import Catalog
from goldenami.release.comparison import compare, releases_between
from tests.release.conftest import APPS, HOME, PLACES, ManifestFactory

APT, DNF = (PackageSources(manager, ()) for manager in ("apt", "dnf"))


def packages(**versions: str) -> tuple[Package, ...]:
    return tuple(
        Package(name.replace("_", "-"), version, "amd64") for name, text in versions.items() for version in text.split()
    )


def release(make: ManifestFactory, version: str, installed: tuple[Package, ...], sources: PackageSources = APT,
            **more: object) -> ImageManifest:  # fmt: skip
    made = make(f"1.4.20261124.{version}")
    return replace(made, packages={"x86_64": installed}, sources={"x86_64": sources}, **more)  # type: ignore[arg-type]


def changes(before: ImageManifest, after: ImageManifest) -> Mapping[str, str]:
    return {one.name: one.change for one in compare(before, after).packages["x86_64"]}


def test_packages_are_compared_by_the_order_of_their_package_manager(manifest: ManifestFactory) -> None:
    before = release(
        manifest,
        "1",
        packages(bash="5.2", curl="7.88-10", gone="1", openssl="3.0.11~rc1", sudo="1.9.9", tz="2024b"),
    )
    after = release(
        manifest, "2", packages(bash="5.2", curl="7.88-9", new="1", openssl="3.0.11", sudo="1.9.10", tz="2024a")
    )
    expected = {
        "curl": "downgraded",
        "gone": "removed",
        "new": "added",
        "openssl": "upgraded",
        "sudo": "upgraded",
        "tz": "downgraded",
    }
    assert changes(before, after) == expected


@pytest.mark.parametrize(
    ("sources", "before", "after", "change"),
    [
        (DNF, "0:1.0^git1-1", "0:1.0-1", "downgraded"),  # rpm: a caret is newer than the end
        (APT, "1:1.0-1", "2.0-1", "downgraded"),  # dpkg: the epoch decides
        (APT, "6.1.0-1 6.1.0-2", "6.1.0-2 6.1.0-3", "upgraded"),  # two kernels
        (APT, "6.1.0-1 6.1.0-2", "6.1.0-2", "changed"),
        (PackageSources("none", ()), "1", "2", "changed"),
    ],
)
def test_the_change_of_a_package(
    manifest: ManifestFactory, sources: PackageSources, before: str, after: str, change: str
) -> None:
    first, second = (
        release(manifest, str(n), packages(linux=text), sources) for n, text in enumerate((before, after), 1)
    )
    assert changes(first, second) == {"linux": change}


def test_a_state_that_is_not_complete_is_left_out_and_named(manifest: ManifestFactory) -> None:
    before, after = (release(manifest, str(n), packages(curl="1")) for n in (1, 2))
    whole = State({"/a": File("f", "644", "0:0", 1)}, ports={"tcp 0.0.0.0:22": ""})
    other = State({}, ports={})
    assert compare(before, after, states=({"x86_64": whole}, {"x86_64": other})).unknown == ()
    for states, one in (
        ((whole, replace(other, complete=False)), after),
        ((replace(whole, complete=False), other), before),
    ):
        found = compare(before, after, states=({"x86_64": states[0]}, {"x86_64": states[1]}))
        assert (found.files, found.ports) == ({}, ())
        (line,) = found.unknown
        assert line == (
            f"the files, services, users and ports of x86_64 are unknown: the state of {one.label} is not complete"
        )


def test_everything_else_that_differs(manifest: ManifestFactory) -> None:
    def control(outcome: str) -> ControlResult:
        return ControlResult("ssh-root", outcome, until="2026-12-31" if outcome == "waived" else None)  # type: ignore[arg-type]

    def tests(passed: int, outcome: str) -> tuple[TestReport, ...]:
        return (TestReport("image", "x86_64", passed, 0, 2, 0, 1.0, controls=(control(outcome),)),)

    base = BaseImage("ami-1", "debian-12-1", "1", "x86_64", "/dev/xvda", 8, "2026-11-01", "filter debian-12-*")
    before = release(
        manifest,
        "1",
        packages(curl="1"),
        base={"x86_64": base},
        inputs={"recipe": "a" * 64, "templates/old.j2": "b" * 64},
        variables={"port": 80},
        tests=tests(30, "passed"),
    )
    after = release(
        manifest,
        "2",
        packages(curl="1"),
        base={"x86_64": replace(base, image_id="ami-2", name="debian-12-2")},
        inputs={"recipe": "c" * 64, "templates/new.j2": "b" * 64},
        variables={"port": 443},
        tests=tests(31, "waived"),
        images=before.images[1:],
    )
    found = compare(before, after)
    assert [(one.what, one.before, one.after) for one in found.bases] == [
        ("x86_64", "debian-12-1 (ami-1)", "debian-12-2 (ami-2)")
    ]
    assert [(one.what, one.before, one.after) for one in found.inputs] == [
        ("recipe", "a" * 12, "c" * 12),
        ("templates/new.j2", None, "b" * 12),
        ("templates/old.j2", "b" * 12, None),
    ]
    assert [(one.before, one.after) for one in found.variables] == [("80", "443")]
    assert [(one.before, one.after) for one in found.tests] == [("30 passed, 2 skipped", "31 passed, 2 skipped")]
    assert [(one.before, one.after) for one in found.controls] == [("passed", "waived until 2026-12-31")]
    assert [one.what for one in found.images] == [f"{PLACES[0].account}/{PLACES[0].region} x86_64"]
    assert not found.same


def test_tests_that_were_not_executed_are_told(manifest: ManifestFactory) -> None:
    """The same tests were skipped, but on an instance that lacked what they need: they prove nothing."""
    skipped = TestReport("image", "x86_64", 30, 0, 12, 0, 1.0)
    before = release(manifest, "1", packages(curl="1"), tests=(skipped,))
    after = release(manifest, "2", packages(curl="1"), tests=(replace(skipped, not_executed=10),))
    (found,) = compare(before, after).tests
    assert (found.before, found.after) == ("30 passed, 12 skipped", "30 passed, 12 skipped, of which 10 not executed")


def test_a_release_is_the_same_as_itself(manifest: ManifestFactory) -> None:
    one = release(manifest, "1", packages(curl="1"))
    assert compare(one, one).same


def test_a_rebuilt_manifest_is_unknown_and_not_the_same(manifest: ManifestFactory) -> None:
    rebuilt = release(manifest, "1", (), restored="2026-11-25T00:00:00Z")
    found = compare(rebuilt, release(manifest, "2", packages(curl="1")))
    assert (found.packages, found.tests) == ({}, ())
    assert found.unknown == (
        "the packages and tests of debian-12-web 1.4.20261124.1 are unknown: its manifest was rebuilt from the cloud",
    )


def test_releases_between() -> None:
    versions = ("4", "3", "2", "1")
    assert tuple(releases_between(versions, "1", "4")) == ("3", "2")
    assert tuple(releases_between(versions, "3", "4")) == ()
    assert tuple(releases_between(versions, "4", "1")) == (), "from newer to older, no update was installed"
    assert tuple(releases_between(versions, "0", "4")) == ()


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path, manifest: ManifestFactory, monkeypatch: pytest.MonkeyPatch) -> list[ImageManifest]:
    """Three releases in the catalog of a project; the second and the third installed updates."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "goldenami.yaml").write_text(
        f"""environments:
  test:
    home: {{account: "{HOME}", region: eu-central-1}}
    targets: [{{account: home, regions: [eu-central-1], kms_key: alias/golden-ami}}]
    catalog: catalog
    builds: builds
"""
    )

    def update(name: str, after: str, advisory: str) -> dict[str, Any]:
        made = PackageUpdate(name, "amd64", "1", after, "bookworm-security", True, (advisory,))
        return {"updates": {"x86_64": (made,)}}

    made = [
        release(manifest, "1", packages(curl="1", openssl="1")),
        release(manifest, "2", packages(curl="2", openssl="1"), **update("curl", "2", "DSA-1-1")),
        release(manifest, "3", packages(curl="2", openssl="2"), **update("openssl", "2", "DSA-2-1")),
    ]
    made = [
        replace(
            one,
            build_id=f"b-{n}",
            images=tuple(replace(i, image_id=f"ami-{n:017x}") for i in one.images[:1]),
        )
        for n, one in enumerate(made, 1)
    ]
    catalog = Catalog(tmp_path / "catalog")
    for one in made:
        catalog.add(one)
    return made


def test_two_releases_with_the_advisories_of_those_between(
    three: list[ImageManifest], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["images", "diff", "debian-12-web@1.4.20261124.1", "debian-12-web"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{three[0].label} ({three[0].created[:10]}) → {three[2].label} ({three[2].created[:10]})",
        "packages x86_64: 2 upgraded",
        "  ^ curl 1 → 2 (DSA-1-1)",
        "  ^ openssl 1 → 2 (DSA-2-1)",
        "the files, services, users and ports of x86_64 are unknown: a release has no state of its images",
    ]


def test_one_release_against_the_one_before(three: list[ImageManifest], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["images", "diff", three[1].images[0].image_id, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["before"]["version"], found["after"]["version"]) == (three[0].version, three[1].version)
    assert found["packages"] == {
        "x86_64": [{"name": "curl", "change": "upgraded", "before": ["1"], "after": ["2"], "advisories": ["DSA-1-1"]}]
    }
    assert main(["images", "diff", three[0].images[0].image_id]) == 3
    assert "is the first release of debian-12-web" in capsys.readouterr().err


def test_markdown_has_no_html_of_others(
    three: list[ImageManifest], manifest: ManifestFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["images", "diff", "debian-12-web", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("### debian-12-web")
    assert "<details><summary>packages x86_64: 1 upgraded</summary>" in lines
    assert main(["images", "diff", "debian-12-web", "--markdown", "--json"]) == 2


def test_what_is_no_release(three: list[ImageManifest], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["images", "diff", "debian-12-wed"]) == 3
    assert main(["images", "diff", "ami-0123456789abcdef0"]) == 3
    assert APPS not in capsys.readouterr().out
