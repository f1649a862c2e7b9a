"""What a manifest says about its release, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goldenami.model import ControlResult, ImageManifest, PackageChange


def text(manifest: ImageManifest, channels: Sequence[str]) -> list[str]:
    """Return the lines about a release. ``channels``: those that point to it."""
    facts = {
        "channels": ", ".join(channels) or "none points to it",
        "description": manifest.description,
        "owner": manifest.owner,
        "created": manifest.created,
        "build": manifest.build_id,
        "digest": manifest.digest,
        "commit": manifest.git_commit or "",
        "restored": f"{manifest.restored} from the cloud; its digest, inputs, tests and packages are unknown"
        if manifest.restored
        else "",
    }
    for architecture, base in manifest.base.items():
        facts[f"base {architecture}"] = f"{base.image_id} {base.name} ({base.source})"
    for architecture, packages in manifest.packages.items():
        words = _change_words(manifest.changes.get(architecture, ()))
        facts[f"packages {architecture}"] = f"{len(packages)}; against the base {words or 'no change'}"
    for report in manifest.tests:
        flaky = f", {report.flaky} flaky" if report.flaky else ""
        skipped = f"{report.skipped} skipped" + (
            f" ({report.not_executed} not executed)" if report.not_executed else ""
        )
        facts[f"tests {report.gate} {report.architecture}"] = (
            f"{report.passed} passed, {report.failed} failed, {skipped}{flaky} in {report.seconds:.1f} s"
        )
        if report.gate == "image" and report.controls:
            facts[f"controls {report.architecture}"] = _controls(report.controls)
    width = max(len(label) for label in facts)
    return [manifest.label, *(f"  {k:<{width}}  {v}" for k, v in facts.items() if v)]


def _controls(results: Sequence[ControlResult]) -> str:
    """Count the hardening controls by outcome, and list the waived ones with their expiry dates."""
    counts = Counter(result.outcome.replace("-", " ") for result in results)
    waived = [f"{result.control} until {result.until}" for result in results if result.outcome == "waived"]
    summary = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items(), key=lambda c: -c[1]))
    return summary + (f" ({'; '.join(waived)})" if waived else "")


def _change_words(changes: Sequence[PackageChange]) -> str:
    """Return "3 new, 13 updated, 1 removed"; a count of zero is left out."""
    new = sum(1 for c in changes if c.before is None)
    gone = sum(1 for c in changes if c.after is None)
    numbers = {"new": new, "updated": len(changes) - new - gone, "removed": gone}
    return ", ".join(f"{number} {word}" for word, number in numbers.items() if number)


def change_rows(manifest: ImageManifest) -> list[list[str]]:
    """Return the rows of the packages that differ from the base image: architecture, name and both versions."""
    return [
        [architecture, change.name, change.before or "-", change.after or "-"]
        for architecture, changes in sorted(manifest.changes.items())
        for change in changes
    ]
