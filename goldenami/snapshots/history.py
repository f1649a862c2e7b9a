"""The volumes that were in use at a device of an instance, and when.

EC2 tells since when a volume is attached, and nothing about the volumes before it. So a volume that replaces another
one has tags with the uses before its own. Each has the times between which EC2 showed the volume as attached, and how
the next volume got its contents. ``sources`` computes from this, and from the snapshots, what an instance had at a
time. It does not guess: between two uses, and before the first one that is recorded, it has no answer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

from goldenami.aws import tags
from goldenami.aws.volumes import Volume
from goldenami.aws.waiters import Item
from goldenami.model import timestamp, utc_text

ATTACHED: Final = tags.PREFIX + "attached"  # on a volume that replaced another one: when the exchange attached it
HISTORY: Final = tuple(tags.PREFIX + name for name in ("history", "history-2", "history-3"))

# How the next volume got its contents: from the volume itself, unchanged; from a snapshot; or it is a kept volume that
# was attached again.
How = Literal["copied", "restored", "reattached"]

_MOST_IDS: Final = 10  # ids that fit into the 256 characters of a tag value
_A_TAG: Final = 4  # uses that fit into a tag value
_LETTERS: Final[Mapping[str, How]] = {"c": "copied", "r": "restored", "a": "reattached"}
_USE: Final = re.compile(r"(vol-[0-9a-f]+)=([0-9]{8}T[0-9]{6}Z)/([0-9]{8}T[0-9]{6}Z)=([cra])")
_TIME: Final = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Use:
    """A time during which a volume was attached. ``until``: None if it still is; EC2 showed it as attached then.
    ``then``: how the next volume got its contents."""

    volume: str
    since: datetime
    until: datetime | None = None
    then: How | None = None

    def __str__(self) -> str:
        assert self.until is not None
        letter = next(letter for letter, how in _LETTERS.items() if how == self.then)
        return f"{self.volume}={self.since.astimezone(UTC):{_TIME}}/{self.until.astimezone(UTC):{_TIME}}={letter}"


def line(volume: Volume) -> tuple[str, ...]:
    """Return the ids of a volume and its predecessors, the latest first, each once."""
    return tuple(dict.fromkeys([volume.id, *volume.tags.get(tags.REPLACES, "").split()]))


def uses(volume: Volume) -> list[Use]:
    """Return the use of an attached volume, and the recorded uses before it, the latest first.

    If another program attached the volume after its exchange, nothing is known about the time before.
    """
    if volume.attached is None:
        return []
    known = volume.tags.get(ATTACHED) == timestamp(volume.attached)
    return [Use(volume.id, volume.attached), *(_recorded(volume) if known else ())]


def _recorded(volume: Volume) -> Iterator[Use]:
    for word in " ".join(volume.tags.get(name, "") for name in HISTORY).split():
        found = _USE.fullmatch(word)
        if found is None:
            return  # Somebody changed the tag. What follows cannot be placed in time.
        since, until = (datetime.strptime(text, _TIME).replace(tzinfo=UTC) for text in found.group(2, 3))
        yield Use(found[1], since, until, _LETTERS[found[4]])


def tags_after(old: Volume, until: datetime, how: How) -> dict[str, str]:
    """Return the tags for the volume that replaces an attached one. ``until``: a time at which EC2 showed ``old`` as
    attached. Only the latest uses fit into the tags."""
    found = {tags.REPLACES: " ".join(line(old)[:_MOST_IDS])}
    current, *earlier = uses(old) or (None,)
    if current is not None:
        every = [str(u) for u in (replace(current, until=until, then=how), *earlier)]
        for number, name in enumerate(HISTORY):
            if chosen := every[number * _A_TAG : (number + 1) * _A_TAG]:
                found[name] = " ".join(chosen)
    return found


def attached_tag(volume: Volume) -> dict[str, str]:
    """Return the tag of a volume that an exchange attached."""
    return {ATTACHED: timestamp(volume.attached)} if volume.attached is not None else {}


# --- what an instance had at a time -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why there is no snapshot of what an instance had at a time. ``absent``: it had no such volume then."""

    reason: str
    absent: bool = False


def source_at(
    volume: Volume, moment: datetime, snapshots: Collection[Item], origins: Mapping[str, str | None]
) -> Item | Unknown:
    """Return the last snapshot, at a time, of what an instance had at the device of a volume.

    ``snapshots``: the completed snapshots of the volume and its predecessors, and those that they were created from.
    ``origins``: by id, the snapshot that a volume was created from.
    """
    history = uses(volume)
    number = next((n for n, use in enumerate(history) if use.since <= moment), None)
    if number is None:
        return _before(volume, history)
    use = history[number]
    if use.until is not None and moment > use.until:
        after = history[number - 1]
        return Unknown(
            f"the volume was exchanged between {utc_text(use.until)} and {utc_text(after.since)} ({use.volume}, "
            f"{after.volume})"
        )
    by_id = {str(s["SnapshotId"]): s for s in snapshots}
    return _Search(history, sorted(by_id.values(), key=lambda s: s["StartTime"]), by_id, origins).at(number, moment)


def _before(volume: Volume, history: Sequence[Use]) -> Unknown:
    if len(line(volume)) == 1 and len(history) == 1:
        since = history[0].since
        return Unknown(f"{volume.id} is attached since {utc_text(since)}, so the instance had no such volume", True)
    oldest = utc_text(history[-1].since) if history else "its attachment"
    return Unknown(f"it is not recorded which volume was attached before {oldest}")


@dataclass(frozen=True, slots=True)
class _Search:
    history: Sequence[Use]
    snapshots: Sequence[Item]  # the oldest first
    by_id: Mapping[str, Item]
    origins: Mapping[str, str | None]

    def at(self, number: int, moment: datetime) -> Item | Unknown:
        """Return the last snapshot of a use at or before a time, or of what the use began with."""
        use = self.history[number]
        own = self._of(use.volume, use.since, moment)
        return own if own is not None else self._start(number)

    def _of(self, volume: str, since: datetime, until: datetime) -> Item | None:
        own = [s for s in self.snapshots if s["VolumeId"] == volume and since <= s["StartTime"] <= until]
        return own[-1] if own else None

    def _start(self, number: int) -> Item | Unknown:
        """Return a snapshot of the contents with which a use began."""
        use = self.history[number]
        nothing = Unknown(f"there is no snapshot of {use.volume} from that time, or from its start at {_text(use)}")
        if number + 1 == len(self.history):
            return nothing
        before = self.history[number + 1]
        if before.then == "copied" and before.until is not None:
            return self.at(number + 1, before.until)
        if before.then == "restored":
            return self.by_id.get(self.origins.get(use.volume) or "", nothing)
        # A kept volume was attached again: with what it had at the end of its last use.
        earlier = (n for n in range(number + 1, len(self.history)) if self.history[n].volume == use.volume)
        last = next(earlier, None)
        if last is None or (until := self.history[last].until) is None:
            return nothing
        return self.at(last, until)


def _text(use: Use) -> str:
    return utc_text(use.since)
