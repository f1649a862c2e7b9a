"""The summary of a build, compared with its expected text at fixed widths."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from goldenami.errors import BuilderError
from goldenami.model import (
    MANIFEST_SCHEMA,
    ImageManifest,
    ManifestImage,
    ManifestSnapshot,
    Package,
    PackageChange,
    Replacement,
    TestReport,
)
from goldenami.report import Leftover, render_failure, render_release

KEY = "arn:aws:kms:{}:{}:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def image(account: str, region: str, number: int, *, encrypted: bool = True, mode: str = "copy") -> ManifestImage:
    key = KEY.format(region, account) if encrypted else None
    snapshot = ManifestSnapshot(f"snap-{number:017x}", "/dev/xvda", 8, encrypted, key)
    return ManifestImage("x86_64", account, region, f"ami-{number:017x}", "n", mode, encrypted, (snapshot,))


MANIFEST = ImageManifest(
    schema=MANIFEST_SCHEMA,
    recipe="debian-12-web",
    version="1.4.20261124.1",
    build_id="b",
    digest="0f" * 32,
    environment="sandbox",
    created="2026-11-24T03:00:00Z",
    base={},
    images=(
        image("111111111111", "us-east-1", 2),
        image("222222222222", "eu-west-1", 3, mode="share"),
        image("111111111111", "eu-central-1", 1, encrypted=False),
    ),
    tests=(TestReport("builder", "x86_64", 41, 0, 2, 1, 3.0),),
    packages={"x86_64": tuple(Package(f"p{n}", "1", "amd64") for n in range(312))},
    changes={"x86_64": (PackageChange("a", None, "1"), PackageChange("b", "1", "2"), PackageChange("c", "1", "2"))},
)


def page(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, color_system=None)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def test_release() -> None:
    console = page(120)
    render_release(
        MANIFEST,
        console,
        accounts={"111111111111": "home", "222222222222": "apps"},
        notes={"share": "shared"},
        seconds=54.2,
    )
    assert (
        text(console)
        == """
debian-12-web 1.4.20261124.1 · 0f0f0f0f0f0f · 54 s
ACCOUNT  REGION        ARCH    IMAGE                  ENCRYPTED  KEY
apps     eu-west-1     x86_64  ami-00000000000000003  yes        shared, 1234abcd-12ab-34cd-56ef-1234567890ab
home     eu-central-1  x86_64  ami-00000000000000001  NO
home     us-east-1     x86_64  ami-00000000000000002  yes        1234abcd-12ab-34cd-56ef-1234567890ab
tests at gate builder (x86_64): 41 passed, 1 flaky, 2 skipped
packages (x86_64): 312, against the base image 1 added, 2 updated
"""
    )


def test_lost_instances_are_listed() -> None:
    console = page(120)
    lost = Replacement("builder", "x86_64", "i-0123", "EC2 reclaimed the spot instance", True, "2026-11-24T20:00:00Z")
    render_release(replace(MANIFEST, replacements=(lost,)), console)
    assert "lost on the way and replaced: builder i-0123 (x86_64): EC2 reclaimed the spot instance" in text(console)


def test_tests_that_were_not_executed_are_told_also_where_the_others_are_not() -> None:
    manifest = replace(MANIFEST, tests=(replace(MANIFEST.tests[0], skipped=12, not_executed=10),))
    console = page(100)
    render_release(manifest, console, tests=False)
    assert "tests not executed at gate builder (x86_64): 10, they prove nothing" in text(console)
    console = page(100)
    render_release(manifest, console)
    assert "tests at gate builder (x86_64): 41 passed, 1 flaky, 12 skipped, of which 10 not executed" in text(console)


def test_release_on_a_narrow_terminal_keeps_the_ids() -> None:
    console = page(80)
    render_release(MANIFEST, console)
    for entry in MANIFEST.images:
        assert entry.image_id in text(console)
    assert all(len(line) <= 80 for line in text(console).splitlines() if "ami-" in line)


def test_release_on_a_wide_terminal_has_whole_keys_and_account_ids() -> None:
    console = page(200)
    render_release(MANIFEST, console, accounts={"111111111111": "home"})
    assert KEY.format("us-east-1", "111111111111") in text(console)
    assert "home 111111111111" in text(console)


def test_failure() -> None:
    console = page(100)
    render_failure(
        BuilderError("The builder did not answer.", hint="Look at its console."),
        console,
        leftovers=[Leftover("snapshot", "snap-2", "1/eu"), Leftover("instance", "i-1", "1/eu")],
        next_steps={"continue": "goldenami resume 20261124-ab", "clean up": "goldenami clean 20261124-ab"},
    )
    assert (
        text(console)
        == """
error: The builder did not answer.
hint: Look at its console.
left behind (2):
  instance  i-1     1/eu
  snapshot  snap-2  1/eu
to continue: goldenami resume 20261124-ab
to clean up: goldenami clean 20261124-ab
"""
    )


def test_failure_without_resources_left_behind() -> None:
    console = page(100)
    render_failure(BuilderError("No."), console, next_steps={})
    assert text(console).endswith("nothing is left behind\n")
