"""Lineage as it is read from a cloud: whose snapshots belong together, and what the EBS direct APIs say of them."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import boto3
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from goldenami.aws.session import Cloud
from goldenami.errors import NotFound
from goldenami.model import Account, Place
from goldenami.snapshots import family

if TYPE_CHECKING:
    from goldenami_sandbox.control import SandboxInfo
    from goldenami_sandbox.testing import PaperCloud

HOME, REGION = "111111111111", "eu-central-1"
PLACE = Place(HOME, REGION)
MIB = 1 << 20


class Rig:
    """A paper cloud whose snapshots have the blocks that a test gives them."""

    def __init__(self, paper: PaperCloud, cloud: Cloud) -> None:
        self.paper, self.cloud = paper, cloud
        self.ec2 = boto3.client("ec2", **paper.client())
        self.ebs = boto3.client("ebs", **paper.client())

    def volume(self, **params: Any) -> str:
        zone = f"{REGION}a"
        return str(self.ec2.create_volume(AvailabilityZone=zone, **({"Size": 1} | params))["VolumeId"])

    def snapshot(self, volume: str, blocks: dict[int, str], name: str = "") -> str:
        tags: Any = [{"ResourceType": "snapshot", "Tags": [{"Key": "Name", "Value": name}]}] if name else []
        self.paper.cloud.ec2.settle()
        id = str(self.ec2.create_snapshot(VolumeId=volume, TagSpecifications=tags)["SnapshotId"])
        self.paper.cloud.ec2.settle()
        self.paper.node.written[id] = blocks
        return id


@pytest.fixture
def rig(paper_cloud: Callable[..., PaperCloud], monkeypatch: pytest.MonkeyPatch) -> Rig:
    ticks = itertools.count(1_700_000_000)  # so that no two snapshots are of one moment
    paper = paper_cloud(clock=lambda: float(next(ticks)))
    paper.set(pending={"snapshot": 0, "volume": 0, "copy": 0})
    for name, value in paper.variables().items():
        monkeypatch.setenv(name, value)
    return Rig(paper, Cloud({"home": Account("home", HOME)}, PLACE))


def blocks(*runs: tuple[int, int, str]) -> dict[int, str]:
    return {i: f"{version}{i}" for first, last, version in runs for i in range(first, last)}


# --- the EBS direct APIs ----------------------------------------------------------------------------------------------


def test_blocks_are_listed_page_by_page(rig: Rig) -> None:
    snapshot = rig.snapshot(rig.volume(), blocks((0, 250, "a")))
    first = rig.ebs.list_snapshot_blocks(SnapshotId=snapshot, MaxResults=100)
    assert (first["BlockSize"], first["VolumeSize"], len(first["Blocks"])) == (512 * 1024, 1, 100)
    second = rig.ebs.list_snapshot_blocks(SnapshotId=snapshot, MaxResults=100, NextToken=first["NextToken"])
    third = rig.ebs.list_snapshot_blocks(SnapshotId=snapshot, MaxResults=100, NextToken=second["NextToken"])
    found = [b["BlockIndex"] for page in (first, second, third) for b in page["Blocks"]]
    assert found == list(range(250))
    assert "NextToken" not in third
    rest = rig.ebs.list_snapshot_blocks(SnapshotId=snapshot, StartingBlockIndex=240)["Blocks"]
    assert [b["BlockIndex"] for b in rest] == list(range(240, 250))


def reason_of(refused: ClientError) -> Any:
    """Why EBS refuses: a field of its own, of which the stubs know nothing."""
    response: Any = refused.response
    return response["Reason"]


def test_changes_within_a_lineage_only(rig: Rig) -> None:
    volume = rig.volume()
    one = rig.snapshot(volume, blocks((0, 3, "a")))
    two = rig.snapshot(volume, blocks((0, 1, "a"), (1, 2, "b"), (5, 6, "b")))
    changed = rig.ebs.list_changed_blocks(FirstSnapshotId=one, SecondSnapshotId=two)["ChangedBlocks"]
    shape = [(b["BlockIndex"], "FirstBlockToken" in b, "SecondBlockToken" in b) for b in changed]
    assert shape == [(1, True, True), (2, True, False), (5, False, True)]
    everything = rig.ebs.list_changed_blocks(SecondSnapshotId=two)["ChangedBlocks"]
    assert [b["BlockIndex"] for b in everything] == [0, 1, 5]
    other = rig.snapshot(rig.volume(), blocks((0, 1, "a")))
    with pytest.raises(ClientError) as refused:
        rig.ebs.list_changed_blocks(FirstSnapshotId=one, SecondSnapshotId=other)
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    assert reason_of(refused.value) == "UNRELATED_SNAPSHOTS"


def test_refusals(rig: Rig) -> None:
    snapshot = rig.snapshot(rig.volume(), blocks((0, 1, "a")))
    for call, request, reason in (
        (rig.ebs.list_snapshot_blocks, {"SnapshotId": "snap-0123456789abcdef0"}, "SNAPSHOT_NOT_FOUND"),
        (rig.ebs.list_snapshot_blocks, {"SnapshotId": snapshot, "NextToken": "x"}, "INVALID_PAGE_TOKEN"),
        (
            rig.ebs.get_snapshot_block,
            {"SnapshotId": snapshot, "BlockIndex": 0, "BlockToken": "x"},
            "INVALID_BLOCK_TOKEN",
        ),
    ):
        with pytest.raises(ClientError) as refused:
            call(**request)
        assert reason_of(refused.value) == reason


# --- families ---------------------------------------------------------------------------------------------------------


def test_a_volume_made_from_a_snapshot_goes_on_from_it(rig: Rig) -> None:
    first = rig.volume()
    a = rig.snapshot(first, blocks((0, 10, "a")), "before the upgrade")
    rig.snapshot(first, blocks((0, 10, "b")))
    second = rig.volume(SnapshotId=a)
    c = rig.snapshot(second, blocks((0, 9, "a"), (9, 10, "c")))
    for lineage in (
        family.of_volume(rig.cloud, PLACE, second),
        family.of_volume(rig.cloud, PLACE, first),
        family.of_snapshots(rig.cloud, PLACE, [c]),
    ):
        members = {m.id: m for m in lineage.members}
        assert len(members) == 3
        assert members[c].parent == a
        assert members[c].stored_bytes == 512 * 1024
        assert members[a].freed_bytes == 512 * 1024, "the block that both successors replaced"
        assert members[a].snapshot.name == "before the upgrade"


def test_copies_are_not_comparable(rig: Rig) -> None:
    source = rig.snapshot(rig.volume(), blocks((0, 4, "a")))
    copies = []
    for _ in range(2):
        copy = rig.ec2.copy_snapshot(SourceSnapshotId=source, SourceRegion=REGION)["SnapshotId"]
        rig.paper.cloud.ec2.settle()
        rig.paper.node.written[copy] = blocks((0, 4, "a"))
        copies.append(copy)
    lineage = family.of_snapshots(rig.cloud, PLACE, copies)
    assert [m.id for m in lineage.members] == copies
    assert lineage.members[0].broken is None
    assert lineage.members[1].broken == f"not comparable with {copies[0]}: they have no common lineage"
    assert lineage.stored_bytes == 8 * 512 * 1024


def test_what_is_not_there(rig: Rig) -> None:
    for find, id in ((family.of_volume, "vol-0"), (family.of_image, "ami-0123456789abcdef0")):
        with pytest.raises(NotFound, match=id):
            find(rig.cloud, PLACE, id)
    with pytest.raises(NotFound, match="snap-0123456789abcdef0"):
        family.of_snapshots(rig.cloud, PLACE, ["snap-0123456789abcdef0"])


# --- the command ------------------------------------------------------------------------------------------------------

PROJECT = """
environments:
  test:
    home: {account: "111111111111", region: eu-central-1}
    targets: [{account: home, regions: [eu-central-1], kms_key: alias/golden-ami}]
    catalog: releases
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "goldenami.yaml").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*words: str) -> Any:
    from goldenami.cli.lineage import lineage

    return CliRunner().invoke(lineage, words, catch_exceptions=False)


def test_the_command_prints_text_and_json(rig: Rig, project: Path) -> None:
    volume = rig.volume()
    a = rig.snapshot(volume, blocks((0, 20, "a")), "A")
    b = rig.snapshot(volume, blocks((0, 12, "a"), (12, 20, "b")), "B")
    text = command(volume).output
    assert "2 snapshots: 14 MiB stored, full copies would be 20 MiB" in text
    assert f"refers to 6 MiB of {a}" in text
    (project / "prices.yaml").write_text("currency: EUR\ndefault: {standard: 1024, archive: 1}\n")
    document = json.loads(command(b, "--json").output)
    assert document["schema"] == "goldenami.lineage/1"
    (found,) = document["lineages"]
    assert found["monthly_cost"] == {"amount": 14.0, "currency": "EUR", "certain": True}
    assert [s["freed_bytes"] for s in found["snapshots"]] == [4 * MIB, 4 * MIB]
    command(volume, "--svg", "lineage.svg")
    drawn = ElementTree.parse(project / "lineage.svg").getroot()
    words = " ".join(drawn.itertext())
    assert "14 MiB stored" in words
    assert f"6 MiB of {a}" in words


def test_a_price_table_with_mistakes(rig: Rig, project: Path) -> None:
    from goldenami.errors import InvalidInput

    (project / "prices.yaml").write_text("currency: euro\ndefault: {standard: -1, archived: 1}\n")
    with pytest.raises(InvalidInput) as refused:
        command("vol-1")
    places = [(p.line, p.message.split(":")[0]) for p in refused.value.problems]
    assert {line for line, _ in places} == {1, 2}
    assert len(places) >= 3


# --- real blocks ------------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_the_textbook_example_on_real_blocks(real_sandbox: SandboxInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 MiB written, then 4 of them anew, then 2 more: what is stored is read from what is really on the volume."""
    from goldenami_sandbox import control

    for name, value in control.variables(real_sandbox.endpoint, real_sandbox.key("home"), REGION).items():
        monkeypatch.setenv(name, value)
    ec2 = boto3.client("ec2", **real_sandbox.client())
    image = max(
        ec2.describe_images(Owners=["136693071363"], Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])[
            "Images"
        ],
        key=lambda i: i["CreationDate"],
    )["ImageId"]
    instance = ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1)["Instances"][0]
    id, zone = instance["InstanceId"], instance["Placement"]["AvailabilityZone"]
    volume = ec2.create_volume(Size=1, AvailabilityZone=zone)["VolumeId"]
    made: list[str] = []
    try:
        ec2.get_waiter("instance_running").wait(InstanceIds=[id], WaiterConfig={"Delay": 1})
        ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1})
        ec2.attach_volume(VolumeId=volume, InstanceId=id, Device="/dev/sdf")
        ec2.get_waiter("volume_in_use").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1})
        for start, length in ((0, 10), (6, 4), (10, 2)):
            there = "for i in $(seq 1200); do [ -b /dev/nvme1n1 ] && break; sleep 0.1; done"
            write = f"{there}; dd if=/dev/urandom of=/dev/nvme1n1 bs=1M seek={start} count={length} conv=fsync"
            done = subprocess.run(
                control.shell_argv(real_sandbox, id, ["sh", "-c", write]), capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, done.stderr
            made.append(ec2.create_snapshot(VolumeId=volume)["SnapshotId"])
            ec2.get_waiter("snapshot_completed").wait(SnapshotIds=made[-1:], WaiterConfig={"Delay": 1})
        lineage = family.of_volume(Cloud({"home": Account("home", HOME)}, PLACE), PLACE, volume)
        a, b, c = lineage.members
        assert [m.id for m in lineage.members] == made
        assert (lineage.stored_bytes, lineage.full_bytes) == (16 * MIB, 32 * MIB)
        assert [m.stored_bytes for m in (a, b, c)] == [10 * MIB, 4 * MIB, 2 * MIB]
        assert b.refers == {a.id: 6 * MIB}
        assert c.refers == {a.id: 6 * MIB, b.id: 4 * MIB}
        assert [m.freed_bytes for m in (a, b, c)] == [4 * MIB, 0, 2 * MIB]
    finally:
        ec2.terminate_instances(InstanceIds=[id])
        for snapshot in made:
            ec2.delete_snapshot(SnapshotId=snapshot)
