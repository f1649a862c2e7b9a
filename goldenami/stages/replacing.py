"""A temporary instance that is lost is replaced, a few times: its work begins anew on another one.

Nothing of what was done on the lost one counts. Each replacement is told, kept in the journal, and part of the
manifest. Spot instances that are reclaimed twice are followed by one on demand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TypeVar

from goldenami.errors import HostLost
from goldenami.events import emit
from goldenami.model import Architecture, Replacement
from goldenami.stages.build import BuildContext

LIMIT = 2  # replacements of one purpose and architecture, in one run
RECLAIMS = 2  # after so many, spot is not asked for again

_RECORD = "replacements"  # the stage's name in the journal
_RECORDING = threading.Lock()

_R = TypeVar("_R")


def on_a_host(build: BuildContext, architecture: Architecture, purpose: str, work: Callable[[bool], _R]) -> _R:
    """Call ``work(spot)``, which launches an instance and does everything on it; again if the instance is lost.

    ``spot``: whether a spot instance may be asked for. Raises what ``work`` raises; HostLost after the last
    replacement.
    """
    here = 0
    while True:
        try:
            return work(reclaims(build, architecture) < RECLAIMS)
        except HostLost as lost:
            if here == LIMIT or build.stop.is_set():
                lost.hint = (
                    lost.hint
                    or "It was replaced already. Other instance types, or builder.spot: false, may last longer."
                )
                raise
            here += 1
            _record(build, architecture, purpose, lost)
            emit(
                build.emit,
                "host.replaced",
                purpose=purpose,
                architecture=architecture,
                instance_id=lost.instance_id,
                reason=lost.reason,
                number=here,
                limit=LIMIT,
            )
            build.note(f"the {purpose} is replaced ({here} of {LIMIT}): {lost.message}", "warning")


def replacements(build: BuildContext) -> tuple[Replacement, ...]:
    """All of this build, over all its runs."""
    done = build.journal.stage(_RECORD)
    return tuple(Replacement(**entry) for entry in done["instances"]) if done is not None else ()


def reclaims(build: BuildContext, architecture: Architecture) -> int:
    """How many spot instances of this architecture were reclaimed so far."""
    return sum(r.reclaimed for r in replacements(build) if r.architecture == architecture)


def _record(build: BuildContext, architecture: Architecture, purpose: str, lost: HostLost) -> None:
    entry = Replacement(
        purpose=purpose,
        architecture=architecture,
        instance_id=lost.instance_id,
        reason=lost.reason,
        reclaimed=lost.reclaimed,
        at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    with _RECORDING:  # architectures are built side by side
        build.journal.stage_done(_RECORD, instances=[asdict(r) for r in (*replacements(build), entry)])
