"""From what is there to what is to be done: pure. A run does these steps in this order; a dry run prints them.

    make → copy → share → fast restore → archive → stop sharing → delete

A snapshot is not deleted while a copy of it is being made or still to be made: the copy would fail.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from goldenami.model import Place
from goldenami.schedules.due import due_slots
from goldenami.schedules.policy import Copy, Retention, Schedule, slot_of
from goldenami.schedules.retention import Saved, SnapshotDecision, decide


@dataclass(frozen=True, slots=True)
class Source:
    """A volume or an instance that is to be saved. ``exclude``: volumes of an instance that are left out."""

    id: str
    place: Place
    exclude: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """A snapshot or image that the schedule made. ``saved.source`` is the series (a volume, or with images an
    instance); ``of`` is what the slot was made for (with an instance's snapshots, the instance)."""

    saved: Saved
    place: Place
    of: str
    kind: Literal["snapshot", "image"] = "snapshot"
    copied: bool = False
    encrypted: bool = False
    archived: bool = False
    shared: frozenset[str] = frozenset()
    fast: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        return self.saved.id


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything that was read, at one moment. ``unreachable``: places that did not answer, with the reason."""

    sources: tuple[Source, ...]
    made: tuple[Made, ...]
    unreachable: Mapping[Place, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Make:
    source: Source
    slot: datetime

    def __str__(self) -> str:
        return f"make one of {self.source.id} in {self.source.place} for the slot {slot_of(self.slot)}"


@dataclass(frozen=True, slots=True)
class MakeCopy:
    made: Made
    copy: Copy

    @property
    def place(self) -> Place:
        return Place(self.made.place.account, self.copy.region)

    def __str__(self) -> str:
        return f"copy {self.made.id} to {self.copy.region}"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one snapshot. ``values``: accounts, or Availability Zones."""

    what: Literal["share", "unshare", "fast restore", "end fast restore", "archive"]
    made: Made
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        with_values = f" {', '.join(self.values)}" if self.values else ""
        return f"{self.what} {self.made.id}{with_values}"


@dataclass(frozen=True, slots=True)
class Steps:
    """``verdicts``: on everything there is, with what deleted or kept it."""

    makes: tuple[Make, ...]
    copies: tuple[MakeCopy, ...]
    changes: tuple[Change, ...]
    verdicts: tuple[tuple[Made, SnapshotDecision], ...]

    @property
    def deletions(self) -> tuple[tuple[Made, SnapshotDecision], ...]:
        return tuple((made, verdict) for made, verdict in self.verdicts if not verdict.keep)

    def __bool__(self) -> bool:
        return bool(self.makes or self.copies or self.changes or self.deletions)


def plan(schedule: Schedule, survey: Survey, now: datetime) -> Steps:
    """What is to be done now; nothing for places that did not answer."""
    originals = [m for m in survey.made if not m.copied and m.place not in survey.unreachable]
    makes = tuple(
        Make(source, slot)
        for source in survey.sources
        if source.place not in survey.unreachable
        for slot in due_slots(schedule, filled(originals, source), now)
    )
    # What is about to be made counts: the sixth is what removes the first.
    coming = [_coming(make) for make in makes if schedule.selection.resource == "volumes" or schedule.make == "images"]
    verdicts = _judge([*originals, *coming], schedule.retention, schedule, now)
    verdicts = [(made, verdict) for made, verdict in verdicts if made not in coming]
    copies: list[MakeCopy] = []
    for copy in schedule.copies:
        copied = (m for m in survey.made if m.copied and m.place.region == copy.region)
        there = [m for m in copied if m.place not in survey.unreachable]
        copies += _copies(schedule, copy, originals, there, survey, now)
        verdicts += _judge(there, copy.retention, schedule, now)
    verdicts = _hold(verdicts, survey, copies)
    changes = tuple(_changes(schedule, verdicts, now))
    return Steps(makes, tuple(copies), changes, tuple(verdicts))


def filled(made: Iterable[Made], source: Source) -> set[datetime]:
    """The slots that a source has something good for."""
    return {m.saved.slot for m in made if m.of == source.id and m.place == source.place and m.saved.state != "error"}


def _coming(make: Make) -> Made:
    return Made(Saved("", make.source.id, make.slot, "pending"), make.source.place, make.source.id)


def _judge(
    made: Sequence[Made], retention: Retention, schedule: Schedule, now: datetime
) -> list[tuple[Made, SnapshotDecision]]:
    """Each place is judged for itself: the same volume cannot be in two."""
    judged = []
    by_place: dict[Place, list[Made]] = defaultdict(list)
    for one in made:
        by_place[one.place].append(one)
    for place in sorted(by_place):
        of = {id(m.saved): m for m in by_place[place]}
        verdicts = decide([m.saved for m in by_place[place]], retention, now, schedule.zone)
        judged += [(of[id(v.saved)], v) for v in verdicts]
    return judged


def _copies(
    schedule: Schedule, copy: Copy, originals: Sequence[Made], there: Sequence[Made], survey: Survey, now: datetime
) -> list[MakeCopy]:
    """The originals that lack their copy, and whose copy would be kept: nothing is copied to be deleted."""
    have = {(m.place.account, m.saved.source, m.saved.slot) for m in there if m.saved.state != "error"}
    lacking = [
        m
        for m in originals
        if m.saved.state == "completed"
        and not m.archived
        and (m.place.account, m.saved.source, m.saved.slot) not in have
        and Place(m.place.account, copy.region) not in survey.unreachable
    ]
    found = []
    by_account: dict[str, list[Made]] = defaultdict(list)
    for one in lacking:
        by_account[one.place.account].append(one)
    for account, candidates in sorted(by_account.items()):
        own = [m.saved for m in there if m.place.account == account]
        verdicts = decide([*own, *(m.saved for m in candidates)], copy.retention, now, schedule.zone)
        wanted = {v.saved.id for v in verdicts if v.keep}
        found += [MakeCopy(m, copy) for m in candidates if m.id in wanted]
    return sorted(found, key=lambda c: (c.made.saved.slot, c.made.id))


def _hold(
    verdicts: Sequence[tuple[Made, SnapshotDecision]], survey: Survey, copies: Sequence[MakeCopy]
) -> list[tuple[Made, SnapshotDecision]]:
    """Keep what a copy is made of, until the copy is completed."""
    waiting = {(c.made.place.account, c.made.saved.source, c.made.saved.slot): c.copy.region for c in copies}
    for m in survey.made:
        if m.copied and m.saved.state == "pending":
            waiting[m.place.account, m.saved.source, m.saved.slot] = m.place.region
    held = []
    for made, verdict in verdicts:
        region = waiting.get((made.place.account, made.saved.source, made.saved.slot))
        if not verdict.keep and not made.copied and region is not None:
            verdict = replace(verdict, action="keep", rule=f"its copy in {region} is not completed")
        held.append((made, verdict))
    return held


def _changes(schedule: Schedule, verdicts: Sequence[tuple[Made, SnapshotDecision]], now: datetime) -> Iterable[Change]:
    kept = [made for made, verdict in verdicts if verdict.keep and made.saved.state == "completed"]
    originals = sorted((m for m in kept if not m.copied), key=lambda m: (m.saved.slot, m.id))
    fast: set[str] = set()
    if schedule.fast_restore is not None:
        by_series: dict[tuple[Place, str], list[Made]] = defaultdict(list)
        for one in originals:
            if not one.archived and one.kind == "snapshot":
                by_series[one.place, one.saved.source].append(one)
        for series in by_series.values():
            for one in series[-schedule.fast_restore.count :]:
                fast.add(one.id)
                zones = [z for z in schedule.fast_restore.zones if z.startswith(one.place.region)]
                missing = tuple(z for z in zones if z not in one.fast)
                if missing:
                    yield Change("fast restore", one, missing)
    for made, _ in verdicts:
        # It costs by the hour; and what is deleted or archived must not have it any more.
        if made.fast and made.id not in fast and not made.copied:
            yield Change("end fast restore", made, tuple(sorted(made.fast)))
    for one in originals:
        age = now - one.saved.slot
        expired = schedule.unshare_after is not None and age >= schedule.unshare_after
        archiving = (
            schedule.archive_after is not None
            and age >= schedule.archive_after
            and not one.archived
            and not one.saved.held
            and one.id not in fast
            and one.kind == "snapshot"
        )
        if archiving:  # which ends the sharing, too
            yield Change("archive", one)
        elif expired and one.shared & set(schedule.share_accounts):
            yield Change("unshare", one, tuple(sorted(one.shared & set(schedule.share_accounts))))
        elif not expired and not one.archived and set(schedule.share_accounts) - one.shared:
            yield Change("share", one, tuple(sorted(set(schedule.share_accounts) - one.shared)))
