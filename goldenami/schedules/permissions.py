"""The part of an environment that its IAM policies cover: its targets, and the regions and keys of its schedules."""

from __future__ import annotations

from collections.abc import Iterable

from goldenami.aws.calls import Job
from goldenami.aws.policies import Scope
from goldenami.model import Environment, Place
from goldenami.schedules.policy import Schedule


def permission_scope(
    environment: Environment,
    schedules: Iterable[Schedule],
    *,
    jobs: frozenset[Job] = frozenset(Job),
    trusted: tuple[str, ...] = (),
) -> Scope:
    """Return the scope of an environment and its schedules. ``trusted``: ARNs that may assume the roles."""
    keys: set[tuple[Place, str]] = set()
    regions: set[str] = set()
    for schedule in schedules:
        regions |= {place.region for place in schedule.places} | {copy.region for copy in schedule.copies}
        for copy in schedule.copies:
            if copy.kms_key:
                keys |= {(Place(place.account, copy.region), copy.kms_key) for place in schedule.places}
    ordered = sorted(keys, key=lambda item: (item[0].account, item[0].region, item[1]))
    return Scope(environment, jobs, tuple(ordered), frozenset(regions), trusted)
