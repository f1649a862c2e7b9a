"""The sandbox as a process, with real instances: it starts, stops, comes back, leaves nothing behind. Needs root."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

if TYPE_CHECKING:
    from goldenami_sandbox.control import SandboxInfo

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="the sandbox needs root"),
]


def goldenami(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GOLDENAMI_SANDBOX_HOME": str(home)}
    command = [sys.executable, "-m", "goldenami.cli.main", "sandbox", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def until(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def debian(info: SandboxInfo) -> str:
    ssm = boto3.client("ssm", **info.client())
    return str(ssm.get_parameter(Name="/aws/service/debian/release/12/latest/amd64")["Parameter"]["Value"])


def launch(info: SandboxInfo) -> str:
    """A running Debian 12."""
    ec2 = boto3.client("ec2", **info.client())
    [instance] = ec2.run_instances(ImageId=debian(info), InstanceType="t3.small", MinCount=1, MaxCount=1)["Instances"]
    until(lambda: state_of(info, instance["InstanceId"]) == "running")
    return str(instance["InstanceId"])


def described(info: SandboxInfo, instance: str) -> dict[str, Any]:
    ec2: Any = boto3.client("ec2", **info.client())
    found: dict[str, Any] = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    return found


def state_of(info: SandboxInfo, instance: str) -> str:
    return str(described(info, instance)["State"]["Name"])


def inside(info: SandboxInfo, instance: str, *command: str) -> str:
    from goldenami_sandbox import control

    done = subprocess.run(control.shell_argv(info, instance, command), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def leftovers(directory: Path) -> list[str]:
    """What the machine still has of a sandbox that should be gone. The kernel takes some of it away in its own time."""
    from goldenami_sandbox.node import namespaces

    sandbox = namespaces.sandbox_id(directory)
    found = []
    root = namespaces.cgroup2_root()
    if root is not None and (root / namespaces.cgroup_name(sandbox)).exists():
        found.append("cgroup")
    for kind, command in {"nft": ["nft", "list", "tables"], "link": ["ip", "link"], "loop": ["losetup", "-a"]}.items():
        text = subprocess.run(command, capture_output=True, text=True).stdout
        if sandbox in text or str(directory) in text:
            found.append(kind)
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"GOLDENAMI_SANDBOX_ENCLOSURE={sandbox}".encode() in environment.read_bytes().split(b"\0"):
                found.append(f"process {environment.parent.name}")
        except OSError:
            continue
    return found


def test_it_comes_back_with_everything_and_goes_without_a_trace(tmp_path: Path) -> None:
    from goldenami_sandbox import control

    said: list[str] = []
    info = control.up("a", home=tmp_path, progress=said.append, die_with_parent=True)
    assert said
    try:
        # A second `up` finds it, even two at once.
        found: list[SandboxInfo] = []
        threads = [threading.Thread(target=lambda: found.append(control.up("a", home=tmp_path))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [info, info]

        instance = launch(info)
        inside(info, instance, "sh", "-c", "echo kept > /etc/marker; sync")
        boto3.client("ssm", **info.client()).put_parameter(Name="/kept", Value="yes", Type="String")
        info.set(pending={"image": 0.1})

        # Side by side with another: ports, instances and addresses are apart.
        other = control.up("b", home=tmp_path, die_with_parent=True)
        sibling = launch(other)
        address, neighbour = (described(i, n)["PrivateIpAddress"] for i, n in ((info, instance), (other, sibling)))
        assert address != neighbour
        assert other.endpoint != info.endpoint
        assert [row["instance_id"] for row in other.status()["instances"]] == [sibling]
        control.reset("b", home=tmp_path)
        until(lambda: leftovers(tmp_path / "b") == [])
        assert state_of(info, instance) == "running"

        # Down and up.
        assert control.down("a", home=tmp_path)
        until(lambda: leftovers(tmp_path / "a") == [])
        again = control.up("a", home=tmp_path, die_with_parent=True)
        assert again.endpoint == info.endpoint
        until(lambda: state_of(again, instance) == "running")
        assert until(lambda: inside(again, instance, "cat", "/etc/marker")) == "kept\n"
        assert again.status()["settings"]["pending"]["image"] == 0.1

        # Killed, with something made in the last moment.
        key = boto3.client("ec2", **again.client()).create_key_pair(KeyName="last")["KeyPairId"]
        until(lambda: key.encode() in (tmp_path / "a" / "state.zip").read_bytes())  # saved 0.2 s later, or not so soon
        os.kill(again.pid, signal.SIGKILL)
        until(lambda: control.find("a", tmp_path) is None)
        third = control.up("a", home=tmp_path, die_with_parent=True)
        ec2 = boto3.client("ec2", **third.client())
        assert [pair["KeyPairId"] for pair in ec2.describe_key_pairs()["KeyPairs"]] == [key]
        until(lambda: state_of(third, instance) == "running")
        assert inside(third, instance, "cat", "/etc/marker") == "kept\n"
        parameter = boto3.client("ssm", **third.client()).get_parameter(Name="/kept")["Parameter"]
        assert parameter["Value"] == "yes"
    finally:
        control.reset("b", home=tmp_path)
        control.reset("a", home=tmp_path)
    until(lambda: leftovers(tmp_path / "a") == [])
    assert {entry.name for entry in (tmp_path / "a").iterdir()} == {"up.lock", "port"}


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """A test run that is killed leaves no sandbox behind."""
    from goldenami_sandbox import control

    program = """if True:
        import sys, time
        from pathlib import Path
        from goldenami_sandbox import control

        control.up("a", home=Path(sys.argv[1]), images=(), die_with_parent=True)
        print("up", flush=True)
        time.sleep(600)
    """
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        assert control.find("a", tmp_path) is not None
        parent.kill()
    until(lambda: control.find("a", tmp_path) is None)
    control.reset("a", home=tmp_path)
    until(lambda: leftovers(tmp_path / "a") == [])


def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = goldenami(tmp_path, "up", "--name", "a", "--images", "", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
    assert "--port" in done.stderr
    assert goldenami(tmp_path, "reset", "--yes", "--name", "a").returncode == 0
    until(lambda: leftovers(tmp_path / "a") == [])


def test_the_commands(real_sandbox: SandboxInfo, tmp_path: Path) -> None:
    home = real_sandbox.directory.parent
    instance = launch(real_sandbox)

    facts = json.loads(goldenami(home, "status", "--name", "tests", "--json").stdout)
    assert facts["endpoint"] == real_sandbox.endpoint
    assert instance in [row["instance_id"] for row in facts["instances"]]
    assert instance in goldenami(home, "status", "--name", "tests").stdout

    lines = goldenami(home, "env", "--name", "tests", "--account", "apps").stdout.splitlines()
    assert all(line.startswith("export AWS_") and "=" in line for line in lines)
    assert f"export AWS_ENDPOINT_URL={real_sandbox.endpoint}" in lines
    assert goldenami(home, "env", "--name", "tests", "--account", "nobody").returncode == 2

    assert goldenami(home, "shell", "--name", "tests", instance, "id", "-u").stdout == "0\n"
    assert "systemd" in until(lambda: goldenami(home, "console", "--name", "tests", instance).stdout)
    for command in ("status", "env", "console i-1"):
        assert goldenami(home, *command.split(), "--name", "nobody").returncode == 3
    assert goldenami(home, "console", "--name", "tests", "i-00000000000000000").returncode == 3

    done = goldenami(home, "settings", "set", "--name", "tests", '{"pending": {"imag": 1}}')
    assert done.returncode == 2
    assert "unknown key 'imag'" in done.stderr

    ec2 = boto3.client("ec2", **real_sandbox.client())
    inside(real_sandbox, instance, "sh", "-c", "echo exported > /etc/marker")
    image = ec2.create_image(InstanceId=instance, Name="exported")["ImageId"]
    until(lambda: ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available")
    remote = boto3.client("ec2", **real_sandbox.client("eu-west-1"))
    copy = remote.copy_image(
        SourceImageId=image, SourceRegion="eu-central-1", Name="copy", Encrypted=True, KmsKeyId="alias/golden-ami"
    )["ImageId"]
    until(lambda: remote.describe_images(ImageIds=[copy])["Images"][0]["State"] == "available")
    target = tmp_path / "root"
    assert goldenami(home, "export", "--name", "tests", copy, "--output", str(target)).returncode == 0
    assert (target / "etc/marker").read_text() == "exported\n"
    assert goldenami(home, "export", "--name", "tests", copy, "--output", str(target)).returncode == 2
    assert goldenami(home, "export", "--name", "tests", "ami-1", "--output", str(tmp_path / "x")).returncode == 3
    shutil.rmtree(target)
    ec2.terminate_instances(InstanceIds=[instance])


def test_the_control_endpoints_want_their_token(real_sandbox: SandboxInfo) -> None:
    from dataclasses import replace

    from goldenami_sandbox.errors import SandboxError

    with pytest.raises(SandboxError, match="token"):
        replace(real_sandbox, token="guessed").status()


def test_calls_are_lines_of_the_log(real_sandbox: SandboxInfo) -> None:
    boto3.client("ec2", **real_sandbox.client("eu-west-1", "apps")).create_security_group(
        GroupName="logged", Description="x"
    )
    lines = [json.loads(line) for line in (real_sandbox.directory / "calls.jsonl").read_text().splitlines()]
    # Other tests of this worker may have made groups elsewhere in the same sandbox.
    made = [line for line in lines if line["action"] == "CreateSecurityGroup"]
    [line] = [line for line in made if (line["account"], line["region"]) == ("222222222222", "eu-west-1")]
    assert line["result"] == "ok"
    assert line["ids"][0].startswith("sg-")
    assert real_sandbox.calls()[-1]["action"] == "CreateSecurityGroup"
