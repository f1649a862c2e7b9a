"""The Recycle Bin: until when deleted images and snapshots can be restored, by the rules of their account and region.

A rule retains images or snapshots that have one of its tags, or all in a region except those with an exclusion tag. If
several rules match, the longest one applies ("Recycle Bin", EBS user guide).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from goldenami.aws.session import Cloud
from goldenami.each import Failures
from goldenami.model import Place

_TYPES: Final = {"image": "EC2_IMAGE", "snapshot": "EBS_SNAPSHOT"}
_Pair = tuple[str, str | None]  # a tag's key and value; None: any value


@dataclass(frozen=True, slots=True)
class Rule:
    """A retention rule. ``tags``: resources with one of these tags are retained. If it is empty, all resources are
    retained except those with one of the tags in ``exclude``."""

    kind: str
    days: int
    tags: frozenset[_Pair] = frozenset()
    exclude: frozenset[_Pair] = frozenset()

    def retains(self, kind: str, own: Mapping[str, str]) -> bool:
        if kind != self.kind:
            return False
        return _has_one(own, self.tags) if self.tags else not _has_one(own, self.exclude)


def _has_one(own: Mapping[str, str], wanted: Collection[_Pair]) -> bool:
    return any(key in own and value in (None, own[key]) for key, value in wanted)


def days(rules: Collection[Rule], kind: str, own: Mapping[str, str]) -> int | None:
    """Return for how many days a resource with these tags can be restored after its deletion; None: not at all."""
    return max((rule.days for rule in rules if rule.retains(kind, own)), default=None)


def rules(cloud: Cloud, place: Place) -> tuple[Rule, ...]:
    """Return the rules for images and snapshots of an account and region."""
    found = []
    for kind, type_name in _TYPES.items():
        for listed in cloud.pages(place, "rbin", "ListRules", "Rules", {"ResourceType": type_name}):
            rule = cloud.call(place, "rbin", "GetRule", {"Identifier": listed["Identifier"]})
            found.append(
                Rule(
                    kind,
                    int(rule["RetentionPeriod"]["RetentionPeriodValue"]),
                    _pairs(rule.get("ResourceTags")),
                    _pairs(rule.get("ExcludeResourceTags")),
                )
            )
    return tuple(found)


def _pairs(given: Any) -> frozenset[_Pair]:
    return frozenset((t["ResourceTagKey"], t.get("ResourceTagValue")) for t in given or ())


class Bins:
    """The Recycle Bins of all places. The rules of a place are read when they are first needed. ``unreachable``: the
    reasons why rules could not be read, by place. It is unknown whether deleted resources there can be restored."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._guard = threading.Lock()
        self._rules: dict[Place, tuple[Rule, ...]] = {}
        self._failures = Failures[Place]()
        self.unreachable = self._failures.reasons

    def until(self, place: Place, kind: str, own: Mapping[str, str], deleted: datetime) -> datetime | None:
        """Return until when a resource that is deleted at ``deleted`` can be restored. None: it cannot be restored, or
        the rules are unknown. Only images and snapshots can be restored."""
        if kind not in _TYPES:
            return None
        found = days(self._of(place), kind, own)
        return deleted + timedelta(days=found) if found is not None else None

    def _of(self, place: Place) -> tuple[Rule, ...]:
        with self._guard:
            if place not in self._rules:
                self._rules[place] = ()
                with self._failures.of(place):
                    self._rules[place] = rules(self._cloud, place)
            return self._rules[place]
