"""``volume encrypt``, ``snapshot restore`` and the way back, on paper; and what any failing call leaves behind."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from goldenami_sandbox.http import Response
from goldenami_sandbox.node.api import DataKey
from goldenami_sandbox.protocol import Call

from goldenami import task
from goldenami.aws import volumes
from goldenami.aws.session import Cloud
from goldenami.errors import GoldenAmiError, UnjournaledMutation
from goldenami.events import Event
from goldenami.journal import Journals
from goldenami.snapshots import create, encrypt, names, points
from tests.worlds.builds import Death, Disturb, Label, World
from tests.worlds.exchanges import WORK, copying, fresh, prepared, sealed
from tests.worlds.faults import FAULTS, Fault, FromThenOn, Once, denied
from tests.worlds.matrix import matrix
from tests.worlds.recordings import calls
from tests.worlds.volumes import APPS_PLACE, HOME_PLACE, WEST, Estate, joined, tags_of

# --- what they do -----------------------------------------------------------------------------------------------------


def test_encrypt_all_volumes(estate: Estate) -> None:
    before = estate.attached()
    code, _, err = estate.try_("volume", "encrypt", "web-1", "--all")
    assert (code, "--yes" in err) == (2, True)
    plan = estate.run("volume", "encrypt", "web-1", "--all", "--dry-run")["plan"]
    assert {step["device"]: step["old"] for step in plan} == before == estate.attached()
    answer = estate.run("volume", "encrypt", "web-1", "--all", "--yes")
    after = estate.attached()
    assert {v["device"]: (v["old"], v["new"]) for v in answer["volumes"]} == {
        device: (before[device], after[device]) for device in before
    }
    found = estate.volumes()
    for device, id in after.items():
        new, old = found[id], found[before[device]]
        assert (new["Encrypted"], new["KmsKeyId"], new["State"]) == (True, estate.key(), "in-use")
        assert (new["Size"], new["VolumeType"]) == (old["Size"], old["VolumeType"])
        assert old["State"] == "available"
        assert tags_of(old)["goldenami:replaced-by"] == id
        name = tags_of(old).get("goldenami:kept:Name")
        assert tags_of(new).get("Name") == (name or f"for {old['VolumeId']}")
        assert tags_of(old).get("Name") == (f"{name} (kept)" if name else None)
    root = next(a for a in found[after["/dev/xvda"]]["Attachments"])
    assert root["DeleteOnTermination"] is True
    assert estate.state() == "running"
    assert estate.world.paper.node.guests[estate.instance].spec.root_volume == after["/dev/xvda"]
    assert estate.snapshots() == {}  # what was needed on the way is gone
    again = estate.run("volume", "encrypt", "web-1", "--all", "--yes")
    assert again["volumes"] == []
    assert set(again["skipped"]) == set(after)


def test_the_old_volumes_are_kept_until_they_are_forgotten(estate: Estate) -> None:
    estate.run("volume", "encrypt", "web-1", "--yes")
    kept = estate.run("volume", "kept")["volumes"]
    assert [(v["id"], v["instance"], v["device"]) for v in kept] == [(estate.root, estate.instance, "/dev/xvda")]
    assert estate.try_("volume", "forget", estate.instance)[0] == 2
    assert estate.try_("volume", "forget", estate.data, "--yes")[0] == 2  # attached, and never kept
    assert estate.try_("volume", "forget", "vol-0123456789abcdef0", "--yes")[0] == 3
    estate.run("volume", "forget", estate.instance, "--yes")
    assert estate.root not in estate.volumes()
    assert estate.run("volume", "kept")["volumes"] == []


def test_a_stopped_instance_stays_stopped_and_one_device_is_enough(estate: Estate) -> None:
    estate.ec2().stop_instances(InstanceIds=[estate.instance])
    estate.settle()
    estate.run("volume", "encrypt", estate.instance, "--device", "/dev/sdf", "--kms-key", "alias/golden-ami", "--yes")
    assert estate.state() == "stopped"
    assert estate.attached()["/dev/xvda"] == estate.root
    assert estate.volumes()[estate.attached()["/dev/sdf"]]["Encrypted"]
    assert estate.try_("volume", "encrypt", estate.instance, "--device", "/dev/sdz", "--yes")[0] == 2


def test_replace_root(estate: Estate) -> None:
    boots = estate.world.paper.node.guests[estate.instance].boots
    answer = estate.run("volume", "encrypt", "web-1", "--replace-root", "--yes")
    new = estate.attached()["/dev/xvda"]
    assert answer["volumes"][0]["new"] == new
    assert estate.volumes()[new]["KmsKeyId"] == estate.key()
    assert estate.volumes()[estate.root]["State"] == "available"
    assert estate.world.paper.node.guests[estate.instance].boots == boots + 1
    assert [v["id"] for v in estate.run("volume", "kept")["volumes"]] == [estate.root]
    assert estate.snapshots() == {}
    assert estate.ec2().describe_images(Owners=["self"])["Images"] == []


def test_a_key_that_cannot_be_used_is_refused_before_anything_stops(estate: Estate) -> None:
    assert estate.try_("volume", "encrypt", "web-1", "--kms-key", "alias/none", "--yes")[0] == 3
    assert estate.state() == "running"
    assert not [c for c in estate.world.paper.calls if c["action"] == "StopInstances"]


def test_restore_by_name_and_back_again(estate: Estate) -> None:
    estate.run("snapshot", "create", "web-1", "--name", "before-upgrade")
    before = estate.attached()
    code, out, _ = estate.try_("snapshot", "restore", "web-1", "--to", "before-upgrade", "--dry-run")
    assert code == 0
    assert all(id in out for id in before.values())
    assert estate.attached() == before
    assert estate.try_("snapshot", "restore", "web-1", "--to", "before-upgrade")[0] == 2  # nobody to ask
    answer = estate.run("snapshot", "restore", "web-1", "--to", "before-upgrade", "--yes")
    restored = estate.attached()
    assert answer["healthy"] is True
    assert set(restored) == set(before)
    assert not set(restored.values()) & set(before.values())
    made_of = {estate.volumes()[id]["SnapshotId"] for id in restored.values()}
    assert made_of == set(estate.snapshots())
    estate.run("snapshot", "restore", "web-1", "--undo", "--yes")
    assert estate.attached() == before
    estate.run("snapshot", "restore", "web-1", "--undo", "--yes")
    assert estate.attached() == restored
    assert estate.state() == "running"
    # The point was taken of the volumes' predecessors, and is still found.
    estate.run("snapshot", "restore", "web-1", "--to", "before-upgrade", "--device", "/dev/sdf", "--yes")
    assert estate.attached()["/dev/xvda"] == restored["/dev/xvda"]
    assert estate.attached()["/dev/sdf"] not in (*restored.values(), *before.values())


def test_restore_by_time_takes_the_last_one_before(estate: Estate) -> None:
    early = {estate.snapshot(estate.root, "a"), estate.snapshot(estate.data, "b")}
    between = max(s["StartTime"] for s in estate.snapshots().values()) + timedelta(milliseconds=1)
    instance = names.instance(estate.world.cloud, HOME_PLACE, "web-1")["InstanceId"]
    estate.snapshot(estate.root, "late")
    chosen = points.choose(estate.world.cloud, HOME_PLACE, instance, between)
    assert {p.snapshot["SnapshotId"] for p in chosen if p.snapshot is not None} == early
    code, out, err = estate.try_("snapshot", "restore", "web-1", "--to", "1d", "--dry-run")
    assert (code, out.count("is attached since")) == (3, 2)
    code, out, err = estate.try_("snapshot", "restore", "web-1", "--to", "1d", "--yes")
    assert (code, out.count("is attached since"), "--device" in err) == (3, 2, True)
    assert estate.state() == "running"


@pytest.fixture
def in_time(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers of the cloud have the time of its clock, which goes on when a test lets it."""
    monkeypatch.setattr(Cloud, "now", lambda _: datetime.fromtimestamp(estate.world.clock.now(), UTC))


def pause(estate: Estate) -> None:
    """The times of EC2's attachments have whole seconds."""
    estate.world.clock.sleep(3)


def plan_now(estate: Estate, *arguments: str) -> dict[str, str]:
    """The sources of a restore to this moment, by device."""
    pause(estate)
    now = f"{datetime.fromtimestamp(estate.world.clock.now(), UTC):%FT%TZ}"
    pause(estate)
    answer = estate.run("snapshot", "restore", "web-1", "--to", now, "--dry-run", *arguments)
    return {step["device"]: step["source"] for step in answer["plan"]}


@pytest.mark.usefixtures("in_time")
def test_a_time_is_what_the_instance_had_then_also_after_an_undo(estate: Estate) -> None:
    pause(estate)
    first = {"/dev/xvda": estate.snapshot(estate.root, "a"), "/dev/sdf": estate.snapshot(estate.data, "b")}
    estate.run("snapshot", "restore", "web-1", "--to", first["/dev/xvda"], "--yes")
    tried = estate.attached()["/dev/xvda"]
    assert plan_now(estate) == first  # no snapshot of the new volume yet: it began with this one
    pause(estate)
    estate.run("snapshot", "restore", "web-1", "--undo", "--yes")
    pause(estate)
    own = estate.snapshot(estate.root)
    pause(estate)
    estate.snapshot(tried)  # by the night's schedule, of the kept volume
    assert plan_now(estate) == {**first, "/dev/xvda": own}
    # An encryption goes on with the contents.
    estate.run("volume", "encrypt", "web-1", "--all", "--yes")
    assert plan_now(estate) == {**first, "/dev/xvda": own}


@pytest.mark.usefixtures("in_time")
def test_a_failed_exchange_forgets_no_history(estate: Estate) -> None:
    pause(estate)
    own = estate.snapshot(estate.root)
    estate.world.paper.set(
        faults=[{"action": "ec2:StartInstances", "nth": 1, "how": "error", "code": "InsufficientInstanceCapacity"}]
    )
    pause(estate)
    assert estate.try_("volume", "encrypt", "web-1", "--yes")[0] == 1
    assert estate.attached()["/dev/xvda"] == estate.root
    assert plan_now(estate, "--device", "/dev/xvda") == {"/dev/xvda": own}


def test_an_archived_snapshot_is_in_the_plan(estate: Estate) -> None:
    estate.run("snapshot", "create", "web-1", "--name", "old")
    archived = next(s["SnapshotId"] for s in estate.snapshots().values() if s["VolumeId"] == estate.data)
    estate.run("snapshot", "archive", archived, "--yes")
    code, out, err = estate.try_("snapshot", "restore", "web-1", "--to", "old", "--dry-run", "--json")
    steps = {step["device"]: step for step in json.loads(out)["plan"]}
    assert (code, steps["/dev/xvda"]["problem"]) == (3, "")
    assert "is archived. Restore it first: goldenami snapshot restore-archive" in steps["/dev/sdf"]["problem"]
    assert archived in err.replace("\n", "")


def test_what_a_named_snapshot_leaves_alone_is_in_the_plan(estate: Estate) -> None:
    estate.snapshot(estate.data, "data-ok")
    code, out, _ = estate.try_("snapshot", "restore", "web-1", "--to", "data-ok", "--dry-run")
    assert (code, "stays as it is: it has no snapshot 'data-ok'" in out) == (0, True)
    estate.run("snapshot", "restore", "web-1", "--to", "data-ok", "--yes")
    assert estate.attached()["/dev/xvda"] == estate.root


def tagged(estate: Estate, **tags: str) -> None:
    estate.ec2().create_tags(Resources=[estate.root], Tags=[{"Key": k, "Value": v} for k, v in tags.items()])


def test_a_kept_volume_loses_its_tags_until_it_is_attached_again(estate: Estate) -> None:
    tagged(estate, backup="nightly", Name="web-root")
    estate.run("volume", "encrypt", "web-1", "--yes")
    new = estate.attached()["/dev/xvda"]
    kept = tags_of(estate.volumes()[estate.root])
    assert [k for k in kept if not k.startswith("goldenami:")] == ["Name"]
    assert (kept["Name"], kept["goldenami:kept:backup"]) == ("web-root (kept)", "nightly")
    assert tags_of(estate.volumes()[new])["backup"] == "nightly"
    assert [v["id"] for v in estate.run("volume", "kept", "--instance", "web-1")["volumes"]] == [estate.root]
    estate.run("snapshot", "restore", "web-1", "--undo", "--unencrypted", "--yes")
    again, kept = tags_of(estate.volumes()[estate.root]), tags_of(estate.volumes()[new])
    assert (again["backup"], again["Name"]) == ("nightly", "web-root")
    assert not {k for k in again if k.startswith("goldenami:kept")}
    assert (kept["Name"], kept["goldenami:kept:backup"], "backup" in kept) == ("web-root (kept)", "nightly", False)
    estate.run("volume", "forget", "web-root", "--dry-run")
    assert new in estate.volumes()
    estate.run("volume", "forget", "web-root", "--yes")
    assert set(estate.volumes()) == {estate.root, estate.data}


def test_volumes_are_copied_before_the_stop_and_what_changed_after_it(estate: Estate) -> None:
    estate.run("volume", "encrypt", "web-1", "--all", "--yes")
    actions = [c["action"] for c in estate.world.paper.calls]
    stopped = actions.index("StopInstances")
    made = ("CreateSnapshot", "CopySnapshot", "ListChangedBlocks")
    assert [actions[:stopped].count(one) for one in made] == [2, 2, 0]
    assert [actions[stopped:].count(one) for one in made] == [2, 2, 2]
    assert estate.snapshots() == {}


BLOCK = 7  # of the copies: the damaged one
DIFFERS = f"in block {BLOCK} of /dev/xvda"


def damage(estate: Estate, monkeypatch: pytest.MonkeyPatch, *copies: int) -> None:
    """Each snapshot of a volume has three blocks, and these copies, by number, have another one than their source."""
    node = estate.world.paper.node
    node.on_volumes.update({0: "a", 1: "b", BLOCK: "c"})
    copy, numbers = node.copy_snapshot, itertools.count(1)

    def damaged(
        source: str, source_key: DataKey | None, id: str, key: DataKey | None, parent: str | None = None
    ) -> object:
        facts = copy(source, source_key, id, key, parent)
        if next(numbers) in copies:
            node.written[id][BLOCK] = "damaged"
        return facts

    monkeypatch.setattr(node, "copy_snapshot", damaged)


def stops(estate: Estate) -> int:
    return len([c for c in estate.world.paper.calls if c["action"] == "StopInstances"])


@pytest.mark.parametrize(("verify", "stopped"), [("changed", 0), ("all", 1), ("sample", 1)])
def test_a_copy_that_differs_from_its_source_is_not_used(
    estate: Estate, monkeypatch: pytest.MonkeyPatch, verify: str, stopped: int
) -> None:
    damage(estate, monkeypatch, 1, 2)
    code, _, err = estate.try_("volume", "encrypt", "web-1", "--verify", verify, "--yes")
    text = " ".join(err.split())
    assert (code, "differs from its source" in text, DIFFERS in text) == (1, True, True), text
    assert stops(estate) == stopped
    assert (estate.attached()["/dev/xvda"], estate.state()) == (estate.root, "running")
    assert (set(estate.volumes()), estate.snapshots()) == ({estate.root, estate.data}, {})


@pytest.mark.parametrize("changes", [True, False])
def test_of_the_second_copy_what_changed_is_compared(
    estate: Estate, monkeypatch: pytest.MonkeyPatch, changes: bool
) -> None:
    """The first copy is good. A block of the second one is compared if it was written between both."""
    damage(estate, monkeypatch, 2)

    def write(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if call.action == "StopInstances":
            estate.world.paper.node.on_volumes[BLOCK if changes else 0] = "written"
        return serve()

    estate.world.gate.start(write)
    code, _, err = estate.try_("volume", "encrypt", "web-1", "--verify", "changed", "--yes")
    assert (code, DIFFERS in " ".join(err.split())) == ((1, True) if changes else (0, False)), err
    assert (stops(estate), estate.state()) == (1, "running")
    assert (estate.attached()["/dev/xvda"] == estate.root) == changes


def test_without_a_comparison_the_user_is_told_so(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(estate, monkeypatch, 1, 2)
    code, _, err = estate.try_("volume", "encrypt", "web-1", "--verify", "none", "--yes")
    told = "/dev/xvda: the encrypted copy was not compared with its source"
    assert (code, told in " ".join(err.split())) == (0, True), err
    assert estate.attached()["/dev/xvda"] != estate.root
    assert not [c for c in estate.world.paper.calls if c["action"] in ("ListSnapshotBlocks", "GetSnapshotBlock")]


def test_a_comparison_is_told_each_5_percent_and_each_minute() -> None:
    """Of 1000 blocks: a hundred in one second, then one each 20 seconds."""
    told: list[Event] = []
    times = [0.0] * 101 + [20.0 * number for number in range(1, 10)]
    clock = iter(times)
    one = encrypt.Told(told.append, lambda: next(clock), "eu-central-1/snap-1", 1000)
    for _ in times[1:]:
        one.one_more()
    assert {(e.kind, e.fields["target"], e.fields["state"]) for e in told} == {
        ("target.progress", "eu-central-1/snap-1", "comparing")
    }
    assert [(e.fields["percent"], e.fields["detail"]) for e in told] == [
        (5, "50 of 1000 blocks"),
        (10, "100 of 1000 blocks"),
        (10, "103 of 1000 blocks"),
        (10, "106 of 1000 blocks"),
        (10, "109 of 1000 blocks"),
    ]


def test_an_instance_that_is_stopped_is_copied_once(estate: Estate) -> None:
    estate.ec2().stop_instances(InstanceIds=[estate.instance])
    estate.settle()
    estate.run("volume", "encrypt", "web-1", "--yes")
    actions = [c["action"] for c in estate.world.paper.calls]
    assert [actions.count(one) for one in ("CreateSnapshot", "CopySnapshot", "ListChangedBlocks")] == [1, 1, 0]


def test_a_volume_that_is_detached_while_it_is_copied(estate: Estate) -> None:
    def detach(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        answer = serve()
        if call.action == "CopySnapshot":
            estate.world.gate.stop()
            estate.ec2().detach_volume(VolumeId=estate.data)
        return answer

    estate.world.gate.start(detach)
    code, _, err = estate.try_("volume", "encrypt", "web-1", "--device", "/dev/sdf", "--yes")
    assert (code, f"{estate.data} is not attached to {estate.instance} at /dev/sdf any more" in err) == (2, True)
    assert not [c for c in estate.world.paper.calls if c["action"] == "StopInstances"]
    assert estate.snapshots() == {}


def test_tags_that_would_not_fit_are_refused_before_anything_stops(estate: Estate) -> None:
    tagged(estate, **{"x" * 120: "long"})
    code, _, err = estate.try_("volume", "encrypt", "web-1", "--yes")
    assert (code, "the tag key 'xxx" in err) == (2, True)
    assert not [c for c in estate.world.paper.calls if c["action"] == "StopInstances"]


def test_an_undo_takes_back_one_task(estate: Estate) -> None:
    """The root was encrypted weeks ago, and the data volume is restored today."""
    estate.run("volume", "encrypt", "web-1", "--yes")
    encrypted = estate.attached()["/dev/xvda"]
    estate.world.clock.sleep(21 * 86400)
    estate.snapshot(estate.data, "data-ok")
    estate.run("snapshot", "restore", "web-1", "--to", "data-ok", "--yes")
    code, out, err = estate.try_("snapshot", "restore", "web-1", "--undo", "--dry-run")
    assert (code, estate.data in out, estate.root in out, "not undone: task" in err) == (0, True, False, True)
    estate.run("snapshot", "restore", "web-1", "--undo", "--yes")
    assert estate.attached() == {"/dev/xvda": encrypted, "/dev/sdf": estate.data}
    old = next(v for v in estate.volumes().values() if v["VolumeId"] == estate.root)
    task = tags_of(old)["goldenami:kept-by"]
    undo = ("snapshot", "restore", "web-1", "--undo", "--task", task, "--yes")
    code, _, err = estate.try_(*undo)
    assert (code, "--unencrypted" in err) == (2, True)
    assert estate.attached()["/dev/xvda"] == encrypted
    estate.run(*undo, "--unencrypted")
    assert estate.attached() == {"/dev/xvda": estate.root, "/dev/sdf": estate.data}
    assert estate.try_(*undo)[0] == 3
    assert estate.try_("snapshot", "restore", "web-1", "--to", "data-ok", "--task", task, "--yes")[0] == 2


def test_an_undo_is_told_with_its_age(estate: Estate) -> None:
    estate.snapshot(estate.data, "data-ok")
    estate.run("volume", "encrypt", "web-1", "--yes")
    estate.run("snapshot", "restore", "web-1", "--to", "data-ok", "--yes")
    began = datetime.now(UTC) - timedelta(days=21, hours=12)
    old = f"{began:%Y%m%d-%H%M%S}-abcdef"
    estate.ec2().create_tags(Resources=[estate.root], Tags=[{"Key": "goldenami:kept-by", "Value": old}])
    code, _, err = estate.try_("snapshot", "restore", "web-1", "--undo", "--dry-run")
    text = " ".join(err.split())
    told = f"task {old} (/dev/xvda, {began:%F %T} UTC, 21 d ago)"
    assert (code, f"not undone: {told}; choose it with --task {old}" in text) == (0, True), text
    code, _, err = estate.try_("snapshot", "restore", "web-1", "--undo", "--task", old, "--dry-run")
    assert (code, f"undoes {told}" in " ".join(err.split())) == (0, True), err


def test_restore_by_a_name_of_two_snapshots_of_one_volume(estate: Estate) -> None:
    both = [estate.snapshot(estate.root, "twice"), estate.snapshot(estate.root, "twice")]
    code, _, err = estate.try_("snapshot", "restore", "web-1", "--to", "twice", "--yes")
    assert code == 2
    assert all(id in err.replace("\n", "") for id in both)
    estate.run("snapshot", "restore", "web-1", "--to", both[0], "--yes")
    assert estate.volumes()[estate.attached()["/dev/xvda"]]["SnapshotId"] == both[0]


def test_an_unhealthy_instance_is_said_and_nothing_is_taken_back(estate: Estate) -> None:
    estate.run("snapshot", "create", "web-1", "--name", "point")
    estate.world.paper.set(pending={"status": 3600})
    code, _, err = estate.try_("snapshot", "restore", "web-1", "--to", "point", "--yes", "--health-timeout", "1")
    assert code == 5
    assert "--undo" in err
    assert estate.attached()["/dev/xvda"] != estate.root
    assert estate.root in estate.volumes()


def test_two_at_once_are_kept_apart(estate: Estate) -> None:
    with Journals(Path(estate.world.environment.builds)).exclusive(f"instance-{estate.instance}"):
        code, _, err = estate.try_("volume", "encrypt", "web-1", "--yes")
    assert code == 1
    assert estate.instance in err.replace("\n", "")
    assert estate.attached()["/dev/xvda"] == estate.root
    assert estate.state() == "running"


# --- what must not be stopped -----------------------------------------------------------------------------------------

COMMANDS = {
    "encrypt": ("volume", "encrypt", "web-1", "--yes"),
    "replace-root": ("volume", "encrypt", "web-1", "--replace-root", "--yes"),
    "restore": ("snapshot", "restore", "web-1", "--to", "point", "--yes"),
}


def refused(estate: Estate, command: str, *words: str) -> None:
    """The command is refused with these words, and has changed nothing."""
    estate.snapshot(estate.root, "point")
    before, seen = estate.attached(), len(estate.world.paper.calls)
    code, _, err = estate.try_(*COMMANDS[command])
    text = " ".join(err.split())
    assert code == 2, err
    assert [word for word in words if word not in text] == []
    actions = {c["action"] for c in estate.world.paper.calls[seen:]}
    assert {a for a in actions if not a.startswith(("Describe", "Get", "List", "AssumeRole"))} == set()
    assert estate.attached() == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_member_of_an_auto_scaling_group_is_refused(estate: Estate, command: str) -> None:
    joined(estate)
    refused(estate, command, "Auto Scaling group web (InService)", "aws autoscaling enter-standby")
    assert estate.state() == "running"


def test_a_member_in_standby_is_not_refused(estate: Estate) -> None:
    member = {"InstanceIds": [estate.instance], "AutoScalingGroupName": "web"}
    joined(estate).enter_standby(**member, ShouldDecrementDesiredCapacity=True)
    estate.run("volume", "encrypt", "web-1", "--yes")
    assert estate.volumes()[estate.attached()["/dev/xvda"]]["Encrypted"]


@pytest.mark.parametrize("command", ["encrypt", "restore"])
def test_an_instance_store_is_not_lost(build_world: World, estate: Estate, command: str) -> None:
    estate.ec2().terminate_instances(InstanceIds=[estate.instance])
    other = Estate(build_world, estate.capsys, type="m5d.large")
    refused(other, command, "m5d.large with an instance store", "--replace-root")
    other.run(*COMMANDS["replace-root"])  # it only reboots


@pytest.mark.parametrize("command", ["encrypt", "restore"])
def test_protection_against_stopping_is_respected(estate: Estate, command: str) -> None:
    estate.ec2().modify_instance_attribute(InstanceId=estate.instance, DisableApiStop={"Value": True})
    refused(estate, command, "protected against stopping", "--no-disable-api-stop")


def test_a_volume_of_several_instances_is_not_exchanged_for_one(estate: Estate) -> None:
    """The root volume alone is encrypted as ever. What is attached to several instances is not, nor restored."""
    ec2 = estate.ec2()
    made = {"AvailabilityZone": "eu-central-1a", "Size": 4, "Iops": 100, "MultiAttachEnabled": True}
    with pytest.raises(ClientError, match="multiAttachEnabled is not supported for gp3"):
        ec2.create_volume(**{**made, "VolumeType": "gp3", "Iops": 3000})
    shared = ec2.create_volume(**made, VolumeType="io2")["VolumeId"]
    estate.settle()
    ec2.attach_volume(VolumeId=shared, InstanceId=estate.instance, Device="/dev/sdg")
    estate.settle()
    estate.snapshot(shared, "point")
    before = estate.attached()
    commands = [
        ("volume", "encrypt", "web-1", "--all"),
        ("volume", "encrypt", "web-1", "--device", "/dev/sdg"),
        ("snapshot", "restore", "web-1", "--to", "point"),
    ]
    for command in commands:
        for how in ("--yes", "--dry-run"):
            code, _, err = estate.try_(*command, how)
            text = " ".join(err.split())
            assert code == 2, text
            assert f"{shared} (/dev/sdg) has Multi-Attach" in text
    assert (estate.attached(), estate.state()) == (before, "running")
    estate.run("volume", "encrypt", "web-1", "--yes")
    after = estate.attached()
    assert {d for d in after if after[d] != before[d]} == {"/dev/xvda"}


def test_a_volume_is_seen_as_its_instance_has_it() -> None:
    """Of two attachments, that of the instance counts: device and DeleteOnTermination are its own."""
    attachments = [
        {"InstanceId": "i-1", "Device": "/dev/sdf", "State": "attached", "DeleteOnTermination": True},
        {"InstanceId": "i-2", "Device": "/dev/sdk", "State": "attached", "DeleteOnTermination": False},
    ]
    item = {"VolumeId": "vol-1", "State": "in-use", "MultiAttachEnabled": True, "Attachments": attachments}
    one = volumes.read(item, "i-2")
    assert (one.instance_id, one.device, one.delete_on_termination) == ("i-2", "/dev/sdk", False)
    assert (one.multi_attach, one.instances) == (True, ("i-1", "i-2"))


@pytest.mark.parametrize("command", ["encrypt", "restore"])
def test_a_dry_run_says_what_a_stop_does(build_world: World, estate: Estate, command: str) -> None:
    joined(estate)
    estate.snapshot(estate.root, "point")
    code, _, err = estate.try_(*COMMANDS[command][:-1], "--dry-run")
    assert (code, "Auto Scaling group web (InService)" in " ".join(err.split())) == (2, True)
    estate.ec2().terminate_instances(InstanceIds=[estate.instance])
    other = Estate(build_world, estate.capsys, public=True)
    other.snapshot(other.root, "later")
    words = [word if word != "point" else "later" for word in COMMANDS[command][:-1]]
    code, out, err = other.try_(*words, "--dry-run")
    assert code == 0, err
    assert "It gets another one when it is started again" in " ".join((out + err).split())


@pytest.mark.parametrize("command", COMMANDS)
def test_too_many_tags_are_found_before_anything_stops(estate: Estate, command: str) -> None:
    estate.ec2().create_tags(Resources=[estate.root], Tags=[{"Key": f"k{n}", "Value": "v"} for n in range(40)])
    refused(estate, command, "has 40 tags", "AWS accepts 50 tags", "Remove some tags")
    assert estate.state() == "running"


def test_protection_against_termination_is_no_obstacle(estate: Estate) -> None:
    estate.ec2().modify_instance_attribute(InstanceId=estate.instance, DisableApiTermination={"Value": True})
    estate.run("volume", "encrypt", "web-1", "--yes")


@pytest.mark.parametrize("command", ["encrypt", "restore"])
def test_a_hibernated_instance_is_refused(build_world: World, estate: Estate, command: str) -> None:
    estate.ec2().terminate_instances(InstanceIds=[estate.instance])
    other = Estate(build_world, estate.capsys, hibernation=True)
    other.ec2().stop_instances(InstanceIds=[other.instance], Hibernate=True)
    other.settle()
    refused(other, command, "is hibernated", "stop it without hibernation")


@pytest.mark.parametrize("command", ["encrypt", "restore"])
def test_a_public_address_changes_only_with_consent(build_world: World, estate: Estate, command: str) -> None:
    estate.ec2().terminate_instances(InstanceIds=[estate.instance])
    other = Estate(build_world, estate.capsys, public=True)
    refused(other, command, other.describe()["PublicIpAddress"], "--new-public-address")
    estate.run(*COMMANDS[command], "--new-public-address")


def test_an_elastic_address_needs_no_consent(build_world: World, estate: Estate) -> None:
    estate.ec2().terminate_instances(InstanceIds=[estate.instance])
    other = Estate(build_world, estate.capsys, public=True)
    address = other.ec2().allocate_address(Domain="vpc")
    other.ec2().associate_address(AllocationId=address["AllocationId"], InstanceId=other.instance)
    other.run("volume", "encrypt", "web-1", "--yes")
    assert other.describe()["PublicIpAddress"] == address["PublicIp"]


def test_no_volume_is_lost_if_the_stopped_instance_is_terminated(estate: Estate) -> None:
    """Another program terminates it while its volumes are exchanged."""
    before = estate.attached()

    def terminates(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if label.action == "CopySnapshot" and estate.state() == "stopped":
            estate.world.gate.stop()
            estate.ec2().terminate_instances(InstanceIds=[estate.instance])
            estate.settle()
        return serve()

    estate.world.gate.start(terminates)
    code, _, err = estate.try_("volume", "encrypt", "web-1", "--all", "--yes")
    estate.world.gate.stop()
    assert code == 1, err
    assert estate.describe()["State"]["Name"] == "terminated"
    assert set(before.values()) <= set(estate.volumes())


# --- the matrices -----------------------------------------------------------------------------------------------------


DELAY = 2.0  # seconds until calls find what is new, and a permission or grant has an effect


def late(estate: Estate) -> None:
    estate.world.paper.set(visibility_delay=DELAY, grant_delay=2 * DELAY)


@pytest.fixture
def estates(build_world: World) -> Callable[[], Estate]:
    return lambda: fresh(build_world)


def check(estate: Estate, before: dict[str, str], kept: set[str], *, done: bool | None) -> None:
    """The instance runs; all of its volumes are the old ones, and nothing else is there; or all are new, and the old
    ones are kept. Never anything in between."""
    estate.world.clock.sleep(DELAY)
    estate.settle()
    after = estate.attached()
    found = estate.volumes()
    assert estate.state() == "running", estate.state()
    guest = estate.world.paper.node.guests[estate.instance]
    assert guest.state == "running"
    assert guest.spec.root_volume == after["/dev/xvda"]
    assert set(after) == set(before)
    assert set(before.values()) <= set(found), "an old volume is gone"
    ends = {d: found[v]["Attachments"][0]["DeleteOnTermination"] for d, v in after.items()}
    assert ends == {"/dev/xvda": True, "/dev/sdf": False}
    assert set(estate.snapshots()) == kept, "snapshots are left over"
    if done is None:
        done = after != before
    if done:
        assert not set(after.values()) & set(before.values()), f"a mixture: {after}"
        assert set(found) == {*before.values(), *after.values()}
        assert {found[v]["State"] for v in before.values()} == {"available"}
    else:
        assert after == before
        assert set(found) == set(before.values()), "volumes are left over"
        # The times of its earlier attachments: EC2 shows the last one only.
        history = ("goldenami:replaces", "goldenami:history", "goldenami:attached")
        ours = [t for v in found.values() for t in tags_of(v) if t.startswith("goldenami:") and t not in history]
        assert ours == []


def faulted(estates: Callable[[], Estate], name: str, fault: Disturb) -> None:
    estate, kept = prepared(estates(), name)
    before = estate.attached()
    late(estate)
    world = estate.world
    world.gate.start(fault)
    error: GoldenAmiError | None = None
    try:
        WORK[name](estate)
    except GoldenAmiError as caught:
        error = caught
    finally:
        world.gate.stop()
    if isinstance(error, UnjournaledMutation):
        raise error
    left = [s for s in Journals(Path(world.environment.builds)).list() if s.ending in (None, "failed")]
    for one in left:
        assert world.clean(one.build_id).complete
    check(estate, before, kept, done=True if error is None else None)


def calls_of(*kinds: str) -> Iterator[tuple[str, Label]]:
    """The calls of both kinds of work: everything that is called, or only what changes something (``changes``)."""
    for name in WORK:
        for label in calls("-".join((name, *kinds))):
            yield name, label


@matrix("name, label, fault", ((*one, fault) for one in calls_of() for fault in FAULTS), every=23)
def test_any_call_may_fail_once(estates: Callable[[], Estate], name: str, label: Label, fault: Fault) -> None:
    faulted(estates, name, Once(label, fault))


@matrix("name, label", calls_of(), every=7)
def test_a_kind_of_call_may_be_denied_from_then_on(estates: Callable[[], Estate], name: str, label: Label) -> None:
    faulted(estates, name, FromThenOn(label, denied))


@matrix(
    "name, label, when",
    ((*one, when) for one in calls_of("changes") for when in ("before", "after")),
    every=5,
    each_kind=True,
)
def test_killed_at_any_call_then_cleaned(estates: Callable[[], Estate], name: str, label: Label, when: str) -> None:
    estate, kept = prepared(estates(), name)
    before = estate.attached()
    late(estate)
    estate.world.cloud.start_process(label, when)
    with pytest.raises(Death):
        WORK[name](estate)
    (summary,) = Journals(Path(estate.world.environment.builds)).list()
    assert estate.world.clean(summary.build_id).complete
    check(estate, before, kept, done=None)


# --- what others leave ------------------------------------------------------------------------------------------------


@matrix("label, when", itertools.product(calls("copy-changes"), ("before", "after")), every=3)
def test_a_copy_killed_at_any_call_then_cleaned(estates: Callable[[], Estate], label: Label, when: str) -> None:
    estate = estates()
    sources = sealed(estate)
    before = set(estate.snapshots())
    late(estate)
    estate.world.cloud.start_process(label, when)
    with pytest.raises(Death):
        copying(estate, sources)
    (summary,) = Journals(Path(estate.world.environment.builds)).list()
    assert estate.world.clean(summary.build_id).complete
    estate.world.clock.sleep(2 * DELAY)
    estate.settle()
    assert set(estate.snapshots()) == before
    assert [estate.shared_with(s) for s in sources] == [set(), set()]
    assert estate.world.client("kms", HOME_PLACE).list_grants(KeyId=estate.key())["Grants"] == []
    # Done, and only not tidied up: then the copies stay.
    left = [len(estate.snapshots(p)) for p in (APPS_PLACE, WEST)]
    assert left == ([2, 2] if label.action == "RevokeGrant" else [0, 0])


def test_a_copy_is_made(estates: Callable[[], Estate]) -> None:
    """That nothing happens to, and its changes are the ones that the matrix kills at."""
    estate = estates()
    sources = sealed(estate)
    estate.world.cloud.start_process()
    copying(estate, sources)
    assert [len(estate.snapshots(p)) for p in (APPS_PLACE, WEST)] == [2, 2]
    mutations = estate.world.cloud.mutations
    assert {m.action for m in mutations} >= {"CopySnapshot", "ModifySnapshotAttribute", "CreateGrant", "RevokeGrant"}


@pytest.mark.parametrize("when", ["before", "after"])
def test_snapshots_of_an_instance_killed_then_cleaned(estates: Callable[[], Estate], when: str) -> None:
    """One call, several snapshots, and the answer that would have named them was never read."""
    estate = estates()
    cloud = estate.world.cloud
    cloud.start_process(Label("ec2", "CreateSnapshots", HOME_PLACE.account, HOME_PLACE.region, 1), when)
    with (
        pytest.raises(Death),
        task.run(estate.world.environment, "snapshot create", {}, cloud=cloud) as job,
    ):
        create.create_of_instance(job, HOME_PLACE, estate.instance, name="nightly")
    estate.settle()
    assert len(estate.snapshots()) == (2 if when == "after" else 0)
    (summary,) = Journals(Path(estate.world.environment.builds)).list()
    assert estate.world.clean(summary.build_id).complete
    assert estate.snapshots() == {}
