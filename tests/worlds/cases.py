"""Judging what a case leaves behind."""

from __future__ import annotations

from collections.abc import Sequence

from goldenami.model import ImageManifest
from tests.worlds import inventory
from tests.worlds.builds import CHANNEL, RECIPE, World
from tests.worlds.inventory import Inventory


def release_of(world: World, before: Sequence[str] = ()) -> ImageManifest | None:
    """The one release beside those that were there before; None if there is none."""
    versions = [v for v in world.catalog.versions(RECIPE) if v not in before]
    assert len(versions) <= 1, f"several releases: {versions}"
    return world.catalog.get(RECIPE, versions[0]) if versions else None


def points_to(world: World) -> str | None:
    """The version that the channel means."""
    pointer = world.catalog.channel(RECIPE, CHANNEL)
    return pointer.current if pointer is not None else None


def check(world: World, decoys: Inventory, *, earlier: ImageManifest | None = None, released: bool | None) -> None:
    """The cloud holds what the releases own and the decoys, nothing else. ``released``: whether this build has to have
    made a release; None where both are right (then what the catalog says counts)."""
    manifest = release_of(world, (earlier.version,) if earlier is not None else ())
    if released is not None:
        assert (manifest is not None) == released, f"released: {manifest is not None}"
    current = points_to(world)
    expected: Inventory = frozenset()
    releases = [one for one in (earlier, manifest) if one is not None]
    for one in releases:
        expected |= inventory.owned(one, channel=current == one.version)
    if released:
        assert manifest is not None
        assert current == manifest.version
    actual = inventory.take(world)
    assert decoys <= actual, f"decoys were touched: {sorted(decoys - actual)}"
    wrong = inventory.difference(actual - decoys, expected, releases=len(releases))
    assert not wrong, "\n".join(["not as the releases say:", *wrong])
    elsewhere = world.calls_elsewhere()
    assert not elsewhere, f"changes in places that are none of the build's: {elsewhere}"
