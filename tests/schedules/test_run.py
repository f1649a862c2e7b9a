"""Schedules that run: what plain clients see afterwards."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goldenami import recipe, task
from goldenami.aws import kms, volumes
from goldenami.aws.session import Cloud
from goldenami.cli.main import main
from goldenami.journal import Journals
from goldenami.model import Place
from goldenami.schedules.run import ScheduleRun, error_of, run
from goldenami.snapshots import encrypt, exchange, names
from tests.worlds.builds import APPS, HOME, Death, World

HOME_PLACE = Place(HOME, "eu-central-1")
WEST = Place(HOME, "eu-west-1")
MONDAY = datetime(2026, 11, 23, 2, 30, tzinfo=UTC)  # 03:30 in Berlin

PLAIN = """
    schedules:
      nightly:
        what: {volumes: {tags: {backup: nightly}}}
        when: "0 3 * * *"
        time_zone: Europe/Berlin
        retention: {keep: 5}
"""


def declare(world: World, text: str) -> None:
    file = world.path / "goldenami.yaml"
    file.write_text(file.read_text() + text.lstrip("\n"))
    world.project = recipe.load_project(world.path)
    world.environment = recipe.environment(world.project, "test")


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


def go(world: World, now: datetime, *, dry_run: bool = False) -> tuple[ScheduleRun, ...]:
    every = recipe.schedules(world.project, world.environment)
    return run(world.environment, every, now, dry_run=dry_run, cloud=world.cloud)


def volume(world: World, **tags: str) -> str:
    ec2 = world.client("ec2", HOME_PLACE)
    pairs = [{"Key": k, "Value": v} for k, v in tags.items()]
    specification = [{"ResourceType": "volume", "Tags": pairs}]
    id = ec2.create_volume(AvailabilityZone="eu-central-1a", Size=1, TagSpecifications=specification)["VolumeId"]
    settle(world)
    return str(id)


def settle(world: World) -> None:
    world.clock.sleep(30)
    world.behind.ec2.settle()


def instance(world: World, **tags: str) -> str:
    ec2 = world.client("ec2", HOME_PLACE)
    base = ec2.describe_images(Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])["Images"][0]["ImageId"]
    pairs = [{"Key": k, "Value": v} for k, v in tags.items()]
    made = ec2.run_instances(
        ImageId=base,
        MinCount=1,
        MaxCount=1,
        InstanceType="t3.small",
        TagSpecifications=[{"ResourceType": "instance", "Tags": pairs}],
        BlockDeviceMappings=[
            {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}},
            {"DeviceName": "/dev/sdg", "Ebs": {"VolumeSize": 1}},
        ],
    )
    settle(world)
    return str(made["Instances"][0]["InstanceId"])


def there(world: World, place: Place = HOME_PLACE) -> list[dict[str, Any]]:
    found = world.client("ec2", place).describe_snapshots(OwnerIds=["self"])["Snapshots"]
    for one in found:
        one["tags"] = {t["Key"]: t["Value"] for t in one.get("Tags", [])}
    return sorted(found, key=lambda s: (s["tags"].get("goldenami:slot", ""), s["SnapshotId"]))


def slots(world: World, place: Place = HOME_PLACE) -> list[str]:
    return [s["tags"]["goldenami:slot"] for s in there(world, place)]


def test_six_nights_the_sixth_removes_the_first(world: World) -> None:
    declare(world, PLAIN)
    saved, _ = volume(world, backup="nightly", team="web"), volume(world, backup="weekly")
    for night in range(5):
        go(world, MONDAY + timedelta(days=night))
        settle(world)
    assert slots(world) == [f"202611{day}T020000Z" for day in (23, 24, 25, 26, 27)]
    assert {s["VolumeId"] for s in there(world)} == {saved}
    (saturday,) = go(world, MONDAY + timedelta(days=5))
    assert slots(world) == [f"202611{day}T020000Z" for day in (24, 25, 26, 27, 28)]
    assert [made.saved.slot.day for made, _ in saturday.steps.deletions] == [23]
    tags = there(world)[-1]["tags"]
    assert tags["team"] == "web"
    assert tags["owner"] == "platform-team"
    assert tags["goldenami:schedule"] == "test/nightly"
    assert tags["goldenami:source"] == saved


def test_the_second_run_of_a_night_does_nothing_and_leaves_no_journal(world: World) -> None:
    declare(world, PLAIN)
    volume(world, backup="nightly")
    go(world, MONDAY)
    settle(world)
    before, journals = there(world), world.builds
    world.cloud.start_process()
    (again,) = go(world, MONDAY + timedelta(hours=5))
    assert not again.steps
    assert there(world) == before
    assert world.cloud.mutations == []
    assert world.builds == journals


def test_a_dry_run_changes_nothing(world: World) -> None:
    declare(world, PLAIN)
    volume(world, backup="nightly")
    world.cloud.start_process()
    (ran,) = go(world, MONDAY, dry_run=True)
    assert len(ran.steps.makes) == 1
    assert world.cloud.mutations == []
    assert world.builds == []


@pytest.mark.parametrize(("missed", "made"), [("latest", 2), ("each", 5), ("none", 1)])
def test_after_an_outage(world: World, missed: str, made: int) -> None:
    declare(world, PLAIN + f"        missed: {missed}\n")
    volume(world, backup="nightly")
    go(world, MONDAY)
    settle(world)
    go(world, MONDAY + timedelta(days=4, hours=6))
    assert len(slots(world)) == made


def test_two_runners_at_once_make_one(world: World) -> None:
    declare(world, PLAIN)
    for _ in range(3):
        volume(world, backup="nightly")
    outcomes: list[object] = []

    def runner() -> None:
        try:
            outcomes.append(go(world, MONDAY))
        except BaseException as error:
            outcomes.append(error)

    threads = [threading.Thread(target=runner) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert all(isinstance(outcome, tuple) for outcome in outcomes), outcomes
    assert len(there(world)) == 3


COPIED = """
    schedules:
      nightly:
        what: {volumes: {tags: {backup: nightly}}}
        when: "0 3 * * *"
        retention: {keep: 2}
        copies: [{region: eu-west-1, kms_key: alias/golden-ami, retention: {keep: 4}}]
        share: {accounts: [apps], unshare_after: 36h}
        fast_restore: {keep: 1, zones: [eu-central-1a]}
"""


def test_copies_shares_and_fast_restore(world: World) -> None:
    declare(world, COPIED)
    volume(world, backup="nightly")
    start = datetime(2026, 11, 23, 3, tzinfo=UTC)
    for night in range(6):
        ran = go(world, start + timedelta(days=night))
        assert error_of(ran) is None
        settle(world)
        go(world, start + timedelta(days=night, hours=2))
    assert slots(world) == ["20261127T030000Z", "20261128T030000Z"]
    copies = there(world, WEST)
    assert [c["tags"]["goldenami:slot"] for c in copies] == [f"202611{day}T030000Z" for day in (25, 26, 27, 28)]
    assert all(c["Encrypted"] for c in copies)
    ec2 = world.client("ec2", HOME_PLACE)
    friday, saturday = [s["SnapshotId"] for s in there(world)]
    running = [{"Name": "state", "Values": ["optimizing", "enabled"]}]
    fast = ec2.describe_fast_snapshot_restores(Filters=running)["FastSnapshotRestores"]
    assert [(f["SnapshotId"], f["AvailabilityZone"]) for f in fast] == [(saturday, "eu-central-1a")]

    def shared(id: str) -> list[str]:
        answer = ec2.describe_snapshot_attribute(SnapshotId=id, Attribute="createVolumePermission")
        return [p["UserId"] for p in answer["CreateVolumePermissions"]]

    assert (shared(friday), shared(saturday)) == ([APPS], [APPS])
    go(world, start + timedelta(days=5, hours=23))
    assert (shared(friday), shared(saturday)) == ([], [APPS])


def test_archived_when_old(world: World) -> None:
    declare(world, PLAIN + "        archive: {after: 2d}\n")
    volume(world, backup="nightly")
    for night in range(4):
        go(world, MONDAY + timedelta(days=night))
        settle(world)
    assert [s["StorageTier"] for s in there(world)] == ["archive", "archive", "standard", "standard"]


def test_an_encrypted_volume_is_not_copied_without_a_key(world: World) -> None:
    declare(world, COPIED.replace("kms_key: alias/golden-ami, ", ""))
    ec2 = world.client("ec2", HOME_PLACE)
    ec2.create_volume(
        AvailabilityZone="eu-central-1a",
        Size=1,
        Encrypted=True,
        KmsKeyId="alias/golden-ami",
        TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "backup", "Value": "nightly"}]}],
    )
    settle(world)
    ran = go(world, MONDAY)
    error = error_of(ran)
    assert error is not None
    assert error.exit_code == 6
    assert "has no kms_key" in next(iter(error.failures.values()))
    assert len(there(world)) == 1
    assert there(world, WEST) == []


def test_instances_all_volumes_at_one_moment(world: World) -> None:
    declare(
        world,
        PLAIN.replace(
            "{volumes: {tags: {backup: nightly}}}",
            "{instances: {tags: {role: db}, exclude_root: true, exclude_tags: {scratch: 'yes'}}}",
        ).replace("keep: 5", "keep: 2"),
    )
    id = instance(world, role="db")
    ec2 = world.client("ec2", HOME_PLACE)
    volumes = {
        a["Device"]: v["VolumeId"]
        for v in ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [id]}])["Volumes"]
        for a in v["Attachments"]
    }
    ec2.create_tags(Resources=[volumes["/dev/sdg"]], Tags=[{"Key": "scratch", "Value": "yes"}])
    for night in range(3):
        go(world, MONDAY + timedelta(days=night))
        settle(world)
    assert slots(world) == ["20261124T020000Z", "20261125T020000Z"]
    assert {s["VolumeId"] for s in there(world)} == {volumes["/dev/sdf"]}
    assert {s["tags"]["goldenami:source"] for s in there(world)} == {id}


def test_images_of_instances(world: World) -> None:
    declare(
        world,
        PLAIN.replace("{volumes: {tags: {backup: nightly}}}", "{instances: {tags: {role: db}}}").replace(
            "keep: 5", "keep: 1"
        )
        + "        make: images\n",
    )
    id = instance(world, role="db")
    for night in range(2):
        go(world, MONDAY + timedelta(days=night))
        settle(world)
    go(world, MONDAY + timedelta(days=1, hours=1))
    ec2 = world.client("ec2", HOME_PLACE)
    (image,) = ec2.describe_images(Owners=["self"])["Images"]
    assert image["Name"] == f"nightly-{id}-20261124T020000Z"
    behind = {m["Ebs"]["SnapshotId"] for m in image["BlockDeviceMappings"]}
    assert {s["SnapshotId"] for s in there(world)} == behind


def test_what_an_image_or_a_lock_needs_stays(world: World) -> None:
    declare(world, PLAIN.replace("keep: 5", "keep: 1"))
    volume(world, backup="nightly")
    ec2 = world.client("ec2", HOME_PLACE)
    go(world, MONDAY)
    settle(world)
    used = there(world)[0]["SnapshotId"]
    ec2.register_image(
        Name="mine",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": used}}],
    )
    go(world, MONDAY + timedelta(days=1))
    settle(world)
    locked = there(world)[1]["SnapshotId"]
    ec2.lock_snapshot(SnapshotId=locked, LockMode="governance", LockDuration=30)
    for night in (2, 3):
        (ran,) = go(world, MONDAY + timedelta(days=night))
        settle(world)
    assert [s["SnapshotId"] for s in there(world)][:2] == [used, locked]
    assert len(there(world)) == 3
    rules = {made.id: decision.rule for made, decision in ran.steps.decisions}
    assert "uses it" in rules[used]
    assert "it is locked (governance)" in rules[locked]


def test_a_place_that_does_not_answer_stops_no_other(world: World) -> None:
    declare(world, PLAIN + "        regions: [eu-central-1, eu-west-1]\n")
    volume(world, backup="nightly")
    refusal = {"code": "UnauthorizedOperation", "status": 403, "nth": 0}
    world.paper.set(faults=[{"action": "ec2:DescribeVolumes", "region": "eu-west-1", **refusal}])
    ran = go(world, MONDAY)
    error = error_of(ran)
    assert error is not None
    assert list(error.failures) == [f"nightly: {WEST}"]
    assert len(there(world)) == 1


# --- killed -----------------------------------------------------------------------------------------------------------


def scene(world: World) -> None:
    """The sixth night of two volumes, with copies: everything a run can do."""
    world.fresh()
    declare(world, COPIED)
    volume(world, backup="nightly")
    volume(world, backup="nightly")
    start = datetime(2026, 11, 23, 3, tzinfo=UTC)
    for night in range(3):
        go(world, start + timedelta(days=night))
        settle(world)
        go(world, start + timedelta(days=night, hours=1))
    settle(world)


NIGHT = datetime(2026, 11, 26, 3, 5, tzinfo=UTC)


def state(world: World) -> list[tuple[str, ...]]:
    """What is there, without ids: places, slots, volumes, sharing, fast restore."""
    lines = []
    for place in (HOME_PLACE, WEST):
        ec2 = world.client("ec2", place)
        running = [{"Name": "state", "Values": ["optimizing", "enabled"]}]
        restores = ec2.describe_fast_snapshot_restores(Filters=running)["FastSnapshotRestores"]
        fast = {f["SnapshotId"] for f in restores}
        volumes = sorted({s["tags"]["goldenami:source"] for s in there(world, place)})
        for s in there(world, place):
            answer = ec2.describe_snapshot_attribute(SnapshotId=s["SnapshotId"], Attribute="createVolumePermission")
            shared = [p["UserId"] for p in answer["CreateVolumePermissions"]]
            source = str(volumes.index(s["tags"]["goldenami:source"]))
            lines.append((str(place), s["tags"]["goldenami:slot"], source, str(shared), str(s["SnapshotId"] in fast)))
    return sorted(lines)


def test_killed_at_any_call_the_next_run_ends_in_the_same_state(
    world: World, whole: bool, record_property: Any
) -> None:
    def finish() -> list[tuple[str, ...]]:
        for hours in (0, 1):
            go(world, NIGHT + timedelta(hours=hours))
            settle(world)
        return state(world)

    scene(world)
    world.cloud.start_process()
    go(world, NIGHT)
    labels = list(world.cloud.mutations)
    assert {"CreateSnapshot", "CopySnapshot", "DeleteSnapshot"} <= {label.action for label in labels}
    settle(world)
    expected = finish()
    assert len(expected) == 2 * 2 + 2 * 4
    cases = [(label, when) for label in labels for when in ("before", "after")]
    for label, when in cases if whole else cases[::4]:
        scene(world)
        world.cloud.start_process(label, when)
        with pytest.raises(Death):
            go(world, NIGHT)
        settle(world)
        world.cloud.start_process()
        assert finish() == expected, f"killed {when} {label}"
        unfinished = Journals(world.path / ".goldenami/test/builds").unfinished()
        assert [s.build_id for s in unfinished] == []
    record_property("cases of killed schedule runs", len(cases) if whole else len(cases[::4]))


# --- the commands -----------------------------------------------------------------------------------------------------


def test_commands(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    declare(world, PLAIN)
    id = volume(world, backup="nightly")
    monkeypatch.chdir(world.path)
    assert main(["schedule", "run", "-e", "test", "--now", "2026-11-23T03:30+01:00", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "goldenami.schedule-run/1"
    (one,) = document["schedules"]
    assert [(m["source"], m["slot"]) for m in one["makes"]] == [(id, "2026-11-23T02:00:00Z")]
    assert one["makes"][0]["made"] == there(world)[0]["SnapshotId"]
    assert main(["schedule", "list", "-e", "test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schedules"][0]["retention"] == "the newest 5"
    assert main(["schedule", "show", "nightly", "-e", "test"]) == 0
    assert "kept: one of the newest 5 (the newest)" in capsys.readouterr().out
    assert main(["schedule", "next", "-e", "test", "--now", "2026-11-27T12:00Z", "--count", "1"]) == 0
    shown = capsys.readouterr().out
    assert "Sat 2026-11-28 03:00 +01:00  removes Mon 2026-11-23 03:00 +01:00" in shown
    assert main(["schedule", "run", "nigtly", "-e", "test"]) == 3
    assert main(["schedule", "run", "--now", "soon", "-e", "test"]) == 2


# --- volumes that are replaced, and what is left ----------------------------------------------------------------------


def encrypted(world: World, machine: str) -> dict[str, str]:
    """Encrypt the data volumes of an instance. Returns the old ids by the new ones."""
    place = HOME_PLACE
    found = names.instance(world.cloud, place, machine)
    attached = [v for v in volumes.of_instance(world.cloud, place, machine) if v.tags.get("backup")]
    key = kms.resolve(world.cloud, place, "alias/golden-ami").arn
    with task.run(world.environment, "volume encrypt", {}, cloud=world.cloud, undo=exchange.put_back) as job:
        done = encrypt.encrypt(job, place, found, attached, kms_key=key, verify="none")
    settle(world)
    return {one.new: one.old for one in done}


def test_retention_goes_on_in_the_volume_that_replaced_another_and_the_kept_one_is_in_no_schedule(world: World) -> None:
    declare(world, PLAIN)
    machine = instance(world, team="web")
    ec2 = world.client("ec2", HOME_PLACE)
    mapped = ec2.describe_instances(InstanceIds=[machine])["Reservations"][0]["Instances"][0]["BlockDeviceMappings"]
    data = next(m["Ebs"]["VolumeId"] for m in mapped if m["DeviceName"] == "/dev/sdf")
    ec2.create_tags(Resources=[data], Tags=[{"Key": "backup", "Value": "nightly"}])
    for night in range(3):
        go(world, MONDAY + timedelta(days=night))
        settle(world)
    ((new, old),) = encrypted(world, machine).items()
    assert old == data
    (same,) = go(world, MONDAY + timedelta(days=2))
    assert not same.steps  # the slot of the old volume is filled
    for night in range(3, 6):
        go(world, MONDAY + timedelta(days=night))
        settle(world)
    assert [s["VolumeId"] for s in there(world)] == [old, old, new, new, new]
    assert slots(world) == [f"202611{day}T020000Z" for day in (24, 25, 26, 27, 28)]


def test_a_policy_of_dlm_goes_on_with_the_new_volume_and_not_with_the_kept_one(world: World) -> None:
    """The policy is of somebody else, and its runs are the cloud's own."""
    machine = instance(world, team="web")
    ec2 = world.client("ec2", HOME_PLACE)
    (data, *_) = [v["VolumeId"] for v in ec2.describe_volumes()["Volumes"] if v["Size"] == 1]
    ec2.create_tags(Resources=[data], Tags=[{"Key": "backup", "Value": "nightly"}])
    rule = {"Name": "Daily", "CreateRule": {"Interval": 24, "IntervalUnit": "HOURS", "Times": ["03:00"]}}
    details = {
        "ResourceTypes": ["VOLUME"],
        "TargetTags": [{"Key": "backup", "Value": "nightly"}],
        "Schedules": [{**rule, "CopyTags": True, "RetainRule": {"Count": 9}}],
    }
    world.client("dlm", HOME_PLACE).create_lifecycle_policy(
        ExecutionRoleArn=f"arn:aws:iam::{HOME_PLACE.account}:role/dlm",
        Description="theirs",
        State="ENABLED",
        PolicyDetails=details,
    )

    def of_dlm() -> list[str]:
        for _ in range(2 * 24):  # a policy runs when the cloud is next asked for anything
            world.clock.sleep(3600)
            ec2.describe_snapshots(OwnerIds=["self"])
        return [s["VolumeId"] for s in there(world) if s["tags"].get("dlm:managed") == "true"]

    assert of_dlm() == [data, data]
    ((new, old),) = encrypted(world, machine).items()
    assert old == data
    made = of_dlm()
    assert (made.count(old), made.count(new)) == (2, 2)


def test_a_kept_volume_of_an_earlier_version_is_in_no_schedule(world: World) -> None:
    declare(world, PLAIN)
    volume(world, **{"backup": "nightly", "goldenami:kept-from": "i-0123456789abcdef0 /dev/sdf"})
    (run_now,) = go(world, MONDAY)
    assert not run_now.steps


def test_what_no_run_deletes_any_more_is_told_with_its_cost(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def left() -> list[dict[str, Any]]:
        monkeypatch.chdir(world.path)
        monkeypatch.setattr(Cloud, "of", lambda *_, **__: world.cloud)
        capsys.readouterr()
        assert main(["schedule", "left", "-e", "test", "--json"]) == 0
        return list(json.loads(capsys.readouterr().out)["left"])

    before = (world.path / "goldenami.yaml").read_text()
    declare(world, PLAIN)
    gone, stays = volume(world, backup="nightly"), volume(world, backup="nightly")
    go(world, MONDAY)
    settle(world)
    assert left() == []
    world.client("ec2", HOME_PLACE).delete_volume(VolumeId=gone)
    settle(world)
    (one,) = left()
    assert (one["source"], one["reason"]) == (gone, f"the volume {gone} does not exist any more")
    assert one["ids"] == [s["SnapshotId"] for s in there(world) if s["VolumeId"] == gone]
    assert one["newest_slot"] == "2026-11-23T02:00:00Z"
    assert one["monthly_cost_at_most"] == pytest.approx(one["full_size_bytes"] / 2**30 * 0.054, abs=0.02)
    (world.path / "goldenami.yaml").write_text(before)
    assert {(row["source"], row["reason"]) for row in left()} == {
        (source, "the schedule is not defined any more") for source in (gone, stays)
    }
