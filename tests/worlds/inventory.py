"""What is in the cloud, read where it is kept, and what of that a release owns; and decoys, for nobody to touch."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from goldenami_sandbox.cloud import Cloud
from goldenami_sandbox.ec2.context import Ctx
from goldenami_sandbox.surface import Surface

from goldenami.model import ImageManifest, Place
from tests.worlds.builds import APPS, CHANNEL, HOME, PLACES, RECIPE, World

HOME_PLACE = PLACES[0]
KEY = "alias/golden-ami"
Inventory = frozenset[str]


def take(world: World) -> Inventory:
    """Everything that costs money, opens a door or points somewhere, in every place of the build, as lines of text."""
    cloud = world.settled()  # what is being deleted is there for a moment
    return frozenset(line for place in PLACES for line in _take(cloud, place))


def _take(cloud: Cloud, place: Place) -> list[str]:
    context = Ctx(place.account, place.region, f"arn:aws:iam::{place.account}:root", "inventory")

    def ask(action: str, **params: Any) -> dict[str, Any]:
        return cloud.ec2.call(context, action, params)

    lines = []
    leaving = set()
    for reservation in ask("DescribeInstances")["Reservations"]:
        for instance in reservation["Instances"]:
            # One that is shutting down holds nothing back any more; its end needs nobody's help.
            if instance["State"]["Name"] not in ("terminated", "shutting-down"):
                lines.append(f"instance {instance['InstanceId']}")
            else:
                devices = (device["Ebs"] for device in instance["BlockDeviceMappings"])
                leaving |= {ebs["VolumeId"] for ebs in devices if ebs["DeleteOnTermination"]}
    lines += [f"volume {v['VolumeId']}" for v in ask("DescribeVolumes")["Volumes"] if v["VolumeId"] not in leaving]
    own = ask("DescribeImages", Owners=["self"], IncludeDeprecated=True, IncludeDisabled=True)["Images"]
    for image in own:
        id = image["ImageId"]
        lines.append(f"image {id}")
        # Whatever has the mark may be collected by anyone, one day: nothing that a release owns.
        lines += [f"image {id} is temporary" for t in image.get("Tags") or () if t["Key"] == "goldenami:expires-at"]
        answer = ask("DescribeImageAttribute", ImageId=id, Attribute="launchPermission")
        lines += [f"image {id} for {p['UserId']}" for p in answer["LaunchPermissions"]]
    for snapshot in ask("DescribeSnapshots", OwnerIds=["self"])["Snapshots"]:
        id = snapshot["SnapshotId"]
        marks = [t for t in snapshot.get("Tags") or () if t["Key"] == "goldenami:expires-at"]
        lines += [f"snapshot {id}", *(f"snapshot {id} is temporary" for _ in marks)]
        answer = ask("DescribeSnapshotAttribute", SnapshotId=id, Attribute="createVolumePermission")
        lines += [f"snapshot {id} for {p['UserId']}" for p in answer["CreateVolumePermissions"]]
    return [f"{place}: {line}" for line in lines + _in_moto(cloud.surface, place)]


def _in_moto(surface: Surface, place: Place) -> list[str]:
    """What the sandbox leaves to moto, as moto keeps it."""
    with surface.active():
        ec2, kms, ssm = (surface.backend(service, place.account, place.region) for service in ("ec2", "kms", "ssm"))
        lines = [f"key-pair {name}" for name in ec2.key_pairs]
        groups = [group for of_one_network in ec2.groups.values() for group in of_one_network.values()]
        lines += [f"security-group {group.id}" for group in groups if group.name != "default"]
        grants = [grant for key in kms.keys.values() for grant in key.grants.values()]
        lines += [f"grant {grant.name} to {grant.grantee_principal}" for grant in grants]
        for name, versions in dict.items(ssm._parameters):
            if name.startswith("/golden-ami"):
                lines.append(f"parameter {name} = {_value(name, versions[-1].value)}")
                marks = ssm.list_tags_for_resource("Parameter", name)
                lines += [f"parameter {name} is temporary" for key in marks if key == "goldenami:expires-at"]
        return lines


def owned(manifest: ImageManifest, *, channel: bool = True) -> Inventory:
    """What has to be there because of a release, and nothing more. ``channel``: the channel points to it."""
    lines = set()
    for row in manifest.images:
        place = Place(row.account, row.region)
        owner = Place(HOME, row.region) if row.mode == "share" else place
        lines.add(f"{owner}: image {row.image_id}")
        lines |= {f"{owner}: snapshot {s.snapshot_id}" for s in row.snapshots}
        if row.mode == "share":
            lines.add(f"{owner}: image {row.image_id} for {APPS}")
            lines |= {f"{owner}: snapshot {s.snapshot_id} for {APPS}" for s in row.snapshots}
            lines.add(f"{owner}: grant * to arn:aws:iam::{APPS}:root")
        prefix = f"{place}: parameter /golden-ami/{manifest.recipe}/{row.architecture}"
        lines.add(f"{prefix}/{manifest.version}/image-id = {row.image_id}")
        if channel:
            lines.add(f"{prefix}/{CHANNEL}/image-id = {row.image_id}")
            lines.add(f"{prefix}/{CHANNEL}/version = {manifest.version}")
            lines.add(f"{prefix}/{CHANNEL}/manifest = {manifest.version} {row.image_id}")
    return frozenset(lines)


def _value(name: str, value: str) -> str:
    """What the value of a parameter says, without the digest and the time in it."""
    if not name.endswith("/manifest"):
        return value
    facts = json.loads(value)
    return f"{facts['version']} {facts['image_id']}"


def difference(actual: Inventory, expected: Inventory, *, releases: int) -> list[str]:
    """What is there and should not be (+), and the other way round (-). A grant's name is the build's own affair, but
    there has to be one for each of the releases."""
    grants = [_nameless(line) for line in actual if ": grant " in line]
    actual = frozenset(_nameless(line) for line in actual)
    double = [f"+ {grants.count(g)} times: {g}" for g in sorted(set(grants)) if grants.count(g) != releases]
    return double + [f"+ {x}" for x in sorted(actual - expected)] + [f"- {x}" for x in sorted(expected - actual)]


def _nameless(line: str) -> str:
    head, grant, tail = line.partition(": grant ")
    return f"{head}{grant}* to {tail.partition(' to ')[2]}" if grant else line


def _key(world: World, place: Place) -> str:
    return str(world.client("kms", place).describe_key(KeyId=KEY)["KeyMetadata"]["Arn"])


# --- decoys -----------------------------------------------------------------------------------------------------------


def place_decoys(world: World, *, build_id: str = "20200101-000000-00000000", mark: str = "a") -> Inventory:
    """One of each kind, somebody else's, that look like the build's: its recipe, its names, an expiry in the past. With
    the ``build_id`` of the build itself they look as if somebody had copied tags, all but a token that fits. One set is
    in the home account and region, with all tags; a second one is in the other account and region, with some of them.

    Returns what the inventory has of them."""
    return world.remember(("decoys", build_id, mark), lambda: _place_decoys(world, build_id, mark))


def _place_decoys(world: World, build_id: str, mark: str) -> Inventory:
    known = _known(world)
    tags = {
        "Name": f"goldenami builder {RECIPE} 1.0.20200101.1",
        "goldenami:recipe": RECIPE,
        "goldenami:version": "1.0.20200101.1",
        "goldenami:build-id": build_id,
        "goldenami:token": "0" * 40,
        "goldenami:key": "builder/x86_64",
        "goldenami:expires-at": "2020-01-02T00:00:00Z",
    }
    _decoys(world, HOME_PLACE, tags, build_id, mark)
    # Tags are case-sensitive, as are their values; and an expiry alone says nothing of whose it is.
    partly = {
        "GoldenAMI:Build-Id": build_id,
        "goldenami:build-id": f"{build_id}-2",
        "goldenami:expires-at": "2020-01-02T00:00:00Z",
        "goldenami:recipe": RECIPE.upper(),
    }
    _decoys(world, PLACES[-1], partly, build_id, mark)
    made = _made_since(world, known)
    kinds = {line.split(": ")[1].split(" ")[0] for line in made}
    assert kinds == {"instance", "volume", "snapshot", "image", "key-pair", "security-group", "grant", "parameter"}
    return made


def place_copies(world: World) -> Inventory:
    """One of each kind, somebody else's, with all tags of a resource of ours of this kind, wherever there is one.

    Returns what the inventory has of them."""
    known = _known(world)
    for place in PLACES:
        ec2 = world.client("ec2", place)
        ours: dict[str, str] = {}
        for tag in ec2.describe_tags(Filters=[{"Name": "key", "Values": ["goldenami:proof"]}])["Tags"]:
            ours[tag["ResourceType"]] = tag["ResourceId"]
        if not ours:
            continue
        decoys = _decoys(world, place, {}, "20200101-000000-00000001", "c")
        for type, id in ours.items():
            if type in decoys:
                own = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [id]}])["Tags"]
                copied = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in own]
                ec2.create_tags(Resources=[decoys[type]], Tags=copied)
    # Whether a decoy is marked as temporary is not of interest.
    return _made_since(world, known)


class Known(NamedTuple):
    """What there is. ``ids``: also of what calls do not find yet. ``lines``: the inventory."""

    ids: frozenset[str]
    lines: Inventory


def _known(world: World) -> Known:
    store = world.settled().ec2._cloud.store
    return Known(frozenset({*store.instances, *store.volumes, *store.snapshots, *store.images}), take(world))


def _made_since(world: World, known: Known) -> Inventory:
    """What is new. What was there, and shows only now, is not: a resource, or a parameter with its id."""
    return frozenset(line for line in take(world) - known.lines if known.ids.isdisjoint(line.split()))


def _decoys(world: World, place: Place, tags: dict[str, str], build_id: str, mark: str) -> dict[str, str]:
    """Returns the ids, by the type that EC2 has for tags."""
    pairs = [{"Key": k, "Value": v} for k, v in tags.items()]
    ec2, kms, ssm = (world.client(service, place) for service in ("ec2", "kms", "ssm"))

    def tagged(*kinds: str) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": pairs} for kind in kinds] if pairs else []

    base = ec2.describe_images(Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])["Images"][0]["ImageId"]
    instance = ec2.run_instances(
        ImageId=base, MinCount=1, MaxCount=1, InstanceType="t3.small", TagSpecifications=tagged("instance", "volume")
    )["Instances"][0]["InstanceId"]
    volume = ec2.create_volume(AvailabilityZone=f"{place.region}a", Size=1, TagSpecifications=tagged("volume"))[
        "VolumeId"
    ]
    _until(lambda: ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available", world)
    snapshot = ec2.create_snapshot(VolumeId=volume, TagSpecifications=tagged("snapshot"))["SnapshotId"]
    _until(lambda: ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "completed", world)
    image = ec2.register_image(
        Name=f"{RECIPE}-1.0.20200101.1-x86_64-candidate-{build_id}-{mark}",
        Architecture="x86_64",
        RootDeviceName="/dev/xvda",
        VirtualizationType="hvm",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
        TagSpecifications=tagged("image"),
    )["ImageId"]
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": "333333333333"}]})
    key_pair = ec2.import_key_pair(
        KeyName=f"goldenami-{build_id}-{mark}", PublicKeyMaterial=_PUBLIC_KEY, TagSpecifications=tagged("key-pair")
    )["KeyPairId"]
    group = ec2.create_security_group(
        GroupName=f"goldenami-{build_id}-{mark}", Description="decoy", TagSpecifications=tagged("security-group")
    )["GroupId"]
    # A grant has nothing but its name; that of a build is the build's id and a token, so a decoy has another id.
    kms.create_grant(
        KeyId=_key(world, place),
        GranteePrincipal=f"arn:aws:iam::{APPS}:role/goldenami-publisher",
        Operations=["Decrypt"],
        Name=f"goldenami-20200101-000000-00000000-{mark}",
    )
    ssm.put_parameter(
        Name=f"/golden-ami/{RECIPE}/x86_64/decoy-{mark}/image-id", Value=instance, Type="String", Tags=pairs
    )
    return {
        "instance": instance,
        "volume": volume,
        "snapshot": snapshot,
        "image": image,
        "key-pair": key_pair,
        "security-group": group,
    }


def _until(done: Any, world: World) -> None:
    for _ in range(1000):
        if done():
            return
        world.clock.sleep(0.01)
    raise AssertionError("the cloud on paper did not get ready")


_PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkS3hoR6tPzWXHRrQ6L8JYdKEe3OYo5sMoC5nbvhsEZ decoy"
