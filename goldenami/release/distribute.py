"""One hop: every target copies straight from the candidates in the home region, all at once, each under its own key.

A thread per target does the work of that target, for all architectures, as the target's mode says (``targets``)::

    copy in another account   let that account use the candidate and its snapshots → CopyImage there, by its role
    copy in the home account  CopyImage → when it is available: let others use it (image, snapshots, key)
    share                     wait for the home account's copy in that region → let the account use it

Copies are few (one for each target and architecture). Where EC2 refuses one because too many are under way in the
region, the ledger waits for room, in that target's thread alone. One describe a round watches all copies of a target.

A copy that EC2 would not begin, or that failed after it was accepted, is tried again, a few times (``Tries``): a new
attempt under a new token, and what is left of the failed one is deleted first, since it holds the name. A target that
fails all the same does not stop the others: what they did is kept, and a resumed build repeats only what failed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from goldenami import reconcile
from goldenami.aws import images, kms, snapshots
from goldenami.aws.errors import QUEUE_CODES
from goldenami.aws.ledger import Ledger
from goldenami.aws.waiters import Observation, failure
from goldenami.each import Failures
from goldenami.errors import (
    CloudError,
    GoldenAmiError,
    Interrupted,
    TargetsFailed,
    Throttled,
    Unreachable,
    UsageError,
)
from goldenami.events import Emit, emit, ignore_events
from goldenami.model import Architecture, Place, Target
from goldenami.release import targets as modes
from goldenami.release.order import ReleaseOrder
from goldenami.release.targets import Source

_Slot = tuple[str, Architecture]  # the target's label, and the architecture
_AskSource = Callable[[Architecture], Source]


@dataclass(frozen=True, slots=True)
class Tries:
    """How often a target's copy is tried in one run, and the seconds before the second try; each pause is twice the
    last. A key that was just granted, or an image just shared, is not known everywhere at once."""

    count: int = 3
    pause: float = 2.0


@dataclass(frozen=True, slots=True)
class Placed:
    """The image that a target uses. It is in the account of ``ReleaseOrder.owner``."""

    target: Target
    architecture: Architecture
    image_id: str


@dataclass(frozen=True, slots=True)
class Distributed:
    """Where images are now, and why some best-effort targets have none (reason by label)."""

    placed: tuple[Placed, ...]
    failures: Mapping[str, str] = field(default_factory=dict)


class Distribution:
    """Copies on their way. Made by :func:`distribute`; a context manager that, left early, starts nothing more."""

    def __init__(
        self, ledger: Ledger, order: ReleaseOrder, candidates: Mapping[Architecture, str], to: Emit, tries: Tries
    ) -> None:
        self._ledger = ledger
        self._order = order
        self._candidates = dict(sorted(candidates.items()))
        self._emit = to
        self._tries = tries
        self._stopped = threading.Event()
        self._available: dict[_Slot, Future[str]] = {
            (target.label, architecture): Future() for target in order.targets for architecture in self._candidates
        }
        self._ended: dict[str, Future[None]] = {target.label: Future() for target in order.targets}
        self._threads = [
            threading.Thread(target=self._run, args=(target,), name=f"distribute {target.label}", daemon=True)
            for target in order.targets
        ]

    def __enter__(self) -> Self:
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:  # Ctrl-C arrives here too, and then nobody calls __exit__
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is created any more once this returns, so that a clean-up can follow."""
        self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            if thread.ident is not None:  # those that were not started have nothing to end
                thread.join()

    def home_image(self, architecture: Architecture) -> str:
        """Wait until the copy in the home region is available; its id. The other targets may still be at work.

        Raises the error by which that copy failed, and UsageError where the home region is no target.
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
            raise TargetsFailed(
                f"{len(failures)} of {len(self._order.targets)} targets failed: {', '.join(failures)}",
                failures=failures,
                hint="The others keep their images: `goldenami resume` repeats only what failed.",
            )
        return Distributed(tuple(placed), failures)

    # --- one target, in its thread ------------------------------------------------------------------------------------

    def _run(self, target: Target) -> None:
        """Every future of the target has its result when this ends, whatever happens."""
        ended = self._ended[target.label]
        try:
            modes.get_mode(target).deliver(_Delivery(self, target))
        except BaseException as error:
            for architecture in self._candidates:
                future = self._available[target.label, architecture]
                if not future.done():
                    future.set_exception(error)
                    self._tell(target, architecture, "failed", detail=str(error))
            ended.set_exception(error)
        else:
            ended.set_result(None)

    def _copy(self, target: Target, source: _AskSource) -> None:
        todo, pause = list(self._candidates), self._tries.pause
        given_up: list[GoldenAmiError] = []
        for number in range(1, self._tries.count + 1):
            errors = self._attempt(target, todo, source)
            last = number == self._tries.count
            todo = [a for a, error in errors.items() if not last and _may_pass(error)]
            for architecture, error in errors.items():
                if architecture in todo:
                    self._tell(target, architecture, "retrying", detail=error.message)
                else:
                    self._give_up(target, architecture, error)
                    given_up.append(error)
            if not todo:
                break
            self._ledger.cloud.sleep(pause)
            pause *= 2
        if given_up:
            raise given_up[0]

    def _attempt(
        self, target: Target, architectures: list[Architecture], source: _AskSource
    ) -> dict[Architecture, GoldenAmiError]:
        """One try for each; the errors of those that failed. One that fails does not keep the others of the target
        from getting as far as they can."""
        failures = Failures[Architecture]()
        started: dict[str, Architecture] = {}
        for architecture in architectures:
            self._check()
            with failures.of(architecture):
                started[self._start(target, architecture, source)] = architecture

        def progress(seen: Observation) -> None:
            architecture = started[seen.id]
            available = self._available[target.label, architecture]
            if seen.readiness == "pending":
                self._tell(target, architecture, "copying", percent=seen.percent, image_id=seen.id)
            elif seen.readiness == "ready" and not available.done():
                self._tell(target, architecture, "available", percent=100.0, image_id=seen.id)
                # Now, and not when the target's slowest image is there: whoever tests this one can begin.
                available.set_result(seen.id)

        final = images.wait(self._ledger, target.place, list(started), on_progress=progress, check=self._check)
        for image_id, seen in final.items():
            self._check()
            with failures.of(started[image_id]):
                self._settle(target, started[image_id], seen)
        return failures.errors

    def _give_up(self, target: Target, architecture: Architecture, error: GoldenAmiError) -> None:
        future = self._available[target.label, architecture]
        if not future.done():
            future.set_exception(error)
        self._tell(target, architecture, "failed", detail=error.message)

    def _start(self, target: Target, architecture: Architecture, source: _AskSource) -> str:
        key = f"copy/{architecture}/{target.label}"

        def waiting(error: GoldenAmiError) -> None:
            self._check()
            if isinstance(error, Throttled) and error.code in QUEUE_CODES:
                self._tell(target, architecture, "waiting", detail=f"for room in {target.region}")

        image_id = self._ledger.existing(key)
        if image_id is None:
            copied = source(architecture)
            image_id = images.copy(
                self._ledger,
                key,
                target.place,
                source_image_id=copied.image_id,
                source_region=copied.region,
                name=self._order.image_name(architecture),
                kms_key=self._order.keys[target.label],
                description=self._order.description,
                tags=self._order.tags,
                temporary=True,  # until it is a release's
                on_wait=waiting,
            )
        self._tell(target, architecture, "copying", percent=0.0, image_id=image_id)
        return image_id

    def _settle(self, target: Target, architecture: Architecture, seen: Observation) -> None:
        """The copy has reached its final state: say who may use it and when it ages; or delete what is left of it."""
        place, ledger = target.place, self._ledger
        if not seen.ok:
            images.delete(ledger, place, seen.id)
            raise failure(seen, "image", place)
        if self._order.imds_v2 and seen.item.get("ImdsSupport") != "v2.0":
            images.require_imds_v2(ledger, f"imds/{architecture}/{target.label}", place, seen.id)
        if self._order.deprecate_at is not None:
            images.deprecate(
                ledger, f"deprecate/{architecture}/{target.label}", place, seen.id, self._order.deprecate_at
            )
        borrowers = self._order.borrowers(target)
        for account in self._order.users(target):
            if account not in borrowers:  # targets do it in their own thread, so that a failure is theirs
                self._allow(target, architecture, seen.id, account)

    def _lend(self, architecture: Architecture, candidate: str, account: str) -> None:
        """Let an account copy the candidate: the image's permission to see it, the snapshots' to read them, and, where
        these are encrypted (as they are if the base was), the use of their key until the clean-up."""
        ledger, home = self._ledger, self._order.home
        key = f"{reconcile.TEMPORARY}{architecture}/{account}"
        images.share(ledger, key, home, candidate, accounts=[account])
        image = images.describe_many(ledger.cloud, home, [candidate]).get(candidate, {})
        behind = snapshots.describe_many(ledger.cloud, home, snapshots.of_image(image))
        arns = sorted({str(s["KmsKeyId"]) for s in behind.values() if s.get("Encrypted")})
        for number, arn in enumerate(arns):
            grantee = account_root(arn, account)
            kms.create_grant(ledger, f"{key}/grant-{number}", home, kms_key_arn=arn, grantee=grantee)

    def _allow(self, owner: Target, architecture: Architecture, image_id: str, account: str) -> None:
        """Let an account launch an image: its permission, its snapshots', and the use of their key."""
        images.share(
            self._ledger, f"share/{architecture}/{owner.label}/{account}", owner.place, image_id, accounts=[account]
        )
        # One grant serves all architectures: it is on the key, and the ledger makes it once.
        arn = self._order.keys[owner.label]
        kms.create_grant(
            self._ledger,
            f"grant/{owner.label}/{account}",
            owner.place,
            kms_key_arn=arn,
            grantee=account_root(arn, account),
        )

    # --- small things -------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._stopped.is_set():
            raise Interrupted("the distribution was stopped")

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
    """What the mode of one target works with: see ``targets.Delivery``."""

    def __init__(self, distribution: Distribution, target: Target) -> None:
        self.target = target
        self.order = distribution._order
        self.ledger = distribution._ledger
        self.architectures = tuple(distribution._candidates)
        self._distribution = distribution

    def copy(self, source: _AskSource) -> None:
        self._distribution._copy(self.target, source)

    def lend_candidate(self, architecture: Architecture) -> Source:
        candidate, home = self._distribution._candidates[architecture], self.order.home
        if self.target.account.id != home.account:
            self._distribution._lend(architecture, candidate, self.target.account.id)
        return Source(candidate, home.region)

    def await_source(self, architecture: Architecture) -> str:
        image_id = self._distribution._available[self._source().label, architecture].result()
        self._distribution._check()
        return image_id

    def allow_source(self, architecture: Architecture, image_id: str) -> None:
        self._distribution._allow(self._source(), architecture, image_id, self.target.account.id)

    def arrived(self, architecture: Architecture, image_id: str, state: str) -> None:
        self._distribution._tell(self.target, architecture, state, percent=100.0, image_id=image_id)
        self._distribution._available[self.target.label, architecture].set_result(image_id)

    def waiting(self, architecture: Architecture, reason: str) -> None:
        self._distribution._tell(self.target, architecture, "waiting", detail=reason)

    def _source(self) -> Target:
        source = self.order.source(self.target)
        if source is None:
            raise UsageError(f"{self.target.label}: mode {self.target.mode} has no source")
        return source


def _may_pass(error: GoldenAmiError) -> bool:
    """Whether another try may help. What was throttled or had no answer has used up its patience already."""
    return isinstance(error, CloudError) and not isinstance(error, (Throttled, Unreachable))


def distribute(
    ledger: Ledger,
    order: ReleaseOrder,
    candidates: Mapping[Architecture, str],
    *,
    emit: Emit = ignore_events,
    tries: Tries = Tries(),
) -> Distribution:
    """Bring the candidates (image ids in the home region, available) to every target of the order::

        with distribute(ledger, order, candidates, emit=emit) as distribution:
            test(distribution.home_image("x86_64"))     # while the other copies go on
            distributed = distribution.finish()

    Over a journal that has done part of it, only the rest is done. Raises UsageError for an order that cannot be
    carried out, before anything is changed.
    """
    for target in order.targets:
        order.owner(target)
        order.source(target)
        if modes.get_mode(target).owns_image and target.label not in order.keys:
            raise UsageError(f"{target.label}: no key to encrypt the copy under")
    return Distribution(ledger, order, candidates, emit, tries)


def account_root(arn: str, account: str) -> str:
    """The principal that stands for a whole account, in the partition of that ARN."""
    return f"arn:{arn.split(':')[1]}:iam::{account}:root"


def place_of(placed: Placed, order: ReleaseOrder) -> Place:
    """Where the image itself is."""
    return order.owner(placed.target).place
