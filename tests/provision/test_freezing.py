"""A builder is frozen at the end of its sealing: its services end in their order, and EC2 captures it as it is."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from goldenami import provision, ssh
from goldenami.model import SshEndpoint
from goldenami.provision import SealReport
from tests.provision.hosts import Host

if TYPE_CHECKING:
    from goldenami_sandbox.control import SandboxInfo

pytestmark = [pytest.mark.root, pytest.mark.nightly]

# A program that needs a database, both of which take a while to end; and one that is no service.
SERVICES = """
unit() { printf '[Unit]\\n%s\\n[Service]\\nExecStart=sleep 900\\nExecStop=/usr/local/sbin/ended %s\\n' "$2" "$1" \\
>/run/systemd/system/$1.service; }
cat >/usr/local/sbin/ended <<'END'
#!/bin/sh
sleep 0.3; echo $1 >>/data/ended; echo $1 ends >>/var/log/ended.log
END
chmod 755 /usr/local/sbin/ended
unit database ''; unit app 'Wants=database.service
After=database.service'
systemctl daemon-reload; systemctl start app
setsid sh -c "trap 'echo alone >>/data/ended; exit' TERM; exec >>/data/log
while :; do sleep 0.1; done" </dev/null >/dev/null 2>&1 &
"""
# It works for all file systems but the root.
BROKEN = """cat >/usr/local/sbin/fsfreeze <<'END'
#!/bin/sh
[ "$*" != '--freeze /' ] || { echo 'it is broken' >&2; exit 1; }
exec /usr/sbin/fsfreeze "$@"
END
chmod 755 /usr/local/sbin/fsfreeze"""


@pytest.fixture
def host(launch: Callable[[str], SshEndpoint], real_sandbox: SandboxInfo) -> Iterator[Host]:
    """A host with a data volume at /data, and a user who stays root after the sealing."""
    import boto3

    endpoint = launch("debian-12")
    ec2 = boto3.client("ec2", **real_sandbox.client())
    zone = ec2.describe_instances(InstanceIds=[endpoint.instance_id])["Reservations"][0]["Instances"][0]["Placement"]
    volume = ec2.create_volume(AvailabilityZone=zone["AvailabilityZone"], Size=1)["VolumeId"]
    ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    ec2.attach_volume(InstanceId=endpoint.instance_id, VolumeId=volume, Device="/dev/sdf")
    with ssh.connect(endpoint, timeout=60) as connection:
        host = Host(connection)
        host.sh('echo "$SUDO_USER ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/test')
        host.sh("until [ -b /dev/nvme1n1 ]; do sleep 0.05; done; mkfs.ext4 -q /dev/nvme1n1; mkdir /data")
        host.sh("mount /dev/nvme1n1 /data")
        yield host
    ec2.terminate_instances(InstanceIds=[endpoint.instance_id])


def seal(host: Host) -> SealReport:
    key = ssh.KeyPair.from_private(host.connection.endpoint.private_key).public_key
    return provision.seal(host.connection, login_key=key, freeze=True)


def test_a_frozen_host_is_captured_as_it_is(host: Host, real_sandbox: SandboxInfo, tmp_path: Path) -> None:
    import boto3

    host.sh(BROKEN)
    assert "it is broken" in seal(host).not_frozen
    host.sh("timeout 20 sh -c 'echo thawed >/data/thawed; echo thawed >/root/thawed'; rm /usr/local/sbin/fsfreeze")
    assert host.sh("ls /run/goldenami-frozen 2>/dev/null || :") == "", "EC2 shuts it down as always"

    host.sh(SERVICES)
    assert seal(host).not_frozen == ""
    ec2: Any = boto3.client("ec2", **real_sandbox.client())
    # Nothing waits for the disk, and what was in memory only can be read.
    assert host.connection.run("cat /data/ended; ls /run/goldenami-frozen").text.split() == [
        "app",
        "database",
        "alone",
        "/run/goldenami-frozen",
    ]
    image = ec2.create_image(
        InstanceId=host.connection.endpoint.instance_id, Name=f"frozen-{time.time_ns()}", NoReboot=True
    )
    ec2.get_waiter("image_available").wait(ImageIds=[image["ImageId"]], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    file = tmp_path / "image"
    real_sandbox.request("POST", "export", {"image": image["ImageId"], "output": str(file), "form": "raw"})
    checked = subprocess.run(["e2fsck", "-f", "-n", str(file)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    listed = f"stat {shlex.quote('/var/log/ended.log')}"
    found = subprocess.run(["debugfs", "-R", listed, str(file)], capture_output=True, text=True).stdout
    assert "Size: 0" in found, "what the services wrote as they ended is sealed as well"
