"""What is kept over a restart, and how a running sandbox is found; without one that runs."""

from __future__ import annotations

import json
import os
import threading
import time
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import boto3
import pytest
from goldenami_sandbox import control, state
from goldenami_sandbox.errors import NotFound, SandboxError, StateError, UsageError
from goldenami_sandbox.testing import paper_cloud


def test_everything_is_there_again() -> None:
    with paper_cloud() as before:
        clients: dict[str, Any] = {
            name: boto3.client(name, **before.client()) for name in ("ssm", "kms", "ec2", "s3", "sts", "iam")
        }
        clients["ssm"].put_parameter(Name="/a", Value="1", Type="String", Tags=[{"Key": "k", "Value": "v"}])
        clients["kms"].create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")
        key = clients["kms"].describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Arn"]
        blob = clients["kms"].encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
        clients["ec2"].create_key_pair(KeyName="mine")
        clients["ec2"].create_volume(AvailabilityZone="eu-central-1a", Size=1)
        clients["s3"].create_bucket(Bucket="catalog", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        clients["s3"].put_object(Bucket="catalog", Key="k", Body=b"contents")
        role = "arn:aws:iam::222222222222:role/goldenami-publisher"
        session = clients["sts"].assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
        before.set(pending={"image": 3})
        own, services = before.cloud.dump()
        assert {"ec2", "iam", "kms", "s3", "ssm"} <= set(services)
        own = json.loads(json.dumps(own))
    with paper_cloud() as after:
        after.cloud.load(own, services)
        clients = {name: boto3.client(name, **after.client()) for name in ("ssm", "kms", "ec2", "s3")}
        assert clients["ssm"].get_parameter(Name="/a")["Parameter"]["Value"] == "1"
        tags = clients["ssm"].list_tags_for_resource(ResourceType="Parameter", ResourceId="/a")["TagList"]
        assert tags == [{"Key": "k", "Value": "v"}]
        assert clients["kms"].decrypt(CiphertextBlob=blob)["Plaintext"] == b"secret"
        assert clients["kms"].describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Arn"] == key
        assert [pair["KeyName"] for pair in clients["ec2"].describe_key_pairs()["KeyPairs"]] == ["mine"]
        assert len(clients["ec2"].describe_volumes()["Volumes"]) == 1
        assert clients["s3"].get_object(Bucket="catalog", Key="k")["Body"].read() == b"contents"
        keys = {**after.client(), "aws_access_key_id": session["AccessKeyId"]}
        keys |= {"aws_secret_access_key": session["SecretAccessKey"], "aws_session_token": session["SessionToken"]}
        assert boto3.client("sts", **keys).get_caller_identity()["Account"] == "222222222222"
        assert after.cloud.settings.pending.image == 3.0


def test_clouds_in_one_process_share_nothing() -> None:
    with paper_cloud() as one, paper_cloud() as two:
        first, second = (boto3.client("ssm", **cloud.client()) for cloud in (one, two))
        first.put_parameter(Name="/a", Value="1", Type="String")
        assert second.describe_parameters()["Parameters"] == []
        second.put_parameter(Name="/a", Value="2", Type="String")
        assert first.get_parameter(Name="/a")["Parameter"]["Value"] == "1"


def test_save_and_load(tmp_path: Path) -> None:
    file = tmp_path / "state.zip"
    assert state.load(file) is None
    state.save(file, {"a": [1]}, {"kms": b"\x00data"})
    assert state.load(file) == ({"a": [1]}, {"kms": b"\x00data"})
    assert file.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.zip"]


def test_a_damaged_or_foreign_state_has_a_hint(tmp_path: Path) -> None:
    file = tmp_path / "state.zip"
    file.write_bytes(b"PK\x03\x04torn")
    with pytest.raises(SandboxError, match="cannot be read") as caught:
        state.load(file)
    assert "reset" in (caught.value.hint or "")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("state.json", json.dumps({"format": 1, "moto": "1.0", "goldenami": "0", "state": {}}))
    with pytest.raises(SandboxError, match=r"moto 1\.0"):
        state.load(file)


# --- formats ----------------------------------------------------------------------------------------------------------


def old_state(file: Path, **change: Any) -> None:
    """A state.zip of format 1, as 0.2.0 wrote it; the version of moto is today's."""
    head = json.loads((Path(__file__).parent / "state-format-1.json").read_text())
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("state.json", json.dumps({**head, "moto": version("moto"), **change}))


def test_the_first_format_is_migrated(tmp_path: Path) -> None:
    files = state.Files(tmp_path)
    old_state(files.state)
    (tmp_path / "node").mkdir()
    state.claim(files)
    assert json.loads(files.format.read_text())["format"] == state.FORMAT
    known = state.load(files.state)
    assert known is not None
    with paper_cloud(clock=lambda: 1_800_000_100.0) as cloud:  # soon after it was written
        cloud.cloud.load(*known)
        ec2: Any = boto3.client("ec2", **cloud.client())
        dlm: Any = boto3.client("dlm", **cloud.client())
        sts: Any = boto3.client("sts", **cloud.client())
        assert [s["Description"] for s in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]] == ["kept"]
        assert len(ec2.describe_volumes()["Volumes"]) == 1
        assert [p["Description"] for p in dlm.get_lifecycle_policies()["Policies"]] == ["daily"]
        assert cloud.cloud.settings.pending.image == 3.0
        assert [s["access_key_id"] for s in cloud.cloud.dump()[0]["sessions"]] == ["ASIAFORMATONE0000000"]
        assert sts.get_caller_identity()["Account"] == "111111111111"
        state.save(files.state, *cloud.cloud.dump())
    with zipfile.ZipFile(files.state) as archive:
        assert json.loads(archive.read("state.json"))["format"] == state.FORMAT
    assert state.load(files.state) is not None


def test_an_empty_directory_is_of_this_format(tmp_path: Path) -> None:
    files = state.Files(tmp_path)
    for _ in range(2):
        state.claim(files)
        assert json.loads(files.format.read_text())["format"] == state.FORMAT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 99}', "format 99, which is newer"),
        ('{"format": 0}', "format 0, which is too old"),
        ('{"format": "two"}', "'two', a whole number is expected"),
        ('{"format": true}', "a whole number is expected"),
        ("{}", "cannot be read"),
        ("[1]", "cannot be read"),
        ("\x00garbage", "cannot be read"),
    ],
)
def test_another_format_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    files = state.Files(tmp_path)
    files.format.write_text(text)
    with pytest.raises(StateError, match=message) as caught:
        state.claim(files)
    assert "`goldenami-sandbox reset`" in (caught.value.hint or "")
    assert "\n" not in caught.value.message
    assert files.format.read_text() == text  # nothing was changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "in format 99; this version reads 1 to"),
        ({"format": None}, "in format None"),
        ({"state": {}}, "KeyError: 'ec2'"),
        ({"state": ["a"]}, "cannot be read"),
        ({"state": None}, "cannot be read"),
    ],
)
def test_a_state_in_another_form_is_refused_in_one_line(tmp_path: Path, change: Any, message: str) -> None:
    file = tmp_path / "state.zip"
    old_state(file, **change)
    with pytest.raises(StateError, match=message) as caught:
        state.load(file)
    assert "`goldenami-sandbox reset`" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("own", "services"),
    [
        ({}, {}),
        ({"ec2": {"volumes": {"vol-1": {"size": "large"}}}}, {}),
        ({"ec2": "nothing"}, {}),
        ({"settings": {"pending": 1}}, {}),
        ({}, {"kms": b"no pickle"}),
        ({}, {"no-such-service": b""}),
    ],
)
def test_garbage_within_the_state_is_one_line(tmp_path: Path, own: dict[str, Any], services: dict[str, bytes]) -> None:
    with paper_cloud() as cloud:
        kept, _ = cloud.cloud.dump()
    garbage = {**kept, "services": {**kept["services"], **own}} if own or services else own
    if "settings" in own:
        garbage["settings"] = own["settings"]
    with paper_cloud() as cloud, pytest.raises(SandboxError) as caught, state.taken_over(tmp_path / "state.zip"):
        cloud.cloud.load(garbage, services)
    assert "\n" not in caught.value.message


def test_the_keeper_writes_soon_and_once(tmp_path: Path) -> None:
    dumps = 0
    value: dict[str, Any] = {"n": 0}
    written = threading.Event()

    def dump() -> tuple[dict[str, Any], dict[str, bytes]]:
        nonlocal dumps
        dumps += 1
        written.set()
        return dict(value), {}

    file = tmp_path / "state.zip"
    keeper = state.Keeper(file, dump)
    keeper.start()
    value["n"] = 1
    for _ in range(50):
        keeper.changed()
    assert written.wait(30)
    keeper.close()
    keeper.save()
    assert state.load(file) == ({"n": 1}, {})
    assert dumps <= 3


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    with (
        state.locked(tmp_path / "lock", wait=False),
        pytest.raises(BlockingIOError),
        state.locked(tmp_path / "lock", wait=False),
    ):
        pass


def test_a_process_is_named_by_pid_and_start(tmp_path: Path) -> None:
    """After a reboot the pid may be another's: that is not our sandbox."""
    root = tmp_path / "default"
    root.mkdir()
    record = {"pid": os.getpid(), "started": 1, "port": 1, "token": "t", "accounts": {}}
    (root / "process.json").write_text(json.dumps(record))
    assert control.find(home=tmp_path) is None
    with pytest.raises(NotFound, match="not running"):
        control.require(home=tmp_path)
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    (root / "process.json").write_text(json.dumps({**record, "started": started}))
    info = control.find(home=tmp_path)
    assert info is not None
    assert info.endpoint == "http://127.0.0.1:1"


def test_there_is_nothing_to_stop(tmp_path: Path) -> None:
    assert control.down(home=tmp_path) is False
    control.reset(home=tmp_path)


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", "A", "x" * 40])
def test_names_are_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        control.find(name, home=tmp_path)


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.delenv("GOLDENAMI_SANDBOX_HOME", raising=False)
    assert state.default_home() == Path("/data/goldenami/sandbox")
    monkeypatch.setenv("GOLDENAMI_SANDBOX_HOME", "/elsewhere")
    assert state.default_home() == Path("/elsewhere")


def test_the_variables_point_any_client_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "left over")
    with paper_cloud() as cloud:
        for name, value in cloud.variables("apps").items():
            monkeypatch.setenv(name, value)
        identity = boto3.session.Session().client("sts").get_caller_identity()
        assert identity["Account"] == "222222222222"


def test_paper_clouds_start_fast() -> None:
    with paper_cloud():
        pass  # whatever had to be imported is imported now
    before = time.process_time()  # others may use the machine, too
    with paper_cloud() as cloud:
        boto3.client("sts", **cloud.client())
        taken = time.process_time() - before
    assert taken < 1.0
