"""Everything a build made is deleted, and nothing else."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from goldenami import reconcile
from goldenami.aws import images, instances, kms, security_groups, tags, waiters
from goldenami.aws.kinds import Build, in_order, kind_of
from goldenami.aws.ownership import UNPROVEN, Owner
from goldenami.errors import JournalError
from goldenami.events import ignore_events
from goldenami.journal import token
from goldenami.model import Place
from tests.worlds.ledgers import APPS, APPS_PLACE, BUILD, CATALOG, HOME_PLACE, HOME_WEST, PROOFS, Crash, World

from .test_ledger import PARAMETER, PUBLIC_KEY, build, foreign_image, foreign_instance, launch, make_group

PLACES = (HOME_PLACE, HOME_WEST, APPS_PLACE)


def inventory(world: World) -> set[tuple[Place, str, str]]:
    """All that there is, by plain describes; what the sandbox starts with (public images, default groups) included."""
    found: set[tuple[Place, str, str]] = set()
    for place in PLACES:
        ec2, ssm = world.raw("ec2", place), world.raw("ssm", place)
        for reservation in ec2.describe_instances()["Reservations"]:
            for one in reservation["Instances"]:
                if one["State"]["Name"] not in ("terminated", "shutting-down"):
                    found.add((place, "instance", one["InstanceId"]))
        found |= {(place, "image", i["ImageId"]) for i in ec2.describe_images(Owners=["self"])["Images"]}
        found |= {(place, "snapshot", s["SnapshotId"]) for s in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
        found |= {(place, "volume", v["VolumeId"]) for v in ec2.describe_volumes()["Volumes"]}
        found |= {(place, "security-group", g["GroupId"]) for g in ec2.describe_security_groups()["SecurityGroups"]}
        found |= {(place, "key-pair", k["KeyPairId"]) for k in ec2.describe_key_pairs()["KeyPairs"]}
        found |= {(place, "parameter", p["Name"]) for p in ssm.describe_parameters()["Parameters"]}
        arn = kms.resolve(world.cloud, place, "alias/golden-ami").arn
        found |= {(place, "grant", g["GrantId"]) for g in kms.grants(world.cloud, place, arn)}
    return found


def clean(world: World, **options: Any) -> reconcile.CleanUp:
    return reconcile.delete_all(world.cloud, world.journal, PROOFS, **options)


def decoys(world: World) -> None:
    """One of each kind with look-alike names and partly matching tags."""
    ec2, ssm = world.raw("ec2"), world.raw("ssm")
    almost = [
        {"Key": tags.BUILD_ID, "Value": BUILD},
        {"Key": tags.KEY, "Value": "builder"},
        {"Key": tags.TOKEN, "Value": token("another", "builder", 1)},
        {"Key": tags.RECIPE, "Value": "debian-12-web"},
        {"Key": tags.EXPIRES_AT, "Value": "2020-01-01T00:00:00Z"},
    ]
    instance = foreign_instance(world)
    image = foreign_image(world)
    behind = ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    zone = ec2.describe_subnets()["Subnets"][0]["AvailabilityZone"]
    volume = ec2.create_volume(AvailabilityZone=zone, Size=1)["VolumeId"]
    key = ec2.import_key_pair(KeyName=f"goldenami-{BUILD}-x", PublicKeyMaterial=PUBLIC_KEY.encode())["KeyPairId"]
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName=f"goldenami-{BUILD}-x", Description="x", VpcId=vpc)["GroupId"]
    ec2.create_tags(Resources=[instance, image, behind, volume, key, group], Tags=almost)
    ssm.put_parameter(Name=f"{PARAMETER}-x", Value=image, Type="String", Tags=almost)
    arn = kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami").arn
    world.raw("kms").create_grant(
        KeyId=arn, GranteePrincipal=f"arn:aws:iam::{APPS.id}:root", Operations=["Decrypt"], Name=f"goldenami-{BUILD}"
    )


def test_a_whole_build_is_deleted_and_nothing_else(world: World) -> None:
    decoys(world)
    before = inventory(world)
    build(world.ledger)
    launch(world.ledger)  # a second builder, which is still running
    made = inventory(world) - before
    assert {kind for _, kind, _ in made} == {
        "instance", "image", "snapshot", "volume", "security-group", "key-pair", "parameter", "grant"
    }  # fmt: skip
    listed = reconcile.find_all(world.cloud, world.journal, PROOFS).deleted
    assert {(f.place, f.kind) for f in listed} == {(place, kind) for place, kind, _ in made}
    world.restart()
    done = clean(world)
    assert done.complete, done.left
    assert inventory(world) == before
    assert world.journal.resources() == ()
    assert {f.kind for f in done.deleted} >= {"instance", "image", "security-group", "key-pair", "parameter", "grant"}
    mark = world.mark()
    again = clean(world)
    assert again.complete
    assert not again.deleted
    assert not world.mutations(mark)


def test_what_is_released_stays(world: World) -> None:
    before = inventory(world)
    made = build(world.ledger)
    image = images.describe_many(world.cloud, APPS_PLACE, [made.copy])[made.copy]
    keep = {made.copy, PARAMETER, made.grant}
    mark = world.mark()
    done = clean(world, keep=keep)
    assert done.complete, done.left
    asked = [c["action"] for c in world.paper.calls[mark:] if c["service"] == "ssm"]
    assert set(asked) == {"DescribeParameters"}, "the tags of what stays are not asked for"
    left = inventory(world) - before
    snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert left == {
        (APPS_PLACE, "image", made.copy),
        (APPS_PLACE, "snapshot", snapshot),
        (APPS_PLACE, "parameter", PARAMETER),
        (HOME_WEST, "grant", made.grant),
    }
    assert reconcile.find_all(world.cloud, world.journal, PROOFS, keep=keep).deleted == ()


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("nth", [1, 3, 4, 5, 8, 12, 14])
@pytest.mark.sample(5)
def test_a_build_that_died_anywhere_is_cleaned(world: World, nth: int, lost: bool) -> None:
    """The process ends at the n-th result: lost before it is on the disk, or right after."""
    before = inventory(world)
    world.paper.set(visibility_delay=0.3)
    world.trap.record, world.trap.lost, world.trap.nth = "result", lost, nth
    with pytest.raises(Crash):
        build(world.ledger)
    world.restart()
    done = clean(world)
    assert done.complete, done.left
    assert inventory(world) == before


def test_what_the_journal_does_not_know_is_found_by_its_tags(world: World) -> None:
    """A result that never reached the disk, of a call that has been refused in the journal by mistake: the sweep finds
    it."""
    before = inventory(world)
    _, instance = launch(world.ledger)
    world.journal.record_deleted("instance", HOME_PLACE, "i-other")
    copy = {t["Key"]: t["Value"] for t in world.raw("ec2").describe_tags()["Tags"] if t["ResourceId"] == instance}
    assert tags.made_by(copy, BUILD, CATALOG)
    done = clean(world)
    assert done.complete
    assert instance in {f.id for f in done.deleted}
    assert inventory(world) == before


def test_copied_tags_delete_nothing(world: World) -> None:
    """Somebody copies all tags of each resource of ours to one of theirs, of the same kind and in the same place."""
    ec2 = world.raw("ec2")
    theirs = foreign_resources(world)
    build(world.ledger)
    launch(world.ledger)
    copied = set()
    for tag in ec2.describe_tags(Filters=[{"Name": "key", "Values": [tags.PROOF]}])["Tags"]:
        own = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [tag["ResourceId"]]}])["Tags"]
        type, copy = tag["ResourceType"], [{"Key": t["Key"], "Value": t["Value"]} for t in own]
        if type in theirs and type not in copied:
            ec2.create_tags(Resources=[theirs[type]], Tags=copy)
            copied.add(type)
    assert copied == {"instance", "volume", "snapshot", "image", "key-pair", "security-group"}
    others = {
        (kind.name, id)
        for kind in in_order()
        if kind.has_tags
        for id, found in kind.tagged(world.cloud, HOME_PLACE, tags.BUILD_ID, BUILD).items()
        if kind.owner_of(world.cloud, HOME_PLACE, found, Owner(CATALOG, "sandbox", PROOFS)).whose == "unknown"
    }
    told = reconcile.find_all(world.cloud, world.journal, PROOFS).others
    done = clean(world)
    assert done.complete, done.left
    assert done.others == told == dict.fromkeys(told, f"unknown: {UNPROVEN.reason}")
    wanted = {id for kind, id in theirs.items() if kind != "key-pair"} | {f"goldenami-{BUILD}-theirs"}
    assert {id for _, id in others} == {what.split()[1] for what in told} == wanted
    assert set(theirs.values()) <= {id for _, _, id in inventory(world)}


def foreign_resources(world: World) -> dict[str, str]:
    """One resource of each kind of EC2, by its type for tags."""
    ec2 = world.raw("ec2")
    image = foreign_image(world)
    zone = ec2.describe_subnets()["Subnets"][0]["AvailabilityZone"]
    behind = ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    key_pair = ec2.import_key_pair(KeyName=f"goldenami-{BUILD}-theirs", PublicKeyMaterial=PUBLIC_KEY.encode())
    return {
        "instance": foreign_instance(world),
        "volume": ec2.create_volume(AvailabilityZone=zone, SnapshotId=behind)["VolumeId"],
        "snapshot": behind,
        "image": image,
        "key-pair": key_pair["KeyPairId"],
        "security-group": ec2.create_security_group(GroupName="theirs", Description="theirs")["GroupId"],
    }


def test_what_cannot_be_deleted_is_told_and_the_rest_goes(world: World) -> None:
    before = inventory(world)
    launch(world.ledger)
    refused = {"action": "DeleteKeyPair", "nth": 0, "code": "UnauthorizedOperation", "status": 403}
    world.paper.set(faults=[refused])
    told: list[Any] = []
    done = clean(world, emit=told.append)
    assert not done.complete
    ((what, why),) = done.left.items()
    assert what.startswith("key-pair ")
    assert "UnauthorizedOperation" in why
    assert [e for e in told if e.kind == "note" and e.fields["level"] == "warning"]
    assert {kind for _, kind, _ in inventory(world) - before} == {"key-pair"}
    world.paper.set(faults=[])
    assert clean(world).complete
    assert inventory(world) == before


def test_a_place_out_of_reach_does_not_stop_the_others(world: World) -> None:
    build(world.ledger)
    fault = {"action": "*", "nth": 0, "account": APPS.id, "code": "AuthFailure", "status": 401}
    world.paper.set(faults=[fault])
    done = clean(world)
    assert done.left
    assert all(str(APPS_PLACE) in what for what in done.left)
    assert {r.place for r in world.journal.resources()} == {APPS_PLACE}
    world.paper.set(faults=[])
    assert clean(world).complete


def test_a_parameter_that_somebody_replaced_is_left(world: World) -> None:
    build(world.ledger)
    ssm = world.raw("ssm", APPS_PLACE)
    ssm.delete_parameter(Name=PARAMETER)
    ssm.put_parameter(Name=PARAMETER, Value="theirs", Type="String")
    assert clean(world).complete
    assert ssm.get_parameter(Name=PARAMETER)["Parameter"]["Value"] == "theirs"


def test_a_journal_that_fails_stops_the_clean_up(world: World) -> None:
    launch(world.ledger)
    world.journal.close()
    with pytest.raises(JournalError):
        clean(world)


def test_instances_are_gone_before_their_group(world: World) -> None:
    world.paper.set(pending={"stop": 0.5})
    group, instance = launch(world.ledger)
    assert clean(world, emit=ignore_events).complete
    assert instances.describe_many(world.cloud, HOME_PLACE, [instance])[instance].state == "terminated"
    assert group not in [g["GroupId"] for g in world.raw("ec2").describe_security_groups()["SecurityGroups"]]
    assert waiters.describe(world.cloud, HOME_PLACE, waiters.IMAGES, []) == {}


def test_volumes_that_end_with_their_instance_are_not_waited_for(world: World) -> None:
    group, instance = launch(world.ledger)
    ec2, end = world.raw("ec2"), threading.Event()
    (default,) = (g["GroupId"] for g in ec2.describe_security_groups()["SecurityGroups"] if g["GroupName"] == "default")
    world.paper.node.gates["terminate"] = end
    try:
        security_groups.leave(world.ledger, HOME_PLACE, instance, default)
        instances.terminate(world.ledger, HOME_PLACE, instance)
        mark = world.mark()
        assert clean(world, search=reconcile.doubtful(world.ledger)).complete
        assert "DeleteVolume" not in {call["action"] for call in world.paper.calls[mark:]}
        assert [v["State"] for v in ec2.describe_volumes()["Volumes"]] == ["in-use"]
        assert group not in [g["GroupId"] for g in ec2.describe_security_groups()["SecurityGroups"]]
    finally:
        end.set()
    instances.wait_terminated(world.cloud, HOME_PLACE, [instance])
    assert ec2.describe_volumes()["Volumes"] == []


def test_a_volume_that_outlives_its_instance_is_deleted(world: World) -> None:
    _, instance = launch(world.ledger)
    mapping = {"DeviceName": "/dev/xvda", "Ebs": {"DeleteOnTermination": False}}
    world.raw("ec2").modify_instance_attribute(InstanceId=instance, BlockDeviceMappings=[mapping])
    end = world.paper.node.gates["terminate"] = threading.Event()
    try:
        instances.terminate(world.ledger, HOME_PLACE, instance)
        found = kind_of("volume").of_build(world.cloud, HOME_PLACE, Build(BUILD, CATALOG), [], PROOFS)
        assert [one.proven for one in found] == [True]
    finally:
        end.set()


def test_what_is_still_under_way_is_deleted_too(world: World) -> None:
    """Ctrl-C while copies are pending: deregistering stops a copy ("Stop a pending AMI copy operation", EC2 user
    guide)."""
    image = foreign_image(world)
    before = inventory(world)
    world.paper.set(pending={"image": 1e6, "copy": 1e6, "snapshot": 1e6})
    for place in (HOME_PLACE, HOME_WEST):
        images.copy(
            world.ledger,
            f"image/{place}",
            place,
            source_image_id=image,
            source_region=HOME_PLACE.region,
            name="web 1.4",
            kms_key=kms.resolve(world.cloud, place, "alias/golden-ami").arn,
        )
    done = clean(world)
    assert done.complete, done.left
    assert inventory(world) == before


def test_what_is_found_alive_is_deleted_whatever_the_journal_says(world: World) -> None:
    """The journal has an instance as gone, and images and snapshots that somebody restored from the Recycle Bin."""
    before = inventory(world)
    for kind in ("EC2_IMAGE", "EBS_SNAPSHOT"):
        period = {"RetentionPeriodValue": 7, "RetentionPeriodUnit": "DAYS"}
        world.raw("rbin").create_rule(ResourceType=kind, RetentionPeriod=period)
    made = build(world.ledger)
    _, instance = launch(world.ledger)
    world.journal.record_deleted("instance", HOME_PLACE, instance)
    done = clean(world)
    assert done.complete, done.left
    assert instance in {f.id for f in done.deleted}
    assert inventory(world) == before
    ec2 = world.raw("ec2")
    snapshots = [s["SnapshotId"] for s in ec2.list_snapshots_in_recycle_bin()["Snapshots"]]
    for snapshot in snapshots:
        ec2.restore_snapshot_from_recycle_bin(SnapshotId=snapshot)
    ec2.restore_image_from_recycle_bin(ImageId=made.candidate)
    back = {id for _, _, id in inventory(world) - before}
    assert back == {made.candidate, *snapshots}
    world.restart()
    assert {f.id for f in reconcile.find_all(world.cloud, world.journal, PROOFS).deleted} == back
    mark = world.mark()
    done = clean(world)
    assert done.complete, done.left
    assert {f.id for f in done.deleted} == back
    assert world.mutations(mark) == {"DeregisterImage": 1, "DeleteSnapshot": len(snapshots)}
    assert inventory(world) == before
    world.restart()
    assert not world.journal.resources()
    assert not clean(world).deleted


def test_what_does_not_exist_any_more_is_not_counted(world: World) -> None:
    group, instance = launch(world.ledger)
    world.raw("ec2").terminate_instances(InstanceIds=[instance])
    # Until then the group is in use.
    assert waiters.Watch(world.cloud, HOME_PLACE, waiters.TERMINATED, [instance]).until_ready()[instance].ok
    world.raw("ec2").delete_security_group(GroupId=group)
    done = clean(world)
    assert done.complete, done.left
    assert group not in {f.id for f in done.deleted}, "no deletion of it was confirmed"


def test_a_place_without_doubt_is_not_searched(world: World) -> None:
    before = inventory(world)
    build(world.ledger)
    assert reconcile.doubtful(world.ledger) == {HOME_PLACE: {"volume"}}, "an instance may leave volumes"
    done = clean(world, search={})
    assert done.complete, done.left
    assert inventory(world) == before, "the journal has all"
    mark = world.mark()
    assert clean(world, search={}).complete
    assert world.paper.calls[mark:] == []


def test_the_snapshots_that_a_failed_image_does_not_list_are_found(world: World) -> None:
    before = inventory(world)
    made = build(world.ledger)
    world.ledger.spoil("image", HOME_PLACE, made.candidate, "Client.InternalError")
    world.raw("ec2").deregister_image(ImageId=made.candidate)
    search = reconcile.doubtful(world.ledger)
    assert {place: set(kinds) for place, kinds in search.items()} == {HOME_PLACE: {"volume", "snapshot"}}
    done = clean(world, search=search)
    assert done.complete, done.left
    assert inventory(world) == before


def test_a_place_is_searched_if_an_answer_was_lost_or_another_process_began(world: World) -> None:
    world.paper.set(faults=[{"action": "CreateSecurityGroup", "nth": 1, "when": "after", "how": "drop"}])
    make_group(world)
    every = {kind.name for kind in in_order()}
    assert reconcile.doubtful(world.ledger) == {HOME_PLACE: every}
    build(world.ledger)
    world.restart()
    assert reconcile.doubtful(world.ledger) == dict.fromkeys(PLACES, every)
