"""The fleet: which releases the instances of all accounts and regions run, and how old these releases are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.model import Environment, Place
from goldenami.release import usage
from goldenami.release.catalog import Catalog
from goldenami.release.listing import Filter, ListedRelease, list_releases, newer


@dataclass(frozen=True, slots=True)
class FleetRelease:
    """The instances that run images of one release.

    ``instances``: place -> number, in all states except terminated. ``running``: how many of them run. ``age_days``:
    since the release was built. ``newer``: the number of newer usable releases of the same name.
    """

    release: ListedRelease
    instances: Mapping[Place, int]
    running: int
    age_days: int
    newer: int

    @property
    def count(self) -> int:
        """The number of instances."""
        return sum(self.instances.values())


@dataclass(frozen=True, slots=True)
class Fleet:
    """All releases that instances run, by name, the newest first.

    ``others``: the number of instances of other images. ``unreachable``: places that did not answer -> reason; their
    instances are not counted.
    """

    releases: tuple[FleetRelease, ...]
    others: int
    unreachable: Mapping[Place, str] = field(default_factory=dict)


def read_fleet(
    cloud: Cloud, environment: Environment, catalog: Catalog, now: datetime, name: str | None = None
) -> Fleet:
    """Read the instances of all accounts and regions in parallel. No error is raised for a place that does not answer.

    ``name``: only releases of this recipe, or of a pattern; then instances of the other releases are among ``others``.
    ``catalog``: from :meth:`Catalog.indexed`.
    """
    listed = list(list_releases(catalog, Filter(name)))
    places = set(usage.places_of(environment))
    regions = {image.place.region for one in listed for image in one.entry.images}
    places |= {Place(account.id, region) for account in environment.accounts.values() for region in regions}
    answers = each(sorted(places), lambda place: list(usage.instances(cloud, place)))
    of_image = {image.image_id: one.entry.label for one in listed for image in one.entry.images}
    counts: dict[str, Counter[Place]] = {}
    running: Counter[str] = Counter()
    others = 0
    for place, instances in answers.results.items():
        for image_id, _, state in instances:
            label = of_image.get(image_id)
            if label is None:
                others += 1
                continue
            counts.setdefault(label, Counter())[place] += 1
            running[label] += state == "running"
    rows = (
        FleetRelease(
            one,
            dict(sorted(counts[one.entry.label].items())),
            running[one.entry.label],
            (now - datetime.fromisoformat(one.entry.created)).days,
            len(newer(catalog, one.entry.name, one.entry.version)),
        )
        for one in listed
        if one.entry.label in counts
    )
    return Fleet(tuple(rows), others, answers.reasons)
