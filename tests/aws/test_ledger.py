"""No intent, no call; and every call an ensure: run again, after whatever happened, there is one of each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from goldenami import reconcile
from goldenami.aws import images, instances, keypairs, kms, network, parameters, security_groups, snapshots, tags
from goldenami.aws.guard import permitted
from goldenami.aws.kinds import KINDS
from goldenami.aws.ledger import Call, Ledger
from goldenami.errors import CloudError, JournalError, UnjournaledMutation
from goldenami.journal import Journal, token
from goldenami.model import Network
from tests.worlds.ledgers import (
    APPS,
    APPS_PLACE,
    BUILD,
    CATALOG,
    HOME_PLACE,
    HOME_WEST,
    PROOFS,
    Crash,
    World,
    make_ledger,
)

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEr0dCfNWsnLt9F6pfgzlMGpNJRQYdQ0MrH1cHdHFiCa builder"
DEBIAN = "136693071363"
PARAMETER = "/golden-ami/web/x86_64/1.4/image-id"


@dataclass
class Made:
    """The ids of one run of :func:`build`."""

    group: str = ""
    instance: str = ""
    candidate: str = ""
    copy: str = ""
    grant: str = ""


def launch(ledger: Ledger) -> tuple[str, str]:
    """A builder with all it needs."""
    place, cloud = HOME_PLACE, ledger.cloud
    base = images.find_base(cloud, place, architecture="x86_64", filters={"name": ["debian-12-*"]}, owners=[DEBIAN])
    subnets = network.subnets(cloud, place, Network())
    name = keypairs.create(ledger, "key-pair", place, public_key=PUBLIC_KEY)
    group = security_groups.create(ledger, "security-group", place, vpc_id=subnets[0].vpc_id)
    source = security_groups.Source(("198.51.100.7/32",))
    security_groups.allow(ledger, "security-group", place, group, source=source)
    spec = instances.LaunchSpec(
        base.image_id, ("t3.small",), subnets, group, name, user_data="#cloud-config\nssh_keys: {}\n", name="builder"
    )
    instance = instances.launch(ledger, "builder", place, spec)
    instances.wait_running(ledger, place, [instance])
    return group, instance


def build(ledger: Ledger) -> Made:
    """A whole small build: two places, two accounts."""
    cloud, made = ledger.cloud, Made()
    made.candidate = ledger.existing("candidate") or ""
    if not made.candidate:  # what is captured needs its builder no more
        made.group, made.instance = launch(ledger)
        made.candidate = images.create(
            ledger,
            "candidate",
            HOME_PLACE,
            instance_id=made.instance,
            name=f"web 1.4 candidate {BUILD}",
            temporary=True,
        )
    assert images.wait(ledger, HOME_PLACE, [made.candidate])[made.candidate].ok
    images.share(ledger, "share/candidate", HOME_PLACE, made.candidate, accounts=[APPS.id])
    for place in (HOME_WEST, APPS_PLACE):
        made.copy = images.copy(
            ledger,
            f"image/{place}",
            place,
            source_image_id=made.candidate,
            source_region=HOME_PLACE.region,
            name="web 1.4",
            kms_key=kms.resolve(cloud, place, "alias/golden-ami").arn,
            temporary=True,
        )
        assert images.wait(ledger, place, [made.copy])[made.copy].ok
        ledger.settle(f"settle/{place}", place, [made.copy])
    made.grant = kms.create_grant(
        ledger,
        "grant",
        HOME_WEST,
        kms_key_arn=kms.resolve(cloud, HOME_WEST, "alias/golden-ami").arn,
        grantee=f"arn:aws:iam::{APPS.id}:root",
    )
    parameters.create(ledger, "parameter", APPS_PLACE, name=PARAMETER, value=made.copy)
    parameters.await_values(cloud, APPS_PLACE, {PARAMETER: made.copy})
    builder = ledger.existing("builder")
    if builder is not None:
        instances.terminate(ledger, HOME_PLACE, builder)
    return made


# --- ensure ---------------------------------------------------------------------------------------------------------


def test_a_second_run_over_the_journal_changes_nothing(world: World) -> None:
    first = build(world.ledger)
    world.restart()
    before = world.mark()
    second = build(world.ledger)
    assert not world.mutations(before)
    assert (second.candidate, second.copy, second.grant) == (first.candidate, first.copy, first.grant)
    assert world.ledger.existing("builder") is None, "it is terminated"
    instances.terminate(world.ledger, HOME_PLACE, first.instance)
    assert not world.mutations(before)


@pytest.mark.parametrize("record", ["intent", "result"])
@pytest.mark.parametrize("nth", [1, 4, 5, 8, 10, 12, 13, 14])
def test_a_build_that_died_anywhere_goes_on(world: World, nth: int, record: str) -> None:
    """After the n-th intent, before its call; or after the n-th call, before its result is on the disk."""
    world.trap.record, world.trap.lost, world.trap.nth = record, record == "result", nth
    with pytest.raises(Crash):
        build(world.ledger)
    world.restart()
    made = build(world.ledger)
    assert world.journal.unresolved() == ()
    assert list(world.tagged("image", HOME_PLACE)) == [made.candidate]
    assert list(world.tagged("image", APPS_PLACE)) == [made.copy]
    assert len(world.tagged("image", HOME_WEST)) == 1
    assert world.tagged("instance") == {}
    assert len(world.tagged("security-group")) == len(world.tagged("key-pair")) == 1
    assert parameters.get(world.cloud, APPS_PLACE, PARAMETER) == made.copy
    arn = kms.resolve(world.cloud, HOME_WEST, "alias/golden-ami").arn
    assert [g["GrantId"] for g in kms.grants(world.cloud, HOME_WEST, arn)] == [made.grant]


def test_what_is_made_is_what_was_asked_for(world: World) -> None:
    made = build(world.ledger)
    ec2 = world.raw("ec2", APPS_PLACE)
    image = ec2.describe_images(ImageIds=[made.copy])["Images"][0]
    found = tags.from_list(image["Tags"])
    key = f"image/{APPS_PLACE}"
    assert found == {
        "owner": "platform-team",
        tags.NAME: "web 1.4",
        tags.RECIPE: "debian-12-web",
        tags.VERSION: "1.4",
        tags.BUILD_ID: BUILD,
        tags.KEY: key,
        tags.TOKEN: token(BUILD, key, 1),
        tags.PROOF: found[tags.PROOF],
        tags.CATALOG: CATALOG,
        tags.ENVIRONMENT: "sandbox",
    }, "its expiry is taken off"
    (snapshot,) = ec2.describe_snapshots(SnapshotIds=list(snapshots.of_image(image)))["Snapshots"]
    assert snapshot["Encrypted"]
    assert snapshot["KmsKeyId"] == kms.resolve(world.cloud, APPS_PLACE, "alias/golden-ami").arn
    assert tags.from_list(snapshot["Tags"])[tags.TOKEN] == token(BUILD, key, 1)
    assert images.launch_permissions(world.cloud, HOME_PLACE, made.candidate) == {APPS.id}
    (behind,) = snapshots.of_image(images.describe_many(world.cloud, HOME_PLACE, [made.candidate])[made.candidate])
    assert snapshots.volume_permissions(world.cloud, HOME_PLACE, behind) == {APPS.id}
    assert parameters.get(world.cloud, APPS_PLACE, PARAMETER) == made.copy
    group = world.raw("ec2").describe_security_groups(GroupIds=[made.group])["SecurityGroups"][0]
    (rule,) = group["IpPermissions"]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 22, 22)
    assert [r["CidrIp"] for r in rule["IpRanges"]] == ["198.51.100.7/32"]


def test_secrets_stay_out_of_the_journal(world: World) -> None:
    launch(world.ledger)
    text = (world.journal.directory / "journal.jsonl").read_text()
    assert "cloud-config" not in text
    assert "ssh_keys" not in text


# --- lost replies, and crashes --------------------------------------------------------------------------------------

Step = Callable[[World], str]


def make_key_pair(world: World) -> str:
    return keypairs.create(world.ledger, "step", HOME_PLACE, public_key=PUBLIC_KEY)


def make_group(world: World) -> str:
    vpc = network.subnets(world.cloud, HOME_PLACE, Network())[0].vpc_id
    source = security_groups.Source(("198.51.100.7/32",))
    group = security_groups.create(world.ledger, "step", HOME_PLACE, vpc_id=vpc)
    security_groups.allow(world.ledger, "step", HOME_PLACE, group, source=source)
    return group


def make_instance(world: World) -> str:
    base = images.find_base(
        world.cloud, HOME_PLACE, architecture="x86_64", filters={"name": ["debian-12-*"]}, owners=[DEBIAN]
    )
    subnets = network.subnets(world.cloud, HOME_PLACE, Network())
    group = world.raw("ec2").describe_security_groups()["SecurityGroups"][0]["GroupId"]
    if not world.raw("ec2").describe_key_pairs()["KeyPairs"]:
        world.raw("ec2").import_key_pair(KeyName="k", PublicKeyMaterial=PUBLIC_KEY.encode())
    spec = instances.LaunchSpec(base.image_id, ("t3.small",), subnets, group, "k", user_data="secret")
    return instances.launch(world.ledger, "step", HOME_PLACE, spec)


def foreign_instance(world: World) -> str:
    """An instance that the build under test did not make."""
    known = world.raw("ec2").describe_instances()["Reservations"]
    if known:
        return str(known[0]["Instances"][0]["InstanceId"])
    base = images.find_base(
        world.cloud, HOME_PLACE, architecture="x86_64", filters={"name": ["debian-12-*"]}, owners=[DEBIAN]
    )
    answer = world.raw("ec2").run_instances(ImageId=base.image_id, InstanceType="t3.small", MinCount=1, MaxCount=1)
    instance = str(answer["Instances"][0]["InstanceId"])
    instances.wait_running(world.ledger, HOME_PLACE, [instance])
    return instance


def make_image(world: World) -> str:
    return images.create(
        world.ledger, "step", HOME_PLACE, instance_id=foreign_instance(world), name=f"web {BUILD}", no_reboot=True
    )


def foreign_image(world: World) -> str:
    """An image of the account that the build under test did not make, and may copy."""
    ec2 = world.raw("ec2")
    known = ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": ["theirs"]}])["Images"]
    image = (
        known[0]["ImageId"] if known else ec2.create_image(InstanceId=foreign_instance(world), Name="theirs")["ImageId"]
    )
    images.wait(world.ledger, HOME_PLACE, [image])
    return str(image)


def make_copy(world: World) -> str:
    return images.copy(
        world.ledger,
        "step",
        HOME_PLACE,
        source_image_id=foreign_image(world),
        source_region=HOME_PLACE.region,
        name="web 1.4",
        kms_key=kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami").arn,
    )


def make_snapshot(world: World) -> str:
    """No ClientToken and no unique name: only the tag can tell."""
    volume = world.raw("ec2").describe_volumes()["Volumes"]
    if not volume:
        foreign_instance(world)
        volume = world.raw("ec2").describe_volumes()["Volumes"]
    call = Call("ec2", "CreateSnapshot", {"VolumeId": volume[0]["VolumeId"]})
    return world.ledger.create("step", "snapshot", HOME_PLACE, call)


def make_grant(world: World) -> str:
    arn = kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami").arn
    return kms.create_grant(world.ledger, "step", HOME_PLACE, kms_key_arn=arn, grantee=f"arn:aws:iam::{APPS.id}:root")


def make_parameter(world: World) -> str:
    base = images.find_base(
        world.cloud, HOME_PLACE, architecture="x86_64", filters={"name": ["debian-12-*"]}, owners=[DEBIAN]
    )
    parameters.create(world.ledger, "step", HOME_PLACE, name=PARAMETER, value=base.image_id)
    return PARAMETER


STEPS: dict[str, tuple[str, str, Step]] = {
    "key-pair": ("ec2", "ImportKeyPair", make_key_pair),
    "security-group": ("ec2", "CreateSecurityGroup", make_group),
    "instance": ("ec2", "RunInstances", make_instance),
    "image": ("ec2", "CreateImage", make_image),
    "copied image": ("ec2", "CopyImage", make_copy),
    "snapshot": ("ec2", "CreateSnapshot", make_snapshot),
    "grant": ("kms", "CreateGrant", make_grant),
    "parameter": ("ssm", "PutParameter", make_parameter),
}
KIND_OF_STEP = {name: name.split()[-1] for name in STEPS}


def count(world: World, kind: str) -> int:
    """How many of a kind the build has made, in truth."""
    if kind == "grant":
        arn = kms.resolve(world.cloud, HOME_PLACE, "alias/golden-ami").arn
        return sum(BUILD in g.get("Name", "") for g in kms.grants(world.cloud, HOME_PLACE, arn))
    return len(world.tagged(kind))


def prepare(world: World, step: Step) -> None:
    """What the step needs and does not make is there before the fault is set."""
    if step in (make_image, make_snapshot):
        foreign_instance(world)
    if step is make_copy:
        foreign_image(world)
    if step is make_instance:
        world.raw("ec2").import_key_pair(KeyName="k", PublicKeyMaterial=PUBLIC_KEY.encode())


@pytest.mark.parametrize("how", ["drop", "error"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", STEPS)
def test_a_lost_reply_makes_no_second_one(world: World, name: str, when: str, how: str) -> None:
    service, action, step = STEPS[name]
    prepare(world, step)
    world.paper.set(faults=[{"action": f"{service}:{action}", "nth": 1, "when": when, "how": how}])
    step(world)
    assert count(world, KIND_OF_STEP[name]) == 1
    (made,) = world.journal.resources(KIND_OF_STEP[name])
    assert made.key == "step"
    again = world.mark()
    step(world)
    assert not world.mutations(again)


@pytest.mark.parametrize("delay", [0.0, 0.4])
@pytest.mark.parametrize("name", STEPS)
def test_a_crash_after_the_effect_is_adopted(world: World, name: str, delay: float) -> None:
    """The process dies after the call and before its result is on the disk; the next one finds what was made."""
    _, action, step = STEPS[name]
    prepare(world, step)
    world.paper.set(visibility_delay=delay)
    world.trap.record, world.trap.lost = "result", True
    with pytest.raises(Crash):
        step(world)
    assert world.mutations()[action] == 1
    world.restart()
    assert [i.key for i in world.journal.unresolved()] == ["step"]
    step(world)
    time.sleep(delay)
    assert count(world, KIND_OF_STEP[name]) == 1
    assert world.journal.unresolved() == ()
    assert len(world.journal.intents("step")) == 1, "the same attempt, not a new one"


@pytest.mark.parametrize("name", STEPS)
def test_a_crash_before_the_effect_sends_the_same_request_again(world: World, name: str) -> None:
    _, _, step = STEPS[name]
    prepare(world, step)
    before = world.mark()
    world.trap.record = "intent"
    with pytest.raises(Crash):
        step(world)
    assert not world.mutations(before)
    world.restart()
    assert len(world.journal.unresolved()) == 1
    step(world)
    assert count(world, KIND_OF_STEP[name]) == 1
    assert len(world.journal.intents("step")) == 1


@pytest.mark.parametrize("name", STEPS)
def test_what_a_killed_process_deleted_is_made_again(world: World, name: str) -> None:
    """The answer of the deletion is the last record of that process."""
    _, _, step = STEPS[name]
    prepare(world, step)
    step(world)
    world.trap.record, world.trap.lost = "result", False
    with pytest.raises(Crash):
        world.ledger.delete_key("step")
    assert count(world, KIND_OF_STEP[name]) == 0
    world.restart()
    reconcile.finish_deletions(world.ledger)
    step(world)
    assert count(world, KIND_OF_STEP[name]) == 1


# The name of a parameter is its user's: no other attempt could have another one.
@pytest.mark.parametrize("name", [name for name in STEPS if name not in ("parameter", "instance", "copied image")])
def test_a_deletion_that_takes_effect_late_hits_no_younger_resource(world: World, name: str) -> None:
    """A process is killed right after it sent a deletion. The next process deletes the resource and makes another one
    under the same key. Only then does the first deletion take effect."""
    service, _, step = STEPS[name]
    prepare(world, step)
    first = step(world)
    world.trap.record, world.trap.lost = "intent", False
    with pytest.raises(Crash):
        world.ledger.delete_key("step")
    world.restart()
    (late,) = world.journal.unresolved_deletions()
    reconcile.finish_deletions(world.ledger)
    assert world.journal.is_gone(HOME_PLACE, first)
    second = step(world)
    assert second != first
    with contextlib.suppress(ClientError):  # EC2 and KMS refuse ids that do not exist any more
        getattr(world.raw(service), xform_name(late.operation))(**late.request)
    assert count(world, KIND_OF_STEP[name]) == 1


def test_a_deletion_is_not_finished_on_what_another_made_since(world: World) -> None:
    """The deletion of a killed process took effect, and another program made a parameter of the same name."""
    make_parameter(world)
    world.trap.record, world.trap.lost = "result", True
    with pytest.raises(Crash):
        world.ledger.delete_key("step")
    world.raw("ssm").put_parameter(Name=PARAMETER, Value="theirs", Type="String")
    world.restart()
    reconcile.finish_deletions(world.ledger)
    assert parameters.get(world.cloud, HOME_PLACE, PARAMETER) == "theirs"
    assert world.journal.unresolved_deletions() == ()
    assert world.ledger.existing("step") is None


# The names of images and parameters are the user's.
@pytest.mark.parametrize("name", ["key-pair", "security-group", "snapshot"])
def test_a_creating_call_that_takes_effect_late_is_in_nobodys_way(world: World, name: str) -> None:
    """A clean-up looked for what the call of a killed process made, and found nothing yet. A resume makes another
    one; the next clean-up deletes both."""
    service, _, step = STEPS[name]
    prepare(world, step)
    world.trap.record = "intent"
    with pytest.raises(Crash):
        step(world)
    world.restart()
    (late,) = world.journal.unresolved()
    assert world.ledger.resolve(late) is None
    getattr(world.raw(service), xform_name(late.operation))(**late.request)
    step(world)
    assert count(world, KIND_OF_STEP[name]) == 2
    assert reconcile.delete_all(world.cloud, world.journal, PROOFS).complete
    assert count(world, KIND_OF_STEP[name]) == 0


def test_a_refusal_is_definite_and_the_next_call_is_a_new_attempt(world: World) -> None:
    fault = {"action": "RunInstances", "nth": 1, "how": "error", "code": "InvalidParameterValue", "status": 400}
    world.paper.set(faults=[fault])
    prepare(world, make_instance)
    with pytest.raises(CloudError, match="InvalidParameterValue"):
        make_instance(world)
    assert world.journal.unresolved() == ()
    make_instance(world)
    attempts = world.journal.intents("step")
    assert [i.attempt for i in attempts] == [1, 2]
    assert attempts[0].token != attempts[1].token


def test_throttling_is_waited_out(world: World) -> None:
    fault = {"action": "*", "nth": 1, "times": 4, "how": "error", "code": "RequestLimitExceeded", "status": 503}
    world.paper.set(faults=[fault])
    make_group(world)
    assert count(world, "security-group") == 1


def test_copies_queue_where_too_many_are_under_way(world: World) -> None:
    fault = {
        "action": "CopyImage",
        "nth": 1,
        "times": 3,
        "how": "error",
        "code": "ResourceLimitExceeded",
        "status": 400,
    }
    foreign_image(world)
    world.paper.set(faults=[fault])
    make_copy(world)
    assert world.mutations()["CopyImage"] == 4
    assert count(world, "image") == 1


def test_somebody_elses_resource_of_that_name_is_not_adopted(world: World) -> None:
    name = world.ledger.next_name("step")
    world.raw("ec2").import_key_pair(KeyName=name, PublicKeyMaterial=PUBLIC_KEY.encode())
    with pytest.raises(CloudError, match=r"InvalidKeyPair\.Duplicate"):
        make_key_pair(world)
    assert world.journal.resources() == ()
    world.raw("ssm").put_parameter(Name=PARAMETER, Value="theirs", Type="String")
    with pytest.raises(CloudError, match="ParameterAlreadyExists"):
        make_parameter(world)
    assert parameters.get(world.cloud, HOME_PLACE, PARAMETER) == "theirs"


def test_what_ended_while_nobody_looked_is_made_again(world: World) -> None:
    """Crash after a launch; the instance is terminated by someone; the next process launches another one."""
    prepare(world, make_instance)
    world.trap.record, world.trap.lost = "result", True
    with pytest.raises(Crash):
        make_instance(world)
    (first,) = world.tagged("instance")
    world.raw("ec2").terminate_instances(InstanceIds=[first])
    instances.wait_terminated(world.cloud, HOME_PLACE, [first])
    world.restart()
    second = make_instance(world)
    assert second != first
    assert list(world.tagged("instance")) == [second]


def test_resolve_never_makes_anything(world: World) -> None:
    prepare(world, make_instance)
    world.paper.set(faults=[{"action": "RunInstances", "nth": 0, "how": "drop", "when": "before"}])
    with pytest.raises(CloudError):
        make_instance(world)
    world.restart()
    (intent,) = world.journal.unresolved()
    before = world.mark()
    assert world.ledger.resolve(intent) is None
    assert not world.mutations(before)
    assert world.journal.unresolved() == ()


# --- changes and deletions ------------------------------------------------------------------------------------------


def test_a_change_is_sent_once_and_again_when_it_differs(world: World) -> None:
    base = images.find_base(
        world.cloud, HOME_PLACE, architecture="x86_64", filters={"name": ["debian-12-*"]}, owners=[DEBIAN]
    ).image_id
    make_parameter(world)
    copy = foreign_image(world)
    for value, sent in ((copy, 1), (copy, 0), (base, 1), (copy, 1), (copy, 0)):
        before = world.mark()
        parameters.put(world.ledger, "channel", HOME_PLACE, name=PARAMETER, value=value)
        assert world.mutations(before)["PutParameter"] == sent
        assert parameters.get(world.cloud, HOME_PLACE, PARAMETER) == value
    assert len(parameters.history(world.cloud, HOME_PLACE, PARAMETER)) == 4


def test_a_change_whose_reply_was_lost_is_sent_again(world: World) -> None:
    world.paper.set(faults=[{"action": "AuthorizeSecurityGroupIngress", "nth": 1, "when": "after", "how": "drop"}])
    group = make_group(world)
    rules = world.raw("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
    assert len(rules) == 1, "a duplicate is no failure"


@pytest.mark.parametrize("name", STEPS)
def test_deleting_twice_and_what_is_gone_already(world: World, name: str) -> None:
    _, _, step = STEPS[name]
    prepare(world, step)
    step(world)
    kind = KIND_OF_STEP[name]
    if kind == "image":
        images.wait(world.ledger, HOME_PLACE, [world.journal.resources("image")[0].id])
    made = world.ledger.existing("step")
    assert made is not None
    world.ledger.delete_key("step")
    if kind == "instance":
        instances.wait_terminated(world.cloud, HOME_PLACE, [made])
    assert count(world, kind) == 0
    assert world.journal.resources(kind) == ()
    before = world.mark()
    world.ledger.delete_key("step")
    assert not world.mutations(before)


def test_an_image_goes_with_its_snapshots(world: World) -> None:
    image = make_image(world)
    images.wait(world.ledger, HOME_PLACE, [image])
    assert len(world.tagged("snapshot")) >= 1
    images.delete(world.ledger, HOME_PLACE, image)
    assert world.tagged("image") == {}
    assert world.tagged("snapshot") == {}
    before = world.mark()
    images.delete(world.ledger, HOME_PLACE, image)
    assert not world.mutations(before)


def test_a_process_that_dies_between_image_and_snapshots_leaves_a_journal_that_knows_them(world: World) -> None:
    image = make_image(world)
    images.wait(world.ledger, HOME_PLACE, [image])
    world.trap.record, world.trap.lost = "result", True
    with pytest.raises(Crash):
        images.delete(world.ledger, HOME_PLACE, image)
    world.restart()
    images.delete(world.ledger, HOME_PLACE, image)
    assert world.tagged("snapshot") == {}


# --- the guard ------------------------------------------------------------------------------------------------------


def test_a_mutation_without_an_intent_is_refused(world: World) -> None:
    before = world.mark()
    client = world.cloud.client("ec2", HOME_PLACE)
    with pytest.raises(UnjournaledMutation, match="ec2:CreateKeyPair"):
        client.create_key_pair(KeyName="x")
    with pytest.raises(UnjournaledMutation, match="ec2:CreateKeyPair"):
        world.cloud.call(HOME_PLACE, "ec2", "CreateKeyPair", {"KeyName": "x"})
    with pytest.raises(UnjournaledMutation):
        world.cloud.send(HOME_PLACE, "ec2", "CreateKeyPair", {"KeyName": "x"})
    assert not world.mutations(before)


def test_a_creating_call_without_the_id_of_its_catalog_is_refused(world: World) -> None:
    before = world.mark()
    client = world.cloud.client("ec2", HOME_PLACE)
    owner = [{"ResourceType": "key-pair", "Tags": [{"Key": tags.CATALOG, "Value": "fedcba9876543210"}]}]
    for more in ({}, {"TagSpecifications": owner}):
        with (
            permitted("ec2", "ImportKeyPair", "token", catalog=CATALOG),
            pytest.raises(UnjournaledMutation, match=f"without the id of its catalog, {CATALOG}"),
        ):
            client.import_key_pair(KeyName="x", PublicKeyMaterial=PUBLIC_KEY.encode(), **more)
    assert not world.mutations(before)


def test_a_journal_without_a_catalog_creates_nothing(world: World) -> None:
    """An earlier version of goldenami wrote it. What it created can still be deleted."""
    header = replace(world.journal.header, build_id=f"{BUILD}-earlier", data={})
    with Journal.create(world.builds, header, sync=lambda descriptor: None) as journal:
        before = world.mark()
        with pytest.raises(JournalError, match="has no id of a catalog"):
            make_ledger(journal).create("k", "key-pair", HOME_PLACE, Call("ec2", "ImportKeyPair", {"KeyName": "x"}))
        assert not world.mutations(before)
        assert journal.calls("key-pair") == ()


def test_every_kind_of_resource_names_its_owner(world: World) -> None:
    build(world.ledger)
    for place in (HOME_PLACE, HOME_WEST, APPS_PLACE):
        for kind in (kind for kind in KINDS.values() if kind.has_tags):
            for found in kind.tagged(world.cloud, place, tags.BUILD_ID, BUILD).values():
                own = found.tags
                assert (own[tags.CATALOG], own[tags.ENVIRONMENT]) == (CATALOG, "sandbox")
    arn = kms.resolve(world.cloud, HOME_WEST, "alias/golden-ami").arn
    (grant,) = kms.grants(world.cloud, HOME_WEST, arn)
    assert grant["Name"].startswith(f"goldenami-{CATALOG}-{BUILD}-")


def test_no_call_when_the_journal_cannot_be_written(world: World) -> None:
    world.journal.close()
    before = world.mark()
    with pytest.raises(JournalError):
        make_key_pair(world)
    assert not world.mutations(before)


def test_every_change_is_told(world: World) -> None:
    told: list[Any] = []
    ledger = make_ledger(world.journal, emit=told.append)
    keypairs.create(ledger, "k", HOME_PLACE, public_key=PUBLIC_KEY)
    (event,) = told
    assert event.kind == "cloud.call"
    assert (event.fields["action"], event.fields["account"]) == ("ImportKeyPair", HOME_PLACE.account)


def test_threads_share_a_ledger(world: World) -> None:
    """The same key from many threads makes one; different keys make one each."""
    with ThreadPoolExecutor(8) as pool:
        same = list(pool.map(lambda _: make_group(world), range(8)))
        names = [f"k/{n}" for n in range(8)]
        keys = list(pool.map(lambda n: keypairs.create(world.ledger, n, HOME_PLACE, public_key=PUBLIC_KEY), names))
    assert len(set(same)) == 1
    assert len(set(keys)) == 8
    assert count(world, "security-group") == 1
    assert count(world, "key-pair") == 8
