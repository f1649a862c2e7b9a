"""``clean --expired``: for a machine that never came back, whose journal is nowhere."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from goldenami import pipeline
from goldenami.aws import tags
from goldenami.each import each
from goldenami.errors import Busy, CatalogError
from goldenami.events import Event
from goldenami.journal import Journals, token
from goldenami.release.catalog import Catalog
from goldenami.stages import expired
from goldenami.stages.expired import is_expired
from tests.worlds import inventory
from tests.worlds.builds import PLACES, RECIPE, Label, World
from tests.worlds.cases import check, points_to, release_of
from tests.worlds.distributing import declare, distribute
from tests.worlds.matrix import matrix
from tests.worlds.recordings import calls

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BUILD = "20261124-030000-0123abcd"
GOOD = {
    tags.BUILD_ID: BUILD,
    tags.KEY: "builder/x86_64",
    tags.TOKEN: token(BUILD, "builder/x86_64", 3),
    tags.EXPIRES_AT: "2026-11-24T11:59:59Z",
    tags.CATALOG: "0123456789abcdef",
    tags.ENVIRONMENT: "test",
}


def test_only_what_is_ours_and_past_its_time_is_expired() -> None:
    assert is_expired(GOOD, NOW)
    assert not is_expired(GOOD, NOW - timedelta(seconds=2)), "its time has not passed"
    wrong: dict[str, list[str]] = {
        tags.BUILD_ID: ["", "20261124-030000-0123abce", "production", "*"],
        tags.KEY: ["", "builder/arm64"],
        tags.TOKEN: ["", "0" * 40, token("20261124-030000-ffffffff", "builder/x86_64", 3)],
        tags.EXPIRES_AT: ["", "yesterday", "2026-11-24", "2026-11-24T12:00:01Z", "9999-01-01T00:00:00Z", "0"],
    }
    for key, values in wrong.items():
        without = {k: v for k, v in GOOD.items() if k != key}
        assert not is_expired(without, NOW), f"no {key}"
        for value in values:
            assert not is_expired({**GOOD, key: value}, NOW), f"{key}={value}"


def lose_journals(world: World) -> None:
    """Its machine is gone for good. The catalog is not, wherever it is."""
    shutil.rmtree(world.path / ".goldenami" / "test" / "builds")


def clean_expired(world: World, *, later: timedelta = timedelta(hours=25), dry_run: bool = False) -> Any:
    """In a new process, which the cloud tells that so much time has passed."""
    world.cloud.start_process()
    world.cloud.ahead = later
    try:
        return pipeline.clean_expired(world.environment, dry_run=dry_run, cloud=world.cloud)
    finally:
        world.cloud.ahead = timedelta()


@pytest.mark.parametrize("action", ["RunInstances", "CreateImage", "CopyImage", "TerminateInstances"])
@pytest.mark.sample(3)
def test_what_a_lost_machine_left_is_collected_and_nothing_else(world: World, action: str) -> None:
    label = next(x for x in reversed(calls("build")) if x.action == action)
    world.fresh()
    decoys = inventory.place_decoys(world)
    world.build_until(label, "after")
    (build_id,) = world.builds
    decoys |= inventory.place_decoys(world, build_id=build_id, mark="b")
    copies = inventory.place_copies(world)
    assert copies, "there is something whose tags can be copied"
    decoys |= copies
    lose_journals(world)
    before = inventory.take(world)
    early = clean_expired(world, later=timedelta(hours=23))
    assert not any(done.deleted for done in early.values()), "its time has not passed"
    assert inventory.take(world) == before
    told = clean_expired(world, dry_run=True)
    assert inventory.take(world) == before, "a dry run changes nothing"
    done = clean_expired(world)
    deleted, announced = set(done[None].deleted), set(told[None].deleted)
    assert deleted <= announced
    # EC2 deletes the volumes of an instance with it: the calls for them find nothing, and are not counted.
    assert {found.kind for found in announced - deleted} <= {"volume"}
    assert not done[None].left
    assert any("does not prove" in why for why in done[None].others.values())
    check(world, decoys, released=False)
    (mine,) = world.journals.list()
    assert mine.header is not None
    assert (mine.header.recipe, mine.ending) == ("clean --expired", "done")
    again = clean_expired(world)
    assert not again[None].deleted


def test_a_release_is_never_collected(world: World) -> None:
    """Also not where its machine died before it could take the mark off."""
    keep = next(x for x in calls("build") if x.action == "DeleteTags")
    for when in ("before", "after"):
        world.fresh()
        world.killed(keep, when)
        lose_journals(world)
        owned = {line for line in inventory.take(world) if ": image" in line or ": snapshot" in line}
        clean_expired(world)
        manifest = world.catalog.get("web", world.catalog.versions("web")[0])
        wanted = {
            line for line in inventory.owned(manifest, channel=False) if ": image" in line or ": snapshot" in line
        }
        wanted = {line for line in wanted if " for " not in line}
        assert wanted <= inventory.take(world)
        assert owned >= wanted


@matrix(
    "label, when, which",
    itertools.product(calls("second-release"), ("before", "after"), ("second_release", "first_release")),
    every=13,
)
def test_parameters_of_a_lost_machine_are_collected_unless_a_release_has_them(
    world: World, label: Label, when: str, which: str
) -> None:
    """It dies at any call to SSM. What no release has goes, and is in nobody's way; what one has, and what a channel
    names, stays as it is until the next release."""
    lost(world, label, when, first=which == "first_release")


def lost(world: World, label: Label, when: str, *, first: bool) -> None:
    world.fresh()
    if not first:
        world.built()
        world.change_recipe("hello again")
    before = world.catalog.versions(RECIPE)
    known = set(world.builds)
    decoys = inventory.place_decoys(world)
    already = inventory.take(world)
    world.build_until(label, when)
    (build_id,) = set(world.builds) - known
    decoys |= inventory.place_decoys(world, build_id=build_id, mark="b")
    lose_journals(world)
    released = release_of(world, before)
    left = parameters(world)
    early = clean_expired(world, later=timedelta(hours=23))
    assert not any(done.deleted for done in early.values()), "its time has not passed"
    done = clean_expired(world)
    assert not done[None].left
    if released is None:
        assert inventory.take(world) == already | decoys
    else:
        assert parameters(world) == left, "they may be followed"
        owned = inventory.owned(released, channel=False)
        assert {line for line in owned if ": grant " not in line} <= inventory.take(world)
    world.change_recipe("hello once more")
    world.cloud.start_process()
    world.build()
    versions = (*before, *([released.version] if released is not None else []))
    new = release_of(world, versions)
    assert new is not None
    expected = frozenset.union(
        inventory.owned(new), *(inventory.owned(world.catalog.get(RECIPE, v), channel=False) for v in versions)
    )
    assert parameters(world) == {line for line in expected | decoys if ": parameter " in line and " = " in line}
    assert points_to(world) == new.version


def test_parameters_that_were_distributed_later_are_never_collected(world: World) -> None:
    """The task of the distribution is none of the builds that made releases."""
    world.fresh()
    declare(world, "targets: [home]")
    manifest = world.build().manifest
    assert manifest is not None
    declare(world, "")
    world.cloud.start_process()
    revised = distribute(world, manifest).manifest
    assert {image.place for image in revised.images} == set(PLACES)
    lose_journals(world)
    before = parameters(world)
    clean_expired(world)
    assert parameters(world) == before
    check(world, frozenset(), released=True)


def test_a_release_that_the_catalog_has_lost_is_never_collected(world: World) -> None:
    """The catalog was restored from a backup. It has the reservation of the build, and not its release."""
    world.fresh()
    first = world.built().manifest.version
    catalog, backup = Path(world.environment.catalog), world.path / "backup"
    shutil.copytree(catalog, backup)
    world.change_recipe("hello again")
    world.cloud.start_process()
    second = world.build().manifest.version
    shutil.copytree(catalog / "reservations", backup / "reservations", dirs_exist_ok=True)
    shutil.rmtree(catalog)
    backup.rename(catalog)
    lose_journals(world)
    assert world.catalog.versions(RECIPE) == (first,)
    assert {one.version for one in world.catalog.reservations(RECIPE)} == {first, second}
    before = inventory.take(world)
    done = clean_expired(world)
    assert inventory.take(world) == before
    assert not done[None].deleted
    kept = {what.split()[0]: why for what, why in done[None].others.items()}
    assert kept.keys() == {"grant", "parameter"}
    assert all("is not temporary" in why for why in kept.values()), kept


def test_grants_of_any_number_of_builds_are_searched(world: World) -> None:
    """EC2 takes 200 values in a filter, and releases keep their grants for years."""
    world.fresh()
    target = world.environment.targets[0]
    kms = world.client("kms", target.place)
    key = kms.describe_key(KeyId=target.kms_key)["KeyMetadata"]["Arn"]
    for number in range(201):
        build = f"20260101-000000-{number:08x}"
        name = min(expired._grant_tokens(build, world.environment, target))
        kms.create_grant(
            KeyId=key,
            GranteePrincipal=f"arn:aws:iam::{target.place.account}:root",
            Operations=["Decrypt"],
            Name=f"goldenami-{world.catalog.ensure_identity()}-{build}-{name}",
        )
    done = clean_expired(world, dry_run=True)[None]
    assert done.unreachable == {}
    assert len([what for what in done.others if what.startswith("grant ")]) == 201, "no build has reserved a version"


def test_parameters_for_images_that_are_only_shared_are_collected(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their account has no target there. And the reservations are read once for all of them."""
    world.fresh()
    settings = world.path / "goldenami.yaml"
    text = settings.read_text()
    text = text.replace('goldenami-publisher"}', 'goldenami-publisher", parameters: true}')
    settings.write_text(text.replace("      - {account: apps, regions: [eu-west-1], mode: share}\n", ""))
    declare(world, "share: {accounts: [apps]}")
    informed = PLACES[-1]
    assert informed not in world.environment.places
    world.build_until(Label("ssm", "PutParameter", informed.account, informed.region, 1), "after")
    lose_journals(world)
    assert any(line.startswith(f"{informed}:") for line in parameters(world))
    read: list[str] = []
    reservation = Catalog._reservation

    def reading(catalog: Catalog, name: str, version: str) -> Any:
        read.append(version)
        return reservation(catalog, name, version)

    monkeypatch.setattr(Catalog, "_reservation", reading)
    done = clean_expired(world)
    assert not done[None].left
    check(world, frozenset(), released=False)
    assert len(read) == 2, "for the empty catalog, and for all parameters"


def test_a_parameter_that_could_not_be_deleted_is_found_again(world: World) -> None:
    """Its images are gone by then."""
    world.fresh()
    world.build_until(next(x for x in calls("build") if x.action == "PutParameter"), "after")
    lose_journals(world)
    refusal = {"action": "ssm:DeleteParameter", "nth": 1, "code": "AccessDeniedException", "status": 400}
    world.paper.set(faults=[refusal])
    refused = clean_expired(world)
    assert len(refused[None].left) == 1
    assert len(parameters(world)) == 1
    done = clean_expired(world)
    assert not done[None].left
    check(world, frozenset(), released=False)


def test_what_another_machine_published_during_the_search_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fresh()
    world.build_until(next(x for x in calls("build") if x.action == "PutParameter"), "after")
    elsewhere = world.path / "elsewhere"
    (world.path / ".goldenami" / "test" / "builds").rename(elsewhere)
    other = replace(world.environment, builds=str(elsewhere))
    published: list[str] = []

    def search_while_it_is_published(*arguments: Any) -> Any:
        answers = each(*arguments)
        if not published:
            done = pipeline.resume(world.project, other, None, host_work=world.host_work, cloud=world.cloud)
            published.append(done.status)
        return answers

    monkeypatch.setattr(expired, "each", search_while_it_is_published)
    done = clean_expired(world)
    assert published == ["released"]
    assert not done[None].deleted
    check(world, frozenset(), released=True)


def parameters(world: World) -> set[str]:
    """What they name."""
    return {line for line in inventory.take(world) if ": parameter " in line and " = " in line}


def test_without_the_catalog_nothing_is_collected(world: World) -> None:
    keep = next(x for x in calls("build") if x.action == "DeleteTags")
    world.fresh()
    world.killed(keep, "before")
    lose_journals(world)
    before = inventory.take(world)
    (manifest,) = Path(world.environment.catalog, "releases", "web").iterdir()
    manifest.write_text("{")
    with pytest.raises(CatalogError):
        clean_expired(world)
    assert inventory.take(world) == before


def test_a_release_is_not_cleaned_by_who_sees_another_catalog(world: World) -> None:
    world.fresh()
    manifest = world.built().manifest
    world.environment = replace(world.environment, catalog=str(world.path / "elsewhere"))
    before = inventory.take(world)
    mine = Catalog(world.path / ".goldenami/test/catalog").identity()
    with pytest.raises(CatalogError, match=f"is of the catalog {mine}, and .*elsewhere is empty: nothing is changed"):
        world.clean(manifest.build_id)
    other = world.catalog.ensure_identity()
    with pytest.raises(CatalogError, match=f"is of the catalog {mine}, and .*elsewhere is the catalog {other}"):
        world.clean(manifest.build_id)
    assert inventory.take(world) == before


def test_a_build_whose_journal_is_here_is_cleaned_by_it_unless_somebody_works_on_it(world: World) -> None:
    label = next(x for x in calls("build") if x.action == "CopyImage")
    world.fresh()
    decoys = inventory.place_decoys(world)
    world.killed(label, "after")
    (build_id,) = world.builds
    before = inventory.take(world)
    with Journals(Path(world.environment.builds)).open(build_id):
        done = clean_expired(world)
        assert not done[build_id].deleted
        assert "is locked by process" in next(iter(done[build_id].left.values()))
        assert inventory.take(world) == before
    done = clean_expired(world)
    assert done[build_id].complete
    assert world.journals.read(build_id).ending == "cleaned"
    check(world, decoys, released=False)


def test_two_builds_of_one_recipe_take_turns(world: World) -> None:
    """The second is refused, and told who is at it; or waits, and finds that there is nothing left to do."""
    world.fresh()
    with world.journals.exclusive("web"):
        with pytest.raises(Busy, match=r"web is locked by process \d+ on ") as caught:
            world.build()
        assert "--wait" in (caught.value.hint or "")
        assert world.builds == []
        assert not world.cloud.mutations
    first = world.build().manifest
    held = world.journals.exclusive("web")
    held.__enter__()
    waited: list[Event] = []

    def until_it_waits(event: Event) -> None:
        if not waited and "waiting: web is locked by process" in str(event.fields.get("message")):
            waited.append(event)
            held.__exit__(None, None, None)

    request = pipeline.Request(world.project, world.environment, "web")
    world.cloud.start_process()
    outcome = pipeline.build(request, wait=1e9, emit_to=until_it_waits, host_work=world.host_work, cloud=world.cloud)
    assert outcome.status == "unchanged"
    assert outcome.manifest == first
    assert waited


class Calendar:
    """The cloud's clock is days from this machine's."""

    def __init__(self, days: int) -> None:
        self.days = days

    def __call__(self, label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        answer = serve()
        there = datetime.now(UTC) + timedelta(days=self.days)
        return replace(answer, headers=[*answer.headers, ("Date", format_datetime(there, usegmt=True))])


@pytest.mark.parametrize("days", [-3, 40])
def test_a_clock_that_is_days_off_changes_no_time_that_is_written(world: World, days: int) -> None:
    """What expires is counted from the cloud's time, so that it is not collected while the build runs."""
    label = next(x for x in calls("build") if x.action == "CopyImage")
    world.fresh()
    world.gate.start(Calendar(days))
    try:
        world.build_until(label, "after")
    finally:
        world.gate.stop()
    (summary,) = world.journals.list()
    assert summary.header is not None
    created = summary.header.created
    assert abs(created - datetime.now(UTC) - timedelta(days=days)) < timedelta(minutes=5)
    query = [{"Name": "key", "Values": [tags.EXPIRES_AT]}]
    found = [t["Value"] for p in PLACES for t in world.client("ec2", p).describe_tags(Filters=query)["Tags"]]
    (expires,) = {tags.parse_timestamp(value) for value in found}
    assert expires is not None
    assert abs(expires - created - timedelta(hours=24)) < timedelta(seconds=10)
    assert world.resume(summary.build_id).status == "released"
