"""What a run of a program came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from goldenami.provision.stream import Status


@dataclass(frozen=True, slots=True)
class OperationResult:
    """How one operation went. In check mode, "changed" means that it would be. ``index``: from 0, within its stage."""

    index: int
    title: str
    place: str
    status: Status
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StageResult:
    """``operations``: in the order in which they ended; handlers are among them if they ran. ``rebooted``: how often
    the host was.
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
class RunResult:
    """``stages``: those that have operations, in order. ``facts``: what was read, by the fact's name."""

    stages: tuple[StageResult, ...]
    facts: Mapping[str, str]
    seconds: float
