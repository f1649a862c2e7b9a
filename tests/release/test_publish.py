"""A channel moves in every target or in none, whatever fails, and wherever the process dies."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from goldenami.aws.ledger import Ledger
from goldenami.errors import CatalogError, Interrupted, TargetsFailed
from goldenami.model import ImageManifest, Place, TestReport
from goldenami.release.catalog import Catalog
from goldenami.release.catalogfiles import Channel
from goldenami.release.distribute import distribute
from goldenami.release.order import ReleaseOrder
from goldenami.release.parameters import parameter_name, parameters_for
from goldenami.release.publish import Published, publish
from goldenami.release.unchanged import find_unchanged
from goldenami.release.verify import verify

if TYPE_CHECKING:
    from tests.worlds.releases import World

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
CHANNEL = "/golden-ami/debian-12-web/x86_64/stable/image-id"


class Killed(BaseException):
    """Stands for the end of the process: nothing in the product catches it."""


def make(world: World, version: str, *, everywhere: bool = False) -> tuple[Ledger, ImageManifest]:
    """A verified version that is not published yet: in three targets, of both accounts and modes, or in all six."""
    from tests.worlds.releases import TARGETS

    targets = TARGETS if everywhere else (TARGETS[2], TARGETS[4], TARGETS[5])
    ledger, order = world.build(version), world.order(version, targets=targets)
    with distribute(ledger, order, {"x86_64": world.candidate()}) as distribution:
        verified = verify(ledger, order, distribution.finish())
    return ledger, world.manifest(ledger, order, verified)


def go(world: World, ledger: Ledger, manifest: ImageManifest, **more: Any) -> Published:
    from tests.worlds.releases import TARGETS

    options: dict[str, Any] = {"channel": "stable", "prefix": "/golden-ami", "targets": TARGETS, "now": NOW}
    return publish(ledger, world.catalog, manifest, **options | more)


def values(world: World, manifest: ImageManifest, which: str, *, whole: bool = True) -> Mapping[Place, str | None]:
    """The image ids, by plain boto3. ``whole``: what stands beside those of a channel has to tell of the same image."""
    wanted = parameters_for(manifest, "/golden-ami", which)
    found = {parameter.place: world.parameter(parameter.place, parameter.name) for parameter in wanted}
    if which == "stable" and whole:
        for place, image_id in found.items():
            version, facts = described(world, place)
            assert (image_id, version) == (facts.get("image_id"), facts.get("version"))
    return found


def described(world: World, place: Place) -> tuple[str | None, dict[str, Any]]:
    """The channel's version and manifest in a place."""
    path = "/golden-ami/debian-12-web/x86_64/stable"
    manifest = world.parameter(place, f"{path}/manifest")
    return world.parameter(place, f"{path}/version"), json.loads(manifest or "{}")


def ids(manifest: ImageManifest) -> Mapping[Place, str | None]:
    return {Place(image.account, image.region): image.image_id for image in manifest.images}


def test_names() -> None:
    assert parameter_name("/golden-ami", "debian-12-web", "x86_64", "stable") == CHANNEL


def test_a_release_is_published_everywhere(world: World) -> None:
    ledger, manifest = make(world, "1.4.20261124.1", everywhere=True)
    published = go(world, ledger, manifest, emit=world.events.append)
    assert (published.channel.current, published.failures) == ("1.4.20261124.1", {})
    assert values(world, manifest, "stable") == values(world, manifest, "1.4.20261124.1") == ids(manifest)
    assert len(ids(manifest)) == 6
    assert world.catalog.get("debian-12-web", "1.4.20261124.1") == manifest
    for place in ids(manifest):
        ssm = world.client("ssm", place)
        for which in ("stable", "1.4.20261124.1"):
            name = parameter_name("/golden-ami", "debian-12-web", "x86_64", which)
            assert ssm.get_parameter(Name=name)["Parameter"]["DataType"] == "aws:ec2:image"
            tags = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"]
            assert {"Key": "goldenami:recipe", "Value": "debian-12-web"} in tags
            assert "goldenami:expires-at" not in {t["Key"] for t in tags}, "it is nobody's to collect now"
    assert world.states("apps/eu-west-1") == ["publishing", "published"]
    marked = [{"Name": "key", "Values": ["goldenami:expires-at"]}]
    for place in ids(manifest):
        assert world.client("ec2", place).describe_tags(Filters=marked)["Tags"] == [], "it is nobody's to collect now"


def test_a_channel_tells_the_version_and_the_manifest(world: World) -> None:
    ledger, manifest = make(world, "1.4.20261124.1")
    go(world, ledger, manifest)
    file = world.path / "catalog" / "releases" / "debian-12-web" / "1.4.20261124.1.json"
    for image in manifest.images:
        version, facts = described(world, image.place)
        assert version == "1.4.20261124.1"
        assert facts == {
            "schema": "goldenami.channel-manifest/1",
            "name": "debian-12-web",
            "version": "1.4.20261124.1",
            "architecture": "x86_64",
            "image_id": image.image_id,
            "created": manifest.created,
            "manifest": None,  # nobody else can read a directory
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }


def test_what_describes_an_image_is_there_before_the_image(world: World) -> None:
    """Who reacts to a new image id reads the version and the manifest of the same release."""
    go(world, *make(world, "1.4.20261124.1"))
    ledger, manifest = make(world, "1.4.20261124.2")
    go(world, ledger, manifest)
    puts = ledger.journal.calls("parameter-value")
    moved = [str(put.request["Name"]).rpartition("/")[2] for put in puts]
    assert sorted(moved[:6]) == ["manifest"] * 3 + ["version"] * 3
    assert moved[6:] == ["image-id"] * 3


def test_an_account_that_only_has_a_share_gets_parameters_if_it_is_told(world: World) -> None:
    from tests.worlds.releases import APPS, TARGETS

    targets = TARGETS[:2]
    order = world.order(targets=targets, share_accounts=(APPS.id,))
    ledger, manifest = make_shared(world, order, "1.4.20261124.1")
    go(world, ledger, manifest, targets=targets)
    there = [Place(APPS.id, target.region) for target in targets]
    assert [world.parameter(place, CHANNEL) for place in there] == [None, None]
    informed = (replace(APPS, parameters=True),)
    go(world, ledger, manifest, targets=targets, informed=informed)
    by_region = {image.region: image.image_id for image in manifest.images}
    for place in there:
        version = parameter_name("/golden-ami", "debian-12-web", "x86_64", manifest.version)
        assert world.parameter(place, CHANNEL) == world.parameter(place, version) == by_region[place.region]
        assert described(world, place)[1]["image_id"] == by_region[place.region]
    # All or nothing counts for them, too.
    again = make_shared(world, order, "1.4.20261124.2")
    world.paper.set(faults=[
        {"action": "ssm:PutParameter", "account": APPS.id, "region": "eu-west-1", "nth": 4,
         "code": "AccessDeniedException", "status": 400}
    ])  # fmt: skip
    with pytest.raises(TargetsFailed, match="cannot be set in apps/eu-west-1"):
        go(world, *again, targets=targets, informed=informed)
    assert [world.parameter(place, CHANNEL) for place in there] == [by_region[place.region] for place in there]
    assert values(world, manifest, "stable") == ids(manifest)


def make_shared(world: World, order: ReleaseOrder, version: str) -> tuple[Ledger, ImageManifest]:
    order, ledger = replace(order, version=version), world.build(version)
    with distribute(ledger, order, {"x86_64": world.candidate()}) as distribution:
        verified = verify(ledger, order, distribution.finish())
    return ledger, world.manifest(ledger, order, verified)


def test_a_second_call_changes_nothing(world: World) -> None:
    ledger, manifest = make(world, "1.4.20261124.1")
    first = go(world, ledger, manifest)
    calls = len(world.paper.calls)
    assert go(world, world.reopened(ledger), manifest) == first
    assert world.mutations(calls) == []
    other = world.build("1.4.20261124.1", build_id="another")
    assert go(world, other, manifest) == first, "nor one by another build"
    assert world.mutations(calls) == []


def test_the_next_release_moves_the_channel_and_leaves_the_version(world: World) -> None:
    first = make(world, "1.4.20261124.1")
    second = make(world, "1.4.20261124.2")
    go(world, *first)
    moved = go(world, *second)
    assert (moved.channel.current, moved.channel.previous) == ("1.4.20261124.2", "1.4.20261124.1")
    assert values(world, second[1], "stable") == ids(second[1])
    assert values(world, first[1], "1.4.20261124.1") == ids(first[1])
    back = go(world, *first)
    assert back.channel.current == "1.4.20261124.1"
    assert values(world, first[1], "stable") == ids(first[1])
    assert go(world, *second).channel.current == "1.4.20261124.2", "forward again, by the build that did it before"
    assert values(world, second[1], "stable") == ids(second[1])


@pytest.mark.parametrize("nth", [1, 3])
def test_if_a_version_cannot_be_named_everywhere_nothing_is_published(world: World, nth: int) -> None:
    ledger, manifest = make(world, "1.4.20261124.1")
    world.paper.set(faults=[
        {"action": "ssm:PutParameter", "nth": nth, "code": "ParameterLimitExceeded", "status": 400}
    ])  # fmt: skip
    with pytest.raises(TargetsFailed, match="nothing was published") as caught:
        go(world, ledger, manifest)
    assert len(caught.value.failures) == 1
    nothing = dict.fromkeys(ids(manifest))
    assert values(world, manifest, "1.4.20261124.1") == values(world, manifest, "stable") == nothing
    assert world.catalog.names() == ()
    assert go(world, world.reopened(ledger), manifest).channel.current == "1.4.20261124.1", "resuming publishes"
    assert values(world, manifest, "1.4.20261124.1") == values(world, manifest, "stable") == ids(manifest)


@pytest.mark.parametrize("nth", [4, 9, 10, 12])
@pytest.mark.parametrize("before", [True, False], ids=["moved", "new"])
@pytest.mark.sample(3)
def test_if_a_channel_cannot_move_everywhere_it_moves_nowhere(world: World, nth: int, before: bool) -> None:
    first = make(world, "1.4.20261124.1")
    ledger, manifest = make(world, "1.4.20261124.2")
    old: Mapping[Place, str | None] = dict.fromkeys(ids(manifest))
    if before:
        go(world, *first)
        old = ids(first[1])
    world.paper.set(faults=[
        {"action": "ssm:PutParameter", "nth": nth, "code": "AccessDeniedException", "status": 400}
    ])  # fmt: skip
    with pytest.raises(TargetsFailed, match="debian-12-web@stable was not moved") as caught:
        go(world, ledger, manifest)
    assert len(caught.value.failures) == 1
    assert values(world, manifest, "stable") == old
    pointer = world.catalog.channel("debian-12-web", "stable")
    assert (pointer.current if pointer else None) == ("1.4.20261124.1" if before else None)
    assert go(world, world.reopened(ledger), manifest).channel.current == "1.4.20261124.2", "resuming publishes"
    assert values(world, manifest, "stable") == ids(manifest)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["error", "drop"])
@pytest.mark.parametrize("nth", [2, 5, 11])
@pytest.mark.sample(5)
def test_a_reply_that_is_lost_does_not_stop_it(world: World, nth: int, how: str, when: str) -> None:
    ledger, manifest = make(world, "1.4.20261124.1")
    world.paper.set(faults=[{"action": "ssm:PutParameter", "nth": nth, "how": how, "when": when}])
    assert go(world, ledger, manifest).channel.current == "1.4.20261124.1"
    assert values(world, manifest, "1.4.20261124.1") == values(world, manifest, "stable") == ids(manifest)


def test_a_target_that_cannot_be_put_back_is_named(world: World) -> None:
    from tests.worlds.releases import APPS, HOME

    first, (ledger, manifest) = make(world, "1.4.20261124.1"), make(world, "1.4.20261124.2")
    go(world, *first)
    ireland = {"action": "ssm:PutParameter", "account": APPS.id, "region": "eu-west-1"}
    virginia = {"action": "ssm:PutParameter", "account": HOME.id, "region": "us-east-1"}
    denied = {"code": "AccessDeniedException", "status": 400}
    world.paper.set(faults=[{**ireland, "nth": 4, **denied}, {**virginia, "nth": 5, "times": 9, **denied}])
    with pytest.raises(TargetsFailed, match="in home/us-east-1 the earlier values could not be restored") as caught:
        go(world, ledger, manifest)
    assert sorted(caught.value.failures) == ["apps/eu-west-1", "home/us-east-1 (putting back)"]
    world.paper.set(faults=[])
    assert go(world, world.reopened(ledger), manifest).channel.current == "1.4.20261124.2"
    assert values(world, manifest, "stable") == ids(manifest)


def without_waiting(world: World) -> None:
    """Let sixty seconds pass at once."""
    passed = [0.0]

    def sleep(seconds: float) -> None:
        passed[0] += seconds

    world.cloud.sleep, world.cloud.clock = sleep, lambda: passed[0]


@pytest.mark.parametrize("before", [True, False], ids=["moved", "new"])
def test_an_image_that_is_lost_is_no_release(world: World, before: bool) -> None:
    """SSM answers before it validates: an image that the account cannot use never becomes the value. What a release
    does not need is kept: a resume makes the image again."""
    from tests.worlds.releases import APPS

    first, (ledger, manifest) = make(world, "1.4.20261124.1"), make(world, "1.4.20261124.2")
    old: Mapping[Place, str | None] = dict.fromkeys(ids(manifest))
    if before:
        go(world, *first)
        old = ids(first[1])
    else:
        world.cloud.missing_parameters |= names_of_channel(manifest)
    name = parameter_name("/golden-ami", "debian-12-web", "x86_64", manifest.version)
    without_waiting(world)
    losing = Losing(world, ledger, Place(APPS.id, "eu-west-1"), name)
    released: list[str] = []
    with pytest.raises(TargetsFailed, match=r"nothing was published: .* cannot be set in apps/eu-west-1"):
        go(world, losing, manifest, released=lambda: released.append("now"))
    assert released == []
    assert manifest.version not in world.catalog.versions("debian-12-web")
    assert values(world, manifest, "stable") == old
    assert values(world, manifest, manifest.version) == dict.fromkeys(ids(manifest))


def test_an_image_that_is_lost_after_its_mark_was_removed_moves_no_channel(world: World) -> None:
    from tests.worlds.releases import APPS

    first, (ledger, manifest) = make(world, "1.4.20261124.1"), make(world, "1.4.20261124.2")
    go(world, *first)
    without_waiting(world)
    with pytest.raises(TargetsFailed, match="stable was not moved: its parameters cannot be set in apps/eu-west-1"):
        go(world, Losing(world, ledger, Place(APPS.id, "eu-west-1"), CHANNEL), manifest)
    assert values(world, manifest, "stable") == ids(first[1])
    assert values(world, manifest, manifest.version) == ids(manifest)
    pointer = world.catalog.channel("debian-12-web", "stable")
    assert pointer is not None
    assert pointer.current == "1.4.20261124.1"


def names_of_channel(manifest: ImageManifest) -> set[tuple[Place, str]]:
    path = CHANNEL.removesuffix("image-id")
    return {(place, path + what) for place in ids(manifest) for what in ("version", "manifest", "image-id")}


@pytest.mark.parametrize("what", ["version", "image-id"])
def test_a_channel_that_somebody_creates_during_the_build_is_theirs(world: World, what: str) -> None:
    """The search for the names of the release found no parameters of the channel, so they are not read again. SSM
    refuses to create what exists."""
    ledger, manifest = make(world, "1.4.20261124.1")
    place, path = manifest.images[0].place, CHANNEL.removesuffix("image-id")
    names = (path + "version", path + "manifest", CHANNEL)
    world.cloud.missing_parameters |= {(p, name) for p in ids(manifest) for name in names}
    world.client("ssm", place).put_parameter(Name=path + what, Value="theirs", Type="String")
    with pytest.raises(TargetsFailed, match="stable was not moved: its parameters cannot be set"):
        go(world, ledger, manifest)
    left = {(p, name): world.parameter(p, name) for p in ids(manifest) for name in names}
    assert {key: value for key, value in left.items() if value} == {(place, path + what): "theirs"}
    with pytest.raises(TargetsFailed, match="its parameters cannot be set"):
        go(world, world.reopened(ledger), manifest)
    assert world.parameter(place, path + what) == "theirs"


def test_a_channel_that_another_build_made_meanwhile_is_read(world: World) -> None:
    first, (ledger, manifest) = make(world, "1.4.20261124.1"), make(world, "1.4.20261124.2")
    path = CHANNEL.removesuffix("image-id")
    world.cloud.missing_parameters |= {
        (place, path + what) for place in ids(manifest) for what in ("version", "manifest", "image-id")
    }
    go(world, *first)
    assert go(world, ledger, manifest).channel.current == "1.4.20261124.2"
    assert values(world, manifest, "stable") == ids(manifest)


@pytest.mark.parametrize("before", [True, False], ids=["moved", "new"])
def test_the_parameters_of_a_place_are_read_with_few_calls(world: World, before: bool) -> None:
    """Before the release is made and at the end; only at the end in a new channel where an image is only shared."""
    first, (ledger, manifest) = make(world, "1.4.20261124.1"), make(world, "1.4.20261124.2")
    if before:
        go(world, *first)
    else:
        world.cloud.missing_parameters |= names_of_channel(manifest)
    calls = len(world.paper.calls)
    go(world, ledger, manifest)
    made = Counter(call["action"] for call in world.paper.calls[calls:])
    places, shares = len(ids(manifest)), len([image for image in manifest.images if image.mode == "share"])
    assert made["PutParameter"] == 4 * places
    assert made["GetParameters"] == 2 * places - (0 if before else shares)


@pytest.mark.parametrize("before", [True, False], ids=["moved", "new"])
def test_if_the_pointer_cannot_move_the_parameters_go_back(world: World, before: bool) -> None:
    first, (ledger, manifest) = make(world, "1.4.20261124.1"), make(world, "1.4.20261124.2")
    old: Mapping[Place, str | None] = dict.fromkeys(ids(manifest))
    if before:
        go(world, *first)
        old = ids(first[1])
    for error in (CatalogError("the disk is full"), KeyboardInterrupt(), Interrupted("interrupted")):
        world.catalog = FailingCatalog(world.path / "catalog", error)
        with pytest.raises(type(error)):
            go(world, ledger, manifest)
        assert values(world, manifest, "stable") == old
    world.catalog = Catalog(world.path / "catalog")
    assert go(world, world.reopened(ledger), manifest).channel.current == "1.4.20261124.2"
    assert values(world, manifest, "stable") == ids(manifest)


@pytest.mark.parametrize("nth", [5, 11], ids=["texts", "images"])
def test_an_interruption_between_two_targets_puts_back_what_moved(world: World, nth: int) -> None:
    first, (ledger, manifest) = make(world, "1.4.20261124.1"), make(world, "1.4.20261124.2")
    go(world, *first)
    stopping = Stopping(ledger, "PutParameter", nth)
    with pytest.raises(Interrupted):
        go(world, stopping, manifest)
    assert values(world, manifest, "stable") == ids(first[1])
    assert go(world, world.reopened(ledger), manifest).channel.current == "1.4.20261124.2"


def test_who_writes_a_parameter_while_the_statement_is_made_is_not_overwritten(world: World) -> None:
    first, (ledger, manifest) = make(world, "1.4.20261124.1"), make(world, "1.4.20261124.2")
    go(world, *first)
    place = Place(manifest.images[0].account, manifest.images[0].region)
    ssm = world.client("ssm", place)

    def attest(_: ImageManifest) -> None:
        ssm.put_parameter(Name=CHANNEL, Value="ami-0123456789abcdef0", Overwrite=True, DataType="text")

    with pytest.raises(TargetsFailed, match="its parameters cannot be set"):
        go(world, ledger, manifest, attest=attest)
    assert world.parameter(place, CHANNEL) == "ami-0123456789abcdef0"


def test_publishing_again_never_takes_away_what_is_right(world: World) -> None:
    """One target lost its parameter, and it cannot be made again: the others stay as they are."""
    from tests.worlds.releases import APPS

    ledger, manifest = make(world, "1.4.20261124.1")
    go(world, ledger, manifest)
    ireland = Place(APPS.id, "eu-west-1")
    world.client("ssm", ireland).delete_parameter(Name=CHANNEL)
    world.paper.set(faults=[{"action": "ssm:PutParameter", "nth": 1, "code": "AccessDeniedException", "status": 400}])
    with pytest.raises(TargetsFailed):
        go(world, world.reopened(ledger), manifest)
    assert values(world, manifest, "stable", whole=False) == {**ids(manifest), ireland: None}


def test_the_first_evidence_stands(world: World) -> None:
    """A build that died after its release was made tests again when it is resumed, and takes other seconds for it."""
    ledger, manifest = make(world, "1.4.20261124.1")
    report = TestReport("image", "x86_64", 10, 0, 0, 0, 1.5)
    go(world, ledger, replace(manifest, tests=(report,)))
    again = go(world, ledger, replace(manifest, tests=(replace(report, seconds=1.7),)))
    assert again.manifest.tests == (report,)
    with pytest.raises(CatalogError, match="released already"):
        go(world, ledger, replace(manifest, digest="1" * 64))


def test_a_best_effort_target_holds_nothing_up(world: World) -> None:
    from tests.worlds.releases import APPS, TARGETS

    ledger, manifest = make(world, "1.4.20261124.1")
    world.paper.set(faults=[
        {"action": "ssm:PutParameter", "account": APPS.id, "region": "us-east-1", "nth": 0,
         "code": "AccessDeniedException", "status": 400}
    ])  # fmt: skip
    targets = [replace(t, required=t.label != "apps/us-east-1") for t in TARGETS]
    published = go(world, ledger, manifest, targets=targets)
    assert list(published.failures) == ["apps/us-east-1"]
    expected = {**ids(manifest), Place(APPS.id, "us-east-1"): None}
    assert values(world, manifest, "stable") == expected


@pytest.mark.parametrize("nth", [1, 3, 4, 6, 9, 10, 12])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.sample(5)
def test_killed_at_any_parameter_the_next_process_finishes(world: World, nth: int, when: str) -> None:
    """The journal is cut off at the call, as a killed process leaves it: with an intent and no result."""
    first, (ledger, manifest) = make(world, "1.4.20261124.1"), make(world, "1.4.20261124.2")
    go(world, *first)
    dying = Dying(ledger, "PutParameter", nth, when)
    with pytest.raises(Killed):
        go(world, dying, manifest)
    pointer = world.catalog.channel("debian-12-web", "stable")
    assert pointer is not None
    assert pointer.current == "1.4.20261124.1", "the pointer moves last"
    moved = values(world, manifest, "stable", whole=False) != ids(first[1])
    assert not moved or "1.4.20261124.2" in world.catalog.versions("debian-12-web"), (
        "no parameter that people follow names an image that a clean-up would delete"
    )
    assert go(world, world.reopened(ledger), manifest).channel.current == "1.4.20261124.2"
    assert values(world, manifest, "1.4.20261124.2") == values(world, manifest, "stable") == ids(manifest)
    assert values(world, first[1], "1.4.20261124.1") == ids(first[1])


@pytest.mark.parametrize("nth", [4, 8, 10, 12])
@pytest.mark.sample(3)
def test_killed_and_then_refused_it_goes_back_to_the_release_before(world: World, nth: int) -> None:
    """The values that a dead process had moved are put back to what the catalog still points to."""
    first, (ledger, manifest) = make(world, "1.4.20261124.1"), make(world, "1.4.20261124.2")
    go(world, *first)
    with pytest.raises(Killed):
        go(world, Dying(ledger, "PutParameter", nth, "before"), manifest)
    now = values(world, manifest, "stable", whole=False)
    unmoved = [place for place, value in now.items() if value != ids(manifest)[place]]
    world.paper.set(faults=[
        {"action": "ssm:PutParameter", "account": place.account, "region": place.region, "nth": 1,
         "code": "AccessDeniedException", "status": 400}
        for place in unmoved[:1]
    ])  # fmt: skip
    with pytest.raises(TargetsFailed):
        go(world, world.reopened(ledger), manifest)
    assert values(world, manifest, "stable") == ids(first[1])


def test_nothing_to_build_where_the_inputs_are_released_and_the_images_exist(world: World) -> None:
    ledger, manifest = make(world, "1.4.20261124.1", everywhere=True)
    name, digest = manifest.recipe, manifest.digest
    assert find_unchanged(world.cloud, world.catalog, name, digest) is None
    go(world, ledger, manifest)
    calls = len(world.paper.calls)
    unchanged = find_unchanged(world.cloud, world.catalog, name, digest)
    assert unchanged is not None
    assert unchanged.release == manifest
    assert unchanged.reason == (
        "debian-12-web 1.4.20261124.1 was built from the same inputs (digest 000000000000), "
        "and all of its 6 images exist"
    )
    described = [e for e in world.paper.calls[calls:] if e["action"] == "DescribeImages"]
    assert len(described) == 6, "one describe for each account and region"
    assert find_unchanged(world.cloud, world.catalog, name, "1" * 64) is None


def test_a_release_that_lost_an_image_is_built_again(world: World) -> None:
    ledger, manifest = make(world, "1.4.20261124.1")
    go(world, ledger, manifest)
    row = manifest.images[-1]
    owner = Place(world.image(Place(row.account, row.region), row.image_id)["OwnerId"], row.region)
    world.client("ec2", owner).disable_image(ImageId=row.image_id)
    found = find_unchanged(world.cloud, world.catalog, manifest.recipe, manifest.digest, emit=world.events.append)
    assert found is None
    (note,) = [e for e in world.events if e.kind == "note"]
    assert row.image_id in note.fields["message"]


class FailingCatalog(Catalog):
    """A catalog whose channels cannot move."""

    def __init__(self, path: Path, error: BaseException) -> None:
        super().__init__(path)
        self._error = error

    def move(self, *arguments: Any, **options: Any) -> Channel:
        raise self._error


class Stopping(Ledger):
    """A ledger under which the nth call of an operation is interrupted, as a wait is that hears of a signal."""

    def __init__(self, ledger: Ledger, operation: str, nth: int) -> None:
        super().__init__(ledger.cloud, ledger.journal, ledger.tags, proofs=ledger.proofs)
        self._operation, self._left = operation, nth

    def _send(self, intent: Any) -> Mapping[str, Any]:
        with self._mutex:
            self._left -= intent.operation == self._operation
            if self._left == 0:
                self._left = -1
                raise Interrupted("interrupted")
        return super()._send(intent)


class Losing(Ledger):
    """A ledger under which somebody deregisters the image of a place before its parameter is first written."""

    def __init__(self, world: World, ledger: Ledger, place: Place, name: str) -> None:
        super().__init__(ledger.cloud, ledger.journal, ledger.tags, proofs=ledger.proofs)
        self._world, self._at, self._is_lost = world, (place, name), False

    def _send(self, intent: Any) -> Mapping[str, Any]:
        if (intent.place, intent.request.get("Name")) == self._at and not self._is_lost:
            self._is_lost = True
            self._world.client("ec2", intent.place).deregister_image(ImageId=intent.request["Value"])
        return super()._send(intent)


class Dying(Ledger):
    """A ledger whose process ends at the nth call of an operation, before its effect or after it."""

    def __init__(self, ledger: Ledger, operation: str, nth: int, when: str) -> None:
        super().__init__(ledger.cloud, ledger.journal, ledger.tags, proofs=ledger.proofs)
        self._operation, self._left, self._when = operation, nth, when
        self._dead = False

    def _send(self, intent: Any) -> Mapping[str, Any]:
        with self._mutex:
            if self._dead:
                raise Killed
            if intent.operation == self._operation:
                self._left -= 1
            self._dead = self._left == 0
            dead = self._dead
        if dead and self._when == "before":
            raise Killed
        answer = super()._send(intent)
        if dead:
            raise Killed
        return answer
