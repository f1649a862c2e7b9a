"""The built-in suites on a real instance: they pass on a new one, and their tests find the faults that they check."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from goldenami import lifetime, ssh
from goldenami.model import SshEndpoint
from goldenami.provision import SET_ID, TRACES
from goldenami.validate import read_traces, require, run_suite

if TYPE_CHECKING:
    from goldenami_sandbox.control import SandboxInfo

pytestmark = pytest.mark.root

DEBIAN = "136693071363"


def keygen(path: Path) -> tuple[str, str]:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path.read_text(), path.with_name(path.name + ".pub").read_text().strip()


@pytest.fixture(scope="module")
def instance(real_sandbox: SandboxInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SshEndpoint, str]]:
    """A new Debian 12 instance with a pinned host key, and the public key of its login user."""
    folder = tmp_path_factory.mktemp("instance")
    private_key, public_key = keygen(folder / "client")
    host_private, host_public = keygen(folder / "host")
    ec2 = boto3.client("ec2", **real_sandbox.client())
    images = ec2.describe_images(Owners=[DEBIAN], Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])["Images"]
    name = f"validate-{uuid.uuid4().hex[:8]}"
    ec2.import_key_pair(KeyName=name, PublicKeyMaterial=public_key.encode())
    indented = "".join(f"    {line}\n" for line in host_private.splitlines())
    launched = ec2.run_instances(
        ImageId=max(images, key=lambda image: image["CreationDate"])["ImageId"],
        InstanceType="t3.small",
        KeyName=name,
        MinCount=1,
        MaxCount=1,
        MetadataOptions={"HttpTokens": "required"},
        UserData=f"#cloud-config\nssh_keys:\n  ed25519_private: |\n{indented}  ed25519_public: {host_public}\n",
    )["Instances"][0]
    try:
        ec2.get_waiter("instance_running").wait(
            InstanceIds=[launched["InstanceId"]], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
        found = ec2.describe_instances(InstanceIds=[launched["InstanceId"]])["Reservations"][0]["Instances"][0]
        address = found.get("PublicIpAddress") or found["PrivateIpAddress"]
        yield SshEndpoint(address, "admin", private_key, host_public), public_key
    finally:
        ec2.terminate_instances(InstanceIds=[launched["InstanceId"]])
        ec2.delete_key_pair(KeyName=name)


@pytest.fixture(scope="module")
def known(instance: tuple[SshEndpoint, str]) -> dict[str, Any]:
    """What goldenami knows of a new instance: its login, and the set-id files of its base."""
    endpoint, public_key = instance
    with ssh.connect(endpoint, timeout=120, sleep=time.sleep, clock=time.monotonic) as connection:
        read = connection.run("sudo -n sh", stdin=SET_ID.script.text.encode())
    return {
        "expect": {"unit": 60, "boot": 300, "tolerance": 50},
        "set_id": read.text.splitlines(),
        "fresh": True,
        "login_keys": [public_key],
        "leftovers": {trace.what: trace.find.text for trace in TRACES if trace.name in ("logins", "mail")},
    }


def test_suites_pass_on_a_fresh_instance(
    instance: tuple[SshEndpoint, str], known: dict[str, Any], tmp_path: Path
) -> None:
    endpoint, _ = instance
    assert len(known["set_id"]) > 5  # su, mount and others
    report = run_suite(
        endpoint,
        ["base", "hygiene", "performance"],
        gate="image",
        architecture="x86_64",
        report_dir=tmp_path,
        variables={"goldenami": known},
    )
    require(report)
    assert report.flaky == 0
    assert report.passed >= 24
    assert report.facts["set_id"] == sorted(known["set_id"])
    assert "22/tcp" in report.facts["ports"]
    assert report.facts["performance"]["memory_mib"] > 0


BREAK = """
echo admin:secret | chpasswd
sed -i -E '/^#? *PasswordAuthentication/d' /etc/ssh/sshd_config
rm -f /etc/ssh/sshd_config.d/*
echo 'PasswordAuthentication yes' >> /etc/ssh/sshd_config
touch /run/goldenami-payload /var/cache/apt/archives/left.deb
mkdir -p /var/log/journal/ffffffffffffffffffffffffffffffff
echo ls > /root/.bash_history
mkdir -p /var/lib/cloud/instances/i-1 /var/lib/cloud/instances/i-2
echo net.nothing.here=1 > /etc/sysctl.d/90-nothing.conf
echo 1 > /var/log/wtmp
touch -d 2020-01-01 /var/log/wtmp
install -m 644 /dev/null /etc/ssh/ssh_host_extra_key
printf '[Service]\\nExecStart=/bin/sh -c "echo its last words; exit 3"\\n' > /run/systemd/system/broken.service
printf '[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/sleep 1.5\\n' \\
  > /run/systemd/system/planted-slow.service
systemctl daemon-reload
systemctl start broken || true
systemctl start planted-slow
mkdir -p /opt/app
printf -- '-----BEGIN RSA PRIVATE KEY-----\\nnone\\n' > /opt/app/planted.pem
mkdir -p -m 700 /root/.ssh
printf 'ssh-ed25519 AAAAplanted someone@planted' >> /root/.ssh/authorized_keys  # a line without an end
touch /usr/local/bin/planted-writable
chmod 666 /usr/local/bin/planted-writable
install -m 4755 /bin/true /usr/local/bin/planted-setuid
echo 'machine example.com login me password it' > /root/.netrc
touch -d 2020-01-01 /var/tmp/planted-old /etc/ssh/ssh_host_extra_key
printf '[Socket]\\nListenStream=4711\\nAccept=yes\\n' > /run/systemd/system/planted.socket
printf '[Service]\\nExecStart=/bin/true\\n' > /run/systemd/system/planted@.service
systemctl daemon-reload
systemctl start planted.socket
"""

FOUND = {
    "base::test_boot_is_complete",
    "base::test_goldenami_left_nothing_behind",
    "base::test_nobody_can_log_in_by_password",
    "base::test_ssh_host_keys_are_private",
    "base::test_sysctl_settings_exist",
    "hygiene::test_identity_was_made_at_this_boot",
    "hygiene::test_no_authorized_keys",
    "hygiene::test_no_leftovers",
    "hygiene::test_no_new_set_id_files",
    "hygiene::test_no_old_temporary_files",
    "hygiene::test_no_private_keys",
    "hygiene::test_nothing_is_writable_for_everybody",
    "hygiene::test_only_declared_ports_listen",
    "performance::test_no_unit_failed",
    "performance::test_no_unit_is_slow",
    "sealed::test_cloud_init_knows_this_instance_only",
    "sealed::test_host_keys_are_new",
    "sealed::test_journal_begins_with_this_boot",
    "sealed::test_key_of_the_builder_opens_nothing",
    "sealed::test_machine_id_is_new",
    "sealed::test_no_login_is_remembered",
    "sealed::test_no_package_archives",
    "sealed::test_no_shell_history",
    "sealed::test_nothing_ends_instances_of_the_image",
}

NAMED = {  # each planted fault is called by its name
    "base::test_boot_is_complete": "its last words",
    "hygiene::test_no_authorized_keys": "/root/.ssh/authorized_keys: ssh-ed25519 someone@planted",
    "hygiene::test_no_leftovers": "/root/.netrc",
    "hygiene::test_no_new_set_id_files": "/usr/local/bin/planted-setuid (4755 root:root)",
    "hygiene::test_no_old_temporary_files": "/var/tmp/planted-old",
    "hygiene::test_no_private_keys": "/opt/app/planted.pem",
    "hygiene::test_nothing_is_writable_for_everybody": "/usr/local/bin/planted-writable",
    "hygiene::test_only_declared_ports_listen": "4711/tcp (systemd)",
    "performance::test_no_unit_is_slow": "planted-slow.service (1.",
}


def test_suites_find_every_fault_that_they_check(
    instance: tuple[SshEndpoint, str], known: dict[str, Any], tmp_path: Path
) -> None:
    """The instance is compared with itself, so its keys and identity are those of the "builder"."""
    endpoint, public_key = instance
    with ssh.connect(endpoint, timeout=120, sleep=time.sleep, clock=time.monotonic) as connection:
        assert read_traces(connection, public_key).files == ()  # nothing ends this instance
        ending = lifetime.boot_command("builder", datetime.now(UTC), timedelta(days=1))
        planted = connection.run("sudo -n sh -e", stdin=ending.encode())
        assert planted.status == 0, planted.stderr
        traces = read_traces(connection, public_key)
        assert len(traces.files) == 2
        done = connection.run("sudo -n sh -e", stdin=BREAK.encode())
        assert done.status == 0, done.stderr
    report = run_suite(
        endpoint,
        ["base", "hygiene", "performance", "sealed"],
        gate="image",
        architecture="x86_64",
        report_dir=tmp_path,
        traces=traces,
        variables={"goldenami": {**known, "expect": {"unit": 1}}},
        retries=0,
    )
    messages = {failure.name: failure.message for failure in report.failures}
    assert messages.keys() >= FOUND
    for name, words in NAMED.items():
        assert words in messages[name], (name, messages[name])


def test_sealed_proves_nothing_without_traces(instance: tuple[SshEndpoint, str], tmp_path: Path) -> None:
    endpoint, _ = instance
    report = run_suite(endpoint, ["sealed"], gate="image", architecture="x86_64", report_dir=tmp_path, retries=0)
    unproven = [test.name for test in report.failures if "the traces of the builder are missing" in test.message]
    assert set(unproven) == {
        "sealed::test_host_keys_are_new",
        "sealed::test_key_of_the_builder_opens_nothing",
        "sealed::test_machine_id_is_new",
        "sealed::test_nothing_ends_instances_of_the_image",
    }
