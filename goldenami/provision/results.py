"""Results of operations, stages and runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from goldenami.provision.stream import Status


@dataclass(frozen=True, slots=True)
class OperationResult:
    """The result of one operation. In check mode, "changed" means that it would change something. ``index``: its number
    within its stage, from 0.
    """

    index: int
    title: str
    place: str
    status: Status
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StageResult:
    """The result of one stage. ``operations``: in the order in which they ended, with the handlers that ran.
    ``rebooted``: number of reboots.
    """

    stage: str
    operations: tuple[OperationResult, ...]
    seconds: float
    rebooted: int = 0

    def count(self, status: Status) -> int:
        return sum(1 for o in self.operations if o.status == status)

    @property
    def changed(self) -> int:
        return self.count("changed")

    @property
    def ok(self) -> int:
        return self.count("ok")


@dataclass(frozen=True, slots=True)
class Drift:
    """An operation that did not hold any more when it was checked again."""

    title: str
    place: str
    detail: str


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run. ``stages``: the stages that have operations, in order. ``facts``: the texts that were read,
    by the fact's name. ``drift``: the operations that a Recheck found to be undone, by its name and the operation's
    number. ``refused``: a Guard ended the program before its first stage.
    """

    stages: tuple[StageResult, ...]
    facts: Mapping[str, str]
    seconds: float
    drift: Mapping[str, Mapping[int, Drift]] = field(default_factory=dict)
    refused: bool = False

    def undone(self, before: str, after: str) -> tuple[Drift, ...]:
        """Return the operations that held at one Recheck and not at a later one, in order."""
        earlier = self.drift.get(before, {})
        return tuple(drift for number, drift in sorted(self.drift.get(after, {}).items()) if number not in earlier)
