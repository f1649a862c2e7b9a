"""Fast snapshot restore of released images: volumes of new instances have full speed from the first read.

It is for the releases that a channel points to, in the Availability Zones that the recipe declares. AWS charges for
each snapshot, zone and hour, so a release that no channel points to any more loses it.

The tag ``goldenami:fast-restore`` of a snapshot says in which zones goldenami enabled it. goldenami never disables it
in a zone that is not in the tag: somebody else enabled it there. A zone is in the tag before it is enabled, and until
it is disabled, so a killed process leaves nothing that nobody would disable.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from goldenami.aws import snapshots, tags
from goldenami.aws.ledger import Ledger
from goldenami.aws.ownership import Owner
from goldenami.aws.session import Cloud
from goldenami.aws.tagcalls import tag, untag
from goldenami.aws.waiters import Item
from goldenami.each import Answers, each
from goldenami.model import ImageManifest, Place
from goldenami.release import targets as modes
from goldenami.release.catalog import Catalog

ENABLED: Final = "enabled"


@dataclass(frozen=True, slots=True)
class Found:
    """The state of a place. ``tagged``: the snapshots with the tag, by id. ``enabled``: snapshot -> zones where fast
    restore is enabled or being enabled."""

    tagged: Mapping[str, Item] = field(default_factory=dict)
    enabled: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def tag(self, snapshot_id: str) -> str | None:
        """Return the value of the tag of a snapshot."""
        return tags.from_list(self.tagged.get(snapshot_id, {}).get("Tags")).get(tags.FAST_RESTORE)

    def zones(self, snapshot_id: str) -> frozenset[str]:
        """Return the zones in which fast restore of a snapshot is enabled."""
        return self.enabled.get(snapshot_id, frozenset())


@dataclass(frozen=True, slots=True, order=True)
class Old:
    """A snapshot with the tag whose release no channel points to. ``zones``: those that goldenami must disable."""

    place: Place
    recipe: str
    snapshot_id: str
    zones: tuple[str, ...]
    tag: str


def tag_of(zones: Iterable[str]) -> str | None:
    """Return the value of the tag for these zones; None for no zone: there is no tag then."""
    return " ".join(sorted(zones)) or None


def read(cloud: Cloud, place: Place, snapshot_ids: Collection[str]) -> Found:
    """Read which snapshots have the tag, and where it is enabled: for these and for ``snapshot_ids``. If there are
    none, nothing but the tags is read."""
    tagged = {str(s["SnapshotId"]): s for s in snapshots.find(cloud, place, {"tag-key": [tags.FAST_RESTORE]})}
    enabled: dict[str, set[str]] = defaultdict(set)
    for one in snapshots.fast_restores(cloud, place, sorted({*tagged, *snapshot_ids})):
        enabled[str(one["SnapshotId"])].add(str(one["AvailabilityZone"]))
    return Found(tagged, {id: frozenset(zones) for id, zones in enabled.items()})


def find_old(found: Found, place: Place, catalog: Catalog, owner: Owner, recipes: Collection[str]) -> list[Old]:
    """Return the snapshots of these recipes' releases that no channel points to, sorted."""
    old = []
    for id, snapshot in found.tagged.items():
        given = tags.from_list(snapshot.get("Tags"))
        recipe, version = given.get(tags.RECIPE, ""), given.get(tags.VERSION, "")
        if recipe not in recipes or not owner.of_tags(given).is_ours or _is_pointed(catalog, recipe, version):
            continue
        value = given[tags.FAST_RESTORE]
        old.append(Old(place, recipe, id, tuple(sorted(found.zones(id) & set(value.split()))), value))
    return sorted(old)


def _is_pointed(catalog: Catalog, recipe: str, version: str) -> bool:
    return any(channel.current == version for channel in catalog.channels(recipe))


def change(
    ledger: Ledger,
    place: Place,
    snapshot_id: str,
    *,
    enable: Collection[str] = (),
    disable: Collection[str] = (),
    before: str | None,
    after: str | None,
) -> None:
    """Ensure that fast restore of a snapshot is enabled and disabled in these zones. ``before``, ``after``: the tag.

    Raises CloudError if AWS refuses a zone, for example because of its quota of 5 snapshots for an account and region.
    """
    key = f"fast-restore/{place}/{snapshot_id}"
    meanwhile = tag_of({*(before or "").split(), *(after or "").split()})
    if meanwhile is not None and meanwhile != before:
        tag(ledger, f"{key}/tag", place, snapshot_id, {tags.FAST_RESTORE: meanwhile})
    if disable:
        snapshots.fast_restore(ledger, f"{key}/disable", place, snapshot_id, disable, on=False)
    if enable:
        snapshots.fast_restore(ledger, f"{key}/enable", place, snapshot_id, enable)
    if after is None and meanwhile is not None:
        untag(ledger, f"{key}/untag", place, snapshot_id, {tags.FAST_RESTORE: meanwhile})
    elif after is not None and after != meanwhile:
        tag(ledger, f"{key}/tag-after", place, snapshot_id, {tags.FAST_RESTORE: after})


def end(ledger: Ledger, old: Old) -> None:
    """Ensure that goldenami's fast restore of a snapshot is disabled."""
    change(ledger, old.place, old.snapshot_id, disable=old.zones, before=old.tag, after=None)


Seen = Answers[Place, Found]


@dataclass(frozen=True, slots=True)
class Work:
    """What a build has to change after it released: ``found`` by place, and ``old`` snapshots to disable."""

    found: Mapping[Place, Found]
    old: tuple[Old, ...]
    failures: Mapping[str, str]


def look(cloud: Cloud, manifest: ImageManifest, zones: Mapping[Place, Collection[str]]) -> Seen:
    """Read where fast restore is enabled for a release, and for all others. ``zones``: the declared ones."""
    behind: dict[Place, list[str]] = defaultdict(list)
    for row in manifest.images:
        if modes.owns(row):
            behind[row.place] += [snapshot.snapshot_id for snapshot in row.snapshots if zones.get(row.place)]
    return each(sorted(behind), lambda place: read(cloud, place, behind[place]))


def decide(seen: Seen, catalog: Catalog, owner: Owner, manifest: ImageManifest) -> Work:
    """Return what a build has to change after its channel moved. A place that did not answer is a failure."""
    old = [
        one
        for place, found in seen.results.items()
        for one in find_old(found, place, catalog, owner, [manifest.recipe])
    ]
    failures = {str(place): f"fast restore is not known: {reason}" for place, reason in seen.reasons.items()}
    return Work(seen.results, tuple(old), failures)


def bring(
    ledger: Ledger, catalog: Catalog, manifest: ImageManifest, zones: Mapping[Place, Collection[str]], work: Work
) -> dict[str, str]:
    """Disable fast restore of former releases, and enable it for a release that a channel points to. Return place ->
    reason of failures.

    Former releases are first, because AWS has a quota of 5 snapshots for an account and region.
    """
    ended = each(work.old, lambda one: end(ledger, one))
    failures = {str(one.place): f"{one.snapshot_id} keeps fast restore: {why}" for one, why in ended.reasons.items()}
    if not _is_pointed(catalog, manifest.recipe, manifest.version):
        return failures
    wanted = [
        (row.place, snapshot.snapshot_id)
        for row in manifest.images
        if modes.owns(row) and row.place in work.found and zones.get(row.place)
        for snapshot in row.snapshots
    ]

    def enable(at: tuple[Place, str]) -> None:
        place, id = at
        missing = set(zones[place]) - work.found[place].zones(id)
        change(ledger, place, id, enable=missing, before=work.found[place].tag(id), after=tag_of(zones[place]))

    done = each(wanted, enable)
    return failures | {str(place): f"{id} has no fast restore: {why}" for (place, id), why in done.reasons.items()}
