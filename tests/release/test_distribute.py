"""Copies in every target at once, each under its own key, and what becomes of those that fail."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from goldenami.errors import CloudError, GoldenAmiError, TargetsFailed, UsageError
from goldenami.model import Account, Architecture, Place, Target
from goldenami.release.distribute import Tries, _may_pass, distribute

if TYPE_CHECKING:
    from tests.worlds.releases import World

NAME = "debian-12-web-1.4.20261124.1-x86_64"
QUICK = Tries(pause=0.01)


def test_every_target_gets_its_encrypted_image(world: World) -> None:
    from tests.worlds.releases import APPS, HOME, HOME_PLACE, TARGETS

    ledger, order, candidate = world.build(), world.order(description="nginx", tags={"tier": "web"}), world.candidate()
    with distribute(ledger, order, {"x86_64": candidate}, emit=world.events.append) as distribution:
        home = distribution.home_image("x86_64")
        distributed = distribution.finish()

    assert [placed.target for placed in distributed.placed] == list(TARGETS)
    assert distributed.failures == {}
    assert home == distributed.placed[0].image_id
    for placed in distributed.placed:
        owner = Place(HOME.id, placed.target.region) if placed.target.mode == "share" else placed.target.place
        image = world.image(owner, placed.image_id)
        assert (image["State"], image["Name"], image["Architecture"]) == ("available", NAME, "x86_64")
        assert (image["Description"], image["ImdsSupport"], image["Public"]) == ("nginx", "v2.0", False)
        (snapshot,) = world.snapshots_of(owner, placed.image_id)
        assert snapshot["Encrypted"]
        assert snapshot["KmsKeyId"] == world.key_arn(owner)
        for tagged in (image, snapshot):
            tags = {t["Key"]: t["Value"] for t in tagged["Tags"]}
            assert tags["Name"] == NAME
            assert tags["tier"] == "web"
            assert tags["cost-center"] == "1234"
            assert tags["goldenami:build-id"] == ledger.journal.build_id
            assert "goldenami:expires-at" in tags, "until it is a release's"
        assert world.image(placed.target.place, placed.image_id), "the account that is to use it can see it"

    shared = distributed.placed[-1]
    virginia = Place(HOME.id, "us-east-1")
    ec2 = world.client("ec2", virginia)
    permissions = ec2.describe_image_attribute(ImageId=shared.image_id, Attribute="launchPermission")
    assert permissions["LaunchPermissions"] == [{"UserId": APPS.id}]
    (snapshot,) = world.snapshots_of(virginia, shared.image_id)
    permissions = ec2.describe_snapshot_attribute(SnapshotId=snapshot["SnapshotId"], Attribute="createVolumePermission")
    assert permissions["CreateVolumePermissions"] == [{"UserId": APPS.id}]
    grants = world.client("kms", virginia).list_grants(KeyId=world.key_arn(virginia))["Grants"]
    assert [g["GranteePrincipal"] for g in grants] == [f"arn:aws:iam::{APPS.id}:root"]
    assert {"Decrypt", "CreateGrant", "ReEncryptFrom"} <= set(grants[0]["Operations"])

    frankfurt = world.client("ec2", HOME_PLACE)
    kept = frankfurt.describe_image_attribute(ImageId=home, Attribute="launchPermission")["LaunchPermissions"]
    assert kept == [], "what is not shared stays private"
    assert world.mutations().count("CopyImage") == 5
    assert world.states("apps/eu-west-1")[0] == "copying"
    assert world.states("apps/eu-west-1")[-1] == "available"
    assert world.states("apps/us-east-1") == ["waiting", "shared"]


def test_again_over_the_same_journal_nothing_is_changed(world: World) -> None:
    ledger, order, candidate = world.build(), world.order(), world.candidate()
    with distribute(ledger, order, {"x86_64": candidate}) as distribution:
        first = distribution.finish()
    calls = len(world.paper.calls)
    with distribute(world.reopened(ledger), order, {"x86_64": candidate}) as distribution:
        second = distribution.finish()
    assert second == first
    assert world.mutations(calls) == []


def test_two_architectures_are_one_release(world: World) -> None:
    ledger, order = world.build(), world.order()
    candidates: dict[Architecture, str] = {"arm64": world.candidate("arm64"), "x86_64": world.candidate()}
    with distribute(ledger, order, candidates) as distribution:
        assert distribution.home_image("arm64") != distribution.home_image("x86_64")
        distributed = distribution.finish()
    assert len(distributed.placed) == 12
    assert {world.image(p.target.place, p.image_id)["Architecture"] for p in distributed.placed} == {"arm64", "x86_64"}
    assert world.mutations().count("CreateGrant") == 1, "the grant is on the key, for all architectures"


def test_the_home_copy_can_be_used_while_others_are_under_way(world: World) -> None:
    from tests.worlds.releases import HOME, HOME_PLACE, KEY

    targets = (Target(HOME, "eu-central-1", KEY), Target(HOME, "eu-west-1", KEY))
    ledger, order, candidate = world.build(), world.order(targets=targets), world.candidate()
    world.paper.set(latency={"ec2:CopyImage": 0.0})
    world.paper.set(faults=[
        {"action": "ec2:CopyImage", "region": "eu-west-1", "code": "ResourceLimitExceeded", "status": 400, "times": 12}
    ])  # fmt: skip
    with distribute(ledger, order, {"x86_64": candidate}) as distribution:
        home = distribution.home_image("x86_64")
        assert world.image(HOME_PLACE, home)["State"] == "available"
        assert world.own_images(Place(HOME.id, "eu-west-1")) == {}, "its copy is still waiting for room"
        assert len(distribution.finish().placed) == 2
    assert NAME in world.own_images(Place(HOME.id, "eu-west-1")), "room was waited for"


def test_a_copy_that_fails_later_is_told_with_the_reason_and_the_others_go_on(world: World) -> None:
    from tests.worlds.releases import HOME, REGIONS, TARGETS

    ledger, order, candidate = world.build(), world.order(), world.candidate()
    missing = "arn:aws:kms:eu-west-1:111111111111:key/00000000-0000-4000-8000-000000000000"
    wrong = replace(order, keys={**order.keys, "home/eu-west-1": missing})
    with distribute(ledger, wrong, {"x86_64": candidate}, tries=QUICK, emit=world.events.append) as distribution:
        assert distribution.home_image("x86_64")
        with pytest.raises(TargetsFailed, match="1 of 6 targets failed: home/eu-west-1") as caught:
            distribution.finish()
    assert caught.value.exit_code == 6
    assert "key" in caught.value.failures["home/eu-west-1"]
    assert world.states("home/eu-west-1")[-1] == "failed"
    assert world.own_images(Place(HOME.id, "eu-west-1")) == {}, "the failed copy does not keep the name"
    assert NAME in world.own_images(Place(HOME.id, "us-east-1"))

    # The next process, with the key put right, does just that one.
    calls = len(world.paper.calls)
    with distribute(world.reopened(ledger), order, {"x86_64": candidate}) as distribution:
        distributed = distribution.finish()
    assert [p.target for p in distributed.placed] == list(TARGETS)
    assert world.mutations(calls).count("CopyImage") == 1
    for region in REGIONS:
        assert list(world.own_images(Place(HOME.id, region))).count(NAME) == 1


def test_the_keys_of_a_candidate_that_is_not_visible_are_read_again(world: World) -> None:
    """Otherwise each account would count as having its grants."""
    from tests.worlds.releases import HOME_PLACE

    candidate = world.candidate(encrypted=True)
    distribution = distribute(world.build(), world.order(), {"x86_64": candidate})
    (snapshot,) = world.snapshots_of(HOME_PLACE, candidate)
    store = world.paper.cloud.ec2._cloud.store
    for record in (store.images[candidate], store.snapshots[snapshot["SnapshotId"]]):
        record.visible_from += 100_000.0
        with pytest.raises(CloudError, match="are not all visible") as caught:
            distribution._keys_of(candidate)
        assert _may_pass(caught.value)
        record.visible_from -= 100_000.0
    assert distribution._keys_of(candidate) == [world.key_arn(HOME_PLACE)]


def test_a_taken_name_is_sent_once_and_its_holder_is_named(world: World) -> None:
    from tests.worlds.releases import HOME

    west = Place(HOME.id, "eu-west-1")
    ec2 = world.client("ec2", west)
    volume = ec2.create_volume(AvailabilityZone="eu-west-1a", Size=8)["VolumeId"]
    ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig={"Delay": 0})
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 0})
    taker = ec2.register_image(
        Name=NAME,
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
        TagSpecifications=[{"ResourceType": "image", "Tags": [{"Key": "team", "Value": "data"}]}],
    )["ImageId"]
    ledger, order, candidate = world.build(), world.order(), world.candidate()
    before, began = len(world.paper.calls), time.monotonic()
    with (
        distribute(ledger, order, {"x86_64": candidate}, emit=world.events.append) as distribution,
        pytest.raises(TargetsFailed, match="1 of 6 targets failed: home/eu-west-1") as caught,
    ):
        distribution.finish()
    assert time.monotonic() - began < 300, "nothing waits for a name that stays taken"
    sent = [c for c in world.paper.calls[before:] if c["action"] == "CopyImage" and c["region"] == "eu-west-1"]
    assert [c["account"] for c in sent].count(HOME.id) == 1
    reason = caught.value.failures["home/eu-west-1"]
    assert f"the name {NAME} is taken by image {taker} of account {HOME.id}, created " in reason
    assert "(not made by goldenami; tags: team data)" in reason
    assert not caught.value.can_resume
    assert "resume" not in (caught.value.hint or "")
    assert set(world.own_images(west)) == {NAME}
    assert world.own_images(west)[NAME]["ImageId"] == taker


def test_a_best_effort_target_that_fails_is_reported_and_holds_nothing_up(world: World) -> None:
    from tests.worlds.releases import TARGETS

    targets = (*TARGETS[:1], replace(TARGETS[3], required=False))
    ledger, order, candidate = world.build(), world.order(targets=targets), world.candidate()
    missing = "arn:aws:kms:eu-central-1:222222222222:key/00000000-0000-4000-8000-000000000000"
    wrong = replace(order, keys={**order.keys, "apps/eu-central-1": missing})
    with distribute(ledger, wrong, {"x86_64": candidate}, tries=QUICK) as distribution:
        distributed = distribution.finish()
    assert [p.target.label for p in distributed.placed] == ["home/eu-central-1"]
    assert list(distributed.failures) == ["apps/eu-central-1"]


def test_a_share_fails_with_the_copy_that_it_is_of(world: World) -> None:
    from tests.worlds.releases import TARGETS

    targets = (TARGETS[0], TARGETS[2], TARGETS[5])
    ledger, order, candidate = world.build(), world.order(targets=targets), world.candidate()
    missing = "arn:aws:kms:us-east-1:111111111111:key/00000000-0000-4000-8000-000000000000"
    wrong = replace(order, keys={**order.keys, "home/us-east-1": missing})
    with (
        distribute(ledger, wrong, {"x86_64": candidate}, tries=QUICK) as distribution,
        pytest.raises(TargetsFailed) as caught,
    ):
        distribution.finish()
    assert sorted(caught.value.failures) == ["apps/us-east-1", "home/us-east-1"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["error", "drop"])
@pytest.mark.parametrize("action", ["ec2:CopyImage", "ec2:ModifyImageAttribute", "kms:CreateGrant"])
@pytest.mark.sample(5)
def test_a_reply_that_is_lost_makes_nothing_twice(world: World, action: str, how: str, when: str) -> None:
    from tests.worlds.releases import HOME, REGIONS

    ledger, order, candidate = world.build(), world.order(), world.candidate()
    world.paper.set(faults=[{"action": action, "nth": 1, "how": how, "when": when}])
    with distribute(ledger, order, {"x86_64": candidate}) as distribution:
        assert len(distribution.finish().placed) == 6
    virginia = Place(HOME.id, "us-east-1")
    assert len(world.client("kms", virginia).list_grants(KeyId=world.key_arn(virginia))["Grants"]) == 1
    for region in REGIONS:
        found = world.client("ec2", Place(HOME.id, region)).describe_images(Owners=["self"])["Images"]
        assert [i["Name"] for i in found].count(NAME) == 1


def test_other_accounts_may_use_the_home_images_without_being_targets(world: World) -> None:
    from tests.worlds.releases import TARGETS

    targets = (TARGETS[0], TARGETS[3])
    order = world.order(targets=targets, share_accounts=("333333333333",))
    with distribute(world.build(), order, {"x86_64": world.candidate()}) as distribution:
        home, apps = distribution.finish().placed
    allowed = {
        placed.target.label: world.client("ec2", placed.target.place).describe_image_attribute(
            ImageId=placed.image_id, Attribute="launchPermission"
        )["LaunchPermissions"]
        for placed in (home, apps)
    }
    assert allowed == {"home/eu-central-1": [{"UserId": "333333333333"}], "apps/eu-central-1": []}


def test_images_are_deprecated_when_the_order_says_so(world: World) -> None:
    from tests.worlds.releases import TARGETS

    at = datetime(2027, 2, 22, 3, 0, 40, tzinfo=UTC)
    order = world.order(targets=TARGETS[:1], deprecate_at=at)
    with distribute(world.build(), order, {"x86_64": world.candidate()}) as distribution:
        (placed,) = distribution.finish().placed
    moment = datetime.fromisoformat(world.image(placed.target.place, placed.image_id)["DeprecationTime"])
    assert abs((moment - at).total_seconds()) <= 60


def test_leaving_early_starts_nothing_more(world: World) -> None:
    ledger, order, candidate = world.build(), world.order(), world.candidate()
    world.paper.set(pending={"copy": 1e6, "image": 1e6, "snapshot": 1e6})
    with pytest.raises(ZeroDivisionError), distribute(ledger, order, {"x86_64": candidate}) as distribution:
        raise ZeroDivisionError
    calls = len(world.paper.calls)
    with pytest.raises(GoldenAmiError):
        distribution.finish()
    assert world.mutations(calls) == []


def test_who_gives_up_waits_for_no_copy_and_interrupts_nothing(world: World) -> None:
    """The failure that made the build give up is told: an interruption would take its place."""
    ledger, order, candidate = world.build(), world.order(), world.candidate()
    world.paper.set(pending={"copy": 1e6, "image": 1e6, "snapshot": 1e6})
    with distribute(ledger, order, {"x86_64": candidate}) as distribution:
        distribution.give_up()
        with pytest.raises(TargetsFailed, match="targets failed") as failed:
            distribution.finish()
    assert not failed.value.ends_everything
    assert set(failed.value.failures.values()) == {"the distribution was stopped: the images will not be released"}


def test_targets_that_end_at_the_same_time_are_all_given_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last target that uses an image ends while the one before it ends, whose result nobody sees yet."""
    from tests.worlds.releases import KEY, TARGETS

    accounts = [Account(name, id) for name, id in (("one", "333333333333"), ("two", "444444444444"))]
    owner, first, last = (TARGETS[0], *(Target(account, TARGETS[0].region, KEY, "share") for account in accounts))
    given: list[set[str]] = []
    order = world.order(targets=(owner, first, last))
    distribution = distribute(
        world.build(),
        order,
        {"x86_64": "ami-1"},
        arrived=lambda placed, failed: given.append({one.target.label for one in placed}),
    )
    for target in order.targets:
        distribution._available[target.label, "x86_64"].set_result("ami-2")
    ended = distribution._ended[first.label]

    def slowly(result: None, done: Callable[[None], None] = ended.set_result) -> None:
        distribution._end(last)
        done(result)

    monkeypatch.setattr(ended, "set_result", slowly)
    distribution._end(owner)
    distribution._end(first)
    assert given == [{target.label for target in order.targets}]


def test_an_order_that_cannot_be_carried_out_changes_nothing(world: World) -> None:
    from tests.worlds.releases import TARGETS

    calls = len(world.paper.calls)
    ledger = world.build()
    with pytest.raises(UsageError, match="nothing to share"):
        distribute(ledger, world.order(targets=TARGETS[5:]), {"x86_64": "ami-0"})
    with pytest.raises(UsageError, match="no KMS key"):
        distribute(ledger, replace(world.order(), keys={}), {"x86_64": "ami-0"})
    assert world.mutations(calls) == []
