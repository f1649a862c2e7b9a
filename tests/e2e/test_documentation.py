"""The commands of the documentation that need a server or a sandbox of their own: each block with the mark ``nightly``.

On paper, tests/docs/test_commands.py runs the others.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from goldenami import ssh
from tests.docs.examples import examples
from tests.docs.test_commands import ALL, Typed, mistakes, typed

if TYPE_CHECKING:
    from tests.worlds.machines import Place, Workspace

pytestmark = [pytest.mark.root, pytest.mark.nightly]

NAME = "debian-12-web"
BLOCKS = [one for one in ALL if one.mark == "nightly"]
TARGETS = "[home/eu-central-1, apps/eu-west-1]"
CHECK = "def test_title(host):\n    assert host.file('/opt/title').content_string == '{title}'\n"
BUILD, IMAGE, SERVER = "20261128-205708-239239b5", "ami-0123456789abcdef0", "admin@192.0.2.7"
# awscli before 2.13 and 1.29 does not read AWS_ENDPOINT_URL.
AWS = 'aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }\n'


def of_page(page: str) -> list[int]:
    """The numbers of a page's blocks in ``BLOCKS``."""
    return [number for number, one in enumerate(BLOCKS) if one.page == page]


# The test that runs the blocks of a page: all of them.
PAGES = {
    "builds.md": "test_builds_and_tests",
    "consuming.md": "test_builds_and_tests",
    "testing.md": "test_builds_and_tests",
    "snapshots.md": "test_snapshots_of_a_server",
    "contributing/journal.md": "test_the_journal_by_one_crash",
    "../README.md": "test_the_sandbox",
    "sandbox.md": "test_the_sandbox",
    "aws.md": "test_a_bucket_and_a_key",
}


def test_each_page_has_a_test() -> None:
    assert {one.page for one in BLOCKS} == PAGES.keys()
    assert all(name in globals() for name in PAGES.values())


def run(
    workspace: Workspace,
    number: int,
    names: Mapping[str, str] | None = None,
    *,
    without: str = "",
    variables: Mapping[str, str] | None = None,
) -> None:
    """Run a block in one shell. ``names``: what the page writes -> what it is here. ``without``: a word of
    commands that are left out, and of lines that are not printed. ``variables``: in place of those of the workspace."""

    def shell(script: str) -> str:
        for name, value in (names or {}).items():
            script = script.replace(name, value)
        done = subprocess.run(
            ["bash", "-c", AWS + script],
            cwd=workspace.root,
            env=reader(workspace) if variables is None else dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        return done.stdout

    def kept(line: str) -> bool:
        return not without or without not in line

    every = [Typed(one.script, [*filter(kept, one.shown)]) for one in typed(BLOCKS[number]) if kept(one.script)]
    assert every
    wrong, _ = mistakes(BLOCKS[number], every, shell)
    assert not wrong, "\n\n".join(wrong)


def reader(workspace: Workspace) -> dict[str, str]:
    """The variables of a person whose home directory is in the workspace."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return workspace.variables(PATH=path, HOME=str(workspace.root / "home"), AWS_PAGER="", COLUMNS="200")


@contextmanager
def server(workspace: Workspace) -> Iterator[str]:
    """An instance of Debian's image with the ``Name`` tag web-1, to which the reader can log in. Gives its address."""
    from tests.worlds.machines import HOME, until

    place: Place = (HOME, "eu-central-1")
    ec2 = workspace.cloud.client("ec2", place)
    login, host_key = ssh.generate_keypair(), ssh.generate_keypair()
    ec2.import_key_pair(KeyName="reader", PublicKeyMaterial=login.public_key.encode())
    keys = {"ed25519_private": host_key.private_key, "ed25519_public": host_key.public_key}
    answer = ec2.run_instances(
        ImageId=debian(workspace),
        InstanceType="t3.small",
        MinCount=1,
        MaxCount=1,
        KeyName="reader",
        MetadataOptions={"HttpTokens": "required"},
        UserData="#cloud-config\n" + json.dumps({"ssh_deletekeys": True, "ssh_keys": keys}) + "\n",
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web-1"}]}],
    )
    instance = answer["Instances"][0]["InstanceId"]
    try:
        address = workspace.cloud.address(place, instance)
        workspace.write("home/.ssh/id_ed25519", login.private_key).chmod(0o600)
        workspace.write("home/.ssh/known_hosts", f"{address} {host_key.public_key}\n")
        command = [*secure_shell(workspace, address).split(), "cloud-init status --wait || true"]
        until(lambda: subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0, 300)
        yield address
    finally:
        ec2.terminate_instances(InstanceIds=[instance])
        ec2.delete_key_pair(KeyName="reader")


def debian(workspace: Workspace) -> str:
    """Debian's image of Debian 12, in the home region."""
    from tests.worlds.machines import HOME

    ec2 = workspace.cloud.client("ec2", (HOME, "eu-central-1"))
    filters = [{"Name": "name", "Values": ["debian-12-amd64-*"]}]
    return str(ec2.describe_images(Owners=["136693071363"], Filters=filters)["Images"][0]["ImageId"])


def secure_shell(workspace: Workspace, address: str) -> str:
    """The command ``ssh`` with the files of the reader: it does not follow HOME."""
    files = workspace.root / "home/.ssh"
    return (
        f"ssh -F none -i {files}/id_ed25519 -o UserKnownHostsFile={files}/known_hosts -o BatchMode=yes admin@{address}"
    )


def test_builds_and_tests(workspace: Workspace) -> None:
    """A builder is kept because a test fails. The recipe is corrected on it and built, and the release is tested."""
    log_in, try_a_change, apply, test_it = of_page("builds.md")
    (on_demand,) = of_page("testing.md")
    (read_parameter,) = of_page("consuming.md")
    recipe = "software:\n  - file: {dest: /opt/title, content: old}\ntests: [base, tests/title_test.py]\n"
    workspace.recipe(NAME, recipe, targets=TARGETS)
    workspace.write("recipes/tests/title_test.py", CHECK.format(title="new"))
    failed = workspace.run("build", NAME, "--on-failure", "keep")
    assert failed.status == 5, failed.stderr
    kept = re.search(r"Log in: goldenami ssh --host builder/x86_64 (\S+);", failed.stderr)
    assert kept is not None, failed.stderr
    names = {BUILD: kept[1]}
    # A builder has no instance of gate 2. tests/e2e/test_lost_hosts.py logs in to one.
    run(workspace, log_in, names, without="--host proof")
    workspace.recipe(NAME, recipe.replace("old", "new"), targets=TARGETS)
    run(workspace, try_a_change, names)
    (release,) = workspace.releases()
    assert release["name"] == NAME
    image = workspace.run("resolve", f"{NAME}@stable", "--region", "eu-central-1").stdout.strip()
    run(workspace, read_parameter)
    run(workspace, on_demand, {IMAGE: image})
    assert "<html" in (workspace.root / "report.html").read_text()
    with server(workspace) as address:
        run(workspace, apply, {f"{SERVER}:2222": f"admin@{address}", SERVER: f"admin@{address}"})
        run(workspace, test_it, {IMAGE: image, SERVER: f"admin@{address}"})


def test_snapshots_of_a_server(workspace: Workspace) -> None:
    """What was written after the backup is not there after the restore."""
    (backup,) = of_page("snapshots.md")
    with server(workspace) as address:
        there = secure_shell(workspace, address)
        names = {
            "ssh admin@web-1 sudo apt-get full-upgrade": f"{there} sudo touch /opt/broken",
            "--to before-upgrade --yes": "--to before-upgrade --yes --new-public-address",
            "--quiet nginx": "--quiet ssh",
        }
        run(workspace, backup, names)
        found = subprocess.run([*there.split(), "ls /opt"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert (found.returncode, found.stdout) == (0, "")


# --- a sandbox of the reader ------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path, guarded: None) -> Iterator[Workspace]:
    """The default sandbox of a person who has used none before, and a project."""
    from goldenami_sandbox import control

    from tests.worlds.machines import SANDBOX, Cloud, Workspace

    home = tmp_path / "home/.local/share/goldenami/sandbox"
    made = Workspace(tmp_path, Cloud(control.up(home=home, die_with_parent=True, instances="systemd")))
    made.write("goldenami.yaml", SANDBOX)
    try:
        yield made
    finally:
        control.reset(home=home)


def without_sandbox(workspace: Workspace) -> dict[str, str]:
    """The variables of a person who has not said yet which cloud to use. The cache is that of the user of the tests."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    variables = {name: value for name, value in reader(workspace).items() if not name.startswith(("AWS_", "XDG_"))}
    return {**variables, "AWS_PAGER": "", "XDG_CACHE_HOME": cache}


def test_the_journal_by_one_crash(own: Workspace) -> None:
    crash, show, resume, status = of_page("contributing/journal.md")
    variables = without_sandbox(own)
    (recipe,) = examples("contributing/journal.md", "yaml")
    own.write("recipes/motd.yaml", recipe.text)
    # The page waits until both copies are on their way. How long that is, differs.
    journals = own.root / "home/.local/share/goldenami/sandbox/default/clients/sandbox/builds"
    copies = f'grep -c \'"operation":"CopyImage"\' {journals}/*/journal.jsonl 2>/dev/null'
    wait = f'until [ "$({copies})" = 2 ] || ! kill -0 $!; do sleep 0.1; done'
    run(own, crash, {"sleep 18": wait}, without="Killed", variables=variables)
    (build,) = journals.glob("*/journal.jsonl")
    run(own, show, {BUILD: build.parent.name}, variables=variables)
    run(own, resume, variables=variables)
    run(own, status, variables=variables)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq IS NOT INSTALLED, which the page uses: apt-get install jq")
@pytest.mark.skipif(shutil.which("aws") is None, reason="AWSCLI IS NOT INSTALLED: apt-get install awscli")
def test_the_sandbox(own: Workspace) -> None:
    from tests.worlds.machines import HOME, until

    life, client, inspect, log = of_page("sandbox.md")
    (start,) = of_page("../README.md")
    variables = without_sandbox(own)
    run(own, start, variables=variables)
    run(own, client)
    place: Place = (HOME, "eu-central-1")
    ec2 = own.cloud.client("ec2", place)
    image = debian(own)
    market = {"MarketType": "spot"}
    answer = ec2.run_instances(
        ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1, InstanceMarketOptions=market
    )
    instance = answer["Instances"][0]["InstanceId"]
    own.cloud.address(place, instance)
    until(
        lambda: (
            subprocess.run(
                ["bash", "-c", f"goldenami sandbox shell {instance} systemctl is-system-running --wait"],
                env=variables,
                capture_output=True,
            ).returncode
            == 0
        )
    )
    # `console -f` ends at Ctrl-C only.
    names = {"ami-0123…": image, "i-0123…": instance, "console -f": "console"}
    run(own, inspect, names, variables=variables)
    assert (own.root / "root.tar").stat().st_size > 2**20
    run(own, log, variables=variables)
    run(own, life, {" ID": f" {instance}"}, variables=variables)


@pytest.mark.skipif(shutil.which("aws") is None, reason="AWSCLI IS NOT INSTALLED: apt-get install awscli")
def test_a_bucket_and_a_key(own: Workspace) -> None:
    from tests.worlds.machines import HOME

    (create,) = of_page("aws.md")
    run(own, create, {"eu-central-1": "eu-north-1"})  # in eu-central-1 the sandbox has this key already
    kms = own.cloud.client("kms", (HOME, "eu-north-1"))
    assert kms.describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Description"] == "golden images"
