"""Distribution: every target copies directly from the candidates in the home region, in parallel, under its own key.

The images of all architectures of a target are delivered together. The mode of the target (``targets``) decides how::

    copy in another account   let that account use the candidate and its snapshots → CopyImage with its role
    copy in the home account  CopyImage → when the image is available, let others use it (image, snapshots, key)
    share                     wait for the home account's copy in that region → let the account use it

If the candidate was encrypted at its builder's launch, it is the image of the home region's target: nothing is copied
there, and the accounts that copy it lose it when all copies are there. Otherwise there is one copy for each target and
architecture. A target that waits takes no thread (``agenda``): it waits for its copies, for room in its place
(``crowds``), or for the target whose image it uses. One DescribeImages call for each look covers all copies of a
target, and an image is shared with all accounts at once.

A copy that EC2 refused, or that failed later, is tried again (``Tries``): a new attempt has a new token. The image of
the failed attempt is deleted first, because it has the same name. A failed target does not stop the other targets.
Their images are kept, and a resumed build repeats only the failed targets.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Final, Self

from goldenami import reconcile
from goldenami.agenda import Agenda
from goldenami.aws import images, kms, snapshots
from goldenami.aws.errors import QUEUE_CODES
from goldenami.aws.ledger import Ledger
from goldenami.aws.waiters import Forecast, Item, Observation, Watch, failure
from goldenami.each import Failures, both
from goldenami.errors import (
    CloudError,
    GoldenAmiError,
    Interrupted,
    NameTaken,
    TargetsFailed,
    Throttled,
    Unreachable,
    UsageError,
)
from goldenami.events import Emit, emit, ignore_events
from goldenami.model import Architecture, Place, Target, timestamp
from goldenami.nextstep import step
from goldenami.release import targets as modes
from goldenami.release.order import ReleaseOrder
from goldenami.release.targets import Source

_STAGE: Final = "copy"
_TOGETHER: Final = 100  # accounts that one call gives a permission
_Slot = tuple[str, Architecture]  # the target's label, and the architecture
_FindSource = Callable[[Architecture], Source]
Take = Callable[["Placed", Item, Mapping[str, Item]], None]
"""Takes an image that has arrived: its description, and those of its snapshots by id, as far as they were read."""
Arrived = Callable[[Sequence["Placed"], Collection[str]], None]
"""Takes the images of a target and of all that use them, when all of these targets have ended, and the labels of those
that failed."""


@dataclass(frozen=True, slots=True)
class Tries:
    """How often the copy of a target is tried in one run, and the pause in seconds before the second try.

    Each pause is twice as long as the one before, up to ``longest``. A copy that fails because it cannot use a key is
    tried more often while the grant on that key may have no effect yet.
    """

    count: int = 3
    pause: float = 2.0
    longest: float = 30.0


@dataclass(frozen=True, slots=True)
class Placed:
    """The image that a target uses. The account of ``ReleaseOrder.owner`` owns it."""

    target: Target
    architecture: Architecture
    image_id: str


@dataclass(frozen=True, slots=True)
class Distributed:
    """The images of all targets. ``failures``: label -> reason, for best-effort targets without an image."""

    placed: tuple[Placed, ...]
    failures: Mapping[str, str] = field(default_factory=dict)


class _Full(Exception):
    """EC2 refused a copy because too many are under way in its place."""


@dataclass(slots=True, eq=False)
class _Copies:
    """The copies of one target. ``todo``: the architectures of this try; ``started``: those under way, by the image's
    id. ``full_since``: when a place was first full, by the cloud's clock. ``held``: how many count as under way.
    ``behind``: the snapshots that the wait has read, by id."""

    target: Target
    source: _FindSource
    todo: list[Architecture]
    pause: float
    number: int = 1
    started: dict[str, Architecture] = field(default_factory=dict)
    failures: Failures[Architecture] = field(default_factory=Failures)
    given_up: list[GoldenAmiError] = field(default_factory=list)
    is_new: bool = True
    full_since: float | None = None
    held: int = 0
    behind: dict[str, Item] = field(default_factory=dict)


class Distribution:
    """The running copies. :func:`distribute` creates it. No copy starts after its ``with`` block has ended."""

    def __init__(
        self,
        ledger: Ledger,
        order: ReleaseOrder,
        candidates: Mapping[Architecture, str],
        to: Emit,
        tries: Tries,
        there: Mapping[Place, Mapping[Architecture, str]],
        take: Take,
        arrived: Arrived,
    ) -> None:
        self._ledger = ledger
        self._order = order
        self._candidates = dict(sorted(candidates.items()))
        self._emit = to
        self._tries = tries
        self._take = take
        self._arrived = arrived
        self._stopped = threading.Event()
        self._given_up = False
        self._mutex = threading.Lock()
        self._lent_keys: dict[str, frozenset[str]] = {}  # of the candidates' snapshots, by the account that copies them
        self._candidate_keys: dict[str, list[str]] = {}
        self._reading = threading.Lock()
        self._loans: dict[tuple[Architecture, str], threading.Lock] = {}  # by the account that copies
        self._lent: set[tuple[Architecture, str]] = set()
        self._sharing: dict[str, threading.Lock] = {}  # by image
        self._shared: dict[str, set[str]] = {}  # accounts that may use an image, by its id
        self._items: dict[str, Item] = {}  # the description of each available copy, by its id
        self._available: dict[_Slot, Future[str]] = {
            (target.label, architecture): Future() for target in order.targets for architecture in self._candidates
        }
        self._ended: dict[str, Future[None]] = {target.label: Future() for target in order.targets}
        for target in order.targets:
            if target.place in there:
                for architecture in self._candidates:
                    self._available[target.label, architecture].set_result(there[target.place][architecture])
                self._ended[target.label].set_result(None)
        self._todo = [target for target in order.targets if target.place not in there]
        self._together: dict[str, list[Target]] = {}  # the targets that use the image of an owner
        for target in order.targets:
            self._together.setdefault(order.owner(target).label, []).append(target)
        self._missing = Counter(order.owner(target).label for target in self._todo)  # how many have not ended, by owner
        self._failed: set[str] = set()  # labels of targets that ended without an image
        self._agenda = Agenda(ledger.cloud.clock, ledger.cloud.sleep, self._broken, name="distribute")
        self._timed: set[Place] = set()  # full places that are tried again after a pause
        self._began = time.monotonic()
        self._running = len(self._todo)
        self._forecast = Forecast()  # of the first copy of all
        self._forecasts: dict[str, Forecast] = {}  # by region: its copies cross the same distance
        self._copies: dict[str, _Copies] = {}  # of the targets that have not ended, by label
        # The accounts that will copy the candidate, and those that will use the image of each target: an image is
        # shared with all of them at once.
        chosen = [target for target in self._todo if target.label not in order.unavailable]
        self._copying = {t.account.id for t in chosen if order.source(t) is None} - {order.home.account}
        self._sharers: dict[str, set[str]] = {}
        for target in chosen:
            source = order.source(target)
            if source is not None:
                self._sharers.setdefault(source.label, set()).add(target.account.id)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self._todo:
            # The copies are a stage of their own, beside the stages that test the image of the home region.
            emit(self._emit, "stage.started", stage=_STAGE, beside=True)
        try:
            for target in self._todo:
                begin = partial(self._guarded, target, partial(self._deliver, target))
                source = self._order.source(target)
                if source is None:
                    self._agenda.soon(begin)
                    continue
                for architecture in self._candidates:
                    self._tell(target, architecture, "waiting", detail=source.label)
                self._ended[source.label].add_done_callback(lambda _, begin=begin: self._agenda.soon(begin))  # type: ignore[misc]
        except BaseException:  # also KeyboardInterrupt; Python does not call __exit__ then
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop all work. No resource is created after it returns, so that a clean-up can follow."""
        self._stop()

    def give_up(self) -> None:
        """Stop all work, because the images will not be released. Every target that has not ended fails."""
        self._given_up = True
        self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        self._agenda.close()
        self._broken(self._why_stopped())

    def _why_stopped(self) -> GoldenAmiError:
        text = "the distribution was stopped"
        return GoldenAmiError(f"{text}: the images will not be released") if self._given_up else Interrupted(text)

    def _broken(self, error: BaseException) -> None:
        """Let every target fail that has not ended."""
        for target in self._todo:
            if not self._ended[target.label].done():
                self._end(target, error)

    def home_image(self, architecture: Architecture) -> str:
        """Wait until the copy in the home region is available, and return its id. Other copies may still run.

        Raises the error of that copy if it failed, and UsageError if the home region is not a target.
        """
        for target in self._order.targets:
            if target.place == self._order.home and modes.get_mode(target).owns_image:
                return self._available[target.label, architecture].result()
        raise UsageError(
            f"{self._order.home} is not among the targets, so there is no final image to boot and test there",
            hint="Add the home region to the home account's targets in goldenami.yaml.",
        )

    def finish(self) -> Distributed:
        """Wait for every target. Raises TargetsFailed if a required one failed, with the reasons of all that did."""
        collected = Failures[str]()
        placed: list[Placed] = []
        for target in self._order.targets:
            with collected.of(target.label):
                self._ended[target.label].result()
                placed += [
                    Placed(target, architecture, self._available[target.label, architecture].result())
                    for architecture in self._candidates
                ]
        failures = collected.reasons
        required = [target.label for target in self._order.targets if target.required and target.label in failures]
        if required:
            hopeless = [
                error for label, error in collected.errors.items() if label in required and not error.can_resume
            ]
            hint = f"The other targets keep their images. {step('resume')} repeats only the failed targets."
            raise TargetsFailed(
                f"{len(failures)} of {len(self._order.targets)} targets failed: {', '.join(failures)}",
                failures=failures,
                hint=hopeless[0].hint if hopeless else hint,
                can_resume=not hopeless,
            )
        return Distributed(tuple(placed), failures)

    def end_loans(self) -> dict[str, frozenset[str]]:
        """Take the candidates from the accounts that only copied them, after :func:`finish`. This is for candidates
        that are released themselves; others are deleted, and the grants on their keys with them.

        Each loan ends under its own key, so that the ledger sends it again if a lost copy has to be made again. Returns
        these accounts by image: reads may show their permissions for a while.
        """
        ended: dict[str, frozenset[str]] = {}
        for target in self._order.targets:
            if not self._order.is_captured(target):
                continue
            for architecture, candidate in self._candidates.items():
                for key, borrowers in self._loans_of(architecture, target.place, candidate).items():
                    accounts = borrowers - set(self._order.users(target))
                    if accounts:
                        images.unshare(self._ledger, key, target.place, candidate, accounts)
                        ended[candidate] = ended.get(candidate, frozenset()) | accounts
        return ended

    def _loans_of(self, architecture: Architecture, place: Place, candidate: str) -> dict[str, frozenset[str]]:
        """Return the accounts that any run of the build lent a candidate, by the key of the loan."""
        begin, end = f"{reconcile.TEMPORARY}{architecture}/", "/launch"
        found: dict[str, frozenset[str]] = {}
        journal = self._ledger.journal
        for intent in journal.calls("permission", place):
            lent = intent.request.get("LaunchPermission", {}).get("Add")
            is_loan = intent.key.startswith(begin) and intent.key.endswith(end) and intent.resource == candidate
            if lent and is_loan and journal.refusal(intent.token) is None:
                key = intent.key.removesuffix(end)
                found[key] = found.get(key, frozenset()) | {one["UserId"] for one in lent}
        return found

    # --- one target, in one of the threads ----------------------------------------------------------------------------

    def _guarded(self, target: Target, work: Callable[[], None]) -> None:
        """Take a step of the work for a target. If it fails, the target fails."""
        try:
            work()
        except BaseException as error:
            self._end(target, error)

    def _deliver(self, target: Target) -> None:
        """Begin the work for one target. Every future of the target has a result or an error when it has ended."""
        if target.label in self._order.unavailable:
            reason = self._order.unavailable[target.label]
            raise GoldenAmiError(f"it was not available when the build was planned: {reason}")
        delivery = _Delivery(self, target)
        modes.get_mode(target).deliver(delivery)
        if delivery.source is None:
            self._end(target)
        else:
            self._begin(_Copies(target, delivery.source, list(self._candidates), self._tries.pause))

    def _end(self, target: Target, error: BaseException | None = None) -> None:
        """Record the end of a target, and emit the end of the stage after the last one."""
        with self._mutex:
            if self._ended[target.label].running() or self._ended[target.label].done():
                return
            self._ended[target.label].set_running_or_notify_cancel()  # so that only one thread ends it
            copies = self._copies.pop(target.label, None)
            owner = self._order.owner(target)
            if error is not None:
                self._failed.add(target.label)  # now: its future has a result only after others may have ended, too
            self._missing[owner.label] -= 1
            is_last = not self._missing[owner.label]
        if copies is not None and copies.held:
            self._ledger.cloud.crowds.end(target.place, copies.held)
        if is_last and not self._stopped.is_set():
            try:
                self._read_back(owner)
            except BaseException as failure:  # the target must end, also then
                error = error or failure
        failed_now: list[Architecture] = []
        for architecture in self._candidates if error is not None else ():
            future = self._available[target.label, architecture]
            with suppress(InvalidStateError):  # it has a result since
                future.set_exception(error)
                failed_now.append(architecture)
        if error is None:
            self._ended[target.label].set_result(None)
        else:
            self._ended[target.label].set_exception(error)
        for architecture in failed_now:
            self._tell(target, architecture, "failed", detail=str(error))
        with self._mutex:
            self._running -= 1
            if self._running:
                return
        failed = [t for t in self._order.targets if not self._has_images(t)]
        status = "failed" if any(target.required for target in failed) else "ok"
        seconds = round(time.monotonic() - self._began, 3)
        detail = f"{len(failed)} of {len(self._order.targets)} targets failed" if failed else None
        emit(self._emit, "stage.finished", stage=_STAGE, status=status, seconds=seconds, detail=detail)

    def _read_back(self, owner: Target) -> None:
        """Give away the images of an owner when the last target that uses them has ended."""
        group = self._together[owner.label]
        there = [target for target in group if target.label not in self._failed]
        failed = {target.label for target in group} - {target.label for target in there}
        placed = [Placed(t, a, self._available[t.label, a].result()) for t in there for a in self._candidates]
        if owner in there:
            self._arrived(placed, failed)

    def _has_images(self, target: Target) -> bool:
        ended = self._ended[target.label]
        return ended.done() and ended.exception() is None

    # --- copies -------------------------------------------------------------------------------------------------------

    def _begin(self, copies: _Copies) -> None:
        """Start the copies that have not started. The others of the target continue if one cannot be started. If there
        is no room in the place, this is called again later."""
        target = copies.target
        with self._mutex:
            self._copies[target.label] = copies
        for architecture in copies.todo:
            if architecture in copies.started.values() or architecture in copies.failures.errors:
                continue
            self._check()
            with copies.failures.of(architecture):
                try:
                    copies.started[self._start(copies, architecture)] = architecture
                except _Full:
                    self._stand_in_line(copies, architecture)
                    return
        if not copies.started:
            self._conclude(copies)
            return

        def progress(seen: Observation) -> None:
            architecture = copies.started[seen.id]
            if seen.readiness == "pending":
                self._tell(target, architecture, "copying", percent=seen.percent, image_id=seen.id)
            elif seen.readiness == "ready":
                # Now, before the other images of the target are available, so that gate 2 can start.
                self._make_available(target, architecture, seen.id)

        with self._mutex:
            forecast = self._forecasts.setdefault(target.region, Forecast(like=self._forecast))
        wait = images.watch_copies(
            self._ledger,
            target.place,
            list(copies.started),
            on_progress=progress,
            is_new=copies.is_new,
            behind=copies.behind,
            forecast=forecast if len(copies.started) == len(self._candidates) else None,
        )
        self._look_later(copies, wait)

    def _stand_in_line(self, copies: _Copies, architecture: Architecture) -> None:
        target, place, crowds = copies.target, copies.target.place, self._ledger.cloud.crowds
        self._tell(target, architecture, "waiting", detail=f"for room in {target.region}")
        again = partial(self._guarded, target, partial(self._begin, copies))
        with self._mutex:  # also of the line: a place with a line has a timer
            pause = crowds.stand_in_line(place, lambda: self._agenda.soon(again))
            if place in self._timed:
                return
            self._timed.add(place)
        self._agenda.later(pause, partial(self._try_line, place))

    def _try_line(self, place: Place) -> None:
        with self._mutex:
            pause = self._ledger.cloud.crowds.call(place)
            if pause is None:
                self._timed.discard(place)
                return
        self._agenda.later(pause, partial(self._try_line, place))

    def _look_later(self, copies: _Copies, wait: Watch) -> None:
        self._agenda.later(wait.pause, partial(self._guarded, copies.target, partial(self._look, copies, wait)))

    def _look(self, copies: _Copies, wait: Watch) -> None:
        """Look at the copies of a target. When all are available or have failed, go on with each."""
        self._check()
        if not wait.look():
            self._look_later(copies, wait)
            return
        target = copies.target
        if copies.held:
            self._ledger.cloud.crowds.end(target.place, copies.held)
        copies.held = 0
        images.note(self._ledger, target.place, wait.seen.values())
        for image_id, seen in wait.seen.items():
            self._check()
            with copies.failures.of(copies.started[image_id]):
                self._settle(target, copies.started[image_id], seen, copies.behind)
        self._conclude(copies)

    def _conclude(self, copies: _Copies) -> None:
        """End a try. What failed and may succeed is tried again after a pause; otherwise the target ends."""
        target, last = copies.target, copies.number >= self._tries.count
        errors = copies.failures.errors
        todo = [a for a, e in errors.items() if _may_pass(e) and (not last or self._key_may_come(target, e))]
        for architecture, error in errors.items():
            if architecture in todo:
                self._tell(target, architecture, "retrying", detail=error.message)
            else:
                self._give_up(target, architecture, error)
                copies.given_up.append(error)
        if todo:
            again = _Copies(
                target,
                copies.source,
                todo,
                min(2 * copies.pause, self._tries.longest),
                copies.number + 1,
                given_up=copies.given_up,
                full_since=copies.full_since,
            )
            self._agenda.later(copies.pause, partial(self._guarded, target, partial(self._begin, again)))
        else:
            self._end(target, copies.given_up[0] if copies.given_up else None)

    def _key_may_come(self, target: Target, error: GoldenAmiError) -> bool:
        """Return whether a copy failed because the grant on a key of the candidate has no effect yet."""
        keys = self._lent_keys.get(target.account.id, frozenset())
        return self._ledger.cloud.recent.key_may_come(error.message, keys)

    def _give_up(self, target: Target, architecture: Architecture, error: GoldenAmiError) -> None:
        future = self._available[target.label, architecture]
        if not future.done():
            future.set_exception(error)
        self._tell(target, architecture, "failed", detail=error.message)

    def _start(self, copies: _Copies, architecture: Architecture) -> str:
        """Start the copy of an architecture, and return the image's id. Raises _Full if there is no room in the
        place."""
        target, crowds = copies.target, self._ledger.cloud.crowds
        if self._order.is_captured(target):
            captured, copies.is_new = self._candidates[architecture], False
            self._make_available(target, architecture, captured)
            return captured
        key = f"copy/{architecture}/{target.label}"

        def refused(error: GoldenAmiError) -> None:
            self._check()
            if not isinstance(error, Throttled) or error.code not in QUEUE_CODES:
                return
            now = self._ledger.cloud.clock()
            copies.full_since = now if copies.full_since is None else copies.full_since
            if now - copies.full_since < self._ledger.cloud.retry.policy.queued:
                raise _Full
            raise error  # the ledger would wait as long again, in one of the few threads

        image_id = self._kept_copy(key, self._candidates[architecture])
        if image_id is not None:
            copies.is_new = False
            crowds.begin(target.place, is_there=True)
            copies.held += 1
        else:
            copied = copies.source(architecture)
            if not crowds.begin(target.place):
                raise _Full
            copies.held += 1
            try:
                image_id = images.copy(
                    self._ledger,
                    key,
                    target.place,
                    source_image_id=copied.image_id,
                    source_region=copied.region,
                    name=self._order.image_name(architecture),
                    kms_key=self._order.keys[target.label],
                    description=self._order.description,
                    tags=self._order.image_tags,
                    temporary=True,  # until a release owns it
                    on_wait=refused,
                )
            except _Full:
                copies.held -= 1
                crowds.refuse(target.place)
                raise
            except BaseException:
                copies.held -= 1
                crowds.end(target.place)
                raise
            crowds.accept(target.place)
            copies.full_since = None
        self._tell(target, architecture, "copying", percent=0.0, image_id=image_id)
        return image_id

    def _make_available(self, target: Target, architecture: Architecture, image_id: str) -> None:
        """Give an image to all who wait for it. A second call does nothing."""
        available = self._available[target.label, architecture]
        if not available.done():
            self._tell(target, architecture, "available", percent=100.0, image_id=image_id)
            available.set_result(image_id)

    def _kept_copy(self, key: str, candidate: str) -> str | None:
        """Return the copy of a candidate that an earlier run made, or None. A copy of another candidate, which was
        lost since, is deleted: all images of a release are of the same builder."""
        ledger, latest = self._ledger, self._ledger.journal.latest(key)
        if latest is None or latest[0].request.get("SourceImageId") == candidate:
            return ledger.existing(key)
        intent, result = latest
        image_id = ledger.existing(key) if result is not None else ledger.resolve(intent)
        if image_id is not None:
            images.delete(ledger, intent.place, image_id)
        return None

    def _settle(
        self, target: Target, architecture: Architecture, seen: Observation, behind: Mapping[str, Item]
    ) -> None:
        """Set the permissions and the deprecation time of an available copy, or delete a failed one and raise.
        ``behind``: snapshots that were read."""
        place, ledger = target.place, self._ledger
        if not seen.ok:
            images.delete(ledger, place, seen.id)
            raise failure(seen, "image", place)
        image = dict(seen.item)
        if self._order.imds_v2 and image.get("ImdsSupport") != "v2.0":
            # The description stays as it is: the image is not as ordered in it, so it will be read again.
            images.require_imds_v2(ledger, f"imds/{architecture}/{target.label}", place, seen.id)
        if self._order.deprecate_at is not None:
            images.deprecate(
                ledger, f"deprecate/{architecture}/{target.label}", place, seen.id, self._order.deprecate_at
            )
            image["DeprecationTime"] = timestamp(self._order.deprecate_at)
        if self._order.users(target):  # otherwise nobody needs it, and there can be thousands
            with self._mutex:
                self._items[seen.id] = seen.item
        # The accounts of other targets are left to those targets, so that an error counts for them.
        others = set(self._order.users(target)) - self._order.borrowers(target)
        self._allow(target, architecture, seen.id, sorted(others))
        shared = self._order.organizations(target)
        if shared:
            # Snapshots and grants have no organizations: the policy of the key decides.
            images.share(
                ledger, f"share/{architecture}/{target.label}/organizations", place, seen.id, organizations=shared
            )
        self._take(Placed(target, architecture, seen.id), image, behind)

    def _lend(self, architecture: Architecture, candidate: str, account: str) -> None:
        """Let an account copy the candidate until the clean-up of the build.

        The account gets permissions on the image and its snapshots, with all other accounts that copy it. If the
        snapshots are encrypted, because the base is, it also gets a grant on their keys.
        """
        with self._mutex:
            lending = self._loans.setdefault((architecture, account), threading.Lock())
        with lending:  # the targets of an account share the loan
            if (architecture, account) in self._lent:
                return
            ledger, home = self._ledger, self._order.home
            key = f"{reconcile.TEMPORARY}{architecture}"
            self._share(key, home, candidate, account, self._copying)
            arns = self._keys_of(candidate)
            with self._mutex:  # the other architectures add theirs
                self._lent_keys[account] = self._lent_keys.get(account, frozenset()) | frozenset(arns)
            for number, arn in enumerate(arns):
                grantee = account_root(arn, account)
                kms.create_grant(ledger, f"{key}/{account}/grant-{number}", home, kms_key_arn=arn, grantee=grantee)
            self._lent.add((architecture, account))

    def _share(self, key: str, place: Place, image_id: str, account: str, others: Collection[str]) -> None:
        """Let an account use an image and its snapshots. One call does it for many of ``others``, which will need it as
        well. If EC2 refuses that, because of one of them, the account gets it alone."""
        with self._mutex:
            sharing = self._sharing.setdefault(image_id, threading.Lock())
            shared = self._shared.setdefault(image_id, set())
        with sharing:
            if account in shared:
                return
            share = partial(images.share, self._ledger, image=self._items.get(image_id))
            more = sorted(set(others) - shared - {account})
            together = sorted([account, *more[: _TOGETHER - 1]])
            failures = Failures[str]()
            with failures.of(account):
                share(f"{key}/accounts/{together[0]}", place, image_id, accounts=together)
            if failures.errors and len(together) > 1:
                together = [account]
                share(f"{key}/{account}", place, image_id, accounts=together)
            elif failures.errors:
                raise failures.errors[account]
            shared.update(together)

    def _keys_of(self, candidate: str) -> list[str]:
        """Return the ARNs of the keys of a candidate's snapshots. They are read once for all accounts.

        Raises CloudError if the candidate or a snapshot is not visible: an account would get no grant on its key. The
        copy is tried again then.
        """
        with self._reading:
            if candidate not in self._candidate_keys:
                cloud, home = self._ledger.cloud, self._order.home
                image = images.describe_many(cloud, home, [candidate]).get(candidate, {})
                ids = snapshots.of_image(image)
                behind = snapshots.describe_many(cloud, home, ids)
                if not ids or len(behind) < len(ids):
                    raise CloudError(
                        f"image {candidate} in {home} and its snapshots are not all visible",
                        code="goldenami.NotVisible",
                        account=home.account,
                        region=home.region,
                    )
                keys = sorted({str(s["KmsKeyId"]) for s in behind.values() if s.get("Encrypted")})
                self._candidate_keys[candidate] = keys
            return self._candidate_keys[candidate]

    def _allow(self, owner: Target, architecture: Architecture, image_id: str, accounts: Collection[str]) -> None:
        """Let accounts launch an image: permissions on the image and its snapshots, and a grant on their key."""
        key, arn = f"share/{architecture}/{owner.label}", self._order.keys[owner.label]
        for account in accounts:
            others = self._sharers.get(owner.label, ()) or accounts
            # One grant on the key is enough for all architectures; the ledger creates it once.
            grant = partial(
                kms.create_grant,
                self._ledger,
                f"grant/{owner.label}/{account}",
                owner.place,
                kms_key_arn=arn,
                grantee=account_root(arn, account),
            )
            both(partial(self._share, key, owner.place, image_id, account, others), grant)

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._stopped.is_set():
            raise self._why_stopped()

    def _tell(
        self,
        target: Target,
        architecture: Architecture,
        state: str,
        *,
        percent: float | None = None,
        image_id: str | None = None,
        detail: str | None = None,
    ) -> None:
        emit(
            self._emit,
            "target.progress",
            target=target.label,
            architecture=architecture,
            state=state,
            percent=percent,
            image_id=image_id,
            detail=detail,
        )


class _Delivery:
    """Implements ``targets.Delivery`` for one target."""

    def __init__(self, distribution: Distribution, target: Target) -> None:
        self.target = target
        self.order = distribution._order
        self.ledger = distribution._ledger
        self.architectures = tuple(distribution._candidates)
        self.source: _FindSource | None = None  # of the copies that were asked for
        self._distribution = distribution

    def copy(self, source: _FindSource) -> None:
        self.source = source

    def lend_candidate(self, architecture: Architecture) -> Source:
        candidate, home = self._distribution._candidates[architecture], self.order.home
        if self.target.account.id != home.account:
            self._distribution._lend(architecture, candidate, self.target.account.id)
        return Source(candidate, home.region)

    def source_image(self, architecture: Architecture) -> str:
        return self._distribution._available[self._source().label, architecture].result()

    def allow_source(self, architecture: Architecture, image_id: str) -> None:
        self._distribution._allow(self._source(), architecture, image_id, [self.target.account.id])

    def arrived(self, architecture: Architecture, image_id: str, state: str) -> None:
        self._distribution._tell(self.target, architecture, state, percent=100.0, image_id=image_id)
        self._distribution._available[self.target.label, architecture].set_result(image_id)

    def _source(self) -> Target:
        source = self.order.source(self.target)
        if source is None:
            raise UsageError(f"target {self.target.label}: the mode {self.target.mode!r} has no source")
        return source


def _may_pass(error: GoldenAmiError) -> bool:
    """Return whether a new try may succeed. Throttled and unanswered calls were already repeated by the ledger, and a
    taken name stays taken."""
    return isinstance(error, CloudError) and not isinstance(error, (NameTaken, Throttled, Unreachable))


def distribute(
    ledger: Ledger,
    order: ReleaseOrder,
    candidates: Mapping[Architecture, str],
    *,
    emit: Emit = ignore_events,
    tries: Tries = Tries(),
    there: Mapping[Place, Mapping[Architecture, str]] = MappingProxyType({}),
    take: Take = lambda *_: None,
    arrived: Arrived = lambda *_: None,
) -> Distribution:
    """Distribute the candidates (ids of available images in the home region) to every target of the order::

        with distribute(ledger, order, candidates, emit=emit) as distribution:
            test(distribution.home_image("x86_64"))     # while the other copies continue
            distributed = distribution.finish()

    A second call with the same journal does only what is missing. ``there``: the images of targets that have them
    already; nothing is done for these targets. ``take``: called with each image when its copy has ended. ``arrived``:
    called with the images of each target and of all that use them, before the last of these targets ends. Raises
    UsageError for an invalid order before it changes anything.
    """
    for target in order.targets:
        order.owner(target)
        order.source(target)
        has_key = target.label in order.keys or (not target.required and target.label in order.unavailable)
        if modes.get_mode(target).owns_image and not has_key:
            raise UsageError(
                f"target {target.label} has no KMS key, expected the key that encrypts the copy",
                hint="Set kms_key of the target in goldenami.yaml.",
            )
    return Distribution(ledger, order, candidates, emit, tries, there, take, arrived)


def account_root(arn: str, account: str) -> str:
    """Return the root principal of an account, in the partition of an ARN. It means the whole account."""
    return f"arn:{arn.split(':')[1]}:iam::{account}:root"


def place_of(placed: Placed, order: ReleaseOrder) -> Place:
    """Return the account and region that own a placed image."""
    return order.owner(placed.target).place
