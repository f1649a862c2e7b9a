"""What an instance had at a time, over random histories on paper: volumes and snapshots with block lists, whose tags
the product's own functions write."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goldenami.aws.volumes import Volume
from goldenami.snapshots.history import HISTORY, Unknown, attached_tag, line, source_at, tags_after, uses

START = datetime(2026, 1, 1, tzinfo=UTC)
Blocks = tuple[int, ...]


@dataclass
class Device:
    """One device of an instance, as EC2 shows it. ``known``: what the last snapshot of the volume's contents has, as a
    person would write it down: an encryption goes on with it, a restore begins with its snapshot, and a volume that is
    attached again has what it had. ``then``: that, at each time that something changed it."""

    now: datetime = START
    count: int = 0
    blocks: dict[str, Blocks] = field(default_factory=dict)  # contents of volumes
    saved: dict[str, Blocks] = field(default_factory=dict)  # contents of snapshots
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    origins: dict[str, str | None] = field(default_factory=dict)
    known: dict[str, Blocks | None] = field(default_factory=dict)
    kept: list[Volume] = field(default_factory=list)
    then: list[tuple[datetime, Blocks | None]] = field(default_factory=list)
    gaps: list[tuple[datetime, datetime]] = field(default_factory=list)
    had: list[tuple[datetime, Blocks]] = field(default_factory=list)
    attached: Volume = field(init=False)

    def __post_init__(self) -> None:
        self.attached = self._volume(None)
        self.blocks[self.attached.id] = (0,)
        self.known[self.attached.id] = None
        self._note()

    def _volume(self, source: str | None) -> Volume:
        self.count += 1
        id = f"vol-{self.count:017x}"
        self.origins[id] = source
        place = ("i-1", "/dev/xvda", "attached", self.now, False)
        return Volume(id, "in-use", "z", 8, "gp3", None, None, False, None, source, *place, {})

    def _note(self) -> None:
        self.then.append((self.now, self.known[self.attached.id]))
        self.had.append((self.now, self.blocks[self.attached.id]))

    def tick(self, seconds: float = 60) -> None:
        self.now += timedelta(seconds=seconds)

    # --- what happens -------------------------------------------------------------------------------------------------

    def write(self) -> None:
        self.count += 1
        self.blocks[self.attached.id] = (*self.blocks[self.attached.id], self.count)
        self.had.append((self.now, self.blocks[self.attached.id]))

    def snapshot(self, volume: Volume | None = None) -> str:
        one = volume or self.attached
        self.count += 1
        id = f"snap-{self.count:017x}"
        self.snapshots.append({"SnapshotId": id, "VolumeId": one.id, "StartTime": self.now})
        self.saved[id] = self.blocks[one.id]
        if volume is None:
            self.known[one.id] = self.saved[id]
            self._note()
        return id

    def schedule(self) -> None:
        """A schedule also has the kept volumes, if an earlier version or another program took care of it."""
        for volume in self.kept:
            self.snapshot(volume)
        self.snapshot()

    def _exchange(self, new: Volume, how: Any) -> None:
        old, noted = self.attached, self.now
        marks = tags_after(old, noted, how)
        self.tick()  # stop, detach, attach, start
        self.gaps.append((noted, self.now))
        attached = replace(new, attached=self.now)
        self.attached = replace(
            attached, tags={**(new.tags if how == "reattached" else {}), **marks, **attached_tag(attached)}
        )
        self.kept.append(old)
        self._note()

    def encrypt(self) -> None:
        new = self._volume("snap-temporary")
        self.blocks[new.id], self.known[new.id] = self.blocks[self.attached.id], self.known[self.attached.id]
        self._exchange(new, "copied")

    def restore(self, snapshot: str) -> None:
        new = self._volume(snapshot)
        self.blocks[new.id] = self.known[new.id] = self.saved[snapshot]
        self._exchange(new, "restored")

    def undo(self) -> None:
        if self.kept:
            self._exchange(self.kept.pop(), "reattached")

    def delete(self, number: int) -> None:
        """The snapshot, as retention does. What is known of the contents is less then."""
        gone = self.snapshots.pop(number % len(self.snapshots))
        self.saved.pop(gone["SnapshotId"])

    # --- asked --------------------------------------------------------------------------------------------------------

    def at(self, moment: datetime) -> Blocks | Unknown:
        found = source_at(self.attached, moment, self.snapshots, self.origins)
        return found if isinstance(found, Unknown) else self.saved[found["SnapshotId"]]

    def expected(self, moment: datetime) -> Blocks | None:
        if any(start < moment < end for start, end in self.gaps):
            return None
        return next((known for time, known in reversed(self.then) if time <= moment), None)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["write", "schedule", "snapshot", "encrypt", "restore", "undo"]), st.integers(0, 5)),
    max_size=24,
)


def lived(events: list[tuple[str, int]]) -> Device:
    device = Device()
    for name, number in events:
        device.tick()
        match name:
            case "restore" if device.saved:
                device.restore(sorted(device.saved)[number % len(device.saved)])
            case "restore":
                device.write()
            case _:
                getattr(device, name)()
    device.tick()
    return device


@settings(max_examples=150, deadline=None, derandomize=True)
@given(EVENTS, st.floats(0, 1))
def test_a_time_gives_what_the_instance_had_then_or_is_refused(events: list[tuple[str, int]], where: float) -> None:
    device = lived(events)
    moments = [START + (device.now - START) * where, *(time for time, _ in device.then)]
    oldest = uses(device.attached)[-1].since
    for moment in moments:
        found, expected = device.at(moment), device.expected(moment)
        if moment < oldest:  # more exchanges than the tags have room for
            assert isinstance(found, Unknown)
        elif expected is None:
            assert isinstance(found, Unknown), (moment, found)
        else:
            assert found == expected or (isinstance(found, Unknown) and not _must_know(device, moment)), (moment, found)
    # At the moment of a snapshot: exactly what the instance had.
    for snapshot in device.snapshots:
        if (blocks := device.at(snapshot["StartTime"])) == device.saved[snapshot["SnapshotId"]]:
            assert blocks in [had for time, had in device.had if time <= snapshot["StartTime"]]


def _must_know(device: Device, moment: datetime) -> bool:
    """The search ends where the recorded uses end; with few exchanges it finds whatever there is."""
    return len(uses(device.attached)) == len(device.gaps) + 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(EVENTS, st.lists(st.integers(0, 30), min_size=1, max_size=8), st.floats(0, 1))
def test_with_deleted_snapshots_an_older_one_or_none_never_another(
    events: list[tuple[str, int]], gone: list[int], where: float
) -> None:
    device = lived(events)
    moment = START + (device.now - START) * where
    for number in gone:
        if device.snapshots:
            device.delete(number)
    found = device.at(moment)
    assert isinstance(found, Unknown) or found in [had for time, had in device.had if time <= moment]


def test_the_history_fits_into_tags() -> None:
    device = lived([("encrypt", 0)] * 40)
    assert all(len(device.attached.tags[name]) <= 256 for name in HISTORY)
    assert len(uses(device.attached)) == 13
    assert len(line(device.attached)) == 11
    assert isinstance(device.at(START + timedelta(seconds=90)), Unknown)


def test_a_volume_that_somebody_attached_again_has_no_history() -> None:
    device = lived([("snapshot", 0), ("encrypt", 0), ("write", 0)])
    before = device.at(device.now)
    assert before == (0,)
    device.attached = replace(device.attached, attached=device.now)
    device.tick()
    assert isinstance(device.at(device.now), Unknown)
    device.snapshot()
    assert device.at(device.now) == device.blocks[device.attached.id]


def test_a_volume_that_is_new_was_not_there() -> None:
    device = Device(now=START + timedelta(days=1))
    found = device.at(START)
    assert isinstance(found, Unknown)
    assert found.absent
    assert "attached since 2026-01-02 00:00:00 UTC" in found.reason


def test_a_changed_tag_ends_the_history() -> None:
    device = lived([("snapshot", 0), ("encrypt", 0), ("encrypt", 0)])
    tag = HISTORY[0]
    device.attached = replace(device.attached, tags={**device.attached.tags, tag: "x " + device.attached.tags[tag]})
    assert isinstance(device.at(device.now), Unknown)


@pytest.mark.parametrize("events", [["write", "snapshot", "restore", "undo", "write", "schedule"]])
def test_the_kept_volume_is_no_source(events: list[str]) -> None:
    """The night's run also takes a snapshot of the kept volume, after that of the attached one."""
    device = lived([(name, 0) for name in events])
    kept = device.snapshot(device.kept[-1])
    assert device.at(device.now) == device.blocks[device.attached.id]
    assert device.saved[kept] != device.blocks[device.attached.id]
