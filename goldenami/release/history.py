"""What happened to the releases of a recipe, from the catalog alone: moves of channels, and marks.

This module is apart from ``channels``, which moves channels and so loads the cloud.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from goldenami.release.catalog import Catalog
from goldenami.release.versions import Reference


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """What happened to a release. ``action``: build, promote, rollback, revoke, restore, pin or retire. ``channel``:
    the channel that moved to the version; None if no channel moved. ``time``: ISO 8601, UTC."""

    time: str
    action: str
    version: str
    channel: str | None
    by: str | None
    reason: str | None


def history_of(catalog: Catalog, reference: Reference) -> list[HistoryEvent]:
    """Return what happened to the releases of a name, or of one channel of it, oldest first. Raises NotFound."""
    name = reference.name
    if reference.channel is not None:
        catalog.existing_channel(name, reference.channel)
    elif reference.version is not None or not catalog.versions(name):
        catalog.find(reference)
    found = [
        HistoryEvent(move.moved, move.action, move.version, channel.channel, move.by, move.reason)
        for channel in catalog.channels(name)
        if reference.channel in (None, channel.channel)
        for move in channel.history
    ]
    if reference.channel is None:
        found += [
            HistoryEvent(one.time, one.action, version, None, one.by, one.reason)
            for version in sorted({*catalog.marks_by_version(name)} & {*catalog.versions(name)})
            for one in catalog.marks.events(name, version)
        ]
    chosen = (event for event in found if reference.version in (None, event.version))
    return sorted(chosen, key=lambda event: datetime.fromisoformat(event.time))
