"""Waits for many resources with one describe call, until each is ready or has failed.

boto3's waiters are not used: for images and snapshots they stop after ten minutes, but a large encrypted copy takes
hours; the image waiter continues when the image has the state "error"; and each waiter watches one id.

The interval is short at first, since small resources are ready in a second, and then grows. Where EC2 tells a progress,
the next look is when the resource is probably ready, and the first one depends on how long the last wait of this kind
took (``Ahead``). So a wait takes few calls and ends soon after the resource is ready. A new id may be unknown for
some seconds (EC2 is eventually consistent). So ids are passed as a filter: the describe call then leaves out resources
that are not visible yet, and does not fail.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from goldenami import polling
from goldenami.aws.limits import FILTER_VALUES
from goldenami.aws.reservations import flatten
from goldenami.aws.session import Cloud
from goldenami.each import parts
from goldenami.errors import CloudError
from goldenami.model import Place

Item = Mapping[str, Any]
Readiness = Literal["pending", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class Interval(polling.Interval):
    """Seconds between describes. ``visible``: how long an id may be missing without a break before it counts as failed,
    or as deleted. A resource that is new may be missing for longer (see ``recent``)."""

    jitter: float = 0.1
    visible: float = 60.0


STANDARD: Final = Interval()


@dataclass(frozen=True, slots=True)
class Watched:
    """A kind of resource to wait for, and the meaning of its states. ``classify``: returns the readiness, and the
    reason of a failure. ``kind``: the name of the waits that take about as long as each other; while nothing is
    known of "image/copy", what is known of "image" counts. ``missing_is``: the readiness of an id that stays missing.
    """

    operation: str
    result: str
    id_filter: str
    id_field: str
    classify: Callable[[Item], tuple[Readiness, str]]
    flatten: Callable[[Iterable[Item]], Iterable[Item]] = lambda items: items
    missing_is: Readiness = "failed"
    request: Mapping[str, Any] = field(default_factory=dict)
    kind: str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Observation:
    """The last observation of one id. ``item``: its entry in the describe's answer; empty if it was never visible.
    ``readiness``: "pending" in a final result means that the timeout came first."""

    id: str
    readiness: Readiness
    state: str
    percent: float | None = None
    reason: str = ""
    item: Item = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        return self.readiness == "ready"


OnProgress = Callable[[Observation], None]
_LEAST_PERCENT: Final = 3.0  # below this, a progress says little about the time that is left
_PART: Final = 0.55  # of the time that is left, until a look at the progress alone finds out more about it
_DOUBT: Final = 0.02  # of the whole wait: a forecast that may be wrong by more is not good enough
_SHORTEST: Final = 0.1  # seconds between two looks when the end is near
_ONE_PERCENT: Final = 0.01  # of the whole wait: a progress is rounded by so much
_LATER: Final = 1.005  # looks are so much later than expected: the estimate may be a little short
_SPREAD: Final = (0.985, 1.002)  # of the seconds of the last wait, which may have ended a little late
_LONGEST_SHARE: Final = 4.0  # of the wait so far: a progress may be uneven
_NEVER_LONGER: Final = 600.0  # seconds between two looks, however long the estimate is
# First pauses of waits behind others, which learn something for them meanwhile: of one that compares, and of the rest.
_AFTER_THE_FIRST: Final = (1.0, 1.25, 1.5)
_AT_FIRST: Final = 5.0  # seconds; until then, waits double with each look while a progress is told that does not move
_PATIENT: Final = 0.3  # of the wait so far: pauses after that
_LITTLE: Final = 0.005  # of the wait so far: a look that is so much too early is not put off
_AT_LEAST: Final = 0.9  # of the seconds until a resource was seen to be ready, it was probably pending
_LONGEST_GUESS: Final = 60.0  # seconds of a pause that only the last wait of this kind gives
_Span = tuple[float, float]  # the fewest and the most seconds that a wait takes in all


class Ahead:
    """Finds out when the next look at waiting resources is worth its call.

    A progress gives the time that is left, if it has moved since the last look. When it began to move is not known: an
    instance may be shut down first. So the first progress only says when to look again: after a little more than half
    of the time that it gives. It says more if it is where it must be for a wait as long as the last one of this kind,
    or as another wait that began at the same time (``compare``): then this one takes as long. Otherwise the speed
    between two looks says when the resource is ready.

    Before the first progress, the duration of the last wait of this kind counts: half of it, if there is a progress to
    learn from then, and nine tenths of it otherwise, or if none is told then. A progress, and the forecast of another
    wait, lead to no pause longer than four times the wait so far, and the last wait to none longer than a minute: this
    one may be of a smaller resource. When the end is near, pauses are short, and grow again if the resource is late.
    While a resource is missing, the usual intervals count: whether it stays missing is known only after several looks.
    """

    def __init__(self, expected: float | None, *, has_progress: bool, of_others: bool = False) -> None:
        """``expected``: the seconds of the last wait. ``of_others``: it was of another kind."""
        self._expected = expected or 0.0 if not of_others else 0.0
        self._likely: _Span | None = None  # how long it probably takes
        if self._expected:
            self._likely = (_SPREAD[0] * self._expected, _SPREAD[1] * self._expected)
        self._until = self._step = 0.0  # until when the last wait counts, and the pauses after it
        self._without: float | None = None  # the last wait, if no progress is told after half of it
        if expected is not None and has_progress:
            self._until, self._without = 0.5 * expected, expected
        elif expected is not None:
            self._expect_no_progress(expected)
        self._usual = STANDARD.first
        self._at = 0.0  # seconds of the wait at the last look
        self._percent: float | None = None
        self._moved = False
        self._missing = False
        self._begin = (0.0, 0.0)  # seconds and percent before it moved: it may have begun long before the wait
        self._stood_still = False
        self._moving: tuple[float, float] | None = None  # the same of the first look that saw it move
        self._forecast = (0.0, 0.0)  # of another wait; it counts until then
        self._was_exact = False  # the last progress gave the end of the wait

    def _expect_no_progress(self, expected: float) -> None:
        self._until = min(0.9 * expected, _LONGEST_GUESS)
        self._step = min(0.05 * expected, STANDARD.longest)

    def seen(self, elapsed: float, percents: Iterable[float], *, missing: bool = False) -> None:
        """Take the progress of the resources that are not ready. ``missing``: one of them is not visible."""
        self._at, self._missing = elapsed, missing
        percent = max(percents, default=None)
        self._moved = percent is not None and percent != self._percent
        is_first = self._percent is None and elapsed < self._usual
        last, self._percent = self._percent, percent
        if percent is not None and last is not None and percent < last:  # the foremost may be ready, or failed
            self._moving = None
        if percent is None or self._moving is not None:
            return
        if is_first or percent <= self._begin[1]:
            self._stood_still = not is_first
            self._begin = (elapsed, percent)
        elif percent - self._begin[1] >= _LEAST_PERCENT:
            self._moving = (elapsed, percent)
            since, before = self._begin
            if before == 0.0 and percent * since < elapsed:  # it only seemed to stand still: its percent was rounded
                self._begin, self._stood_still = (0.0, 0.0), False

    def expect(self, seconds: float, fewest: float = 0.0) -> None:
        """Take a forecast: the resource is probably ready after so many seconds of the wait. It counts while the own
        progress says nothing."""
        self._forecast = (fewest, seconds * _LATER)
        if self._is_due:
            return
        self._step = min(0.05 * seconds, STANDARD.longest)

    def compare(self, seconds: float, fewest: float) -> None:
        """Take how long a similar wait takes. It counts if the own progress agrees, and this kind has no duration."""
        if not self._expected:
            self._likely = (fewest, seconds)

    def ends(self) -> _Span | None:
        """Return how many seconds the wait takes in all, by the progress at the last look; None: it tells nothing."""
        percent = self._percent
        if percent is None or not self._knows:
            return None
        found = _straight(self._begin, self._at, percent)
        if self._stood_still:  # it may have begun to move just now, and be much faster
            found = (self._at, found[1])
        if self._speed_is_known and self._moving is not None:
            lately = _straight(self._moving, self._at, percent)
            return _common(found, lately) or lately
        return self._agrees(found) or found

    @property
    def _knows(self) -> bool:
        """Whether the progress gives the time that is left."""
        percent, has_moved = self._percent, self._moved and self._moving is not None
        return has_moved and percent is not None and self._begin[1] + _LEAST_PERCENT <= percent < 100.0

    @property
    def _speed_is_known(self) -> bool:
        """Whether two looks saw the progress move."""
        moving, percent = self._moving, self._percent
        return self._knows and moving is not None and percent is not None and percent - moving[1] >= _LEAST_PERCENT

    def _agrees(self, found: _Span) -> _Span | None:
        """Return what the progress and the likely duration say together; None if they do not agree."""
        return _common(found, self._likely) if self._likely is not None and not self._stood_still else None

    @property
    def _is_due(self) -> bool:
        """Whether the resource should be ready by its own progress, which was not read since. No forecast says more."""
        return self._was_exact and self._percent is None

    def is_sure(self, elapsed: float) -> bool:
        """Return whether the next look is when the resources are probably ready."""
        return 0.0 < self.left(elapsed) <= _most(elapsed)

    def left(self, elapsed: float) -> float:
        """Return how many seconds are left, as far as that is known; not positive: it is not, or was too few."""
        exactly = self._exactly(elapsed)
        return exactly if exactly is not None else self._foreseen(elapsed)

    def _foreseen(self, elapsed: float) -> float:
        """Return how many seconds are left by the forecast of another wait; not positive: nobody knows, or the own
        progress does not agree."""
        found = self.ends()
        if self._is_due:
            return 0.0
        if found is None or self._stood_still:
            return self._forecast[1] - elapsed
        both = _common(found, self._forecast)
        return both[1] - elapsed if both is not None else 0.0

    def _exactly(self, elapsed: float) -> float | None:
        """Return how many seconds are left by the progress, a little too many rather than too few; None if that is in
        doubt, or was too few."""
        found = self.ends()
        if found is None or not (self._speed_is_known or self._agrees(found)):
            return None
        fewest, most = found
        return most - elapsed if most - fewest <= _DOUBT * most and most >= elapsed else None

    def pause(self, elapsed: float) -> float | None:
        """Return the seconds until the next look; None if nothing is known."""
        usual = self._usual
        self._usual = min(usual * STANDARD.factor, STANDARD.longest)
        if self._missing:
            return None
        exactly = self._exactly(elapsed)
        self._was_exact = exactly is not None or self._is_due
        if exactly is not None:
            self._step = min(_ONE_PERCENT * (elapsed + exactly), STANDARD.longest)
            self._without = None
            return max(min(exactly, _most(elapsed)), _SHORTEST)
        foreseen, found = self._foreseen(elapsed), self.ends()
        if foreseen > 0.0:
            return max(min(foreseen, _most(elapsed)), usual)
        if found is not None:
            part = _PART * (found[1] - elapsed)
            if not self._speed_is_known:
                part = min(part, 0.75 * (self._expected - elapsed)) if self._expected > elapsed else part
                part = min(part, elapsed - self._begin[0]) if self._stood_still else part
            return max(min(part, _most(elapsed)), usual)
        if self._without is not None and self._until <= elapsed and self._percent is None:
            expected, self._without = self._without, None
            self._expect_no_progress(expected)
        if self._until > elapsed and not self._is_due:
            return max(min(self._until - elapsed, _LONGEST_GUESS), usual)
        if self._step:
            step, self._step = self._step, min(self._step * STANDARD.factor, STANDARD.longest)
            return max(step, _SHORTEST)
        if self._percent is not None and self._moving is None:
            return max(min(elapsed if elapsed < _AT_FIRST else _PATIENT * elapsed, STANDARD.longest), usual)
        return None


def _most(elapsed: float) -> float:
    """Return the longest pause after so many seconds of a wait."""
    return min(elapsed * _LONGEST_SHARE, _NEVER_LONGER)


def _straight(begin: tuple[float, float], at: float, percent: float) -> _Span:
    """Return how long a wait takes that gains percents evenly since ``begin``: seconds and percent. Percents are whole
    numbers, which are rounded down: each may be almost one more. Nothing is added to the begin of a wait."""
    since, before = begin
    span, gained = at - since, percent - before
    fewest = at + span * max(99.0 - percent, 0.0) / (gained + 1.0)
    return fewest, at + span * (100.0 - percent) / (gained - (1.0 if before > 0 else 0.0))


def _common(one: _Span, other: _Span) -> _Span | None:
    fewest, most = max(one[0], other[0]), min(one[1], other[1])
    return (fewest, most) if fewest <= most else None


_PROGRESS_ONLY: Final = 8
LONGEST: Final = 48 * 3600.0  # seconds; copies of the largest volumes take many hours
Percentages = Callable[[Collection[str], Sequence[Item]], Mapping[str, float]]


@dataclass(slots=True, eq=False)
class Forecast:
    """What the first of several waits has learnt for the others, whose resources were created with its own and take
    about as long. ``begun``: whether there is a first one. ``span``: how many seconds its wait takes in all, by its
    last look; both numbers change at once, because other threads read them. ``like``: of similar waits elsewhere, which
    may take as long: if the first wait sees that its own does, it need not find that out."""

    begun: bool = False
    span: _Span | None = None
    like: Forecast | None = None

    def enter(self) -> tuple[list[Forecast], int]:
        """Begin one more wait. Return the forecasts that it makes for others, and how many others make for it."""
        led: list[Forecast] = []
        every = [self] if self.like is None else [self, self.like]
        with _JOINING:
            for one in every:
                if one.begun:
                    break
                one.begun = True
                led.append(one)
        return led, len(every) - len(led)


_JOINING: Final = threading.Lock()


class Watch:
    """A wait for resources: :meth:`until_ready` passes the pauses, or the caller does between two :meth:`look`.

    ``seen``: the last observation of each id, in the order of ``ids``. ``pause``: the seconds until the next look.

    ``on_progress``: called when the state or the percentage of an id changes. ``percent``: returns the percentages of
    pending resources, by id; it gets their ids, and their descriptions if they were read. ``timeout``: seconds; None
    is ``LONGEST``. ``is_new``: the resources were created just now, so that the first look is after a pause.
    ``forecast``: of the waits for similar resources that began together. While the progress of one says nothing, it
    looks when the first one's says that theirs are ready. Each reads its own once before: a resource that fails soon is
    seen.
    """

    def __init__(
        self,
        cloud: Cloud,
        place: Place,
        what: Watched,
        ids: Collection[str],
        *,
        on_progress: OnProgress | None = None,
        percent: Percentages | None = None,
        timeout: float | None = None,
        interval: Interval = STANDARD,
        is_new: bool = False,
        forecast: Forecast | None = None,
    ) -> None:
        self.seen: dict[str, Observation] = {id: Observation(id, "pending", "pending") for id in ids}
        self._cloud = cloud
        self._place = place
        self._what = what
        self._on_progress = on_progress
        self._percent = percent
        self._tells = percent is not None
        self._limit = LONGEST if timeout is None else timeout
        self._visible = interval.visible
        self._new = {id: max(interval.visible, cloud.recent.seconds_left(place, id)) for id in ids}
        self._missing: dict[str, float] = {}  # since when, in seconds of the wait
        expected = cloud.durations.get(what.kind, cloud.durations.get(what.kind.partition("/")[0]))
        of_others = what.kind not in cloud.durations
        self._ahead = Ahead(expected, has_progress=percent is not None, of_others=of_others)
        self._is_new = is_new
        self._pauses = polling.pauses(interval, cloud.jitter)
        self._began = cloud.clock()
        self._looked = 0.0  # seconds of the wait at the last look that found something pending
        self._progress_only = _PROGRESS_ONLY if is_new else 0  # looks that may read the progress alone
        self.pause = 0.0
        self._forecast = forecast if is_new else None
        self._led: list[Forecast] = []
        self._learnt: _Span | None = None  # of the other wait
        self._may_learn = False  # from that one, before it looks again
        self._sure = False  # the next look is when the resources are probably ready
        if is_new and ids:
            self._set_pause(0.0)
            if forecast is not None:
                self._led, behind = forecast.enter()
                if behind:
                    self.pause = _AFTER_THE_FIRST[behind if self._led else -1] * max(self.pause, STANDARD.first)

    def until_ready(
        self, check: Callable[[], None] | None = None, *, sleep: polling.Sleep | None = None
    ) -> dict[str, Observation]:
        """Wait until every id is ready or has failed, or the time is over. Return ``seen``.

        Failures are returned, not raised. ``check``: called before each look; an exception that it raises ends the
        wait. ``sleep``: passes the pauses in place of the cloud's; it may return earlier, for a look that is worth its
        call now. Raises the errors of the describe calls, after their retries.
        """
        clock, sleep = self._cloud.clock, sleep or self._cloud.sleep
        if self.pause:
            sleep(self.pause)
        for _ in polling.poll(clock, sleep, timeout=LONGEST, check=check, ahead=lambda _: self.pause):
            if self.look():
                break
        return self.seen

    def look(self) -> bool:
        """Describe what is not ready yet. Return whether the wait has ended: everything is ready or has failed, or the
        time is over. Raises the errors of the describe calls, after their retries."""
        cloud, what = self._cloud, self._what
        open_ids = [id for id, seen in self.seen.items() if seen.readiness == "pending"]
        if not open_ids:
            return True
        elapsed = cloud.clock() - self._began
        if self._others_know(elapsed):
            return self._set_pause(elapsed)
        self._may_learn = True
        if self._only_progresses(open_ids, elapsed):
            return self._set_pause(elapsed)
        found = describe(cloud, self._place, what, open_ids)
        waiting = [found[id] for id in open_ids if id in found and what.classify(found[id])[0] == "pending"]
        percentages: Mapping[str, float] = {}
        # A look that was to be the last one was only a little too early: its progress would say what is known.
        if self._percent is not None and waiting and elapsed > 0 and not self._sure:
            percentages = self._percent([str(item[what.id_field]) for item in waiting], waiting)
        if percentages and len(percentages) == len(waiting) and all(value >= 100.0 for value in percentages.values()):
            self._percent = None  # it will tell nothing more
        self._missing = {id: self._missing.get(id, elapsed) for id in open_ids if id not in found}
        told = self._ahead.ends()
        self._learn(elapsed, percentages.values(), missing=bool(self._missing))
        for id in open_ids:
            was_visible = bool(self.seen[id].item)
            patience = self._visible if was_visible else self._new[id]
            late = id in self._missing and elapsed - self._missing[id] >= patience
            if id in self._missing and was_visible and not late:
                continue  # the next describe may show it again
            percent = percentages.get(id, self.seen[id].percent)
            self._note(_seen(what, id, found.get(id), percent, late))
        if all(seen.readiness != "pending" for seen in self.seen.values()):
            # One that is not new may have been under way for long, or ready. What tells no progress is waited for as
            # soon as it begins.
            is_whole = self._is_new or (self._looked > 0 and not self._tells)
            if elapsed > 0 and is_whole and all(seen.ok for seen in self.seen.values()):
                cloud.durations[what.kind] = self._took(elapsed, told)
            return True
        self._looked = elapsed
        return self._set_pause(elapsed)

    def _took(self, elapsed: float, told: _Span | None) -> float:
        """Return how long a wait took that has ended. ``told``: by its last progress."""
        between = _common((self._looked, elapsed), told) if told is not None else None
        if between is not None:
            return between[1]  # too long rather than too short: else the next wait would look a little too early
        # It was ready between the last two looks; a look that a progress suggested is not much too late.
        return max((self._looked + elapsed) / 2, elapsed if self._sure else _AT_LEAST * elapsed)

    def take_for_ready(self, id: str) -> None:
        """Take a resource for ready that was described: something proved it that EC2 tells later. The wait looks at it
        no more, and has learnt how long that takes."""
        elapsed = self._cloud.clock() - self._began
        self._note(replace(self.seen[id], readiness="ready", percent=100.0))
        if self._is_new and elapsed > 0 and all(seen.ok for seen in self.seen.values()):
            self._cloud.durations[self._what.kind] = elapsed

    def _only_progresses(self, ids: Sequence[str], elapsed: float) -> bool:
        """Read the progress alone, until it tells when the resources are worth a look. Return whether all of them are
        in progress: one that failed is not. This takes the place of a few describes at most."""
        if not self._progress_only or self._percent is None:
            return False
        percentages = self._percent(ids, ())
        if not all(percentages.get(id, 100.0) < 100.0 for id in ids):
            self._progress_only = 0
            return False
        self._learn(elapsed, percentages.values())
        self._looked = elapsed
        self._progress_only = 0 if self._ahead.is_sure(elapsed) else self._progress_only - 1
        for id in ids:
            self._note(replace(self.seen[id], percent=percentages[id]))
        return True

    def _learn(self, elapsed: float, percents: Iterable[float], *, missing: bool = False) -> None:
        """Take the progress of the resources that are not ready. The first wait learns for the others too."""
        self._ahead.seen(elapsed, percents, missing=missing)
        found = self._ahead.ends()
        if found is not None:
            for forecast in self._led:
                forecast.span = found
        self._learn_from_others(elapsed)

    def _learn_from_others(self, elapsed: float) -> bool:
        """Return whether another wait has learnt something since the last time."""
        own, last = self._forecast, self._learnt
        other = own if own is None or own not in self._led else own.like
        span = other.span if other is not None and other not in self._led else None
        if span is None or span[1] <= elapsed:
            return False
        self._learnt = span
        fewest, seconds = span
        if other is own:
            self._ahead.expect(seconds, fewest)
        else:
            self._ahead.compare(seconds, fewest)
        return self._learnt != last

    def _others_know(self, elapsed: float) -> bool:
        """Return whether another wait has learnt since the last look that this look would be too early. This happens at
        most once between two looks: the other resource may never be ready."""
        may_learn, self._may_learn = self._may_learn, False
        if not may_learn or not self._learn_from_others(elapsed):
            return False
        if not self._ahead.is_sure(elapsed) or self._ahead.left(elapsed) <= _LITTLE * elapsed:
            return False
        self._progress_only = 0
        return True

    def _note(self, seen: Observation) -> None:
        last = self.seen[seen.id]
        if self._on_progress is not None and (seen.state, seen.percent) != (last.state, last.percent):
            self._on_progress(seen)
        self.seen[seen.id] = seen

    def _set_pause(self, elapsed: float) -> bool:
        """Set the pause before the next look. Return whether there is no time for it."""
        left = self._limit - elapsed
        self._sure = self._ahead.is_sure(elapsed)
        known = self._ahead.pause(elapsed)
        self.pause = next(self._pauses) if known is None else min(known, left)
        return left < polling.RESOLUTION or self.pause > left


def describe(cloud: Cloud, place: Place, what: Watched, ids: Collection[str]) -> dict[str, Item]:
    """Return the resources of these ids that are visible, by id. One call for up to 200 ids."""
    every = sorted(ids)
    found: dict[str, Item] = {}
    for part in parts(every, FILTER_VALUES):
        request = {**what.request, "Filters": [{"Name": what.id_filter, "Values": part}]}
        for item in what.flatten(cloud.pages(place, "ec2", what.operation, what.result, request)):
            found[str(item[what.id_field])] = item
    return found


def failure(seen: Observation, what: str, place: Place) -> CloudError:
    """Return the error for an id that failed or was not ready in time."""
    if seen.readiness == "pending":
        message = f"{what} {seen.id} in {place} is still {seen.state}: the time allowed for it is over"
    else:
        message = f"{what} {seen.id} in {place} failed: {seen.reason or seen.state}"
    return CloudError(message, code=f"goldenami.{seen.readiness}", account=place.account, region=place.region)


def _seen(what: Watched, id: str, item: Item | None, percent: float | None, late: bool) -> Observation:
    if item is None:
        if not late:
            return Observation(id, "pending", "pending")
        return Observation(id, what.missing_is, "missing", reason="it does not exist")
    readiness, reason = what.classify(item)
    if percent is None:
        percent = progress_percent(item.get("Progress"))
    return Observation(id, readiness, state_of(item), 100.0 if readiness == "ready" else percent, reason, item)


def state_of(item: Item) -> str:
    """Return the name of the state. The field is a string for images, snapshots and volumes, and a structure for
    instances."""
    state = item.get("State", "")
    return str(state["Name"] if isinstance(state, Mapping) else state)


def progress_percent(text: str | None) -> float | None:
    """Convert EC2's "42%" into 42.0; None for other text."""
    try:
        return float((text or "").rstrip("%"))
    except ValueError:
        return None


# --- the meaning of the states (EC2 API reference: Image, Snapshot, InstanceState, Volume) ----------------------------


def _classify_image(item: Item) -> tuple[Readiness, str]:
    state = state_of(item)
    reason = str((item.get("StateReason") or {}).get("Message") or "")
    if state == "available":
        return "ready", ""
    if state in ("failed", "error", "invalid", "deregistered", "disabled"):
        return "failed", reason or f"its state is {state}"
    return "pending", ""


def _classify_snapshot(item: Item) -> tuple[Readiness, str]:
    state = state_of(item)
    if state == "completed":
        return "ready", ""
    if state in ("error", "recoverable", "recovering"):
        return "failed", str(item.get("StateMessage") or f"its state is {state}")
    return "pending", ""


def _classify_running(item: Item) -> tuple[Readiness, str]:
    state = state_of(item)
    if state == "running":
        return "ready", ""
    if state == "pending":
        return "pending", ""
    reason = str((item.get("StateReason") or {}).get("Message") or item.get("StateTransitionReason") or "")
    return "failed", reason or f"its state is {state}"


def _classify_stopped(item: Item) -> tuple[Readiness, str]:
    state = state_of(item)
    if state == "stopped":
        return "ready", ""
    return ("failed", f"its state is {state}") if state in ("terminated", "shutting-down") else ("pending", "")


def _classify_available(item: Item) -> tuple[Readiness, str]:
    """A volume that is not attached."""
    state = state_of(item)
    if state == "available":
        return "ready", ""
    return ("failed", f"its state is {state}") if state in ("error", "deleting", "deleted") else ("pending", "")


def _classify_attached(item: Item) -> tuple[Readiness, str]:
    states = [a.get("State") for a in item.get("Attachments") or ()]
    if state_of(item) == "in-use" and states == ["attached"]:
        return "ready", ""
    return ("failed", f"its state is {state_of(item)}") if state_of(item) in ("available", "error") else ("pending", "")


def _classify_terminated(item: Item) -> tuple[Readiness, str]:
    return ("ready", "") if state_of(item) == "terminated" else ("pending", "")


# The account's disabled and deprecated images are described only with these parameters.
IMAGES: Final = Watched(
    "DescribeImages",
    "Images",
    "image-id",
    "ImageId",
    _classify_image,
    request={"IncludeDeprecated": True, "IncludeDisabled": True},
    kind="image",
)
COPIES: Final = replace(IMAGES, kind="image/copy")
SNAPSHOTS: Final = Watched(
    "DescribeSnapshots", "Snapshots", "snapshot-id", "SnapshotId", _classify_snapshot, kind="snapshot"
)
AVAILABLE: Final = Watched("DescribeVolumes", "Volumes", "volume-id", "VolumeId", _classify_available, kind="volume")
DETACHED: Final = Watched("DescribeVolumes", "Volumes", "volume-id", "VolumeId", _classify_available, kind="detached")
ATTACHED: Final = Watched("DescribeVolumes", "Volumes", "volume-id", "VolumeId", _classify_attached, kind="attached")
RUNNING: Final = Watched(
    "DescribeInstances", "Reservations", "instance-id", "InstanceId", _classify_running, flatten, kind="running"
)
STOPPED: Final = Watched(
    "DescribeInstances", "Reservations", "instance-id", "InstanceId", _classify_stopped, flatten, kind="stopped"
)
TERMINATED: Final = Watched(
    "DescribeInstances",
    "Reservations",
    "instance-id",
    "InstanceId",
    _classify_terminated,
    flatten,
    "ready",
    kind="terminated",
)
