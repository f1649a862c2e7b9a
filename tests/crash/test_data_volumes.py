"""Data volumes of an image, from the launch of the builder to the release, and what a killed build leaves of them."""

from __future__ import annotations

from typing import Any

import pytest

from goldenami import recipe as recipes
from goldenami.errors import InvalidInput, NotFound, UsageError
from goldenami.model import Place
from tests.worlds import inventory
from tests.worlds.builds import HOME, PLACES, Label, World

VOLUMES = """
vars: {size: 20}
image:
  root_volume: {size_gib: 8}
  volumes:
    - {device: /dev/sdf, size_gib: "{{ vars.size }}", iops: 4000, delete_on_termination: false}
    - {device: /dev/sdg, snapshot: SNAPSHOT, type: gp2}
"""


def write(world: World, volumes: str) -> None:
    file = world.path / "recipes" / "web.yaml"
    file.write_text(file.read_text().replace("image: {root_volume: {size_gib: 8}}", volumes))
    world.project = recipes.load_project(world.path)


def with_volumes(world: World) -> str:
    """A fresh case whose recipe has data volumes. Returns the snapshot that one of them starts from."""
    world.fresh()
    ec2 = world.client("ec2", PLACES[0])
    volume = ec2.create_volume(AvailabilityZone="eu-central-1a", Size=3, VolumeType="gp3")["VolumeId"]
    assert world.behind.settle()
    snapshot: str = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    assert world.behind.settle()
    ec2.delete_volume(VolumeId=volume)
    write(world, VOLUMES.replace("SNAPSHOT", snapshot))
    return snapshot


def ebs(world: World, place: Place, image_id: str) -> dict[str, Any]:
    (image,) = world.client("ec2", place).describe_images(ImageIds=[image_id])["Images"]
    return {m["DeviceName"]: m["Ebs"] for m in image["BlockDeviceMappings"]}


def test_every_target_has_an_encrypted_snapshot_of_each_volume(world: World) -> None:
    snapshot = with_volumes(world)
    manifest = world.build().manifest
    assert len(manifest.images) == len(PLACES)
    for row in manifest.images:
        assert [(s.device_name, s.volume_size_gib, s.encrypted) for s in row.snapshots] == [
            ("/dev/sdf", 20, True),
            ("/dev/sdg", 3, True),
            ("/dev/xvda", 8, True),
        ]
    owned = [row for row in manifest.images if row.mode == "copy"]
    for row in owned:
        found = ebs(world, row.place, row.image_id)
        kept = {device: one["DeleteOnTermination"] for device, one in found.items()}
        assert kept == {"/dev/xvda": True, "/dev/sdf": False, "/dev/sdg": True}
        assert (found["/dev/sdf"]["VolumeType"], found["/dev/sdf"]["Iops"]) == ("gp3", 4000)
        assert found["/dev/sdg"]["VolumeType"] == "gp2"
    assert manifest.variables == {"size": 20}
    home = world.client("ec2", PLACES[0])
    assert home.describe_volumes()["Volumes"] == [], "neither the builder nor the test instance leaves a volume"
    assert home.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"], "the source is not ours to delete"
    assert world.build().status == "unchanged"


@pytest.mark.parametrize("action", ["RunInstances", "CreateImage", "CopyImage"])
@pytest.mark.sample(2)
def test_a_killed_build_leaves_no_volume_and_no_snapshot(world: World, action: str) -> None:
    snapshot = with_volumes(world)
    before = inventory.take(world)
    world.build_until(Label("ec2", action, HOME, "eu-central-1", 1), "after")
    (build_id,) = world.builds
    assert world.clean(build_id).complete
    assert world.behind.settle()
    assert inventory.difference(inventory.take(world), before, releases=0) == []
    ec2 = world.client("ec2", PLACES[0])
    assert ec2.describe_volumes()["Volumes"] == []
    assert [s["SnapshotId"] for s in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]] == [snapshot]


@pytest.mark.parametrize(
    ("volume", "error", "says"),
    [
        ("{device: /dev/xvda, size_gib: 1}", InvalidInput, "a device name"),
        ("{device: /dev/sdf}", UsageError, "has no size_gib"),
        ("{device: /dev/sdf, snapshot: snap-0123456789abcdef0}", NotFound, "not visible"),
        ("{device: /dev/sdf, snapshot: SNAPSHOT, size_gib: 2}", UsageError, "expected 3 or more"),
    ],
    ids=["root", "no size", "unknown snapshot", "smaller than its snapshot"],
)
def test_what_does_not_fit_is_refused_before_anything_is_launched(
    world: World, volume: str, error: Any, says: str
) -> None:
    snapshot = with_volumes(world)
    file = world.path / "recipes" / "web.yaml"
    text = file.read_text()
    start = text.index("    - {device: /dev/sdf")
    rest = text[start:].split("\n", 2)[2]
    file.write_text(f"{text[:start]}    - {volume.replace('SNAPSHOT', snapshot)}\n{rest}")
    world.project = recipes.load_project(world.path)
    with pytest.raises(error) as caught:
        world.build()
    shown = "\n".join(map(str, caught.value.problems)) if isinstance(caught.value, InvalidInput) else str(caught.value)
    assert says in shown
    assert world.builds == []
