"""Who calls, where to, how patiently; and what is read."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from goldenami.aws import images, instances, keypairs, kms, network, parameters, regions, snapshots, waiters
from goldenami.aws.ledger import Call
from goldenami.aws.session import Cloud
from goldenami.errors import AccessError, BuilderError, CloudError, NotFound, Throttled, Unreachable, UsageError
from goldenami.model import Account, Network, Place
from tests.worlds.ledgers import APPS, APPS_PLACE, HOME, HOME_PLACE, HOME_WEST, World, make_cloud, new_session

from .test_ledger import PARAMETER, PUBLIC_KEY, foreign_image, foreign_instance, make_instance, make_parameter

DEBIAN = {"name": ["debian-12-*"]}


# --- who ------------------------------------------------------------------------------------------------------------


def test_the_caller_and_the_role_of_each_account(world: World) -> None:
    identity = world.cloud.check_identity()
    assert identity.account == HOME.id
    before = world.mark()
    world.cloud.check_identity()
    assert world.mark() == before, "asked once"
    answer = world.cloud.call(APPS_PLACE, "sts", "GetCallerIdentity")
    assert answer["Account"] == APPS.id
    assert ":assumed-role/goldenami-publisher/" in answer["Arn"]


def test_credentials_of_another_account_are_refused_before_anything_is_sent(world: World) -> None:
    wrong = Cloud({"home": Account("home", APPS.id)}, Place(APPS.id, "eu-central-1"), caller=new_session())
    with pytest.raises(AccessError, match=f"belong to account {HOME.id} .*, expected {APPS.id}, the account 'home'"):
        wrong.call(Place(APPS.id, "eu-central-1"), "ec2", "DescribeImages")
    assert {c["action"] for c in world.paper.calls} == {"GetCallerIdentity"}


def test_an_account_that_the_environment_does_not_name(world: World) -> None:
    with pytest.raises(AccessError, match="account 333333333333 is not in the environment"):
        world.cloud.call(Place("333333333333", "eu-central-1"), "ec2", "DescribeImages")
    assert not world.paper.calls


def test_a_role_that_does_not_exist(world: World) -> None:
    account = Account("apps", APPS.id, f"arn:aws:iam::{APPS.id}:role/nobody")
    cloud = make_cloud()
    cloud = Cloud({"home": HOME, "apps": account}, HOME_PLACE, caller=new_session())
    with pytest.raises(AccessError, match=r"cannot assume arn:aws:iam::222222222222:role/nobody") as caught:
        cloud.check_identity()
    assert "sts:AssumeRole" in (caught.value.hint or "")


def test_no_credentials(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AccessError, match="credentials") as caught:
        make_cloud(caller=None).check_identity()
    assert "AWS_PROFILE" in (caught.value.hint or "")


def test_a_profile_that_does_not_exist(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(AccessError, match="nobody"):
        make_cloud(caller=None).check_identity()


def test_an_endpoint_that_is_not_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        make_cloud().check_identity()


def test_role_credentials_are_renewed(world: World) -> None:
    """Credentials that are about to expire are replaced without anybody noticing."""
    moments = [timedelta(seconds=30), timedelta(hours=1)]

    class Short(Cloud):
        """Roles whose first credentials expire in half a minute, which botocore renews at once."""

        def _assume(self, role: str) -> dict[str, str]:
            given = super()._assume(role)
            left = moments.pop(0) if moments else timedelta(hours=1)
            return {**given, "expiry_time": (datetime.now(UTC) + left).isoformat()}

    short = Short({a.name: a for a in (HOME, APPS)}, HOME_PLACE, caller=new_session())
    for _ in range(3):
        short.call(APPS_PLACE, "ec2", "DescribeRegions")
    assert moments == []
    asked = {c["action"] for c in world.paper.calls}
    assert asked == {"AssumeRole", "DescribeRegions"}, "AssumeRole tells who the role is"


# --- where ----------------------------------------------------------------------------------------------------------


def test_regions_are_checked_before_anything_is_made(world: World) -> None:
    regions.check(world.cloud, [HOME_PLACE, HOME_WEST, APPS_PLACE])
    with pytest.raises(NotFound, match="region eu-zentral-1 does not exist") as caught:
        regions.check(world.cloud, [Place(HOME.id, "eu-zentral-1")])
    assert caught.value.hint == "Did you mean eu-central-1?"
    nowhere = Cloud({"home": HOME}, Place(HOME.id, "xx-1"), caller=new_session())
    before = world.mark()
    with pytest.raises(NotFound, match="region xx-1 does not exist"):
        regions.check(nowhere, [])
    assert world.mark() == before


def test_subnets(world: World) -> None:
    subnets = network.subnets(world.cloud, HOME_PLACE, Network())
    assert len(subnets) >= 2
    assert len({s.vpc_id for s in subnets}) == 1
    assert [s.free for s in subnets] == sorted((s.free for s in subnets), reverse=True)
    named = network.subnets(world.cloud, HOME_PLACE, Network(subnet_id=subnets[1].id))
    assert named == (subnets[1],)
    world.raw("ec2").create_tags(Resources=[subnets[1].id], Tags=[{"Key": "tier", "Value": "build"}])
    assert network.subnets(world.cloud, HOME_PLACE, Network(subnet_tags={"tier": "build"})) == (subnets[1],)
    for missing in (Network(subnet_tags={"tier": "other"}), Network(subnet_id="subnet-0123456789abcdef0")):
        with pytest.raises(NotFound, match="subnet"):
            network.subnets(world.cloud, HOME_PLACE, missing)


def test_subnets_that_were_just_read_are_not_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found = network.subnets(world.cloud, HOME_PLACE, Network())
    mark = world.mark()
    assert network.fresh_subnets(world.cloud, HOME_PLACE, Network()) == found
    assert world.mark() == mark
    assert network.fresh_subnets(world.cloud, HOME_PLACE, Network(subnet_id=found[1].id)) == (found[1],)
    assert world.mark() == mark + 1
    clock = world.cloud.clock
    monkeypatch.setattr(world.cloud, "clock", lambda: clock() + 3601)
    assert network.fresh_subnets(world.cloud, HOME_PLACE, Network()) == found
    assert world.mark() == mark + 2


def test_the_source_of_a_local_cloud_is_a_local_address(world: World) -> None:
    subnet = network.subnets(world.cloud, HOME_PLACE, Network())[0]
    given = Network(source_cidrs=("203.0.113.0/24",))
    assert network.source_cidrs(world.cloud, HOME_PLACE, given, subnet) == ("203.0.113.0/24",)
    expected = network.local_address("172.31.0.1") + "/32"
    assert network.source_cidrs(world.cloud, HOME_PLACE, Network(), subnet) == (expected,)


# --- patience -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"code": "RequestLimitExceeded", "status": 503},
        {"code": "InternalError", "status": 500},
        {"how": "drop"},
        {"how": "drop", "when": "after"},
    ],
)
def test_reads_are_repeated(world: World, fault: dict[str, Any]) -> None:
    world.cloud.check_identity()
    world.paper.set(faults=[{"action": "DescribeRegions", "nth": 1, "times": 3, **fault}])
    assert world.cloud.call(HOME_PLACE, "ec2", "DescribeRegions")["Regions"]


def test_reads_give_up_in_the_end(world: World) -> None:
    world.cloud.check_identity()
    world.paper.set(faults=[{"action": "DescribeRegions", "nth": 0}])
    with pytest.raises(Unreachable, match="InternalError"):
        world.cloud.call(HOME_PLACE, "ec2", "DescribeRegions")
    world.paper.set(faults=[{"action": "DescribeRegions", "nth": 0, "code": "RequestLimitExceeded", "status": 503}])
    with pytest.raises(Throttled):
        world.cloud.call(HOME_PLACE, "ec2", "DescribeRegions")


def test_pages_are_followed_to_the_end(world: World) -> None:
    vendors = {"Owners": ["amazon", "136693071363"]}
    every = list(world.cloud.pages(HOME_PLACE, "ec2", "DescribeImages", "Images", vendors))
    paged = list(world.cloud.pages(HOME_PLACE, "ec2", "DescribeImages", "Images", {**vendors, "MaxResults": 5}))
    assert len(every) > 5
    assert sorted(i["ImageId"] for i in paged) == sorted(i["ImageId"] for i in every)


def test_pages_are_followed_whatever_the_service_calls_its_token(world: World) -> None:
    subnets = [world.raw("ec2").describe_subnets()["Subnets"][0]["SubnetId"]]
    role = "arn:aws:iam::111111111111:role/eks"
    for number in range(3):
        world.raw("eks").create_cluster(name=f"c{number}", roleArn=role, resourcesVpcConfig={"subnetIds": subnets})
    pages = world.cloud.pages(HOME_PLACE, "eks", "ListClusters", "clusters", {"maxResults": 1})
    assert sorted(map(str, pages)) == ["c0", "c1", "c2"]


# --- images ---------------------------------------------------------------------------------------------------------


def test_the_newest_base_is_found(world: World) -> None:
    found = images.find_base(world.cloud, HOME_PLACE, architecture="x86_64", filters=DEBIAN, owners=["136693071363"])
    assert found.name.startswith("debian-12-amd64-")
    assert found.owner == "136693071363"
    assert found.root_volume_gib > 0
    assert found.source == "filter name debian-12-*"
    assert images.base_by_id(world.cloud, HOME_PLACE, found.image_id, architecture="x86_64").image_id == found.image_id
    name = "/aws/service/debian/release/12/latest/amd64"
    assert images.base_by_parameter(world.cloud, HOME_PLACE, name, architecture="x86_64").image_id == found.image_id


def test_a_base_that_is_not_there(world: World) -> None:
    with pytest.raises(NotFound, match=r"no x86_64 image owned by self in .* matches name debian-99-\*"):
        images.find_base(
            world.cloud, HOME_PLACE, architecture="x86_64", filters={"name": ["debian-99-*"]}, owners=["self"]
        )
    with pytest.raises(NotFound, match="does not exist"):
        images.base_by_id(world.cloud, HOME_PLACE, "ami-0123456789abcdef0", architecture="x86_64")
    arm = images.find_base(world.cloud, HOME_PLACE, architecture="arm64", filters=DEBIAN, owners=["136693071363"])
    with pytest.raises(NotFound, match="has the architecture arm64, expected x86_64"):
        images.base_by_id(world.cloud, HOME_PLACE, arm.image_id, architecture="x86_64")
    with pytest.raises(NotFound, match="parameter /none does not exist"):
        images.base_by_parameter(world.cloud, HOME_PLACE, "/none", architecture="x86_64")


def test_attributes_of_an_image(world: World) -> None:
    image = foreign_image(world)
    images.require_imds_v2(world.ledger, "imds", HOME_PLACE, image)
    moment = datetime.now(UTC) + timedelta(days=90)
    images.deprecate(world.ledger, "deprecate", HOME_PLACE, image, moment)
    found = images.describe_many(world.cloud, HOME_PLACE, [image])[image]
    assert found["ImdsSupport"] == "v2.0"
    assert found["DeprecationTime"].startswith(moment.strftime("%Y-%m-%d"))


def copy(world: World, kms_key: str) -> str:
    return images.copy(
        world.ledger,
        "copy",
        HOME_PLACE,
        source_image_id=foreign_image(world),
        source_region=HOME_PLACE.region,
        name="web 1.4",
        kms_key=kms_key,
    )


def test_a_copy_that_fails_later_says_why_and_is_tried_anew(world: World) -> None:
    """EC2 accepts a wrong key; the copy fails asynchronously."""
    arn = f"arn:aws:kms:{HOME_PLACE.region}:{HOME.id}:key/00000000-0000-4000-8000-000000000000"
    bad = copy(world, arn)
    seen = images.wait(world.ledger, HOME_PLACE, [bad])[bad]
    assert seen.readiness == "failed"
    assert seen.reason
    assert "failed: " + seen.reason in waiters.failure(seen, "image", HOME_PLACE).message
    assert world.journal.resources("image")[0].spoiled == seen.reason
    good = copy(world, kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami").arn)
    assert good != bad
    assert images.wait(world.ledger, HOME_PLACE, [good])[good].ok


def test_watching_tells_the_progress(world: World) -> None:
    world.paper.set(pending={"copy": 1e6})
    told: list[waiters.Observation] = []
    arn = kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami").arn
    image = copy(world, arn)
    ec2 = world.paper.cloud.ec2._cloud

    def then_end(seen: waiters.Observation) -> None:
        """The copy ends when its progress was told, however long that took."""
        told.append(seen)
        copied = ec2.store.images[image]
        behind = [ec2.store.snapshots[device.snapshot_id] for device in copied.devices if device.snapshot_id]
        for progress in (copied.progress, *(one.progress for one in behind)):
            progress.until = min(progress.until, ec2.now())

    seen = images.wait(world.ledger, HOME_PLACE, [image], on_progress=then_end)
    assert seen[image].ok
    assert told[-1].percent == 100.0
    percentages = [t.percent for t in told if t.percent is not None]
    assert percentages == sorted(percentages)
    assert len(percentages) > 1


def test_many_ids_cost_one_describe_a_round(world: World) -> None:
    world.paper.set(pending={"snapshot": 0.6})
    foreign_instance(world)
    volume = world.raw("ec2").describe_volumes()["Volumes"][0]["VolumeId"]
    ids = [
        world.ledger.create(f"s/{n}", "snapshot", HOME_PLACE, Call("ec2", "CreateSnapshot", {"VolumeId": volume}))
        for n in range(5)
    ]
    before = world.mark()
    start = time.monotonic()
    seen = waiters.Watch(world.cloud, HOME_PLACE, waiters.SNAPSHOTS, ids).until_ready()
    assert list(seen) == ids
    assert all(s.ok for s in seen.values())
    describes = [c for c in world.paper.calls[before:] if c["action"] == "DescribeSnapshots"]
    assert len(describes) <= 2 + (time.monotonic() - start) / 0.15
    assert snapshots.describe_many(world.cloud, HOME_PLACE, ids).keys() == set(ids)


def test_a_call_has_no_more_filter_values_than_ec2_takes(world: World) -> None:
    """The values of all its filters count."""
    volumes = [f"vol-{n:017x}" for n in range(201)]
    names = {"tag:Name": [f"n{n}" for n in range(60)]}
    world.cloud.check_identity()
    before = world.mark()
    assert snapshots.of_volumes(world.cloud, HOME_PLACE, volumes, names) == []
    assert waiters.describe(world.cloud, HOME_PLACE, waiters.AVAILABLE, volumes) == {}
    results = [(c["action"], c["result"]) for c in world.paper.calls[before:]]
    assert results == [("DescribeSnapshots", "ok")] * 2 + [("DescribeVolumes", "ok")] * 2


def test_what_is_not_visible_yet_is_waited_for_but_not_for_ever(world: World) -> None:
    world.paper.set(visibility_delay=0.5)
    image = foreign_instance_image(world)
    assert waiters.Watch(world.cloud, HOME_PLACE, waiters.IMAGES, [image]).until_ready()[image].ok
    quick = waiters.Interval(first=0.02, visible=0.2)
    none = "ami-0123456789abcdef0"
    seen = waiters.Watch(world.cloud, HOME_PLACE, waiters.IMAGES, [none], interval=quick).until_ready()[none]
    assert (seen.readiness, seen.reason) == ("failed", "it does not exist")


def foreign_instance_image(world: World) -> str:
    query = {"Owners": ["136693071363"], "Filters": [{"Name": "name", "Values": ["debian-12-amd64-*"]}]}
    base = world.cloud.call(HOME_PLACE, "ec2", "DescribeImages", query)
    ec2 = world.raw("ec2")
    image = base["Images"][0]["ImageId"]
    run = ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1)
    instance = run["Instances"][0]["InstanceId"]
    assert waiters.Watch(world.cloud, HOME_PLACE, waiters.RUNNING, [instance]).until_ready()[instance].ok
    return str(ec2.create_image(InstanceId=instance, Name="theirs")["ImageId"])


def test_a_deadline(world: World) -> None:
    world.paper.set(pending={"image": 1e6})
    image = str(world.raw("ec2").create_image(InstanceId=foreign_instance(world), Name="slow")["ImageId"])
    seen = waiters.Watch(world.cloud, HOME_PLACE, waiters.IMAGES, [image], timeout=0.3).until_ready()[image]
    assert seen.readiness == "pending"
    assert "the time allowed for it is over" in waiters.failure(seen, "image", HOME_PLACE).message


# --- instances ------------------------------------------------------------------------------------------------------


def spec(world: World, **options: Any) -> instances.LaunchSpec:
    base = images.find_base(world.cloud, HOME_PLACE, architecture="x86_64", filters=DEBIAN, owners=["136693071363"])
    subnets = network.subnets(world.cloud, HOME_PLACE, Network())
    group = world.raw("ec2").describe_security_groups()["SecurityGroups"][0]["GroupId"]
    key = keypairs.create(world.ledger, "key", HOME_PLACE, public_key=PUBLIC_KEY)
    values: dict[str, Any] = {"instance_types": ("t3.small", "t3a.small"), "subnets": subnets[:1], **options}
    return instances.LaunchSpec(base.image_id, security_group_id=group, key_name=key, **values)


def no_room(times: int) -> dict[str, Any]:
    code = {"how": "error", "code": "InsufficientInstanceCapacity", "status": 500}
    return {"action": "RunInstances", "nth": 1, "times": times, **code}


def test_instance_types_and_markets_are_tried_in_order(world: World) -> None:
    wanted = spec(world, spot=True)
    world.paper.set(faults=[no_room(2)])
    instance = instances.launch(world.ledger, "builder", HOME_PLACE, wanted)
    running = instances.wait_running(world.ledger, HOME_PLACE, [instance])[instance]
    assert (running.market, running.instance_type) == ("on-demand", "t3.small")
    assert [i.request["InstanceType"] for i in world.journal.intents("builder")] == [
        "t3.small",
        "t3a.small",
        "t3.small",
    ]
    assert instances.launch(world.ledger, "builder", HOME_PLACE, wanted) == instance
    assert running.root_volume_id
    assert instances.address(running, Network(address="private")) == running.private_address
    assert instances.address(running, Network()) == (running.public_address or running.private_address)


def test_spot_where_there_is_room(world: World) -> None:
    instance = instances.launch(world.ledger, "builder", HOME_PLACE, spec(world, spot=True))
    assert instances.wait_running(world.ledger, HOME_PLACE, [instance])[instance].market == "spot"


def test_no_room_anywhere(world: World) -> None:
    wanted = spec(world)
    world.paper.set(faults=[no_room(99)])
    with pytest.raises(BuilderError, match=r"on-demand t3\.small in .*, on-demand t3a.*InsufficientInstanceCapacity"):
        instances.launch(world.ledger, "builder", HOME_PLACE, wanted)
    assert world.journal.resources("instance") == ()


def test_what_is_asked_of_an_instance(world: World) -> None:
    root = instances.RootVolume("/dev/xvda", 12, iops=3000, throughput=125)
    wanted = spec(world, user_data="#!/bin/sh\n", root_volume=root, name="the builder")
    instance = instances.launch(world.ledger, "builder", HOME_PLACE, wanted)
    instances.wait_running(world.ledger, HOME_PLACE, [instance])
    found = world.raw("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    volume = world.raw("ec2").describe_volumes(VolumeIds=[m["Ebs"]["VolumeId"] for m in found["BlockDeviceMappings"]])[
        "Volumes"
    ][0]
    assert volume["Size"] == 12
    assert {t["Key"] for t in volume["Tags"]} >= {"goldenami:token", "goldenami:expires-at"}
    shutdown = world.raw("ec2").describe_instance_attribute(
        InstanceId=instance, Attribute="instanceInitiatedShutdownBehavior"
    )
    assert shutdown["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    assert isinstance(instances.console_output(world.cloud, HOME_PLACE, instance), str)


def test_an_instance_that_ends_instead_of_running(world: World) -> None:
    world.paper.set(pending={"instance": 0.5})
    instance = make_instance(world)
    world.raw("ec2").terminate_instances(InstanceIds=[instance])
    with pytest.raises(BuilderError, match=f"instance {instance} in .* failed"):
        instances.wait_running(world.ledger, HOME_PLACE, [instance])
    assert make_instance(world) != instance, "the next launch is a new one"


def test_an_instance_without_the_address_that_is_asked_for() -> None:
    bare = instances.Instance("i-1", "running", "t3.small", "a", "ami-1", "10.0.0.4", None, None, "on-demand")
    with pytest.raises(BuilderError, match="i-1 has no public address"):
        instances.address(bare, Network(address="public"))


# --- keys -----------------------------------------------------------------------------------------------------------


def test_keys_by_alias_id_and_arn(world: World) -> None:
    key = kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami")
    assert key.arn.startswith(f"arn:aws:kms:{HOME_PLACE.region}:{HOME.id}:key/")
    assert kms.resolve(world.cloud, HOME_PLACE, key.key_id).arn == key.arn
    assert kms.resolve(world.cloud, HOME_PLACE, key.arn).arn == key.arn
    assert kms.resolve(world.cloud, APPS_PLACE, "alias/golden-ami").account == APPS.id


@pytest.mark.parametrize("by_use", [False, True])
def test_keys_that_will_not_do(world: World, by_use: bool) -> None:
    raw = world.raw("kms")
    with pytest.raises(NotFound, match=f"alias/nothing does not exist in region eu-central-1 of account {HOME.id}"):
        kms.resolve(world.cloud, HOME_PLACE, "alias/nothing", by_use=by_use)
    disabled = raw.create_key()["KeyMetadata"]["KeyId"]
    raw.disable_key(KeyId=disabled)
    with pytest.raises(NotFound, match="has the state Disabled, expected Enabled"):
        kms.resolve(world.cloud, HOME_PLACE, disabled, by_use=by_use)
    dying = raw.create_key()["KeyMetadata"]["KeyId"]
    raw.schedule_key_deletion(KeyId=dying, PendingWindowInDays=7)
    with pytest.raises(NotFound, match="has the state PendingDeletion, expected Enabled"):
        kms.resolve(world.cloud, HOME_PLACE, dying, by_use=by_use)
    signing = raw.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    with pytest.raises(NotFound, match="expected SYMMETRIC_DEFAULT and ENCRYPT_DECRYPT"):
        kms.resolve(world.cloud, HOME_PLACE, signing, by_use=by_use)
    elsewhere = kms.resolve(world.cloud, HOME_WEST, "alias/golden-ami").arn
    with pytest.raises(NotFound, match="eu-west-1"):
        kms.resolve(world.cloud, HOME_PLACE, elsewhere, by_use=by_use)


def test_a_key_that_is_used_needs_one_call(world: World) -> None:
    described = kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami")
    mark = world.mark()
    used = kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami", by_use=True)
    assert used == described
    assert kms.denied_use(world.cloud, HOME_PLACE, used.arn) == ""
    assert [c["action"] for c in world.paper.calls[mark:]] == ["GenerateDataKeyWithoutPlaintext"]


@pytest.mark.parametrize("by_arn", [False, True])
def test_the_key_of_ebs_is_known_to_be_of_aws(world: World, by_arn: bool) -> None:
    """Nobody may use it directly, so a key that was used is a customer's."""
    key = kms.resolve(world.cloud, HOME_PLACE, "alias/aws/ebs").arn if by_arn else "alias/aws/ebs"
    assert kms.resolve(world.cloud, HOME_PLACE, key, by_use=True).aws_managed


def test_a_key_that_the_role_may_not_use_is_still_checked(world: World) -> None:
    """Also after it could use the key before; and one refusal is enough to tell."""
    arn = kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami", by_use=True).arn
    assert kms.denied_use(world.cloud, HOME_PLACE, arn) == ""
    everybody, root = {"AWS": "*"}, {"AWS": f"arn:aws:iam::{HOME.id}:root"}
    denied = {"Effect": "Deny", "Principal": everybody, "Action": "kms:GenerateDataKey*", "Resource": "*"}
    allowed = {"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"}

    def set_policy(*statements: Any) -> None:
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        world.raw("kms").put_key_policy(KeyId=arn, PolicyName="default", Policy=policy)

    set_policy(allowed, denied)
    mark = world.mark()
    assert kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami", by_use=True).arn == arn
    assert "kms:GenerateDataKeyWithoutPlaintext" in kms.denied_use(world.cloud, HOME_PLACE, arn)
    assert [c["action"] for c in world.paper.calls[mark:]] == ["GenerateDataKeyWithoutPlaintext", "DescribeKey"]
    assert kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami").arn == arn
    assert "kms:GenerateDataKeyWithoutPlaintext" in kms.denied_use(world.cloud, HOME_PLACE, arn), "it is asked"
    kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami", by_use=True)
    set_policy(allowed)
    assert kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami").arn == arn
    assert kms.denied_use(world.cloud, HOME_PLACE, arn) == "", "it may have been allowed meanwhile"


def test_grants_come_and_go(world: World) -> None:
    arn = kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami").arn
    grantee = f"arn:aws:iam::{APPS.id}:root"
    grant = kms.create_grant(world.ledger, "grant", HOME_PLACE, kms_key_arn=arn, grantee=grantee)
    (found,) = [g for g in kms.grants(world.cloud, HOME_PLACE, arn) if g["GrantId"] == grant]
    assert found["GranteePrincipal"] == grantee
    assert set(found["Operations"]) == set(kms.LAUNCH_OPERATIONS)
    kms.revoke_grant(world.ledger, HOME_PLACE, kms_key_arn=arn, grant_id=grant)
    assert grant not in [g["GrantId"] for g in kms.grants(world.cloud, HOME_PLACE, arn)]
    kms.revoke_grant(world.ledger, HOME_PLACE, kms_key_arn=arn, grant_id=grant)


# --- parameters -----------------------------------------------------------------------------------------------------


def test_a_parameter_counts_when_it_is_effective(world: World) -> None:
    world.paper.set(pending={"parameter": 0.4})
    start = time.monotonic()
    make_parameter(world)
    (made,) = world.ledger.journal.intents("step")
    parameters.await_values(world.cloud, HOME_PLACE, {PARAMETER: made.request["Value"]})
    assert time.monotonic() - start >= 0.3
    assert parameters.get(world.cloud, HOME_PLACE, PARAMETER).startswith("ami-")
    parameters.delete(world.ledger, HOME_PLACE, PARAMETER)
    with pytest.raises(NotFound):
        parameters.get(world.cloud, HOME_PLACE, PARAMETER)
    assert parameters.history(world.cloud, HOME_PLACE, PARAMETER) == []


def test_a_value_that_never_becomes_effective(world: World) -> None:
    make_parameter(world)
    with pytest.raises(CloudError, match="expected ami-0123456789abcdef0") as caught:
        parameters.await_values(world.cloud, HOME_PLACE, {PARAMETER: "ami-0123456789abcdef0"}, timeout=0.3)
    assert caught.value.code == "goldenami.NotEffective"


@pytest.mark.parametrize("public", [True, False, None], ids=["public", "private", "as the subnet"])
def test_a_public_address_is_given_or_not(world: World, public: bool | None) -> None:
    instance = instances.launch(world.ledger, "builder", HOME_PLACE, spec(world, public_address=public))
    running = instances.wait_running(world.ledger, HOME_PLACE, [instance])[instance]
    assert (running.public_address is not None) == (public is not False)  # default subnets assign one
    [launch] = [i.request for i in world.journal.intents("builder")]
    assert ("NetworkInterfaces" in launch) == (public is not None)


def test_the_instance_profile_must_exist(world: World) -> None:
    with pytest.raises(CloudError, match="Invalid IAM Instance Profile name"):
        instances.launch(world.ledger, "builder", HOME_PLACE, spec(world, instance_profile="managed"))
    made = world.raw("iam").create_instance_profile(InstanceProfileName="managed")["InstanceProfile"]
    for key, profile in (("by name", "managed"), ("by arn", made["Arn"])):
        instance = instances.launch(world.ledger, key, HOME_PLACE, spec(world, instance_profile=profile))
        instances.wait_running(world.ledger, HOME_PLACE, [instance])
        [found] = world.raw("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"]
        assert found["IamInstanceProfile"]["Arn"] == made["Arn"]


# --- roles ----------------------------------------------------------------------------------------------------------


def trusting(world: World, principal: str, *, external_id: str | None = None, longest: int = 3600) -> str:
    """A role in the other account. Returns its ARN."""
    statement: dict[str, Any] = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}
    if external_id is not None:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
    made = world.raw("iam", APPS_PLACE).create_role(
        RoleName="strict",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        MaxSessionDuration=longest,
    )
    return str(made["Role"]["Arn"])


def with_role(account: Account) -> Cloud:
    return Cloud({"home": HOME, "apps": account}, HOME_PLACE, caller=new_session())


def test_a_role_that_requires_an_external_id(world: World) -> None:
    role = trusting(world, f"arn:aws:iam::{HOME.id}:root", external_id="acme")
    for given in (None, "other"):
        with pytest.raises(AccessError, match="cannot assume") as refused:
            with_role(Account("apps", APPS.id, role, given)).check_identity()
        assert "external_id" in (refused.value.hint or "")
    with_role(Account("apps", APPS.id, role, "acme")).check_identity()


def test_a_session_lasts_as_long_as_the_account_says(world: World) -> None:
    role = trusting(world, f"arn:aws:iam::{HOME.id}:root", longest=7200)
    cloud = with_role(Account("apps", APPS.id, role, session_seconds=7200))
    cloud.call(APPS_PLACE, "ec2", "DescribeVolumes")
    [session] = world.paper.cloud.credentials.dump()
    assert 7100 < session["expires"] - time.time() <= 7200
    with pytest.raises(AccessError, match="exceeds the MaxSessionDuration"):
        with_role(Account("apps", APPS.id, role, session_seconds=10800)).call(APPS_PLACE, "ec2", "DescribeVolumes")


def test_a_role_assumed_with_a_role_lasts_one_hour(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Role chaining: AWS refuses a longer session, so a shorter one is requested, and renewed."""
    role = trusting(world, f"arn:aws:iam::{HOME.id}:root", longest=43200)
    arn = f"arn:aws:sts::{HOME.id}:assumed-role/pipeline/nightly"
    keys = world.paper.cloud.credentials.open_session(HOME.id, arn, "AROAPIPELINE:nightly", 3600)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys.secret_access_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", keys.session_token)
    options: dict[str, Any] = {"region_name": "eu-central-1", "endpoint_url": world.paper.endpoint}
    raw: Any = new_session().create_client("sts", **options)
    with pytest.raises(raw.exceptions.ClientError, match="1 hour session limit for roles assumed by role chaining"):
        raw.assume_role(RoleArn=role, RoleSessionName="test", DurationSeconds=43200)
    with_role(Account("apps", APPS.id, role, session_seconds=43200)).call(APPS_PLACE, "ec2", "DescribeVolumes")
    lasts = [s["expires"] - time.time() for s in world.paper.cloud.credentials.dump() if "/strict/" in s["arn"]]
    assert lasts
    assert all(3500 < seconds <= 3600 for seconds in lasts)


# --- regions and partitions -----------------------------------------------------------------------------------------


def test_a_region_that_the_account_has_not_enabled(world: World) -> None:
    """AWS knows no credentials there. Only that place is affected, and the error names the reason."""
    place = Place(APPS.id, "ap-east-1")
    with pytest.raises(AccessError, match=r"region ap-east-1 is not enabled for account 222222222222") as refused:
        world.cloud.call(place, "ec2", "DescribeImages", {"Owners": ["self"]})
    assert not refused.value.ends_everything
    assert "enable-region" in (refused.value.hint or "")
    with pytest.raises(AccessError, match=r"region ap-east-1 is not enabled for account 222222222222"):
        world.cloud.call(place, "ssm", "DescribeParameters")
    with pytest.raises(AccessError, match=r"region ap-east-1 is not enabled for account 222222222222"):
        regions.check(world.cloud, [HOME_PLACE, place])
    world.raw("account", Place(APPS.id, "us-east-1")).enable_region(RegionName="ap-east-1")
    assert world.cloud.call(place, "ec2", "DescribeImages", {"Owners": ["self"]})["Images"] == []
    regions.check(world.cloud, [HOME_PLACE, place])
    with pytest.raises(AccessError, match="not enabled for account 111111111111"):
        world.cloud.call(Place(HOME.id, "ap-east-1"), "ec2", "DescribeImages", {"Owners": ["self"]})


def test_an_account_is_asked_only_about_regions_that_it_opts_in_to(world: World) -> None:
    mark = world.mark()
    found = regions.of_accounts(world.cloud, [HOME_PLACE, HOME_WEST, APPS_PLACE])
    assert not found.errors
    assert [c["action"] for c in world.paper.calls[mark:]].count("DescribeRegions") == 1
    regions.check_enabled(APPS_PLACE, found.results[APPS.id], ())
    place = Place(APPS.id, "ap-east-1")
    mark = world.mark()
    found = regions.of_accounts(world.cloud, [HOME_PLACE, APPS_PLACE, place])
    assert [c["action"] for c in world.paper.calls[mark:]].count("DescribeRegions") == 2
    with pytest.raises(AccessError, match="region ap-east-1 is not enabled for account 222222222222"):
        regions.check_enabled(place, found.results[APPS.id], ())


def test_the_credentials_of_an_account_that_is_not_asked_are_checked(world: World) -> None:
    apps = Account("apps", APPS.id, f"arn:aws:iam::{APPS.id}:role/nobody")
    cloud = Cloud({"home": HOME, "apps": apps}, HOME_PLACE, caller=new_session())
    found = regions.of_accounts(cloud, [HOME_PLACE, APPS_PLACE])
    assert "cannot assume" in found.errors[APPS.id].message
    assert list(found.results) == [HOME.id]


def test_the_partition_comes_from_the_region(world: World) -> None:
    expected = {"eu-central-1": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov", "eu-central-9": "aws"}
    assert {region: world.cloud.partition(region) for region in expected} == expected
    assert world.cloud.account_root(HOME.id, "cn-north-1") == f"arn:aws-cn:iam::{HOME.id}:root"


def test_an_environment_is_in_one_partition(world: World) -> None:
    with pytest.raises(UsageError, match="region cn-north-1 is in the partition aws-cn, expected aws"):
        regions.check(world.cloud, [HOME_PLACE, Place(HOME.id, "cn-north-1")])
    role = f"arn:aws-cn:iam::{APPS.id}:role/goldenami-publisher"
    cloud = with_role(Account("apps", APPS.id, role))
    with pytest.raises(UsageError, match=r"the role arn:aws-cn:.* is in the partition aws-cn, expected aws"):
        regions.check(cloud, [HOME_PLACE])
    assert {c["action"] for c in world.paper.calls} <= {"GetCallerIdentity"}


def test_no_partition_is_written_in_the_code() -> None:
    """Except in examples for users."""
    import goldenami

    examples = {"recipe/problems.py": 2, "recipe/scaffold.py": 2, "release/consume.py": 2}
    examples["recipe/environmentspec.py"] = 1  # the sandbox
    root = Path(goldenami.__file__).parent
    found = {str(path.relative_to(root)): path.read_text().count("arn:aws:") for path in root.rglob("*.py")}
    assert {name: count for name, count in found.items() if count} == examples


def test_the_clients_of_a_service_share_its_description(world: World) -> None:
    first, second = (world.cloud.client("ec2", place) for place in (HOME_PLACE, HOME_WEST))
    assert first is not second
    assert first.meta.region_name != second.meta.region_name
    assert first.meta.service_model is second.meta.service_model
    assert world.cloud.client("ec2", APPS_PLACE).meta.service_model is first.meta.service_model
    assert world.cloud.client("ssm", HOME_PLACE).meta.service_model is not first.meta.service_model
