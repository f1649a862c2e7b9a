"""The ways to run instances: which one is taken, what is said, and what a sandbox without instances keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from goldenami_sandbox import control, daemon, plugin, ways
from goldenami_sandbox.ec2.noguests import NoGuestsNode
from goldenami_sandbox.errors import SandboxError, SandboxUnsupported, StateError, UsageError
from goldenami_sandbox.http import Request, Response
from goldenami_sandbox.node.api import DataKey, InstanceSpec
from goldenami_sandbox.state import Files

KEY, OTHER = DataKey(b"k" * 32), DataKey(b"o" * 32)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_: object) -> None:
        raise SandboxUnsupported("this machine lacks root", hint="Run it as root.")

    monkeypatch.setattr(ways.Systemd, "check", check)


@pytest.fixture
def no_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_: object) -> None:
        raise SandboxUnsupported("uidmap is missing", hint="Install it.")

    monkeypatch.setattr(ways.Namespaces, "check", check)


@pytest.mark.usefixtures("no_root")
def test_without_root_instances_run_in_user_namespaces(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways.Namespaces, "check", lambda _: None)
    choice = ways.choose(ways.AUTO, files)
    said: list[str] = []
    ways.tell(choice, said.append)
    assert choice.way.name == "namespace"
    assert said[0].startswith("WITHOUT ROOT")


@pytest.mark.usefixtures("no_root", "no_namespaces")
def test_the_best_way_of_this_machine_is_taken_and_what_is_missing_is_said(files: Files) -> None:
    choice = ways.choose(ways.AUTO, files)
    assert choice.way.name == "none"
    said: list[str] = []
    ways.tell(choice, said.append)
    assert said[0].startswith("NO INSTANCES")
    assert said[-2:] == [
        "reason: this machine lacks root; uidmap is missing",
        "hint: Run it as root. Or for instances in user namespaces: Install it.",
    ]
    with pytest.raises(SandboxUnsupported, match="lacks root"):
        ways.choose("systemd", files)


def test_the_best_way_says_nothing(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways.Systemd, "check", lambda _: None)
    choice = ways.choose(ways.AUTO, files)
    ways.tell(choice, lambda text: pytest.fail(text))
    assert choice.way.name == "systemd"


@pytest.mark.usefixtures("no_root")
def test_a_sandbox_keeps_its_way(files: Files) -> None:
    files.instances.write_text("systemd")
    with pytest.raises(SandboxUnsupported, match="lacks root") as refused:
        ways.choose(ways.AUTO, files)
    assert "--name NAME" in str(refused.value.hint)
    files.instances.write_text("none")
    assert ways.choose(ways.AUTO, files).way.name == "none"
    with pytest.raises(UsageError, match="was made with --instances none"):
        ways.choose("systemd", files)
    files.instances.write_text("vm")
    with pytest.raises(StateError, match="'vm'"):
        ways.choose(ways.AUTO, files)


def test_the_state_of_a_version_without_ways_is_of_containers(files: Files) -> None:
    files.state.touch()
    kept = ways.kept_by(files)
    assert kept is not None
    assert kept.name == "systemd"


def test_a_sandbox_without_instances_keeps_its_records(tmp_path: Path) -> None:
    node = NoGuestsNode(tmp_path / "node")
    node.start()
    base = node.base("debian-12")
    node.create_volume("vol-1", 8, base, None)
    node.freeze_snapshot("snap-1", "vol-1")
    facts = node.store_snapshot("snap-1", None, KEY)
    address = node.allocate_address("i-1")
    node.launch(InstanceSpec("i-1", address, "vol-1", "host", user_data=b"\x00\xff"))

    again = NoGuestsNode(tmp_path / "node")
    again.start()
    assert again.stored() == ({"vol-1"}, {base, "snap-1"})
    assert dict(again.instances()) == {"i-1": "stopped"}
    assert again.address("i-1") == address
    assert again.guests["i-1"].spec.user_data == b"\x00\xff"
    assert facts.full_blocks
    again.create_volume("vol-2", 8, "snap-1", KEY)
    with pytest.raises(SandboxError, match="wrong data key"):
        again.create_volume("vol-3", 8, "snap-1", OTHER)
    assert b"nothing has booted" in again.console("i-1")
    written = (tmp_path / "node/records.json").read_bytes()
    assert bytes(KEY) not in written
    assert KEY.hex().encode() not in written
    (tmp_path / "node/records.json").write_text("{")
    with pytest.raises(StateError, match=r"records\.json"):
        NoGuestsNode(tmp_path / "node").start()


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_shell_waits_for_the_init_of_a_running_instance_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    answers = iter([None, None, ["nsenter"]])
    monkeypatch.setattr(ways.Systemd, "shell", lambda *_: next(answers))
    rows = {"instances": [{"instance_id": "i-1", "state": state}]}
    monkeypatch.setattr(control.SandboxInfo, "request", lambda *_: json.dumps(rows).encode())
    info = control.SandboxInfo("a", "http://127.0.0.1:1", tmp_path, 1, "token", {}, "secret")
    if state == "running":
        assert control.shell_argv(info, "i-1") == ["nsenter"]
    else:
        with pytest.raises(SandboxError, match="i-1 is not running in this sandbox"):
            control.shell_argv(info, "i-1")


def test_the_port_of_a_sandbox_is_none_that_a_connection_can_get_meanwhile(files: Files) -> None:
    def app(_: Request) -> Response:
        return Response(200)

    begin, end = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    if begin <= 21_000:
        pytest.skip(f"NOT PROVEN: this machine gives connections ports from {begin} on, so that few are left below")
    first = daemon._listen(files, 0, cast(Any, app))
    assert 20_000 <= first.port < begin <= end
    first.server_close()
    again = daemon._listen(files, 0, cast(Any, app))
    assert again.port == first.port
    other = daemon._listen(files, 0, cast(Any, app))  # the last one is in use
    assert other.port != again.port
    for server in (again, other):
        server.server_close()


@pytest.mark.nightly
def test_a_sandbox_without_instances_starts_tells_and_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    monkeypatch.setenv("GOLDENAMI_SANDBOX_HOME", str(tmp_path))
    said: list[str] = []
    info = control.up("a", home=tmp_path, instances="none", progress=said.append, die_with_parent=True)
    try:
        assert any("NO INSTANCES" in line for line in said)
        assert plugin.instances(info.endpoint) is not None
        assert plugin.instances(info.endpoint.replace("127.0.0.1", "10.0.0.1")) is None
        ec2 = boto3.client("ec2", **info.client())
        image = ec2.describe_images(Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])["Images"][0]["ImageId"]
        ran = ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1)["Instances"][0]
        ec2.get_waiter("instance_running").wait(InstanceIds=[ran["InstanceId"]], WaiterConfig={"Delay": 1})
        with pytest.raises(SandboxError, match="has no instances"):
            control.shell_argv(info, ran["InstanceId"])
        assert control.down("a", home=tmp_path)
        info = control.up("a", home=tmp_path, die_with_parent=True)
        ec2 = boto3.client("ec2", **info.client())
        (reservation,) = ec2.describe_instances(InstanceIds=[ran["InstanceId"]])["Reservations"]
        assert reservation["Instances"][0]["InstanceId"] == ran["InstanceId"]
    finally:
        control.reset("a", home=tmp_path)
