"""Quotas: copies that find no room in a region wait for it, those of other regions do not; scarce calls are rationed.
Launches wait for the vCPUs of builds, and give up together.

Time is virtual. Threads that sleep at once each move it, so it runs faster than it would: what can be told is how long
something took at least.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from goldenami_sandbox.testing import paper_cloud

from goldenami.aws import images, instances, network, room
from goldenami.aws.ledger import Ledger
from goldenami.aws.session import Cloud
from goldenami.errors import BuilderError, GoldenAmiError
from goldenami.model import Network, Place, Target
from goldenami.release.distribute import distribute
from tests.worlds.builds import Clock
from tests.worlds.releases import APPS, HOME, HOME_PLACE, KEY, REGIONS, World

COPY = 100.0  # virtual seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with paper_cloud(clock=clock.now, sleep=clock.sleep) as paper:
        clock.settle = paper.cloud.ec2.settle
        key = paper.key(HOME.id)
        monkeypatch.setenv("AWS_ENDPOINT_URL", paper.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret_access_key)
        world = World(paper, tmp_path)
        world.cloud = Cloud(
            {"home": HOME, "apps": APPS}, HOME_PLACE, clock=clock.now, sleep=clock.sleep, jitter=random.Random(1)
        )
        yield world


def test_copies_wait_for_room_in_their_region(world: World, clock: Clock) -> None:
    """One copy at a time in each region, and two to be made: the second begins when the first is done. Each region
    waits for itself alone."""
    targets = tuple(Target(account, region, KEY) for account in (HOME, APPS) for region in REGIONS)
    candidates = {"x86_64": world.candidate(), "arm64": world.candidate("arm64")}
    order = world.order(targets=targets)
    ledger = world.build()
    world.paper.set(concurrent_image_copies=1, pending={"copy": COPY})
    began = clock.now()
    with distribute(ledger, order, candidates, emit=world.events.append) as distribution:  # type: ignore[arg-type]
        assert len(distribution.finish().placed) == 2 * len(targets)
    assert clock.now() - began >= 2 * COPY
    refused = {(e["account"], e["region"]) for e in world.paper.calls if e["result"] == "ResourceLimitExceeded"}
    waited = {
        (target.account.id, target.region, e.fields["detail"])
        for target in targets
        for e in world.events
        if e.kind == "target.progress" and e.fields["target"] == target.label and e.fields["state"] == "waiting"
    }
    assert waited == {(account, region, f"for room in {region}") for account, region in refused}
    assert waited
    made = Counter((e["account"], e["region"]) for e in world.paper.calls if made_a_copy(e))
    assert set(made.values()) == {2}, "no copy was made twice"


def made_a_copy(entry: dict[str, object]) -> bool:
    return entry["action"] == "CopyImage" and entry["result"] == "ok"


def test_many_copies_into_one_region_take_turns(world: World, clock: Clock) -> None:
    copies, room = 23, 4
    ledger, source = world.build(), world.candidate()
    world.paper.set(concurrent_image_copies=room, pending={"copy": COPY})
    began = clock.now()
    ids = copy_all(ledger, world, source, copies)
    final = images.wait(ledger, HOME_PLACE, ids)
    assert len(set(ids)) == copies
    assert all(seen.ok for seen in final.values())
    assert clock.now() - began >= math.ceil(copies / room) * COPY


def test_the_small_bucket_of_copy_image_is_not_overdrawn(world: World, clock: Clock) -> None:
    """AWS's is 100, refilled by one a second; the cloud has just that one, and hardly needs to say no: the two ends
    begin to count at different moments."""
    copies = 125
    ledger, source = world.build(), world.candidate()
    world.paper.set(throttle={"ec2:CopyImage": {"rate": 1, "burst": 100}}, concurrent_image_copies=1000)
    began = clock.now()
    ids = copy_all(ledger, world, source, copies)
    assert len(set(ids)) == copies
    assert clock.now() - began >= copies - 100
    assert sum(e["result"] == "RequestLimitExceeded" for e in world.paper.calls) <= 3


def copy_all(ledger: Ledger, world: World, source: str, count: int) -> list[str]:
    key = world.key_arn(HOME_PLACE)

    def copy(number: int) -> str:
        return images.copy(
            ledger,
            f"copy/{number}",
            HOME_PLACE,
            source_image_id=source,
            source_region=HOME_PLACE.region,
            name=f"copy-{number}",
            kms_key=key,
        )

    with ThreadPoolExecutor(12) as pool:
        return list(pool.map(copy, range(count)))


def test_who_waits_for_room_is_stopped_with_the_rest(world: World) -> None:
    """A failure elsewhere (a test of the image, say) ends the distribution, though there is no room for hours."""
    targets = (Target(HOME, "eu-central-1", KEY), Target(HOME, "eu-west-1", KEY))
    ledger, order, candidate = world.build(), world.order(targets=targets), world.candidate()
    world.paper.set(
        faults=[
            {"action": "ec2:CopyImage", "region": "eu-west-1", "code": "ResourceLimitExceeded", "status": 400, "nth": 0}
        ]
    )
    began = time.monotonic()
    distribution = distribute(ledger, order, {"x86_64": candidate}, emit=world.events.append)
    with distribution:
        distribution.home_image("x86_64")
        while "waiting" not in world.states("home/eu-west-1"):
            time.sleep(0.01)
    assert time.monotonic() - began < 300, "there is no room for hours"
    with pytest.raises(GoldenAmiError):
        distribution.finish()
    assert world.own_images(Place(HOME.id, "eu-west-1")) == {}


def test_a_key_that_is_ready_late_costs_a_second_try(world: World) -> None:
    """The copy is accepted, fails, is deleted, and made again under another token."""
    targets = (Target(HOME, "eu-central-1", KEY), Target(HOME, "eu-west-1", KEY))
    ledger, order, candidate = world.build(), world.order(targets=targets), world.candidate()
    ireland = Place(HOME.id, "eu-west-1")
    kms, arn = world.client("kms", ireland), world.key_arn(ireland)
    kms.disable_key(KeyId=arn)

    def listen(event: object) -> None:
        world.events.append(event)  # type: ignore[arg-type]
        if world.states("home/eu-west-1")[-1:] == ["retrying"]:
            kms.enable_key(KeyId=arn)

    with distribute(ledger, order, {"x86_64": candidate}, emit=listen) as distribution:
        assert len(distribution.finish().placed) == 2
    tried = [i for i in ledger.journal.calls("image") if i.key == "copy/x86_64/home/eu-west-1"]
    assert [i.attempt for i in tried] == [1, 2]
    assert len({i.token for i in tried}) == 2
    assert len(world.own_images(ireland)) == 1
    assert len(world.client("ec2", ireland).describe_snapshots(OwnerIds=["self"])["Snapshots"]) == 1
    assert world.states("home/eu-west-1")[-1] == "available"


def test_a_target_that_fails_every_time_is_given_up(world: World) -> None:
    targets = (Target(HOME, "eu-central-1", KEY), replace(Target(HOME, "eu-west-1", KEY), required=False))
    ledger, order, candidate = world.build(), world.order(targets=targets), world.candidate()
    ireland = Place(HOME.id, "eu-west-1")
    world.client("kms", ireland).disable_key(KeyId=world.key_arn(ireland))
    with distribute(ledger, order, {"x86_64": candidate}, emit=world.events.append) as distribution:
        distributed = distribution.finish()
    assert "not enabled" in distributed.failures["home/eu-west-1"]
    assert [p.target.label for p in distributed.placed] == ["home/eu-central-1"]
    tried = [i for i in ledger.journal.calls("image") if i.key == "copy/x86_64/home/eu-west-1"]
    assert [i.attempt for i in tried] == [1, 2, 3]
    assert world.own_images(ireland) == {}
    assert world.client("ec2", ireland).describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


def test_what_is_forbidden_is_not_tried_again(world: World) -> None:
    targets = (Target(HOME, "eu-central-1", KEY), replace(Target(HOME, "eu-west-1", KEY), required=False))
    ledger, order, candidate = world.build(), world.order(targets=targets), world.candidate()
    denied = {"action": "ec2:CopyImage", "region": "eu-west-1", "code": "UnauthorizedOperation", "status": 403}
    world.paper.set(faults=[{**denied, "nth": 0}])
    with distribute(ledger, order, {"x86_64": candidate}, emit=world.events.append) as distribution:
        distributed = distribution.finish()
    assert "UnauthorizedOperation" in distributed.failures["home/eu-west-1"]
    assert "retrying" not in world.states("home/eu-west-1")


# --- vCPUs ------------------------------------------------------------------------------------------------------------


def base(world: World) -> str:
    names = {"name": ["debian-12-*"]}
    found = images.find_base(world.cloud, HOME_PLACE, architecture="x86_64", filters=names, owners=["136693071363"])
    return found.image_id


def a_builder(world: World) -> str:
    """An instance of a build, by its tags, that somebody keeps."""
    given = [{"ResourceType": "instance", "Tags": [{"Key": "goldenami:build-id", "Value": "b-0"}]}]
    made = world.client("ec2", HOME_PLACE).run_instances(
        ImageId=base(world), InstanceType="t3.small", MinCount=1, MaxCount=1, TagSpecifications=given
    )
    return str(made["Instances"][0]["InstanceId"])


def test_only_the_end_of_an_instance_is_worth_another_try(world: World, clock: Clock) -> None:
    world.paper.set(pending={"instance": 30.0})
    kept = a_builder(world)
    before = room.of_builds(world.cloud, HOME_PLACE)
    assert {id for id, _ in before} == {kept}
    began = clock.now()
    assert room.await_change(world.cloud, HOME_PLACE, before, began)
    assert clock.now() - began >= 120, "that it runs is no reason"
    began = clock.now()
    world.client("ec2", HOME_PLACE).terminate_instances(InstanceIds=[kept])
    assert room.await_change(world.cloud, HOME_PLACE, before, began)
    assert clock.now() - began < 60
    assert not room.await_change(world.cloud, HOME_PLACE, before, began - 8000)


def test_launches_that_wait_behind_a_stuck_one_fail_with_it(
    world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_STUCK", 900.0)
    a_builder(world)
    world.paper.set(vcpu_quotas={"L-1216C47A": 2})
    ec2 = world.client("ec2", HOME_PLACE)
    group = ec2.create_security_group(GroupName="g", Description="x")["GroupId"]
    ec2.create_key_pair(KeyName="k")
    subnets = network.subnets(world.cloud, HOME_PLACE, Network())
    spec = instances.LaunchSpec(base(world), ("t3.small",), subnets, group, "k")
    ledgers = [world.build() for _ in range(4)]

    def launch(ledger: Ledger) -> str:
        with pytest.raises(BuilderError) as caught:
            instances.launch(ledger, "builder", HOME_PLACE, spec)
        return caught.value.message

    began = clock.now()
    with ThreadPoolExecutor(len(ledgers)) as pool:
        said = list(pool.map(launch, ledgers))
    assert 900 <= clock.now() - began < 2 * 900, "not one after the other"
    assert all("vCPU" in message for message in said)
    assert sum("waited behind another one" in message for message in said) == len(ledgers) - 1
    # The next one is not refused because of them.
    world.paper.set(vcpu_quotas={"L-1216C47A": 64})
    assert instances.launch(world.build(), "builder", HOME_PLACE, spec).startswith("i-")
