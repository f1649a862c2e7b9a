"""What a killed build made is deleted by somebody before it is resumed: it is made again, or the error says so."""

from __future__ import annotations

import pytest

from goldenami.errors import CloudError
from goldenami.model import Place
from tests.worlds import inventory
from tests.worlds.builds import Label, World
from tests.worlds.cases import check

HOME, WEST = Place("111111111111", "eu-central-1"), Place("111111111111", "eu-west-1")
APPS = Place("222222222222", "eu-central-1")
NOT_COPIED = Label("ec2", "CopyImage", WEST.account, WEST.region, 1)
NOT_PUBLISHED = Label("ssm", "PutParameter", HOME.account, HOME.region, 1)


def images_in(world: World, place: Place) -> set[str]:
    return {image["ImageId"] for image in world.client("ec2", place).describe_images(Owners=["self"])["Images"]}


def delete_images(world: World, place: Place, decoys: set[str]) -> int:
    """As a person who cleans up does: each image but the decoys, then its snapshots."""
    ec2 = world.client("ec2", place)
    images = ec2.describe_images(ImageIds=sorted(images_in(world, place) - decoys))["Images"]
    for image in images:
        ec2.deregister_image(ImageId=image["ImageId"])
        for mapping in image["BlockDeviceMappings"]:
            ec2.delete_snapshot(SnapshotId=mapping["Ebs"]["SnapshotId"])
    return len(images)


@pytest.mark.parametrize(
    ("killed", "when", "place"),
    [
        pytest.param(NOT_COPIED, "after", WEST, id="a copy that is pending"),
        pytest.param(NOT_PUBLISHED, "before", APPS, id="a copy in another account"),
        pytest.param(NOT_PUBLISHED, "after", WEST, id="a copy, while parameters are written"),
    ],
)
def test_a_copy_is_made_again(world: World, killed: Label, when: str, place: Place) -> None:
    world.fresh()
    decoys, others = inventory.place_decoys(world), images_in(world, place)
    world.build_until(killed, when)
    assert delete_images(world, place, others)
    assert world.resume().status == "released"
    check(world, decoys, released=True)


@pytest.mark.parametrize("killed", [NOT_COPIED, NOT_PUBLISHED], ids=["before its copies", "after its copies"])
def test_without_the_candidate_the_error_has_the_next_step(world: World, killed: Label) -> None:
    """A second candidate would be another image than the copies of the first one."""
    world.fresh()
    decoys, others = inventory.place_decoys(world), images_in(world, HOME)
    world.build_until(killed, "before")
    (build_id,) = world.builds
    assert delete_images(world, HOME, others)
    with pytest.raises(CloudError, match=r"image ami-\w+ in .* failed: it does not exist") as caught:
        world.resume()
    assert f"`goldenami clean {build_id}`" in (caught.value.hint or "")
    assert world.clean(build_id).complete
    check(world, decoys, released=False)
    assert world.build().status == "released"
