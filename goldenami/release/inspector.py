"""Findings of Amazon Inspector about a release, as a feed of vulnerabilities.

Inspector names installed packages of instances. An instance can have more packages than its image, or newer ones, so
only what is in the inventory of the image counts, and it can miss what an instance has updated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from goldenami.aws import inspector
from goldenami.aws.inspector import Vulnerable
from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.evidence.packages import SYSTEM_TYPES, Inventory
from goldenami.evidence.vulnerabilities import Ecosystem, Feed, Range, Statement, subjects_of, system_of
from goldenami.model import Architecture, ImageManifest, Severity

_NAME: Final = "Amazon Inspector"
_SEVERITIES: Final[dict[str, Severity]] = {
    "INFORMATIONAL": "negligible",
    "LOW": "low",
    "MEDIUM": "medium",
    "HIGH": "high",
    "CRITICAL": "critical",
}

Look = Callable[[ImageManifest, Architecture, Inventory], Feed]


def looker(cloud: Cloud) -> Look:
    """Return a function that asks Inspector about an image of a release, in all places that have it."""

    def look(manifest: ImageManifest, architecture: Architecture, inventory: Inventory) -> Feed:
        rows = {image.place: image.image_id for image in manifest.images if image.architecture == architecture}
        answers = each(rows, lambda place: inspector.inspect(cloud, place, rows[place]))
        known = [one for one in answers.results.values() if not one.problem]
        if not known:
            problems = [one.problem for one in answers.results.values()]
            problems += [f"{place}: {reason}" for place, reason in answers.reasons.items()]
            return Feed(_NAME, problem="; ".join(problems) or "the release has no images")
        found = dict.fromkeys(one for place in known for one in place.found)
        return Feed(
            _NAME,
            tuple(statement for one in found for statement in _statements(one, inventory)),
            frozenset({system_of(inventory)}),
            min(one.scanned for one in known if one.scanned is not None),
        )

    return look


def _statements(one: Vulnerable, inventory: Inventory) -> list[Statement]:
    """Return what a finding says about packages of the image: by the names under which they are compared."""
    named: dict[tuple[Ecosystem, str], None] = {}
    for component in inventory.components:
        if component.name == one.package and component.type in SYSTEM_TYPES:
            named |= {(ecosystem, name): None for ecosystem, name, _ in subjects_of(component, inventory)}
    severity = _SEVERITIES.get(one.severity, "unknown")
    ranges = (Range(fixed=one.fixed),)
    return [Statement(one.id, *name, ranges, severity=severity, aliases=one.aliases) for name in named]
