"""With real contents on a real instance: what was written before a snapshot comes back, what was written after it does
not; what is encrypted is ciphertext on the disk; and a host that was frozen thaws, whatever happens."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from goldenami import ssh
from goldenami.cli.main import main
from goldenami.errors import OperationFailed
from goldenami.model import SshEndpoint
from goldenami.snapshots import freeze

if TYPE_CHECKING:
    from goldenami_sandbox.control import SandboxInfo
    from mypy_boto3_ec2.type_defs import FilterTypeDef

pytestmark = pytest.mark.root
MARKER = f"planted plaintext {uuid.uuid4().hex}"


@dataclass
class Host:
    """An instance with a data volume that is mounted at /data."""

    info: SandboxInfo
    ec2: Any
    instance: str
    login: ssh.KeyPair
    key_file: Path
    folder: Path  # of the configuration and the catalog. All tests share it: a catalog forgets only its own volumes
    capsys: pytest.CaptureFixture[str] | None = None

    def run(self, *arguments: str) -> Any:
        code, out, err = self.try_(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    def try_(self, *arguments: str) -> tuple[int, str, str]:
        assert self.capsys is not None
        self.capsys.readouterr()
        code = main(list(arguments))
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def attached(self) -> dict[str, str]:
        found = self.ec2.describe_instances(InstanceIds=[self.instance])["Reservations"][0]["Instances"][0]
        return {m["DeviceName"]: m["Ebs"]["VolumeId"] for m in found["BlockDeviceMappings"]}

    def connect(self) -> ssh.Connection:
        return ssh.connect(self.endpoint(), timeout=60)

    def endpoint(self) -> SshEndpoint:
        found = self.ec2.describe_instances(InstanceIds=[self.instance])["Reservations"][0]["Instances"][0]
        console = self.ec2.get_console_output(InstanceId=self.instance)["Output"]
        keys = [line for line in console.splitlines() if line.startswith("ssh-ed25519 ")]
        return SshEndpoint(found["PrivateIpAddress"], "admin", self.login.private_key, " ".join(keys[-1].split()[:2]))

    def sh(self, script: str, stdin: bytes = b"") -> str:
        with self.connect() as connection:
            done = connection.run(f"sudo sh -c '{script}'", stdin, timeout=120)
            assert done.status == 0, done.stderr
            return done.text

    def write(self, path: str, text: str) -> None:
        """Over stdin: nothing of it comes into a log."""
        self.sh(f"cat > {path} && sync", text.encode())

    def mount(self) -> None:
        self.sh("mkdir -p /data && mount /dev/nvme1n1 /data")


@pytest.fixture(scope="session")
def launched(real_sandbox: SandboxInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    ec2 = boto3.client("ec2", **real_sandbox.client())
    name = f"snapshots-{uuid.uuid4().hex}"
    login = ssh.generate_keypair()
    key_file = tmp_path_factory.mktemp("key") / "id"
    key_file.write_text(login.private_key)
    key_file.chmod(0o600)
    ec2.import_key_pair(KeyName=name, PublicKeyMaterial=login.public_key.encode())
    filters: list[FilterTypeDef] = [{"Name": "name", "Values": ["debian-12-amd64-*"]}]
    image = ec2.describe_images(Owners=["136693071363"], Filters=filters)["Images"][0]["ImageId"]
    launched = ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1, KeyName=name)
    instance = launched["Instances"][0]["InstanceId"]
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    zone = launched["Instances"][0]["Placement"]["AvailabilityZone"]
    data = ec2.create_volume(AvailabilityZone=zone, Size=1, VolumeType="gp3")["VolumeId"]
    ec2.get_waiter("volume_available").wait(VolumeIds=[data], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    ec2.attach_volume(VolumeId=data, InstanceId=instance, Device="/dev/sdf")
    folder = tmp_path_factory.mktemp("project")
    (folder / "goldenami.yaml").write_text("environments:\n  sandbox: {sandbox: true}\n")
    host = Host(real_sandbox, ec2, instance, login, key_file, folder)
    until(lambda: ec2.describe_volumes(VolumeIds=[data])["Volumes"][0]["Attachments"][0]["State"] == "attached")
    host.sh("mkfs.ext4 -q /dev/nvme1n1")
    host.mount()
    yield host
    ec2.terminate_instances(InstanceIds=[instance])
    ec2.delete_key_pair(KeyName=name)


@pytest.fixture
def host(launched: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Host:
    monkeypatch.chdir(launched.folder)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in launched.info.variables().items():
        monkeypatch.setenv(name, value)
    launched.capsys = capsys
    return launched


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "that never came true"
        time.sleep(0.2)


# --- freezing ---------------------------------------------------------------------------------------------------------


def writable(host: Host) -> bool:
    with host.connect() as connection:
        return connection.run("sudo sh -c 'echo x > /data/probe && echo x > /root/probe'", timeout=120).status == 0


def test_a_frozen_host_thaws_by_the_word(host: Host) -> None:
    with host.connect() as other, host.connect() as connection:
        with freeze.frozen(connection) as mounts:
            assert mounts[-1] == "/"
            assert "/data" in mounts
            # A write waits; the channel that is open already still answers.
            started = other.run("(echo late > late; date +%s.%N > /tmp/ended) >/dev/null 2>&1 &")
            assert started.status == 0
            time.sleep(1)
            thawed = time.time()
        until(lambda: other.run("cat /tmp/ended").status == 0)
        assert float(other.run("cat /tmp/ended").text) > thawed
    assert writable(host)


def test_a_frozen_host_thaws_when_this_side_fails(host: Host) -> None:
    with host.connect() as connection, pytest.raises(RuntimeError), freeze.frozen(connection):
        raise RuntimeError
    assert writable(host)


def test_a_frozen_host_thaws_when_the_line_is_cut(host: Host) -> None:
    connection = host.connect()
    with pytest.raises(Exception), freeze.frozen(connection):  # noqa: B017  whatever the broken line gives
        connection.close()
    until(lambda: writable(host))


def test_the_watchdog_thaws_and_what_came_late_is_said(host: Host) -> None:
    with (
        host.connect() as connection,
        pytest.raises(OperationFailed, match="longer than 1 s"),
        freeze.frozen(connection, limit=1),
    ):
        time.sleep(2.5)
    assert writable(host)


# --- back in time -----------------------------------------------------------------------------------------------------


def test_what_was_written_before_comes_back_and_what_came_after_is_kept_for_the_way_back(host: Host) -> None:
    host.write("/root/before", "root before")
    host.write("/data/before", "data before")
    answer = host.run(
        "snapshot", "create", host.instance, "--name", "before-upgrade", "--consistent", "--ssh-key", str(host.key_file)
    )
    assert len(answer["snapshots"]) == 2
    assert writable(host)
    host.write("/root/before", "spoiled by the upgrade")
    host.write("/data/after", "data after")
    check = ["--check", "test -f /etc/debian_version", "--ssh-key", str(host.key_file)]
    answer = host.run(
        "snapshot", "restore", host.instance, "--to", "before-upgrade", "--yes", "--new-public-address", *check
    )
    assert answer["healthy"] is True
    host.mount()
    assert host.sh("cat /root/before /data/before") == "root beforedata before"
    assert "after" not in host.sh("ls /data").split()
    code, _, err = host.try_(
        "snapshot",
        "restore",
        host.instance,
        "--undo",
        "--yes",
        "--new-public-address",
        "--check",
        "false",
        "--ssh-key",
        str(host.key_file),
    )
    assert code == 5, err
    assert "--undo" in err
    host.mount()
    assert host.sh("cat /root/before /data/after") == "spoiled by the upgradedata after"
    host.run("volume", "forget", host.instance, "--yes")


# --- ciphertext -------------------------------------------------------------------------------------------------------


def test_encrypted_with_everything_that_is_on_it_and_ciphertext_on_the_disk(host: Host) -> None:
    host.write("/data/secret", MARKER)
    host.write("/root/secret", "on the root")
    before = host.attached()
    answer = host.run(
        "volume", "encrypt", host.instance, "--all", "--yes", "--new-public-address", "--kms-key", "alias/golden-ami"
    )
    after = host.attached()
    assert set(before.values()).isdisjoint(after.values())
    assert all(v["compared"] == v["blocks"] > 0 for v in answer["volumes"])
    found = host.ec2.describe_volumes(VolumeIds=list(after.values()))["Volumes"]
    assert all(v["Encrypted"] for v in found)
    host.mount()
    assert host.sh("cat /data/secret /root/secret") == MARKER + "on the root"
    # On the disk: a snapshot of the old volume shows what was planted, one of the new does not.
    plain = host.run("snapshot", "create", before["/dev/sdf"], "--name", "plain")["snapshots"][0]["id"]
    sealed = host.run("snapshot", "create", after["/dev/sdf"], "--name", "sealed")["snapshots"][0]["id"]
    assert planted(host, plain)
    assert not planted(host, sealed)
    # And it is there for who has the key.
    copied = host.run("snapshot", "volume", sealed, "--attach", host.instance, "--device", "/dev/sdg")
    assert copied["encrypted"] is True
    assert host.sh("mkdir -p /copy && mount /dev/nvme2n1 /copy && cat /copy/secret && umount /copy") == MARKER
    host.run("volume", "forget", host.instance, "--yes")
    host.run("snapshot", "delete", plain, sealed, "--yes")


def planted(host: Host, snapshot: str) -> bool:
    from goldenami_sandbox.node.namespaces import RUN

    directory = Path(f"/proc/{host.info.pid}/root{RUN}/pool/snapshots/{snapshot}")
    files = [f for f in directory.rglob("*") if f.is_file()]
    assert files, f"nothing in {directory}"
    return any(MARKER.encode() in _sparse(f) for f in files)


def _sparse(file: Path) -> bytes:
    from goldenami_sandbox.node import blocks

    with file.open("rb") as opened:
        return b"".join(blocks.read(opened.fileno(), i) for i in blocks.allocated(opened.fileno()))


@pytest.mark.nightly
def test_replace_root_keeps_what_was_there(host: Host) -> None:
    host.write("/root/again", "still here")
    key = host.info.client()
    arn = boto3.client("kms", **key).describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Arn"]
    other = boto3.client("kms", **key).create_key()["KeyMetadata"]["Arn"]
    assert arn != other
    old = host.attached()["/dev/xvda"]
    host.run("volume", "encrypt", host.instance, "--replace-root", "--yes", "--kms-key", other)
    new = host.attached()["/dev/xvda"]
    assert new != old
    (volume,) = host.ec2.describe_volumes(VolumeIds=[new])["Volumes"]
    assert volume["KmsKeyId"] == other
    assert host.sh("cat /root/again") == "still here"
    host.run("volume", "forget", host.instance, "--yes")
