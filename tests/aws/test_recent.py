"""A service that does not know for minutes what was made a moment ago. Time is virtual: nothing is waited for."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from goldenami import reconcile
from goldenami.aws import images, instances, keypairs, network, recent, security_groups, snapshots, waiters
from goldenami.aws.kinds import kind_of
from goldenami.aws.ledger import Call, Ledger
from goldenami.aws.session import Cloud
from goldenami.errors import AccessError, CloudError
from goldenami.events import Event
from goldenami.journal import Header, Intent, Journal
from goldenami.model import Network
from tests.worlds.ledgers import (
    APPS,
    APPS_PLACE,
    BUILD,
    CATALOG,
    HOME_PLACE,
    PROOFS,
    Crash,
    Trap,
    World,
    have_only,
    make_cloud,
)

from .test_ledger import (
    DEBIAN,
    KIND_OF_STEP,
    PUBLIC_KEY,
    STEPS,
    count,
    foreign_image,
    foreign_instance,
    launch,
    make_copy,
    prepare,
)

if TYPE_CHECKING:
    from goldenami_sandbox.testing import PaperCloud

DELAY = 120.0  # seconds: longer than a look for what may not exist
SOURCE = security_groups.Source(("198.51.100.7/32",))


class Clock:
    """Seconds since the epoch; sleeping moves them. ``settle`` is called before: what the cloud works at takes none of
    them, however busy the machine is."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._mutex = threading.Lock()
        self.settle: Callable[[], object] = lambda: None

    def now(self) -> float:
        return time.time() + self._ahead

    @property
    def offset(self) -> float:
        """The seconds that were slept."""
        return self._ahead

    def sleep(self, seconds: float) -> None:
        self.settle()
        with self._mutex:
            self._ahead += seconds
        time.sleep(0.0002)


class LateWorld(World):
    """A cloud and a build on a virtual clock, and the ledger of a new process at each ``restart``."""

    clock: Clock
    events: list[Event]

    def restart(self) -> None:
        self.journal.close()
        self.trap = Trap()
        self.journal = Journal.open(self.journal.directory, sync=self.trap)
        self.ledger = late_ledger(self.journal, self.clock, self.events)

    def elapsed(self, step: Callable[[], object]) -> float:
        """The seconds that a step waits. How long it works depends on the machine."""
        before = self.clock.offset
        step()
        return self.clock.offset - before


def late_ledger(journal: Journal, clock: Clock, events: list[Event]) -> Ledger:
    cloud = make_cloud(clock=clock.now, sleep=clock.sleep, patience=recent.Patience())
    return Ledger(cloud, journal, {"owner": "platform-team"}, proofs=PROOFS, emit=events.append)


@pytest.fixture
def late(
    paper_cloud: Callable[..., PaperCloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LateWorld]:
    clock = Clock()
    events: list[Event] = []
    paper = paper_cloud(clock=clock.now)
    clock.settle = paper.cloud.ec2.settle
    have_only(paper.variables(), monkeypatch)
    trap = Trap()
    header = Header(BUILD, "debian-12-web", "d" * 64, "sandbox", datetime.now(UTC), {"catalog": CATALOG})
    journal = Journal.create(tmp_path / "builds", header, sync=trap)
    made = LateWorld(paper, tmp_path / "builds", journal, late_ledger(journal, clock, events), trap)
    made.clock, made.events = clock, events
    yield made
    made.journal.close()


def debian(cloud: Cloud) -> str:
    """A public image."""
    filters = {"name": ["debian-12-*"]}
    return images.find_base(cloud, HOME_PLACE, architecture="x86_64", filters=filters, owners=[DEBIAN]).image_id


def running(world: World) -> list[str]:
    found = world.raw("ec2").describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])
    return [str(i["InstanceId"]) for r in found["Reservations"] for i in r["Instances"]]


def launch_only(world: World) -> str:
    """A builder that is not waited for."""
    ledger = world.ledger
    base = debian(ledger.cloud)
    subnets = network.subnets(ledger.cloud, HOME_PLACE, Network())
    name = keypairs.create(ledger, "key-pair", HOME_PLACE, public_key=PUBLIC_KEY)
    group = security_groups.create(ledger, "group", HOME_PLACE, vpc_id=subnets[0].vpc_id)
    security_groups.allow(ledger, "group", HOME_PLACE, group, source=SOURCE)
    spec = instances.LaunchSpec(base, ("t3.small",), subnets, group, name)
    return instances.launch(ledger, "builder", HOME_PLACE, spec)


# --- "not found" is no proof ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("another_process", [False, True], ids=["same process", "next process"])
def test_an_instance_that_is_not_found_yet_is_terminated(late: LateWorld, another_process: bool) -> None:
    """TerminateInstances right after RunInstances answers InvalidInstanceID.NotFound, and the instance runs on (EC2
    developer guide, "Eventual consistency")."""
    late.paper.set(visibility_delay=DELAY)
    instance = launch_only(late)
    if another_process:
        late.restart()
    instances.terminate(late.ledger, HOME_PLACE, instance)
    assert late.journal.is_gone(HOME_PLACE, instance)
    late.paper.cloud.ec2.settle()
    assert running(late) == []
    state = late.raw("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]["State"]
    assert state["Name"] == "terminated"
    notes = [str(e.fields["message"]) for e in late.events if e.kind == "note"]
    assert any(note.startswith("TerminateInstances is repeated until AWS finds") for note in notes)


@pytest.mark.parametrize("name", STEPS)
def test_every_kind_is_deleted_although_it_is_new(late: LateWorld, name: str) -> None:
    _, _, step = STEPS[name]
    prepare(late, step)
    late.clock.sleep(DELAY)
    delay = 40.0 if name == "parameter" else DELAY  # a value that has no effect after a minute is an error
    late.paper.set(visibility_delay=delay)
    step(late)
    late.restart()
    late.ledger.delete_key("step")
    assert late.journal.resources(KIND_OF_STEP[name]) == ()
    late.clock.sleep(DELAY)
    late.paper.cloud.ec2.settle()
    assert count(late, KIND_OF_STEP[name]) == 0


def test_a_build_that_died_is_cleaned_before_anything_is_visible(late: LateWorld) -> None:
    """Also the snapshots of a new image, whose ids only the image has, and what a lost result does not tell."""
    late.paper.set(visibility_delay=40.0)
    _, instance = launch(late.ledger)
    late.trap.record, late.trap.lost = "result", True
    with pytest.raises(Crash):
        images.create(late.ledger, "candidate", HOME_PLACE, instance_id=instance, name="candidate", no_reboot=True)
    late.restart()
    done = reconcile.delete_all(late.cloud, late.journal, PROOFS)
    assert done.complete, done.left
    late.clock.sleep(DELAY)
    late.paper.cloud.ec2.settle()
    kinds = ("instance", "volume", "image", "snapshot", "security-group", "key-pair")
    assert {kind: list(late.tagged(kind)) for kind in kinds} == {kind: [] for kind in kinds}


def test_what_is_old_is_gone_at_once(late: LateWorld) -> None:
    """Somebody else deleted it: no time is lost."""
    group = new_group(late)
    late.clock.sleep(recent.LONGEST)
    late.raw("ec2").delete_security_group(GroupId=group)
    assert late.elapsed(lambda: late.ledger.delete("security-group", HOME_PLACE, group)) < 1
    assert late.journal.is_gone(HOME_PLACE, group)
    assert late.ledger.was_absent(HOME_PLACE, group)


def new_group(world: World) -> str:
    vpc = network.subnets(world.cloud, HOME_PLACE, Network())[0].vpc_id
    group = security_groups.create(world.ledger, "group", HOME_PLACE, vpc_id=vpc)
    security_groups.allow(world.ledger, "group", HOME_PLACE, group, source=SOURCE)
    return group


def test_the_journal_tells_a_later_process_what_is_old(late: LateWorld, tmp_path: Path) -> None:
    """The times of its records count, as far as the clocks of two machines may differ."""
    for minutes, new in ((60, False), (16, False), (1, True)):
        builds, began = tmp_path / str(minutes), datetime.now(UTC) - timedelta(minutes=minutes)
        header = Header(f"20261124-0300{minutes:02}-abcd", "r", "d" * 64, "sandbox", began, {"catalog": CATALOG})
        with Journal.create(builds, header, now=partial(datetime.fromtimestamp, began.timestamp(), UTC)) as journal:
            keypairs.create(late_ledger(journal, late.clock, []), "k", HOME_PLACE, public_key=PUBLIC_KEY)
            (pair,) = journal.resources()
        with Journal.open(journal.directory) as journal:
            left = late_ledger(journal, late.clock, []).cloud.recent.seconds_left(HOME_PLACE, pair.id)
            assert (left > 0) == new, minutes


def test_an_unavailable_image_is_not_gone(late: LateWorld) -> None:
    """InvalidAMIID.Unavailable is also the answer for an image in another state."""
    image = foreign_image(late)
    refused = {"action": "DeregisterImage", "nth": 0, "code": "InvalidAMIID.Unavailable", "status": 400}
    late.paper.set(faults=[refused])
    with pytest.raises(CloudError, match=r"image ami-\w+ in .* exists, but DeregisterImage does not delete it"):
        images.delete(late.ledger, HOME_PLACE, image)
    assert not late.journal.is_gone(HOME_PLACE, image)
    late.paper.set(faults=[])
    late.raw("ec2").deregister_image(ImageId=image)
    late.paper.set(faults=[refused])  # EC2 answers so for a deregistered image, too
    images.delete(late.ledger, HOME_PLACE, image)
    assert late.journal.is_gone(HOME_PLACE, image)
    assert late.raw("ec2").describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


def test_what_was_busy_and_is_not_found_is_gone_at_once(late: LateWorld) -> None:
    """EC2 deletes a volume with its instance. The volume is not in the journal, so its age is not known, and only the
    refusal before tells that it is not too new to be found."""
    late.paper.set(faults=[{"action": "DeleteVolume", "nth": 1, "code": "VolumeInUse", "status": 400}])
    volume = "vol-0123456789abcdef0"
    assert late.elapsed(lambda: late.ledger.delete("volume", HOME_PLACE, volume)) < 5
    assert late.mutations()["DeleteVolume"] == 2
    assert late.ledger.was_absent(HOME_PLACE, volume)


@pytest.mark.parametrize("before", [None, "IncorrectState"], ids=["never found", "still being created"])
def test_what_is_not_found_and_may_be_new_is_asked_for_again(late: LateWorld, before: str | None) -> None:
    """Nobody knows the age of this volume, and nothing uses it. A volume that is being created is new: a call may find
    it, and the next one not."""
    if before is not None:
        late.paper.set(faults=[{"action": "DeleteVolume", "nth": 1, "code": before, "status": 400}])
    volume = "vol-0123456789abcdef0"
    assert late.elapsed(lambda: late.ledger.delete("volume", HOME_PLACE, volume)) > 30
    assert late.ledger.was_absent(HOME_PLACE, volume)


def test_what_is_known_to_be_new_is_not_gone_because_it_was_busy(late: LateWorld) -> None:
    vpc = network.subnets(late.cloud, HOME_PLACE, Network())[0].vpc_id
    busy = {"action": "DeleteSecurityGroup", "nth": 1, "code": "DependencyViolation", "status": 400}
    late.paper.set(faults=[busy], visibility_delay=DELAY)
    group = security_groups.create(late.ledger, "group", HOME_PLACE, vpc_id=vpc)
    late.ledger.delete("security-group", HOME_PLACE, group)
    late.clock.sleep(DELAY)
    assert count(late, "security-group") == 0


def test_a_resource_that_is_listed_is_not_gone(late: LateWorld) -> None:
    """However old it is: its id, and its token, are looked for."""
    group = new_group(late)
    late.clock.sleep(recent.LONGEST)
    refused = {"action": "DeleteSecurityGroup", "times": 3, "code": "InvalidGroup.NotFound", "status": 400}
    late.paper.set(faults=[refused])
    late.ledger.delete("security-group", HOME_PLACE, group)
    assert late.mutations()["DeleteSecurityGroup"] == 4
    assert count(late, "security-group") == 0


def test_an_instance_that_reads_omit_for_a_while_still_runs(late: LateWorld) -> None:
    """A describe without the instance does not end the wait for its end."""
    instance = launch_only(late)
    late.clock.sleep(recent.LONGEST)
    late.paper.set(visibility_delay=20.0)
    other = launch_only_another(late)
    interval = waiters.Interval(first=1.0, longest=1.0, jitter=0.0)
    seen = waiters.Watch(
        late.cloud, HOME_PLACE, waiters.TERMINATED, [other], timeout=30.0, interval=interval
    ).until_ready()
    assert (seen[other].readiness, seen[other].state) == ("pending", "running")
    assert sorted(running(late)) == sorted([instance, other])


@pytest.mark.parametrize(("hidden", "ok"), [(20.0, True), (100_000.0, False)])
def test_a_copy_that_one_late_look_omits_is_not_gone(late: LateWorld, hidden: float, ok: bool) -> None:
    """However long ago the look before was. What stays missing for a minute is gone."""
    late.paper.set(pending={"copy": 3000.0})
    copy = make_copy(late)
    looks: list[float] = []
    since: list[float] = []

    def hide() -> None:
        looks.append(late.clock.now())
        if not since and len(looks) > 1 and looks[-1] - looks[-2] > 100.0:
            since.append(looks[-1])
            late.paper.cloud.ec2._cloud.store.images[copy].visible_from = looks[-1] + hidden

    assert images.wait(late.ledger, HOME_PLACE, [copy], check=hide)[copy].ok == ok
    assert since
    if not ok:
        assert 60.0 <= looks[-1] - since[0] < 200.0


def launch_only_another(world: World) -> str:
    base = debian(world.cloud)
    answer = world.raw("ec2").run_instances(ImageId=base, InstanceType="t3.small", MinCount=1, MaxCount=1)
    world.paper.cloud.ec2.settle()
    return str(answer["Instances"][0]["InstanceId"])


def test_an_adopted_instance_may_be_invisible_again(late: LateWorld) -> None:
    """Whether it is gone is asked for by a filter, which is no error for an id that is not visible."""
    late.paper.set(visibility_delay=DELAY)
    instance = launch_only_another(late)
    assert not kind_of("instance").is_gone(late.cloud, HOME_PLACE, instance)
    assert not kind_of("instance").is_there(late.cloud, HOME_PLACE, instance, None)


# --- calls that are sent again ----------------------------------------------------------------------------------------


def test_a_launch_waits_for_its_group_and_its_key_pair(late: LateWorld) -> None:
    late.paper.set(visibility_delay=DELAY)
    instance = launch_only(late)
    assert instances.wait_running(late.ledger, HOME_PLACE, [instance])[instance].state == "running"
    calls = [(c["action"], c["result"]) for c in late.paper.calls]
    assert ("AuthorizeSecurityGroupIngress", "InvalidGroup.NotFound") in calls
    assert calls.count(("RunInstances", "ok")) == 1
    assert len(late.journal.intents("builder")) == 1, "the same attempt, not a new one"


def test_a_key_pair_alone_is_waited_for(late: LateWorld) -> None:
    group = new_group(late)
    late.paper.set(visibility_delay=DELAY)
    name = keypairs.create(late.ledger, "key-pair", HOME_PLACE, public_key=PUBLIC_KEY)
    base = debian(late.cloud)
    subnets = network.subnets(late.cloud, HOME_PLACE, Network())
    instances.launch(
        late.ledger, "builder", HOME_PLACE, instances.LaunchSpec(base, ("t3.small",), subnets, group, name)
    )
    results = [c["result"] for c in late.paper.calls if c["action"] == "RunInstances"]
    assert set(results) == {"InvalidKeyPair.NotFound", "ok"}


def test_another_account_copies_as_soon_as_it_may(late: LateWorld) -> None:
    """The launch permission first, the permission on the snapshots then: each has no effect for a while."""
    source = foreign_image(late)
    late.paper.set(visibility_delay=DELAY)
    images.share(late.ledger, "share", HOME_PLACE, source, accounts=[APPS.id])
    copy = images.copy(
        late.ledger,
        "copy",
        APPS_PLACE,
        source_image_id=source,
        source_region=HOME_PLACE.region,
        name="web 1.4",
        kms_key="alias/golden-ami",
    )
    assert images.wait(late.ledger, APPS_PLACE, [copy])[copy].ok
    results = [c["result"] for c in late.paper.calls if c["action"] == "CopyImage"]
    assert set(results) == {"AuthFailure", "ok"}
    assert len(late.journal.intents("copy")) == 1


def test_a_snapshot_is_copied_as_soon_as_it_is_shared(late: LateWorld) -> None:
    image = foreign_image(late)
    (source,) = snapshots.of_image(images.describe_many(late.cloud, HOME_PLACE, [image])[image])
    late.paper.set(visibility_delay=DELAY)
    snapshots.share(late.ledger, "share", HOME_PLACE, source, [APPS.id])
    snapshots.copy(late.ledger, "copy", APPS_PLACE, source=source, source_region=HOME_PLACE.region, name="copy")
    results = [c["result"] for c in late.paper.calls if c["action"] == "CopySnapshot"]
    assert set(results) == {"InvalidSnapshot.NotFound", "ok"}


def test_a_new_image_is_shared_with_its_snapshots(late: LateWorld) -> None:
    instance = foreign_instance(late)
    late.paper.set(visibility_delay=DELAY)
    image = images.create(late.ledger, "image", HOME_PLACE, instance_id=instance, name="new", no_reboot=True)
    images.share(late.ledger, "share", HOME_PLACE, image, accounts=[APPS.id])
    (behind,) = snapshots.of_image(images.describe_many(late.cloud, HOME_PLACE, [image])[image])
    assert snapshots.volume_permissions(late.cloud, HOME_PLACE, behind) == {APPS.id}


def test_an_id_that_this_build_did_not_make_fails_at_once(late: LateWorld) -> None:
    rule = {"GroupId": "sg-0123456789abcdef0", "IpPermissions": []}
    permission = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "192.0.2.1/32"}]}
    call = Call("ec2", "AuthorizeSecurityGroupIngress", {**rule, "IpPermissions": [permission]})

    def change() -> None:
        with pytest.raises(CloudError, match=r"InvalidGroup\.NotFound"):
            late.ledger.change("rule", HOME_PLACE, call)

    assert late.elapsed(change) < 1
    assert late.mutations()["AuthorizeSecurityGroupIngress"] == 1
    image = foreign_image(late)

    def copy() -> None:
        with pytest.raises(AccessError, match="Not authorized for images") as caught:
            images.copy(
                late.ledger,
                "copy",
                APPS_PLACE,
                source_image_id=image,
                source_region=HOME_PLACE.region,
                name="web 1.4",
                kms_key="alias/golden-ami",
            )
        assert caught.value.hint == f"Its owner must share the image, and its snapshots, with account {APPS.id}."

    assert late.elapsed(copy) < 1


def test_another_error_about_something_new_fails_at_once(late: LateWorld) -> None:
    group = new_group(late)
    refused = {"action": "RunInstances", "nth": 0, "code": "InvalidParameterValue", "status": 400}
    late.paper.set(faults=[refused])
    name = keypairs.create(late.ledger, "key-pair", HOME_PLACE, public_key=PUBLIC_KEY)
    base = debian(late.cloud)
    subnets = network.subnets(late.cloud, HOME_PLACE, Network())
    spec = instances.LaunchSpec(base, ("t3.small",), subnets, group, name)

    def launched() -> None:
        with pytest.raises(CloudError, match="InvalidParameterValue"):
            instances.launch(late.ledger, "builder", HOME_PLACE, spec)

    assert late.elapsed(launched) < 1


def test_what_stays_unknown_fails_after_the_longest_delay(late: LateWorld) -> None:
    group = new_group(late)
    refused = {"action": "AuthorizeSecurityGroupIngress", "nth": 0, "code": "InvalidGroup.NotFound", "status": 400}
    late.paper.set(faults=[refused])
    permission = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "192.0.2.1/32"}]}
    call = Call("ec2", "AuthorizeSecurityGroupIngress", {"GroupId": group, "IpPermissions": [permission]})

    def change() -> None:
        with pytest.raises(CloudError, match=r"InvalidGroup\.NotFound"):
            late.ledger.change("rule", HOME_PLACE, call)

    assert recent.LONGEST - 20 < late.elapsed(change) < recent.LONGEST + 20


def test_a_copy_without_its_key_may_pass_while_a_grant_is_new() -> None:
    clock = Clock()
    known = recent.Recent(clock.now)
    reason = "image ami-1 in apps failed: Given key ID is not accessible"
    assert not known.key_may_come(reason, ["arn:1"])
    known.granted("arn:1")
    assert known.key_may_come(reason, ["arn:2", "arn:1"])
    assert not known.key_may_come("image ami-1 in apps failed: internal error", ["arn:1"])
    clock.sleep(recent.LONGEST)
    assert not known.key_may_come(reason, ["arn:1"])


def test_the_patience_for_what_may_not_exist_is_shorter() -> None:
    assert recent.Patience().visible < recent.Patience().known == recent.LONGEST


def test_one_answer_is_for_all_that_is_named(late: LateWorld) -> None:
    """A resource of another build, in another region, with another code: none of them makes a call pass."""
    known: Any = recent.Recent(late.clock.now)
    known.created(HOME_PLACE, "sg-1", {"InvalidGroup.NotFound"})
    missing = CloudError("x", code="InvalidGroup.NotFound")
    assert known.may_pass(missing, {"SecurityGroupIds": ["sg-0", "sg-1"]})
    assert not known.may_pass(missing, {"SecurityGroupIds": ["sg-0"]})
    assert not known.may_pass(CloudError("x", code="InvalidKeyPair.NotFound"), {"SecurityGroupIds": ["sg-1"]})
    known.deleted(HOME_PLACE, "sg-1")
    assert not known.may_pass(missing, {"SecurityGroupIds": ["sg-1"]})


# --- what is said -----------------------------------------------------------------------------------------------------


def test_a_clean_up_says_why_it_waits(late: LateWorld) -> None:
    """After Ctrl-C the screen does not stand still for a minute without a word."""
    request = {"Name": "x", "SourceImageId": "ami-1", "SourceRegion": "eu-central-1"}
    intent = Intent("copy", "create", "image", HOME_PLACE, "gm-copy", "ec2", "CopyImage", request, 1)
    late.journal.intend(intent)
    assert late.ledger.resolve(intent) is None
    (note,) = [event for event in late.events if event.kind == "note"]
    assert note.fields["message"].startswith("the answer to CopyImage is missing. What it may have created is looked ")
    assert "up to 60 s" in note.fields["message"]


def test_nothing_is_said_of_what_is_long_ago(late: LateWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    intent = Intent("copy", "create", "image", HOME_PLACE, "gm-copy", "ec2", "CopyImage", {"Name": "x"}, 1)
    late.journal.intend(intent)
    later = datetime.now(UTC) + timedelta(hours=1)
    monkeypatch.setattr("goldenami.aws.ledger.utc_now", lambda: later)
    assert late.elapsed(lambda: late.ledger.resolve(intent)) < 2
    assert late.events == []


# --- waits beside another one -----------------------------------------------------------------------------------------


def test_an_image_that_was_there_already_teaches_nothing(late: LateWorld) -> None:
    """With encryption at launch, the image of the home region is not copied."""
    image = foreign_image(late)
    late.clock.sleep(5.0)
    watch = images.watch_copies(late.ledger, HOME_PLACE, [image], on_progress=lambda _: None, is_new=False)
    late.clock.sleep(1.0)
    assert watch.look()
    assert "image/copy" not in late.cloud.durations


def copying(
    late: LateWorld, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, list[float], waiters.Percentages]:
    """A copy that takes so many seconds, the moments at which its progress is asked for, and who tells it."""
    late.paper.set(pending={"copy": seconds})
    monkeypatch.setattr(late.cloud, "clock", lambda: late.clock.offset)  # without the time that the machine takes
    source = {"SourceImageId": foreign_image(late), "SourceRegion": HOME_PLACE.region}
    began, asked = late.clock.offset, list[float]()
    id = late.raw("ec2").copy_image(**source, Name=f"copy {began}")["ImageId"]

    def told(ids: Collection[str], _: object) -> dict[str, float]:
        asked.append(late.clock.offset - began)
        return dict.fromkeys(ids, (late.clock.offset - began) / seconds * 100 // 1)

    return id, asked, told


def test_a_resumed_wait_teaches_no_duration(late: LateWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy was under way for long before."""
    id, _, told = copying(late, 240.0, monkeypatch)
    late.clock.sleep(180.0)
    watch = waiters.Watch(late.cloud, HOME_PLACE, waiters.COPIES, [id], percent=told)
    assert watch.until_ready(sleep=late.clock.sleep)[id].ok
    assert "image/copy" not in late.cloud.durations


def test_a_wait_is_as_long_as_its_progress_told_however_late_its_last_look_was(
    late: LateWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, _, told = copying(late, 240.0, monkeypatch)
    watch = waiters.Watch(late.cloud, HOME_PLACE, waiters.COPIES, [id], percent=told, is_new=True)
    for seconds in (60.0, 60.0, 180.0):
        assert watch.pause > 0.0
        late.clock.sleep(seconds)
        watch.look()
    assert watch.seen[id].ok
    assert late.cloud.durations["image/copy"] == pytest.approx(240.0, rel=0.02)


def test_a_wait_as_long_as_the_last_one_is_not_looked_at_too_early(
    late: LateWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The progress of the last one told only that it takes between 235.5 and 239.3 seconds."""
    id, _, told = copying(late, 239.0, monkeypatch)
    watch = waiters.Watch(late.cloud, HOME_PLACE, waiters.COPIES, [id], percent=told, is_new=True)
    for seconds in (60.0, 86.0, 180.0):
        late.clock.sleep(seconds)
        watch.look()
    assert watch.seen[id].ok
    id, asked, told = copying(late, 239.0, monkeypatch)
    watch = waiters.Watch(late.cloud, HOME_PLACE, waiters.COPIES, [id], percent=told, is_new=True)
    began, ended = late.clock.offset, list[bool]()
    while True not in ended:
        late.clock.sleep(watch.pause)
        ended.append(watch.look())
    assert (ended, len(asked)) == ([False, True], 1), "one look at its progress, and one at its end"
    assert late.clock.offset - began <= 1.01 * 239.0


def test_a_copy_that_is_a_little_late_is_not_asked_for_its_progress_again(
    late: LateWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, asked, told = copying(late, 241.5, monkeypatch)
    late.cloud.durations["image/copy"] = 240.0
    watch = waiters.Watch(late.cloud, HOME_PLACE, waiters.COPIES, [id], percent=told, is_new=True)
    assert watch.until_ready(sleep=late.clock.sleep)[id].ok
    assert len(asked) == 1
    assert late.cloud.durations["image/copy"] == pytest.approx(241.5, rel=0.01)


def test_a_copy_whose_progress_contradicts_a_forecast_is_not_looked_at_too_late(
    late: LateWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last progress was a little too short, and is not read again. The first copy takes three times as long."""
    id, _, told = copying(late, 101.5, monkeypatch)
    began = late.clock.offset
    forecast = waiters.Forecast(begun=True, span=(298.0, 302.0))
    late.cloud.durations["image/copy"] = 300.0
    watch = waiters.Watch(late.cloud, HOME_PLACE, waiters.COPIES, [id], percent=told, is_new=True, forecast=forecast)
    for seconds in (50.13, 50.13):
        late.clock.sleep(seconds - 25.0)
        assert not watch.look()
        late.clock.sleep(25.0)
        assert not watch.look()
    assert watch.until_ready(sleep=late.clock.sleep)[id].ok
    assert late.clock.offset - began < 1.1 * 101.5


def test_a_copy_that_fails_soon_is_seen_soon_beside_a_long_one(late: LateWorld) -> None:
    source = {"SourceImageId": foreign_image(late), "SourceRegion": HOME_PLACE.region, "Encrypted": True}
    ec2, forecast = late.raw("ec2"), waiters.Forecast()
    watch = partial(
        images.watch_copies, late.ledger, HOME_PLACE, on_progress=lambda _: None, is_new=True, forecast=forecast
    )
    late.paper.set(pending={"copy": 3600})
    first = watch([ec2.copy_image(**source, Name="first", KmsKeyId="alias/golden-ami")["ImageId"]])
    while forecast.span is None:
        late.clock.sleep(first.pause)
        assert not first.look()
    late.paper.set(pending={"copy": 5})
    missing = f"arn:aws:kms:{HOME_PLACE.region}:{HOME_PLACE.account}:key/00000000-0000-4000-8000-000000000000"
    id = ec2.copy_image(**source, Name="second", KmsKeyId=missing)["ImageId"]
    began, second = late.clock.offset, watch([id])
    late.clock.sleep(second.pause)
    while not second.look():
        late.clock.sleep(second.pause)
    assert second.seen[id].readiness == "failed"
    assert late.clock.offset - began < 120.0


def test_the_copies_of_a_crowd_look_once_each(late: LateWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the first forecast was too short, because its percent was rounded: 43.3 seconds of 240 are 18.04."""
    source = {"SourceImageId": foreign_image(late), "SourceRegion": HOME_PLACE.region}
    late.paper.set(pending={"copy": 240})
    late.cloud.durations["image"] = 86.6
    monkeypatch.setattr(late.cloud, "clock", lambda: late.clock.offset)  # without the time that the machine takes
    began, asked = late.clock.offset, list[str]()
    ids = [late.raw("ec2").copy_image(**source, Name=f"copy {n}")["ImageId"] for n in range(4)]

    def told(which: Collection[str], _: object) -> dict[str, float]:
        asked.extend(which)
        return dict.fromkeys(which, (late.clock.offset - began) / 2.4 // 1)

    every = waiters.Forecast()
    here, there = (waiters.Forecast(like=every) for _ in range(2))
    watches = [
        waiters.Watch(late.cloud, HOME_PLACE, waiters.COPIES, [id], percent=told, is_new=True, forecast=forecast)
        for id, forecast in zip(ids, (here, there, here, there), strict=True)
    ]
    due = [(began + watch.pause, number) for number, watch in enumerate(watches)]
    while due:
        at, number = heapq.heappop(due)
        late.clock.sleep(max(at - late.clock.offset, 0.0))
        if not watches[number].look():
            heapq.heappush(due, (late.clock.offset + watches[number].pause, number))
    assert all(watch.seen[id].ok for id, watch in zip(ids, watches, strict=True))
    assert [asked.count(id) for id in ids] == [2, 1, 1, 1], "only the first one looks twice"
    assert late.clock.offset - began <= 1.02 * 240


def test_a_forecast_is_corrected_at_each_look_of_the_first_wait(late: LateWorld) -> None:
    source = {"SourceImageId": foreign_image(late), "SourceRegion": HOME_PLACE.region}
    late.paper.set(pending={"copy": 36_000})
    ids = [late.raw("ec2").copy_image(**source, Name=name)["ImageId"] for name in ("first", "second")]
    percent, forecast = 50.0, waiters.Forecast()

    def told(asked: Collection[str], _: object) -> dict[str, float]:
        return dict.fromkeys(asked, percent)

    first, second = (
        waiters.Watch(late.cloud, HOME_PLACE, waiters.COPIES, [id], percent=told, is_new=True, forecast=forecast)
        for id in ids
    )
    late.clock.sleep(100.0)
    assert not first.look()
    hasty = forecast.span
    assert hasty is not None
    late.clock.sleep(1000.0)
    percent = 52.0
    assert not first.look()
    assert forecast.span is not None
    assert forecast.span[1] > 2 * hasty[1]
    corrected = forecast.span
    percent = 90.0
    assert not second.look()
    assert forecast.span == corrected, "the others learn from it"
