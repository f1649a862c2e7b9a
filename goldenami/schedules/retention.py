"""Decides which snapshots of a schedule are kept, and by which rule. Pure.

The snapshots of each volume (or instance) are a separate series, ordered by slot. A second decision about the kept
snapshots gives the same result. A snapshot that a rule keeps today was kept by this rule on every earlier day, so an
early deletion never removes a snapshot that a later decision would keep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from goldenami.schedules.policy import Retention, format_duration, slot_of

UTC: Final = ZoneInfo("UTC")

Action = Literal["keep", "delete"]


@dataclass(frozen=True, slots=True)
class Saved:
    """A snapshot or image that a schedule created.

    ``source``: the volume or instance. ``slot``: the scheduled time, in UTC. ``held``: why it cannot be deleted (an
    image uses it, or it is locked); empty if it can be.
    """

    id: str
    source: str
    slot: datetime
    state: Literal["completed", "pending", "error"] = "completed"
    held: str = ""
    started: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class SnapshotDecision:
    """Keep or delete one snapshot. ``rule``: the reason, for users."""

    saved: Saved
    action: Action
    rule: str

    @property
    def keep(self) -> bool:
        return self.action == "keep"


def decide(
    saved: Iterable[Saved], retention: Retention, now: datetime, zone: ZoneInfo = UTC
) -> tuple[SnapshotDecision, ...]:
    """Decide about each snapshot. The result is in order of source and slot.

    - A failed snapshot is deleted, and does not count.
    - If one slot has two snapshots, the earlier one (by start, then by id) counts. The other one is deleted.
    - A pending snapshot counts, and is kept until it is completed.
    - A held snapshot is kept.
    - The newest completed snapshot of a series is always kept.
    """
    series: dict[str, list[Saved]] = defaultdict(list)
    for one in saved:
        series[one.source].append(one)
    return tuple(d for source in sorted(series) for d in _decide_series(series[source], retention, now, zone))


def _decide_series(
    every: Sequence[Saved], retention: Retention, now: datetime, zone: ZoneInfo
) -> list[SnapshotDecision]:
    ordered = sorted(every, key=lambda s: (s.slot, s.started or s.slot, s.id))
    counted: dict[datetime, Saved] = {}
    for one in ordered:
        # If one slot has two snapshots, a completed one is preferred to a pending one.
        if one.state != "error" and (one.slot not in counted or _is_better(one, counted[one.slot])):
            counted[one.slot] = one
    reasons = _keeping_rules(list(counted.values()), retention, now, zone)
    newest = max((s.slot for s in counted.values() if s.state == "completed"), default=None)
    decisions = []
    for one in ordered:
        if one.held:
            decisions.append(SnapshotDecision(one, "keep", one.held))
        elif one.state == "error":
            decisions.append(SnapshotDecision(one, "delete", "it failed"))
        elif counted[one.slot] is not one:
            decisions.append(
                SnapshotDecision(one, "delete", f"{counted[one.slot].id} has the same slot {slot_of(one.slot)}")
            )
        elif one.slot in reasons:
            decisions.append(SnapshotDecision(one, "keep", reasons[one.slot]))
        elif one.state == "pending":
            decisions.append(SnapshotDecision(one, "keep", "it is pending"))
        elif one.slot == newest:
            decisions.append(SnapshotDecision(one, "keep", "the newest completed snapshot is always kept"))
        else:
            decisions.append(SnapshotDecision(one, "delete", f"no rule keeps it: {retention}"))
    return decisions


def _is_better(one: Saved, other: Saved) -> bool:
    return one.state == "completed" and other.state != "completed"


def _keeping_rules(
    counted: Sequence[Saved], retention: Retention, now: datetime, zone: ZoneInfo
) -> dict[datetime, str]:
    """Return the first rule that keeps each slot. ``counted``: one snapshot per slot, the oldest first."""
    slots = sorted(one.slot for one in counted)
    if retention.everything:
        return dict.fromkeys(slots, "the schedule has no retention: everything is kept")
    reasons: dict[datetime, str] = {}
    for rank, slot in enumerate(reversed(slots[-retention.keep :] if retention.keep else []), 1):
        reasons[slot] = f"one of the newest {retention.keep} ({_nth(rank)})"
    if retention.max_age is not None:
        for slot in slots:
            if now - slot < retention.max_age:
                reasons.setdefault(slot, f"younger than {format_duration(retention.max_age)}")
    for tier, count in retention.tiers.items():
        firsts: dict[tuple[int, ...], datetime] = {}
        for slot in slots:
            firsts.setdefault(_period(tier, slot.astimezone(zone)), slot)
        for rank, slot in enumerate(sorted(firsts.values(), reverse=True)[:count], 1):
            reasons.setdefault(slot, f"{tier} {rank} of {count}")
    return reasons


def _period(tier: str, local: datetime) -> tuple[int, ...]:
    match tier:
        case "hourly":
            # With the UTC offset: an hour that clocks repeat counts as two hours.
            offset = local.utcoffset()
            return (local.toordinal(), local.hour, int(offset.total_seconds()) if offset is not None else 0)
        case "daily":
            return (local.toordinal(),)
        case "weekly":
            return tuple(local.isocalendar()[:2])
        case "monthly":
            return (local.year, local.month)
    return (local.year,)


def _nth(rank: int) -> str:
    return "the newest" if rank == 1 else f"number {rank}"
