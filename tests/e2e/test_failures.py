"""Builds that fail: each says what and where, exits with its own code, publishes nothing and leaves nothing."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.worlds.machines import Cloud, Workspace

pytestmark = pytest.mark.root

Check = Callable[[], None]


def environment(home: str = "111111111111", region: str = "eu-central-1", **more: str) -> str:
    """An environment with the home region as its only target; ``more``: other lines of it."""
    lines = {
        "home": f'{{account: "{home}", region: {region}}}',
        "targets": f"[{{account: home, regions: [{region}], kms_key: alias/golden-ami}}]",
        "catalog": "releases",
        **more,
    }
    return "environments:\n  test:\n" + "".join(f"    {key}: {value}\n" for key, value in lines.items())


def mutations(calls: list[dict[str, object]]) -> list[str]:
    from tests.worlds.machines import READING

    return [str(c["action"]) for c in calls if not str(c["action"]).startswith(READING)]


# --- before anything is launched --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("project", "status", "message"),
    [
        pytest.param(
            environment(
                targets="[{account: home, regions: [eu-central-1, eu-west-1], kms_key: alias/nobody-made-this}]"
            ),
            3,
            r"(?s)goldenami.yaml:4:76: KMS key alias/nobody-made-this does not exist in region eu-central-1 of account "
            r"111111111111.*goldenami.yaml:4:76: KMS key alias/nobody-made-this does not exist in region eu-west-1",
            id="missing KMS key",
        ),
        pytest.param(
            environment(
                targets="[{account: home, regions: [eu-central-1], kms_key: alias/golden-ami}, "
                "{account: home, regions: [eu-wset-1], kms_key: alias/golden-ami}]"
            ),
            3,
            r"error: goldenami.yaml:4:110: region eu-wset-1 does not exist\n.*Did you mean eu-west-1\?",
            id="no such region",
        ),
        pytest.param(
            environment(region="eu-central-9"), 3, r"error: region eu-central-9 does not exist", id="no such home"
        ),
        pytest.param(
            environment(home="333333333333"),
            4,
            r"error: .*belong to account 111111111111 .*, expected 333333333333, the account 'home'",
            id="wrong account",
        ),
    ],
)
def test_refused_before_anything_is_made(
    workspace: Workspace, cloud: Cloud, project: str, status: int, message: str
) -> None:
    workspace.write("goldenami.yaml", project)
    workspace.recipe("refused", targets="all")
    ended = []
    calls = cloud.calls_of(lambda: ended.append(workspace.run("build", "refused")))
    assert ended[0].status == status, ended[0].stderr
    assert re.search(message, ended[0].stderr), ended[0].stderr
    assert ended[0].stdout == ""
    assert "Traceback" not in ended[0].stderr
    assert mutations(calls) == []


@pytest.mark.nightly
def test_architecture_that_the_sandbox_has_not(workspace: Workspace, unchanged: Check) -> None:
    text = workspace.recipe("arm").read_text().replace("amd64", "arm64")
    workspace.write("recipes/arm.yaml", text + "architectures: [arm64]\n")
    assert workspace.run("plan", "arm").status == 0
    done = workspace.run("build", "arm")
    assert done.status == 1, done.stderr
    assert "error: no instance could be launched in 111111111111/eu-central-1" in done.stderr
    assert "The sandbox has no contents for ami-" in done.stderr
    assert workspace.releases() == []
    unchanged()


# --- on the builder ---------------------------------------------------------------------------------------------------


@pytest.mark.nightly
def test_package_that_does_not_exist(workspace: Workspace, unchanged: Check) -> None:
    workspace.recipe("package", "software:\n  - package: {name: no-such-package-anywhere}\n")
    done = workspace.run("build", "recipes/package.yaml")
    assert done.status == 1, done.stderr
    assert "recipes/package.yaml:6:5" in done.stderr
    assert "no-such-package-anywhere" in done.stderr
    assert "nothing is left behind" in done.stderr
    assert workspace.releases() == []
    unchanged()


def test_first_gate(workspace: Workspace, unchanged: Check) -> None:
    """The builder is kept, so that the mistake is found on it; then everything is deleted."""
    more = "software:\n  - file: {dest: /opt/moon, content: full}\n"
    workspace.recipe("gate-one", f"{more}tests: [base, tests/no_test.py]\n")
    workspace.write("recipes/tests/no_test.py", "def test_moon(host):\n    assert host.file('/moon').exists\n")
    done = workspace.run("build", "gate-one", "--on-failure", "keep")
    assert done.status == 5, done.stderr
    assert re.search(r"recipes/tests/no_test.py.*test_moon", done.stderr), done.stderr
    assert "seal" not in done.stderr, "what did not pass is not captured"
    assert workspace.releases() == []
    kept = re.search(r"Log in: goldenami ssh --host builder/x86_64 (\S+); or: (ssh .*)", done.stderr)
    assert kept is not None, done.stderr
    build_id = kept[1]
    asked = workspace.run("ssh", build_id, "--", "cat /opt/moon; id -un; exit 9")
    assert (asked.status, asked.stdout) == (9, "fulladmin\n"), asked.stderr
    direct = subprocess.run([*shlex.split(kept[2]), "exit 4"], capture_output=True, text=True, timeout=60, check=False)
    assert direct.returncode == 4, direct.stderr

    applied = workspace.run("apply", "gate-one", "--on", build_id, "--check", "--json")
    assert (applied.status, applied.json["changed"]) == (0, 0), applied.stderr
    assert "PRIVATE" not in workspace.run("builds", "log", build_id).stdout
    workspace.recipe("gate-one", f"{more.replace('full', 'new')}tests: [base, tests/no_test.py]\n")
    applied = workspace.run("apply", "gate-one", "--on", build_id, "--check", "--json")
    assert (applied.status, applied.json["changed"]) == (5, 1), applied.stderr
    for changed in (1, 0):
        applied = workspace.run("apply", "gate-one", "--on", build_id, "--json")
        assert (applied.status, applied.json["changed"]) == (0, changed), applied.stderr
    tested = workspace.run("test", "gate-one", "--on", build_id)
    assert tested.status == 5, tested.stderr
    workspace.write("recipes/tests/no_test.py", "def test_moon(host):\n    assert host.file('/opt/moon').exists\n")
    tested = workspace.run("test", "gate-one", "--on", build_id, "--json")
    assert tested.status == 0, tested.stderr
    assert tested.json["tests"][0]["failed"] == 0

    refused = workspace.run("resume", build_id)
    assert refused.status == 2, refused.stderr
    assert f"goldenami apply RECIPE --on {build_id}" in refused.stderr
    assert workspace.run("clean", build_id).status == 0
    assert workspace.run("ssh", build_id).status == 3
    unchanged()


def test_second_gate(workspace: Workspace, unchanged: Check) -> None:
    workspace.recipe("gate-two", "tests: [base, tests/image_test.py]\n", targets="[home/eu-central-1, apps/eu-west-1]")
    workspace.write(
        "recipes/tests/image_test.py",
        'import pytest\n\n\n@pytest.mark.gate("image")\ndef test_moon(host):\n    assert host.file("/moon").exists\n',
    )
    done = workspace.run("build", "gate-two")
    assert done.status == 5, done.stderr
    assert re.search(r"recipes/tests/image_test.py.*test_moon", done.stderr), done.stderr
    assert "capture" in done.stderr
    assert "nothing is left behind" in done.stderr
    assert workspace.releases() == []
    unchanged()


@pytest.mark.nightly
def test_builder_that_cannot_be_logged_in_to(workspace: Workspace, unchanged: Check) -> None:
    workspace.recipe("unreachable", "builder: {ssh_user: nobody-here, ssh_timeout: 6s}\n")
    done = workspace.run("build", "unreachable")
    assert done.status == 1, done.stderr
    assert re.search(r"error: no SSH connection within 6 s: .*nobody-here@", done.stderr), done.stderr
    assert "The last lines of its console:" in done.stderr
    assert "nothing is left behind" in done.stderr
    assert workspace.releases() == []
    unchanged()


# --- while images are copied ------------------------------------------------------------------------------------------


@pytest.mark.nightly
def test_key_that_is_disabled_under_way(workspace: Workspace, cloud: Cloud) -> None:
    """EC2 accepts the copy and fails it later. The other target keeps its image; resuming repeats only what failed."""
    from tests.worlds.machines import HOME, events_of, until

    home, west = (HOME, "eu-central-1"), (HOME, "eu-west-1")
    kms, key = cloud.client("kms", west), cloud.key(west)
    workspace.recipe("disabled", targets="[home/eu-central-1, home/eu-west-1]")
    events = workspace.root / "events"
    before = cloud.inventory()
    try:
        build = workspace.start("build", "disabled", "--events", str(events))
        until(lambda: any(e["kind"] == "stage.started" for e in events_of(events)))
        kms.disable_key(KeyId=key)
        _, errors = build.communicate(timeout=300)
    finally:
        build.kill()
        kms.enable_key(KeyId=key)
    said = errors.decode()
    assert build.returncode == 6, said
    assert re.search(r"home/eu-west-1: .*[Gg]iven key ID is not accessible", said), said
    assert workspace.releases() == []
    left = cloud.inventory() - before
    assert {kind for kind, _, _ in left} == {"image", "snapshot"}
    assert sorted(place for kind, place, _ in left if kind == "image") == [home, home], "the candidate and its copy"
    [build_id] = re.findall(r"goldenami resume (\S+)", said)
    assert f"goldenami clean {build_id}" in said

    ended = []
    calls = cloud.calls_of(lambda: ended.append(workspace.run("resume", "--json")))
    assert ended[0].status == 0, ended[0].stderr
    made = [(c["action"], c["region"]) for c in calls if c["action"] in ("RunInstances", "CreateImage", "CopyImage")]
    assert made == [("CopyImage", "eu-west-1")]
    assert ended[0].manifest["build_id"] == build_id
    kept = {id for kind, _, id in left if kind == "image"}
    rows = {row["region"]: row["image_id"] for row in ended[0].manifest["images"]}
    assert rows["eu-central-1"] in kept
    new = cloud.inventory() - before
    assert sorted(id for kind, _, id in new if kind == "image") == sorted(rows.values())
    assert {kind for kind, _, _ in new} == {"image", "snapshot", "parameter"}
