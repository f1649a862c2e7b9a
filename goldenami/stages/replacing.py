"""Replaces lost temporary instances: the work starts again on a new instance, at most ``LIMIT`` times.

A builder that is lost by freezing is one more, because the next one is not frozen. The results of a lost instance do
not count. Each replacement is an event, a journal record and an entry of the manifest. After two reclaimed spot
instances, the next instance is on-demand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TypeVar

from goldenami.errors import GoldenAmiError, HostLost, PlaceUnreachable
from goldenami.events import emit
from goldenami.model import Architecture, Replacement, timestamp
from goldenami.provision.freeze import STAGE
from goldenami.stages.build import BuildContext
from goldenami.stages.watch import UNREACHABLE

LIMIT = 2  # replacements of one purpose and architecture, in one run
RECLAIMS = 2  # after so many reclaimed spot instances, on-demand instances are launched

_WHILE_FREEZING = "it was not frozen in ten minutes, or was lost meanwhile"

_RECORD = "replacements"  # the stage's name in the journal
_RECORDING = threading.Lock()

_R = TypeVar("_R")


def on_a_host(build: BuildContext, architecture: Architecture, purpose: str, work: Callable[[bool], _R]) -> _R:
    """Call ``work(spot)``, which launches an instance and works on it. Repeat the call if the instance is lost.

    ``spot``: whether ``work`` may request a spot instance. Raises the errors of ``work``, and HostLost after the last
    replacement.
    """
    count, limit = 0, LIMIT
    while True:
        try:
            return work(count_reclaims(build, architecture) < RECLAIMS)
        except HostLost as lost:
            by_freezing = lost.reason == _WHILE_FREEZING
            if by_freezing:
                limit = LIMIT + 1
            ends = count == limit or build.stop.is_set()
            if by_freezing or not ends:  # also before the end: a resume must not freeze its builder
                _record(build, architecture, purpose, lost)
            if ends:
                lost.hint = (
                    lost.hint
                    or "It was replaced already. Set other builder.instance_types or builder.spot: false in the recipe."
                )
                raise
            count += 1
            emit(
                build.emit,
                "host.replaced",
                purpose=purpose,
                architecture=architecture,
                instance_id=lost.instance_id,
                reason=lost.reason,
                number=count,
                limit=limit,
            )
            build.note(f"the {purpose} is replaced ({count} of {limit}): {lost.message}", "warning")


@contextmanager
def freezing(instance_id: str, stages: Sequence[str]) -> Iterator[None]:
    """Work on a builder whose last stage freezes it. ``stages``: those that have begun so far.

    Raises HostLost instead of an error in that stage, unless EC2 lost the instance. What a service of the host did for
    its connection, such as a VPN, may have been stopped. So the next builder of the build is not frozen.
    """
    try:
        yield
    except GoldenAmiError as error:
        by_ec2 = isinstance(error, HostLost) and error.reason != UNREACHABLE
        if list(stages[-1:]) != [STAGE] or by_ec2 or error.ends_everything or isinstance(error, PlaceUnreachable):
            raise
        message = f"instance {instance_id} was lost: {_WHILE_FREEZING}, so the next one is not frozen: {error.message}"
        hint = "Set builder: {capture: shutdown} in the recipe: then EC2 shuts the builder down for its capture."
        raise HostLost(message, instance_id=instance_id, reason=_WHILE_FREEZING, hint=hint) from error


def may_freeze(build: BuildContext, architecture: Architecture) -> bool:
    """Return whether the builder of an architecture is to be frozen: the recipe does not forbid it, and no builder of
    this build was lost by it."""
    lost = any(r.architecture == architecture and r.reason == _WHILE_FREEZING for r in replacements(build))
    return build.recipe.builder[architecture].freeze and not lost


def replacements(build: BuildContext) -> tuple[Replacement, ...]:
    """Return the replacements of all runs of this build."""
    done = build.journal.stage(_RECORD)
    return tuple(Replacement(**entry) for entry in done["instances"]) if done is not None else ()


def count_reclaims(build: BuildContext, architecture: Architecture) -> int:
    """Return how many spot instances of this architecture were reclaimed in all runs of this build."""
    return sum(r.reclaimed for r in replacements(build) if r.architecture == architecture)


def _record(build: BuildContext, architecture: Architecture, purpose: str, lost: HostLost) -> None:
    entry = Replacement(
        purpose=purpose,
        architecture=architecture,
        instance_id=lost.instance_id,
        reason=lost.reason,
        reclaimed=lost.reclaimed,
        at=timestamp(datetime.now(UTC)),
    )
    with _RECORDING:  # architectures are built in parallel
        build.journal.stage_done(_RECORD, instances=[asdict(r) for r in (*replacements(build), entry)])
