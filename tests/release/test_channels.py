"""Channels move to existing releases: in every target or in none, whatever fails, and wherever the process dies."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from goldenami.cli.main import main
from goldenami.errors import ConditionsUnmet, GoldenAmiError, NotFound, TargetsFailed
from goldenami.model import ImageManifest, Place
from goldenami.release import channels
from goldenami.release.history import history_of
from goldenami.release.parameters import parameter_name
from goldenami.release.versions import Reference
from tests.worlds import inventory
from tests.worlds.builds import APPS, CHANNEL, HOME, PLACES, RECIPE, Death, Label, World
from tests.worlds.faults import FAULTS, Fault, Once
from tests.worlds.matrix import matrix
from tests.worlds.retiring import releases

WORKS = ("promote", "rollback", "revoke")


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


def reference(manifest: ImageManifest) -> Reference:
    return Reference(RECIPE, version=manifest.version)


def promote(world: World, manifest: ImageManifest, channel: str = CHANNEL, **more: Any) -> channels.Moved:
    return channels.promote(
        world.environment, reference(manifest), channel, cloud=world.cloud, emit_to=world.events.append, **more
    )


def rollback(world: World, **more: Any) -> channels.Moved:
    return channels.rollback(world.environment, RECIPE, CHANNEL, cloud=world.cloud, emit_to=world.events.append, **more)


def revoke(world: World, manifest: ImageManifest, **more: Any) -> channels.Revoked:
    options = {"reason": "CVE-2026-1", "cloud": world.cloud, "emit_to": world.events.append, **more}
    return channels.revoke(world.environment, RECIPE, manifest.version, **options)


def values(world: World, channel: str = CHANNEL) -> dict[Place, str | None]:
    """The channel's parameters, read where moto keeps them."""
    name = parameter_name("/golden-ami", RECIPE, "x86_64", channel)
    world.behind.services.settle()
    found: dict[Place, str | None] = {}
    with world.behind.surface.active():
        for place in PLACES:
            versions = dict.get(world.behind.surface.backend("ssm", place.account, place.region)._parameters, name)
            found[place] = versions[-1].value if versions else None
    return found


def ids(manifest: ImageManifest) -> dict[Place, str | None]:
    return {Place(image.account, image.region): image.image_id for image in manifest.images}


def states(world: World, manifest: ImageManifest) -> set[str]:
    owners = {(row.region, row.image_id) for row in manifest.images if row.account == HOME}
    found = set()
    for region, id in owners:
        ec2 = world.client("ec2", Place(HOME, region))
        found.add(ec2.describe_images(ImageIds=[id], IncludeDisabled=True)["Images"][0]["State"])
    return found


# --- promote ----------------------------------------------------------------------------------------------------------


def test_promote_moves_the_pointer_and_builds_nothing(world: World) -> None:
    first, second = releases(world, 2)
    world.forget()
    moved = promote(world, first, "live", reason="soaked for a week")
    assert (moved.before, moved.changed, moved.channel.current) == (None, True, first.version)
    assert values(world, "live") == ids(first)
    assert world.made() == ["PutParameter"] * 3 * len(PLACES)
    name = parameter_name("/golden-ami", RECIPE, "x86_64", "live")
    own = world.client("ssm", PLACES[0]).list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"]
    assert {t["Key"]: t["Value"] for t in own}["goldenami:recipe"] == RECIPE
    assert promote(world, second, "live").before == first.version
    assert values(world, "live") == ids(second)
    assert values(world) == ids(second), "the other channel stays"
    live = world.catalog.channel(RECIPE, "live")
    assert live is not None
    assert [(m.version, m.action, m.reason) for m in live.history] == [
        (first.version, "promote", "soaked for a week"),
        (second.version, "promote", None),
    ]
    assert all(m.by and m.by.startswith("arn:aws:") for m in live.history)


def test_a_second_promotion_changes_nothing(world: World) -> None:
    (only,) = releases(world, 1)
    promote(world, only, "live")
    world.forget()
    again = promote(world, only, "live")
    assert (again.changed, world.made()) == (False, [])
    # A parameter that was changed by hand is set again.
    world.client("ssm", PLACES[1]).delete_parameter(Name=parameter_name("/golden-ami", RECIPE, "x86_64", "live"))
    assert promote(world, only, "live").changed is True
    assert values(world, "live") == ids(only)


def test_a_release_that_lacks_an_image_is_not_promoted(world: World) -> None:
    first, _ = releases(world, 2)
    row = first.images[0]
    world.client("ec2", row.place).disable_image(ImageId=row.image_id)
    world.forget()
    with pytest.raises(NotFound, match=f"not available: {row.image_id}"):
        promote(world, first)
    assert world.made() == []


def test_a_channel_keeps_the_places_that_a_release_lacks_only_if_told(world: World) -> None:
    (first,) = releases(world, 1)
    file = world.path / "recipes" / "web.yaml"
    file.write_text(file.read_text().replace("{channel: stable}", "{channel: candidate, targets: [home]}"))
    world.project = _loaded(world)
    second = world.build().manifest
    with pytest.raises(NotFound, match="has no image in 222222222222/eu-central-1"):
        promote(world, second)
    assert values(world) == ids(first)
    promote(world, second, partial=True)
    assert values(world) == ids(first) | ids(second)


def _loaded(world: World) -> Any:
    from goldenami import recipe

    return recipe.load_project(world.path)


def test_a_parameter_of_another_program_stops_all(world: World) -> None:
    """Checked everywhere before the first one moves."""
    first, second = releases(world, 2)
    ssm = world.client("ssm", PLACES[3])
    name = parameter_name("/golden-ami", RECIPE, "x86_64", CHANNEL)
    (base, *_) = world.client("ec2", PLACES[3]).describe_images(Owners=["136693071363"])["Images"]
    ssm.put_parameter(Name=name, Value=base["ImageId"], Type="String", DataType="aws:ec2:image", Overwrite=True)
    world.forget()
    with pytest.raises(TargetsFailed, match="was not moved"):
        promote(world, first)
    assert world.made() == []
    assert values(world) == ids(second) | {PLACES[3]: base["ImageId"]}


# --- roll back --------------------------------------------------------------------------------------------------------


def test_rollback_goes_to_the_release_before_and_builds_do_not_return(world: World) -> None:
    first, second, third = releases(world, 3)
    text = (world.path / "recipes" / "web.yaml").read_text()
    assert rollback(world, reason="it leaks").channel.current == second.version
    assert values(world) == ids(second)
    # The inputs of the release that was left: the next night's build changes nothing.
    (world.path / "recipes" / "web.yaml").write_text(
        text.replace(f"hello {third.build_id}", f"hello {second.build_id}")
    )
    world.project = _loaded(world)
    world.forget()
    outcome = world.build()
    assert (outcome.status, outcome.manifest) == ("unchanged", third)
    assert "rollback (it leaks)" in outcome.reason
    assert f"goldenami promote {RECIPE}@{third.version} --to {CHANNEL}" in outcome.reason
    assert world.made() == []
    assert values(world) == ids(second)
    assert rollback(world).channel.current == first.version, "one further back"
    with pytest.raises(NotFound, match="no earlier release"):
        rollback(world)
    assert rollback(world, to=third.version).channel.current == third.version
    with pytest.raises(NotFound, match="never in stable"):
        rollback(world, to="1.0.20200101.1")
    with pytest.raises(NotFound, match="no channel 'other'"):
        channels.rollback(world.environment, RECIPE, "other", cloud=world.cloud)


def test_a_reverted_recipe_moves_the_channel_back_without_a_build(world: World) -> None:
    original = (world.path / "recipes" / "web.yaml").read_text()
    first, second = releases(world, 2)
    (world.path / "recipes" / "web.yaml").write_text(original)
    world.project = _loaded(world)
    world.forget()
    outcome = world.build(move=False)
    assert (outcome.status, outcome.manifest.version) == ("unchanged", first.version)
    assert values(world) == ids(second)
    outcome = world.build()
    assert (outcome.status, outcome.manifest) == ("moved", first)
    assert values(world) == ids(first)
    assert world.made() == ["PutParameter"] * 3 * len(PLACES)
    world.forget()
    assert (world.build().status, world.made()) == ("unchanged", [])


def test_another_channel_in_the_recipe_is_no_other_image(world: World) -> None:
    (first,) = releases(world, 1)
    file = world.path / "recipes" / "web.yaml"
    file.write_text(file.read_text().replace(f"hello {first.build_id}", "hello").replace("stable", "candidate"))
    world.project = _loaded(world)
    outcome = world.build()
    assert (outcome.status, outcome.manifest.version) == ("moved", first.version)
    assert values(world, "candidate") == values(world) == ids(first)


# --- revoke -----------------------------------------------------------------------------------------------------------


def test_a_revoked_release_cannot_be_used_and_comes_back_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = releases(world, 2)
    text = (world.path / "recipes" / "web.yaml").read_text()
    before = inventory.take(world)
    instance = world.client("ec2", PLACES[0]).run_instances(
        ImageId=ids(second)[PLACES[0]], InstanceType="t3.micro", MinCount=1, MaxCount=1
    )["Instances"][0]["InstanceId"]
    done = revoke(world, second)
    assert (done.left, done.unreachable, done.moved) == ({}, {}, {f"{RECIPE}@{CHANNEL}": first.version})
    assert any(instance in use for use in done.uses), done.uses
    assert values(world) == ids(first)
    assert states(world, second) == {"disabled"}
    id = next(row.image_id for row in second.images if row.mode == "share")
    snapshots = [s.snapshot_id for row in second.images if row.image_id == id for s in row.snapshots]
    permissions = world.client("ec2", PLACES[1]).describe_snapshot_attribute(
        SnapshotId=snapshots[0], Attribute="createVolumePermission"
    )
    assert permissions["CreateVolumePermissions"] == []
    for refused in (
        lambda: promote(world, second),
        lambda: world.catalog.resolve(reference(second), PLACES[0]),
    ):
        with pytest.raises(NotFound, match=r"revoked since .*: CVE-2026-1") as caught:
            refused()
        assert f"{RECIPE}@{first.version}" in str(caught.value.hint)
    (world.path / "recipes" / "web.yaml").write_text(
        text.replace(f"hello {second.build_id}", f"hello {first.build_id}")
    )
    world.project = _loaded(world)
    with pytest.raises(ConditionsUnmet, match="same inputs as a revoked release"):
        world.build()
    world.forget()
    again = revoke(world, second)
    assert (again.images, again.left, world.made()) == ((), {}, []), "a second call changes nothing"
    restored = channels.restore(world.environment, RECIPE, second.version, reason="patched", cloud=world.cloud)
    assert (restored.left, states(world, second)) == ({}, {"available"})
    promote(world, second)
    world.client("ec2", PLACES[0]).terminate_instances(InstanceIds=[instance])
    world.clock.sleep(60)
    assert inventory.take(world) == before
    every = history_of(world.catalog, Reference(RECIPE))
    actions = [(event.action, event.version) for event in every]
    assert [event.reason for event in every if event.action == "restore"] == ["patched"]
    capsys.readouterr()
    monkeypatch.chdir(world.path)
    assert main(["builds", "list", "-e", "test"]) == 0
    listed = capsys.readouterr().out
    assert f"promote web@{CHANNEL}" in listed
    assert f"restore {second.label}" in listed
    # Some of them are of the same second.
    assert sorted(actions[-4:]) == [
        ("promote", second.version),
        ("restore", second.version),
        ("revoke", first.version),
        ("revoke", second.version),
    ]


def test_a_region_that_refuses_is_named_and_the_next_call_does_the_rest(world: World) -> None:
    first, second = releases(world, 2)

    def refuse(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if call.action == "DisableImage" and call.region == "eu-west-1":
            return call.error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
        return serve()

    world.gate.start(refuse)
    done = revoke(world, second)
    world.gate.stop()
    assert [what.split()[0] for what in done.left] == ["disable"]
    assert channels.failed(done, "revoke") is not None
    assert values(world) == ids(first), "the channel moved"
    revocation = world.catalog.marks.revocation(RECIPE, second.version)
    assert revocation is not None
    assert revocation.finished is None
    assert revoke(world, second).left == {}
    assert states(world, second) == {"disabled"}
    again = world.catalog.marks.revocation(RECIPE, second.version)
    assert again is not None
    assert again.finished is not None


def test_the_only_release_of_a_channel_can_be_revoked(world: World) -> None:
    (only,) = releases(world, 1)
    done = revoke(world, only)
    assert (done.left, done.moved) == ({}, {f"{RECIPE}@{CHANNEL}": None})
    assert states(world, only) == {"disabled"}
    with pytest.raises(NotFound, match="revoked"):
        world.catalog.resolve(Reference(RECIPE, channel=CHANNEL), PLACES[0])


def test_a_revoked_parent_is_no_base_and_takes_its_children_along(world: World) -> None:
    (parent,) = releases(world, 1)
    (world.path / "recipes" / "child.yaml").write_text(
        "name: child\nversion: '1.0'\nbase: {recipe: web, channel: stable}\npatches: {level: none}\ntests: [base]\n"
        "image: {root_volume: {size_gib: 8}}\n"
    )
    world.project = _loaded(world)
    child = build_child(world)
    assert [one.label for one in channels.children_of(world.catalog, parent)] == [child.label]
    done = revoke(world, parent)
    assert done.children == (child.label,)
    assert world.catalog.marks.revocation("child", child.version) is None
    with pytest.raises(NotFound, match="revoked since"):
        build_child(world)
    assert [one.label for one in revoke(world, parent, cascade=True).releases] == [parent.label, child.label]
    assert world.catalog.marks.revocation("child", child.version) is not None


def build_child(world: World) -> ImageManifest:
    from goldenami import pipeline

    request = pipeline.Request(world.project, world.environment, "child")
    return pipeline.build(request, host_work=world.host_work, cloud=world.cloud).manifest


# --- conditions of goldenami.yaml -------------------------------------------------------------------------------------


def test_conditions_are_checked_before_anything_changes(world: World) -> None:
    first, second = releases(world, 2)
    file = world.path / "goldenami.yaml"
    file.write_text(
        file.read_text() + "    channels:\n      live: {from: [stable], soak: 2d, second_person: true, reason: true}\n"
    )
    world.project = _loaded(world)
    from goldenami import recipe

    world.environment = recipe.environment(world.project, "test")
    world.forget()
    with pytest.raises(ConditionsUnmet) as caught:
        promote(world, first, "live")
    assert [reason.split()[0:2] for reason in caught.value.reasons] == [
        ["a", "reason"], ["it", "came"], ["a", "second"],
    ]  # fmt: skip
    assert (caught.value.exit_code, world.made(), values(world, "live")) == (5, [], dict.fromkeys(PLACES))
    assert second.version


# --- whatever happens -------------------------------------------------------------------------------------------------


class Reader:
    """Reads all parameters of the channel after each call, as consumers could."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.seen: dict[Place, list[str | None]] = {place: [] for place in PLACES}

    def __call__(self, label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        answer = serve()
        if call.action == "PutParameter":
            self.read()
        return answer

    def read(self) -> None:
        for place, value in values(self._world).items():
            if self.seen[place][-1:] != [value]:
                self.seen[place].append(value)


def work(world: World, name: str, first: ImageManifest, second: ImageManifest) -> None:
    """Each moves the channel from the second release to the first."""
    if name == "promote":
        promote(world, first)
    elif name == "rollback":
        rollback(world)
    else:
        assert revoke(world, second).left == {}


@pytest.mark.parametrize("name", WORKS)
def test_a_reader_sees_each_target_change_once(world: World, name: str) -> None:
    first, second = releases(world, 2)
    reader = Reader(world)
    reader.read()
    world.gate.start(reader)
    work(world, name, first, second)
    world.gate.stop()
    reader.read()
    assert reader.seen == {place: [ids(second)[place], ids(first)[place]] for place in PLACES}


def check(world: World, first: ImageManifest, second: ImageManifest, *, moved: bool | None) -> None:
    """All targets and the pointer are at one release."""
    pointer = world.catalog.channel(RECIPE, CHANNEL)
    assert pointer is not None
    if moved is not None:
        assert pointer.current == (first if moved else second).version
    assert values(world) == ids(first if pointer.current == first.version else second)


def puts() -> Iterator[Label]:
    for account, region in itertools.product((HOME, APPS), ("eu-central-1", "eu-west-1")):
        yield Label("ssm", "PutParameter", account, region, 1)


@matrix("name, label, fault", itertools.product(WORKS, puts(), FAULTS), every=23)
def test_any_put_may_fail(world: World, name: str, label: Label, fault: Fault) -> None:
    first, second = releases(world, 2)
    world.cloud.start_process()
    world.gate.start(Once(label, fault))
    error: GoldenAmiError | None = None
    try:
        work(world, name, first, second)
    except GoldenAmiError as caught:
        error = caught
    except AssertionError:
        assert name == "revoke"  # its failures are listed, not raised
        error = GoldenAmiError("listed")
    finally:
        world.gate.stop()
    check(world, first, second, moved=error is None)
    if error is not None:
        world.cloud.start_process()
        work(world, name, first, second)
        check(world, first, second, moved=True)


@matrix(
    "name, label, when, then",
    itertools.product(("promote", "rollback"), puts(), ("before", "after"), ("resume", "clean", "again")),
    every=7,
)
def test_killed_at_any_put(world: World, name: str, label: Label, when: str, then: str) -> None:
    first, second = releases(world, 2)
    world.cloud.start_process(label, when)
    with pytest.raises(Death):
        work(world, name, first, second)
    (left,) = world.journals.unfinished()
    if then == "resume":
        assert world.resume(left.build_id).status == "moved"
    elif then == "clean":
        assert world.clean(left.build_id).complete
    else:
        world.cloud.start_process()
        work(world, name, first, second)
    check(world, first, second, moved=then != "clean")
    assert world.journals.unfinished() == ()


@matrix("label, when", itertools.product(puts(), ("before", "after")), every=3)
def test_a_killed_revocation_goes_on(world: World, label: Label, when: str) -> None:
    first, second = releases(world, 2)
    world.cloud.start_process(label, when)
    with pytest.raises(Death):
        revoke(world, second)
    assert world.catalog.marks.revocation(RECIPE, second.version) is not None, "from the first moment"
    world.cloud.start_process()
    assert revoke(world, second).left == {}
    check(world, first, second, moved=True)
    assert states(world, second) == {"disabled"}
