"""Keep or delete, and the rule that decided: a pure function over what is there.

Each volume (or instance) is a series of its own, ordered by slot. Deciding again over what a decision left gives the
same answer: what a rule keeps today it kept every day before, so deleting early never takes what would be kept later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from goldenami.schedules.policy import Retention, days, slot_of

UTC: Final = ZoneInfo("UTC")

Action = Literal["keep", "delete"]


@dataclass(frozen=True, slots=True)
class Saved:
    """A snapshot (or image) that a schedule made. ``source``: the volume or instance. ``slot``: the moment that it was
    made for, in UTC. ``held``: why it cannot go whatever a rule says (an image uses it; it is locked), or empty."""

    id: str
    source: str
    slot: datetime
    state: Literal["completed", "pending", "error"] = "completed"
    held: str = ""
    started: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class SnapshotDecision:
    saved: Saved
    action: Action
    rule: str

    @property
    def keep(self) -> bool:
        return self.action == "keep"


def decide(
    saved: Iterable[Saved], retention: Retention, now: datetime, zone: ZoneInfo = UTC
) -> tuple[SnapshotDecision, ...]:
    """The verdict on each, in order of source and slot.

    Failed ones go, and do not count. Of two for one slot the earlier (by start, then id) counts and the other goes.
    What is pending counts, and stays until it is completed. What is held stays. Of a series with completed snapshots
    at least the newest of them always stays.
    """
    series: dict[str, list[Saved]] = defaultdict(list)
    for one in saved:
        series[one.source].append(one)
    return tuple(v for source in sorted(series) for v in _decide_series(series[source], retention, now, zone))


def _decide_series(
    every: Sequence[Saved], retention: Retention, now: datetime, zone: ZoneInfo
) -> list[SnapshotDecision]:
    ordered = sorted(every, key=lambda s: (s.slot, s.started or s.slot, s.id))
    counted: dict[datetime, Saved] = {}
    for one in ordered:
        # Of two for one slot, a completed one is worth more than one that is not there yet.
        if one.state != "error" and (one.slot not in counted or _better(one, counted[one.slot])):
            counted[one.slot] = one
    reasons = _kept_by(list(counted.values()), retention, now, zone)
    newest = max((s.slot for s in counted.values() if s.state == "completed"), default=None)
    verdicts = []
    for one in ordered:
        if one.held:
            verdicts.append(SnapshotDecision(one, "keep", one.held))
        elif one.state == "error":
            verdicts.append(SnapshotDecision(one, "delete", "it failed"))
        elif counted[one.slot] is not one:
            verdicts.append(
                SnapshotDecision(one, "delete", f"{counted[one.slot].id} is of the same slot {slot_of(one.slot)}")
            )
        elif one.slot in reasons:
            verdicts.append(SnapshotDecision(one, "keep", reasons[one.slot]))
        elif one.state == "pending":
            verdicts.append(SnapshotDecision(one, "keep", "it is pending"))
        elif one.slot == newest:
            verdicts.append(SnapshotDecision(one, "keep", "the newest completed one always stays"))
        else:
            verdicts.append(SnapshotDecision(one, "delete", f"no rule keeps it: {retention}"))
    return verdicts


def _better(one: Saved, other: Saved) -> bool:
    return one.state == "completed" and other.state != "completed"


def _kept_by(counted: Sequence[Saved], retention: Retention, now: datetime, zone: ZoneInfo) -> dict[datetime, str]:
    """Slot -> the first rule that keeps it. ``counted``: one a slot, oldest first."""
    slots = sorted(one.slot for one in counted)
    if retention.everything:
        return dict.fromkeys(slots, "no rule of retention is given: everything stays")
    reasons: dict[datetime, str] = {}
    for rank, slot in enumerate(reversed(slots[-retention.keep :] if retention.keep else []), 1):
        reasons[slot] = f"one of the newest {retention.keep} ({_nth(rank)})"
    if retention.max_age is not None:
        for slot in slots:
            if now - slot < retention.max_age:
                reasons.setdefault(slot, f"younger than {days(retention.max_age)}")
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
            # By the offset too: the hour that clocks repeat is two hours.
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
