"""The Recycle Bin: until when what is deleted can be restored, by the retention rules of its account and region.

A rule retains images or snapshots that have one of its tags, or all of a region but those with an exclusion tag; of
several that match, the longest counts. ("Recycle Bin", EBS user guide.)
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
    """``tags``: what has one of them is retained; none: everything but what has one of ``exclude``."""

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
    """For how many days a thing with these tags can be restored after it was deleted; None: not at all."""
    return max((rule.days for rule in rules if rule.retains(kind, own)), default=None)


def rules(cloud: Cloud, place: Place) -> tuple[Rule, ...]:
    """The rules for images and snapshots of an account and region."""
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
    """The bins of all places, each asked when its first deletion is reported. ``unreachable``: places that did not
    answer, with the reason: what is deleted there may or may not be in the bin."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._guard = threading.Lock()
        self._rules: dict[Place, tuple[Rule, ...]] = {}
        self._failures = Failures[Place]()
        self.unreachable = self._failures.reasons

    def until(self, place: Place, kind: str, own: Mapping[str, str], deleted: datetime) -> datetime | None:
        """Until when something that is deleted then can be restored; None: it is gone, or nobody can tell. Anything
        but an image or a snapshot is gone at once."""
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
