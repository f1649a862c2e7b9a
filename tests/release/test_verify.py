"""Reading back: the comparison on data, one difference at a time; the reading against a cloud that somebody changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from goldenami.aws.session import Cloud
from goldenami.errors import TargetsFailed
from goldenami.model import Architecture, Place, Target
from goldenami.release.distribute import Distributed, Placed, distribute
from goldenami.release.order import ReleaseOrder
from goldenami.release.verify import NOT_COMPARED, Actual, Expected, Readings, compare, read_images, verify

if TYPE_CHECKING:
    from goldenami.aws.ledger import Ledger
    from tests.worlds.releases import World

OWNER = Place("111111111111", "eu-west-1")
USER = Place("222222222222", "eu-west-1")
KEY = "arn:aws:kms:eu-west-1:111111111111:key/1"
ROOT = "arn:aws:iam::222222222222:root"
TAGS = [{"Key": "Name", "Value": "web"}, {"Key": "other", "Value": "is allowed"}]

EXPECTED = Expected(
    label="apps/eu-west-1",
    architecture="x86_64",
    image_id="ami-1",
    name="web",
    owner=OWNER,
    user=USER,
    mode="share",
    kms_key=KEY,
    users=frozenset({USER.account}),
    tags={"Name": "web"},
    boot_mode="uefi",
    deprecate_at=datetime(2027, 2, 22, 3, 0, 40, tzinfo=UTC),
)


def right() -> dict[str, Any]:
    """What is read where all is as expected."""
    return {
        "image": {
            "ImageId": "ami-1",
            "Name": "web",
            "State": "available",
            "OwnerId": OWNER.account,
            "Architecture": "x86_64",
            "RootDeviceType": "ebs",
            "RootDeviceName": "/dev/xvda",
            "VirtualizationType": "hvm",
            "ImdsSupport": "v2.0",
            "BootMode": "uefi",
            "DeprecationTime": "2027-02-22T03:01:00.000Z",
            "BlockDeviceMappings": [
                {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": "snap-1"}},
                {"DeviceName": "/dev/xvdb", "Ebs": {"SnapshotId": "snap-2"}},
                {"DeviceName": "/dev/xvdc", "VirtualName": "ephemeral0"},
            ],
            "Tags": TAGS,
        },
        "snapshots": {
            id: {"SnapshotId": id, "State": "completed", "Encrypted": True, "KmsKeyId": KEY, "Tags": TAGS}
            for id in ("snap-1", "snap-2")
        },
        "launch_permissions": frozenset({USER.account}),
        "volume_permissions": {"snap-1": frozenset({USER.account}), "snap-2": frozenset({USER.account})},
        "grantees": frozenset({ROOT, "arn:aws:iam::111111111111:role/another"}),
        "seen_by_user": True,
    }


def test_what_is_as_expected_has_no_differences() -> None:
    assert compare(EXPECTED, Actual(**right())) == ()


def test_a_boot_mode_that_the_base_does_not_have_is_a_difference() -> None:
    [difference] = compare(replace(EXPECTED, boot_mode=None), Actual(**right()))
    assert "boot mode is uefi, not none" in str(difference)
    assert compare(replace(EXPECTED, boot_mode=NOT_COMPARED), Actual(**right())) == ()


def set_to(*path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(actual: dict[str, Any]) -> None:
        *steps, last = path
        place: Any = actual
        for step in steps:
            place = place[step]
        place[last] = value

    return change


def without(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(actual: dict[str, Any]) -> None:
        *steps, last = path
        place: Any = actual
        for step in steps:
            place = place[step]
        del place[last]

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (set_to("image", value=None), "image ami-1 is missing, not available"),
        (set_to("image", "State", value="pending"), "state is pending, not available"),
        (set_to("image", "Name", value="web2"), "name is web2, not web"),
        (set_to("image", "OwnerId", value="3"), "owner is 3, not 111111111111"),
        (set_to("image", "Architecture", value="arm64"), "architecture is arm64, not x86_64"),
        (set_to("image", "RootDeviceType", value="instance-store"), "RootDeviceType is instance-store, not ebs"),
        (set_to("image", "VirtualizationType", value="paravirtual"), "VirtualizationType is paravirtual, not hvm"),
        (without("image", "ImdsSupport"), "ImdsSupport is not set, not v2.0"),
        (set_to("image", "BootMode", value="uefi-preferred"), "boot mode is uefi-preferred, not uefi"),
        (without("image", "BootMode"), "boot mode is not set, not uefi"),
        (set_to("image", "RootDeviceName", value="/dev/sda1"), "root device is /dev/sda1, not one of /dev/xvda"),
        (set_to("image", "Tags", value=[]), "tag Name is missing, not 'web'"),
        (set_to("image", "Tags", value=[{"Key": "Name", "Value": "x"}]), "tag Name is 'x', not 'web'"),
        (without("image", "DeprecationTime"), "deprecation time is not set, not 2027-02-22T03:00:40Z"),
        (set_to("image", "DeprecationTime", value="2027-02-22T03:03:00.000Z"), "deprecation time is 2027-02-22T03:03"),
        (set_to("image", "BlockDeviceMappings", value=[]), "snapshots is none, not at least one"),
        (without("snapshots", "snap-2"), "snapshot snap-2 is missing, not completed"),
        (set_to("snapshots", "snap-2", "State", value="error"), "state of snap-2 is error, not completed"),
        (set_to("snapshots", "snap-2", "Encrypted", value=False), "encryption of snap-2 is off, not on"),
        (set_to("snapshots", "snap-2", "KmsKeyId", value="arn:other"), f"key of snap-2 is arn:other, not {KEY}"),
        (set_to("snapshots", "snap-1", "Tags", value=[]), "snap-1's tag Name is missing"),
        (set_to("launch_permissions", value=frozenset()), "launch permission is empty, not 222222222222"),
        (set_to("launch_permissions", value=frozenset({USER.account, "all"})), "is 222222222222, all, not 222"),
        (set_to("volume_permissions", "snap-2", value=frozenset()), "volume permission of snap-2 is empty"),
        (set_to("volume_permissions", "snap-2", value=frozenset({"all"})), "volume permission of snap-2 is all"),
        (set_to("grantees", value=frozenset()), f"grant on {KEY} is missing, not given to {ROOT}"),
        (set_to("seen_by_user", value=False), "ami-1 is not visible, not visible to account"),
    ],
)
def test_each_difference_is_told(change: Callable[[dict[str, Any]], None], told: str) -> None:
    actual = right()
    change(actual)
    texts = [str(mismatch) for mismatch in compare(EXPECTED, Actual(**actual))]
    assert any(told in text for text in texts), texts
    assert all(text.startswith("apps/eu-west-1 (x86_64): ") for text in texts)


def released(world: World, **more: Any) -> tuple[Any, ReleaseOrder, Distributed]:
    ledger, order = world.build(), world.order(**more)
    with distribute(ledger, order, {"x86_64": world.candidate()}) as distribution:
        return ledger, order, distribution.finish()


def test_the_rows_of_the_manifest_are_what_boto3_sees(world: World) -> None:
    ledger, order, distributed = released(world)
    calls = len(world.paper.calls)
    verified = verify(ledger, order, distributed, emit=world.events.append)
    assert world.mutations(calls) == [], "reading changes nothing"
    assert verified.mismatches == ()
    assert [(row.account, row.region) for row in verified.images] == sorted(
        (target.account.id, target.region) for target in order.targets
    )
    for row in verified.images:
        image = world.image(Place(row.account, row.region), row.image_id)
        assert (row.image_id, row.name, row.architecture) == (image["ImageId"], image["Name"], image["Architecture"])
        owner = Place(image["OwnerId"], row.region)
        assert row.mode == ("copy" if owner.account == row.account else "share")
        assert row.encrypted
        (snapshot,), (seen,) = row.snapshots, world.snapshots_of(owner, row.image_id)
        assert (snapshot.snapshot_id, snapshot.encrypted) == (seen["SnapshotId"], seen["Encrypted"])
        assert snapshot.kms_key_id == seen["KmsKeyId"] == world.key_arn(owner)
        assert (snapshot.volume_size_gib, snapshot.device_name) == (8, "/dev/xvda")
    assert world.states("apps/us-east-1") == ["verified"]


def readings_of(world: World, ledger: Ledger, order: ReleaseOrder, distributed: Distributed) -> Readings:
    """What the waits for the copies read, if they looked at their snapshots."""
    readings = Readings(ledger, order)
    for placed in distributed.placed:
        owner = order.owner(placed.target)
        if owner is placed.target:
            behind = {str(one["SnapshotId"]): one for one in world.snapshots_of(owner.place, placed.image_id)}
            readings.take(placed, world.image(owner.place, placed.image_id), behind)
    return readings


def test_an_image_that_was_as_ordered_when_its_copy_ended_is_not_described_again(world: World) -> None:
    ledger, order, distributed = released(world)
    plain = verify(ledger, order, distributed)
    readings = readings_of(world, ledger, order, distributed)
    mark = len(world.paper.calls)
    verified = verify(ledger, order, distributed, readings=readings)
    calls = [call for call in world.paper.calls[mark:] if call["action"] != "AssumeRole"]
    assert verified == plain
    owned = {order.owner(placed.target).label for placed in distributed.placed}
    counted = Counter(call["action"] for call in calls)
    assert counted == {
        "DescribeImageAttribute": len(owned),
        "DescribeSnapshotAttribute": len(owned),
        "DescribeImages": len(distributed.placed) - len(owned),  # by the accounts that use the images of others
    }


def read_back(
    world: World, ledger: Ledger, order: ReleaseOrder, *, wrong: str = "", imds_v2: bool = True
) -> tuple[Readings, Distributed]:
    """A distribution that reads each image back when all that use it have it. ``wrong``: an owner whose image somebody
    gets before that. ``imds_v2``: the candidate requires IMDSv2."""
    readings = Readings(ledger, order)

    def arrived(group: Sequence[Placed], failed: Collection[str]) -> None:
        owner = order.owner(group[0].target)
        if owner.label == wrong:
            world.client("ec2", owner.place).modify_image_attribute(
                ImageId=group[0].image_id, LaunchPermission={"Add": [{"UserId": "999999999999"}]}
            )
        readings.read_back(group, failed)

    candidates: dict[Architecture, str] = {"x86_64": world.candidate(imds_v2=imds_v2)}
    with distribute(ledger, order, candidates, take=readings.take, arrived=arrived) as distribution:
        return readings, distribution.finish()


def test_an_image_that_was_right_when_all_had_it_is_not_read_again(world: World) -> None:
    """While other copies are under way: nothing is left to read at the end."""
    from tests.worlds.releases import TARGETS

    ledger, order = world.build(), world.order(targets=TARGETS)
    readings, distributed = read_back(world, ledger, order)
    mark = len(world.paper.calls)
    verified = verify(ledger, order, distributed, readings=readings)
    assert world.paper.calls[mark:] == []
    assert verified == verify(ledger, order, distributed), "it is what is read at the end, too"


def test_what_was_changed_of_a_copy_is_read_back(world: World) -> None:
    """What EC2 answered to the change is no reading."""
    from tests.worlds.releases import TARGETS

    ledger, order = world.build(), world.order(targets=TARGETS[:1])
    readings, distributed = read_back(world, ledger, order, imds_v2=False)
    mark = len(world.paper.calls)
    assert verify(ledger, order, distributed, readings=readings).images
    assert "DescribeImages" in {call["action"] for call in world.paper.calls[mark:]}


def test_an_image_that_was_not_right_when_all_had_it_is_read_again_and_refused(world: World) -> None:
    from tests.worlds.releases import TARGETS

    ledger, order = world.build(), world.order(targets=TARGETS)
    readings, distributed = read_back(world, ledger, order, wrong="home/eu-west-1")
    with pytest.raises(TargetsFailed) as caught:
        verify(ledger, order, distributed, readings=readings)
    assert "launch permission is" in caught.value.failures["home/eu-west-1"]
    assert "999999999999" in caught.value.failures["home/eu-west-1"]


def test_what_was_read_back_long_ago_or_before_a_loan_ended_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.worlds.releases import TARGETS

    ledger, order = world.build(), world.order(targets=TARGETS[:1])
    readings, distributed = read_back(world, ledger, order)
    (placed,) = distributed.placed
    for ended, hours in (({placed.image_id: frozenset({"999999999999"})}, 0), ({}, 2)):
        clock = world.cloud.clock
        monkeypatch.setattr(world.cloud, "clock", lambda hours=hours, clock=clock: clock() + hours * 3600)
        mark = len(world.paper.calls)
        assert verify(ledger, order, distributed, readings=readings, ended=ended).images
        assert "DescribeImageAttribute" in {call["action"] for call in world.paper.calls[mark:]}


def test_who_got_an_image_in_the_meantime_is_found_though_it_was_as_ordered(world: World) -> None:
    from tests.worlds.releases import HOME, TARGETS

    ledger, order, distributed = released(world, targets=TARGETS[:3])
    readings = readings_of(world, ledger, order, distributed)
    world.client("ec2", Place(HOME.id, "eu-west-1")).modify_image_attribute(
        ImageId=distributed.placed[1].image_id, LaunchPermission={"Add": [{"UserId": "999999999999"}]}
    )
    with pytest.raises(TargetsFailed) as caught:
        verify(ledger, order, distributed, readings=readings)
    assert caught.value.failures == {
        "home/eu-west-1": "home/eu-west-1 (x86_64): launch permission is 999999999999, not empty",
    }


def test_an_image_that_was_read_long_ago_is_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another copy took hours. Meanwhile somebody removed a tag of one image, and revoked the grant for another one."""
    from tests.worlds.releases import HOME, TARGETS

    ledger, order, distributed = released(world, targets=(*TARGETS[1:3], TARGETS[5]))
    readings = readings_of(world, ledger, order, distributed)
    ireland, virginia = Place(HOME.id, "eu-west-1"), Place(HOME.id, "us-east-1")
    in_ireland = next(p.image_id for p in distributed.placed if p.target.place == ireland)
    world.client("ec2", ireland).delete_tags(Resources=[in_ireland], Tags=[{"Key": "goldenami:recipe"}])
    kms, key = world.client("kms", virginia), world.key_arn(virginia)
    (grant,) = kms.list_grants(KeyId=key)["Grants"]
    kms.revoke_grant(KeyId=key, GrantId=grant["GrantId"])
    clock = world.cloud.clock
    monkeypatch.setattr(world.cloud, "clock", lambda: clock() + 2 * 3600)
    with pytest.raises(TargetsFailed) as caught:
        verify(ledger, order, distributed, readings=readings)
    assert "tag goldenami:recipe is missing" in caught.value.failures["home/eu-west-1"]
    assert "grant on" in caught.value.failures["apps/us-east-1"]


def test_an_image_that_was_not_as_ordered_is_described_again(world: World) -> None:
    """Its tags or its key: what is new may not be visible when its copy ends. Snapshots that the wait for the copy did
    not read are read at its end, with the same result."""
    from tests.worlds.releases import TARGETS

    ledger, order, distributed = released(world, targets=TARGETS[:1])
    (placed,), place = distributed.placed, TARGETS[0].place
    image = world.image(place, placed.image_id)
    behind = {str(one["SnapshotId"]): one for one in world.snapshots_of(place, placed.image_id)}
    other = {id: {**one, "KmsKeyId": "another"} for id, one in behind.items()}
    for bad in (({**image, "Tags": []}, behind), (image, other), ({**image, "State": "pending"}, behind)):
        readings = Readings(ledger, order)
        readings.take(placed, *bad)
        mark = len(world.paper.calls)
        assert verify(ledger, order, distributed, readings=readings).images
        assert {"DescribeImages", "DescribeSnapshots"} <= {call["action"] for call in world.paper.calls[mark:]}


def test_a_build_that_goes_on_reads_everything(world: World) -> None:
    from tests.worlds.releases import TARGETS

    ledger, order, distributed = released(world, targets=TARGETS[:1])
    ledger.is_continued = True
    readings = readings_of(world, ledger, order, distributed)
    mark = len(world.paper.calls)
    assert verify(ledger, order, distributed, readings=readings).images
    assert {"DescribeImages", "DescribeSnapshots"} <= {call["action"] for call in world.paper.calls[mark:]}


def test_what_somebody_changed_in_the_meantime_is_not_released(world: World) -> None:
    from tests.worlds.releases import HOME, TARGETS

    ledger, order, distributed = released(world, targets=TARGETS[:3])
    ireland, virginia = Place(HOME.id, "eu-west-1"), Place(HOME.id, "us-east-1")
    in_ireland, in_virginia = distributed.placed[1].image_id, distributed.placed[2].image_id
    world.client("ec2", ireland).modify_image_attribute(
        ImageId=in_ireland, LaunchPermission={"Add": [{"UserId": "999999999999"}]}
    )
    world.client("ec2", virginia).delete_tags(Resources=[in_virginia], Tags=[{"Key": "goldenami:recipe"}])
    with pytest.raises(TargetsFailed) as caught:
        verify(ledger, order, distributed)
    assert caught.value.failures == {
        "home/eu-west-1": "home/eu-west-1 (x86_64): launch permission is 999999999999, not empty",
        "home/us-east-1": "home/us-east-1 (x86_64): tag goldenami:recipe is missing, not 'debian-12-web'",
    }


def test_an_image_that_differs_does_not_end_the_wait_for_another_one(world: World) -> None:
    """Both images of a place are new: one is not visible yet, and somebody shared the other one."""
    from tests.worlds.releases import TARGETS

    ledger, order = world.build(), world.order(targets=TARGETS[:1])
    candidates: dict[Architecture, str] = {"x86_64": world.candidate(), "arm64": world.candidate("arm64")}
    with distribute(ledger, order, candidates) as distribution:
        distributed = distribution.finish()
    place = TARGETS[0].place
    images = {placed.architecture: placed.image_id for placed in distributed.placed}
    shared = {"Add": [{"UserId": "999999999999"}]}
    world.client("ec2", place).modify_image_attribute(ImageId=images["x86_64"], LaunchPermission=shared)
    looks: list[list[str]] = []

    def late(cloud: Cloud, owner: Place, image_ids: Collection[str]) -> dict[str, Actual]:
        looks.append(sorted(image_ids))
        found = read_images(cloud, owner, image_ids)
        return found | ({images["arm64"]: Actual(None)} if len(looks) < 3 else {})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("goldenami.release.verify.read_images", late)
        with pytest.raises(TargetsFailed) as caught:
            verify(ledger, order, distributed)
    reason = caught.value.failures["home/eu-central-1"]
    assert reason == "home/eu-central-1 (x86_64): launch permission is 999999999999, not empty"
    assert looks == [sorted(images.values()), [images["arm64"]], [images["arm64"]]]


def test_an_image_that_is_gone_is_not_released(world: World) -> None:
    from tests.worlds.releases import TARGETS

    ledger, order, distributed = released(world, targets=TARGETS[:1])
    (placed,) = distributed.placed
    world.client("ec2", placed.target.place).deregister_image(ImageId=placed.image_id)
    with pytest.raises(TargetsFailed, match="home/eu-central-1"):
        verify(ledger, order, distributed)


def test_a_share_whose_grant_is_gone_is_not_released(world: World) -> None:
    from tests.worlds.releases import HOME, TARGETS

    ledger, order, distributed = released(world, targets=(TARGETS[2], TARGETS[5]))
    kms = world.client("kms", Place(HOME.id, "us-east-1"))
    key = world.key_arn(Place(HOME.id, "us-east-1"))
    (grant,) = kms.list_grants(KeyId=key)["Grants"]
    kms.revoke_grant(KeyId=key, GrantId=grant["GrantId"])
    with pytest.raises(TargetsFailed, match="apps/us-east-1") as caught:
        verify(ledger, order, distributed)
    assert "grant on" in caught.value.failures["apps/us-east-1"]


def test_a_best_effort_target_that_is_wrong_has_no_row(world: World) -> None:
    from tests.worlds.releases import TARGETS

    optional: Target = replace(TARGETS[1], required=False)
    ledger, order, distributed = released(world, targets=(TARGETS[0], optional))
    world.client("ec2", optional.place).delete_tags(Resources=[distributed.placed[1].image_id], Tags=[{"Key": "Name"}])
    verified = verify(ledger, order, replace(distributed, failures={"apps/eu-west-1": "earlier"}))
    assert [row.region for row in verified.images] == ["eu-central-1"]
    assert sorted(verified.failures) == ["apps/eu-west-1", "home/eu-west-1"]
    assert "tag Name" in verified.failures["home/eu-west-1"]


def test_a_target_that_cannot_be_read_has_failed(world: World) -> None:
    from tests.worlds.releases import TARGETS

    ledger, order, distributed = released(world, targets=TARGETS[:2])
    world.paper.set(faults=[
        {"action": "ec2:DescribeSnapshots", "region": "eu-west-1", "nth": 0,
         "code": "UnauthorizedOperation", "status": 403}
    ])  # fmt: skip
    with pytest.raises(TargetsFailed) as caught:
        verify(ledger, order, distributed)
    assert list(caught.value.failures) == ["home/eu-west-1"]
