"""What a killed build made is deleted by somebody before it is resumed: it is made again, or the error says so."""

from __future__ import annotations

import pytest

from goldenami import pipeline
from goldenami.errors import CloudError
from goldenami.model import Place
from tests.encryption.test_at_launch import at_launch
from tests.worlds import inventory
from tests.worlds.builds import Death, Label, World
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
    world.killed(killed, when)
    assert delete_images(world, place, others)
    assert world.resume().status == "released"
    check(world, decoys, released=True)


@pytest.mark.parametrize("place", [WEST, APPS], ids=str)
def test_a_copy_of_the_released_image_is_made_again(world: World, place: Place) -> None:
    """The account that copied the image lost it when all copies were there. It gets it again, and loses it again."""
    world.fresh()
    at_launch(world)
    decoys, others = inventory.place_decoys(world), images_in(world, place)
    world.killed(NOT_PUBLISHED, "before")
    assert delete_images(world, place, others)
    world.cloud.start_process(NOT_PUBLISHED, "before")
    with pytest.raises(Death):
        pipeline.resume(world.project, world.environment, None, host_work=world.host_work, cloud=world.cloud)
    assert delete_images(world, place, others)
    outcome = world.resume()
    assert outcome.status == "released"
    check(world, decoys, released=True)
    home = next(one for one in outcome.images if Place(one.account, one.region) == HOME)
    ec2 = world.client("ec2", HOME)
    assert ec2.describe_image_attribute(ImageId=home.image_id, Attribute="launchPermission")["LaunchPermissions"] == []
    attribute = {"SnapshotId": home.snapshots[0].snapshot_id, "Attribute": "createVolumePermission"}
    assert ec2.describe_snapshot_attribute(**attribute)["CreateVolumePermissions"] == []


def captured(world: World, place: Place, image_id: str) -> str:
    """The image of a builder that an image is, or is a copy of."""
    (image,) = world.client("ec2", place).describe_images(ImageIds=[image_id])["Images"]
    return str(image_id if image.get("SourceInstanceId") else image["SourceImageId"])


@pytest.mark.parametrize("encryption", ["copy", "launch"])
@pytest.mark.parametrize(
    ("killed", "when"),
    [
        pytest.param(NOT_COPIED, "before", id="before a copy"),
        pytest.param(NOT_COPIED, "after", id="after a copy, without an answer"),
        pytest.param(NOT_PUBLISHED, "before", id="after all copies"),
    ],
)
def test_a_release_is_of_one_builder(world: World, killed: Label, when: str, encryption: str) -> None:
    """Without its candidate, a build makes another one at its second resume. No copy of the first one is released."""
    world.fresh()
    if encryption == "launch":
        at_launch(world)
    decoys, others = inventory.place_decoys(world), images_in(world, HOME)
    world.killed(killed, when)
    (first,) = {captured(world, HOME, image) for image in images_in(world, HOME) - others}
    assert delete_images(world, HOME, images_in(world, HOME) - {first})
    with pytest.raises(CloudError, match=f"image {first} in .* failed: it does not exist") as caught:
        world.resume()
    assert "`goldenami resume " in (caught.value.hint or "")
    outcome = world.resume()
    assert outcome.status == "released"
    owned = [one for one in outcome.images if one.mode == "copy"]
    sources = {captured(world, Place(one.account, one.region), one.image_id) for one in owned}
    assert (len(owned), len(sources)) == (3, 1)
    assert first not in sources
    assert len(world.host_work.prepared) == 2
    check(world, decoys, released=True)


@pytest.mark.parametrize("killed", [NOT_COPIED, NOT_PUBLISHED], ids=["before its copies", "after its copies"])
def test_without_the_candidate_the_error_has_the_next_step(world: World, killed: Label) -> None:
    """A second candidate is another image than the copies of the first one."""
    world.fresh()
    decoys, others = inventory.place_decoys(world), images_in(world, HOME)
    world.killed(killed, "before")
    (build_id,) = world.builds
    assert delete_images(world, HOME, others)
    with pytest.raises(CloudError, match=r"image ami-\w+ in .* failed: it does not exist") as caught:
        world.resume()
    assert f"`goldenami clean {build_id}`" in (caught.value.hint or "")
    assert world.clean(build_id).complete
    check(world, decoys, released=False)
    assert world.build().status == "released"
