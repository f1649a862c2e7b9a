"""Running many cases in one test, and judging what each leaves behind."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from goldenami.model import ImageManifest
from tests.worlds import inventory
from tests.worlds.builds import CHANNEL, RECIPE, Death, World
from tests.worlds.inventory import Inventory

_Case = TypeVar("_Case")
SHARDS = 4


def share(cases: Iterable[_Case], shard: int, *, whole: bool, every: int) -> list[_Case]:
    """The cases of one shard: all of them, or each ``every``-th, the same ones each time. ``every`` should have no
    common factor with the number of variations of a call, so that all variations come up."""
    chosen = list(cases) if whole else list(cases)[::every]
    return chosen[shard::SHARDS]


@dataclass
class Verdicts:
    """Cases that were run, and the complaints about them: all are told, not only the first."""

    matrix: str
    count: int = 0
    complaints: list[str] = field(default_factory=list)

    def run(self, name: str, case: Callable[[], None]) -> None:
        self.count += 1
        try:
            case()
        except (Exception, Death) as error:
            lines = "".join(traceback.format_exception(error, limit=-6, chain=False))
            places = "".join(f"{place}: {why}\n" for place, why in getattr(error, "failures", {}).items())
            self.complaints.append(f"--- {name}\n{lines}{places}")

    def tell(self, record_property: Callable[[str, Any], None]) -> None:
        """Raise AssertionError with what is wrong."""
        record_property(f"cases of the {self.matrix}", self.count)
        if self.complaints:
            text = "\n".join(self.complaints[:20])
            raise AssertionError(f"{len(self.complaints)} of {self.count} cases are wrong\n{text}")


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
