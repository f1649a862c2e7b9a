"""Releases are brought to what their recipes declare now: access, tags, deprecation, targets and parameters."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError
from goldenami_sandbox.direct import Direct
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from goldenami import reconcile
from goldenami.errors import TargetsFailed
from goldenami.model import ImageManifest, ManifestImage, Place
from goldenami.release import consumers, rebuild, redistribute
from goldenami.release.difference import Difference
from goldenami.release.parameters import parameter_name
from goldenami.release.retention import Rules
from tests.worlds import distributing, retiring
from tests.worlds.builds import APPS, CHANNEL, HOME, PLACES, RECIPE, Death, Label, MortalCloud, Saved, World
from tests.worlds.distributing import drift
from tests.worlds.matrix import matrix
from tests.worlds.retiring import releases

THIRD = "333333333333"
ORGANIZATION = f"arn:aws:organizations::{HOME}:organization/o-abcdefghij"
SHARED = f', share: {{accounts: ["{THIRD}"], organizations: ["{ORGANIZATION}"]}}'


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


rewrite = partial(World.rewrite, name="recipes/web.yaml")


def distribute(world: World, manifest: ImageManifest, **more: Any) -> redistribute.Redistributed:
    return distributing.distribute(world, manifest, emit_to=world.events.append, **more)


def shown(difference: Difference) -> set[tuple[str, str, str | None, str | None]]:
    return {(change.kind, change.what, change.before, change.after) for change in difference.changes}


def test_a_release_is_in_sync_after_its_build(world: World) -> None:
    (only,) = releases(world, 1)
    world.forget()
    (found,) = drift(world)
    assert (found.changes, found.broken, found.kept, found.unreachable) == ((), (), (), {})
    done = distribute(world, only)
    assert (done.difference.in_sync, done.task_id, world.made()) == (True, None, [])


def test_accounts_and_organizations_come_and_go(world: World) -> None:
    (only,) = releases(world, 1)
    rewrite(world, "channel: stable}", f"channel: stable{SHARED}}}")
    world.forget()
    (found,) = drift(world)
    assert world.made() == []
    plan = distribute(world, only, dry_run=True)
    assert (plan.difference, world.made()) == (found, [])
    root = f"arn:aws:iam::{THIRD}:root"
    assert {(kind, what) for kind, what, before, after in shown(found) if kind != "record"} == {
        ("launch permission", THIRD), ("launch permission", ORGANIZATION), ("snapshot permission", THIRD),
        ("grant", root),
    }  # fmt: skip
    done = distribute(world, only)
    assert done.failures == {}
    assert drift(world)[0].in_sync
    world.forget()
    assert distribute(world, only).task_id is None
    assert world.made() == []
    row = next(r for r in done.manifest.images if r.account == HOME)
    assert set(row.shared_with) >= {THIRD, ORGANIZATION}
    (revision,) = done.manifest.revisions
    assert revision.task == done.task_id
    # taken out again
    rewrite(world, SHARED, "")
    again = distribute(world, only)
    assert drift(world)[0].in_sync
    for place in PLACES[:2]:
        ec2 = world.client("ec2", place)
        row = next(r for r in again.manifest.images if r.place == place)
        held = ec2.describe_image_attribute(ImageId=row.image_id, Attribute="launchPermission")["LaunchPermissions"]
        assert {p.get("UserId") for p in held} <= {APPS}
        key = row.snapshots[0].kms_key_id
        assert root not in {g["GranteePrincipal"] for g in world.client("kms", place).list_grants(KeyId=key)["Grants"]}


def test_drift_by_hand_is_reported_and_mended(world: World) -> None:
    first, second = releases(world, 2)
    row = next(r for r in second.images if r.place == PLACES[1])  # the home account's image that apps uses
    ec2, ssm = world.client("ec2", PLACES[1]), world.client("ssm", PLACES[1])
    permission = {"Remove": [{"UserId": APPS}], "Add": [{"UserId": THIRD}]}
    ec2.modify_image_attribute(ImageId=row.image_id, LaunchPermission=permission)
    ec2.disable_image_deprecation(ImageId=row.image_id)
    ec2.create_tags(Resources=[row.image_id], Tags=[{"Key": "owner", "Value": "me"}])
    name = parameter_name("/golden-ami", RECIPE, "x86_64", CHANNEL)
    old = next(r for r in first.images if r.place == PLACES[1])
    ssm.put_parameter(Name=name, Value=old.image_id, Type="String", DataType="aws:ec2:image", Overwrite=True)
    world.forget()
    (found,) = drift(world)
    assert shown(found) >= {
        ("launch permission", APPS, None, "allowed"),
        ("launch permission", THIRD, "allowed", None),
        ("tag", "owner", "me", "platform-team"),
        ("parameter", "", old.image_id, row.image_id),
    }
    assert [c.before for c in found.changes if c.kind == "deprecation"] == [None]
    assert len(found.changes) == 5, found.changes
    assert world.made() == []
    distribute(world, second)
    assert drift(world)[0].in_sync
    world.forget()
    distribute(world, second)
    assert world.made() == []


def test_a_new_target_gets_a_copy_without_a_build(world: World) -> None:
    rewrite(world, "channel: stable}", "channel: stable, targets: [home/eu-central-1]}")
    (only,) = releases(world, 1)
    assert len(only.images) == 1
    rewrite(world, ", targets: [home/eu-central-1]", "")
    world.forget()
    (found,) = drift(world)
    assert [c.kind for c in found.changes].count("image") == 3
    done = distribute(world, only)
    calls = world.made()
    assert (calls.count("CopyImage"), {"RunInstances", "CreateImage"} & set(calls)) == (2, set())
    assert drift(world)[0].in_sync
    world.forget()
    assert distribute(world, only).task_id is None
    assert world.made() == []
    assert {row.place for row in done.manifest.images} == set(PLACES)
    name = parameter_name("/golden-ami", RECIPE, "x86_64", CHANNEL)
    for row in done.manifest.images:
        assert world.client("ssm", row.place).get_parameter(Name=name)["Parameter"]["Value"] == row.image_id
        answer = world.client("ec2", row.place).run_instances(
            ImageId=row.image_id, InstanceType="t3.micro", MinCount=1, MaxCount=1
        )
        assert answer["Instances"][0]["ImageId"] == row.image_id
    assert world.journals.unfinished() == ()


# --- what was taken out -----------------------------------------------------------------------------------------------


def test_a_place_that_was_taken_out_is_kept_and_an_account_that_used_an_image_leaves(world: World) -> None:
    (only,) = releases(world, 1)
    rewrite(world, "channel: stable}", "channel: stable, targets: [home]}")
    (found,) = drift(world)
    (copied,) = [r for r in only.images if r.place == PLACES[2]]
    assert len(found.kept) == 1
    assert copied.image_id in found.kept[0]
    distribute(world, only)
    (after,) = drift(world)
    assert (after.in_sync, after.kept) == (True, found.kept)
    manifest = world.catalog.get(RECIPE, only.version)
    assert [r.place for r in manifest.images] == [PLACES[0], PLACES[1], PLACES[2]]
    (revision,) = manifest.revisions
    assert [r.place for r in revision.removed] == [PLACES[3]]
    ssm = world.client("ssm", PLACES[3])
    assert ssm.describe_parameters()["Parameters"] == [], "they would name an image that cannot be launched"
    assert len(world.client("ssm", PLACES[2]).describe_parameters()["Parameters"]) == 4
    with pytest.raises(ClientError, match="Not authorized for images"):
        launch(world, PLACES[3], revision.removed[0].image_id)
    assert launch(world, PLACES[2], copied.image_id)


def launch(world: World, place: Place, image_id: str) -> str:
    """Launch an image as a consumer does, and return the state of the instance."""
    ec2 = world.client("ec2", place)
    (made,) = ec2.run_instances(ImageId=image_id, InstanceType="t3.micro", MinCount=1, MaxCount=1)["Instances"]
    world.behind.settle()
    found = ec2.describe_instances(InstanceIds=[made["InstanceId"]])["Reservations"][0]["Instances"][0]
    return str(found["State"]["Name"])


STRANGER = "444444444444"
UNIT = f"arn:aws:organizations::{HOME}:ou/o-abcdefghij/ou-ab12-11111111"
REFUSALS = {"AuthFailure", "InvalidAMIID.NotFound", "InvalidSnapshot.NotFound", "AccessDeniedException"}
EVERYTHING = {"see the image", "launch", "see the snapshot", "make a volume", "copy the snapshot", "use the key"}


@pytest.fixture
def neighbours(build_world: World) -> Iterator[World]:
    """A cloud with two accounts that the environment does not name. One of them is in an organizational unit."""
    before = build_world.accounts
    build_world.accounts = {**before, "third": THIRD, "stranger": STRANGER}
    build_world.fresh()
    members = {STRANGER: "ou-ab12-11111111"}
    build_world.paper.set(organizations=[{"id": "o-abcdefghij", "management": HOME, "accounts": members}])
    yield build_world
    build_world.accounts = before
    build_world.fresh()


def able(world: World, place: Place, row: ManifestImage) -> set[str]:
    """What plain clients of an account can do with an image, its snapshot and their key."""
    ec2, kms = world.client("ec2", place), world.client("kms", place)
    (snapshot,) = row.snapshots
    data_key = {"KeyId": snapshot.kms_key_id, "KeySpec": "AES_256"}

    def see_snapshot() -> bool:
        return bool(ec2.describe_snapshots(SnapshotIds=[snapshot.snapshot_id])["Snapshots"])

    def make_volume() -> bool:
        zone = f"{place.region}a"
        id = ec2.create_volume(SnapshotId=snapshot.snapshot_id, AvailabilityZone=zone)["VolumeId"]
        world.behind.settle()
        return bool(ec2.describe_volumes(Filters=[{"Name": "volume-id", "Values": [id]}])["Volumes"])

    def copy_snapshot() -> bool:
        source = {"SourceSnapshotId": snapshot.snapshot_id, "SourceRegion": place.region}
        id = ec2.copy_snapshot(**source, Encrypted=True)["SnapshotId"]
        world.behind.settle()
        return bool(ec2.describe_snapshots(SnapshotIds=[id])["Snapshots"][0]["State"] == "completed")

    attempts: dict[str, Callable[[], bool]] = {
        "see the image": lambda: bool(ec2.describe_images(ImageIds=[row.image_id])["Images"]),
        "launch": lambda: launch(world, place, row.image_id) == "running",
        "see the snapshot": see_snapshot,
        "make a volume": make_volume,
        "copy the snapshot": copy_snapshot,
        "use the key": lambda: bool(kms.generate_data_key_without_plaintext(**data_key)),
    }
    found = set()
    for what, attempt in attempts.items():
        try:
            if attempt():
                found.add(what)
        except ClientError as error:
            if error.response["Error"]["Code"] not in REFUSALS:
                raise
    return found


def test_an_account_and_a_unit_that_are_taken_out_can_do_nothing(neighbours: World) -> None:
    world, place = neighbours, PLACES[0]
    shares = f', share: {{accounts: ["{THIRD}"], organizational_units: ["{UNIT}"]}}'
    rewrite(world, "channel: stable}", f"channel: stable{shares}}}")
    (only,) = releases(world, 1)
    row = next(r for r in only.images if r.place == place)
    kms = world.client("kms", place)
    key = str(row.snapshots[0].kms_key_id)
    policy = json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    policy["Statement"].append(consumers.policy_statement(UNIT))
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(policy))
    account, member = (Place(id, place.region) for id in (THIRD, STRANGER))
    assert able(world, account, row) == EVERYTHING
    assert able(world, member, row) == {"see the image", "launch", "use the key"}, "snapshots have no units"
    rewrite(world, shares, "")
    distribute(world, only)
    assert able(world, account, row) == set()
    assert able(world, member, row) == {"use the key"}, "by the policy, which is not goldenami's"
    assert drift(world)[0].in_sync


def test_a_target_that_is_taken_out_loses_its_parameters_and_the_grants_of_its_consumers(world: World) -> None:
    world.rewrite(
        "    tags: {owner",
        "    consumers: [{account: home, services: [autoscaling]}, {account: apps, services: [autoscaling]}]\n"
        "    tags: {owner",
    )
    old, only = releases(world, 2)
    row = next(r for r in only.images if r.place == PLACES[1])
    key = str(row.snapshots[0].kms_key_id)
    assert able(world, PLACES[3], row) == EVERYTHING
    assert {p.split(":")[4] for p in principals(world, PLACES[1], key)} == {HOME, APPS}
    rewrite(world, "channel: stable}", "channel: stable, targets: [home]}")
    distribute(world, only)
    assert able(world, PLACES[3], row) == {"use the key"}, "the older release is still shared with the account"
    assert len(world.client("ssm", PLACES[3]).describe_parameters()["Parameters"]) == 1, "of the older version"
    distribute(world, old)
    assert able(world, PLACES[3], row) == set()
    assert able(world, PLACES[3], next(r for r in old.images if r.place == PLACES[1])) == set()
    assert world.client("ssm", PLACES[3]).describe_parameters()["Parameters"] == []
    assert {p.split(":")[4] for p in principals(world, PLACES[1], key)} == {HOME}, "its service-linked role has none"
    assert drift(world)[0].in_sync
    world.forget()
    assert (distribute(world, only).task_id, world.made()) == (None, [])


def principals(world: World, place: Place, key: str) -> set[str]:
    return {grant["GranteePrincipal"] for grant in world.client("kms", place).list_grants(KeyId=key)["Grants"]}


def test_the_manifest_of_the_build_is_kept(world: World) -> None:
    (only,) = releases(world, 1)
    folder = world.path / ".goldenami/test/catalog"
    before = (folder / f"releases/{RECIPE}/{only.version}.json").read_bytes()
    rewrite(world, "channel: stable}", f"channel: stable{SHARED}}}")
    distribute(world, only)
    rewrite(world, SHARED, "")
    manifest = distribute(world, only).manifest
    assert (folder / f"originals/{RECIPE}/{only.version}.json").read_bytes() == before
    first, second = manifest.revisions
    assert first.access[0].after == second.access[0].before
    assert replace(manifest, images=only.images, revisions=()) == only


def test_a_retired_release_leaves_no_grant_of_its_tasks(world: World) -> None:
    rewrite(world, "channel: stable}", "channel: stable, targets: [home]}")
    (old,) = releases(world, 1)
    rewrite(world, ", targets: [home]", "")
    done = distribute(world, old)
    assert any(str(done.task_id) in name for name in grants(world, PLACES[1])), "apps uses the image there"
    releases(world, 2)
    retired = retiring.go(world, {RECIPE: Rules(keep=1)})
    assert {v.release.manifest.version: v.fate for v in retired.decisions}[old.version] == "delete"
    assert retired.left == {}
    assert not any(str(done.task_id) in name for name in grants(world, PLACES[1]))


def grants(world: World, place: Place) -> set[str]:
    kms = world.client("kms", place)
    key = kms.describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Arn"]
    return {grant["Name"] for grant in kms.list_grants(KeyId=key)["Grants"]}


def test_a_lost_catalog_gets_added_images_back(world: World) -> None:
    rewrite(world, "channel: stable}", "channel: stable, targets: [home]}")
    (only,) = releases(world, 1)
    rewrite(world, ", targets: [home]", "")
    manifest = distribute(world, only).manifest
    shutil.rmtree(world.path / ".goldenami/test/catalog")
    found = rebuild.find(world.cloud, world.environment, world.catalog, world.cloud.now())
    assert found.left_out == {}
    (restored,) = found.releases
    assert restored.images == manifest.images
    assert restored.build_id == only.build_id


# --- what cannot be mended --------------------------------------------------------------------------------------------


def test_what_is_lost_or_of_others_is_reported_and_the_rest_is_mended(world: World) -> None:
    (only,) = releases(world, 1)
    lost, other = (next(r for r in only.images if r.place == place) for place in (PLACES[0], PLACES[2]))
    world.client("ec2", lost.place).deregister_image(ImageId=lost.image_id)
    world.client("ec2", other.place).create_tags(
        Resources=[other.image_id],
        Tags=[{"Key": "goldenami:catalog", "Value": "0123456789abcdef"}, {"Key": "owner", "Value": "me"}],
    )
    name = parameter_name("/golden-ami", RECIPE, "x86_64", CHANNEL)
    ssm = world.client("ssm", PLACES[1])
    (base, *_) = world.client("ec2", PLACES[1]).describe_images(Owners=["136693071363"])["Images"]
    ssm.put_parameter(Name=name, Value=base["ImageId"], Type="String", DataType="aws:ec2:image", Overwrite=True)
    shared = next(r for r in only.images if r.place == PLACES[1])
    world.client("ec2", PLACES[1]).disable_image_deprecation(ImageId=shared.image_id)
    (found,) = drift(world)
    assert [change.kind for change in found.changes] == ["deprecation"]
    texts = "\n".join(found.broken)
    assert f"{lost.image_id} in {lost.place} does not exist any more" in texts
    assert f"{other.image_id} in {other.place} is of the catalog 0123456789abcdef" in texts
    assert f"{base['ImageId']}, which is not an image of this catalog" in texts
    world.forget()
    with pytest.raises(TargetsFailed) as caught:
        distribute(world, only)
    assert world.made() == ["EnableImageDeprecation"], "nothing else was touched"
    assert len(caught.value.failures) == 3
    assert drift(world)[0].changes == ()


def test_a_target_that_fails_does_not_stop_the_others(world: World) -> None:
    rewrite(world, "channel: stable}", "channel: stable, targets: [home/eu-central-1]}")
    (only,) = releases(world, 1)
    rewrite(world, ", targets: [home/eu-central-1]", "")

    def refuse(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if call.action == "CopyImage" and call.region == "eu-west-1":
            return call.error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
        return serve()

    world.gate.start(refuse)
    world.cloud.start_process()
    with pytest.raises(TargetsFailed) as caught:
        distribute(world, only)
    world.gate.stop()
    assert set(caught.value.failures) == {"home/eu-west-1", "apps/eu-west-1"}
    manifest = world.catalog.get(RECIPE, only.version)
    assert {row.place for row in manifest.images} == {PLACES[0], PLACES[2]}
    world.cloud.start_process()
    distribute(world, only)
    assert drift(world)[0].in_sync
    assert world.journals.unfinished() == ()


# --- three accounts, four regions -------------------------------------------------------------------------------------

REGIONS = ("eu-central-1", "eu-west-1", "us-east-1", "eu-north-1")
WIDE = f"""
environments:
  test:
    home: {{account: "{HOME}", region: eu-central-1}}
    network: {{source_cidr: 192.0.2.7/32}}
    accounts:
      apps: {{id: "{APPS}", role: "arn:aws:iam::{APPS}:role/goldenami-publisher"}}
      ml: {{id: "{THIRD}", role: "arn:aws:iam::{THIRD}:role/goldenami-publisher"}}
    targets:
      - {{account: home, regions: [{", ".join(REGIONS)}], kms_key: alias/golden-ami}}
      - {{account: apps, regions: [{", ".join(REGIONS)}], kms_key: alias/golden-ami}}
      - {{account: ml, regions: [{", ".join(REGIONS[:2])}], kms_key: alias/golden-ami}}
      - {{account: ml, regions: [{", ".join(REGIONS[2:])}], mode: share}}
    consumers:
      - {{account: home, services: [autoscaling]}}
      - {{account: apps, services: [autoscaling]}}
      - {{account: ml, services: [autoscaling]}}
    tags: {{owner: platform-team}}
    catalog: .goldenami/test/catalog
"""
EVERYWHERE = [Place(account, region) for account in (HOME, APPS, THIRD) for region in REGIONS]


@pytest.fixture
def wide(build_world: World) -> Iterator[World]:
    """A cloud with a third account, and keys in a fourth region."""
    before = build_world.accounts, build_world.cloud if hasattr(build_world, "cloud") else None
    build_world.accounts = {**build_world.accounts, "ml": THIRD}
    build_world.fresh()
    for place in EVERYWHERE:
        kms = build_world.client("kms", place)
        if "alias/golden-ami" not in {alias["AliasName"] for alias in kms.list_aliases()["Aliases"]}:
            key = kms.create_key()["KeyMetadata"]["KeyId"]
            kms.create_alias(AliasName="alias/golden-ami", TargetKeyId=key)
    (build_world.path / "goldenami.yaml").write_text(WIDE)
    rewrite(build_world, "channel: stable}", "channel: stable, targets: [home/eu-central-1]}")
    environment = build_world.environment
    direct = Direct(build_world.gate.serve)
    build_world.cloud = MortalCloud(build_world.clock, environment.accounts, environment.home_place, direct)
    yield build_world
    build_world.accounts = before[0]
    if before[1] is not None:
        build_world.cloud = before[1]
    build_world.fresh(new_process=before[1] is None)


def launched_by_a_group(world: World, place: Place, image_id: str) -> str:
    """Launch an image through Auto Scaling and its service-linked role. Returns the state of the instance."""
    ec2, groups = world.client("ec2", place), world.client("autoscaling", place)
    data = {"ImageId": image_id, "InstanceType": "t3.small"}
    template = ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)["LaunchTemplate"]
    groups.create_auto_scaling_group(
        AutoScalingGroupName="web",
        MinSize=0,
        MaxSize=1,
        AvailabilityZones=[f"{place.region}a"],
        LaunchTemplate={"LaunchTemplateId": template["LaunchTemplateId"], "Version": "$Latest"},
    )
    groups.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=1)
    world.behind.settle()
    found = ec2.describe_instances(Filters=[{"Name": "tag:aws:autoscaling:groupName", "Values": ["web"]}])
    (instance,) = (i for r in found["Reservations"] for i in r["Instances"])
    return str(instance["State"]["Name"])


def test_every_account_launches_the_image_in_every_region_and_one_that_is_taken_out_cannot(wide: World) -> None:
    (only,) = releases(wide, 1)
    assert len(only.images) == 1
    rewrite(wide, ", targets: [home/eu-central-1]", "")
    wide.forget()
    done = distribute(wide, only)
    calls = wide.made()
    assert (calls.count("CopyImage"), calls.count("RunInstances"), calls.count("CreateImage")) == (9, 0, 0)
    images = {row.place: row.image_id for row in done.manifest.images}
    assert set(images) == set(EVERYWHERE)
    for place, image_id in images.items():
        assert launch(wide, place, image_id) == "running", place
        assert launched_by_a_group(wide, place, image_id) == "running", place
    wide.forget()
    assert distribute(wide, only).task_id is None
    assert wide.made() == []
    text = (wide.path / "goldenami.yaml").read_text().splitlines()
    kept = [line for line in text if "{account: ml" not in line]
    (wide.path / "goldenami.yaml").write_text("\n".join(kept) + "\n")
    rewrite(wide, "channel: stable}", "channel: stable}")
    distribute(wide, only)
    assert drift(wide)[0].in_sync
    for region in REGIONS[2:]:
        with pytest.raises(ClientError, match="Not authorized for images"):
            launch(wide, Place(THIRD, region), images[Place(THIRD, region)])
    for region in REGIONS[:2]:  # its own images
        assert launch(wide, Place(THIRD, region), images[Place(THIRD, region)]) == "running"


# --- killed at any call -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Before:
    """A release whose declaration has changed since, the calls that make the difference, and what is there then."""

    saved: Saved
    version: str
    calls: tuple[Label, ...]
    there: frozenset[str]


@pytest.fixture(scope="module")
def before(build_world: World) -> Before:
    world = build_world
    world.fresh()
    text = (world.path / "recipes/web.yaml").read_text()
    rewrite(world, "channel: stable}", "channel: stable, targets: [home], share: {accounts: ['444444444444']}}")
    (only,) = releases(world, 1)
    (world.path / "recipes/web.yaml").write_text(text.replace("channel: stable}", f"channel: stable{SHARED}}}"))
    rewrite(world, "deprecate_after: 90d", "deprecate_after: 60d")
    saved = world.save()
    world.cloud.start_process()
    distribute(world, only)
    calls = tuple(sorted(set(world.cloud.mutations)))
    return Before(saved, only.version, calls, everything(world))


def everything(world: World) -> frozenset[str]:
    """Who owns how many images and snapshots, who may use them, which parameters and which grants are there."""
    found: list[str] = []
    for place in PLACES:
        ec2, kms = world.client("ec2", place), world.client("kms", place)
        for image in ec2.describe_images(Owners=["self"])["Images"]:
            name, tags = image["Name"], {t["Key"] for t in image["Tags"]}
            held = ec2.describe_image_attribute(ImageId=image["ImageId"], Attribute="launchPermission")
            users = sorted(p.get("UserId") or p["OrganizationArn"] for p in held["LaunchPermissions"])
            found.append(f"{place} image {name} {users} {image['DeprecationTime']} {'goldenami:expires-at' in tags}")
            for device in image["BlockDeviceMappings"]:
                attribute = {"SnapshotId": device["Ebs"]["SnapshotId"], "Attribute": "createVolumePermission"}
                shared = ec2.describe_snapshot_attribute(**attribute)["CreateVolumePermissions"]
                found.append(f"{place} snapshot of {name} {sorted(p['UserId'] for p in shared)}")
        own = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
        found.append(f"{place} {len(own)} snapshots")
        names = [p["Name"] for p in world.client("ssm", place).describe_parameters()["Parameters"]]
        found.append(f"{place} {sorted(names)}")
        key = kms.describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Arn"]
        found.append(f"{place} {sorted(g['GranteePrincipal'] for g in kms.list_grants(KeyId=key)['Grants'])}")
    return frozenset(found)


MOMENTS = 31  # spread over the calls, of which there are about as many
KILLS = tuple(itertools.product(range(MOMENTS), ("before", "after"), ("resume", "again", "clean")))


@matrix("at, when, then", KILLS, every=47)
def test_killed_at_any_call(build_world: World, before: Before, at: int, when: str, then: str) -> None:
    kill(build_world, before, before.calls[at * len(before.calls) // MOMENTS], when, then)


def test_killed_before_the_mark_of_what_is_temporary_is_removed(build_world: World, before: Before) -> None:
    label = Label("ec2", "DeleteTags", APPS, "eu-central-1", 1)
    assert label in before.calls
    kill(build_world, before, label, "before", "again")


def test_a_cleaned_task_keeps_its_grants_only_if_the_manifest_names_it(world: World) -> None:
    rewrite(world, "channel: stable}", "channel: stable, targets: [home]}")
    (only,) = releases(world, 1)
    rewrite(world, ", targets: [home]", "")
    done = distribute(world, only)
    assert done.task_id is not None
    with world.journals.open(done.task_id) as journal:
        made = {r.id for r in journal.resources() if r.kind == "grant" and not r.key.startswith(reconcile.TEMPORARY)}
        assert made
        assert made <= redistribute.kept(journal, done.manifest)
        assert not made & redistribute.kept(journal, only), "no later run would find and revoke them"


def test_what_a_killed_task_did_not_delete_is_deleted_by_its_resume(world: World) -> None:
    """The parameters of an account that is informed are those of the release's build, and not of the task's."""
    place = PLACES[3]
    world.rewrite('goldenami-publisher"}', 'goldenami-publisher", parameters: true}')
    world.rewrite("      - {account: apps, regions: [eu-west-1], mode: share}\n", "")
    distributing.declare(world, "share: {accounts: [apps]}")
    (only,) = releases(world, 1)
    ssm = world.client("ssm", place)
    assert len(ssm.describe_parameters()["Parameters"]) == 4
    distributing.declare(world, "")
    world.cloud.start_process(Label("ssm", "DeleteParameter", place.account, place.region, 1), "before")
    with pytest.raises(Death):
        distribute(world, only)
    (left,) = world.journals.unfinished()
    assert world.resume(left.build_id).status == "distributed"
    assert ssm.describe_parameters()["Parameters"] == []
    assert drift(world)[0].in_sync


def kill(world: World, before: Before, label: Label, when: str, then: str) -> None:
    """Kill the process at a call, go on, and compare what is there with what is there without the death."""
    world.fresh(saved=before.saved)
    world.events = []
    only = world.catalog.get(RECIPE, before.version)
    world.cloud.start_process(label, when)
    with pytest.raises(Death):
        distribute(world, only)
    (left,) = world.journals.unfinished()
    if then == "resume":
        assert world.resume(left.build_id).status == "distributed"
    elif then == "clean":
        assert world.clean(left.build_id).complete
    world.cloud.start_process()
    if then != "resume":
        distribute(world, only)
    assert drift(world)[0].in_sync
    assert world.journals.unfinished() == ()
    assert everything(world) == before.there
    world.forget()
    distribute(world, only)
    assert world.made() == []
