"""Plans the steps of a schedule's run from the result of a survey. Pure.

A run does the steps in this order, and a dry run prints them::

    create → copy → share → fast restore → archive → unshare → delete

A snapshot is kept while a copy of it is pending or planned. Otherwise the copy would fail.
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
    """A volume or an instance of which snapshots are created. ``exclude``: volumes of the instance to omit."""

    id: str
    place: Place
    exclude: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """A snapshot or image that the schedule created.

    ``saved.source``: the series, which is a volume or, for images, an instance. ``slot_source``: the source of the
    slot; for snapshots of an instance, this is the instance. ``unowned``: why its owner cannot be determined; empty for
    a snapshot of this catalog. It fills its slot, but is never changed, copied or deleted.
    """

    saved: Saved
    place: Place
    slot_source: str
    kind: Literal["snapshot", "image"] = "snapshot"
    copied: bool = False
    encrypted: bool = False
    archived: bool = False
    shared: frozenset[str] = frozenset()
    fast: frozenset[str] = frozenset()
    unowned: str = ""

    @property
    def id(self) -> str:
        return self.saved.id


@dataclass(frozen=True, slots=True)
class Survey:
    """The sources and snapshots of a schedule. ``unreachable``: places that did not answer, with the reasons.
    ``others``: snapshots of a schedule with the same name that belong to another catalog, with the owner; they are
    neither counted nor changed."""

    sources: tuple[Source, ...]
    made: tuple[Made, ...]
    unreachable: Mapping[Place, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Make:
    """Create a snapshot (or image) of a source for a slot."""

    source: Source
    slot: datetime

    def __str__(self) -> str:
        return f"create one of {self.source.id} in {self.source.place} for slot {slot_of(self.slot)}"


@dataclass(frozen=True, slots=True)
class MakeCopy:
    """Copy a snapshot (or image) to the region of ``copy``."""

    made: Made
    copy: Copy

    @property
    def place(self) -> Place:
        return Place(self.made.place.account, self.copy.region)

    def __str__(self) -> str:
        return f"copy {self.made.id} to {self.copy.region}"


@dataclass(frozen=True, slots=True)
class Change:
    """Change one snapshot. ``values``: account ids, or Availability Zones."""

    what: Literal["share", "unshare", "fast restore", "end fast restore", "archive"]
    made: Made
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        with_values = f" {', '.join(self.values)}" if self.values else ""
        return f"{self.what} {self.made.id}{with_values}"


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a run. ``decisions``: for each existing snapshot, whether it is kept, and the rule."""

    makes: tuple[Make, ...]
    copies: tuple[MakeCopy, ...]
    changes: tuple[Change, ...]
    decisions: tuple[tuple[Made, SnapshotDecision], ...]

    @property
    def deletions(self) -> tuple[tuple[Made, SnapshotDecision], ...]:
        return tuple((made, decision) for made, decision in self.decisions if not decision.keep)

    def __bool__(self) -> bool:
        return bool(self.makes or self.copies or self.changes or self.deletions)


def plan(schedule: Schedule, survey: Survey, now: datetime) -> Steps:
    """Plan the steps for the time ``now``. Places that did not answer get no step."""
    every = [m for m in survey.made if not m.copied and m.place not in survey.unreachable]
    originals = [m for m in every if not m.unowned]
    makes = tuple(
        Make(source, slot)
        for source in survey.sources
        if source.place not in survey.unreachable
        for slot in due_slots(schedule, filled(every, source), now)
    )
    # Planned snapshots count: with keep: 5, the sixth snapshot causes the deletion of the first.
    coming = [_coming(make) for make in makes if schedule.selection.resource == "volumes" or schedule.make == "images"]
    decisions = _decide_by_place([*originals, *coming], schedule.retention, schedule, now)
    decisions = [(made, decision) for made, decision in decisions if made not in coming]
    copies: list[MakeCopy] = []
    for copy in schedule.copies:
        copied = (m for m in survey.made if m.copied and m.place.region == copy.region)
        there = [m for m in copied if m.place not in survey.unreachable]
        copies += _copies(schedule, copy, originals, there, survey, now)
        decisions += _decide_by_place([m for m in there if not m.unowned], copy.retention, schedule, now)
    decisions = _hold(decisions, survey, copies)
    changes = tuple(_changes(schedule, decisions, now))
    unowned = (m for m in survey.made if m.unowned and m.place not in survey.unreachable)
    decisions += [(m, SnapshotDecision(m.saved, "keep", m.unowned)) for m in unowned]
    return Steps(makes, tuple(copies), changes, tuple(decisions))


def filled(made: Iterable[Made], source: Source) -> set[datetime]:
    """Return the slots of a source that have a snapshot without an error."""
    return {
        m.saved.slot
        for m in made
        if m.slot_source == source.id and m.place == source.place and m.saved.state != "error"
    }


def _coming(make: Make) -> Made:
    return Made(Saved("", make.source.id, make.slot, "pending"), make.source.place, make.source.id)


def _decide_by_place(
    made: Sequence[Made], retention: Retention, schedule: Schedule, now: datetime
) -> list[tuple[Made, SnapshotDecision]]:
    """Decide about the snapshots of each place separately. A volume exists in one place only."""
    results = []
    by_place: dict[Place, list[Made]] = defaultdict(list)
    for one in made:
        by_place[one.place].append(one)
    for place in sorted(by_place):
        by_identity = {id(m.saved): m for m in by_place[place]}
        decisions = decide([m.saved for m in by_place[place]], retention, now, schedule.zone)
        results += [(by_identity[id(v.saved)], v) for v in decisions]
    return results


def _copies(
    schedule: Schedule, copy: Copy, originals: Sequence[Made], there: Sequence[Made], survey: Survey, now: datetime
) -> list[MakeCopy]:
    """Return the copies to create: of originals without a copy, if the rules keep that copy."""
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
        decisions = decide([*own, *(m.saved for m in candidates)], copy.retention, now, schedule.zone)
        wanted = {v.saved.id for v in decisions if v.keep}
        found += [MakeCopy(m, copy) for m in candidates if m.id in wanted]
    return sorted(found, key=lambda c: (c.made.saved.slot, c.made.id))


def _hold(
    decisions: Sequence[tuple[Made, SnapshotDecision]], survey: Survey, copies: Sequence[MakeCopy]
) -> list[tuple[Made, SnapshotDecision]]:
    """Keep the source of a copy until the copy is completed."""
    waiting = {(c.made.place.account, c.made.saved.source, c.made.saved.slot): c.copy.region for c in copies}
    for m in survey.made:
        if m.copied and m.saved.state == "pending":
            waiting[m.place.account, m.saved.source, m.saved.slot] = m.place.region
    held = []
    for made, decision in decisions:
        region = waiting.get((made.place.account, made.saved.source, made.saved.slot))
        if not decision.keep and not made.copied and region is not None:
            decision = replace(decision, action="keep", rule=f"its copy in {region} is not completed")
        held.append((made, decision))
    return held


def _changes(schedule: Schedule, decisions: Sequence[tuple[Made, SnapshotDecision]], now: datetime) -> Iterable[Change]:
    kept = [made for made, decision in decisions if decision.keep and made.saved.state == "completed"]
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
    for made, _ in decisions:
        # EC2 bills fast restore by the hour. It must end before a snapshot is deleted or archived.
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
        if archiving:  # this ends the sharing as well
            yield Change("archive", one)
        elif expired and one.shared & set(schedule.share_accounts):
            yield Change("unshare", one, tuple(sorted(one.shared & set(schedule.share_accounts))))
        elif not expired and not one.archived and set(schedule.share_accounts) - one.shared:
            yield Change("share", one, tuple(sorted(set(schedule.share_accounts) - one.shared)))
