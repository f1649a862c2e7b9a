"""A third target mode, defined here alone: it is validated, planned, built, verified and retired like the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from goldenami_sandbox.testing import PaperCloud

from goldenami import planning, recipe
from goldenami.errors import InvalidInput, ManifestError, TargetsFailed, UsageError
from goldenami.model import Account, Architecture, ImageManifest, Place, Target
from goldenami.recipe.jsonschema import json_schema
from goldenami.release import targets as modes
from goldenami.release.distribute import distribute
from goldenami.release.order import ReleaseOrder
from goldenami.release.retire import failed
from goldenami.release.targets import Delivery, Mode, Source, home_label
from goldenami.release.verify import verify
from goldenami.release.versions import Reference
from goldenami.stages import facts
from tests.worlds import inventory
from tests.worlds.builds import APPS, CHANNEL, HOME, RECIPE, World
from tests.worlds.releases import TARGETS
from tests.worlds.releases import World as Paper
from tests.worlds.retiring import go, releases

WEST = "eu-west-1"
HOME_WEST, APPS_WEST = Place(HOME, WEST), Place(APPS, WEST)


class Relay(Mode):
    """The account owns a copy, made inside the region from the home account's copy there: no data leaves the region."""

    name: ClassVar[str] = "relay"
    summary: ClassVar[str] = "a copy of the home account's image in the same region, under a key of its own."
    verb: ClassVar[str] = "copies"
    without_source: ClassVar[str] = "nothing to copy"

    def source(self, target: Target) -> str | None:
        return home_label(target.region)

    def plan(self, target: Target, key: str) -> str:
        return f"copy of {self.source(target)} encrypted under {key}"

    def deliver(self, to: Delivery) -> None:
        def source(architecture: Architecture) -> Source:
            image_id = to.source_image(architecture)
            to.allow_source(architecture, image_id)
            return Source(image_id, to.target.region)

        to.copy(source)


@pytest.fixture
def relay() -> Iterator[Mode]:
    mode = Relay()
    with modes.registered(mode):
        yield mode


@pytest.fixture
def paper_world(paper_cloud: Callable[..., PaperCloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paper:
    """An environment over a cloud of its own, for what needs no whole build."""
    paper = paper_cloud()
    for name, value in paper.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    return Paper(paper, tmp_path)


@pytest.fixture
def world(relay: Mode, build_world: World) -> World:
    build_world.fresh()
    configure(build_world, lambda text: text.replace("mode: share", "kms_key: alias/golden-ami, mode: relay"))
    return build_world


def configure(world: World, change: Callable[[str], str]) -> None:
    file = world.path / "goldenami.yaml"
    file.write_text(change(file.read_text()))
    world.project = recipe.load_project(world.path)
    world.environment = recipe.environment(world.project, "test")


def expected(made: ImageManifest, *, channel: bool = True) -> inventory.Inventory:
    """What a release owns, and the permission on the home account's image that the relay was made by."""
    lines = set(inventory.owned(made, channel=channel))
    (home,) = (row for row in made.images if row.place == HOME_WEST)
    lines.add(f"{HOME_WEST}: image {home.image_id} for {APPS}")
    lines |= {f"{HOME_WEST}: snapshot {s.snapshot_id} for {APPS}" for s in home.snapshots}
    lines.add(f"{HOME_WEST}: grant * to arn:aws:iam::{APPS}:root")
    return frozenset(lines)


def row_in(made: ImageManifest, place: Place) -> str:
    (found,) = (row.image_id for row in made.images if row.place == place)
    return found


def test_it_is_validated_and_planned(world: World) -> None:
    target = next(t for t in world.environment.targets if t.place == APPS_WEST)
    assert (target.mode, target.kms_key) == ("relay", "alias/golden-ami")
    loaded = recipe.load(world.project, RECIPE, world.environment)
    found = facts.gather(world.cloud, world.environment, world.catalog, loaded)
    planned = planning.make(loaded, world.environment, found)
    (line,) = (line for line in planning.describe(planned) if "apps/eu-west-1" in line)
    key = planned.facts.kms_keys["apps/eu-west-1"]
    assert key.startswith(f"arn:aws:kms:{WEST}:{APPS}:key/")
    assert line.split(None, 1)[1] == f"copy of home/eu-west-1 encrypted under {key}"
    form = json_schema("environment")["$defs"]["TargetSpec"]["properties"]["mode"]
    assert form["anyOf"][0]["enum"] == ["copy", "relay", "share"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            ("kms_key: alias/golden-ami, mode: relay", "mode: relay"), "the key 'kms_key' is missing", id="no key"
        ),
        pytest.param(
            ("regions: [eu-central-1, eu-west-1]", "regions: [eu-central-1]"),
            "eu-west-1: nothing to copy there, because account home has no target in that region",
            id="no source",
        ),
        pytest.param(
            (
                "regions: [eu-central-1, eu-west-1], kms_key: alias/golden-ami}",
                "regions: [eu-central-1, eu-west-1], kms_key: alias/golden-ami, mode: relay}",
            ),
            "mode: relay is not possible for account home, which owns its images",
            id="in the home account",
        ),
        pytest.param(("mode: relay", "mode: rely"), "'rely' is not one of copy, relay, share", id="misspelt"),
    ],
)
def test_mistakes_are_told_in_its_words(world: World, change: tuple[str, str], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        configure(world, lambda text: text.replace(*change))
    assert any(message in problem.message for problem in caught.value.problems), caught.value.problems


def test_a_recipe_has_to_choose_its_source_too(world: World) -> None:
    file = world.path / "recipes" / "web.yaml"
    file.write_text(
        file.read_text().replace("{channel: stable}", "{channel: stable, targets: [home/eu-central-1, apps/eu-west-1]}")
    )
    world.project = recipe.load_project(world.path)
    with pytest.raises(InvalidInput) as caught:
        recipe.load(world.project, RECIPE, world.environment)
    assert [problem.message for problem in caught.value.problems] == [
        "targets: apps/eu-west-1 copies the image of home/eu-west-1, which is not chosen"
    ]


def test_it_is_delivered_read_back_and_published(world: World) -> None:
    before = inventory.take(world)
    made = world.build().manifest
    row = next(r for r in made.images if r.place == APPS_WEST)
    assert row.mode == "relay"
    assert modes.owns(row)
    image = world.client("ec2", APPS_WEST).describe_images(ImageIds=[row.image_id])["Images"][0]
    assert image["OwnerId"] == APPS
    assert image["SourceImageId"] == row_in(made, HOME_WEST), "made from the copy in the region, not from the candidate"
    assert image["SourceImageRegion"] == WEST
    assert all(s.kms_key_id is not None and f":{APPS}:" in s.kms_key_id for s in row.snapshots)
    assert inventory.difference(inventory.take(world) - before, expected(made), releases=1) == []
    told = [e.fields["state"] for e in world.events if e.fields.get("target") == "apps/eu-west-1"]
    assert told[0] == "waiting"
    assert {"copying", "available", "verified", "published"} <= set(told)
    assert world.catalog.resolve(Reference(RECIPE, channel=CHANNEL), APPS_WEST).image_id == row.image_id


def test_what_is_not_as_ordered_is_found_by_the_read_back(relay: Mode, paper_world: Paper) -> None:
    """The read-back asks the account that owns the copy, and the account whose image it was made from."""
    target = replace(TARGETS[-1], mode=relay.name)
    targets = (*TARGETS[:3], target)
    order, ledger = paper_world.order(targets=targets), paper_world.build()
    candidate = paper_world.candidate()
    with distribute(ledger, order, {"x86_64": candidate}) as distribution:
        distributed = distribution.finish()
    assert verify(ledger, order, distributed).mismatches == ()
    own = next(p.image_id for p in distributed.placed if p.target is target)
    paper_world.client("ec2", target.place).delete_tags(Resources=[own], Tags=[{"Key": "Name"}])
    with pytest.raises(TargetsFailed, match=f"1 of 4 targets differ from the release order: {target.label}") as caught:
        verify(ledger, order, distributed)
    assert "tag Name is missing" in caught.value.failures[target.label]


def test_it_is_retired_with_all_that_was_made_for_it(world: World) -> None:
    made = releases(world, 3)
    retired = go(world)
    assert failed(retired) is None
    assert [v.release.manifest.version for v in retired.with_fate("delete")] == [made[0].version]
    assert f"image {row_in(made[0], APPS_WEST)} in {APPS_WEST}" in retired.deleted
    lines = expected(made[1], channel=False) | expected(made[2])
    assert inventory.difference(inventory.take(world), lines, releases=2) == []


def test_a_manifest_of_a_mode_that_is_not_known_here_is_refused(build_world: World) -> None:
    """Who owns its images could only be guessed, and something could be deleted that is another's."""
    build_world.fresh()
    configure(build_world, lambda text: text.replace("mode: share", "kms_key: alias/golden-ami, mode: copy"))
    with modes.registered(Relay()):
        configure(build_world, lambda text: text.replace("mode: copy", "mode: relay"))
        made = build_world.build().manifest
    with pytest.raises(ManifestError, match="'relay', which is not one of copy, share") as caught:
        build_world.catalog.get(RECIPE, made.version)
    assert "Update goldenami" in str(caught.value.hint)


def test_two_modes_of_one_name_are_refused(relay: Mode) -> None:
    with pytest.raises(ValueError, match="two target modes 'relay'"), modes.registered(Relay()):
        pass
    with pytest.raises(UsageError, match="'move' is not one of copy, relay, share"):
        modes.get_mode("move")


def test_who_may_use_an_image_is_decided_for_each_region() -> None:
    """An account that shares one region's image, and is given another region's by share_accounts."""
    home, apps = Account("home", HOME), Account("apps", APPS)
    targets = (*(Target(home, region, "k") for region in ("eu-central-1", WEST)), Target(apps, WEST, "k", "share"))
    order = ReleaseOrder("web", "1.0.1.1", Place(HOME, "eu-central-1"), targets, {}, share_accounts=(APPS, HOME))
    assert [order.users(target) for target in targets] == [(APPS,), (APPS,), ()]
    assert [sorted(order.borrowers(target)) for target in targets] == [[], [APPS], []]
