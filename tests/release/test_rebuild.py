"""A catalog that was lost is restored from images, permissions and parameters; nothing else is changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from goldenami.errors import CatalogError, NotFound, TargetsFailed, UsageError
from goldenami.model import ImageManifest

if TYPE_CHECKING:
    from goldenami.release.rebuild import Rebuild
    from tests.worlds.builds import World

NOW = datetime(2026, 11, 29, 8, 0, tzinfo=UTC)
UNKNOWN: dict[str, object] = {"digest": "", "inputs": {}, "tests": (), "packages": {}, "changes": {}, "owner": ""}


def find(world: World, identity: str | None = None) -> Rebuild:
    from goldenami.release import rebuild

    found = rebuild.find(world.cloud, world.environment, world.catalog, NOW, identity=identity)
    assert world.cloud.mutations == [], "only reads"
    return found


def two_releases(world: World) -> tuple[ImageManifest, ImageManifest, Path]:
    """Two releases of a catalog that is lost then; its place, and an empty checkout of the project."""
    world.fresh()
    first = world.built().manifest
    world.change_recipe("second")
    second = world.built().manifest
    before = Path(world.environment.catalog)
    world.other_machine()
    world.cloud.start_process()
    return first, second, before


def test_releases_channels_and_the_id_are_restored(build_world: World) -> None:
    from goldenami.release import rebuild
    from goldenami.release.catalog import Catalog
    from tests.worlds.builds import follows

    world = build_world
    first, second, before = two_releases(world)
    earlier = Catalog(before)
    found = find(world)
    assert world.catalog.names() == (), "finding writes nothing"
    rebuild.restore(world.catalog, found)
    assert world.catalog.identity() == earlier.identity()
    for made in (first, second):
        known = replace(made, restored="2026-11-29T08:00:00Z", **UNKNOWN)  # type: ignore[arg-type]
        known = replace(known, base={a: replace(b, source="tag goldenami:base-ami") for a, b in made.base.items()})
        assert world.catalog.get("web", made.version) == known
    pointer, was = world.catalog.channel("web", "stable"), earlier.channel("web", "stable")
    assert pointer is not None
    assert was is not None
    assert (pointer.current, pointer.previous) == (was.current, was.previous)
    assert [move.version for move in pointer.history] == [move.version for move in was.history]
    assert found.left_out == {}

    # Again: nothing is left to restore. The next build has its own inputs, and continues the versions.
    again = find(world)
    assert (again.releases, again.channels, again.left_out) == ((), (), {})
    third = world.build()
    assert third.status == "released"
    assert follows(third.manifest.version, second.version)
    assert world.catalog.channel("web", "stable").previous == second.version  # type: ignore[union-attr]


def test_a_record_that_exists_is_not_overwritten(build_world: World) -> None:
    from goldenami.release import rebuild

    world = build_world
    first, second, before = two_releases(world)
    shutil.copytree(before, world.environment.catalog)
    (Path(world.environment.catalog) / "releases/web" / f"{first.version}.json").unlink()
    found = find(world)
    assert [m.version for m in found.releases] == [first.version]
    assert set(found.kept) == {second.label, "web@stable"}
    rebuild.restore(world.catalog, found)
    assert world.catalog.get("web", second.version) == second
    with pytest.raises(UsageError, match="--id is 0123456789abcdef, but the catalog"):
        find(world, "0123456789abcdef")


def test_what_a_build_did_not_release_is_left_out(build_world: World) -> None:
    from tests.worlds.builds import Label

    world = build_world
    world.fresh()
    world.built()
    world.change_recipe("second")
    world.build_until(Label("ec2", "CopyImage", "111111111111", "eu-west-1", 1), "after")
    world.cloud.start_process()
    world.other_machine()
    found = find(world)
    assert [m.version[-2:] for m in found.releases] == [".1"]
    assert found.left_out
    assert set(found.left_out.values()) == {"it is temporary, so its build did not release it"}


def test_a_channel_whose_parameters_differ_is_left_out(build_world: World) -> None:
    from tests.worlds.builds import PLACES

    world = build_world
    first, second, _ = two_releases(world)
    west = next(i.image_id for i in first.images if i.place == PLACES[1])
    name = "/golden-ami/web/x86_64/stable/image-id"
    world.client("ssm", PLACES[1]).put_parameter(Name=name, Value=west, Overwrite=True)
    found = find(world)
    assert found.channels == ()
    assert found.left_out == {"web@stable": f"its parameters name several versions: {first.version}, {second.version}"}


def test_the_parameters_of_an_account_without_a_target_count(build_world: World) -> None:
    from tests.worlds.builds import PLACES
    from tests.worlds.distributing import declare

    world, informed = build_world, PLACES[-1]
    world.fresh()
    settings = world.path / "goldenami.yaml"
    text = settings.read_text().replace('goldenami-publisher"}', 'goldenami-publisher", parameters: true}')
    settings.write_text(text.replace("      - {account: apps, regions: [eu-west-1], mode: share}\n", ""))
    declare(world, "share: {accounts: [apps]}")
    assert informed not in world.environment.places
    world.built()
    world.other_machine()
    world.cloud.start_process()
    assert find(world).left_out == {}

    theirs = world.client("ec2", informed).describe_images(Owners=["136693071363"])["Images"][0]["ImageId"]
    name = "/golden-ami/web/x86_64/stable/image-id"
    world.client("ssm", informed).put_parameter(Name=name, Value=theirs, Overwrite=True)
    found = find(world)
    assert found.channels == ()
    assert list(found.left_out) == ["web@stable"]


def test_nothing_is_written_if_a_place_did_not_answer(build_world: World) -> None:
    from goldenami.release import rebuild

    world = build_world
    two_releases(world)
    found = find(world)
    part = replace(found, unreachable={world.environment.home_place: "no answer"})
    with pytest.raises(TargetsFailed, match="the catalog is not restored, because 111111111111/eu-central-1 did not"):
        rebuild.restore(world.catalog, part)
    assert world.catalog.names() == ()
    assert world.catalog.identity() is None


def test_resources_of_two_catalogs_need_an_id(build_world: World) -> None:
    from goldenami import recipe as recipes

    world = build_world
    world.fresh()
    with pytest.raises(NotFound, match="no image in the accounts and regions of test has the tags of a catalog"):
        find(world)
    world.build()
    first = world.catalog.identity()
    world.other_machine()
    file = world.path / "goldenami.yaml"
    file.write_text(file.read_text() + "    parameter_prefix: /other\n")
    world.project = recipes.load_project(world.path)
    world.environment = recipes.environment(world.project, "test")
    world.cloud.start_process()
    world.build()
    world.other_machine()
    world.cloud.start_process()
    with pytest.raises(UsageError, match="images of 2 catalogs have the environment test") as caught:
        find(world)
    assert str(first) in caught.value.message
    found = find(world, first)
    assert (found.identity, [m.version[-2:] for m in found.releases]) == (first, [".1"])
    assert [c.channel for c in found.channels] == ["stable"]


def test_the_commands(build_world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from goldenami.cli.main import main

    world = build_world
    first, second, _ = two_releases(world)
    monkeypatch.chdir(world.path)
    assert main(["catalog", "rebuild"]) == 0
    out, err = capsys.readouterr()
    assert f"release  {second.label}" in out
    assert "Nothing was written. Add --yes" in err
    assert main(["catalog", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] is None
    assert main(["catalog", "rebuild", "--yes", "--json"]) == 0
    form = json.loads(capsys.readouterr().out)
    assert form["written"] is True
    assert [r["version"] for r in form["releases"]] == [first.version, second.version]
    assert "test reports" in form["not_restored"]
    assert main(["catalog", "show"]) == 0
    shown = capsys.readouterr().out
    assert form["id"] in shown
    assert f"stable {second.version}" in shown
    assert main(["images", "show", "web@stable", "--no-check"]) == 0
    assert "from the cloud; its digest, inputs, tests and packages are unknown" in capsys.readouterr().out


def test_the_catalog_got_another_id_meanwhile(build_world: World) -> None:
    from goldenami.release import rebuild

    world = build_world
    two_releases(world)
    found = find(world)
    world.catalog.ensure_identity()
    with pytest.raises(CatalogError):
        rebuild.restore(world.catalog, found)
    assert world.catalog.names() == ()
