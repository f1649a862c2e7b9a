"""Instances in user namespaces, for real: boot, SSH, stop and start, capture, and a power-off from inside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

pytestmark = [
    pytest.mark.root,  # it gives root a range of ids, in a mount namespace of its own
    pytest.mark.nightly,
    pytest.mark.skipif(shutil.which("newuidmap") is None, reason="needs uidmap"),
]
# The range of ids is for these processes only: the file of the machine stays as it is.
_WITH_RANGE = """\
mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid && shift && exec "$@"
"""
_SECONDS = 120.0
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    home = tmp_path_factory.mktemp("rootless")
    (home / "ranges").write_text("root:200000:65536\n")
    (home / "ranges").chmod(0o644)
    prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _WITH_RANGE, "sh", str(home / "ranges")]

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        argv = [*prefix, sys.executable, "-c", "from goldenami_sandbox.cli import main; main()", *arguments]
        environment = {**os.environ, "GOLDENAMI_SANDBOX_HOME": str(home)}
        return subprocess.run(argv, input=stdin, capture_output=True, env=environment, timeout=600, check=False)

    started = run("up", "--instances", "namespace")
    try:
        if b"cannot run here" in started.stderr:
            pytest.skip(started.stderr.decode())
        assert started.returncode == 0, started.stderr.decode()
        yield run
    finally:
        run("reset", "--yes")


def until(found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.2)
    raise AssertionError(what)


def test_an_instance_without_root(run: Run) -> None:
    variables = json.loads(run("env", "--json").stdout)
    ec2 = boto3.client(
        "ec2",
        region_name="eu-central-1",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )
    (base,) = ec2.describe_images(Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])["Images"]

    def launch(image: str, **more: Any) -> str:
        made = ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1, **more)
        return str(made["Instances"][0]["InstanceId"])

    def is_now(instance: str, state: str) -> Callable[[], bool]:
        def found() -> bool:
            (reservation,) = ec2.describe_instances(InstanceIds=[instance])["Reservations"]
            return bool(reservation["Instances"][0]["State"]["Name"] == state)

        return found

    instance = launch(base["ImageId"], UserData="#!/bin/sh\necho made-by-user-data >/root/mark\n")
    until(is_now(instance, "running"), "it boots")
    until(lambda: run("shell", instance, "cat", "/root/mark").stdout == b"made-by-user-data\n", "user data is executed")
    assert run("shell", instance, "stat", "-c", "%a %U", "/usr/bin/sudo").stdout == b"4755 root\n"
    assert run("shell", instance, "setpriv", "--reuid=33", "--clear-groups", "id", "-u").stdout == b"33\n"
    shown = run("shell", instance, "sh", "-c", "ls -A /sys/fs/cgroup; mkdir /sys/fs/cgroup/group")
    assert shown.stdout == b"", "it sees no cgroups"
    assert b"Read-only file system" in shown.stderr
    from goldenami_sandbox import connect

    status = json.loads(run("status", "--json").stdout)
    argv = [sys.executable, "-I", "-S", connect.__file__, f"{status['directory']}/node/ssh.sock", instance]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as door:
        assert door.stdout is not None
        assert door.stdout.readline().startswith(b"SSH-2.0-OpenSSH")
        door.kill()

    image = ec2.create_image(InstanceId=instance, Name="captured", NoReboot=True)["ImageId"]
    until(lambda: ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available", "it is captured")
    other = launch(image)
    until(is_now(other, "running"), "the image boots")
    assert run("shell", other, "cat", "/root/mark").stdout == b"made-by-user-data\n"

    run("shell", instance, "sh", "-c", "echo more >/root/more; poweroff")
    until(is_now(instance, "stopped"), "it powers off from inside")
    ec2.start_instances(InstanceIds=[instance])
    until(is_now(instance, "running"), "it boots again")
    assert run("shell", instance, "cat", "/root/more").stdout == b"more\n"
    boot = run("shell", instance, "stat", "-c", "%Y", "/run/initctl").stdout
    ec2.reboot_instances(InstanceIds=[instance])
    until(lambda: run("shell", instance, "stat", "-c", "%Y", "/run/initctl").stdout not in (b"", boot), "it reboots")
    ec2.terminate_instances(InstanceIds=[instance, other])
    until(is_now(instance, "terminated"), "it is terminated")
    folder = Path(status["directory"], "node/trees")
    until(lambda: not list(folder.iterdir()), "its files are deleted")
