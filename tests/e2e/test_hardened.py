"""The hardened recipes that are shipped: every control holds on two instances of an image, and all still works."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from goldenami import recipe as recipes
from goldenami import ssh
from goldenami.hardening import SUITE, UNDONE, Batch
from goldenami.model import SshEndpoint
from goldenami.validate import TestPath, require, run_suite

if TYPE_CHECKING:
    from tests.worlds.machines import Cloud, Workspace

pytestmark = [pytest.mark.root, pytest.mark.nightly]  # `tests/installed` builds a hardened image too

NAME = "debian-12-hardened"
BASE = 'base: {filter: debian-12-amd64-*, owners: ["136693071363"]}'


ONE_TARGET = ("distribution: {", "distribution: {targets: [home/eu-central-1], ")


def copy_of_what_is_shipped(folder: Path) -> None:
    from tests.worlds.machines import PROJECT

    for name in ("recipes", "hardening"):
        shutil.copytree(PROJECT / name, folder / name)


def edit(path: Path, changes: Mapping[str, str]) -> None:
    text = path.read_text()
    for old, new in changes.items():
        assert old in text, f"{path.name} says it otherwise: {old}"
        text = text.replace(old, new)
    path.write_text(text)


@dataclass(frozen=True)
class Hardened:
    workspace: Workspace
    manifest: dict[str, Any]
    instances: list[str]
    endpoints: list[SshEndpoint]

    @property
    def controls(self) -> list[dict[str, Any]]:
        [report] = [t for t in self.manifest["tests"] if t["gate"] == "image"]
        return list(report["controls"])


@pytest.fixture(scope="module")
def hardened(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hardened]:
    """The recipe over Debian's own image, built for one target with one waiver; and two instances of what came out."""
    from tests.worlds.machines import HOME, SANDBOX, Workspace

    workspace = Workspace(tmp_path_factory.mktemp("hardened"), cloud)
    workspace.write("goldenami.yaml", SANDBOX)
    copy_of_what_is_shipped(workspace.root)
    edit(
        workspace.root / f"recipes/{NAME}.yaml",
        {
            "base: {recipe: debian-12-base, channel: stable}": BASE,
            ONE_TARGET[0]: ONE_TARGET[1],
            "hardening:\n": "hardening:\n  waivers: {module-firewire: {reason: no such bus, expires: 2999-12-31}}\n",
        },
    )
    done = workspace.run("build", NAME, "--json")
    assert done.status == 0, done.stderr
    [image] = done.manifest["images"]
    place = (HOME, "eu-central-1")
    ec2 = cloud.client("ec2", place)
    instances: list[str] = []
    endpoints: list[SshEndpoint] = []
    try:
        for number in (1, 2):
            login, host_key = ssh.generate_keypair(), ssh.generate_keypair()
            ec2.import_key_pair(KeyName=f"{NAME}-{number}", PublicKeyMaterial=login.public_key.encode())
            keys = {"ed25519_private": host_key.private_key, "ed25519_public": host_key.public_key}
            launched = ec2.run_instances(
                ImageId=image["image_id"],
                InstanceType="t3.small",
                KeyName=f"{NAME}-{number}",
                MinCount=1,
                MaxCount=1,
                MetadataOptions={"HttpTokens": "required"},
                UserData="#cloud-config\n" + json.dumps({"ssh_deletekeys": True, "ssh_keys": keys}) + "\n",
            )
            instances.append(launched["Instances"][0]["InstanceId"])
            address = cloud.address(place, instances[-1])
            endpoints.append(SshEndpoint(address, "admin", login.private_key, host_key.public_key))
        yield Hardened(workspace, done.manifest, instances, endpoints)
    finally:
        ec2.terminate_instances(InstanceIds=instances)
        for number in (1, 2):
            ec2.delete_key_pair(KeyName=f"{NAME}-{number}")


def test_every_control_is_in_the_manifest(hardened: Hardened) -> None:
    outcomes: dict[str, list[str]] = {}
    for result in hardened.controls:
        outcomes.setdefault(result["outcome"], []).append(result["control"])
    assert set(outcomes) == {"passed", "waived", "not-applicable"}
    assert len(outcomes["passed"]) >= 120
    assert outcomes["waived"] == ["module-firewire"]
    assert outcomes["not-applicable"] == ["mount-temporary-files"]
    by_id = {result["control"]: result for result in hardened.controls}
    assert by_id["module-firewire"]["message"] == "no such bus"
    assert by_id["module-firewire"]["until"] == "2999-12-31"
    assert by_id["mount-temporary-files"]["message"] == "in a container, /tmp is mounted by the container manager"
    shown = hardened.workspace.run("images", "show", NAME)
    assert f"{len(outcomes['passed'])} passed, " in shown.stdout
    assert "(module-firewire until 2999-12-31)" in shown.stdout


@pytest.mark.parametrize("number", [0, 1])
def test_it_still_works(hardened: Hardened, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSH, sudo, cloud-init's rules, apt, no failed unit; and every control, on each of two instances."""
    monkeypatch.chdir(hardened.workspace.root)
    project = recipes.load_project(hardened.workspace.root)
    loaded = recipes.load(project, NAME, recipes.environment(project, None))
    report = run_suite(
        hardened.endpoints[number],
        ["base", TestPath(SUITE, "hardening")],
        gate="image",
        architecture="x86_64",
        report_dir=tmp_path,
        variables={"hardening": Batch.of(loaded.hardening["x86_64"].controls).to_json(), UNDONE: None},
    )
    require(report)
    assert report.passed > 140


COMPARED = """
for n in $(seq 1500); do
  ! systemctl show aidecheck 2>/dev/null | grep -qx ExecMainCode=1 || break
  sleep 0.2
done
systemctl show aidecheck -p ExecMainCode -p ExecMainStatus
"""
NO_DIFFERENCE = "ExecMainCode=1\nExecMainStatus=0\n"  # it has exited, with nothing to tell


def test_the_picture_of_the_files_is_of_the_finished_image(hardened: Hardened) -> None:
    """AIDE, which compares after each boot, finds nothing on a new instance that somebody would learn to overlook."""
    for instance in hardened.instances:
        assert hardened.workspace.cloud.inside(instance, "sh", "-c", COMPARED) == NO_DIFFERENCE


GUESSING = """
echo 'Defaults:guessed passwd_tries=1' >/etc/sudoers.d/guessed
useradd -m -G sudo guessed
! echo guessed:password | chpasswd 2>/dev/null || echo a word of the dictionary is a password
echo guessed:Violet-7-harbour | chpasswd
guess() { printf '%s\\n' "$1" | runuser -u guessed -- sudo -S -k -p '' true 2>/dev/null && echo in || echo out; }
counted() { faillock --user guessed | grep -c ' V$'; }
guess wrong
counted
guess Violet-7-harbour
counted
for n in 1 2 3 4; do guess wrong; done
guess Violet-7-harbour
cp /etc/security/faillock.conf /run/faillock.conf
sed -i 's/unlock_time = .*/unlock_time = 1/' /etc/security/faillock.conf
sleep 1.1
guess Violet-7-harbour
cat /run/faillock.conf >/etc/security/faillock.conf
userdel -r guessed 2>/dev/null
rm /etc/sudoers.d/guessed
"""


# What a locked screen does: it asks PAM whether the password is right, and not whether the account may get in.
AT_A_SCREEN = """
import ctypes, subprocess, sys
pam, libc = ctypes.CDLL("libpam.so.0"), ctypes.CDLL(None)
libc.calloc.restype = libc.strdup.restype = ctypes.c_void_p
class Reply(ctypes.Structure):
    _fields_ = [("text", ctypes.c_void_p), ("code", ctypes.c_int)]
Ask = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.POINTER(Reply)), ctypes.c_void_p
)
class Conversation(ctypes.Structure):
    _fields_ = [("ask", Ask), ("data", ctypes.c_void_p)]
def gets_in(service, password):
    def ask(count, questions, replies, data):
        replies[0] = ctypes.cast(libc.calloc(count, ctypes.sizeof(Reply)), ctypes.POINTER(Reply))
        for number in range(count):
            replies[0][number].text = libc.strdup(password)
        return 0
    handle, conversation = ctypes.c_void_p(), Conversation(Ask(ask), None)
    pam.pam_start(service, b"screened", ctypes.byref(conversation), ctypes.byref(handle))
    result = pam.pam_authenticate(handle, 0)
    pam.pam_end(handle, result)
    return result == 0
def counted():
    return subprocess.run(["faillock", "--user", "screened"], capture_output=True, text=True).stdout.count(" V\\n")
subprocess.run(["useradd", "screened"], check=True)
subprocess.run(["chpasswd"], input=b"screened:Violet-7-harbour", check=True)
with open("/etc/pam.d/two-factors", "w") as file:
    file.write("@include common-auth\\nauth required pam_deny.so\\n")
for service in (b"screen", b"two-factors"):
    print(gets_in(service, b"wrong"), counted(), gets_in(service, b"Violet-7-harbour"), counted())
subprocess.run(["rm", "/etc/pam.d/two-factors"])
subprocess.run(["userdel", "screened"])
"""


def prove_lockout(cloud: Cloud, instance: str) -> None:
    """By sudo, which asks PAM. A success clears the count; of four wrong passwords in a row, time heals. At a locked
    screen a success clears it, too; elsewhere, what a service asks after the password is asked."""
    told = cloud.inside(instance, "sh", "-c", GUESSING).split()
    assert told == ["out", "1", "in", "0", *("out", "out", "out", "out"), "out", "in"]
    told = cloud.inside(instance, "python3", "-c", AT_A_SCREEN).splitlines()
    assert told == ["False 1 True 0", "False 1 False 1"]


def test_an_account_whose_password_is_guessed_is_locked_for_a_while(hardened: Hardened) -> None:
    prove_lockout(hardened.workspace.cloud, hardened.instances[0])


def test_packages_install_for_real(hardened: Hardened) -> None:
    """With questions asked, scripts run and a service started, on the hardened instance."""
    with ssh.connect(hardened.endpoints[0], timeout=60) as connection:
        done = connection.run(
            "sudo -n env DEBIAN_FRONTEND=noninteractive sh -c "
            "'apt-get update -qq && apt-get install -y -qq anacron >/dev/null && systemctl is-enabled anacron.service'"
        )
    assert done.status == 0, done.stderr.decode()
    assert done.text.endswith("enabled")


def test_a_key_is_accepted_longer_than_a_password(hardened: Hardened) -> None:
    """Who gets an account the way cloud-init makes one is not locked out by the age of a password that he has not."""
    with ssh.connect(hardened.endpoints[1], timeout=60) as connection:
        done = connection.run(
            "sudo -n sh -ec 'useradd -m late; for _ in $(seq 120); do "
            "! grep -q ^late:!:.*:365: /etc/shadow || sleep 1; done; "
            "getent shadow late | cut -d: -f5; systemctl is-enabled golden-ageing.path'"
        )
    assert done.status == 0, done.stderr.decode()
    assert done.text.splitlines() == ["-1", "enabled"] or done.text.splitlines() == ["", "enabled"]


def test_drift_is_found(hardened: Hardened, tmp_path: Path) -> None:
    """A host as it was built has none; what somebody changes is named, with the value and what it should be."""
    endpoint = hardened.endpoints[1]
    key = tmp_path / "key"
    key.write_text(endpoint.private_key)
    key.chmod(0o600)
    known = tmp_path / "known_hosts"
    known.write_text(f"{endpoint.address} {endpoint.host_key}\n")
    arguments = ["harden", "check", f"admin@{endpoint.address}", "--recipe", NAME, "-i", str(key)]
    before = hardened.workspace.run(*arguments, "--host-key", endpoint.host_key)
    assert (before.status, before.stdout) == (0, ""), before.stderr + before.stdout
    with ssh.connect(endpoint, timeout=60) as connection:
        changed = connection.run(
            "sudo -n sh -ec 'sed -i s/^MaxAuthTries.*/MaxAuthTries\\ 6/ /etc/ssh/sshd_config; chmod 644 /etc/crontab'"
        )
        assert changed.status == 0, changed.stderr
    after = hardened.workspace.run(*arguments, "--known-hosts", str(known), "--json")
    assert after.status == 5
    failed = {c["control"]: c for c in after.json["controls"] if c["outcome"] == "failed"}
    assert set(failed) == {"ssh-few-attempts", "cron-directories"}
    assert (failed["ssh-few-attempts"]["value"], failed["ssh-few-attempts"]["expected"]) == ("6", "'3'")
    assert failed["cron-directories"]["message"] == (
        "cron-directories: the host's value is '0644 root root'; expected: '0600 root root'"
    )
    stranger = replace(endpoint, host_key=ssh.generate_keypair().public_key)
    refused = hardened.workspace.run(*arguments, "--host-key", stranger.host_key, "--timeout", "5")
    assert refused.status == 1
    unknown = hardened.workspace.run(*arguments, "--known-hosts", str(tmp_path / "none"))
    assert unknown.status in (1, 3)


def test_debian_13(workspace: Workspace, cloud: Cloud) -> None:
    """The other recipe, with its base: each control holds, nothing differs from the picture, and guessing locks."""
    from tests.worlds.machines import HOME

    copy_of_what_is_shipped(workspace.root)
    hardened, base = (workspace.root / f"recipes/debian-13-{name}.yaml" for name in ("hardened", "base"))
    for path in (hardened, base):
        edit(path, dict([ONE_TARGET]))
    done = workspace.run("build", "debian-13-hardened", "--json")
    assert done.status == 0, done.stderr
    assert done.manifest["base"]["x86_64"]["name"].startswith("debian-13-base-")
    for report in done.manifest["tests"]:
        failed = [result["control"] for result in report["controls"] if result["outcome"] == "failed"]
        assert (failed, len(report["controls"]) >= 120) == ([], True), report["gate"]
    [row] = done.manifest["images"]
    place = (HOME, "eu-central-1")
    [instance] = cloud.launch(place, row["image_id"])
    try:
        cloud.address(place, instance)
        assert "VERSION_CODENAME=trixie" in cloud.inside(instance, "cat", "/etc/os-release")
        assert cloud.inside(instance, "sh", "-c", COMPARED) == NO_DIFFERENCE
        prove_lockout(cloud, instance)
    finally:
        cloud.client("ec2", place).terminate_instances(InstanceIds=[instance])
