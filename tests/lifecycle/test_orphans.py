"""Orphans: what belongs to nobody is found in every place, and what belongs to somebody is left alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenami.aws import tags
from goldenami.aws.ownership import Owner
from goldenami.cli.main import main
from goldenami.journal import token
from goldenami.model import Place, timestamp
from goldenami.release import orphans
from goldenami.release.orphans import Owners, TaggedResource, decide
from tests.worlds import inventory
from tests.worlds.builds import APPS, HOME, Death, Label, World
from tests.worlds.retiring import differences, releases

HERE = Place(HOME, "eu-central-1")
NOW = datetime(2026, 11, 24, tzinfo=UTC)
BUILD = "20261101-000000-aaaaaaaa"
OWNER = Owner("0123456789abcdef", "test")


def marks(build: str = BUILD, **more: str) -> Mapping[str, str]:
    owner = {tags.CATALOG: "0123456789abcdef", tags.ENVIRONMENT: "test"}
    return {tags.BUILD_ID: build, tags.KEY: "k", tags.TOKEN: token(build, "k", 1), **owner, **more}


def resource(kind: str = "snapshot", id: str = "snap-1", **fields: Any) -> TaggedResource:
    return TaggedResource(
        **{
            "place": HERE,
            "kind": kind,
            "id": id,
            "tags": marks(),
            "made": NOW - timedelta(days=9),
            "proven": True,
            **fields,
        }
    )


def rule(*resources: TaggedResource, owners: Owners = Owners({}, frozenset(), OWNER)) -> tuple[bool, str]:  # noqa: B008  frozen
    decision = decide(resources, owners, NOW)[-1]
    return decision.orphan, decision.rule


def test_who_owns_what() -> None:
    assert rule(resource()) == (True, "no release, instance, build, task or schedule owns it")
    assert rule(resource(), owners=Owners({(HERE, "snap-1"): "web 1"}, frozenset(), OWNER)) == (
        False,
        "of the release web 1",
    )
    assert not rule(resource(), owners=Owners({}, frozenset({BUILD}), OWNER))[0]
    assert rule(resource(tags=marks(**{"goldenami:schedule": "test/nightly"})))[1] == "of the schedule test/nightly"
    assert rule(resource(tags=marks(**{tags.TASK: "snapshot copy"})))[1] == "made by 'snapshot copy' for its user"
    assert rule(resource(proven=False)) == (
        False,
        "the tag goldenami:proof does not prove that goldenami created it: its tags were copied or changed",
    )
    assert rule(resource("volume", "vol-1", used_by="i-1")) == (False, "used by i-1")
    assert not rule(resource(made=NOW - timedelta(hours=2)))[0]
    young = timestamp(NOW + timedelta(hours=1))
    assert rule(resource(tags=marks(**{tags.EXPIRES_AT: young})))[1].endswith(
        "which may run until 2026-11-24 01:00 UTC"
    )
    assert rule(resource(tags=marks(**{tags.EXPIRES_AT: timestamp(NOW - timedelta(hours=1))})))[0]


def test_a_snapshot_follows_its_image() -> None:
    image, snapshot = resource("image", "ami-1"), resource(used_by="ami-1")
    assert rule(image, snapshot)[0]
    assert rule(image, snapshot, owners=Owners({(HERE, "ami-1"): "web 1"}, frozenset(), OWNER)) == (
        False,
        "used by ami-1",
    )
    assert not rule(snapshot)[0]  # of an image that is not ours


def test_an_image_in_use_is_kept_with_its_snapshots() -> None:
    image, snapshot = resource("image", "ami-1"), resource(used_by="ami-1")
    kept = decide([image, snapshot], Owners({}, frozenset(), OWNER), NOW, {(HERE, "ami-1"): "in use: instance i-1"})
    assert [(v.orphan, v.rule) for v in kept] == [(False, "in use: instance i-1"), (False, "used by ami-1")]


@pytest.mark.parametrize(
    ("own", "whose", "reason"),
    [
        ({tags.CATALOG: "fedcba9876543210"}, "theirs", "of the catalog fedcba9876543210, environment test"),
        ({tags.ENVIRONMENT: "other"}, "theirs", "of the environment other, which has the same catalog"),
        ({tags.CATALOG: ""}, "unknown", "without the tag goldenami:catalog: the owner cannot be determined"),
        ({tags.ENVIRONMENT: ""}, "unknown", "without the tag goldenami:environment: the owner cannot be determined"),
        ({"aws:dlm:lifecycle-policy-id": "policy-1"}, "theirs", "created by Data Lifecycle Manager"),
        ({"aws:backup:source-resource": "x"}, "theirs", "created by AWS Backup"),
        ({tags.TASK: "snapshot copy", tags.CATALOG: "fedcba9876543210"}, "theirs", "of the catalog fedcba9876543210"),
    ],
)
def test_what_is_not_ours_is_never_an_orphan(own: dict[str, str], whose: str, reason: str) -> None:
    found = {k: v for k, v in marks(**own).items() if v}
    (decision,) = decide([resource(tags=found)], Owners({}, frozenset(), OWNER), NOW)
    assert (decision.orphan, decision.whose) == (False, whose)
    assert decision.rule.startswith(reason)
    # A catalog without an id owns nothing.
    (decision,) = decide([resource(tags=found)], Owners({}, frozenset(), Owner(None, "test")), NOW)
    assert not decision.orphan
    assert decision.whose != "ours"


KINDS = st.sampled_from(["instance", "image", "snapshot", "volume", "key-pair", "security-group", "parameter"])


@given(st.lists(st.tuples(KINDS, st.integers(0, 6), st.integers(0, 40), st.integers(0, 5)), max_size=60))
def test_random_estates(rows: list[tuple[str, int, int, int]]) -> None:
    released, unfinished = {}, frozenset({"20261102-000000-bbbbbbbb"})
    resources = []
    for number, (kind, owner, hours, user) in enumerate(rows):
        id = f"/golden-ami/web{number}/x86_64/1.0.20261101.1/image-id" if kind == "parameter" else f"{kind}-{number}"
        given_tags = {
            1: marks("20261102-000000-bbbbbbbb"),
            2: marks(**{tags.TASK: "x"}),
            3: marks(**{"goldenami:schedule": "x"}),
        }.get(owner, marks())
        if owner == 5:
            released[HERE, id] = "web 1"
        used = f"i-{user}" if user == 1 else ""
        made = NOW - timedelta(hours=hours)
        resources.append(resource(kind, id, tags=given_tags, made=made, used_by=used, proven=owner != 4))
    for decision in decide(resources, Owners(released, unfinished, OWNER), NOW):
        one = decision.resource
        plain = one.proven and one.tags == marks() and (HERE, one.id) not in released and not one.used_by
        assert decision.orphan == (plain and one.made is not None and NOW - one.made >= timedelta(days=1))


# --- in the cloud -----------------------------------------------------------------------------------------------------


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


def lose(world: World, made: Any) -> None:
    """The catalog forgets a release, and the journals their builds, as when a directory was not kept."""
    path = world.path / ".goldenami/test"
    (path / f"catalog/releases/web/{made.version}.json").unlink()
    for file in (path / "builds").glob(f"{made.build_id}*"):
        shutil.rmtree(file)


def test_a_release_that_the_catalog_forgot(world: World) -> None:
    made = releases(world, 3)
    decoys = inventory.place_decoys(world)
    lose(world, made[0])
    now = datetime.now(UTC) + timedelta(days=9)
    before = inventory.take(world)
    world.cloud.start_process()
    asked = len(world.paper.calls)
    found = orphans.find(world.cloud, world.environment, world.catalog, now)
    tagged = [c for c in world.paper.calls[asked:] if c["action"] == "ListTagsForResource"]
    assert len(tagged) == len(made[0].images) + 2, "of parameters, only those that no release owns, and the decoys"
    assert world.cloud.mutations == []
    assert inventory.take(world) == before
    lost = {i.image_id for i in made[0].images} | {s.snapshot_id for i in made[0].images for s in i.snapshots}
    assert {t.id for t in found.orphaned if t.kind in ("image", "snapshot")} == lost
    assert {t.place.account for t in found.orphaned} == {HOME, APPS}
    # Too young to tell, a moment ago.
    young = orphans.find(world.cloud, world.environment, world.catalog, datetime.now(UTC))
    assert young.orphaned == ()
    done = orphans.delete(world.cloud, world.environment, world.catalog, now)
    assert done.left == {}
    left = [d for d in differences(world, made[1:], decoys) if "grant" not in d]
    assert left == []
    world.cloud.start_process()
    assert orphans.delete(world.cloud, world.environment, world.catalog, now).orphaned == ()
    assert world.cloud.mutations == []


def test_a_security_group_in_use_beyond_the_first_page(world: World) -> None:
    """EC2 takes 200 values in a filter: the groups after them were all called unused."""
    ec2 = world.client("ec2", HERE)
    subnet = ec2.describe_subnets()["Subnets"][0]
    groups = []
    for number in range(201):
        request = {"GroupName": f"g-{number}", "Description": "x", "VpcId": subnet["VpcId"]}
        groups.append(ec2.create_security_group(**request)["GroupId"])
    last = max(groups)
    image = ec2.describe_images(Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])["Images"][0]["ImageId"]
    made = ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1, SecurityGroupIds=[last])
    used = orphans.users_of_groups(world.cloud, HERE, sorted(groups))
    assert used == {last: made["Instances"][0]["InstanceId"]}


def test_a_place_that_does_not_answer(world: World) -> None:
    made = releases(world, 1)
    lose(world, made[0])
    refusal = {"code": "AccessDenied", "status": 403, "nth": 0}
    world.paper.set(faults=[{"action": "ec2:DescribeVolumes", "account": APPS, "region": "eu-central-1", **refusal}])
    now = datetime.now(UTC) + timedelta(days=9)
    found = orphans.find(world.cloud, world.environment, world.catalog, now)
    assert list(found.unreachable) == [Place(APPS, "eu-central-1")]
    assert Place(APPS, "eu-central-1") not in {t.place for t in found.orphaned}


def test_the_commands(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made = releases(world, 3)
    monkeypatch.chdir(world.path)
    assert main(["retire", "-e", "test", "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "goldenami.retire/1"
    current, previous, old = [r["rule"] for r in document["releases"]]
    assert (current, previous) == ("current of the channel stable", "previous of the channel stable")
    assert old.startswith("launched less than 7 days ago")  # by its own test
    name = f"web@{made[0].version}"
    assert main(["pin", name, "-e", "test", "--reason", "audit"]) == 0
    capsys.readouterr()
    assert main(["images", "list", "-e", "test", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["releases"]
    assert [(r["pinned"], r["retired"]) for r in rows] == [(None, None), (None, None), ("audit", None)]
    assert main(["retire", "web", "-e", "test"]) == 0
    assert f"keep       web {made[0].version}: pinned: audit" in capsys.readouterr().out
    assert main(["unpin", name, "-e", "test"]) == 0
    assert main(["pin", "web", "-e", "test", "--reason", "x"]) == 2
    assert main(["pin", "web@1.0.20200101.1", "-e", "test", "--reason", "x"]) == 3
    assert main(["retire", "wbe", "-e", "test"]) == 3
    capsys.readouterr()
    assert main(["orphans", "-e", "test", "--all", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "goldenami.orphans/1"
    assert {o["orphan"] for o in document["orphans"]} == {False}
    assert main(["orphans", "-e", "test", "--delete", "--dry-run"]) == 2


def test_killed_while_deleting_the_next_run_ends_it(world: World) -> None:
    made = releases(world, 2)
    lose(world, made[0])
    now = datetime.now(UTC) + timedelta(days=9)
    assert len(orphans.find(world.cloud, world.environment, world.catalog, now).orphaned) > 9
    for action in ("DeregisterImage", "DeleteSnapshot"):
        world.cloud.start_process(Label("ec2", action, HOME, "eu-central-1", 1), "after")
        with pytest.raises(Death):
            orphans.delete(world.cloud, world.environment, world.catalog, now)
    world.cloud.start_process()
    orphans.delete(world.cloud, world.environment, world.catalog, now)
    assert [d for d in differences(world, made[1:]) if "grant" not in d] == []
