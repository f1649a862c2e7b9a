"""Each verb of ``goldenami snapshot``, by plain boto3's account of the world afterwards."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from goldenami.cli.tasks import parse_time
from goldenami.errors import UsageError
from goldenami.journal import Journals
from goldenami.snapshots.listing import age
from tests.worlds.builds import APPS, HOME
from tests.worlds.volumes import APPS_PLACE, HOME_PLACE, WEST, Estate, tags_of

# --- create, list, show -----------------------------------------------------------------------------------------------


def test_create_of_a_volume(estate: Estate) -> None:
    answer = estate.run("snapshot", "create", estate.data, "--name", "before-upgrade")
    (one,) = answer["snapshots"]
    found = estate.snapshots()[one["id"]]
    assert (found["VolumeId"], found["State"]) == (estate.data, "completed")
    tags = tags_of(found)
    assert (tags["Name"], tags["goldenami:task"], tags["owner"]) == (
        "before-upgrade",
        "snapshot create",
        "platform-team",
    )
    assert answer["task"] == tags["goldenami:build-id"]
    assert answer["schema"] == "goldenami.snapshots/1"


def test_create_of_an_instance_by_name_is_one_call_for_all_volumes(estate: Estate) -> None:
    answer = estate.run("snapshot", "create", "web-1", "--name", "nightly")
    assert {s["volume"] for s in answer["snapshots"]} == {estate.root, estate.data}
    assert [c["action"] for c in estate.world.paper.calls if c["action"].startswith("CreateSnapshot")] == [
        "CreateSnapshots"
    ]
    tokens = {tags_of(s)["goldenami:token"] for s in estate.snapshots().values()}
    assert len(tokens) == 1
    only_data = estate.run("snapshot", "create", estate.instance, "--name", "data", "--exclude-root")
    assert [s["volume"] for s in only_data["snapshots"]] == [estate.data]


def test_a_done_task_keeps_what_it_made_and_a_clean_does_not_touch_it(estate: Estate) -> None:
    answer = estate.run("snapshot", "create", estate.instance, "--name", "nightly")
    assert estate.try_("clean", answer["task"])[0] == 0
    assert set(estate.snapshots()) == {s["id"] for s in answer["snapshots"]}


def test_list_and_its_filters(estate: Estate) -> None:
    first = estate.snapshot(estate.root, "a")
    second = estate.snapshot(estate.data, "b")

    def ids(*arguments: str) -> list[str]:
        return [s["id"] for s in estate.run("snapshot", "list", *arguments)["snapshots"]]

    assert ids() == [first, second]
    assert ids("--name", "b*") == [second]
    assert ids("--volume", estate.root) == [first]
    assert ids("--volume", "web-data") == [second]
    assert ids("--instance", "web-1") == [first, second]
    assert ids("--encrypted") == []
    assert ids("--since", "1h") == [first, second]
    assert ids("--until", "1h") == []
    assert ids("--region", "eu-west-1") == []
    code, out, _ = estate.try_("snapshot", "list")
    assert code == 0
    assert "2 GiB" in out
    assert estate.try_("snapshot", "list", "--since", "yesterday")[0] == 2


def test_show_says_who_uses_it(estate: Estate) -> None:
    image = estate.ec2().create_image(InstanceId=estate.instance, Name="web-image", NoReboot=True)["ImageId"]
    estate.settle()
    snapshot = next(iter(estate.snapshots()))
    estate.ec2().lock_snapshot(SnapshotId=snapshot, LockMode="governance", LockDuration=1)
    (one,) = estate.run("snapshot", "show", snapshot)["snapshots"]
    assert (one["images"], one["lock"]["state"], one["shared_with"]) == ([image], "governance", [])
    assert "governance" in estate.try_("snapshot", "show", snapshot)[1]


def test_a_name_of_two_snapshots_is_refused_with_both_ids(estate: Estate) -> None:
    both = [estate.snapshot(estate.root, "twice"), estate.snapshot(estate.data, "twice")]
    code, _, err = estate.try_("snapshot", "show", "twice")
    assert code == 2
    assert all(id in err.replace("\n", "") for id in both)
    assert estate.try_("snapshot", "delete", "twice", "--yes")[0] == 2
    assert set(estate.snapshots()) == set(both)
    code, _, err = estate.try_("snapshot", "delete", "nothing-of-that-name", "--yes")
    assert code == 3


def test_volumes_are_named_by_their_name_tags_everywhere(estate: Estate) -> None:
    made = estate.run("snapshot", "create", "web-data", "--name", "by-name")["snapshots"]
    assert [s["volume"] for s in made] == [estate.data]
    made = estate.run("snapshot", "create", "web-1", "--name", "without", "--exclude", "web-data")["snapshots"]
    assert [s["volume"] for s in made] == [estate.root]
    for where in ((), ("--region", "eu-central-1")):
        (one,) = estate.run("snapshot", "lineage", "web-data", *where)["lineages"]
        assert [s["volume_id"] for s in one["snapshots"]] == [estate.data]
    estate.ec2().create_tags(Resources=[estate.data], Tags=[{"Key": "Name", "Value": "web-1"}])
    code, _, err = estate.try_("snapshot", "create", "web-1", "--name", "either")
    assert (code, f"of the volume {estate.data} and of the instance {estate.instance}" in " ".join(err.split())) == (
        2,
        True,
    )


@pytest.mark.parametrize("name", ["*", "web*", "before-upgrad?", "\\*"])
def test_a_name_is_never_a_pattern(estate: Estate, name: str) -> None:
    snapshot = estate.snapshot(estate.data, "before-upgrade")
    for command in (
        ("snapshot", "show", name),
        ("snapshot", "delete", name, "--yes"),
        ("snapshot", "restore", "web-1", "--to", name, "--yes"),
        ("snapshot", "create", name, "--name", "x"),
        ("volume", "encrypt", name, "--yes"),
        ("volume", "forget", name, "--yes"),
    ):
        assert estate.try_(*command)[0] == 3, command
    assert list(estate.snapshots()) == [snapshot]
    assert estate.run("snapshot", "list", "--tag", f"Name={name}")["snapshots"] == []


def test_a_name_with_a_star_is_found(estate: Estate) -> None:
    snapshot = estate.snapshot(estate.data, "a*b?c\\d")
    estate.snapshot(estate.data, "a-b-c-d")
    assert [s["id"] for s in estate.run("snapshot", "show", "a*b?c\\d")["snapshots"]] == [snapshot]


def test_a_time_without_an_offset_is_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert parse_time("2026-11-24T03:00") == datetime(2026, 11, 24, 3, tzinfo=UTC)
        assert parse_time("2026-11-24T03:00+01:00") == datetime(2026, 11, 24, 2, tzinfo=UTC)
        assert abs(parse_time("2w") - datetime.now(UTC) + timedelta(weeks=2)) < timedelta(minutes=1)
    finally:
        monkeypatch.undo()
        time.tzset()
    for wrong in ("yesterday", "9999999999999d", "999999w", "2026-13-01"):
        with pytest.raises(UsageError, match="expected a time"):
            parse_time(wrong)


# --- of another account -----------------------------------------------------------------------------------------------


def test_a_shared_snapshot_is_shown_copied_and_made_a_volume_of(estate: Estate) -> None:
    ec2 = estate.ec2(APPS_PLACE)
    volume = ec2.create_volume(AvailabilityZone="eu-central-1a", Size=1)["VolumeId"]
    estate.settle()
    tag = [{"ResourceType": "snapshot", "Tags": [{"Key": "Name", "Value": "of-apps"}]}]
    theirs = ec2.create_snapshot(VolumeId=volume, TagSpecifications=tag)["SnapshotId"]
    estate.settle()
    assert estate.try_("snapshot", "show", theirs)[0] == 3
    for permission in ({"UserIds": [HOME]}, {"GroupNames": ["all"]}):
        ec2.modify_snapshot_attribute(
            SnapshotId=theirs, Attribute="createVolumePermission", OperationType="add", **permission
        )
        (shown,) = estate.run("snapshot", "show", theirs)["snapshots"]
        assert (shown["id"], shown["owner"], shown["size_gib"], shown["shared_with"]) == (theirs, APPS, 1, [])
        (copied,) = estate.run("snapshot", "copy", theirs, "--kms-key", "alias/golden-ami")["snapshots"]
        assert estate.snapshots()[copied["id"]]["Encrypted"]
        made = estate.run("snapshot", "volume", theirs, "--zone", "eu-central-1a")["id"]
        assert estate.volumes()[made]["SnapshotId"] == theirs
        name = f"of-{'one' if 'UserIds' in permission else 'all'}"
        register = ("snapshot", "register", theirs, "--name", name, "--architecture", "x86_64")
        before = set(estate.snapshots())
        code, _, err = estate.try_(*register)
        assert (code, set(estate.snapshots())) == (2, before)
        assert f"{theirs} belongs to account {APPS}, and EC2 registers only own snapshots" in err
        assert "--copy" in err
        image = estate.run(*register, "--copy", "--kms-key", "alias/golden-ami")["id"]
        (described,) = estate.ec2().describe_images(ImageIds=[image])["Images"]
        (mapping,) = described["BlockDeviceMappings"]
        (own,) = set(estate.snapshots()) - before
        assert (mapping["Ebs"]["SnapshotId"], mapping["Ebs"]["Encrypted"]) == (own, True)
        ec2.modify_snapshot_attribute(
            SnapshotId=theirs, Attribute="createVolumePermission", OperationType="remove", **permission
        )
    ec2.modify_snapshot_attribute(
        SnapshotId=theirs, Attribute="createVolumePermission", OperationType="add", UserIds=[HOME]
    )
    code, _, err = estate.try_("snapshot", "copy", theirs, "--to-account", "apps")
    assert (code, "belongs to another account" in err) == (2, True)
    for verb in (("delete", theirs, "--yes"), ("share", theirs, "--with", "apps"), ("lock", theirs, "--days", "1")):
        assert estate.try_("snapshot", *verb)[0] == 3
    assert theirs in estate.snapshots(APPS_PLACE)


# --- copy -------------------------------------------------------------------------------------------------------------


def test_copy_many_into_a_region_encrypted(estate: Estate) -> None:
    sources = [estate.snapshot(estate.root, "a"), estate.snapshot(estate.data, "b")]
    answer = estate.run("snapshot", "copy", *sources, "--to-region", "eu-west-1", "--encrypt")
    found = estate.snapshots(WEST)
    assert {s["id"]: s["source"] for s in answer["snapshots"]} == {
        id: tags_of(s)["goldenami:source-snapshot"].rpartition("/")[2] for id, s in found.items()
    }
    assert {tags_of(s)["Name"] for s in found.values()} == {"a", "b"}
    assert all(s["Encrypted"] and s["KmsKeyId"] == estate.key(WEST) for s in found.values())


def test_copy_into_another_account_lends_the_source_and_takes_it_back(estate: Estate) -> None:
    plain = estate.snapshot(estate.root, "a")
    locked = estate.run("snapshot", "copy", plain, "--kms-key", "alias/golden-ami", "--name", "sealed")["snapshots"][0]
    answer = estate.run("snapshot", "copy", locked["id"], "--to-account", "apps", "--kms-key", "alias/golden-ami")
    copied = estate.snapshots(APPS_PLACE)[answer["snapshots"][0]["id"]]
    assert (copied["OwnerId"], copied["State"], copied["KmsKeyId"]) == (APPS, "completed", estate.key(APPS_PLACE))
    assert estate.shared_with(locked["id"]) == set()
    assert estate.world.client("kms", HOME_PLACE).list_grants(KeyId=estate.key())["Grants"] == []


def test_an_encrypted_source_needs_a_key(estate: Estate) -> None:
    sealed = estate.run("snapshot", "copy", estate.snapshot(), "--kms-key", "alias/golden-ami")["snapshots"][0]["id"]
    code, _, err = estate.try_("snapshot", "copy", sealed, "--to-region", "eu-west-1")
    assert code == 2
    assert "--kms-key is missing" in err
    assert estate.snapshots(WEST) == {}
    assert estate.try_("snapshot", "copy", sealed, "--to-region", "eu-west-1", "--kms-key", "alias/none")[0] == 3


def test_a_copy_that_fails_leaves_the_good_ones(estate: Estate) -> None:
    sources = [estate.snapshot(estate.root, "a"), estate.snapshot(estate.data, "b")]
    estate.world.paper.set(
        faults=[{"action": "ec2:CopySnapshot", "nth": 2, "how": "error", "code": "InvalidRequest", "status": 400}]
    )
    code, _, _ = estate.try_("snapshot", "copy", *sources, "--to-region", "eu-west-1")
    assert code == 6
    assert len(estate.snapshots(WEST)) == 1
    (task,) = Journals(Path(estate.world.environment.builds)).list()
    assert task.ending == "failed"
    assert estate.try_("clean", task.build_id)[0] == 0
    assert len(estate.snapshots(WEST)) == 1


# --- share ------------------------------------------------------------------------------------------------------------


def test_share_and_unshare(estate: Estate) -> None:
    snapshot = estate.snapshot()
    answer = estate.run("snapshot", "share", snapshot, "--with", "apps", "--with", "333333333333")
    assert estate.shared_with(snapshot) == {APPS, "333333333333"}
    assert answer["snapshots"][0]["shared_with"] == [APPS, "333333333333"]
    estate.run("snapshot", "unshare", snapshot, "--with", "333333333333")
    assert estate.shared_with(snapshot) == {APPS}


def test_an_encrypted_one_is_shared_with_a_grant_so_that_it_can_be_used(estate: Estate) -> None:
    sealed = estate.run("snapshot", "copy", estate.snapshot(), "--kms-key", "alias/golden-ami")["snapshots"][0]["id"]
    estate.run("snapshot", "share", sealed, "--with", "apps")
    made = estate.ec2(APPS_PLACE).create_volume(SnapshotId=sealed, AvailabilityZone="eu-central-1a")["VolumeId"]
    estate.settle()
    (volume,) = estate.ec2(APPS_PLACE).describe_volumes(VolumeIds=[made])["Volumes"]
    assert volume["State"] == "available"


def test_what_the_default_key_encrypts_cannot_be_shared(estate: Estate) -> None:
    sealed = estate.run("snapshot", "copy", estate.snapshot(), "--kms-key", "alias/aws/ebs")["snapshots"][0]["id"]
    code, _, err = estate.try_("snapshot", "share", sealed, "--with", "apps")
    assert code == 2
    assert "default key" in err
    assert "snapshot copy" in err
    assert estate.try_("snapshot", "copy", sealed, "--to-account", "apps", "--kms-key", "alias/golden-ami")[0] == 2
    assert estate.shared_with(sealed) == set()


def test_make_public_asks_and_explains_the_effect(estate: Estate) -> None:
    snapshot = estate.snapshot()
    code, _, err = estate.try_("snapshot", "make-public", snapshot)
    assert code == 2
    assert "Every AWS account will be able to read" in err
    assert "--yes" in err
    assert estate.shared_with(snapshot) == set()
    estate.run("snapshot", "make-public", snapshot, "--yes")
    assert estate.shared_with(snapshot) == {"all"}
    estate.run("snapshot", "make-private", snapshot)
    assert estate.shared_with(snapshot) == set()
    estate.ec2().enable_snapshot_block_public_access(State="block-new-sharing")
    code, _, err = estate.try_("snapshot", "make-public", snapshot, "--yes")
    assert (code, "blocks public snapshots" in err) == (2, True)
    sealed = estate.run("snapshot", "copy", snapshot, "--kms-key", "alias/golden-ami")["snapshots"][0]["id"]
    code, _, err = estate.try_("snapshot", "make-public", sealed, "--yes")
    assert (code, "cannot be public" in err) == (2, True)


# --- volumes and images -----------------------------------------------------------------------------------------------


def test_a_volume_encrypted_and_attached(estate: Estate) -> None:
    snapshot = estate.snapshot(estate.data, "data")
    answer = estate.run(
        "snapshot", "volume", snapshot, "--attach", "web-1", "--kms-key", "alias/golden-ami", "--size", "3"
    )
    volume = estate.volumes()[answer["id"]]
    assert (volume["Size"], volume["Encrypted"], volume["KmsKeyId"]) == (3, True, estate.key())
    # /dev/sdf is taken by the data volume
    assert estate.attached()["/dev/sdg"] == answer["id"]
    assert estate.try_("snapshot", "volume", snapshot)[0] == 2
    assert estate.run("snapshot", "volume", snapshot, "--zone", "eu-central-1b")["zone"] == "eu-central-1b"


def test_register_and_image(estate: Estate) -> None:
    snapshot = estate.snapshot(estate.root)
    answer = estate.run(
        "snapshot",
        "register",
        snapshot,
        "--name",
        "from-root",
        "--architecture",
        "x86_64",
        "--boot-mode",
        "uefi-preferred",
    )
    (image,) = estate.ec2().describe_images(ImageIds=[answer["id"]])["Images"]
    assert (image["Architecture"], image["BootMode"], image["ImdsSupport"], image["EnaSupport"]) == (
        "x86_64",
        "uefi-preferred",
        "v2.0",
        True,
    )
    assert image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"] == snapshot
    launched = estate.ec2().run_instances(ImageId=answer["id"], InstanceType="t3.small", MinCount=1, MaxCount=1)
    assert launched["Instances"]
    boots = estate.world.paper.node.guests[estate.instance].boots
    assert estate.try_("snapshot", "image", "web-1", "--name", "all-of-it")[0] == 2
    whole = estate.run("snapshot", "image", "web-1", "--name", "all-of-it", "--no-reboot")
    assert estate.world.paper.node.guests[estate.instance].boots == boots
    (image,) = estate.ec2().describe_images(ImageIds=[whole["id"]])["Images"]
    assert {m["DeviceName"] for m in image["BlockDeviceMappings"]} == {"/dev/xvda", "/dev/sdf"}
    estate.run("snapshot", "image", "web-1", "--name", "flushed", "--yes")
    estate.settle()
    assert estate.world.paper.node.guests[estate.instance].boots == boots + 1


# --- keeping ----------------------------------------------------------------------------------------------------------


def test_delete_all_or_nothing(estate: Estate) -> None:
    image = estate.ec2().create_image(InstanceId=estate.instance, Name="web-image", NoReboot=True)["ImageId"]
    estate.settle()
    used = set(estate.snapshots())
    free, locked = estate.snapshot(), estate.snapshot()
    estate.ec2().lock_snapshot(SnapshotId=locked, LockMode="governance", LockDuration=1)
    code, _, err = estate.try_("snapshot", "delete", free, locked, *used, "--yes")
    text = " ".join(err.split())
    assert code == 2
    assert f"used by {image}" in text
    assert f"{locked} is locked" in text
    assert set(estate.snapshots()) == {free, locked, *used}
    assert estate.try_("snapshot", "delete", free)[0] == 2  # nobody to ask
    assert estate.run("snapshot", "delete", free, "--yes")["deleted"] == [free]
    assert set(estate.snapshots()) == {locked, *used}


def test_what_is_deleted_can_be_recovered_for_as_long_as_it_says(estate: Estate) -> None:
    period = {"RetentionPeriodValue": 6, "RetentionPeriodUnit": "DAYS"}
    estate.world.client("rbin", HOME_PLACE).create_rule(ResourceType="EBS_SNAPSHOT", RetentionPeriod=period)
    snapshot = estate.snapshot()
    told = estate.run("snapshot", "delete", snapshot, "--yes")["recoverable"]
    (binned,) = estate.ec2().list_snapshots_in_recycle_bin()["Snapshots"]
    assert list(told) == [snapshot] == [binned["SnapshotId"]]
    assert abs(datetime.fromisoformat(told[snapshot]) - binned["RecycleBinExitTime"]) < timedelta(minutes=10)
    assert snapshot not in estate.snapshots()


def test_archive_and_back(estate: Estate) -> None:
    snapshot = estate.snapshot()
    estate.run("snapshot", "archive", snapshot, "--yes")
    assert estate.snapshots()[snapshot]["StorageTier"] == "archive"
    for verb in (["volume", snapshot, "--zone", "eu-central-1a"], ["share", snapshot, "--with", "apps"]):
        code, _, err = estate.try_("snapshot", *verb)
        assert (code, "archived" in err) == (2, True)
    assert estate.try_("snapshot", "archive", snapshot, "--yes")[0] == 2
    assert estate.try_("snapshot", "restore-archive", snapshot)[0] == 2
    answer = estate.run("snapshot", "restore-archive", snapshot, "--days", "3")
    assert answer["snapshots"][0]["tiering"] == "temporary-restore-completed"
    assert answer["snapshots"][0]["restored_until"]
    estate.run("snapshot", "restore-archive", snapshot, "--permanent")
    assert estate.snapshots()[snapshot]["StorageTier"] == "standard"
    assert estate.try_("snapshot", "restore-archive", snapshot, "--permanent")[0] == 2


def test_lock_and_unlock(estate: Estate) -> None:
    snapshot = estate.snapshot()
    answer = estate.run("snapshot", "lock", snapshot, "--days", "2")
    assert answer["snapshots"][0]["lock"]["state"] == "governance"
    estate.run("snapshot", "unlock", snapshot)
    assert estate.ec2().describe_locked_snapshots()["Snapshots"] == []
    code, _, err = estate.try_("snapshot", "lock", snapshot, "--mode", "compliance", "--days", "2")
    assert (code, "--yes" in err) == (2, True)
    estate.run("snapshot", "lock", snapshot, "--mode", "compliance", "--days", "2", "--yes")
    code, _, err = estate.try_("snapshot", "unlock", snapshot)
    assert (code, "compliance" in err) == (2, True)
    assert estate.try_("snapshot", "lock", snapshot)[0] == 2
    until = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    estate.run("snapshot", "lock", snapshot, "--mode", "compliance", "--until", until, "--yes")
    (locked,) = estate.ec2().describe_locked_snapshots()["Snapshots"]
    assert (locked["LockExpiresOn"] - datetime.now(UTC)).days in (29, 30)


# --- small things -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (2 * 86400, "2 d"),
        (800 * 86400, "2 y"),
    ],
)
def test_age(seconds: int, text: str) -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    assert age(now - timedelta(seconds=seconds), now) == text


def test_every_verb_is_journaled(estate: Estate) -> None:
    snapshot = estate.snapshot()
    estate.run("snapshot", "share", snapshot, "--with", "apps")
    _, out, _ = estate.try_("builds", "list", "--json")
    (task,) = json.loads(out)["builds"]
    assert (task["task"], task["status"]) == ("snapshot share", "done")


# --- descriptions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [("vor Größenänderung", "'ö' is not an ASCII character"), ("x" * 256, "256 characters, expected 255 at most")],
)
def test_a_description_that_ec2_would_refuse_is_refused_before_any_call(estate: Estate, text: str, said: str) -> None:
    before = len(estate.world.paper.calls)
    for command in (
        ("create", estate.instance),
        ("register", "snap-0123456789abcdef0", "--architecture", "x86_64"),
        ("image", "web-1", "--yes"),
    ):
        code, _, err = estate.try_("snapshot", *command, "--name", "x", "--description", text)
        assert code == 2
        assert said in err
    assert len(estate.world.paper.calls) == before
